"""evo1: InternVL's tower, pixel shuffle and projector inside the policy's file."""

import pytest
import torch
from transformers import InternVLConfig, InternVLModel

from test.checkpoints.huggingface.models import LIMIT, largest_difference, randomised
from test.checkpoints.language_models.test_internvl import LARGE, TEXT, TOWER, projected
from test.checkpoints.policies.checks import (
    check_digest,
    check_refused,
    check_unknown_tensor_is_refused,
    prepared,
    random_pixels,
)
from test.checkpoints.policies.policy_folders import lerobot_config, write
from test.checkpoints.policies.policy_images import prepared_by_evo1
from vit_perception.checkpoints.sources import load_checkpoint

PREFIX = "model.embedder.model."
SIDE = 32
CONFIG = lerobot_config("evo1", image_resolution=[SIDE, SIDE])


def internvl(**vision) -> InternVLModel:
    sizes = {**TOWER, "hidden_size": 128, "num_attention_heads": 2, "attention_bias": True}
    config = InternVLConfig(vision_config={**sizes, **vision}, text_config=TEXT)
    return randomised(InternVLModel, config)


def tensors_of(model: InternVLModel) -> dict[str, torch.Tensor]:
    held = {f"{PREFIX}{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    return {**held, "model.action_head.x.weight": torch.zeros(2)}


def write_policy(folder, model=None, config=CONFIG):
    """A policy as LeRobot writes it."""
    return write(folder, config, tensors_of(model or internvl()))


@pytest.mark.parametrize("config", [CONFIG, None])
def test_tokens_are_the_language_models(config, tmp_path):
    theirs = internvl()
    loaded = load_checkpoint(str(write_policy(tmp_path, theirs, config)))
    assert loaded.card.family == "evo1"
    images = torch.randn(2, 3, SIDE, SIDE)
    wanted = projected(theirs, images)
    assert wanted.std(dim=1).mean() > 0.05
    ours = loaded.connector(loaded.model(images).patch_tokens, (4, 4))
    assert largest_difference(ours, wanted) <= LIMIT
    assert not loaded.unused


@pytest.mark.parametrize("size_px", [(48, 80), (97, 61), (32, 32)])
def test_images_are_prepared_as_the_policy_does_it(size_px, tmp_path):
    card = load_checkpoint(str(write_policy(tmp_path))).card
    pixels = random_pixels(size_px)
    assert (prepared(card, pixels) - prepared_by_evo1(pixels, SIDE)).abs().max() <= 1
    assert (card.mean, card.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_the_digest_is_that_of_what_is_read(tmp_path):
    check_digest(
        tmp_path,
        CONFIG,
        lambda: tensors_of(internvl()),
        rest="model.action_head.x.weight",
        read=f"{PREFIX}vision_tower",
    )


def without(part):
    return {name: tensor for name, tensor in tensors_of(internvl()).items() if part not in name}


LAYER = f"{PREFIX}vision_tower.encoder.layer.0."
WRONG = {
    "no tower": (CONFIG, lambda: without("vision_tower"), "no vision tower"),
    "no projector": (
        CONFIG,
        lambda: without("multi_modal_projector"),
        "no .*linear_1.weight, a part of the projector",
    ),
    "another size": (
        {**CONFIG, "image_resolution": [64, 64]},
        lambda: tensors_of(internvl()),
        r"image_resolution is \[64, 64\], and the tower has positions for \(32, 32\)",
    ),
    "another tower": (
        CONFIG,
        lambda: tensors_of(internvl(**LARGE, attention_bias=False)),
        "accepted: a multiple of 64 without norms of queries and keys",
    ),
    "eight bits": (
        CONFIG,
        lambda: {**tensors_of(internvl()), f"{LAYER}mlp.fc1.SCB": torch.zeros(2)},
        "quantised .*accepted: the policy in float32",
    ),
    "adapter inside": (
        CONFIG,
        lambda: {
            **tensors_of(internvl()),
            f"{LAYER}attention.q_proj.lora_A.weight": torch.zeros(2),
        },
        "LoRA adapter .*merge_and_unload",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_the_policys_is_refused_with_the_cure(case, tmp_path):
    config, tensors, message = WRONG[case]
    check_refused(write(tmp_path, config, tensors()), message)


def test_an_unknown_tensor_of_the_tower_is_refused(tmp_path):
    folder = write(tmp_path, CONFIG, {**tensors_of(internvl()), f"{LAYER}gate": torch.zeros(2)})
    check_unknown_tensor_is_refused(folder, f"{LAYER}gate")
