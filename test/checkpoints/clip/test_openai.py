"""OpenAI's original files: TorchScript archive and state dict, in half precision, against
transformers' CLIP.
"""

import pytest
import torch

from test.checkpoints.clip.clip_files import Holder, openai_names, whole_model
from test.checkpoints.huggingface.models import LIMIT, largest_difference
from vit_perception.checkpoints.clip.openai import MEAN, STD
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint

NUMBERS = {
    "input_resolution": torch.tensor(32),
    "context_length": torch.tensor(16),
    "vocab_size": torch.tensor(50),
}


def half_precision(tensors):
    return {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


@pytest.mark.parametrize("form", ["archive", "state dict"])
def test_parity(form, tmp_path):
    theirs, path = whole_model(), tmp_path / "ViT-tiny.pt"
    theirs.half().float()  # so that both hold what half precision can
    tensors = half_precision({**openai_names(theirs), **NUMBERS})
    if form == "archive":
        torch.jit.save(torch.jit.script(Holder(tensors)), str(path))
    else:
        torch.save(tensors, path)
    loaded = load_checkpoint(str(path))
    assert (loaded.card.family, loaded.card.name, loaded.card.license) == (
        "openai_clip",
        "ViT-tiny",
        "mit",
    )
    # clip.load's own: Resize(shortest edge, bicubic), CenterCrop.
    assert loaded.card.rule.network_size_px == (32, 32) and loaded.card.rule.fit == "crop"
    assert loaded.card.rule.resize_shortest_edge_px == 32
    assert (loaded.card.mean, loaded.card.std) == (MEAN, STD)
    for size in ((32, 32), (48, 24)):
        images = torch.randn(2, 3, *size)
        out = theirs.vision_model(images, interpolate_pos_encoding=True)
        ours = loaded.model(images)
        assert largest_difference(ours.cls_token, out.pooler_output) <= LIMIT
        tokens = theirs.vision_model.post_layernorm(out.last_hidden_state)
        assert largest_difference(ours.patch_tokens, tokens[:, 1:]) <= LIMIT
        embeds = theirs.visual_projection(out.pooler_output)
        assert (
            largest_difference(ours.pooled @ torch.from_numpy(loaded.projection).T, embeds) <= LIMIT
        )
    assert loaded.model.config.activation == "quick_gelu"
    expected = {name for name in tensors if not name.startswith("visual.")}
    assert set(loaded.unused) == expected and "transformer.resblocks.0.ln_1.weight" in expected


def test_a_resnet_is_refused_by_name(tmp_path):
    torch.save(
        {
            "visual.layer1.0.conv1.weight": torch.zeros(4, 4, 1, 1),
            **NUMBERS,
            "visual.attnpool.c_proj.weight": torch.zeros(4, 4),
        },
        tmp_path / "RN50.pt",
    )
    with pytest.raises(
        CheckpointError,
        match=r"RN50.pt holds visual.layer1.0.conv1.weight: the image tower of this "
        r"CLIP is a ResNet; accepted: .*ViT-B-32",
    ):
        load_checkpoint(str(tmp_path / "RN50.pt"))


def test_a_state_dict_without_openais_numbers_says_what_is_missing_and_can_be_named(tmp_path):
    """The tensors alone do not tell CLIP's activation: a guess would give features that look right
    and are not.
    """
    torch.save(openai_names(whole_model()), tmp_path / "saved.pt")
    with pytest.raises(
        CheckpointError,
        match="no file open_clip_config.json, which tells the activation .*accepted: "
        ".*model.family: openai_clip",
    ):
        load_checkpoint(str(tmp_path / "saved.pt"))
    assert (
        load_checkpoint(str(tmp_path / "saved.pt"), "openai_clip").model.config.activation
        == "quick_gelu"
    )


def test_the_rule_is_the_crop_of_the_models_own_size(tmp_path):
    torch.save({**openai_names(whole_model(image_size=48)), **NUMBERS}, tmp_path / "m.pt")
    rule = load_checkpoint(str(tmp_path / "m.pt")).card.rule
    assert (rule.network_size_px, rule.resize_shortest_edge_px, rule.interpolation) == (
        (48, 48),
        48,
        "bicubic",
    )
