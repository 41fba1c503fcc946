"""One frame as named arrays of fixed shape: the columns of a shard. See docs/bags.md."""

from typing import Any

import numpy as np

from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.basis import REDUCED_KIND, pack_group, pack_sequence
from vit_perception.wire.layout import LayoutSource
from vit_perception.wire.monitored import NUMBERS
from vit_perception.wire.records import CameraResult, FrameResult, SampleAtImage
from vit_perception.wire.tensors import TensorFields, encode_tensor, exact_dtype

# Add one if a column is added, removed, or gets another name, shape, dtype or meaning, also one of
# a source: a run that another version began is then not resumed. Version 1 was not recorded.
COLUMNS_VERSION = 2
FEATURES = ("tokens", "embedding", "cls", "patch")
# Depth or segmentation as messages of the node: only bags have them.
DENSE = "dense"
# Patch tokens are rows of the sequence: a column of their own would double the size.
DEFAULT_FEATURES = ("tokens", "embedding", "cls")
STATUS = ("missing", "held", "interpolated")
NO_CLASS = -1
NO_SKEW_NS = -1

Columns = dict[str, Any]  # arrays and numpy's numbers


def as_sent(tensor: np.ndarray, dtype: str) -> np.ndarray:
    """Return ``tensor`` (T, D) as the node sends it as ``dtype``; int8 is (T, D + 4) uint8.

    Raises:
        ValueError: As the wire format does.
    """
    fields: TensorFields = encode_tensor(tensor, dtype)
    kind = np.dtype(np.uint8 if dtype == "int8" else dtype)
    return np.frombuffer(fields.data, kind).reshape(len(tensor), fields.step // kind.itemsize)


class FrameColumns:
    """Turns frames of one pipeline into columns, the same ones in each frame."""

    def __init__(self, pipeline: Pipeline, features: tuple[str, ...]):
        settings = pipeline.settings
        self._features = features
        self._dtype = settings.output.dtype
        self._exact = exact_dtype(self._dtype)
        self._basis = pipeline.parts.basis
        self._width = pipeline.width
        self._patches = pipeline.grid[0] * pipeline.grid[1]
        layout = pipeline.layout()
        self._layout = layout
        self._labels = {
            camera.name: {label: k for k, label in enumerate(camera.labels)}
            for camera in layout.cameras
            if camera.labels
        }
        self._top_k = {
            name: min(settings.output.top_k, len(labels)) for name, labels in self._labels.items()
        }
        self._cameras = [c.name for c in settings.cameras]
        self._samples = layout.samples
        self._monitored = pipeline.parts.monitored

    def of(self, result: FrameResult, extras: dict[str, Any]) -> Columns:
        """Return the columns of one frame, without a leading axis.

        ``extras``, the source's own columns, come last.
        """
        columns: Columns = {"stamp_ns": np.int64(result.stamp_ns), "mask": result.sequence.mask}
        if "tokens" in self._features:
            tokens = result.sequence.tokens
            columns["tokens"] = (
                pack_sequence(tokens, self._layout, self._basis)
                if self._basis
                else as_sent(tokens, self._dtype)
            )
            columns |= {g.kind: as_sent(g.tokens, self._exact) for g in result.apart}
        if result.history_stamps_ns:
            columns["history_stamps_ns"] = np.array(result.history_stamps_ns, np.int64)
        if "embedding" in self._features:
            columns["embedding"] = as_sent(result.embedding[None], self._exact)[0]
        for name in self._cameras:
            columns |= self._of_camera(name, result.cameras.get(name))
        if "patch" in self._features:
            # Of sources with a token for each patch, which are always in the sequence.
            columns |= {
                group.name.replace("/", "."): as_sent(group.masked, self._dtype)
                for group in result.sequence.groups
                if group.grid and group.kind != "patch"
            }
        for name in self._monitored:
            change = result.changes.get(name)
            numbers = change.numbers if change else [np.nan] * len(NUMBERS)
            columns[f"{name}.change"] = np.array(numbers, np.float64)
        for source in self._samples:
            columns |= self._of_sample(source, result.samples[source.name])
        return columns | {name: np.asarray(value) for name, value in extras.items()}

    def _of_camera(self, name: str, camera: CameraResult | None) -> Columns:
        """An absent camera has the stamp 0 and zeros; its tokens are masked out."""
        columns: Columns = {f"{name}.stamp_ns": np.int64(camera.image.stamp_ns if camera else 0)}
        for feature, shape in (("cls", (1, self._width)), ("patch", (self._patches, self._width))):
            if feature in self._features:
                tokens = np.zeros(shape, np.float32)
                if camera:
                    tokens = camera.cls_token[None] if feature == "cls" else camera.patch_tokens
                sent = (
                    pack_group(tokens, feature, self._basis)
                    if self._basis and feature == REDUCED_KIND
                    else as_sent(tokens, self._dtype)
                )
                columns[f"{name}.{feature}"] = sent[0] if feature == "cls" else sent
        if name in self._labels:
            columns |= self._of_classes(name, camera)
        return columns

    def _of_classes(self, name: str, camera: CameraResult | None) -> Columns:
        indices = np.full(self._top_k[name], NO_CLASS, np.int32)
        scores = np.zeros(self._top_k[name], np.float64)
        for k, scored in enumerate(camera.classes if camera else ()):
            indices[k] = self._labels[name][scored.class_id]
            scores[k] = scored.score
        return {f"{name}.class_index": indices, f"{name}.score": scores}

    @staticmethod
    def _of_sample(source: LayoutSource, sample: SampleAtImage[Any]) -> Columns:
        """A missing sample is NaN."""
        values = np.full(source.count, np.nan)
        if sample.value is not None:
            values = np.asarray(sample.value.numbers, np.float64)
        column = f"{source.name}.{source.kind}"
        return {
            column: values,
            f"{column}_status": np.int8(STATUS.index(sample.status)),
            f"{source.name}.skew_ns": np.int64(
                NO_SKEW_NS if sample.skew_ns is None else sample.skew_ns
            ),
        }
