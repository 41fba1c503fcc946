"""Check and unpack a PNG chunk by chunk, and put it together again for a decoder.

OpenCV only gets what this module wrote: header, palette, and the rows of pixels, not compressed.
So no chunk that a sender made up reaches it (animation makes OpenCV 5.0 crash, and it allocates the
length that a chunk states), nothing unpacks to more than the header says, and libpng has nothing
to print a warning about.
"""

import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from vit_perception.image.picture import PictureFile, check_size, cut, damaged
from vit_perception.wire.records import BadInput

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ACCEPTED = "a whole PNG with a single picture"
MAX_CHUNKS = 1 << 16
MAX_ROW_BYTES_IN_ALL = 1 << 28  # unpacked: 67 million pixels of 8-bit RGBA
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")


class _ColourType(NamedTuple):
    samples: int  # per pixel
    depths: tuple[int, ...]  # accepted bits per sample


class _Pass(NamedTuple):
    """Which pixels of an interlaced image one pass has."""

    column: int  # the first one
    row: int  # the first one
    across: int  # step between columns
    down: int  # step between rows


# PNG specification, 11.2.1.
_COLOUR_TYPES = {
    0: _ColourType(1, (1, 2, 4, 8, 16)),
    2: _ColourType(3, (8, 16)),
    3: _ColourType(1, (1, 2, 4, 8)),
    4: _ColourType(2, (8, 16)),
    6: _ColourType(4, (8, 16)),
}
_PALETTE = 3
# PNG specification, 8.2.
_INTERLACED = (
    _Pass(column=0, row=0, across=8, down=8),
    _Pass(column=4, row=0, across=8, down=8),
    _Pass(column=0, row=4, across=4, down=8),
    _Pass(column=2, row=0, across=4, down=4),
    _Pass(column=0, row=2, across=2, down=4),
    _Pass(column=1, row=0, across=2, down=2),
    _Pass(column=0, row=1, across=1, down=2),
)
_NOT_INTERLACED = (_Pass(column=0, row=0, across=1, down=1),)


