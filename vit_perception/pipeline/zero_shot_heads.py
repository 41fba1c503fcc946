"""Zero-shot heads of the cameras: prompts from the settings through the checkpoint's text tower.

The text vectors depend on weights, tokenizer, labels and templates alone. They are cached, so a
second start needs neither the text tower nor transformers.
"""

import hashlib
import json
from collections.abc import Sequence

import numpy as np
from safetensors.numpy import load, save

from vit_perception.checkpoints.clip.text_tower import (
    TOKENIZER_FILES,
    TextVectors,
    encode_texts,
    tokenizer_paths,
)
from vit_perception.checkpoints.files.checkpoint_files import CheckpointFiles
from vit_perception.checkpoints.sources import LoadedModel
from vit_perception.config.settings import BadSetting, EncoderSettings
from vit_perception.engines.cache.store import cache_folder, digest_of, read_checked, write_checked
from vit_perception.files.atomic import file_sha256
from vit_perception.files.log import SILENT, Log
from vit_perception.heads.text_weights import ZeroShotHead, class_embeddings, prompts_of

# Raised when what is stored changes.
FORMAT = 1


def zero_shot_heads(
    settings: EncoderSettings, loaded: LoadedModel, log: Log = SILENT
) -> dict[str, ZeroShotHead]:
    """Make a head for each camera that has labels and no head of its own.

    Raises:
        BadSetting: The model or its block knows no texts.
        CheckpointError: A file of the tokenizer or the text tower is missing.
    """
    wanted = {
        camera.name: camera.zero_shot_labels or settings.zero_shot.labels
        for camera in settings.cameras
        if not camera.head
    }
    heads: dict[tuple[str, ...], ZeroShotHead] = {}
    for labels in filter(None, wanted.values()):
        _check(settings, loaded, labels)
    for labels in filter(None, wanted.values()):
        if labels not in heads:
            heads[labels] = _head(loaded, labels, settings.zero_shot.templates, log)
    return {name: heads[labels] for name, labels in wanted.items() if labels}


def encoder_of_texts(settings: EncoderSettings, loaded: Sequence[LoadedModel]) -> int:
    """Return the index of the first checkpoint that knows texts; 0 if none does, or none need.

    What is wrong with the first one is then said by :func:`zero_shot_heads`.
    """
    lists = [settings.zero_shot.labels, *(c.zero_shot_labels for c in settings.cameras)]
    wanted = list(filter(None, lists))
    for index, each in enumerate(loaded):
        if all(_accepted_labels(each, labels) is None for labels in wanted):
            return index
    return 0


def _check(settings: EncoderSettings, loaded: LoadedModel, labels: tuple[str, ...]) -> None:
    depth = loaded.model.config.depth
    accepted = _accepted_labels(loaded, labels)
    if accepted is not None:
        raise BadSetting("zero_shot.labels", list(labels), accepted)
    if range(depth)[settings.model.block] != depth - 1:
        raise BadSetting(
            "model.block",
            settings.model.block,
            "-1 with zero_shot.labels: texts are aligned with the last block's features only",
        )


def _accepted_labels(loaded: LoadedModel, labels: tuple[str, ...]) -> str | None:
    """Say what is accepted in place of ``labels``, None if they are."""
    card = loaded.card
    if card.family in ("openai_clip", "open_clip"):
        return (
            f"none with {card.name}, whose text tower and tokenizer are not read from "
            f"{card.family} files; set model.checkpoint to the same model as transformers has it, "
            "e.g. openai/clip-vit-base-patch32"
        )
    if card.family not in TOKENIZER_FILES:
        return (
            f"none with {card.name}, which is of the family {card.family}; only "
            f"{', '.join(TOKENIZER_FILES)} checkpoints know texts"
        )
    if loaded.model.config.head != "none":
        return (
            f"none with {card.name}, which has a classifier in place of the embedding that texts "
            "are aligned with"
        )
    if len(labels) == 1 and _kind_of(loaded) == "softmax":
        return (
            f"at least two with {card.name}: its scores are a softmax over the labels, and that "
            "of one alone is 1 for every picture; add what else may be there"
        )
    return None


def _head(
    loaded: LoadedModel,
    labels: tuple[str, ...],
    templates: tuple[str, ...],
    log: Log,
) -> ZeroShotHead:
    key = _cache_key(loaded.files, loaded, labels, templates)
    path = cache_folder().parent / "zero_shot" / f"{digest_of(key)}.safetensors"
    stored = read_checked(path, log)
    if stored:
        log.info(f"zero-shot: {len(labels)} labels from {path}")
        held = load(stored)
        texts = TextVectors(held["texts"], float(held["scale"]), float(held["bias"]))
    else:
        log.info(
            f"zero-shot: {len(labels)} labels in {len(templates)} templates through the text tower "
            f"of {loaded.card.name}"
        )
        prompts = encode_texts(loaded.files, loaded.card.family, prompts_of(labels, templates))
        vectors = class_embeddings(prompts.vectors, len(templates))
        texts = TextVectors(vectors, prompts.scale, prompts.bias)
        numbers = {"scale": np.array(texts.scale), "bias": np.array(texts.bias)}
        write_checked(path, save({"texts": vectors, **numbers}), log)
    return ZeroShotHead(
        labels=labels,
        texts=texts.vectors,
        scale=texts.scale,
        bias=texts.bias,
        projection=loaded.projection,
        kind=_kind_of(loaded),
    )


def _cache_key(
    files: CheckpointFiles,
    loaded: LoadedModel,
    labels: tuple[str, ...],
    templates: tuple[str, ...],
) -> dict:
    return {
        "format": FORMAT,
        "weights": loaded.card.weights_sha256,
        "labels": labels,
        "templates": templates,
        "config": hashlib.sha256(json.dumps(files.config, sort_keys=True).encode()).hexdigest(),
        "tokenizer": {name: file_sha256(files.folder / name) for name in tokenizer_paths(files)},
    }


def _kind_of(loaded: LoadedModel) -> str:
    return "sigmoid" if loaded.card.family == "siglip" else "softmax"
