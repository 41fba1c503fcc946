"""What an engine is opened from: the encoder graph, its key in the cache, and its ONNX files."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vit_perception.engines.building import memory
from vit_perception.engines.building.child import call_in_child
from vit_perception.engines.cache.store import Cached, cached, digest_of
from vit_perception.files.log import SILENT, Log

if TYPE_CHECKING:
    from torch import nn

    from vit_perception.engines.cache.engine_file import EngineFile
    from vit_perception.wire.records import EncoderOutput

ONNX_NAME = "model.onnx"
_GRAPH_NAME = "graph.pt"


def digest_of_images(images: np.ndarray) -> str:
    """Return SHA-256 of the shape and the bytes of ``images``, as hexadecimal digits."""
    digest = hashlib.sha256(f"{images.shape}".encode())
    digest.update(np.ascontiguousarray(images))
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class EngineSource:
    """One encoder graph for one batch, with the cache of the files that are made from it."""

    # A float32 vit_perception.engines.encoder_graph.EncoderGraph.
    graph: "nn.Module"
    # Images per run; None leaves the batch open in the ONNX file.
    batch: int | None
    # Gets what exports and builds say.
    log: Log = SILENT
    # Of the cache; None is the user's.
    folder: Path | None = None
    # Reads the images (n, 3, H, W) uint8 for int8, if the user named some. Engines know nothing
    # about bags and image files.
    calibration: Callable[[], np.ndarray] | None = None
    # Whether an export or a build is refused if less memory is free than it takes.
    check_memory: bool = True
    # An engine that was built elsewhere and takes the place of a build.
    carried: "EngineFile | None" = None
    _references: dict[str, "EncoderOutput"] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def graph_key(self) -> dict:
        """What the graph's outputs depend on, apart from the batch and the software."""
        from vit_perception.engines.reference import graph_key

        return graph_key(self.graph)

    def key(self, precision: str = "float32", attention: str = "half") -> dict:
        """Return what an ONNX file depends on.

        This is the graph, the batch, the precision, and the versions of what writes the file.
        """
        # Versions from the packages' metadata: onnxscript alone takes half a second to import.
        writers = {name: metadata.version(name) for name in ("torch", "onnx", "onnxscript")}
        form = {} if precision == "float32" else {"precision": precision, "attention": attention}
        return {"kind": "onnx", **self.graph_key, "batch": self.batch, **form, **writers}

    @property
    def graph_digest(self) -> str:
        """A digest of the graph's key; equal for every batch."""
        return digest_of(self.graph_key)

    def reference(self, images: np.ndarray) -> "EncoderOutput":
        """Return the float32 model's outputs for ``images`` (n, 3, H, W) uint8.

        They are computed once, because ``auto`` may compare several engines with them. They are
        freed with this object: those of a dense ViT-L take 150 MB.
        """
        from vit_perception.engines.reference import reference_outputs

        name = digest_of_images(images)
        if name not in self._references:
            self._references[name] = reference_outputs(self.graph, images)
        return self._references[name]

    def onnx_file(
        self, precision: str = "float32", attention: str = "half", apart: bool = False
    ) -> Cached:
        """Return the ONNX file, which the first call exports into the cache.

        The first two arguments are those of ``export_onnx``. With ``apart`` the export runs in a
        process of its own. This costs a few seconds, and gives back all memory of the export.

        Raises:
            CacheError: The cache cannot be used.
            EngineError: Less memory is free than the process needs.
            Exception: What the exporter itself raises.
        """

        def export(folder: Path) -> None:
            doing = (
                f"exporting the model to ONNX in {precision} for batch "
                f"{self.batch or 'of any size'}"
            )
            self.log.info(f"{doing}, once")
            started_s = time.monotonic()
            if apart:
                if self.check_memory:
                    memory.check(
                        doing, memory.export_bytes(memory.weights_of(self.graph), precision)
                    )
                took_bytes = export_apart(
                    self.graph,
                    self.batch,
                    folder / ONNX_NAME,
                    precision,
                    attention,
                    doing,
                    self.log,
                )
                self.log.info(f"{doing}: done, in up to {memory.gib(took_bytes)} of memory")
                return
            from vit_perception.engines.onnx_export import export_onnx

            export_onnx(self.graph, self.batch, folder / ONNX_NAME, precision, attention)
            self.log.info(f"{doing}: done in {time.monotonic() - started_s:.1f} s")

        entry = self.cached(self.key(precision, attention), export)
        return Cached(entry.path / ONNX_NAME, entry.was_cached)

    def cached(self, key: dict, build: Callable[[Path], None]) -> Cached:
        """Return the cache's entry for ``key``: :func:`.cache.store.cached`."""
        return cached(key, build, self.log, self.folder)


def export_apart(
    graph: "nn.Module",
    batch: int | None,
    path: Path,
    precision: str,
    attention: str,
    doing: str,
    log: Log,
) -> int:
    """Run ``export_onnx`` in a process of its own; return the most memory it took, in bytes.

    ``doing`` names the work in messages. The weights go through a file next to ``path``, whose
    pages the system can take back. It raises what ``export_onnx`` and ``call_in_child`` raise.
    """
    import torch

    stored = path.with_name(_GRAPH_NAME)
    try:
        # Given a name, torch would report a full disk as a defect.
        with open(stored, "xb") as file:
            torch.save(graph, file)
        return call_in_child(
            _export, stored, batch, path, precision, attention, doing=doing, log=log
        )
    finally:
        stored.unlink(missing_ok=True)


def _export(
    stored: Path,
    batch: int | None,
    path: Path,
    precision: str,
    attention: str,
    log: Log,
) -> None:
    """Export, in the child."""
    import torch

    from vit_perception.engines.onnx_export import export_onnx

    # Our own file, seconds old, in a folder that only this user can write: not a checkpoint.
    graph = torch.load(stored, map_location="cpu", mmap=True, weights_only=False)
    export_onnx(graph, batch, path, precision, attention)
