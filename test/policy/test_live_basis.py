"""Tokens that are coefficients, in the live decoder: when the basis comes, and if it does not."""

from dataclasses import replace
from types import SimpleNamespace as Message

import numpy as np
import pytest

from test.policy.test_live import (
    LAYOUT,
    MS,
    decoder,  # noqa: F401 - a fixture
    embedding,
    header,
    pose,
    state,
    tokens,
)
from vit_perception.files.errors import InvalidValue
from vit_perception.policy.live import MAX_PENDING, LiveDecoder
from vit_perception.wire.basis import Basis, pack_sequence
from vit_perception.wire.layout import LayoutBasis
from vit_perception.wire.records import BadInput
from vit_perception.wire.tensors import encode_bytes, encode_tensor

BASIS = Basis(
    np.arange(4, dtype=np.float32), np.eye(4, dtype=np.float32)[1:3], LAYOUT.encoder_sha256
)
OTHER = replace(BASIS, mean=np.zeros(4, np.float32))
WITH_BASIS = replace(
    LAYOUT, states=(), basis=LayoutBasis(BASIS.sha256, 2), groups=LAYOUT.groups[:3]
)


def basis_message(basis):
    return "/robot/basis", Message(header=header(0), **encode_tensor(basis.to_rows())._asdict())


def reduced(stamp_ns):
    rows = np.arange(16, dtype=np.float32).reshape(4, 4) + 1
    packed = encode_bytes(pack_sequence(rows, WITH_BASIS, BASIS))
    return "/robot/tokens", Message(header=header(stamp_ns), **packed._asdict())


def with_layout(layout=WITH_BASIS, **options):
    made = LiveDecoder("/robot", body=False, **options)
    made.add("/robot/layout", Message(data=layout.to_json()))
    return made


def test_the_basis_may_come_before_or_after_the_layout_and_the_tokens():
    expected = np.arange(16, dtype=np.float32).reshape(4, 4) + 1
    expected[1:3, [0, 3]] = [0, 3]  # what two directions of four cannot say: the mean
    first = LiveDecoder("/robot", body=False)
    first.add(*basis_message(BASIS))
    first.add("/robot/layout", Message(data=WITH_BASIS.to_json()))
    later = with_layout()
    assert later.topics["/robot/basis"] == "sensor_msgs/msg/Image"
    assert later.latched == {"/robot/layout", "/robot/basis"}
    assert later.add(*reduced(5 * MS)) is None
    later.add(*basis_message(BASIS))
    for made in (first.add(*reduced(10 * MS)), later.add(*reduced(10 * MS))):
        np.testing.assert_allclose(made.tokens, expected, atol=0.06)
        np.testing.assert_array_equal(made.tokens[[0, 3]], expected[[0, 3]])
        assert made.mask.all() and made.coefficients == {}
    assert later.incomplete == 1


@pytest.mark.parametrize("sent, said", [((), "none has come"), ((OTHER,), "another one has come")])
def test_a_basis_that_never_comes_is_said_and_not_waited_for_in_silence(sent, said):
    decoder = with_layout()
    for basis in sent:
        decoder.add(*basis_message(basis))
    for k in range(1, MAX_PENDING + 1):
        assert decoder.add(*reduced(k * MS)) is None
    with pytest.raises(BadInput, match=f"frames wait for the basis of /robot/basis, and {said}"):
        decoder.add(*reduced(99 * MS))
    # Whoever goes on listening gets frames as soon as it is there.
    decoder.add(*basis_message(BASIS))
    assert decoder.add(*reduced(100 * MS)).stamp_ns == 100 * MS


def test_another_basis_while_it_runs_is_taken_with_its_layout():
    decoder = with_layout()
    decoder.add(*basis_message(BASIS))
    assert decoder.add(*reduced(10 * MS)) is not None
    other_layout = replace(WITH_BASIS, basis=LayoutBasis(OTHER.sha256, 2))
    decoder.add("/robot/layout", Message(data=other_layout.to_json()))
    assert decoder.add(*reduced(20 * MS)) is None
    decoder.add(*basis_message(OTHER))
    made = decoder.add(*reduced(30 * MS))
    assert made.tokens[1].tolist()[0] == 0 and made.tokens[1].tolist()[3] == 0  # the other mean
    decoder.add("/robot/layout", Message(data=LAYOUT.to_json()))
    assert "/robot/basis" not in decoder.topics


def test_a_layout_that_comes_again_loses_no_frame(decoder):
    """A camera's size is known with its first image, so a layout comes between parts of a frame.

    The parts that had come were forgotten then.
    """
    assert decoder.add(*pose(10 * MS)) is None
    decoder.add("/robot/layout", Message(data=LAYOUT.to_json()))
    for part in (state, embedding):
        assert decoder.add(*part(10 * MS)) is None
    assert decoder.add(*tokens(10 * MS)) is not None and decoder.incomplete == 0
    reducing = LiveDecoder("/robot", embedding=True, body=False)
    reducing.add("/robot/layout", Message(data=WITH_BASIS.to_json()))
    reducing.add(*basis_message(BASIS))
    assert reducing.add(*reduced(10 * MS)) is None
    reducing.add("/robot/layout", Message(data=WITH_BASIS.to_json()))
    assert reducing.add(*embedding(10 * MS)) is not None and reducing.incomplete == 0


def test_a_message_that_is_no_basis_is_refused():
    for rows in (
        np.full((3, 4), np.nan, np.float32),
        np.ones((3, 4), np.float32),
        np.zeros((0, 4), np.float32),
    ):
        message = Message(header=header(0), **encode_tensor(rows)._asdict())
        with pytest.raises(InvalidValue, match="a basis holds NaN|orthonormal|has 0 rows"):
            with_layout().add("/robot/basis", message)


def test_coefficients_need_no_basis():
    made = with_layout(expand=False)
    assert "/robot/basis" not in made.topics
    observed = made.add(*reduced(10 * MS))
    assert observed.tokens.shape == (2, 4) and observed.mask.shape == (4,)
    assert observed.coefficients["wrist/patch"].shape == (2, 2)
