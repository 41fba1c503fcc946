"""An engine as one file: ``vit-perception build --out`` writes it, ``engine.file`` opens it.

The file has three parts: a line that names the format; a line with a digest and JSON (the cache's
key, and the digest and length of the engine); the engine as the runtime serialised it. The digests
find damage, not attackers. An engine runs code, so the file is read only if nobody except this user
and root can have written it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from vit_perception.config.backends import ENGINE_FILE_BACKENDS
from vit_perception.config.settings import EngineSettings
from vit_perception.engines.cache.key_difference import difference_text
from vit_perception.engines.engine import EngineError
from vit_perception.engines.tensorrt.cached import ENGINE_NAME
from vit_perception.files.atomic import check_new_file, file_sha256, write_whole
from vit_perception.files.errors import shown
from vit_perception.files.private_cache import Untrusted, opened_outside

_FORMAT = b"vit_perception engine, format 1\n"
# A key is about 1 kB, and its parts are nested at most three deep.
_MOST_HEADER_BYTES = 1 << 20
_MOST_PARTS = 200
_MADE = "vit-perception build --out made"
# Only this user may write it, whatever the umask is: otherwise it would be refused. Others may copy
# it.
_MODE = 0o644


@dataclass(frozen=True)
class EngineFile:
    """The header of an engine file."""

    path: Path
    # The engine's key in the cache of the machine that built it.
    key: Mapping
    # Length and digest of the engine that follows.
    engine_bytes: int
    engine_sha256: str

    @classmethod
    def opened(cls, path: str | Path) -> "EngineFile":
        """Read the header of the file at ``path``.

        Raises:
            EngineError: The file is missing, damaged or not an engine file, or somebody else may
                have written it.
        """
        path = Path(path)
        with _reading(path) as file:
            return cls._read(path, file)

    @classmethod
    def _read(cls, path: Path, file: BinaryIO) -> "EngineFile":
        if file.readline(len(_FORMAT)) != _FORMAT:
            raise EngineError(
                f"engine.file {path} is none of this version's; accepted: a file that {_MADE}"
            )
        header = file.readline(_MOST_HEADER_BYTES)
        digest, _, text = header.rstrip(b"\n").partition(b" ")
        if hashlib.sha256(text).hexdigest().encode() != digest:
            raise _damaged(path, "its header does not have its checksum")
        try:
            if text.count(b"{") + text.count(b"[") > _MOST_PARTS:
                raise ValueError("nested too deep")
            read = json.loads(text)
            opened = cls(path, read["key"], read["engine_bytes"], read["engine_sha256"])
            texts = (opened.flavour, opened.precision, opened.attention, opened.engine_sha256)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(path, f"its header is none: {type(error).__name__}") from error
        if not all(isinstance(text, str) for text in texts) or not isinstance(
            opened.engine_bytes, int
        ):
            raise _damaged(path, "its header is none")
        length = os.fstat(file.fileno()).st_size - file.tell()
        if length != opened.engine_bytes:
            raise _damaged(
                path, f"{length} bytes of engine are there, {opened.engine_bytes} were written"
            )
        return opened

    @property
    def flavour(self) -> str:
        """The runtime that it is for, ``tensorrt`` or ``tensorrt_rtx``."""
        return self.key["runtime"].partition(" ")[0]

    @property
    def precision(self) -> str:
        return self.key["precision"]

    @property
    def attention(self) -> str:
        """The form of attention that it was built with."""
        return self.key["attention"]

    def narrowed(self, settings: EngineSettings) -> EngineSettings:
        """Return ``settings`` with this file's runtime and precision in place of ``auto``.

        Raises:
            EngineError: The settings ask for another runtime or precision.
        """
        if self.flavour not in ENGINE_FILE_BACKENDS:
            raise EngineError(
                f"engine.file {self.path} is for {shown(self.flavour, 80)}; accepted: "
                f"{', '.join(ENGINE_FILE_BACKENDS)}"
            )
        for name, wanted, has in (
            ("engine.backend", settings.backend, self.flavour),
            ("engine.precision", settings.precision, self.precision),
        ):
            if wanted not in ("auto", has):
                option = f"--{name.partition('.')[2]} {wanted}"
                raise EngineError(
                    f"{name} is {wanted!r} and engine.file {self.path} is for {shown(has, 80)}; "
                    f"accepted: auto, or a file that vit-perception build {option} --out made"
                )
        return replace(settings, backend=self.flavour, precision=self.precision)

    def content_for(self, key: Mapping) -> bytes:
        """Return the serialised engine, if its key is ``key``, this machine's and model's.

        Raises:
            EngineError: The keys differ (the message has the parts, and how to make the right
                file), or the file is damaged.
        """
        if differs := difference_text(key, self.key):
            raise EngineError(
                f"engine.file {self.path} is another machine's or model's: {differs}; accepted: "
                f"one that this makes{_where(key)}: {recipe(key)}"
            )
        with _reading(self.path) as file:
            if self._read(self.path, file) != self:
                raise _damaged(self.path, "it has changed since it was opened")
            content = file.read(self.engine_bytes)
        if hashlib.sha256(content).hexdigest() != self.engine_sha256:
            raise _damaged(self.path, "the engine does not have its checksum")
        return content


def write_engine_file(path: Path, engine: Path) -> None:
    """Write the engine file ``path`` for ``engine``, a file in the cache. A link is replaced.

    Raises:
        OSError: The file cannot be written.
    """
    key = json.loads((engine.parent / "key.json").read_text())
    header = json.dumps(
        {"key": key, "engine_bytes": engine.stat().st_size, "engine_sha256": file_sha256(engine)},
        sort_keys=True,
    ).encode()

    def write(partial: Path) -> None:
        with open(partial, "wb") as file, open(engine, "rb") as content:
            file.write(
                _FORMAT + hashlib.sha256(header).hexdigest().encode() + b" " + header + b"\n"
            )
            shutil.copyfileobj(content, file)

    write_whole(path, write, _MODE)


def check_out(path: Path, force: bool) -> None:
    """Refuse what :func:`write_engine_file` could not make, before a build of minutes. Raises
    InvalidValue.
    """
    check_new_file(path, force, argument="out")


def is_carried(engine: Path | None) -> bool:
    """Whether an engine file can be made of an engine in the cache."""
    return engine is not None and engine.name == ENGINE_NAME


def recipe(key: Mapping) -> str:
    """Return the command that makes the engine file for ``key``, this machine's."""
    options = [
        f"--backend {key['runtime'].partition(' ')[0]}",
        f"--precision {key['precision']}",
        f"--batch {key['batch']}",
        f"--size {' '.join(map(str, key['network_size_px']))}",
        f"--block {key['block']}",
    ]
    options += ["--dense"] if key.get("dense_blocks") else []
    options += [f"--target {' '.join(key['targets'])}"] if key.get("targets") else []
    return (
        f"vit-perception build {' '.join(options)} --checkpoint <this node's model.checkpoint> "
        "--out FILE"
    )


def _where(key: Mapping) -> str:
    """Say where the command has to run; the text follows "this makes"."""
    return f" with {key['runtime']}" + ("" if key.get("targets") else " on this kind of machine")


def _damaged(path: Path, how: str) -> EngineError:
    return EngineError(
        f"engine.file {path} is damaged ({how}); accepted: a whole one, copy it again"
    )


@contextmanager
def _reading(path: Path) -> Iterator[BinaryIO]:
    """Open the file for reading.

    Raises:
        EngineError: It cannot be read, or somebody else may have written it.
    """
    with ExitStack() as opening:
        try:
            file = opening.enter_context(opened_outside(path))
        except Untrusted as error:
            raise EngineError(f"engine.file is not used: {error}") from error
        except OSError as error:
            raise EngineError(
                f"engine.file {path} cannot be read: {error.strerror or error}; accepted: a file "
                f"that {_MADE}"
            ) from error
        yield file
