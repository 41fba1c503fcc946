"""Writes a fine-tuned model as a folder for `model.checkpoint`, as in checkpoints/native.py."""

from pathlib import Path

from safetensors.torch import save_file

from vit_perception.checkpoints.native import config_json, preprocessor_json
from vit_perception.heads.classification import kind_of
from vit_perception.training.run_state import write_whole
from vit_perception.training.start import Start

WEIGHTS_FILE = "model.safetensors"


def write_description(folder: Path, start: Start) -> None:
    """Write everything but the weights: sizes, labels, preprocessing, licence.

    Raises:
        OutputError: The folder cannot be written.
    """
    texts = {
        "config.json": config_json(start.model.config, start.labels, kind_of(len(start.labels))),
        "preprocessor_config.json": preprocessor_json(start.rule, start.mean, start.std),
        "README.md": _readme(start),
    }
    for name, text in texts.items():
        write_whole(folder / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))


def write_weights(folder: Path, start: Start) -> None:
    """Write model.safetensors: the present weights of ``start.model``, float32.

    Raises:
        OutputError: The folder cannot be written.
    """
    tensors = {
        name: tensor.detach().to("cpu").contiguous()
        for name, tensor in start.model.state_dict().items()
    }
    write_whole(folder / WEIGHTS_FILE, lambda path: save_file(tensors, path))


def _readme(start: Start) -> str:
    front = f"---\nlicense: {start.license}\n---\n" if start.license else ""
    return (
        f"{front}A Vision Transformer for {len(start.labels)} classes, fine-tuned by "
        "`vit-perception fit` from "
        f"{start.source}.\nUse it with the parameter `model.checkpoint`: this folder.\n"
    )
