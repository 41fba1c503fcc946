"""An image without any light is an image: its tokens are there, in every form of the wire."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from test.plain_messages import image_message
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.basis import Basis, decode_tokens, pack_sequence
from vit_perception.wire.layout import LayoutBasis
from vit_perception.wire.tensors import encode_bytes, encode_tensor, mask_of

STAMP_NS = 5_000_000_000


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint):
    opened = Pipeline.open(
        EncoderSettings(
            (CameraSettings("a", "/a"), CameraSettings("b", "/b")),
            model=ModelSettings(str(tiny_checkpoint)),
            engine=EngineSettings("torch", "float32"),
        )
    )
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def sequence(pipeline):
    """Camera a is black; b is silent, and its rows are zeros."""
    message = image_message(STAMP_NS)
    message.data = bytes(len(message.data))
    prepared = pipeline.prepare({"a": message})
    return pipeline.assemble(prepared, pipeline.encode(prepared), {}).sequence


def test_a_black_image_has_tokens(pipeline, sequence):
    layout = pipeline.layout()
    there = layout.group("a/cls"), layout.group("a/patch")
    expected = np.zeros(layout.token_count, bool)
    for group in there:
        expected[group.start : group.stop] = True
    assert sequence.mask.tolist() == expected.tolist()
    for dtype in ("float32", "float16", "int8"):
        fields = encode_tensor(sequence.tokens, dtype)
        tokens = decode_tokens(SimpleNamespace(**fields._asdict()), layout)
        assert mask_of(tokens).tolist() == expected.tolist(), dtype


def test_a_black_image_has_coefficients(pipeline, sequence):
    width = pipeline.width
    directions = np.linalg.qr(np.random.default_rng(0).normal(size=(width, 6)))[0].T
    basis = Basis(
        np.zeros(width, np.float32), directions.astype(np.float32), pipeline.encoder_sha256
    )
    layout = replace(pipeline.layout(), basis=LayoutBasis(basis.sha256, basis.dims))
    packed = encode_bytes(pack_sequence(sequence.tokens, layout, basis))
    tokens = decode_tokens(SimpleNamespace(**packed._asdict()), layout, basis)
    assert mask_of(tokens).tolist() == sequence.mask.tolist()
