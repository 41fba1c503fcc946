"""One frame as named arrays of fixed shape: the columns of a shard. Names and meaning:
docs/bags.md.
"""

from typing import Any

import numpy as np

from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.layout import LayoutSource
from vit_perception.wire.records import CameraResult, FrameResult, SampleAtImage
from vit_perception.wire.tensors import TensorFields, encode_tensor

# Add one where a column gets another name, shape, dtype or meaning, or comes or goes, also one of a
# source's own: a run that another version began is then not gone on with. Version 1 did not say so.
COLUMNS_VERSION = 2
FEATURES = ("tokens", "embedding", "cls", "patch")
# Depth or segmentation, the node's messages: a bag alone has them.
DENSE = "dense"
# Patch and CLS tokens are rows of the sequence: a column of their own would double what is stored.
DEFAULT_FEATURES = ("tokens", "embedding", "cls")
STATUS = ("missing", "held", "interpolated")
NO_CLASS, NO_SKEW_NS = -1, -1

Columns = dict[str, Any]  # arrays and numpy's numbers


def as_sent(tensor: np.ndarray, dtype: str) -> np.ndarray:
    """``tensor`` (T, D) with the very values that the node sends as ``dtype``. Raises ValueError as
    the wire does.
    """
    fields: TensorFields = encode_tensor(tensor, dtype)
    return np.frombuffer(fields.data, np.dtype(dtype)).reshape(tensor.shape)


class FrameColumns:
    """Turns frames of one pipeline into columns; every frame has the same ones, of the same shapes
    and dtypes.
    """

    def __init__(self, pipeline: Pipeline, features: tuple[str, ...]):
        settings = pipeline.settings
        self._features = features
        self._dtype = settings.output.dtype
        self._width = pipeline.width
        self._patches = pipeline.grid[0] * pipeline.grid[1]
        layout = pipeline.layout()
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

    def of(self, result: FrameResult, extras: dict[str, Any]) -> Columns:
        """The columns of one frame, without a leading axis; ``extras`` (the source's own) come
        last.
        """
        columns: Columns = {"stamp_ns": np.int64(result.stamp_ns), "mask": result.sequence.mask}
        if "tokens" in self._features:
            columns["tokens"] = as_sent(result.sequence.tokens, self._dtype)
        if "embedding" in self._features:
            columns["embedding"] = as_sent(result.embedding[None], self._dtype)[0]
        for name in self._cameras:
            columns |= self._of_camera(name, result.cameras.get(name))
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
                sent = as_sent(tokens, self._dtype)
                columns[f"{name}.{feature}"] = sent[0] if feature == "cls" else sent
        if name in self._labels:
            columns |= self._of_classes(name, camera)
        return columns

    def _of_classes(self, name: str, camera: CameraResult | None) -> Columns:
        indices = np.full(self._top_k[name], NO_CLASS, np.int32)
        scores = np.zeros(self._top_k[name], np.float64)
        for k, scored in enumerate(camera.classes if camera else ()):
            indices[k], scores[k] = self._labels[name][scored.class_id], scored.score
        return {f"{name}.class_index": indices, f"{name}.score": scores}

    @staticmethod
    def _of_sample(source: LayoutSource, found: SampleAtImage[Any]) -> Columns:
        """A missing sample is NaN."""
        values = np.full(source.count, np.nan)
        if found.value is not None:
            values = np.asarray(found.value.numbers, np.float64)
        column = f"{source.name}.{source.kind}"
        return {
            column: values,
            f"{column}_status": np.int8(STATUS.index(found.status)),
            f"{source.name}.skew_ns": np.int64(
                NO_SKEW_NS if found.skew_ns is None else found.skew_ns
            ),
        }
