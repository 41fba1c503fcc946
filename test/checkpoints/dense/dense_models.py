"""transformers' own dense models with random weights, saved as folders, and their outputs for a
picture.
"""

import json
from pathlib import Path

import torch

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


def randomise(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Every parameter and statistic drawn anew: the libraries' own start leaves biases and
    positions zero.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        with torch.no_grad():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            else:
                is_norm = tensor.ndim == 1 and name.endswith("weight")
                fan_in = tensor[0].numel() if tensor.ndim > 1 else 100
                tensor.normal_(float(is_norm), fan_in**-0.5, generator=generator)
    return model.eval()


def save(model, folder: Path, size_px: dict[str, int], **preprocessor) -> Path:
    """The folder as the hub has it: weights, config.json, preprocessor_config.json."""
    model.save_pretrained(folder)
    fields = {
        "do_resize": True,
        "size": size_px,
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        **IMAGENET,
        **preprocessor,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(fields))
    return folder


def dpt_config(**fields):
    """A tiny DPT: ViT of width 64, 4 blocks, patches of 8 px, 32 px."""
    from transformers import DPTConfig

    return DPTConfig(
        **{
            "hidden_size": 64,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "image_size": 32,
            "patch_size": 8,
            "backbone_out_indices": [0, 1, 2, 3],
            "neck_hidden_sizes": [8, 12, 16, 24],
            "fusion_hidden_size": 16,
        }
        | fields
    )


def dinov2_config(depth: int = 5, **fields):
    """A tiny DINOv2 as a backbone, patches of 14 px, 56 px."""
    from transformers import Dinov2Config

    return Dinov2Config(
        **{
            "hidden_size": 64,
            "num_hidden_layers": depth,
            "num_attention_heads": 4,
            "image_size": 56,
            "patch_size": 14,
            "out_indices": [1, 2, 4, 5],
            "reshape_hidden_states": False,
            "layerscale_value": 0.5,
        }
        | fields
    )


def depth_anything_config(backbone=None, **fields):
    """A tiny Depth Anything."""
    from transformers import DepthAnythingConfig

    return DepthAnythingConfig(
        backbone_config=backbone or dinov2_config(),
        **{
            "reassemble_hidden_size": 64,
            "patch_size": 14,
            "neck_hidden_sizes": [8, 12, 16, 24],
            "fusion_hidden_size": 16,
            "head_hidden_size": 8,
        }
        | fields,
    )


def dpt_depth(folder: Path, seed: int = 0, **fields):
    """A tiny DPT for depth, saved: the model and its folder."""
    from transformers import DPTForDepthEstimation

    model = randomise(DPTForDepthEstimation(dpt_config(**fields)), seed)
    with torch.no_grad():
        model.head.head[4].bias.fill_(3.0)  # above 0, so that the last ReLU hides nothing
    return model, save(model, folder, {"height": 32, "width": 32})


def of_a_pipeline(model, images: torch.Tensor) -> torch.Tensor:
    """DPT on pictures that are not square: transformers' own parts, with the grid that its forward
    guesses.
    """
    patch = model.config.patch_size
    states = model.dpt(images, output_hidden_states=True).hidden_states[1:]
    picked = [states[index] for index in model.config.backbone_out_indices]
    head_input = model.neck(picked, images.shape[2] // patch, images.shape[3] // patch)
    return model.head(head_input)
