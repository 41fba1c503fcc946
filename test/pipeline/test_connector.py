"""A policy's connector in the flow: tokens of the policy's width, and the layout that says so."""

import copy
import dataclasses

import numpy as np
import onnx.reference
import pytest
import torch

from test.checkpoints.huggingface.models import randomised, saved
from test.checkpoints.language_models import test_qwen
from test.checkpoints.policies.policy_folders import (
    SMOLVLA,
    TOKEN_WIDTH,
    WIDTH,
    smolvla_tensors,
    smolvlm,
    write,
)
from test.checkpoints.policies.policy_images import prepared_by_smolvla
from test.checkpoints.policies.test_smolvla import prefix_of
from test.plain_messages import image_message
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.config.settings import (
    BadSetting,
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.engines.encoder_graph import EncoderGraph
from vit_perception.engines.onnx_export import export_onnx
from vit_perception.engines.parity_gate import ParityLimits, measure
from vit_perception.engines.reference import encoder_digest, graph_of, reference_outputs
from vit_perception.image.decode import decode_image
from vit_perception.image.preprocess import Preprocessor
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.layout import Layout

STAMP_NS = 7_000_000_000


@pytest.fixture(scope="module")
def policy():
    return smolvlm()


@pytest.fixture(scope="module")
def folder(policy, tmp_path_factory):
    return write(tmp_path_factory.mktemp("policy"), SMOLVLA, smolvla_tensors(policy))


@pytest.fixture(scope="module")
def graph(folder) -> EncoderGraph:
    return graph_of(load_checkpoint(str(folder)))


def open_pipeline(folder, backend="torch", **model) -> Pipeline:
    return Pipeline.open(
        EncoderSettings(
            (CameraSettings("a", "/a"), CameraSettings("b", "/b")),
            model=ModelSettings(str(folder), **model),
            engine=EngineSettings(backend, "float32"),
        )
    )


def result_of(pipeline, messages):
    batch = pipeline.prepare(messages)
    return pipeline.assemble(batch, pipeline.encode(batch), {})


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_tokens_are_the_policys_own(backend, folder, policy):
    pipeline = open_pipeline(folder, backend)
    message = image_message(STAMP_NS)
    result = result_of(pipeline, {"a": message})
    layout = pipeline.layout({name: camera.image for name, camera in result.cameras.items()})
    pixels = np.ascontiguousarray(decode_image(message).pixels)
    with torch.inference_mode():
        images = prepared_by_smolvla(pixels, 64)[None] / 127.5 - 1
        wanted = prefix_of(policy, images)[0].numpy()
    parts = layout.split(result.sequence.tokens)
    # Half a level of a pixel apart: bytes are rounded, floats are not.
    assert np.abs(parts["a/patch"] - wanted).max() < 0.02 * wanted.std()
    np.testing.assert_allclose(parts["a/cls"][0], parts["a/patch"].mean(axis=0), atol=1e-5)
    assert result.sequence.mask.tolist() == [True] * 5 + [False] * 5
    assert (layout.width, layout.group("a/patch").grid) == (TOKEN_WIDTH, (2, 2))
    assert layout.cameras[0].patch_size_px == 32
    assert layout.connector.scale == TOKEN_WIDTH**0.5
    assert Layout.from_json(layout.to_json()) == layout
    camera = result.cameras["a"]
    assert (camera.patch_tokens.shape, camera.cls_attention.shape) == ((4, TOKEN_WIDTH), (2, 4))
    np.testing.assert_allclose(camera.cls_attention.sum(axis=1), 1, atol=1e-5)
    pipeline.close()


def test_none_gives_the_encoders_own_tokens(folder):
    pipeline = open_pipeline(folder, connector="none", block=0)
    layout = pipeline.layout()
    result = result_of(pipeline, {"a": image_message(STAMP_NS)})
    assert (layout.width, layout.group("a/patch").grid) == (WIDTH, (8, 8))
    assert layout.connector is None and "connector" not in layout.to_json()
    assert result.cameras["a"].patch_tokens.shape == (64, WIDTH)
    pipeline.close()


def test_merged_tokens_of_a_fixed_grid_and_what_is_left_out(tmp_path):
    theirs = randomised(*test_qwen.CASES["3"])
    folder = saved(theirs, tmp_path, preprocessor=test_qwen.PUBLISHED)
    pipeline = open_pipeline(folder, network_size="48x80")
    layout = pipeline.layout()
    message = image_message(STAMP_NS)
    result = result_of(pipeline, {"a": message})
    assert (layout.width, layout.group("a/patch").grid) == (16, (3, 5))
    assert layout.connector.left_out == (0, 1)
    assert layout.cameras[0].patch_size_px == 2 * test_qwen.SIDE
    rule = pipeline.card.rule
    pixels = Preprocessor(rule)(decode_image(message))[None].float() / 127.5 - 1
    patches, grid = test_qwen.given(pixels)
    with torch.inference_mode():
        wanted = theirs(patches, grid_thw=grid).pooler_output.numpy()
    assert np.abs(layout.split(result.sequence.tokens)["a/patch"] - wanted).max() <= 1e-4
    pipeline.close()
    with pytest.raises(BadSetting, match="accepted: multiples of 16, the side of the square"):
        open_pipeline(folder, network_size="48x72")


@pytest.mark.parametrize(
    "model, name",
    [
        ({"block": 0}, "'model.block' is 0; accepted: -1 with .*model.connector: none"),
        (
            {"network_size": "48x64"},
            "'model.network_size' is '48x64'; accepted: multiples of 32",
        ),
    ],
)
def test_what_the_connector_was_not_trained_on_is_refused(model, name, folder):
    with pytest.raises(BadSetting, match=name):
        open_pipeline(folder, **model)


def test_the_gate_judges_tokens_behind_the_connector(graph):
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), np.uint8)
    wrong = copy.deepcopy(graph)
    wrong.connector.layers[0].weight.mul_(1.1)
    report = measure(reference_outputs(wrong, images), reference_outputs(graph, images))
    assert report.tokens_l2 == pytest.approx(0.1, abs=1e-3)
    assert report.failures(ParityLimits())


