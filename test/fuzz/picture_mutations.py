"""Pictures made wrong where a decoder looks: parts left out, doubled, moved, swapped for others,
sizes and checksums that lie or fit, pixels that unpack to something else.
"""

import random
import zlib

from test.fuzz import picture_seeds as seeds
from vit_perception.image.png_file import SIGNATURE

LENGTHS = (0, 1, 4, 12, 255, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 16, 2**32 - 1)
MARKERS = (*range(0xC0, 0x100), 0x00, 0x01, 0x02)


def flipped(rng: random.Random, data: bytes, most: int = 4) -> bytes:
    """One to ``most`` bytes changed, put in, or cut out."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(changed) + 1)
        match rng.randrange(5):
            case 0 | 1 if at < len(changed):
                changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                changed[at:at] = rng.randbytes(rng.randint(1, 8))
            case 3:
                del changed[at : at + rng.choice((1, 2, 4, 50))]
            case 4:
                changed[at:at] = changed[max(0, at - rng.randint(1, 40)) : at]
    return bytes(changed)


def rearranged(rng: random.Random, parts: list, others: list) -> list:
    """``parts`` with one left out, doubled, moved, or one of ``others`` put in or in its place."""
    parts, at = list(parts), rng.randrange(len(parts))
    match rng.randrange(5):
        case 0:
            del parts[at]
        case 1:
            parts[at:at] = [parts[at]] * rng.choice((1, 1, 2, 200))
        case 2:
            parts.insert(rng.randrange(len(parts)), parts.pop(at))
        case 3:
            parts.insert(at, rng.choice(others))
        case 4:
            parts[at] = rng.choice(others)
    return parts


def mutated_png(rng: random.Random, data: bytes) -> bytes:
    parts, position = [], 8
    while position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        parts.append(
            (data[position + 4 : position + 8], data[position + 8 : position + 8 + length])
        )
        position += 12 + length
    others = [
        *list(seeds.ANCILLARY.items()),
        (b"PLTE", rng.randbytes(3 * rng.randint(0, 257))),
        (b"IEND", b""),
        (b"IDAT", b""),
        (b"ABCD", b"x"),
        (b"IHDR", parts[0][1]),
    ]
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(parts) or 1)
        match rng.randrange(6):
            case 0 if parts:
                parts = rearranged(rng, parts, others)
            case 1 if parts:
                parts[at] = parts[at][0], flipped(rng, parts[at][1])
            case 2 if (
                parts and len(parts[0][1]) == 13
            ):  # another header, with rows for it or without
                colour_type = rng.choice(tuple(seeds.SAMPLES))
                fields = (
                    rng.choice((1, 2, 7, 40, 41, 300)),
                    rng.choice((1, 3, 24, 25, 200)),
                    rng.choice(seeds.DEPTHS[colour_type]),
                    colour_type,
                    rng.randrange(2),
                )
                parts[0] = b"IHDR", seeds.png_header(*fields)
                parts = with_rows(
                    rng, parts, rng.randbytes(seeds.row_bytes_in_all(*fields)), rng.random() < 0.8
                )
            case 3:  # rows of noise, with filters that exist or not
                parts = with_rows(rng, parts, None, rng.random() < 0.8)
            case 4 if parts:  # pixels that end early, go on, or are followed by something
                packed = b"".join(content for kind, content in parts if kind == b"IDAT")
                parts = [p for p in parts if p[0] != b"IDAT"]
                parts.insert(max(1, len(parts) - 1), (b"IDAT", flipped(rng, packed)))
            case 5 if parts and len(parts[0][1]) == 13:
                parts[0] = parts[0][0], flipped(rng, parts[0][1], 1)
    lie = rng.random() < 0.1
    written = [seeds.png_chunk(kind, content) for kind, content in parts]
    if lie and written:
        at = rng.randrange(len(written))
        written[at] = rng.choice(LENGTHS).to_bytes(4, "big") + written[at][4:]
    return SIGNATURE + b"".join(written) + (rng.randbytes(20) if rng.random() < 0.1 else b"")


def with_rows(rng: random.Random, parts: list, rows: bytes | None, good_filters: bool) -> list:
    """``parts`` with other pixels; with ``good_filters`` each byte is 0 to 4, so that every row has
    a filter.
    """
    if rows is None:
        try:
            rows = zlib.decompress(b"".join(content for kind, content in parts if kind == b"IDAT"))
        except zlib.error:
            rows = bytes(1000)
    rows = bytes(b % 5 for b in rows) if good_filters else flipped(rng, rows)
    parts = [part for part in parts if part[0] != b"IDAT"]
    parts.insert(max(1, len(parts) - 1), (b"IDAT", zlib.compress(rows, rng.choice((0, 1, 9)))))
    return parts


def jpeg_parts(data: bytes) -> list[bytes]:
    """The segments with their markers, and the data of the scans."""
    parts, position = [], 0
    while position < len(data) - 1:
        end = position + 2
        if (
            data[position] != 0xFF
            or data[position + 1] == 0x00
            or 0xD0 <= data[position + 1] <= 0xD7
        ):  # data of a scan
            while end < len(data) - 1 and (
                data[end] != 0xFF or data[end + 1] == 0 or 0xD0 <= data[end + 1] <= 0xD7
            ):
                end += 1
        elif data[position + 1] not in (0xD8, 0xD9):
            end += int.from_bytes(data[end : end + 2], "big")
        parts.append(data[position:end])
        position = end
    return parts


OTHER_PARTS = [part for jpeg in seeds.jpegs() for part in jpeg_parts(jpeg)]


def mutated_jpeg(rng: random.Random, data: bytes) -> bytes:
    parts = jpeg_parts(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(parts))
        match rng.randrange(6):
            case 0:
                parts = rearranged(rng, parts, OTHER_PARTS)
            case 1 | 2 if len(parts[at]) > 4 and parts[at][0] == 0xFF:  # a field of a segment
                parts[at] = parts[at][:4] + flipped(rng, parts[at][4:], 2)
                if rng.random() < 0.8:
                    parts[at] = (
                        parts[at][:2] + (len(parts[at]) - 2).to_bytes(2, "big") + parts[at][4:]
                    )
            case 3:
                parts[at] = flipped(rng, parts[at])
            case 4:  # any marker, with a length and without
                length = rng.choice((0, 1, 2, 3, 8, 300))
                parts.insert(
                    at,
                    bytes([0xFF, rng.choice(MARKERS)])
                    + rng.choice(
                        (b"", length.to_bytes(2, "big") + rng.randbytes(max(0, length - 2)))
                    ),
                )
            case 5 if parts[at][:1] != b"\xff":  # the pixels of a scan, and restarts in them
                parts[at] = flipped(rng, parts[at], 8) + rng.choice(
                    (b"", b"\xff" + bytes([rng.randint(0xD0, 0xD7)]))
                )
        if not parts:
            return data
    return b"\xff\xd8\xff" + b"".join(parts)[3:] if rng.random() < 0.9 else b"".join(parts)


def mutated_any(rng: random.Random, data: bytes) -> bytes:
    """A BMP or WebP with fields of its headers changed, or anything anywhere."""
    if rng.random() < 0.5:
        return data[:12] + flipped(rng, data[12:], 6)
    at = rng.randrange(12, min(70, len(data)))
    value = rng.choice(LENGTHS).to_bytes(4, "little")[: rng.choice((1, 2, 4))]
    return data[:at] + value + data[at + len(value) :]


KINDS = {
    "png": (seeds.pngs, mutated_png),
    "jpeg": (seeds.jpegs, mutated_jpeg),
    "bmp": (seeds.bmps, mutated_any),
    "webp": (seeds.webps, mutated_any),
}
