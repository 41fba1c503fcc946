"""Weights of keras-vit and vit-keras, by names and shapes written out from files that Keras
wrote.
"""

import numpy as np
import pytest
import torch

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint

h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install h5py")
WIDTH, HIDDEN, PATCH, TOKENS, CLASSES = 64, 96, 8, 17, 3


def keras_vit(
    first: int = 0, blocks: int = 2, pre_logits: bool = True
) -> dict[str, tuple[int, ...]]:
    """What tf-keras saves of keras_vit.ViT; Keras numbers unnamed layers, from ``first`` in this
    process.
    """

    def numbered(name: str, number: int) -> str:
        return f"{name}_{number}" if number else name

    def dense(layer: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
        return {f"{layer}/kernel:0": (inputs, outputs), f"{layer}/bias:0": (outputs,)}

    shapes = {
        "add_cls_token/add_cls_token/class_token_weight:0": (1, 1, WIDTH),
        "position_embedding/position_embedding/position_embedding:0": (1, TOKENS, WIDTH),
        "patch_embedding/patch_embedding/conv2d/kernel:0": (PATCH, PATCH, 3, WIDTH),
        "patch_embedding/patch_embedding/conv2d/bias:0": (WIDTH,),
    }
    norms = ["layer_norm/layer_norm"]
    for index in range(blocks):
        block = f"transformer_block_{index}/transformer_block_{index}"
        norms += [
            f"{block}/{numbered('layer_normalization', first + 2 * index + k)}" for k in (0, 1)
        ]
        for part in ("query", "key", "value", "combine_out"):
            shapes |= dense(f"{block}/multi_head_attention_layer/{part}", WIDTH, WIDTH)
        for number, sizes in enumerate(((WIDTH, HIDDEN), (HIDDEN, WIDTH))):
            shapes |= dense(
                f"{block}/mlp_block_layer/{numbered('dense', first + 2 * index + number)}", *sizes
            )
    shapes |= {f"{norm}/{part}:0": (WIDTH,) for norm in norms for part in ("gamma", "beta")}
    shapes |= dense("pre_logits/pre_logits", WIDTH, WIDTH) if pre_logits else {}
    return shapes | dense("mlp_head/mlp_head", WIDTH, CLASSES)


def vit_keras() -> dict[str, tuple[int, ...]]:
    """What Keras 3's ``save`` writes of vit_keras's model, one block."""
    block = "Transformer_encoderblock_0/Transformer_encoderblock_0"
    dense = {
        "embedding/embedding": (PATCH, PATCH, 3, WIDTH),
        "head/head": (WIDTH, CLASSES),
        f"{block}/MlpBlock_3/Transformer_encoderblock_0_Dense_0": (WIDTH, HIDDEN),
        f"{block}/MlpBlock_3/Transformer_encoderblock_0_Dense_1": (HIDDEN, WIDTH),
    }
    dense |= {
        f"{block}/MultiHeadDotProductAttention_1/{part}": (WIDTH, WIDTH)
        for part in ("query", "key", "value", "out")
    }
    shapes = {f"{layer}/kernel": shape for layer, shape in dense.items()}
    shapes |= {f"{layer}/bias": shape[-1:] for layer, shape in dense.items()}
    shapes |= {
        f"{norm}/{part}": (WIDTH,)
        for part in ("gamma", "beta")
        for norm in (
            f"{block}/LayerNorm_0",
            f"{block}/LayerNorm_2",
            "Transformer_encoder_norm/Transformer_encoder_norm",
        )
    }
    shapes |= {
        "class_token/class_token/cls": (1, 1, WIDTH),
        "Transformer_posembed_input/Transformer_posembed_input/pos_embedding": (1, TOKENS, WIDTH),
    }
    return {f"model_weights/{name}": shape for name, shape in shapes.items()}


def saved(path, shapes, **attributes):
    generator = np.random.default_rng(0)
    held = {
        name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }
    with h5py.File(path, "w") as file:
        for name, array in held.items():
            file[name] = array
        file.attrs.update(attributes)
    return held


@pytest.mark.parametrize("first", [0, 1, 9])
def test_unnamed_layers_are_told_by_their_order_not_their_numbers(tmp_path, first):
    held = saved(tmp_path / "weights.h5", keras_vit(first))
    loaded = load_checkpoint(str(tmp_path / "weights.h5"))
    config, state = loaded.model.config, loaded.model.state_dict()
    assert (loaded.card.family, config.depth, config.heads, config.mlp_width) == (
        "keras_vit",
        2,
        1,
        HIDDEN,
    )
    assert (config.head, config.activation, config.image_size_px) == (
        "linear_tanh_linear",
        "gelu",
        (32, 32),
    )
    up = f"transformer_block_1/transformer_block_1/mlp_block_layer/dense_{first + 2}/kernel:0"
    torch.testing.assert_close(state["blocks.1.mlp.up.weight"], torch.from_numpy(held[up].T))
    norm = f"transformer_block_1/transformer_block_1/layer_normalization_{first + 3}/gamma:0"
    torch.testing.assert_close(state["blocks.1.norm_mlp.weight"], torch.from_numpy(held[norm]))
    kernel = held["patch_embedding/patch_embedding/conv2d/kernel:0"]
    assert state["patch_embedding.projection.weight"][7, 1, 2, 5] == kernel[2, 5, 1, 7]


def test_it_is_prepared_as_the_package_does_it(tmp_path):
    saved(tmp_path / "weights.h5", keras_vit(pre_logits=False))
    card = load_checkpoint(str(tmp_path / "weights.h5")).card
    assert (card.rule.fit, card.rule.interpolation, card.mean) == (
        "stretch",
        "bilinear_aliased",
        (0.5, 0.5, 0.5),
    )


def test_a_whole_model_of_vit_keras_says_its_heads(tmp_path):
    saved(
        tmp_path / "model.h5",
        vit_keras(),
        model_config='{"layers": [{"config": {"num_heads": 4}}]}',
    )
    config = load_checkpoint(str(tmp_path / "model.h5")).model.config
    assert (config.heads, config.head, config.classes) == (4, "linear", CLASSES)


def test_a_file_without_blocks_is_refused(tmp_path):
    saved(tmp_path / "weights.h5", keras_vit(blocks=0))
    with pytest.raises(CheckpointError, match="lacks what tells its sizes"):
        load_checkpoint(str(tmp_path / "weights.h5"))
