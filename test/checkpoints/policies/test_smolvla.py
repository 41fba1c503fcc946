"""SmolVLA: tower, connector, scale, state projection, and images prepared as LeRobot does it."""

import json

import pytest
import torch
from torch.nn import functional

from test.checkpoints.huggingface.models import LIMIT, largest_difference
from test.checkpoints.policies.checks import (
    check_digest,
    check_refused,
    check_unknown_tensor_is_refused,
    prepared,
    random_pixels,
)
from test.checkpoints.policies.policy_folders import (
    NORMALIZER,
    SMOLVLA,
    STATE_COUNT,
    STATE_INPUTS,
    STATISTICS,
    TOKEN_WIDTH,
    smolvla_tensors,
    smolvlm,
    state_projection,
    write,
    write_smolvla,
)
from test.checkpoints.policies.policy_images import prepared_by_smolvla
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.policies.siglip_tower import PATCHES
from vit_perception.checkpoints.sources import load_checkpoint

TOWER = "model.vlm_with_expert.vlm.model.vision_model."


def prefix_of(model, images):
    """What the policy hands to its language model for ``images``, as embed_prefix does."""
    tokens = model.model.vision_model(pixel_values=images, patch_attention_mask=None)
    return model.model.connector(tokens.last_hidden_state) * TOKEN_WIDTH**0.5


def test_tokens_are_the_policys_prefix(tmp_path):
    theirs = smolvlm()
    loaded = load_checkpoint(str(write(tmp_path, SMOLVLA, smolvla_tensors(theirs))))
    assert loaded.card.family == "smolvla"
    images = torch.randn(2, 3, 64, 64)
    ours = loaded.connector(loaded.model(images).patch_tokens, (8, 8))
    wanted = prefix_of(theirs, images)
    assert wanted.std() > 3
    assert largest_difference(ours, wanted) <= LIMIT
    assert loaded.connector.spec.as_json() == {
        "widths": [2048, TOKEN_WIDTH],
        "shuffle": 4,
        "bias": False,
        "scale": TOKEN_WIDTH**0.5,
    }


@pytest.mark.parametrize("side_px", [72, 216, 120])
def test_positions_are_bucketised_as_the_tower_does_it(side_px, tmp_path):
    """1/27 is no float32, so rounding decides on some patches."""
    theirs = smolvlm(shuffle=3, image_size=216)
    loaded = load_checkpoint(str(write(tmp_path, None, smolvla_tensors(theirs))))
    images = torch.randn(1, 3, side_px, side_px)
    tower = theirs.model.vision_model(pixel_values=images, patch_attention_mask=None)
    ours = loaded.model(images).patch_tokens
    assert largest_difference(ours, tower.last_hidden_state) <= LIMIT


@pytest.mark.parametrize("size_px", [(48, 80), (97, 61), (64, 64), (31, 77)])
def test_images_are_prepared_as_the_policy_does_it(size_px, tmp_path):
    loaded = load_checkpoint(str(write_smolvla(tmp_path)))
    pixels = random_pixels(size_px)
    difference = (prepared(loaded.card, pixels) - prepared_by_smolvla(pixels, 64)).abs()
    assert difference.max() <= 0.501
    assert (loaded.card.mean, loaded.card.std) == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("kind", ["MEAN_STD", "MIN_MAX", "IDENTITY"])
def test_state_token_is_the_policys(kind, tmp_path):
    mapping = {**SMOLVLA["normalization_mapping"], "STATE": kind}
    config = {**SMOLVLA, "normalization_mapping": mapping}
    loaded = load_checkpoint(str(write(tmp_path, config, smolvla_tensors())))
    numbers = torch.linspace(-2, 3, STATE_COUNT)
    s = STATISTICS
    wanted = {
        "MEAN_STD": (numbers - s["mean"]) / (s["std"] + 1e-8),
        "MIN_MAX": 2 * (numbers - s["min"]) / (s["max"] - s["min"]) - 1,
        "IDENTITY": numbers,
    }[kind]
    padded = functional.pad(wanted, (0, STATE_INPUTS - STATE_COUNT))
    token = state_projection(TOKEN_WIDTH)(padded).detach()[None]
    ours = torch.from_numpy(loaded.state.encode(numbers.numpy()))
    assert largest_difference(ours, token) <= 1e-5


