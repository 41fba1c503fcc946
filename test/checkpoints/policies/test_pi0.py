"""π0, π0.5 and π0-FAST in LeRobot's and openpi's files, and images prepared as each does it."""

import pytest
import torch

from test.checkpoints.huggingface.models import LIMIT, largest_difference
from test.checkpoints.policies.checks import check_refused, prepared, random_pixels
from test.checkpoints.policies.policy_folders import (
    OPENPI,
    PI0,
    lerobot_config,
    paligemma,
    pi0_tensors,
    write,
)
from test.checkpoints.policies.policy_images import prepared_by_lerobot, prepared_by_openpi
from vit_perception.checkpoints.sources import load_checkpoint

SIZES_PX = [(48, 80), (97, 61), (64, 64), (31, 77)]
# The file's config.json, and what its names begin with.
FILES = {
    "pi0": (PI0, "model."),
    "pi05": (lerobot_config("pi05", image_resolution=[64, 64]), "model."),
    "pi0_fast": (lerobot_config("pi0_fast", image_resolution=[64, 64]), "model."),
    "openpi": (OPENPI, ""),
    "a file alone": (None, ""),
}


@pytest.mark.parametrize("name", FILES)
def test_tokens_are_what_embed_image_gives(name, tmp_path):
    theirs = paligemma()
    config, prefix = FILES[name]
    loaded = load_checkpoint(str(write(tmp_path, config, pi0_tensors(theirs, prefix))))
    assert loaded.card.family == "pi0"
    images = torch.randn(2, 3, 64, 64)
    wanted = theirs.model.get_image_features(images).pooler_output
    ours = loaded.connector(loaded.model(images).patch_tokens, (8, 8))
    assert wanted.std() > 0.5
    assert largest_difference(ours, wanted) <= LIMIT
    assert loaded.connector.spec.scale == 1


def test_names_of_older_and_newer_transformers(tmp_path):
    theirs = paligemma()
    images = torch.randn(1, 3, 64, 64)
    wanted = theirs.model.get_image_features(images).pooler_output
    for old, new in ((".vision_model.", "."), ("paligemma.model.", "paligemma.")):
        tensors = {name.replace(old, new): t for name, t in pi0_tensors(theirs).items()}
        loaded = load_checkpoint(str(write(tmp_path / new, PI0, tensors)))
        ours = loaded.connector(loaded.model(images).patch_tokens, (8, 8))
        assert largest_difference(ours, wanted) <= LIMIT


@pytest.mark.parametrize("size_px", SIZES_PX)
@pytest.mark.parametrize(
    "name, prepare, most",
    # Floats are rounded here; Pillow and torch round their sums of bytes apart.
    [("pi0", prepared_by_lerobot, 0.501), ("openpi", prepared_by_openpi, 1)],
)
def test_images_are_prepared_as_the_policy_does_it(name, prepare, most, size_px, tmp_path):
    config, prefix = FILES[name]
    loaded = load_checkpoint(str(write(tmp_path, config, pi0_tensors(prefix=prefix))))
    pixels = random_pixels(size_px)
    assert (prepared(loaded.card, pixels) - prepare(pixels, 64)).abs().max() <= most


def test_state_projection_has_the_width_of_the_action_expert(tmp_path):
    loaded = load_checkpoint(str(write(tmp_path, PI0, pi0_tensors())))
    assert (loaded.state.spec.width, loaded.connector.spec.width) == (64, 48)


@pytest.mark.parametrize(
    "config, part, message",
    [
        (PI0, "multi_modal_projector", "no .*multi_modal_projector.linear.weight"),
        ({**PI0, "image_resolution": [56, 56]}, "none", r"image_resolution is \[56, 56\]"),
        ({**PI0, "resize_imgs_with_padding": [64, 64]}, "none", "LeRobot before 0.4"),
    ],
)
def test_what_is_not_the_policys_is_refused_with_the_cure(config, part, message, tmp_path):
    tensors = {name: tensor for name, tensor in pi0_tensors().items() if part not in name}
    check_refused(write(tmp_path, config, tensors), f"{message}.*accepted: ")
