"""Models of transformers with random weights, saved by transformers and loaded by it and here."""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tools.checkpoint_parity import torchvision_ops
from tools.checkpoint_parity.rows import Origin, Row, compare, randomise, timed

torchvision_ops.declare()
import transformers
from transformers import (
    AutoImageProcessor,
    CLIPConfig,
    CLIPForImageClassification,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
    DeiTConfig,
    DeiTForImageClassificationWithTeacher,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipConfig,
    SiglipForImageClassification,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

HALF, IMAGENET = (
    {"image_mean": [0.5] * 3, "image_std": [0.5] * 3},
    {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
)
CLIP_STATISTICS = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
# What the authors publish as preprocessor_config.json, by the family.
VIT = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 224, "width": 224},
    "resample": 2,
    **HALF,
}
DEIT = {
    "image_processor_type": "DeiTImageProcessor",
    "do_center_crop": True,
    "size": {"height": 256, "width": 256},
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    **IMAGENET,
}
DINOV2 = {
    "image_processor_type": "BitImageProcessor",
    "do_center_crop": True,
    "size": {"shortest_edge": 256},
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    **IMAGENET,
}
DINOV3 = {
    "image_processor_type": "DINOv3ViTImageProcessor",
    "size": {"height": 224, "width": 224},
    "resample": 2,
    **IMAGENET,
}
CLIP = {
    "image_processor_type": "CLIPImageProcessor",
    "do_center_crop": True,
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    **CLIP_STATISTICS,
}
SIGLIP = {
    "image_processor_type": "SiglipImageProcessor",
    "size": {"height": 224, "width": 224},
    "resample": 3,
    **HALF,
}
SO400M = {**SIGLIP, "size": {"height": 384, "width": 384}}
SIGLIP2 = {**SIGLIP, "resample": 2, "size": {"height": 256, "width": 256}}

SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
TEXT = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 100,
    "max_position_embeddings": 16,
}
LABELS = {index: f"class {index}" for index in range(10)}


@dataclass(frozen=True)
class Model:
    """One row: what transformers is asked for."""

    family: str
    what: str
    kind: type
    config: Any
    preprocessor: dict
    other_size_px: tuple[int, int] = (160, 256)
    note: str = ""
    options: dict = field(default_factory=dict)


RESIZED = {"interpolate_pos_encoding": True}
CLIP_NOTE = (
    "transformers norms the CLS token alone; its patch tokens were normed for the comparison"
)
MODELS = (
    Model(
        "vit",
        "Ti/16",
        ViTModel,
        ViTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768),
        VIT,
        options=RESIZED,
    ),
    Model(
        "vit",
        "B/16 classifier",
        ViTForImageClassification,
        ViTConfig(id2label=LABELS),
        VIT,
        options=RESIZED,
    ),
    Model(
        "vit", "L/16", ViTModel, ViTConfig(**LARGE, intermediate_size=4096), VIT, options=RESIZED
    ),
    Model(
        "deit",
        "S/16 distilled classifier",
        DeiTForImageClassificationWithTeacher,
        DeiTConfig(**SMALL, intermediate_size=1536, id2label=LABELS),
        DEIT,
        options=RESIZED,
    ),
    Model(
        "dinov2",
        "S/14 at 518 px",
        Dinov2Model,
        Dinov2Config(**SMALL, patch_size=14, image_size=518),
        DINOV2,
        (140, 252),
    ),
    Model(
        "dinov2",
        "B/14 classifier",
        Dinov2ForImageClassification,
        Dinov2Config(**BASE, patch_size=14, image_size=518, id2label=LABELS),
        DINOV2,
        (140, 252),
    ),
    Model(
        "dinov2",
        "g/14, SwiGLU, 2 blocks",
        Dinov2Model,
        Dinov2Config(
            hidden_size=1536,
            num_hidden_layers=2,
            num_attention_heads=24,
            patch_size=14,
            image_size=518,
            use_swiglu_ffn=True,
        ),
        DINOV2,
        (140, 252),
    ),
    Model(
        "dinov2_with_registers",
        "S/14 classifier",
        Dinov2WithRegistersForImageClassification,
        Dinov2WithRegistersConfig(**SMALL, patch_size=14, image_size=518, id2label=LABELS),
        DINOV2,
        (140, 252),
    ),
    Model(
        "dinov3_vit",
        "S/16",
        DINOv3ViTModel,
        DINOv3ViTConfig(**SMALL, num_register_tokens=4),
        DINOV3,
    ),
    Model(
        "dinov3_vit",
        "S+/16, gated",
        DINOv3ViTModel,
        DINOv3ViTConfig(**SMALL, num_register_tokens=4, use_gated_mlp=True, hidden_act="silu"),
        DINOV3,
    ),
    Model(
        "dinov3_vit",
        "L/16",
        DINOv3ViTModel,
        DINOv3ViTConfig(**LARGE, intermediate_size=4096, num_register_tokens=4),
        DINOV3,
    ),
    Model(
        "dinov3_vit",
        "B/16",
        DINOv3ViTModel,
        DINOv3ViTConfig(**BASE, intermediate_size=3072, num_register_tokens=4),
        DINOV3,
    ),
    Model(
        "dinov3_vit",
        "H+/16, gated, 4 of its 32 blocks",
        DINOv3ViTModel,
        DINOv3ViTConfig(
            hidden_size=1280,
            num_hidden_layers=4,
            num_attention_heads=20,
            intermediate_size=5120,
            num_register_tokens=4,
            use_gated_mlp=True,
            hidden_act="silu",
        ),
        DINOV3,
    ),
    Model(
        "dinov3_vit",
        "7B/16, gated, no biases, 1 of its 40 blocks",
        DINOv3ViTModel,
        DINOv3ViTConfig(
            hidden_size=4096,
            num_hidden_layers=1,
            num_attention_heads=32,
            intermediate_size=8192,
            num_register_tokens=4,
            use_gated_mlp=True,
            hidden_act="silu",
            query_bias=False,
            value_bias=False,
        ),
        DINOV3,
    ),
    Model(
        "clip",
        "whole B/32, text tower small",
        CLIPModel,
        CLIPConfig(text_config=TEXT),
        CLIP,
        note=CLIP_NOTE,
        options=RESIZED,
    ),
    Model(
        "clip",
        "image tower B/32",
        CLIPVisionModel,
        CLIPVisionConfig(),
        CLIP,
        note=CLIP_NOTE,
        options=RESIZED,
    ),
    Model(
        "clip",
        "image tower L/14 with projection",
        CLIPVisionModelWithProjection,
        CLIPVisionConfig(**LARGE, intermediate_size=4096, patch_size=14, projection_dim=768),
        CLIP,
        (140, 252),
        CLIP_NOTE,
        RESIZED,
    ),
    Model(
        "clip",
        "B/32 classifier",
        CLIPForImageClassification,
        CLIPConfig(text_config=TEXT, id2label=LABELS),
        CLIP,
        note="its classifier sees the tokens without the final norm",
        options=RESIZED,
    ),
    Model(
        "siglip",
        "whole B/16, text tower small",
        SiglipModel,
        SiglipConfig(text_config={**TEXT, "hidden_size": 768}),
        SIGLIP,
        options=RESIZED,
    ),
    Model(
        "siglip",
        "SigLIP 2 B/16 at 256 px",
        SiglipVisionModel,
        SiglipVisionConfig(image_size=256),
        SIGLIP2,
        options=RESIZED,
    ),
    Model(
        "siglip",
        "so400m/14 at 384 px, 4 blocks",
        SiglipVisionModel,
        SiglipVisionConfig(
            hidden_size=1152,
            intermediate_size=4304,
            num_hidden_layers=4,
            num_attention_heads=16,
            image_size=384,
            patch_size=14,
        ),
        SO400M,
        (140, 252),
        "patches see 378 px of the 384; preprocessing compared there",
        RESIZED,
    ),
    Model(
        "siglip",
        "B/16 classifier",
        SiglipForImageClassification,
        SiglipConfig(text_config={**TEXT, "hidden_size": 768}, id2label=LABELS),
        SIGLIP,
        options=RESIZED,
    ),
)


