"""Zip archives, as ``.npz`` and torch files are, whose directory is checked before anything in them
is unpacked.

An entry may say that it unpacks to little, and unpack to gigabytes. So only stored and deflated
entries are read, piece by piece, and no more than the directory says.
"""

import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.files.errors import InvalidValue
from vit_perception.files.safetensors_header import LONGEST_NAME, MOST_TENSORS

# Trained float32 weights hardly compress; what unpacks to more than this many times its file is no
# checkpoint.
LARGEST_EXPANSION = 4
# The directory is read in one piece; a file may say that it has one of gigabytes.
_MOST_DIRECTORY_BYTES = 16 << 20
_METHODS = {
    zipfile.ZIP_STORED: "stored",
    zipfile.ZIP_DEFLATED: "deflate",
    zipfile.ZIP_BZIP2: "bzip2",
    zipfile.ZIP_LZMA: "lzma",
    93: "zstd",
}
_LOCAL = struct.Struct("<4s22xHH")


class _BoundedReads:
    """A file that refuses to give much at once: zipfile believes the sizes that the file claims."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self.seek = file.seek
        self.tell = file.tell
        self.close = file.close
        self.seekable = file.seekable

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(
            _MOST_DIRECTORY_BYTES + 1 if size < 0 else min(size, _MOST_DIRECTORY_BYTES + 1)
        )
        if len(content) > _MOST_DIRECTORY_BYTES:
            raise InvalidValue(f"its directory is longer than {_MOST_DIRECTORY_BYTES} bytes")
        return content


def open_zip(file: BinaryIO, path: Path) -> zipfile.ZipFile:
    """Open an archive, and check that its entries are few, of different names, and do not overlap.

    Raises:
        CheckpointError: They are not. zipfile's errors for a damaged directory pass through.
    """
    archive = zipfile.ZipFile(_BoundedReads(file))
    entries = archive.infolist()
    names = {entry.filename for entry in entries}
    if len(entries) > MOST_TENSORS:
        raise CheckpointError(
            f"{path} holds {len(entries)} entries; accepted: up to {MOST_TENSORS}"
        )
    if len(names) != len(entries):
        raise CheckpointError(f"{path} holds two entries of one name; accepted: each once")
    long = next((name for name in names if len(name) > LONGEST_NAME), None)
    if long:
        raise CheckpointError(
            f"{path}: an entry's name is {len(long)} letters long; accepted: up to {LONGEST_NAME}"
        )
    end = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise CheckpointError(
                f"{path}: {entry.filename} lies over another entry; accepted: entries behind each "
                "other"
            )
        end = entry.header_offset + _LOCAL.size + entry.compress_size
    return archive


def check_entries(
    entries: Sequence[zipfile.ZipInfo], path: Path, length: int, accepted: str
) -> None:
    """Check how ``entries`` are packed: as ``accepted``, "stored" or "deflate".

    Raises:
        CheckpointError: They are packed otherwise, or would unpack to more than the file's
            ``length`` in bytes warrants.
    """
    methods = ("stored", "deflate") if accepted == "deflate" else (accepted,)
    for entry in entries:
        method = _METHODS.get(entry.compress_type, f"method {entry.compress_type}")
        if entry.flag_bits & 1:
            raise CheckpointError(
                f"{path}: {entry.filename} is encrypted; accepted: entries that are not"
            )
        if method not in methods:
            raise CheckpointError(
                f"{path}: {entry.filename} is compressed by {method}; accepted: "
                f"{' or '.join(methods)}, as its writers do"
            )
        if method == "stored" and entry.file_size != entry.compress_size:
            raise CheckpointError(
                f"{path}: {entry.filename} is stored in {entry.compress_size} bytes and said to "
                f"hold {entry.file_size}; accepted: as many of each"
            )
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > LARGEST_EXPANSION * length:
        raise CheckpointError(
            f"{path}: its {length} bytes would unpack to {unpacked}; accepted: at most "
            f"{LARGEST_EXPANSION} times the file's own length"
        )


def stored_at(file: BinaryIO, entry: zipfile.ZipInfo, length: int) -> int:
    """Find where the bytes of a stored entry begin.

    Raises:
        ValueError: They are not in the file.
    """
    file.seek(entry.header_offset)
    header = file.read(_LOCAL.size)
    if len(header) < _LOCAL.size or not header.startswith(b"PK\x03\x04"):
        raise InvalidValue(f"{entry.filename} has no header where the directory says")
    _, name_bytes, extra_bytes = _LOCAL.unpack(header)
    start = entry.header_offset + _LOCAL.size + name_bytes + extra_bytes
    if start + entry.file_size > length:
        raise InvalidValue(f"{entry.filename} goes beyond the end of the file")
    return start
