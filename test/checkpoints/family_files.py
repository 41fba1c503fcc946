"""One small checkpoint of every family, written with the helpers of the families' own tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers

from test.checkpoints.clip import test_open_clip, test_openai
from test.checkpoints.clip.clip_files import openai_names, whole_model
from test.checkpoints.dense.dense_authors import anything_tensors, dpt_tensors
from test.checkpoints.dense.dense_models import (
    depth_anything_config,
    dinov2_config,
    dpt_config,
    save,
)
from test.checkpoints.google import test_npz
from test.checkpoints.huggingface import (
    models,
    test_clip,
    test_radio,
    test_siglip,
    test_siglip2,
    test_theia,
    test_tipsv2,
)
from test.checkpoints.keras import test_keras_vit
from test.checkpoints.language_models import test_internvl, test_qwen
from test.checkpoints.meta import test_dinov2, test_dinov3
from test.checkpoints.meta.tensors import WIDTH, backbone
from test.checkpoints.policies import test_evo1, test_multi_task_dit
from test.checkpoints.policies.policy_folders import write_openvla, write_pi0, write_smolvla
from test.checkpoints.timm import test_vit
from vit_perception.checkpoints import native
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer

Write = Callable[[Path], object]


def write_native(folder: Path) -> None:
    config = VARIANTS["test"]
    half = (0.5,) * 3
    rule = ResizeRule(config.image_size_px)
    (folder / "config.json").write_text(native.config_json(config, ()))
    (folder / "preprocessor_config.json").write_text(native.preprocessor_json(rule, half, half))
    models.save_file(VisionTransformer(config).state_dict(), folder / "model.safetensors")


def of_transformers(kind: type, config, preprocessor=models.STRETCH) -> Write:
    return lambda folder: models.saved(
        models.randomised(kind, config), folder, preprocessor=preprocessor
    )


def of_torch(name: str, tensors: Callable[[], dict]) -> Write:
    return lambda folder: torch.save(tensors(), folder / name)


def depth_anything_tensors() -> dict:
    backbone = dinov2_config(12, hidden_size=64, num_attention_heads=1, mlp_ratio=1)
    backbone.out_indices = [3, 6, 9, 12]
    config = depth_anything_config(backbone)
    return anything_tensors(transformers.DepthAnythingForDepthEstimation(config))


def dpt_file_tensors() -> dict:
    sizes = {"num_hidden_layers": 12, "num_attention_heads": 1, "intermediate_size": 64}
    config = dpt_config(**sizes, backbone_out_indices=[2, 5, 8, 11])
    return dpt_tensors(transformers.DPTForDepthEstimation(config))


def write_google(folder: Path) -> None:
    np.savez(folder / "B_16.npz", **test_npz.arrays())


def write_keras(folder: Path) -> None:
    test_keras_vit.saved(folder / "weights.h5", test_keras_vit.keras_vit())


def write_dpt(folder: Path) -> None:
    model = transformers.DPTForDepthEstimation(dpt_config())
    save(model, folder, {"height": 32, "width": 32})


def write_depth_anything(folder: Path) -> None:
    model = transformers.DepthAnythingForDepthEstimation(depth_anything_config())
    save(model, folder, {"height": 56, "width": 56})


HEAD = {"head.weight": (5, WIDTH), "head.bias": (5,)}
# By the name of the family.
WRITERS: dict[str, Write] = {
    "vit_perception": write_native,
    "pi0": write_pi0,
    "smolvla": write_smolvla,
    "openvla": write_openvla,
    "multi_task_dit": test_multi_task_dit.write_policy,
    "evo1": test_evo1.write_policy,
    "openai_clip": of_torch(
        "ViT-tiny.pt", lambda: {**openai_names(whole_model()), **test_openai.NUMBERS}
    ),
    "open_clip": lambda folder: test_open_clip.written(folder, openai_names(whole_model())),
    "vit": of_transformers(transformers.ViTModel, transformers.ViTConfig(**models.WITH_MLP)),
    "deit": of_transformers(transformers.DeiTModel, transformers.DeiTConfig(**models.WITH_MLP)),
    "dinov2": of_transformers(transformers.Dinov2Model, transformers.Dinov2Config(**models.SIZES)),
    "dinov2_with_registers": of_transformers(
        transformers.Dinov2WithRegistersModel,
        transformers.Dinov2WithRegistersConfig(**models.SIZES),
    ),
    "dinov3_vit": of_transformers(
        transformers.DINOv3ViTModel,
        transformers.DINOv3ViTConfig(**models.WITH_MLP, num_register_tokens=4),
    ),
    "clip": of_transformers(*test_clip.CASES["whole"]),
    "siglip": of_transformers(*test_siglip.CASES["whole"]),
    "siglip2": of_transformers(*test_siglip2.CASES["whole"], test_siglip2.PUBLISHED),
    "radio": lambda folder: test_radio.saved(test_radio.model(), folder),
    "tipsv2": of_transformers(*test_tipsv2.CASES["whole"], test_tipsv2.PUBLISHED),
    "theia": lambda folder: test_theia.saved(test_theia.model(), folder),
    "internvl": of_transformers(*test_internvl.CASES["whole"], test_internvl.PUBLISHED),
    "qwen2_5_vl": of_transformers(*test_qwen.CASES["2.5"], test_qwen.PUBLISHED),
    "qwen3_vl": of_transformers(*test_qwen.CASES["3"], test_qwen.PUBLISHED),
    "dpt": write_dpt,
    "depth_anything": write_depth_anything,
    "depth_anything_v1": of_torch("depth_anything_vits14.pth", depth_anything_tensors),
    "depth_anything_v2": of_torch("depth_anything_v2_vits.pth", depth_anything_tensors),
    "depth_anything_v2_metric_indoor": of_torch(
        "depth_anything_v2_metric_hypersim_vits.pth", depth_anything_tensors
    ),
    "depth_anything_v2_metric_outdoor": of_torch(
        "depth_anything_v2_metric_vkitti_vits.pth", depth_anything_tensors
    ),
    "dpt_original": of_torch("dpt_large.pt", dpt_file_tensors),
    "google_npz": write_google,
    "keras_vit": write_keras,
    "meta_dinov3": of_torch("dinov3_vits8.pth", test_dinov3.dinov3),
    "meta_dinov2": of_torch("dinov2.pth", lambda: backbone(**test_dinov2.DINOV2)),
    "meta_dino": of_torch("dino_deitsmall8.pth", backbone),
    "meta_deit": of_torch("deit_tiny_patch8_32-a1.pth", lambda: backbone(**HEAD)),
    "timm": lambda folder: test_vit.folder(folder, test_vit.tensors()),
}
