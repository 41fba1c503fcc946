"""Check a JPEG marker by marker, by ITU-T T.81, before a decoder gets it.

libjpeg continues when a file breaks the rules, and its time depends on what the file says: a scan
of 12 bytes makes it visit every block of the image. Here each segment is checked, and only those
that hold the image are passed on: no EXIF with its thumbnail, no comments, nothing after the end.
"""

import re
from dataclasses import dataclass, field

from vit_perception.image.picture import PictureFile, check_size, cut, damaged

ACCEPTED = "a whole JPEG, baseline or progressive, 8 bits, Huffman-coded"
# T.81 sends a coefficient at most 14 times (G.1.1.1: first without its lowest bits, of which there
# are at most 13, then bit by bit). For DC of all colours together, and AC of each of up to four,
# that makes 70 scans; encoders write ten.
MAX_SCANS = 70
MAX_SEGMENTS = 4096  # extended XMP and colour profiles of phones take a few hundred
MAX_BLOCKS_IN_MCU = 10  # T.81, B.2.3

EOI, SOS, TEM, DHT, DQT, DRI, COM = 0xD9, 0xDA, 0x01, 0xC4, 0xDB, 0xDD, 0xFE
APP0, APP14, APP15 = 0xE0, 0xEE, 0xEF  # JFIF and Adobe say how the colours are stored
_KEPT = (DHT, DQT, DRI, APP0, APP14)
_PROGRESSIVE = 0xC2
_FRAMES = (0xC0, 0xC1, _PROGRESSIVE)
_REFUSED = {
    0xC3: "lossless",
    0xC5: "hierarchical",
    0xC6: "hierarchical",
    0xC7: "hierarchical and lossless",
    0xC9: "arithmetic-coded",
    0xCA: "arithmetic-coded",
    0xCB: "arithmetic-coded and lossless",
    0xCC: "arithmetic-coded",
    0xCD: "arithmetic-coded",
    0xCE: "arithmetic-coded",
    0xCF: "arithmetic-coded",
    0xDC: "one that says its height at its end (DNL)",
    0xDE: "hierarchical",
    0xDF: "hierarchical",
}
# Within a scan, FF00 is a byte of data, FFD0 to FFD7 are restarts, and FFFF begins with a fill
# byte.
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_FILL = re.compile(rb"\xff+")


@dataclass
class _Component:
    """One colour."""

    blocks: int  # in an MCU
    # Of each coefficient, the lowest bit that has been sent; None if nothing has.
    lowest_bit: list[int | None] = field(default_factory=lambda: [None] * 64)


@dataclass
class _Frame:
    height: int
    width: int
    progressive: bool
    components: dict[int, _Component]


def checked_jpeg(data: bytes) -> PictureFile:
    """Return the image in ``data``, which begins with FFD8.

    Raises:
        BadInput: ``decode``, ``short_data`` or ``size``.
    """
    frame: _Frame | None = None
    kept = [data[:2]]
    position = 2
    scans = 0
    for _ in range(MAX_SEGMENTS):
        if data[position : position + 1] not in (b"\xff", b""):
            raise damaged(
                f"the JPEG has {data[position]:02x} at byte {position}, where a marker belongs",
                ACCEPTED,
            )
        fill = _FILL.match(data, position)
        position = fill.end() if fill else len(data)
        if position >= len(data):
            raise _ends(data, frame)
        marker = data[position]
        begin = position + 1
        if marker == EOI:
            return _whole(data, frame, scans, kept)
        if marker == TEM:  # it has no length
            position = begin
            continue
        _refuse(marker)
        length = int.from_bytes(data[begin : begin + 2], "big")
        position = begin + length
        if length < 2 and begin + 2 <= len(data):
            raise damaged(
                f"the JPEG's marker {marker:02x} has a length of {length} bytes", ACCEPTED
            )
        if position > len(data) or begin + 2 > len(data):
            raise _ends(data, frame)
        content = data[begin + 2 : position]
        if marker in _FRAMES:
            if frame is not None:
                raise damaged("the JPEG has two frame headers", ACCEPTED)
            frame = _frame(marker, content)
        elif marker == SOS:
            scans += 1
            _scan(content, frame, scans)
            end = _MARKER_IN_SCAN.search(data, position)
            if end is None:
                raise _ends(data, frame)
            position = end.start()
        elif marker not in _KEPT:
            continue
        kept.append(b"\xff" + data[begin - 1 : position])
    raise damaged(f"the JPEG has more than {MAX_SEGMENTS} segments", f"up to {MAX_SEGMENTS}")


def _ends(data: bytes, frame: _Frame | None) -> Exception:
    if frame is None:
        return damaged(f"the JPEG of {len(data)} bytes has no frame header", ACCEPTED)
    # Decoders fill what is missing with grey.
    return cut(f"the JPEG has no end marker in its {len(data)} bytes")


