"""Tokens in eight bits: values by hand, the error, missing tokens, and rows that cannot be."""

from types import SimpleNamespace

import numpy as np
import pytest

from vit_perception.files.errors import InvalidValue
from vit_perception.wire.quantised import quantise, restore
from vit_perception.wire.records import BadInput
from vit_perception.wire.tensors import decode_tensor, encode_tensor, mask_of


def test_a_row_by_hand():
    """The largest is 2.54, so a step is 0.02: -1.0 is -50 steps, the byte 78; 0 is the byte 128."""
    row = quantise(np.array([[2.54, -1.0, 0.0, -2.54]], np.float32))[0]
    assert row[:4].tolist() == [255, 78, 128, 1]
    assert row[4:].tobytes() == np.float32(2.54 / 127).tobytes()
    np.testing.assert_allclose(restore(row), [2.54, -1.0, 0.0, -2.54], rtol=1e-6)


def test_the_error_is_half_a_step_of_the_token_itself():
    """A small token beside a large one keeps its precision: the scale is one a token."""
    tokens = np.random.default_rng(0).normal(0, [[1e-3], [1.0], [1e4]], (3, 384))
    tokens = tokens.astype(np.float32)
    error = np.abs(restore(quantise(tokens)) - tokens).max(axis=1)
    assert (error <= np.abs(tokens).max(axis=1) / 254 * 1.001).all()


def test_a_missing_token_stays_missing_and_no_other_becomes_so():
    tokens = np.zeros((3, 8), np.float32)
    tokens[1, 5] = -1e-30
    message = SimpleNamespace(**encode_tensor(tokens, "int8")._asdict())
    assert mask_of(decode_tensor(message)).tolist() == [False, True, False]


def test_the_image_has_the_tensors_size_and_the_scale_behind_each_row():
    fields = encode_tensor(np.ones((3, 8), np.float32), "int8")
    assert (fields.encoding, fields.height, fields.width, fields.step) == ("8UC1", 3, 8, 12)
    assert len(fields.data) == 36


def test_padded_rows_and_either_byte_order_are_read():
    tokens = np.random.default_rng(1).normal(size=(2, 5)).astype(np.float32)
    rows = quantise(tokens)
    expected = restore(rows)
    swapped = rows.copy()
    swapped[:, 5:] = rows[:, :4:-1]
    for stored, big in ((rows, 0), (swapped, 1)):
        padded = np.pad(stored, [(0, 0), (0, 7)], constant_values=9)
        message = SimpleNamespace(
            encoding="8UC1", is_bigendian=big, height=2, width=5, step=16, data=padded.tobytes()
        )
        np.testing.assert_array_equal(decode_tensor(message), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_without_a_scale_are_refused(value):
    with pytest.raises(InvalidValue, match="accepted: finite numbers in int8"):
        encode_tensor(np.array([[1.0, value]], np.float32), "int8")


@pytest.mark.parametrize("scale", [-1e-9, np.nan, -np.inf, np.inf])
def test_a_scale_that_is_none_is_named_with_its_row(scale):
    rows = quantise(np.ones((4, 8), np.float32))
    rows[2, 8:] = np.frombuffer(np.float32(scale).tobytes(), np.uint8)
    with pytest.raises(BadInput, match="the scale of row 2 is") as caught:
        restore(rows)
    assert caught.value.reason == "scale"


@pytest.mark.parametrize("step, length", [(11, 36), (12, 35), (8, 24), (2**32 - 1, 36)])
def test_cut_rows_are_refused(step, length):
    message = SimpleNamespace(
        encoding="8UC1", is_bigendian=0, height=3, width=8, step=step, data=bytes(length)
    )
    with pytest.raises(BadInput) as caught:
        decode_tensor(message)
    assert caught.value.reason == "size"
    with pytest.raises(BadInput, match="accepted: at least 4"):
        restore(np.zeros((2, 3), np.uint8))
