"""Which engines the parity gate refused on this machine, so that later starts do not build them.

This is one small JSON file next to the cached engines, which people may read and remove. An engine
is tried again if the file is gone, or if anything that the verdict depends on has changed. Only
verdicts of the gate are kept. What may differ at the next start, such as too little memory or a
failing driver, is never written here.
"""

import datetime
import json
import os
from dataclasses import asdict
from importlib import metadata
from typing import TYPE_CHECKING

from vit_perception.engines.cache.store import cache_folder
from vit_perception.engines.engine import BackendStatus, EngineSpec, ParityError
from vit_perception.engines.source import EngineSource, digest_of_images
from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import printable, shown
from vit_perception.files.locks import locked
from vit_perception.files.log import Log
from vit_perception.files.private_cache import (
    FILE_MODE,
    Untrusted,
    make_folder,
    opened_file,
    opened_folder,
)

if TYPE_CHECKING:
    import numpy as np

FILE_NAME = "verdicts.json"
MOST_VERDICTS = 100  # the oldest go first
MOST_BYTES = 1 << 20
_MOST_SAID = 1000
# Part of each verdict's key: raise it when the same engine would be built otherwise, and may pass.
_RECIPE_VERSION = 1
# They write the file that an engine is compiled from.
_WRITERS = ("torch", "onnx", "onnxscript")


class Verdicts:
    """The verdicts on engines for ``source``, judged on ``images`` (n, 3, H, W) and ``min_cosine``.

    ``path`` is their file. The key of a verdict costs one pass over the weights, when it is first
    needed.
    """

    def __init__(
        self,
        source: EngineSource,
        images: "np.ndarray",
        min_cosine: float,
        log: Log,
    ):
        self.path = (source.folder or cache_folder()) / FILE_NAME
        self._source = source
        self._images = images
        self._min_cosine = min_cosine
        self._log = log
        self._known = self._read()

    def recall(self, candidate: str, status: BackendStatus, spec: EngineSpec) -> str:
        """Return why the gate refused ``spec`` on ``candidate`` before; "" if it did not.

        The text also says how to have it tried again.
        """
        if not any(verdict["candidate"] == candidate for verdict in self._known):
            return ""
        key = self._key(candidate, status, spec)
        for verdict in self._known:
            if verdict["key"] == key:
                return (
                    f"{printable(verdict['why'], _MOST_SAID)}. So it was on "
                    f"{shown(verdict['when'], 40)}, and it is not tried again; remove "
                    f"{self.path} to have it tried"
                )
        return ""

    def remember(
        self, candidate: str, status: BackendStatus, spec: EngineSpec, error: ParityError
    ) -> None:
        """Keep what the gate said. If that fails, ``log`` gets a warning."""
        key = self._key(candidate, status, spec)
        verdict = {
            "candidate": candidate,
            "why": printable(str(error), _MOST_SAID),
            "key": key,
            "when": datetime.date.today().isoformat(),
        }
        try:
            make_folder(self.path.parent)
            with locked(self.path.with_suffix(".lock"), lambda: None):
                # Another process may have written since.
                self._known = [*(old for old in self._read() if old["key"] != key), verdict][
                    -MOST_VERDICTS:
                ]
                while len(content := json.dumps(self._known, indent=1)) > MOST_BYTES:
                    self._known.pop(0)
                write_whole(
                    self.path, lambda file: file.write_text(content, encoding="utf-8"), FILE_MODE
                )
        except (Untrusted, OSError) as failure:
            self._log.warning(
                f"{self.path} cannot be written ({failure}); the next start tries "
                f"{candidate} {spec} again"
            )

    def _key(self, candidate: str, status: BackendStatus, spec: EngineSpec) -> dict:
        """Return all that the gate's figures and their limits depend on."""
        from vit_perception.engines.parity_gate import ParityLimits

        calibration = {}
        if spec.precision == "int8" and self._source.calibration is not None:
            calibration = {"calibration": digest_of_images(self._source.calibration())}
        return {
            "recipe": _RECIPE_VERSION,
            "candidate": candidate,
            "runtime": status.version,
            "device": status.device,
            "hardware": status.hardware,
            "encoder": self._source.graph_digest,
            "pictures": digest_of_images(self._images),
            "batch": spec.batch,
            "network_size_px": list(spec.network_size_px),
            "precision": spec.precision,
            "attention": spec.attention,
            "left_out": list(spec.left_out),
            "limits": asdict(ParityLimits.for_precision(spec.precision, self._min_cosine)),
            "writers": {name: _version(name) for name in _WRITERS},
            **calibration,
        }

    def _read(self) -> list[dict]:
        """Return what the file holds, the oldest first.

        It is [] if the file is damaged, or if somebody else may have written it.
        """
        if not os.path.lexists(self.path):  # say nothing about a cache that is not used
            return []
        try:
            with (
                opened_folder(self.path.parent) as folder,
                opened_file(FILE_NAME, folder, self.path.parent) as file,
            ):
                content = file.read(MOST_BYTES + 1)
        except FileNotFoundError:
            return []
        except (Untrusted, OSError) as error:
            self._log.warning(f"{self.path} cannot be read ({error}); going on without it")
            return []
        fault = f"longer than {MOST_BYTES} bytes" if len(content) > MOST_BYTES else ""
        verdicts: object = None
        if not fault:
            try:
                verdicts = json.loads(content)
            except (ValueError, RecursionError) as error:
                fault = str(error)
        if not fault and not _well_formed(verdicts):
            fault = "no list of verdicts"
        if fault:
            self._log.warning(f"{self.path} is damaged ({fault}); going on without it")
            return []
        return verdicts[-MOST_VERDICTS:]


def _well_formed(verdicts: object) -> bool:
    texts = ("candidate", "why", "when")
    return isinstance(verdicts, list) and all(
        isinstance(verdict, dict)
        and isinstance(verdict.get("key"), dict)
        and all(isinstance(verdict.get(name), str) for name in texts)
        for verdict in verdicts
    )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
