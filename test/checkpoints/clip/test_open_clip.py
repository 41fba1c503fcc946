"""open_clip's folders: what open_clip_config.json adds to OpenAI's names, and towers that are
refused.
"""

import json

import pytest
import torch
from safetensors.torch import save_file

from test.checkpoints.clip.clip_files import openai_names, whole_model
from test.checkpoints.huggingface.models import LIMIT, largest_difference
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint

# What laion/CLIP-ViT-B-32-laion2B-s34B-b79K publishes, at the size of the test's model.
VISION = {"image_size": 32, "layers": 2, "width": 128, "patch_size": 8}
CONFIG = {
    "model_cfg": {
        "embed_dim": 20,
        "vision_cfg": VISION,
        "text_cfg": {"context_length": 16, "vocab_size": 50},
    },
    "preprocess_cfg": {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
    },
}


def written(folder, tensors, vision=(), preprocess=(), **model):
    config = {
        "model_cfg": {**CONFIG["model_cfg"], **model, "vision_cfg": {**VISION, **dict(vision)}},
        "preprocess_cfg": {**CONFIG["preprocess_cfg"], **dict(preprocess)},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        folder / "open_clip_model.safetensors",
    )
    return str(folder)


@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_parity(activation, tmp_path):
    theirs = whole_model(activation)
    folder = written(tmp_path, openai_names(theirs), quick_gelu=activation == "quick_gelu")
    loaded = load_checkpoint(folder)
    assert (loaded.card.family, loaded.card.license) == ("open_clip", "mit")
    assert loaded.model.config.activation == activation
    assert (loaded.card.rule.fit, loaded.card.rule.resize_shortest_edge_px) == ("crop", 32)
    images = torch.randn(2, 3, 32, 32)
    out = theirs.vision_model(images)
    ours = loaded.model(images)
    assert largest_difference(ours.cls_token, out.pooler_output) <= LIMIT
    assert (
        largest_difference(
            ours.patch_tokens, theirs.vision_model.post_layernorm(out.last_hidden_state)[:, 1:]
        )
        <= LIMIT
    )
    embeds = theirs.visual_projection(out.pooler_output)
    assert largest_difference(ours.pooled @ torch.from_numpy(loaded.projection).T, embeds) <= LIMIT


def test_what_the_config_says_reaches_the_model(tmp_path):
    tensors = openai_names(whole_model())
    gamma = {
        f"visual.transformer.resblocks.{n}.ls_{part}.gamma": torch.full((128,), 0.5)
        for n in range(2)
        for part in (1, 2)
    }
    folder = written(
        tmp_path,
        {**tensors, **gamma},
        {"head_width": 32, "ls_init_value": 1e-4, "norm_kwargs": {"eps": 1e-6}},
    )
    config = load_checkpoint(folder).model.config
    assert (config.heads, config.layer_scale, config.norm_eps) == (4, True, 1e-6)
    assert config.position_interpolation == "bicubic_antialias"


def test_mean_pooling_in_front_of_the_norm_as_in_clipa(tmp_path):
    tensors = {
        name: tensor for name, tensor in openai_names(whole_model()).items() if "ln_pre" not in name
    }
    folder = written(
        tmp_path,
        tensors,
        {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        {"resize_mode": "squash", "interpolation": "bilinear", "size": 40},
    )
    loaded = load_checkpoint(folder)
    config, rule = loaded.model.config, loaded.card.rule
    assert (config.pooling, config.norm_pooled, config.norm_before_blocks) == ("mean", True, False)
    assert (rule.network_size_px, rule.fit, rule.interpolation) == ((40, 40), "stretch", "bilinear")


def test_a_folder_with_both_forms_of_one_model(tmp_path):
    """As laion publishes them: each file is read as what it is, the folder as transformers'
    form.
    """
    model = whole_model("gelu")
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "size": {"shortest_edge": 32},
                "crop_size": 32,
                "do_center_crop": True,
                "resample": 3,
                **{f"image_{name}": values for name, values in CONFIG["preprocess_cfg"].items()},
            }
        )
    )
    folder = written(tmp_path, openai_names(model))
    ours, theirs = load_checkpoint(f"{folder}/open_clip_model.safetensors"), load_checkpoint(folder)
    assert (ours.card.family, theirs.card.family) == ("open_clip", "clip")
    images = torch.randn(1, 3, 32, 32)
    assert (
        largest_difference(ours.model(images).patch_tokens, theirs.model(images).patch_tokens)
        <= LIMIT
    )


@pytest.mark.parametrize(
    "vision, preprocess, model, message",
    [
        (
            {"attentional_pool": True},
            {},
            {},
            "attentional_pool of vision_cfg is True; accepted: False",
        ),
        (
            {"pool_type": "none"},
            {},
            {},
            "pool_type of vision_cfg is 'none'; accepted: 'tok', 'avg'",
        ),
        ({"layers": [3, 4, 6, 3]}, {}, {}, r"layers of vision_cfg is \[3, 4, 6, 3\], a ResNet's"),
        (
            {},
            {"resize_mode": "longest"},
            {},
            "resize_mode of preprocess_cfg is 'longest'; accepted: shortest, squash",
        ),
        (
            {},
            {"size": [32, 48]},
            {},
            r"size of preprocess_cfg is \(32, 48\) with resize_mode shortest; accepted: a square, "
            r"or squash",
        ),
        (
            {},
            {},
            {"multimodal_cfg": {"width": 8}},
            "multimodal_cfg is given: a CoCa model; accepted: CLIP models",
        ),
    ],
)
def test_towers_that_this_model_is_not_are_refused(vision, preprocess, model, message, tmp_path):
    folder = written(tmp_path, openai_names(whole_model()), vision, preprocess, **model)
    with pytest.raises(CheckpointError, match=f"open_clip_config.json: {message}"):
        load_checkpoint(folder)


def test_a_tower_of_timm_and_a_resnet_are_refused_by_name(tmp_path):
    folder = written(
        tmp_path,
        {"visual.trunk.pos_embed": torch.zeros(1, 4, 8), "logit_bias": torch.zeros(1)},
        {"timm_model_name": "vit_base_patch16_siglip_224"},
    )
    with pytest.raises(
        CheckpointError, match="timm's vit_base_patch16_siglip_224; accepted: .*google/siglip-base-"
    ):
        load_checkpoint(folder)
    written(
        tmp_path,
        {"visual.layer1.0.conv1.weight": torch.zeros(4, 4, 1, 1)},
        {"layers": [3, 4, 6, 3]},
    )
    with pytest.raises(CheckpointError, match="the image tower of this CLIP is a ResNet"):
        load_checkpoint(folder)
