"""CLIP's original files, written and read by OpenAI's own code, and open_clip's folders, read by
open_clip.
"""

import json
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from tools.checkpoint_parity import torchvision_ops
from tools.checkpoint_parity.rows import Origin, Row, compare, randomise, timed

torchvision_ops.declare()
import clip
import clip.model
import open_clip
from safetensors.torch import save_file

# Numbers that OpenAI's archives hold beside the weights.
NUMBERS = ("input_resolution", "context_length", "vocab_size")
# (name, side in px, patch in px, width, blocks, as a TorchScript archive)
OPENAI = (
    ("ViT-B/32, archive", 224, 32, 768, 12, True),
    ("ViT-B/16, state dict", 224, 16, 768, 12, False),
    ("ViT-L/14@336px, 4 blocks", 336, 14, 1024, 4, False),
)
# (open_clip's name, blocks kept of the image tower or None, what is special)
OPEN_CLIP = (
    ("ViT-B-32", None, "GELU"),
    ("ViT-B-32-quickgelu", None, "quick GELU"),
    ("ViT-H-14", 2, "heads of 80 channels"),
    ("ViT-H-14-CLIPA", 2, "mean pooling in front of the norm"),
)


def rows() -> list[Row]:
    """One row a model; OpenAI's are in half precision, as published."""
    return [*(_openai(*model) for model in OPENAI), *(_open_clip(*model) for model in OPEN_CLIP)]


def _openai(what: str, side: int, patch: int, width: int, blocks: int, as_archive: bool) -> Row:
    torch.manual_seed(0)
    made = randomise(clip.model.CLIP(512, side, blocks, width, patch, 77, 49408, 64, 1, 1))
    clip.model.convert_weights(made)
    numbers = {name: torch.tensor(value) for name, value in zip(NUMBERS, (side, 77, 49408))}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ViT.pt"
        if as_archive:
            del made.context_length, made.vocab_size
            for name, number in numbers.items():
                made.register_buffer(name, number)
            example = (
                torch.zeros(1, 3, side, side, dtype=torch.float16),
                torch.zeros(1, 77, dtype=torch.int64),
            )
            torch.jit.trace(made, example, check_trace=False).save(str(path))
        else:
            torch.save({**made.state_dict(), **numbers}, path)
        (model, transform), load_s = timed(lambda: clip.load(str(path), device="cpu"))
        origin = Origin(
            f"clip-anytorch {version('clip-anytorch')}",
            lambda images: _run_openai(model.visual, images),
            lambda picture: transform(picture).numpy(),
            load_s,
        )
        return compare(
            "openai_clip",
            what,
            path,
            origin,
            "its code norms the CLS token alone; patch tokens were normed for the comparison",
        )


@torch.inference_mode()
def _run_openai(visual: torch.nn.Module, images: np.ndarray) -> dict[str, np.ndarray]:
    kept = []
    handle = visual.transformer.register_forward_hook(lambda module, given, out: kept.append(out))
    projected = visual(torch.from_numpy(images))
    handle.remove()
    tokens = visual.ln_post(kept[0].permute(1, 0, 2))
    return {
        "cls_token": tokens[:, 0].numpy(),
        "patch_tokens": tokens[:, 1:].numpy(),
        "projected": projected.numpy(),
    }


def _open_clip(name: str, blocks: int | None, special: str) -> Row:
    torch.manual_seed(0)
    config = open_clip.get_model_config(name)
    if blocks is not None:
        config["vision_cfg"]["layers"] = blocks
    config["text_cfg"] |= {"layers": 1, "width": 64, "heads": 1}
    preprocess = {
        "mean": list(open_clip.OPENAI_DATASET_MEAN),
        "std": list(open_clip.OPENAI_DATASET_STD),
    }
    if "CLIPA" in name:  # as in its published open_clip_config.json
        preprocess |= {"interpolation": "bilinear", "resize_mode": "squash"}
    made = randomise(
        open_clip.CLIP(**{key: value for key, value in config.items() if key != "custom_text"})
    )
    with tempfile.TemporaryDirectory() as folder:
        save_file(
            {key: tensor.contiguous() for key, tensor in made.state_dict().items()},
            Path(folder) / "open_clip_model.safetensors",
        )
        config = {
            "model_cfg": {key: value for key, value in config.items() if key != "custom_text"},
            "preprocess_cfg": preprocess,
        }
        (Path(folder) / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
        (model, transform), load_s = timed(
            lambda: open_clip.create_model_from_pretrained(f"local-dir:{folder}")
        )
        model.visual.output_tokens = True
        origin = Origin(
            f"open_clip {open_clip.__version__}",
            lambda images: _run_open_clip(model.visual, images),
            lambda picture: transform(picture).numpy(),
            load_s,
        )
        row = compare("open_clip", name, Path(folder), origin)
    return replace(row, note=f"{special}; {blocks} blocks" if blocks else special)


@torch.inference_mode()
def _run_open_clip(visual: torch.nn.Module, images: np.ndarray) -> dict[str, np.ndarray]:
    projected, tokens = visual(torch.from_numpy(images))
    return {"patch_tokens": tokens.numpy(), "projected": projected.numpy()}
