"""What a JPEG or PNG says of itself, read before it is decoded, so that a damaged file costs nothing."""

from vit_perception.types import BadInput


def declared_size(data: bytes, image_format: str) -> tuple[int, int]:
    """(height, width) from the file's header, after checking that the file is whole as far as its markers say.

    Raises BadInput with the reason ``encoding`` (neither JPEG nor PNG), ``short_data`` or ``decode``.
    """
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png_size(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg_size(data)
    raise BadInput("encoding", f"format is {image_format!r} and data starts with {data[:4].hex() or 'nothing'}; "
                               "accepted: JPEG (ffd8ff) or PNG (89504e47)")


def _png_size(data: bytes) -> tuple[int, int]:
    """PNG specification, section 5: chunks of length, type, content, checksum; IHDR first, IEND last."""
    position = 8
    # Chunk by chunk, because OpenCV allocates what a damaged length says: 259 bytes took it 10 s and 4 GB.
    while position + 12 <= len(data):
        if data[position + 4:position + 8] == b"IEND":
            return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
        position += 12 + int.from_bytes(data[position:position + 4], "big")
    raise BadInput("short_data", f"the PNG has no IEND chunk in its {len(data)} bytes; accepted: a whole file")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """ITU-T T.81, B.1: segments of marker, length, content. Frame headers are C0 to CF without C4, C8, CC."""
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2:position + 4], "big")
        if marker == 0xFF:  # a fill byte
            position += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            # Decoders fill what is missing with grey and report nothing, hence the look for the end marker.
            if data.rfind(b"\xff\xd9") < position:
                raise BadInput("short_data", f"the JPEG has no end marker in its {len(data)} bytes; "
                                             "accepted: a whole file")
            return (int.from_bytes(data[position + 5:position + 7], "big"),
                    int.from_bytes(data[position + 7:position + 9], "big"))
        else:
            position += 2 + length
    raise BadInput("decode", f"the JPEG of {len(data)} bytes has no frame header; accepted: a whole JPEG")
