"""timm's own models, saved by timm in its hub's format and loaded by it and here."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tools.checkpoint_parity import torchvision_ops
from tools.checkpoint_parity.rows import Origin, Row, compare, randomise, timed

torchvision_ops.declare()
import timm
from timm.data import create_transform, resolve_data_config
from timm.models import save_for_hf

# (architecture, arguments, another input size in px or None)
MODELS = (
    ("vit_tiny_patch16_224", {}, (160, 256)),
    ("vit_small_patch32_224", {}, (160, 256)),
    ("vit_base_patch16_224", {}, None),
    ("vit_large_patch16_224", {}, None),
    ("vit_medium_patch16_reg4_gap_256", {}, (160, 320)),
    ("vit_so150m_patch16_reg4_map_256", {"depth": 6}, None),
    ("deit_small_distilled_patch16_224", {}, None),
    ("deit3_small_patch16_224", {}, (160, 256)),
    ("vit_small_patch14_dinov2", {"img_size": 224}, (140, 252)),
    ("vit_small_patch14_reg4_dinov2", {"img_size": 224}, (140, 252)),
    ("vit_giant_patch14_dinov2", {"img_size": 224, "depth": 2}, None),
    ("vit_small_patch16_dinov3", {}, (160, 256)),
    ("vit_small_plus_patch16_dinov3_qkvb", {"global_pool": "token"}, (160, 256)),
    ("vit_huge_plus_patch16_dinov3_qkvb", {"depth": 2}, (160, 256)),
    ("vit_7b_patch16_dinov3", {"depth": 1}, (160, 256)),
    ("vit_base_patch32_clip_224", {}, None),
    ("vit_base_patch32_clip_quickgelu_224", {}, (160, 256)),
    ("vit_base_patch16_siglip_224", {}, (160, 256)),
    ("vit_so400m_patch16_siglip_gap_256", {"depth": 4}, None),
    ("vit_pe_core_tiny_patch16_384", {}, (256, 320)),
    ("vit_pe_core_base_patch16_224", {}, (160, 256)),
    ("vit_pe_core_gigantic_patch14_448", {"depth": 2}, None),
    ("vit_pe_lang_large_patch14_448", {"depth": 4}, None),
    ("vit_pe_spatial_small_patch16_512", {}, (160, 256)),
    ("vit_pe_spatial_gigantic_patch14_448", {"depth": 2}, None),
)


def rows() -> list[Row]:
    """One row an architecture."""
    return [_row(*model) for model in MODELS]


def _row(architecture: str, arguments: dict, other_size_px: tuple[int, int] | None) -> Row:
    torch.manual_seed(0)
    if other_size_px and "dinov3" not in architecture:
        arguments = {**arguments, "dynamic_img_size": True}
    made = randomise(timm.create_model(architecture, **arguments))
    is_projected = "clip_quickgelu" in architecture or "vit_pe_core" in architecture
    if is_projected:
        with torch.no_grad():
            made.head.bias.zero_()  # as in the released files, where the head is CLIP's projection
    with tempfile.TemporaryDirectory() as folder:
        save_for_hf(made, folder, model_args=arguments, safe_serialization="both")
        (Path(folder) / "pytorch_model.bin").unlink()
        model, load_s = timed(
            lambda: timm.create_model(f"local-dir:{folder}", pretrained=True).eval(), warm=False
        )
        transform = create_transform(**resolve_data_config({}, model=model))
        origin = Origin(
            f"timm {timm.__version__}",
            lambda images: _run(model, images, architecture, is_projected),
            lambda picture: transform(picture).numpy(),
            load_s,
        )
        row = compare(
            "timm",
            architecture,
            Path(folder),
            origin,
            sizes_px=(other_size_px,) if other_size_px else (),
        )
    depth = f"{arguments['depth']} blocks" if "depth" in arguments else ""
    return replace(row, note=depth)


@torch.inference_mode()
def _run(
    model: torch.nn.Module, images: np.ndarray, architecture: str, is_projected: bool
) -> dict[str, np.ndarray]:
    tokens = model.forward_features(torch.from_numpy(images))
    outputs = {"patch_tokens": tokens[:, model.num_prefix_tokens :]}
    if getattr(model, "cls_token", None) is not None:
        outputs["cls_token"] = tokens[:, 0]
    if (
        "distilled" not in architecture
    ):  # there it is the mean of two tokens, each of which has a head
        outputs["pooled"] = model.forward_head(tokens, pre_logits=True)
    if model.num_classes:
        outputs["projected" if is_projected else "logits"] = model.forward_head(tokens)
    return {name: value.numpy() for name, value in outputs.items()}
