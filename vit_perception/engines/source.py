"""What an engine is opened from: the encoder graph, what identifies it, and its ONNX files when one
is needed.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vit_perception.engines.building import memory
from vit_perception.engines.building.child import call_in_child
from vit_perception.engines.cache.store import cached, digest_of
from vit_perception.files.log import SILENT, Log

if TYPE_CHECKING:
    from torch import nn

    from vit_perception.engines.cache.engine_file import EngineFile
    from vit_perception.wire.records import EncoderOutput

ONNX_NAME = "model.onnx"
_GRAPH_NAME = "graph.pt"


def digest_of_images(images: np.ndarray) -> str:
    """SHA-256 of the shape and the bytes of ``images``, as hexadecimal digits."""
    digest = hashlib.sha256(f"{images.shape}".encode())
    digest.update(np.ascontiguousarray(images))
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class EngineSource:
    """``graph``, a float32 :class:`~vit_perception.engines.encoder_graph.EncoderGraph`, for
    ``batch`` images.

    ``batch`` None leaves the batch open in the ONNX file. ``log`` hears of exports and builds;
    ``folder`` None is the usual cache. ``calibration`` reads the images (n, 3, H, W) uint8
    that int8 is calibrated on, where the user named some; engines know nothing of bags and
    pictures. ``made`` grows by one for each file that is asked of the cache: whether it had to
    be made.
    ``check_memory``: what a child process would lack memory for is refused before it starts.
    ``carried`` is an engine that was built elsewhere and takes the place of a build.
    """

    graph: "nn.Module"
    batch: int | None
    log: Log = SILENT
    folder: Path | None = None
    calibration: Callable[[], np.ndarray] | None = None
    made: list[bool] = field(default_factory=list)
    check_memory: bool = True
    carried: "EngineFile | None" = None
    _references: dict[str, "EncoderOutput"] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def graph_key(self) -> dict:
        """What the graph's numbers depend on, whatever the batch and the software."""
        from vit_perception.engines.reference import graph_key

        return graph_key(self.graph)

    def key(self, precision: str = "float32", attention: str = "half") -> dict:
        """What an ONNX file depends on: the graph, the batch, the precision and the versions that
        write it.
        """
        # Versions from the packages' metadata: onnxscript alone takes half a second to import.
        writers = {name: metadata.version(name) for name in ("torch", "onnx", "onnxscript")}
        form = {} if precision == "float32" else {"precision": precision, "attention": attention}
        return {"kind": "onnx", **self.graph_key, "batch": self.batch, **form, **writers}

    @property
    def graph_digest(self) -> str:
        """A short name of the graph's numbers; equal for every batch."""
        return digest_of(self.graph_key)

    def reference(self, images: np.ndarray) -> "EncoderOutput":
        """The float32 model's outputs for ``images`` (n, 3, H, W) uint8, which engines are judged
        by.

        Computed once: several engines are judged while ``auto`` looks for one. They go with this
        object, since a dense ViT-L's are 150 MB.
        """
        from vit_perception.engines.reference import reference_outputs

        name = digest_of_images(images)
        if name not in self._references:
            self._references[name] = reference_outputs(self.graph, images)
        return self._references[name]

    def onnx_file(
        self, precision: str = "float32", attention: str = "half", apart: bool = False
    ) -> Path:
        """The ONNX file, exported into the cache at its first call; see ``export_onnx`` for the
        arguments.

        With ``apart`` in a process of its own, which costs some seconds and gives back all the
        memory that an export takes. Raises CacheError, the exporter's own errors, and EngineError
        where that process would lack memory.
        """

        def export(folder: Path) -> None:
            doing = (
                f"exporting the model to ONNX in {precision} for batch "
                f"{self.batch or 'of any size'}"
            )
            self.log.info(f"{doing}, once; this takes some seconds")
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

        return self.cached(self.key(precision, attention), export) / ONNX_NAME

    def cached(self, key: dict, build: Callable[[Path], None]) -> Path:
        """The cache's entry for ``key``, as :func:`vit_perception.engines.cache.store.cached`,
        noted in ``made``.
        """
        self.made.append(False)

        def build_and_say_so(folder: Path) -> None:
            self.made[-1] = True
            build(folder)

        return cached(key, build_and_say_so, self.log, self.folder)


def export_apart(
    graph: "nn.Module",
    batch: int | None,
    path: Path,
    precision: str,
    attention: str,
    doing: str,
    log: Log,
) -> int:
    """``export_onnx`` in a process of its own; the most memory that it took, in bytes. ``doing``
    names it in messages.

    Its weights come through a file beside ``path``, whose pages the system can take back. Raises
    what ``export_onnx`` and ``call_in_child`` do.
    """
    import torch

    stored = path.with_name(_GRAPH_NAME)
    try:
        with open(
            stored, "xb"
        ) as file:  # torch would call a full disk a defect, where it is given the name
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
    """What the child does."""
    import torch

    from vit_perception.engines.onnx_export import export_onnx

    # A file of ours, seconds old, in a folder that is this user's alone: not a checkpoint of
    # somebody.
    graph = torch.load(stored, map_location="cpu", mmap=True, weights_only=False)
    export_onnx(graph, batch, path, precision, attention)