def rows() -> list[Row]:
    """One row a model."""
    transformers.logging.set_verbosity_error()
    return [_row(model) for model in MODELS]


def _row(wanted: Model) -> Row:
    torch.manual_seed(0)
    made = randomise(wanted.kind(wanted.config))
    with tempfile.TemporaryDirectory() as folder:
        made.save_pretrained(folder)
        (Path(folder) / "preprocessor_config.json").write_text(
            json.dumps(wanted.preprocessor), encoding="utf-8"
        )
        model, load_s = timed(lambda: wanted.kind.from_pretrained(folder).eval())
        processor = AutoImageProcessor.from_pretrained(folder)
        origin = Origin(
            f"transformers {transformers.__version__}",
            lambda images: _run(model, images, wanted.options),
            lambda picture: _prepared(processor, picture),
            load_s,
        )
        return compare(
            wanted.family, wanted.what, Path(folder), origin, wanted.note, (wanted.other_size_px,)
        )


def _prepared(processor: Any, picture: Any) -> np.ndarray:
    pixels = np.asarray(processor(picture, return_tensors="np")["pixel_values"][0])
    # What no patch of 14 px sees of 384.
    return pixels[:, :378, :378] if pixels.shape[1] == 384 else pixels


@torch.inference_mode()
def _run(model: torch.nn.Module, images: np.ndarray, options: dict) -> dict[str, np.ndarray]:
    """The outputs of any of the classes, by ViTOutput's names."""
    images = torch.from_numpy(images)
    kind, outputs = model.config.model_type.split("_")[0], {}
    backbone = getattr(model, "vision_model", getattr(model, model.base_model_prefix, model))
    backbone = model if kind == "dinov3" else backbone
    out = backbone(images, **options)
    tokens = out.last_hidden_state
    is_classifier = hasattr(model, "classifier") or hasattr(model, "cls_classifier")
    if kind == "clip" and not is_classifier:
        tokens = backbone.post_layernorm(tokens)
    prefix = {"siglip": 0, "deit": 2}.get(kind, 1 + getattr(model.config, "num_register_tokens", 0))
    outputs["patch_tokens"] = tokens[:, prefix:]
    if kind == "siglip" and not is_classifier:
        outputs["pooled"] = out.pooler_output
    elif kind != "siglip":
        outputs["cls_token"] = tokens[:, 0]
    if hasattr(model, "visual_projection"):
        outputs["projected"] = model.visual_projection(out.pooler_output)
    if is_classifier:
        outputs["logits"] = model(images, **options).logits
    return {name: value.numpy() for name, value in outputs.items()}