def test_digests_tell_a_connector(folder):
    loaded = load_checkpoint(str(folder))
    without = dataclasses.replace(loaded, connector=None)
    assert encoder_digest(loaded) != encoder_digest(without)


def test_exported_with_an_open_batch(graph, tmp_path):
    export_onnx(graph, None, tmp_path / "model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), np.uint8)
    found = onnx.reference.ReferenceEvaluator(str(tmp_path / "model.onnx")).run(
        None, {"images": images}
    )
    with torch.inference_mode():
        wanted = graph(torch.from_numpy(images))
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_beside_another_encoder_the_width_behind_the_connector_counts(tmp_path, tiny_checkpoint):
    """The policy's tower is 128 wide, its tokens are 64, as those of the tiny DINOv2."""
    folder = write(tmp_path / "policy", SMOLVLA, smolvla_tensors(smolvlm(width=64)))
    both = open_pipeline(tiny_checkpoint, more_checkpoints=(str(folder),))
    alone = open_pipeline(folder)
    message = image_message(STAMP_NS)
    layout = both.layout()
    tokens = layout.split(result_of(both, {"a": message}).sequence.tokens)
    wanted = result_of(alone, {"a": message}).cameras["a"].patch_tokens
    assert layout.connector is None and layout.width == 64
    first, policy = layout.encoders
    assert first.connector is None and policy.connector.widths == (4 * 4 * 128, 64)
    assert (policy.grid, policy.patch_size_px) == ((2, 2), 32)
    np.testing.assert_allclose(tokens[f"a/{policy.name}/patch"], wanted, atol=1e-5)
    assert Layout.from_json(layout.to_json()) == layout
    both.close(), alone.close()
    with pytest.raises(BadSetting, match="64 .* 128 .*model.connector: auto"):
        open_pipeline(tiny_checkpoint, more_checkpoints=(str(folder),), connector="none")
