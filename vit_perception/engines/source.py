"""What an engine is opened from: the encoder graph, what identifies it, and its ONNX files when one is needed."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vit_perception.engines.cache import cached, digest_of

if TYPE_CHECKING:
    from torch import nn

    from vit_perception.types import EncoderOutput

ONNX_NAME = "model.onnx"


def digest_of_images(images: np.ndarray) -> str:
    """SHA-256 of the shape and the bytes of ``images``, as hexadecimal digits."""
    digest = hashlib.sha256(f"{images.shape}".encode())
    digest.update(np.ascontiguousarray(images))
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class EngineSource:
    """``graph``, a float32 :class:`~vit_perception.model.encoder_graph.EncoderGraph`, for ``batch`` images.

    ``batch`` None leaves the batch open in the ONNX file. ``log`` hears of exports and builds, ``progress`` (what is
    built, the part of it that is done, 0 to 1) of each percent; ``folder`` None is the usual cache. ``calibration``
    reads the images (n, 3, H, W) uint8 that int8 is calibrated on, where the user named some; engines know nothing of
    bags and pictures. ``made`` grows by one for each file that is asked of the cache: whether it had to be made.
    """

    graph: "nn.Module"
    batch: int | None
    log: Callable[[str], None] = field(default=lambda text: None)
    folder: Path | None = None
    calibration: Callable[[], np.ndarray] | None = None
    progress: Callable[[str, float], None] = field(default=lambda what, fraction: None)
    made: list[bool] = field(default_factory=list)
    _references: dict[str, "EncoderOutput"] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def graph_key(self) -> dict:
        """What the graph's numbers depend on, whatever the batch and the software."""
        from vit_perception.export.reference import graph_key
        return graph_key(self.graph)

    def key(self, precision: str = "float32", attention: str = "half") -> dict:
        """What an ONNX file depends on: the graph, the batch, the precision and the versions that write it."""
        # Versions from the packages' metadata: onnxscript alone takes half a second to import.
        writers = {name: metadata.version(name) for name in ("torch", "onnx", "onnxscript")}
        form = {} if precision == "float32" else {"precision": precision, "attention": attention}
        return {"kind": "onnx", **self.graph_key, "batch": self.batch, **form, **writers}

    @property
    def graph_digest(self) -> str:
        """A short name of the graph's numbers; equal for every batch."""
        return digest_of(self.graph_key)

    def reference(self, images: np.ndarray) -> "EncoderOutput":
        """The float32 model's outputs for ``images`` (n, 3, H, W) uint8, which engines are judged by.

        Computed once: several engines are judged while ``auto`` looks for one. They go with this object, since a
        dense ViT-L's are 150 MB.
        """
        from vit_perception.export.reference import reference_outputs
        name = digest_of_images(images)
        if name not in self._references:
            self._references[name] = reference_outputs(self.graph, images)
        return self._references[name]

    def onnx_file(self, precision: str = "float32", attention: str = "half") -> Path:
        """The ONNX file, exported into the cache at its first call; see ``export_onnx`` for the arguments.

        Raises CacheError, and the exporter's own errors.
        """
        def export(folder: Path) -> None:
            from vit_perception.export.onnx_export import export_onnx
            self.log(f"exporting the model to ONNX in {precision} for batch {self.batch or 'of any size'}, once; "
                     "this takes some seconds")
            export_onnx(self.graph, self.batch, folder / ONNX_NAME, precision, attention)

        return self.cached(self.key(precision, attention), export) / ONNX_NAME

    def cached(self, key: dict, build: Callable[[Path], None]) -> Path:
        """The cache's entry for ``key``, as :func:`vit_perception.engines.cache.cached`, noted in ``made``."""
        self.made.append(False)

        def build_and_say_so(folder: Path) -> None:
            self.made[-1] = True
            build(folder)

        return cached(key, build_and_say_so, self.log, self.folder)