def _refuse(marker: int) -> None:
    if marker in _REFUSED:
        raise damaged(f"the JPEG is {_REFUSED[marker]} (marker {marker:02x})", ACCEPTED)
    if marker not in (*_FRAMES, DHT, SOS, DQT, DRI, COM) and not APP0 <= marker <= APP15:
        raise damaged(f"the JPEG has the marker {marker:02x} where a segment belongs", ACCEPTED)


def _frame(marker: int, content: bytes) -> _Frame:
    """Check a frame header (T.81, B.2.2)."""
    count = content[5] if len(content) > 5 else 0
    if len(content) < 6 or len(content) != 6 + 3 * count:
        raise damaged(
            f"the JPEG's frame header has {len(content)} bytes for {count} colours", ACCEPTED
        )
    if content[0] != 8:
        raise damaged(f"the JPEG has {content[0]} bits a sample", ACCEPTED)
    if count not in (1, 3, 4):
        raise damaged(f"the JPEG has {count} colours", "1 (grey), 3 or 4 (CMYK)")
    height = int.from_bytes(content[1:3], "big")
    width = int.from_bytes(content[3:5], "big")
    check_size(height, width)
    components: dict[int, _Component] = {}
    for at in range(6, len(content), 3):
        name, sampling, table = content[at : at + 3]
        across = sampling >> 4
        down = sampling & 15
        if name in components or not (1 <= across <= 4 and 1 <= down <= 4) or table > 3:
            raise damaged(
                f"the JPEG's colour {name} has the sampling {across} x {down} and the table "
                f"{table}, or stands there twice",
                ACCEPTED,
            )
        components[name] = _Component(across * down)
    return _Frame(
        height=height,
        width=width,
        progressive=marker == _PROGRESSIVE,
        components=components,
    )


def _scan(content: bytes, frame: _Frame | None, number: int) -> None:
    """Check a scan header (T.81, B.2.3 and G.1.1.1): no coefficient is sent twice."""
    if frame is None:
        raise damaged("the JPEG has a scan before its frame header", ACCEPTED)
    if number > MAX_SCANS:
        raise damaged(
            f"the JPEG has more than {MAX_SCANS} scans", f"up to {MAX_SCANS}; encoders write ten"
        )
    count = content[0] if content else 0
    if len(content) != 4 + 2 * count or not 1 <= count <= 4:
        raise damaged(
            f"the JPEG's scan header has {len(content)} bytes for {count} colours", ACCEPTED
        )
    names = content[1 : 1 + 2 * count : 2]
    first, last = content[-3:-1]  # coefficients
    high = content[-1] >> 4  # the bit that was sent last, or 0
    low = content[-1] & 15  # the bit that is sent now
    if len(set(names)) < count or not set(names) <= set(frame.components):
        raise damaged(
            "the JPEG's scan names colours that its frame header has not, or one twice", ACCEPTED
        )
    components = [frame.components[name] for name in names]
    if count > 1 and sum(component.blocks for component in components) > MAX_BLOCKS_IN_MCU:
        raise damaged(f"the JPEG has more than {MAX_BLOCKS_IN_MCU} blocks in an MCU", ACCEPTED)
    if frame.progressive:
        # DC may be sent for all colours together, AC for one at a time and after its DC.
        fits = last == 0 if first == 0 else first <= last <= 63 and count == 1
        fits = fits and low <= 13 and high in (0, low + 1)
        fits = fits and (first == 0 or components[0].lowest_bit[0] is not None)
    else:
        fits = (first, last, high, low) == (0, 63, 0, 0)
    earlier = high or None  # what must have been sent so far
    for component in components:
        band = slice(first, last + 1)
        fits = fits and all(bit == earlier for bit in component.lowest_bit[band])
        component.lowest_bit[band] = [low] * (last + 1 - first)
    if not fits:
        raise damaged(
            f"the JPEG's scan {number} brings coefficients {first} to {last} from bit {high} to "
            f"{low}, which does not follow from the scans before it",
            ACCEPTED,
        )


def _whole(data: bytes, frame: _Frame | None, scans: int, kept: list[bytes]) -> PictureFile:
    """Put the kept segments together, if every coefficient was sent to its last bit."""
    if frame is None or not scans:
        raise _ends(data, None) if frame is None else damaged("the JPEG has no scan", ACCEPTED)
    if any(bit != 0 for component in frame.components.values() for bit in component.lowest_bit):
        raise damaged(f"the JPEG ends after {scans} scans, with coefficients missing", ACCEPTED)
    return PictureFile(
        kind="jpeg",
        height=frame.height,
        width=frame.width,
        data=b"".join((*kept, b"\xff\xd9")),
        colours=len(frame.components),
    )
