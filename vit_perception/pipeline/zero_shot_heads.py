"""Zero-shot heads of the cameras: prompts from the settings through the checkpoint's text tower,
kept on disk.

The vectors depend on the weights, the tokenizer, the labels and the templates alone, so a start
with the same ones needs neither the text tower nor transformers.
"""

import hashlib
import json
from collections.abc import Callable

import numpy as np
from safetensors.numpy import load, save

from vit_perception.checkpoints.clip.text_tower import (
    TOKENIZER_FILES,
    encode_texts,
    tokenizer_paths,
)
from vit_perception.checkpoints.files.opened import Found
from vit_perception.checkpoints.sources import LoadedModel, find
from vit_perception.config.settings import BadSetting, EncoderSettings
from vit_perception.engines.cache.store import cache_folder, digest_of, read_checked, write_checked
from vit_perception.files.atomic import file_sha256
from vit_perception.heads.text_weights import ZeroShotHead, class_embeddings, prompts_of

# Raised when what is stored changes.
FORMAT = 1


def zero_shot_heads(
    settings: EncoderSettings, loaded: LoadedModel, log: Callable[[str], None] = lambda text: None
) -> dict[str, ZeroShotHead]:
    """A head for each camera that has labels and no head of its own; empty where no labels are set.

    Raises BadSetting where the model or its block knows no texts, CheckpointError for what the
    folder lacks.
    """
    wanted = {
        camera.name: camera.zero_shot_labels or settings.zero_shot.labels
        for camera in settings.cameras
        if not camera.head
    }
    wanted = {name: labels for name, labels in wanted.items() if labels}
    if not wanted:
        return {}
    for labels in wanted.values():
        _check(settings, loaded, labels)
    # By the card's source, which names the commit of the hub: the tower beside the weights that
    # were loaded.
    found = find(loaded.card.source)
    heads = {
        labels: _head(found, loaded, labels, settings.zero_shot.templates, log)
        for labels in wanted.values()
    }
    return {name: heads[labels] for name, labels in wanted.items()}


def _check(settings: EncoderSettings, loaded: LoadedModel, labels: tuple[str, ...]) -> None:
    card, config = loaded.card, loaded.model.config
    if card.family in ("openai_clip", "open_clip"):
        raise BadSetting(
            "zero_shot.labels",
            list(labels),
            f"none with {card.name}, whose text tower and tokenizer are "
            f"not read from {card.family} files; set model.checkpoint to the same model as "
            "transformers "
            "has it, e.g. openai/clip-vit-base-patch32",
        )
    if card.family not in TOKENIZER_FILES:
        raise BadSetting(
            "zero_shot.labels",
            list(labels),
            f"none with {card.name}, which is of the family "
            f"{card.family}; only {' and '.join(TOKENIZER_FILES)} checkpoints know texts",
        )
    if len(labels) == 1 and _kind_of(loaded) == "softmax":
        raise BadSetting(
            "zero_shot.labels",
            list(labels),
            f"at least two with {card.name}: its scores are a softmax "
            "over the labels, and that of one alone is 1 for every picture; add what else may be "
            "there",
        )
    if range(config.depth)[settings.model.block] != config.depth - 1:
        raise BadSetting(
            "model.block",
            settings.model.block,
            "-1 with zero_shot.labels: texts are aligned with the last block's features only",
        )
    if config.head != "none":
        raise BadSetting(
            "zero_shot.labels",
            list(labels),
            f"none with {card.name}, which has a classifier in place of "
            "the embedding that texts are aligned with",
        )


def _head(
    found: Found,
    loaded: LoadedModel,
    labels: tuple[str, ...],
    templates: tuple[str, ...],
    log: Callable[[str], None],
) -> ZeroShotHead:
    family = loaded.card.family
    key = {
        "format": FORMAT,
        "weights": loaded.card.weights_sha256,
        "labels": labels,
        "templates": templates,
        "config": hashlib.sha256(json.dumps(found.config, sort_keys=True).encode()).hexdigest(),
        "tokenizer": {name: file_sha256(found.folder / name) for name in tokenizer_paths(found)},
    }
    path = cache_folder().parent / "zero_shot" / f"{digest_of(key)}.safetensors"
    head = _stored(read_checked(path, log), labels, loaded)
    if head is not None:
        log(f"zero-shot: {len(labels)} labels from {path}")
        return head
    log(
        f"zero-shot: {len(labels)} labels in {len(templates)} templates through the text tower of "
        f"{loaded.card.name}"
    )
    texts = encode_texts(found, family, prompts_of(labels, templates))
    vectors = class_embeddings(texts.vectors, len(templates))
    write_checked(
        path,
        save({"texts": vectors, "scale": np.array(texts.scale), "bias": np.array(texts.bias)}),
        log,
    )
    return _made(vectors, texts.scale, texts.bias, labels, loaded)


def _stored(content: bytes, labels: tuple[str, ...], loaded: LoadedModel) -> ZeroShotHead | None:
    """The head of a file's content, which its digest has vouched for; None without one."""
    if not content:
        return None
    held = load(content)
    return _made(held["texts"], float(held["scale"]), float(held["bias"]), labels, loaded)


def _made(
    texts: np.ndarray, scale: float, bias: float, labels: tuple[str, ...], loaded: LoadedModel
) -> ZeroShotHead:
    return ZeroShotHead(labels, texts, scale, bias, loaded.projection, _kind_of(loaded))


def _kind_of(loaded: LoadedModel) -> str:
    return "sigmoid" if loaded.card.family == "siglip" else "softmax"
