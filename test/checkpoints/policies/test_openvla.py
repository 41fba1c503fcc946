"""OpenVLA: two encoders on the same pixels, tokens side by side, the projector behind both."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from test.checkpoints.huggingface.models import LIMIT, largest_difference
from test.checkpoints.policies.policy_folders import (
    OPENVLA,
    OPENVLA_IMAGES,
    TOKEN_WIDTH,
    openvla_tensors,
    openvla_tokens,
    write,
    write_openvla,
)
from test.plain_messages import image_message
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.extract import write_extract
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.engines.reference import encoder_digest, graph_of
from vit_perception.pipeline.pipeline import Pipeline


@pytest.fixture
def images() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)


def test_tokens_are_the_policys_own(tmp_path, images):
    loaded = load_checkpoint(str(write_openvla(tmp_path)))
    assert (loaded.card.family, loaded.model.config.depth) == ("openvla", 2)
    assert loaded.card.rule.fit == "stretch"
    with torch.inference_mode():
        cls_token, tokens, attention = graph_of(loaded)(images)
        wanted = openvla_tokens(images)
    assert wanted.std() > 0.05
    assert largest_difference(tokens, wanted) <= LIMIT
    assert largest_difference(cls_token, wanted.mean(dim=1)) <= LIMIT
    assert attention.shape == (2, 1, 16)


def test_extracted_with_both_encoders(tmp_path, images):
    theirs = load_checkpoint(str(write_openvla(tmp_path / "policy")))
    write_extract(theirs, tmp_path / "encoder")
    ours = load_checkpoint(str(tmp_path / "encoder"))
    assert encoder_digest(ours) == encoder_digest(theirs)
    assert (ours.second.mean, ours.second.std) == (theirs.second.mean, theirs.second.std)
    with torch.inference_mode():
        for one, other in zip(graph_of(ours)(images), graph_of(theirs)(images), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_one_engine_holds_both(backend, tmp_path):
    pipeline = Pipeline.open(
        EncoderSettings(
            (CameraSettings("a", "/a"),),
            model=ModelSettings(str(write_openvla(tmp_path))),
            engine=EngineSettings(backend, "float32"),
        )
    )
    batch = pipeline.prepare({"a": image_message(7)})
    result = pipeline.assemble(batch, pipeline.encode(batch), {})
    with torch.inference_mode():
        wanted = openvla_tokens(torch.from_numpy(batch.batch))[0].numpy()
    layout = pipeline.layout()
    found = layout.split(result.sequence.tokens)["a/patch"]
    np.testing.assert_allclose(found, wanted, atol=LIMIT)
    assert (layout.width, layout.connector.joined) == (TOKEN_WIDTH, (64, 128))
    pipeline.close()


def test_digests_tell_the_second_encoder(tmp_path):
    loaded = load_checkpoint(str(write_openvla(tmp_path)))
    scaled = dataclasses.replace(loaded.second, std=(0.4, 0.4, 0.4))
    changed = dataclasses.replace(loaded, second=scaled)
    assert encoder_digest(loaded) != encoder_digest(changed)


@pytest.mark.parametrize(
    "fields, changes, message",
    [
        ({"timm_model_ids": ["vit_large_patch14_clip_336.openai"]}, {}, "timm_model_ids has 'vit_"),
        ({"timm_override_act_layers": ["quick_gelu", None]}, {}, "timm_override_act_layers is"),
        ({}, {"image_resize_strategy": "letterbox"}, "image_resize_strategy is 'letterbox'"),
        ({}, {"interpolations": ["bicubic", "bilinear"]}, "interpolations is"),
        ({}, {"input_sizes": [[3, 32, 32], [3, 48, 48]]}, "input_sizes is"),
        ({}, {"means": [[0.5, 0.5, 0.5]]}, "means is"),
    ],
)
def test_other_towers_and_pixels_are_refused(fields, changes, message, tmp_path):
    folder = write_openvla(tmp_path, {**OPENVLA_IMAGES, **changes}, **fields)
    with pytest.raises(CheckpointError, match=f"{message}.*accepted: "):
        load_checkpoint(str(folder))


@pytest.mark.parametrize("part", ["projector.fc3.weight", "fused_featurizer.pos_embed"])
def test_a_missing_part_is_refused(part, tmp_path):
    tensors = {name: t for name, t in openvla_tensors().items() if not name.endswith(part)}
    folder = write(tmp_path, OPENVLA, tensors)
    (folder / "preprocessor_config.json").write_text(json.dumps(OPENVLA_IMAGES))
    with pytest.raises(CheckpointError, match=f"no .*{part}.*accepted: the policy's complete file"):
        load_checkpoint(str(folder))
