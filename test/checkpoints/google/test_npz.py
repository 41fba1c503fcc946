"""Google's .npz files by their published names and shapes, written out here; the arithmetic is
`make parity`'s.
"""

import numpy as np
import pytest
import torch

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.sources import load_checkpoint

WIDTH, HEADS, HIDDEN, PATCH, SIDE, CLASSES = 8, 2, 12, 4, 12, 3


def arrays(
    pre_logits: int | None = None, linen: bool = False, cls: bool = True, head: bool = True
) -> dict:
    """A model of one block, every name and shape as vit_jax saves it."""
    attention = f"MultiHeadDotProductAttention_{0 if linen else 1}"
    mlp, second_norm = ("MlpBlock_0", "LayerNorm_1") if linen else ("MlpBlock_3", "LayerNorm_2")
    block = {
        f"{attention}/{part}/{kind}": shape
        for part in ("query", "key", "value")
        for kind, shape in (
            ("kernel", (WIDTH, HEADS, WIDTH // HEADS)),
            ("bias", (HEADS, WIDTH // HEADS)),
        )
    }
    block |= {
        f"{attention}/out/kernel": (HEADS, WIDTH // HEADS, WIDTH),
        f"{attention}/out/bias": (WIDTH,),
        f"{mlp}/Dense_0/kernel": (WIDTH, HIDDEN),
        f"{mlp}/Dense_0/bias": (HIDDEN,),
        f"{mlp}/Dense_1/kernel": (HIDDEN, WIDTH),
        f"{mlp}/Dense_1/bias": (WIDTH,),
    }
    block |= {
        f"{norm}/{part}": (WIDTH,)
        for norm in ("LayerNorm_0", second_norm)
        for part in ("scale", "bias")
    }
    shapes = {f"Transformer/encoderblock_0/{name}": shape for name, shape in block.items()}
    shapes |= {
        "Transformer/encoder_norm/scale": (WIDTH,),
        "Transformer/encoder_norm/bias": (WIDTH,),
        "Transformer/posembed_input/pos_embedding": (1, (SIDE // PATCH) ** 2 + cls, WIDTH),
        "embedding/kernel": (PATCH, PATCH, 3, WIDTH),
        "embedding/bias": (WIDTH,),
    }
    shapes |= {"cls": (1, 1, WIDTH)} if cls else {}
    if pre_logits:
        shapes |= {"pre_logits/kernel": (WIDTH, pre_logits), "pre_logits/bias": (pre_logits,)}
    if head:
        shapes |= {"head/kernel": (pre_logits or WIDTH, CLASSES), "head/bias": (CLASSES,)}
    generator = np.random.default_rng(0)
    return {
        name: generator.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }


def loaded(tmp_path, held):
    np.savez(tmp_path / "B_16.npz", **held)
    return load_checkpoint(str(tmp_path / "B_16.npz"))


@pytest.mark.parametrize("linen", [False, True])
def test_sizes_come_from_the_shapes_and_kernels_are_turned(tmp_path, linen):
    held = arrays(linen=linen)
    result = loaded(tmp_path, held)
    config, state = result.model.config, result.model.state_dict()
    assert (config.width, config.depth, config.heads, config.mlp_width) == (WIDTH, 1, HEADS, HIDDEN)
    assert (config.patch_size_px, config.image_size_px, config.activation) == (
        PATCH,
        (SIDE, SIDE),
        "gelu_tanh",
    )
    assert (config.head, config.classes, result.card.family) == ("linear", CLASSES, "google_npz")
    attention = "Transformer/encoderblock_0/MultiHeadDotProductAttention_" + ("0" if linen else "1")
    x = torch.randn(WIDTH)
    expected = torch.einsum(
        "d,dhc->hc", x, torch.from_numpy(held[f"{attention}/query/kernel"])
    ).flatten()
    torch.testing.assert_close(state["blocks.0.attention.query.weight"] @ x, expected)
    mixed = torch.randn(HEADS, WIDTH // HEADS)
    expected = torch.einsum("hc,hcd->d", mixed, torch.from_numpy(held[f"{attention}/out/kernel"]))
    torch.testing.assert_close(
        state["blocks.0.attention.output.weight"] @ mixed.flatten(), expected
    )
    assert (
        state["patch_embedding.projection.weight"][5, 2, 1, 3]
        == held["embedding/kernel"][1, 3, 2, 5]
    )


def test_pre_logits_is_a_layer_of_its_own_width_and_unused_once_the_head_is_gone(tmp_path):
    config = loaded(tmp_path, arrays(pre_logits=6)).model.config
    assert (config.head, config.head_hidden_width) == ("linear_tanh_linear", 6)
    without = loaded(tmp_path, arrays(pre_logits=6, head=False))
    assert without.model.config.head == "none" and without.unused == (
        "pre_logits/kernel",
        "pre_logits/bias",
    )


def test_without_a_cls_token_the_patches_are_averaged(tmp_path):
    config = loaded(tmp_path, arrays(cls=False)).model.config
    assert (config.cls_token, config.pooling, config.grid) == (False, "mean", (3, 3))


def test_labels_are_read_from_a_file_beside_and_must_be_as_many(tmp_path):
    assert loaded(tmp_path, arrays()).card.labels == ("class 0", "class 1", "class 2")
    (tmp_path / "labels.txt").write_text("cup\nspoon\nplate\n", encoding="utf-8")
    assert loaded(tmp_path, arrays()).card.labels == ("cup", "spoon", "plate")
    (tmp_path / "B_16.labels.txt").write_text("cup\nspoon\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="holds 2 lines; accepted: 3 class names"):
        loaded(tmp_path, arrays())


def test_a_resnet_hybrid_is_refused_by_its_name(tmp_path):
    held = arrays() | {"conv_root/kernel": np.zeros((7, 7, 3, 4), np.float32)}
    with pytest.raises(CheckpointError, match="is a ResNet hybrid .it holds conv_root/kernel."):
        loaded(tmp_path, held)
