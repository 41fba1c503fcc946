"""Classification heads fitted on encoder features (``vit-perception fit``), and scores of logits.

numpy only, so that a head is the same for every engine.
"""

import functools
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import MOST_SHOWN, InvalidValue, UserError, printable
from vit_perception.files.regular_files import IrregularFile, check_regular, read_text_bounded
from vit_perception.files.safetensors_header import read_header
from vit_perception.model.model_card import check_labels
from vit_perception.wire.records import ClassScore

FEATURES = ("cls", "mean", "cls_mean")
WEIGHTS_FILE = "head.safetensors"
LABELS_FILE = "labels.json"
_TENSORS = ("weight", "bias", "mean", "scale")
# Raised when what is stored changes, or what the encoder's digest is made of.
FORMAT = 2


class OutdatedHead(InvalidValue):
    """A head of an earlier version; it does not say which encoder it fits."""


def softmax(logits: np.ndarray) -> np.ndarray:
    """Compute the softmax over the last axis, float32."""
    logits = np.asarray(logits, dtype=np.float32)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Compute the sigmoid, float32: scores of classes that do not exclude each other (SigLIP)."""
    return 1.0 / (1.0 + np.exp(-np.asarray(logits, dtype=np.float32)))


def scores_of(logits: np.ndarray, kind: str) -> np.ndarray:
    """Compute scores by ``kind``, ``softmax`` or ``sigmoid``; float32."""
    return sigmoid(logits) if kind == "sigmoid" else softmax(logits)


def kind_of(classes: int, kind: str = "softmax") -> str:
    """Give ``kind``, but ``sigmoid`` for a single class: a softmax over one logit is always 1."""
    return "sigmoid" if classes == 1 else kind


def features_of(cls_token: np.ndarray, patch_tokens: np.ndarray, feature: str) -> np.ndarray:
    """Return what a head gets of one image: CLS token (D,), mean patch token (D,), or both (2 D,).

    ``cls_token`` is (D,), ``patch_tokens`` (P, D).

    Raises:
        ValueError: ``feature`` is unknown.
    """
    if feature not in FEATURES:
        raise InvalidValue(f"feature is {feature!r}; accepted: {', '.join(FEATURES)}")
    if feature == "cls":
        return cls_token
    mean = patch_tokens.mean(axis=0)
    return mean if feature == "mean" else np.concatenate([cls_token, mean])


@dataclass(frozen=True, eq=False)
class Head:
    """A linear classifier of K classes on standardised features of width F.

    scores = softmax(weight · (feature − mean) / scale + bias), with one class the sigmoid.

    Raises:
        ValueError: A field does not fit.
    """

    # The K class names.
    labels: tuple[str, ...]
    # (K, F) float32.
    weight: np.ndarray
    # (K,) float32.
    bias: np.ndarray
    # One of FEATURES.
    feature: str = "cls"
    # (F,) float32; zeros if not given.
    mean: np.ndarray | None = None
    # (F,) float32; ones if not given.
    scale: np.ndarray | None = None
    # Digest of the encoder that it was fitted on (weights, configuration, block, preprocessing);
    # "" if unknown.
    encoder_sha256: str = ""

    def __post_init__(self):
        classes = len(self.labels)
        width = np.shape(self.weight)[-1] if np.ndim(self.weight) == 2 else 0
        defaults = {"mean": np.zeros(width), "scale": np.ones(width)}
        shapes = {
            "weight": (classes, width),
            "bias": (classes,),
            "mean": (width,),
            "scale": (width,),
        }
        if not classes:
            raise InvalidValue("a head has no labels; accepted: at least one")
        check_labels(self.labels, "a head")
        if self.feature not in FEATURES:
            raise InvalidValue(
                f"feature of a head is {self.feature!r}; accepted: {', '.join(FEATURES)}"
            )
        for name, shape in shapes.items():
            given = getattr(self, name)
            values = np.ascontiguousarray(
                defaults[name] if given is None else given, dtype=np.float32
            )
            if values.shape != shape:
                raise InvalidValue(
                    f"{name} of a head has shape {values.shape}; accepted: {shape} for {classes} "
                    "labels"
                )
            if not np.isfinite(values).all() or (name == "scale" and values.min() <= 0):
                accepted = "finite numbers above 0" if name == "scale" else "finite numbers"
                raise InvalidValue(
                    f"{name} of a head holds {values.min()} to {values.max()}; accepted: {accepted}"
                )
            object.__setattr__(self, name, values)
        object.__setattr__(self, "labels", tuple(self.labels))

    @property
    def kind(self) -> str:
        """What makes scores of its logits: ``softmax``, or ``sigmoid`` for one class."""
        return kind_of(len(self.labels))

    def scores(self, cls_token: np.ndarray, patch_tokens: np.ndarray) -> np.ndarray:
        """Compute scores (K,) float32 of one image from its CLS token (D,) and patch tokens (P, D).

        Raises:
            ValueError: The head was fitted on features of another width.
        """
        features = features_of(cls_token, patch_tokens, self.feature)
        if features.shape != self.mean.shape:
            raise InvalidValue(
                f"the encoder's {self.feature} features are of width {features.shape[0]}; accepted "
                f"by this head: {len(self.mean)}, the width that it was fitted on"
            )
        return scores_of(self.weight @ ((features - self.mean) / self.scale) + self.bias, self.kind)


def save_head(path: str | Path, head: Head) -> None:
    """Write ``head`` into a folder: head.safetensors and labels.json (labels, feature, encoder)."""
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    weights = save({name: getattr(head, name) for name in _TENSORS})
    write_whole(folder / WEIGHTS_FILE, lambda file: file.write_bytes(weights))
    fields = {
        "format": FORMAT,
        "labels": list(head.labels),
        "feature": head.feature,
        "encoder_sha256": head.encoder_sha256,
    }
    text = json.dumps(fields, ensure_ascii=False, indent=1)
    write_whole(folder / LABELS_FILE, lambda file: file.write_text(text + "\n", "utf-8"))


def load_head(path: str | Path) -> Head:
    """Read the head in a folder.

    Raises:
        OutdatedHead: It is of an earlier version.
        ValueError: A file is missing or holds something else.
    """
    weights_path = Path(path) / WEIGHTS_FILE
    labels_path = Path(path) / LABELS_FILE
    for file in (weights_path, labels_path):
        try:
            check_regular(file)
        except FileNotFoundError as error:
            raise InvalidValue(
                f"head {path}: no file {file.name}; accepted: a folder with {WEIGHTS_FILE} and "
                f"{LABELS_FILE}"
            ) from error
    fields = _fields_of(labels_path)
    try:
        header = read_header(weights_path)
        if sorted(header.shapes) != sorted(_TENSORS):
            raise InvalidValue(
                f"{weights_path} holds {', '.join(sorted(header.shapes))[:200]}; accepted: "
                f"{', '.join(_TENSORS)}"
            )
        tensors = load_file(weights_path)
    except UserError:
        raise
    except Exception as error:  # safetensors has a class of its own for each broken header
        raise InvalidValue(
            f"{weights_path}: {str(error)[:200]}; accepted: a safetensors file"
        ) from error
    try:
        return Head(
            labels=tuple(fields["labels"]),
            feature=fields["feature"],
            encoder_sha256=fields.get("encoder_sha256", ""),
            **tensors,
        )
    except (ValueError, TypeError) as error:
        raise InvalidValue(f"{path}: {error}") from error


def _fields_of(path: Path) -> dict[str, Any]:
    """Read labels.json: a list of texts ``labels``, texts ``feature`` and ``encoder_sha256``."""
    try:
        fields = json.loads(read_text_bounded(path))
        labels = fields["labels"]
        digest = fields.get("encoder_sha256", "")
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise TypeError("labels are no list of strings")
        if not isinstance(fields["feature"], str) or not isinstance(digest, str):
            raise TypeError("feature or encoder_sha256 is no string")
    except IrregularFile:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidValue(
            f'{path}: {error!r:.200}; accepted: {{"labels": [names], "feature": one of '
            f"{', '.join(FEATURES)}}}"
        ) from error
    if digest and fields.get("format") != FORMAT:
        raise OutdatedHead(
            f"{path} is of format {fields.get('format', 1)!r:.20}, of an earlier version, whose "
            "digest of the encoder leaves out the model's configuration, so that it would also fit "
            f"another encoder; accepted: format {FORMAT}: fit it again with `vit-perception fit`"
        )
    return fields


def top_classes(scores: np.ndarray, labels: tuple[str, ...], k: int) -> tuple[ClassScore, ...]:
    """Name the ``k`` best classes of ``scores`` (K,), best first; all if there are fewer.

    A name that several classes share is followed by ``#<index>`` for each of them.
    """
    if len(scores) != len(labels):
        raise ValueError(
            f"there are {len(scores)} scores and {len(labels)} labels; accepted: as many of each"
        )
    best = np.argsort(-scores, kind="stable")[:k]
    names = distinct_names(tuple(labels))
    return tuple(ClassScore(names[index], float(scores[index])) for index in best)


@functools.lru_cache(maxsize=16)
def distinct_names(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Put ``#<index>`` after each name that occurs more than once, or would then.

    Characters that a message or terminal cannot show are escaped; long labels are cut.
    """
    labels = tuple(printable(label, MOST_SHOWN, keep="") for label in labels)
    count = Counter(labels)
    names = tuple(
        f"{name}#{index}" if count[name] > 1 else name for index, name in enumerate(labels)
    )
    return (
        names
        if len(set(names)) == len(names)
        else tuple(f"{name}#{index}" for index, name in enumerate(labels))
    )