def checked_png(data: bytes) -> PictureFile:
    """Return the image in ``data``, which begins with the signature.

    Chunks that only describe the image (gamma, colour profiles, texts, EXIF) are left out.

    Raises:
        BadInput: ``decode``, ``short_data`` or ``size``.
    """
    header = b""
    palette = b""
    packed = []
    ended = False
    for kind, content in _chunks(data):
        if not header:
            if kind != b"IHDR":
                raise damaged(f"the PNG begins with the chunk {_name(kind)}, not IHDR", ACCEPTED)
            header = _checked_header(bytes(content))
        elif kind in _ANIMATION:
            raise damaged(f"the PNG is animated (chunk {_name(kind)})", ACCEPTED)
        elif kind == b"IDAT":
            if ended:
                raise damaged("the PNG's IDAT chunks do not follow each other", ACCEPTED)
            packed.append(content)
        elif kind == b"PLTE":
            if palette or packed:
                raise damaged("the PNG has two palettes, or one behind its pixels", ACCEPTED)
            palette = _checked_palette(bytes(content), header)
        elif kind == b"IEND":
            if len(content):
                raise damaged(f"the PNG's IEND has {len(content)} bytes", ACCEPTED)
            break
        elif not kind[0] & 0x20:  # an upper-case letter: the image cannot be shown without it
            what = "a second" if kind == b"IHDR" else "the unknown"
            raise damaged(f"the PNG has {what} chunk {_name(kind)}", ACCEPTED)
        ended = bool(packed) and kind != b"IDAT"
    else:
        raise cut(f"the PNG has no IEND chunk in its {len(data)} bytes")
    if not packed:
        raise damaged("the PNG has no IDAT chunk", ACCEPTED)
    if header[9] == _PALETTE and not palette:
        raise damaged("the PNG has palette colours and no palette", ACCEPTED)
    return _put_together(header, palette, packed)


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield (type, content) of each chunk, with length and checksum checked (5.3)."""
    view = memoryview(data)
    position = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if position + 12 > len(data):
            return
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            raise cut(
                f"the PNG's chunk {_name(kind)} has {length} bytes, the file "
                f"{len(data) - position - 12} behind its head"
            )
        if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise damaged(f"the PNG's chunk {_name(kind)} does not fit its checksum", ACCEPTED)
        yield kind, view[position + 8 : end - 4]
        position = end
    raise damaged(f"the PNG has more than {MAX_CHUNKS} chunks", f"up to {MAX_CHUNKS}")


def _name(kind: bytes) -> str:
    return kind.decode() if kind.isalpha() else kind.hex()


def _checked_header(header: bytes) -> bytes:
    if len(header) != 13:
        raise damaged(f"the PNG's IHDR has {len(header)} bytes", "13")
    depth, colour_type, compression, filtering, interlace = header[8:]
    known = _COLOUR_TYPES.get(colour_type)
    if not known or depth not in known.depths or compression or filtering or interlace > 1:
        raise damaged(
            f"the PNG has colour type {colour_type}, {depth} bits, compression {compression}, "
            f"filtering {filtering} and interlacing {interlace}",
            ACCEPTED,
        )
    check_size(int.from_bytes(header[4:8], "big"), int.from_bytes(header[:4], "big"))
    return header


def _checked_palette(content: bytes, header: bytes) -> bytes:
    """Return the palette, filled up with black for all colours that a pixel can name.

    It is empty if pixels do not name colours.
    """
    depth, colour_type = header[8:10]
    most = 3 * (1 << depth if colour_type == _PALETTE else 256)
    if not content or len(content) % 3 or len(content) > most or colour_type in (0, 4):
        raise damaged(
            f"the PNG's palette has {len(content)} bytes for colour type {colour_type}", ACCEPTED
        )
    return content.ljust(most, b"\0") if colour_type == _PALETTE else b""


def _put_together(header: bytes, palette: bytes, packed: list[memoryview]) -> PictureFile:
    width = int.from_bytes(header[:4], "big")
    height = int.from_bytes(header[4:8], "big")
    rows = _unpacked(packed, _row_shapes(header, height, width))
    stored = zlib.compress(rows, 0)
    del rows
    pieces = (
        SIGNATURE,
        *_chunk(b"IHDR", header),
        *(_chunk(b"PLTE", palette) if palette else ()),
        *_chunk(b"IDAT", stored),
        *_chunk(b"IEND", b""),
    )
    return PictureFile(kind="png", height=height, width=width, data=b"".join(pieces))


def _row_shapes(header: bytes, height: int, width: int) -> list[tuple[int, int]]:
    """Return (rows, bytes of a row with its filter byte) of each pass that has pixels."""
    pixel_bits = _COLOUR_TYPES[header[9]].samples * header[8]
    shapes = []
    for each in _INTERLACED if header[12] else _NOT_INTERLACED:
        rows = -(-max(0, height - each.row) // each.down)
        columns = -(-max(0, width - each.column) // each.across)
        if rows and columns:
            shapes.append((rows, 1 + (columns * pixel_bits + 7) // 8))
    in_all = sum(rows * row_bytes for rows, row_bytes in shapes)
    if in_all > MAX_ROW_BYTES_IN_ALL:
        raise BadInput(
            "size",
            f"the PNG of {height} x {width} px unpacks to {in_all} bytes; accepted: up to "
            f"{MAX_ROW_BYTES_IN_ALL}",
        )
    return shapes


def _unpacked(packed: list[memoryview], shapes: list[tuple[int, int]]) -> bytes:
    """Return the rows of all passes, exactly as many bytes as the header asks for."""
    wanted = sum(rows * row_bytes for rows, row_bytes in shapes)
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(b"".join(packed), wanted + 1)
    except zlib.error as error:
        raise damaged(f"the PNG's pixels do not unpack: {error}", ACCEPTED) from error
    if len(content) != wanted or not unpacker.eof:
        found = f"more than {wanted}" if len(content) > wanted else f"{len(content)}"
        raise damaged(
            f"the PNG's pixels unpack to {found} bytes{'' if unpacker.eof else ', and do not end'}",
            f"{wanted} bytes",
        )
    position = 0
    for rows, row_bytes in shapes:
        filters = np.frombuffer(content, np.uint8, rows * row_bytes, position)[::row_bytes]
        if filters.max() > 4:
            raise damaged(f"the PNG has a row with the filter {filters.max()}", "0 to 4")
        position += rows * row_bytes
    return content


def _chunk(kind: bytes, content: bytes) -> tuple[bytes, ...]:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return len(content).to_bytes(4, "big"), kind, content, checksum.to_bytes(4, "big")
