"""Patch tokens as coefficients: the numbers, the bytes of a sequence, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from test.wire.test_tensors import LAYOUT
from vit_perception.files.errors import InvalidValue
from vit_perception.wire import basis as basis_module
from vit_perception.wire.basis import Basis, decode_groups, decode_tokens, pack_sequence
from vit_perception.wire.layout import Layout, LayoutBasis
from vit_perception.wire.records import BadInput
from vit_perception.wire.tensors import decode_tensor, encode_bytes, encode_tensor, mask_of

WIDTH, DIMS = LAYOUT.width, 2


def made(seed: int = 0, encoder: str = LAYOUT.encoder_sha256) -> Basis:
    random = np.random.default_rng(seed)
    directions = np.linalg.qr(random.normal(size=(WIDTH, DIMS)))[0].T
    mean = random.normal(size=WIDTH)
    return Basis(mean.astype(np.float32), directions.astype(np.float32), encoder)


BASIS = made()
WITH_BASIS = replace(LAYOUT, basis=LayoutBasis(BASIS.sha256, DIMS))
# Six rows: CLS, four patches that lie in the span, and a pose.
TOKENS = np.random.default_rng(1).normal(size=(6, WIDTH)).astype(np.float32)
TOKENS[1:5] = TOKENS[1:5] @ BASIS.directions.T @ BASIS.directions + BASIS.mean


def message_of(tokens: np.ndarray, layout: Layout = WITH_BASIS, basis: Basis = BASIS):
    fields = encode_bytes(pack_sequence(tokens, layout, basis))
    return SimpleNamespace(**fields._asdict())


def test_by_hand():
    """The mean is (1, 0, 0) and the direction the second axis: (3, 4, 5) has the coefficient 4."""
    mean = np.array([1, 0, 0], np.float32)
    basis = Basis(mean, np.array([[0, 1, 0]], np.float32), "")
    coefficients = basis.reduce(np.array([[3, 4, 5]], np.float32))
    assert coefficients.tolist() == [[4.0]]
    assert basis.expand(coefficients).tolist() == [[1.0, 4.0, 0.0]]


def test_a_sequence_has_the_bytes_of_its_groups_and_comes_back():
    """A CLS token and a pose of 3 float32, four patches of 2 bytes and a scale."""
    message = message_of(TOKENS)
    assert (message.encoding, message.height) == ("8UC1", 1)
    assert message.width == message.step == len(message.data) == 2 * 3 * 4 + 4 * (2 + 4)
    tokens = decode_tokens(message, WITH_BASIS, BASIS)
    np.testing.assert_array_equal(tokens[[0, 5]], TOKENS[[0, 5]])
    coefficients = BASIS.reduce(TOKENS[1:5])
    error = np.abs(coefficients).max(axis=1) / 254 * 1.001 * np.sqrt(DIMS) + 1e-6
    assert (np.linalg.norm(tokens[1:5] - TOKENS[1:5], axis=1) <= error).all()


def test_without_the_basis_the_groups_are_there_and_patches_are_coefficients():
    groups = decode_groups(message_of(TOKENS), WITH_BASIS)
    assert {name: rows.shape for name, rows in groups.items()} == {
        "wrist/cls": (1, WIDTH),
        "wrist/patch": (4, DIMS),
        "arm/pose": (1, WIDTH),
    }
    with pytest.raises(BadInput, match="no basis has come; accepted: a subscription to ~/basis"):
        decode_tokens(message_of(TOKENS), WITH_BASIS)
    with pytest.raises(BadInput, match=r"coefficients of a basis; accepted: wire\.decode_tokens"):
        decode_tensor(message_of(TOKENS))


def test_missing_tokens_stay_missing():
    tokens = TOKENS.copy()
    tokens[[0, 2, 5]] = 0
    restored = decode_tokens(message_of(tokens), WITH_BASIS, BASIS)
    expected = [False, True, False, True, True, False]
    assert mask_of(restored).tolist() == expected
    groups = decode_groups(message_of(tokens), WITH_BASIS)
    assert basis_module.mask_of_groups(groups, WITH_BASIS).tolist() == expected


def test_a_layout_without_a_basis_is_read_as_before():
    message = SimpleNamespace(**encode_tensor(TOKENS)._asdict())
    np.testing.assert_array_equal(decode_tokens(message, LAYOUT), TOKENS)
    assert set(decode_groups(message, LAYOUT)) == {g.name for g in LAYOUT.groups}
    assert "basis" not in LAYOUT.to_json()
    assert Layout.from_json(WITH_BASIS.to_json()) == WITH_BASIS
    assert WITH_BASIS.layout_id != LAYOUT.layout_id


def test_the_message_of_the_basis_is_the_basis():
    message = SimpleNamespace(**encode_tensor(BASIS.to_rows())._asdict())
    received = Basis.from_message(message, WITH_BASIS)
    assert received.sha256 == BASIS.sha256
    for rows, said in (
        (made(1).to_rows(), "accepted: that of the layout"),
        (BASIS.to_rows()[:2], "accepted: that of the layout"),
        (BASIS.to_rows()[:1], "a basis has 1 rows; accepted: the mean and at least one direction"),
        (BASIS.to_rows()[:0], "a basis has 0 rows"),
    ):
        other = SimpleNamespace(**encode_tensor(rows)._asdict())
        with pytest.raises(InvalidValue, match=said):
            Basis.from_message(other, WITH_BASIS)
    with pytest.raises(BadInput, match="which has no basis"):
        Basis.from_message(message, LAYOUT)


def test_another_basis_is_refused_by_both_digests():
    other = made(2)
    with pytest.raises(BadInput, match=f"{other.sha256[:16]}; accepted: .*{BASIS.sha256[:16]}"):
        decode_tokens(message_of(TOKENS), WITH_BASIS, other)
    assert made(encoder="ff").sha256 != BASIS.sha256


@pytest.mark.parametrize("change", ["cut", "longer", "tall", "float", "scale"])
def test_a_message_that_is_not_of_the_layout_is_refused(change):
    message = message_of(TOKENS)
    reason = "size"
    if change == "cut":
        message.data = message.data[:-1]
        message.width = message.step = len(message.data)
    elif change == "longer":
        message.data = bytes(message.data) + b"0"
    elif change == "tall":
        message.height, reason = 2, "encoding"
    elif change == "float":
        message.encoding, reason = "32FC1", "encoding"
    else:
        data = np.frombuffer(bytearray(message.data), np.uint8)
        data[12 + 2 : 12 + 6] = np.frombuffer(np.float32(-1).tobytes(), np.uint8)
        message.data, reason = data.tobytes(), "scale"
    with pytest.raises(BadInput) as caught:
        decode_tokens(message, WITH_BASIS, BASIS)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "mean, directions, words",
    [
        (np.zeros(3), np.zeros((2, 4)), "accepted: .D,. and .K, D."),
        (np.zeros(3), np.zeros((0, 3)), "K from 1 to D"),
        (np.zeros(3), np.eye(4, 3), "K from 1 to D"),
        (np.full(3, np.nan), np.eye(2, 3), "NaN or infinity"),
        (np.zeros(3), np.full((1, 3), np.inf), "NaN or infinity"),
        (np.zeros(3), 1.1 * np.eye(2, 3), "orthonormal to 0.21"),
    ],
)
def test_what_is_no_basis_is_refused(mean, directions, words):
    with pytest.raises(InvalidValue, match=words):
        Basis(mean.astype(np.float32), directions.astype(np.float32), "")


@pytest.mark.parametrize("tokens", [(0, 5), (1, 5), (7, 5), (256, 384), (2, 11, 384), (3, 1024)])
@pytest.mark.parametrize("outer", [1, 64, 300])
def test_a_product_of_few_rows_at_a_time_is_the_product(tokens, outer):
    """One large product waited 200 ms for threads on a busy computer."""
    random = np.random.default_rng(0)
    rows = random.normal(size=tokens).astype(np.float32)
    matrix = random.normal(size=(outer, tokens[-1])).astype(np.float32).T
    made = basis_module._product(rows, matrix)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, rows @ matrix, atol=1e-3)


def test_a_row_does_not_depend_on_the_rows_beside_it():
    """Live and stored tokens are equal to the bit, alone and in a window."""
    random = np.random.default_rng(1)
    directions = np.linalg.qr(random.normal(size=(384, 64)))[0].T.astype(np.float32)
    basis = Basis(np.zeros(384, np.float32), directions, "")
    coefficients = random.normal(size=(4, 257, 64)).astype(np.float32)
    together = basis.expand(coefficients)
    for alone, row in zip(coefficients, together):
        np.testing.assert_array_equal(basis.expand(alone), row)
