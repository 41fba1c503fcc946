"""Zstandard and LZ4, unpacked within limits: what a header declares is checked, and is not
trusted.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import lz4.frame

from vit_perception.recordings.storage import (
    MOST_MESSAGE_BYTES,
    MOST_TIMES_UNPACKED,
    TooLarge,
    Unreadable,
    mib,
    most_unpacked,
    shown,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
BLOCK_BYTES = 1 << 20
_FRAME_HEAD_BYTES = 18
_PART_BYTES = 1 << 16
_DECOMPRESSORS = {
    "zstd": (zstd.ZstdDecompressor, zstd.ZstdError),
    "lz4": (lz4.frame.LZ4FrameDecompressor, RuntimeError),
}
KEPT_FREE_BYTES = 256 << 20  # of the disk with the temporary folder


def unpacked_chunk(packed: bytes, compression: str, size_bytes: int) -> memoryview:
    """The chunk's ``size_bytes`` bytes. Raises Unreadable where it unpacks to any other number of
    them.
    """
    if compression == "":
        if len(packed) != size_bytes:
            raise Unreadable(f"a chunk that should have {size_bytes} bytes has {len(packed)}")
        return memoryview(packed)
    if compression not in _DECOMPRESSORS:
        raise Unreadable(
            f"its chunks are packed with {shown(compression)!r}; accepted: "
            f"{', '.join(_DECOMPRESSORS)}"
        )
    # Filled in place: joining its parts would take twice the memory.
    data, size = memoryview(bytearray(size_bytes)), 0
    for block in _unpacked(packed, compression):
        if len(block) > size_bytes - size:
            raise Unreadable(f"a chunk that should have {size_bytes} bytes has more")
        data[size : size + len(block)] = block
        size += len(block)
    if size != size_bytes:
        raise Unreadable(f"a chunk that should have {size_bytes} bytes has {size}")
    return data.toreadonly()


def unpacked_message(packed: bytes) -> bytes:
    """A message that was packed with Zstandard. Raises Unreadable where it is damaged or larger
    than accepted.
    """
    if (_declared_bytes(packed) or 0) > MOST_MESSAGE_BYTES:
        raise Unreadable(
            f"it says that it unpacks to {mib(_declared_bytes(packed))}; accepted: at most "
            f"{mib(MOST_MESSAGE_BYTES)}"
        )
    blocks, size = [], 0
    for block in _unpacked(packed, "zstd"):
        size += len(block)
        if size > MOST_MESSAGE_BYTES:
            raise TooLarge(f"it unpacks to more than {mib(MOST_MESSAGE_BYTES)}")
        blocks.append(block)
    return b"".join(blocks)


def _declared_bytes(packed: bytes) -> int | None:
    """What the first frame says that it unpacks to, if it does."""
    try:
        return zstd.get_frame_info(packed[:_FRAME_HEAD_BYTES]).decompressed_size
    except zstd.ZstdError as error:
        raise Unreadable("it is not packed with Zstandard") from error


def _unpacked(packed: bytes, compression: str) -> Iterator[bytes]:
    """All that ``packed`` holds, of one frame or several, a block at a time."""
    decompressor, failure = _DECOMPRESSORS[compression]
    view, place = memoryview(packed), 0
    try:
        while place < len(view):
            frame = decompressor()
            while not frame.eof:
                # In parts, as what a decompressor has not come to yet is copied each time.
                part = view[place : place + _PART_BYTES] if frame.needs_input else b""
                if frame.needs_input and not part:
                    raise Unreadable("it is packed, and cut off")
                place += len(part)
                if block := frame.decompress(part, max_length=BLOCK_BYTES):
                    yield block
            place -= len(frame.unused_data or b"")
    except (failure, EOFError, ValueError) as error:
        raise Unreadable(f"it cannot be unpacked: {shown(error)}") from error


def unpacked_file(packed: BinaryIO, magic: bytes, left_bytes: int) -> BinaryIO:
    """A file that was packed as a whole with Zstandard, as a temporary one of at most
    ``left_bytes``. It has no name, and is gone when it is closed or the process ends, however that
    ends. Its first bytes are ``magic``.

    Raises Unreadable where it is larger or anything else, OSError where the disk is full.
    """
    most_bytes = min(left_bytes, most_unpacked(os.fstat(packed.fileno()).st_size))
    temporary = tempfile.TemporaryFile(prefix="vit_perception_bag_")  # noqa: SIM115
    try:
        room_bytes = shutil.disk_usage(tempfile.gettempdir()).free - KEPT_FREE_BYTES
        size = 0
        _check_size(_declared_bytes(packed.read(_FRAME_HEAD_BYTES)) or 0, most_bytes, room_bytes)
        packed.seek(0)
        with zstd.ZstdFile(packed) as file:
            while block := file.read(BLOCK_BYTES):
                if size == 0 and not block.startswith(magic):
                    raise Unreadable("what is packed in it is no such recording")
                size += len(block)
                _check_size(size, most_bytes, room_bytes)
                temporary.write(block)
        if size == 0:
            raise Unreadable("nothing is packed in it")
        temporary.flush()
        return temporary
    except (zstd.ZstdError, EOFError) as error:
        temporary.close()
        raise Unreadable(f"it cannot be unpacked: {shown(error)}") from error
    except BaseException:
        temporary.close()
        raise


def _check_size(size_bytes: int, most_bytes: int, room_bytes: int) -> None:
    if size_bytes > most_bytes:
        raise Unreadable(
            f"it unpacks to more than {mib(most_bytes)}; accepted: {mib(most_unpacked(0))} in all, "
            f"or {MOST_TIMES_UNPACKED} times its size"
        )
    if size_bytes > room_bytes:
        raise Unreadable(
            f"it unpacks to more than the {mib(max(0, room_bytes))} that {tempfile.gettempdir()} "
            "has room for; TMPDIR names another folder"
        )


@contextmanager
def named_briefly(file: BinaryIO) -> Iterator[Path]:
    """A name for the nameless temporary ``file``, while a library opens it by that."""
    with tempfile.TemporaryDirectory(prefix="vit_perception_bag_") as folder:
        name = Path(folder) / "unpacked.db3"
        try:
            os.link(f"/proc/self/fd/{file.fileno()}", name, follow_symlinks=True)
        except OSError:  # a file system whose temporary files had a name, which is gone
            file.seek(0)
            with open(name, "xb") as copy:
                shutil.copyfileobj(file, copy, BLOCK_BYTES)
        yield name
