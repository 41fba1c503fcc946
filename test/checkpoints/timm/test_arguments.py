"""Arguments of a timm model that make another function: obeyed, or refused by name."""

import pytest

from test.checkpoints.timm.test_vit import HIDDEN, WIDTH, tensors
from test.checkpoints.timm.test_vit import folder as timm_folder
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint


def config_of(path, held=None, **arguments):
    return load_checkpoint(timm_folder(path, held or tensors(), model_args=arguments)).model.config


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ({"act_layer": "quick_gelu"}, {"activation": "quick_gelu"}),
        ({"act_layer": "gelu_tanh"}, {"activation": "gelu_tanh"}),
        ({"num_heads": 8}, {"heads": 8}),
        ({"global_pool": "avg"}, {"pooling": "mean"}),
        ({"norm_layer": "layernorm"}, {}),
        ({"global_pool": "max"}, {"pooling": "max"}),
        ({"img_size": [32, 32]}, {"image_size_px": (32, 32)}),
        (
            {
                "drop_path_rate": 0.1,
                "embed_dim": WIDTH,
                "class_token": True,
                "qk_norm": False,
                "pre_norm": False,
            },
            {},
        ),
    ],
)
def test_arguments_of_timm_that_are_obeyed(tmp_path, arguments, expected):
    config = config_of(tmp_path, **arguments)
    plain = {
        "activation": "gelu",
        "heads": 1,
        "pooling": "cls",
        "norm_eps": 1e-6,
        "image_size_px": (32, 32),
    }
    assert {name: getattr(config, name) for name in plain} == plain | expected


def test_a_model_of_timm_without_a_final_norm(tmp_path):
    held = tensors(**{"norm.weight": None, "norm.bias": None})
    assert config_of(tmp_path, held, final_norm=False).final_norm is False
    with pytest.raises(CheckpointError, match="2 missing"):
        config_of(tmp_path, held)
    with pytest.raises(CheckpointError, match="2 unexpected"):
        config_of(tmp_path, final_norm=False)


@pytest.mark.parametrize(
    "arguments",
    [
        {"act_layer": "relu"},
        {"act_layer": "silu"},
        {"act_layer": ["gelu"]},
        {"norm_layer": "rmsnorm"},
        {"global_pool": "avgmax"},
        {"global_pool": ""},
        {"pool_include_prefix": True},
        {"pre_norm": True},
        {"class_token": False},
        {"reg_tokens": 4},
        {"qk_norm": True},
        {"scale_attn_norm": True},
        {"attn_layer": "diff"},
        {"block_fn": "ParallelScalingBlock"},
        {"mlp_layer": "swiglu"},
        {"pos_embed": "none"},
        {"embed_dim": 32},
        {"depth": 2},
        {"patch_size": 16},
        {"in_chans": 1},
        {"num_classes": 4},
        {"use_rot_pos_emb": True},
        {"final_norm": "no"},
        {"num_heads": 0},
        {"num_heads": 10**400},
        {"img_size": 1e9},
        {"rope_type": "mixed"},
    ],
)
def test_arguments_of_timm_that_are_refused_by_name(tmp_path, arguments):
    name = "heads" if "num_heads" in arguments else next(iter(arguments))
    with pytest.raises(CheckpointError, match=f"{name} (of|is)"):
        config_of(tmp_path, **arguments)


def test_an_argument_that_nobody_knows_is_refused(tmp_path):
    with pytest.raises(
        CheckpointError,
        match="model_args has 'softcap', which is not known here; accepted: act_layer, ",
    ):
        config_of(tmp_path, softcap=30.0)


def test_a_swiglu_of_another_activation_is_refused(tmp_path):
    held = tensors(
        **{"blocks.0.mlp.fc1.weight": (2 * HIDDEN, WIDTH), "blocks.0.mlp.fc1.bias": (2 * HIDDEN,)}
    )
    assert config_of(tmp_path, held, act_layer="silu").activation == "swiglu"
    with pytest.raises(CheckpointError, match="act_layer of model_args is 'gelu'; accepted: silu"):
        config_of(tmp_path, held, act_layer="gelu")


def test_a_norm_before_the_blocks_has_the_epsilon_of_its_architecture(tmp_path):
    """timm's CLIP has 1e-5; a plain architecture with ``pre_norm`` keeps 1e-6."""
    held = tensors(
        **{"norm_pre.weight": (WIDTH,), "norm_pre.bias": (WIDTH,), "patch_embed.proj.bias": None}
    )
    assert config_of(tmp_path, held, pre_norm=True).norm_eps == 1e-6
    path = timm_folder(tmp_path, held, "vit_base_patch8_clip_32")
    assert load_checkpoint(path).model.config.norm_eps == 1e-5