def test_statistics_of_older_policies_are_among_their_tensors(tmp_path):
    named = {f"normalize_inputs.buffer_observation_state.{n}": t for n, t in STATISTICS.items()}
    folder = write(tmp_path, SMOLVLA, {**smolvla_tensors(), **named})
    for name in ("policy_preprocessor.json", NORMALIZER):
        (folder / name).unlink()
    spec = load_checkpoint(str(folder)).state.spec
    assert spec.first == tuple(STATISTICS["mean"].double().tolist())


def without(part: str) -> dict:
    return {name: tensor for name, tensor in smolvla_tensors().items() if part not in name}


def replaced(end: str, tensor: torch.Tensor) -> dict:
    return {n: tensor if n.endswith(end) else held for n, held in smolvla_tensors().items()}


WRONG = {
    "no connector": (SMOLVLA, lambda: without("modality_projection"), "no .*modality_projection"),
    "no tower": (SMOLVLA, lambda: without("vision_model"), "no vision tower"),
    "another tower's connector": (
        SMOLVLA,
        lambda: replaced("modality_projection.proj.weight", torch.zeros(TOKEN_WIDTH, 1000)),
        "takes 1000 channels and the tower gives 1152",
    ),
    "eight bits": (
        SMOLVLA,
        lambda: replaced("0.mlp.fc1.weight", torch.zeros(96, 128, dtype=torch.int8)),
        "quantised .*mlp.fc1.weight.*accepted: the policy in float32",
    ),
    "quantised": (
        {**SMOLVLA, "quantization_config": {"bits": 4}},
        smolvla_tensors,
        "quantised .quantization_config",
    ),
    "adapter inside": (
        SMOLVLA,
        lambda: {**smolvla_tensors(), f"{TOWER}encoder.layers.0.lora_A.weight": torch.zeros(2)},
        "LoRA adapter .*merge_and_unload",
    ),
    "state of another width": (
        {**SMOLVLA, "max_state_dim": 24},
        smolvla_tensors,
        "max_state_dim is 24, and model.state_proj.weight takes 32",
    ),
    "no statistics": (
        {**SMOLVLA, "normalization_mapping": {"STATE": "QUANTILES"}},
        smolvla_tensors,
        "observation.state.q01 is missing",
    ),
    "heads unknown": (SMOLVLA, lambda: smolvla_tensors(smolvlm(hidden_size=96)), "96 channels"),
    "images of any size": (
        {**SMOLVLA, "resize_imgs_with_padding": None},
        smolvla_tensors,
        "resize_imgs_with_padding is null",
    ),
    "squares do not fit": (
        {**SMOLVLA, "resize_imgs_with_padding": [48, 64]},
        smolvla_tensors,
        "8 x 6 patches; accepted: multiples of 4",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_the_policys_is_refused_with_the_cure(case, tmp_path):
    config, tensors, message = WRONG[case]
    check_refused(write(tmp_path, config, tensors()), message)


def test_an_adapter_beside_the_policy_is_refused(tmp_path):
    folder = write_smolvla(tmp_path)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"LoRA adapter \(adapter_config.json\).*merge"):
        load_checkpoint(str(folder))


def test_an_unknown_tensor_of_the_tower_is_refused(tmp_path):
    """Those of the rest of the policy are not looked at."""
    extra = {f"{TOWER}encoder.gate": torch.zeros(2), "model.other.weight": torch.zeros(2)}
    folder = write(tmp_path, SMOLVLA, {**smolvla_tensors(), **extra})
    check_unknown_tensor_is_refused(folder, f"{TOWER}encoder.gate")


def test_the_digest_is_that_of_what_is_read(tmp_path):
    check_digest(
        tmp_path,
        SMOLVLA,
        smolvla_tensors,
        rest="model.action_in_proj.weight",
        read=f"{TOWER}{PATCHES}",
    )


def test_a_policy_whose_statistics_are_elsewhere_is_refused(tmp_path):
    folder = write_smolvla(tmp_path)
    (folder / "policy_preprocessor.json").write_text(
        json.dumps(
            {"steps": [{"registry_name": "normalizer_processor", "state_file": "../x.safetensors"}]}
        )
    )
    with pytest.raises(CheckpointError, match="accepted: one step normalizer_processor"):
        load_checkpoint(str(folder))
