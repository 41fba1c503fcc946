"""What an engine is opened from: the encoder graph, what identifies it, and its ONNX file when one is needed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from vit_perception.engines.cache import cached, digest_of

if TYPE_CHECKING:
    from torch import nn

ONNX_NAME = "model.onnx"


@dataclass(frozen=True, eq=False)
class EngineSource:
    """``graph``, a float32 :class:`~vit_perception.model.encoder_graph.EncoderGraph`, for a static ``batch``.

    ``log`` hears of exports; ``folder`` None is the usual cache.
    """

    graph: "nn.Module"
    batch: int
    log: Callable[[str], None] = field(default=lambda text: None)
    folder: Path | None = None

    @cached_property
    def graph_key(self) -> dict:
        """What the graph's numbers depend on, whatever the batch and the software."""
        from vit_perception.export.reference import graph_key
        return graph_key(self.graph)

    @cached_property
    def key(self) -> dict:
        """What the ONNX file depends on: the graph, the batch, and the versions that write it."""
        # Versions from the packages' metadata: onnxscript alone takes half a second to import.
        writers = {name: metadata.version(name) for name in ("torch", "onnx", "onnxscript")}
        return {"kind": "onnx", **self.graph_key, "batch": self.batch, **writers}

    @property
    def graph_digest(self) -> str:
        """A short name of the graph's numbers; equal for every batch."""
        return digest_of(self.graph_key)

    def onnx_file(self) -> Path:
        """The ONNX file, exported into the cache at the first call. Raises CacheError; the exporter's own errors."""
        return cached(self.key, self._export, self.log, self.folder) / ONNX_NAME

    def _export(self, folder: Path) -> None:
        from vit_perception.export.onnx_export import export_onnx
        self.log(f"exporting the model to ONNX for batch {self.batch}, once; this takes some seconds")
        export_onnx(self.graph, self.batch, folder / ONNX_NAME)
