"""Unpack Zstandard and LZ4 within limits; the sizes that headers declare are not trusted."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

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


class _Method(NamedTuple):
    """One way of compression."""

    decompressor: Callable[[], Any]
    error: type[Exception]  # that it raises for damaged data


_DECOMPRESSORS = {
    "zstd": _Method(zstd.ZstdDecompressor, zstd.ZstdError),
    "lz4": _Method(lz4.frame.LZ4FrameDecompressor, RuntimeError),
}
KEPT_FREE_BYTES = 256 << 20  # on the disk with the temporary folder


def unpacked_chunk(packed: bytes, compression: str, size_bytes: int) -> memoryview:
    """Return the ``size_bytes`` bytes of a chunk.

    Raises:
        Unreadable: it is damaged, or unpacks to more or fewer bytes.
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
    data = memoryview(bytearray(size_bytes))
    size = 0
    for block in _unpacked(packed, compression):
        if len(block) > size_bytes - size:
            raise Unreadable(f"a chunk that should have {size_bytes} bytes has more")
        data[size : size + len(block)] = block
        size += len(block)
    if size != size_bytes:
        raise Unreadable(f"a chunk that should have {size_bytes} bytes has {size}")
    return data.toreadonly()


def unpacked_message(packed: bytes) -> bytes:
    """Return a message that is packed with Zstandard.

    Raises:
        TooLarge: it unpacks to more than it says and than is accepted.
        Unreadable: it is damaged, or says that it is larger than accepted.
    """
    if (_declared_bytes(packed) or 0) > MOST_MESSAGE_BYTES:
        raise Unreadable(
            f"it says that it unpacks to {mib(_declared_bytes(packed))}; accepted: at most "
            f"{mib(MOST_MESSAGE_BYTES)}"
        )
    blocks = []
    size = 0
    for block in _unpacked(packed, "zstd"):
        size += len(block)
        if size > MOST_MESSAGE_BYTES:
            raise TooLarge(f"it unpacks to more than {mib(MOST_MESSAGE_BYTES)}")
        blocks.append(block)
    return b"".join(blocks)


def _declared_bytes(packed: bytes) -> int | None:
    """Return the unpacked size that the first frame states; None if it states none."""
    try:
        return zstd.get_frame_info(packed[:_FRAME_HEAD_BYTES]).decompressed_size
    except zstd.ZstdError as error:
        raise Unreadable("it is not packed with Zstandard") from error


def _unpacked(packed: bytes, compression: str) -> Iterator[bytes]:
    """Yield the content of all frames, block by block."""
    method = _DECOMPRESSORS[compression]
    view = memoryview(packed)
    place = 0
    try:
        while place < len(view):
            frame = method.decompressor()
            while not frame.eof:
                # In parts: a decompressor copies each time what it has not unpacked yet.
                part = view[place : place + _PART_BYTES] if frame.needs_input else b""
                if frame.needs_input and not part:
                    raise Unreadable("it is packed, and cut off")
                place += len(part)
                if block := frame.decompress(part, max_length=BLOCK_BYTES):
                    yield block
            place -= len(frame.unused_data or b"")
    except (method.error, EOFError, ValueError) as error:
        raise Unreadable(f"it cannot be unpacked: {shown(error)}") from error


def unpacked_file(packed: BinaryIO, magic: bytes, left_bytes: int) -> BinaryIO:
    """Unpack a file that is packed with Zstandard into a temporary file without a name.

    The temporary file is gone when it is closed or the process ends, however it ends.

    Raises:
        Unreadable: it has more than ``left_bytes`` bytes, does not begin with ``magic``, or is
            damaged.
        OSError: the disk is full.
    """
    most_bytes = min(left_bytes, most_unpacked(os.fstat(packed.fileno()).st_size))
    temporary = tempfile.TemporaryFile(prefix="vit_perception_bag_")  # noqa: SIM115
    try:
        room_bytes = shutil.disk_usage(tempfile.gettempdir()).free - KEPT_FREE_BYTES
        size = _declared_bytes(packed.read(_FRAME_HEAD_BYTES)) or 0
        _check_size(size, most_bytes, room_bytes)
        size = 0
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
    """Give the temporary ``file`` a name while a library opens it by name."""
    with tempfile.TemporaryDirectory(prefix="vit_perception_bag_") as folder:
        name = Path(folder) / "unpacked.db3"
        try:
            os.link(f"/proc/self/fd/{file.fileno()}", name, follow_symlinks=True)
        except OSError:  # a file system whose temporary files had a name, which is gone
            file.seek(0)
            with open(name, "xb") as copy:
                shutil.copyfileobj(file, copy, BLOCK_BYTES)
        yield name
