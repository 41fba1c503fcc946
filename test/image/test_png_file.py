"""The gate of PNG: the specification's rules, and what OpenCV 5.0 does not survive."""

import zlib

import cv2
import numpy as np
import pytest

from test.fuzz.picture_seeds import ANCILLARY, DEPTHS, png, png_chunk, png_header, row_bytes_in_all
from vit_perception.image import png_file
from vit_perception.image.compressed import decoded_pixels
from vit_perception.image.png_file import SIGNATURE, checked_png
from vit_perception.wire.records import BadInput

ROWS = bytes(24 * (1 + 3 * 40))
HEADER = png_header(40, 24, 8, 2, 0)


def made(*chunks: tuple[bytes, bytes]) -> bytes:
    return SIGNATURE + b"".join(png_chunk(kind, content) for kind, content in chunks)


def with_rows(rows: bytes, header: bytes = HEADER) -> bytes:
    return made((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


def refusal(data: bytes) -> BadInput:
    with pytest.raises(BadInput, match="accepted: ") as caught:
        checked_png(data)
    return caught.value


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("colour_type, depth", [(c, d) for c in DEPTHS for d in DEPTHS[c]])
def test_every_colour_type_gives_the_pixels_that_opencv_gives(colour_type, depth, interlace):
    data = png(colour_type, depth, interlace, size=(13, 9))
    picture = checked_png(data)
    assert (picture.height, picture.width) == (9, 13)
    np.testing.assert_array_equal(
        decoded_pixels(picture)[..., ::-1], cv2.imdecode(np.frombuffer(data, np.uint8), 1)
    )


@pytest.mark.parametrize(
    "kind", sorted(set(ANCILLARY) - {b"acTL", b"fcTL", b"fdAT"}), ids=bytes.decode
)
def test_what_only_describes_the_picture_is_not_handed_on(kind):
    data = png(2, 8, 0, (kind,))
    assert kind in data and kind not in checked_png(data).data


@pytest.mark.parametrize("kind", [b"acTL", b"fcTL", b"fdAT"], ids=bytes.decode)
def test_an_animation_is_refused_by_name_before_opencv_crashes_on_it(kind):
    error = refusal(png(6, 8, 0, (kind,)))
    assert error.reason == "decode" and f"animated (chunk {kind.decode()})" in str(error)
    behind = png(6, 8, 0).replace(
        png_chunk(b"IEND", b""), png_chunk(kind, ANCILLARY[kind]) + png_chunk(b"IEND", b"")
    )
    assert "animated" in str(refusal(behind))


@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND", b"tEXt"], ids=bytes.decode)
@pytest.mark.parametrize("length", [5000, 2**31 - 1, 2**31, 2**32 - 16, 2**32 - 1])
def test_a_chunk_longer_than_the_file_is_short_data(kind, length):
    """OpenCV allocates the length as it stands there: an IEND of 4 GB took a file of 49 bytes."""
    data = png(2, 8, 0, (b"tEXt",))
    at = data.index(kind) - 4
    assert refusal(data[:at] + length.to_bytes(4, "big") + data[at + 4 :]).reason == "short_data"


PACKED, PALETTE = (b"IDAT", zlib.compress(ROWS)), (b"PLTE", bytes(6))
INDEXED, GREY = png_header(40, 24, 8, 3, 0), png_header(40, 24, 8, 0, 0)


@pytest.mark.parametrize(
    "chunks, what",
    [
        (
            [(b"tEXt", b"a\0b"), (b"IHDR", HEADER), PACKED, (b"IEND", b"")],
            "begins with the chunk tEXt",
        ),
        ([(b"IHDR", HEADER[:12]), PACKED, (b"IEND", b"")], "IHDR has 12 bytes"),
        ([(b"IHDR", HEADER), (b"IHDR", HEADER), PACKED, (b"IEND", b"")], "a second chunk IHDR"),
        ([(b"IHDR", HEADER), PACKED, (b"IEND", b"x")], "IEND has 1 bytes"),
        ([(b"IHDR", HEADER), (b"IEND", b"")], "no IDAT"),
        (
            [(b"IHDR", HEADER), PACKED, (b"tEXt", b"a\0b"), PACKED, (b"IEND", b"")],
            "do not follow each other",
        ),
        ([(b"IHDR", HEADER), (b"ABCD", b""), PACKED, (b"IEND", b"")], "the unknown chunk ABCD"),
        ([(b"IHDR", INDEXED), PACKED, (b"IEND", b"")], "no palette"),
        ([(b"IHDR", INDEXED), PALETTE, PALETTE, PACKED, (b"IEND", b"")], "two palettes"),
        ([(b"IHDR", HEADER), PACKED, PALETTE, (b"IEND", b"")], "two palettes, or one behind"),
        ([(b"IHDR", INDEXED), (b"PLTE", bytes(7)), PACKED, (b"IEND", b"")], "palette has 7 bytes"),
        (
            [(b"IHDR", INDEXED), (b"PLTE", bytes(3 * 257)), PACKED, (b"IEND", b"")],
            "palette has 771 bytes",
        ),
        (
            [(b"IHDR", GREY), PALETTE, PACKED, (b"IEND", b"")],
            "palette has 6 bytes for colour type 0",
        ),
        ([(b"IHDR", png_header(40, 24, 4, 2, 0)), PACKED, (b"IEND", b"")], "colour type 2, 4 bits"),
        ([(b"IHDR", png_header(40, 24, 8, 5, 0)), PACKED, (b"IEND", b"")], "colour type 5"),
        ([(b"IHDR", HEADER[:10] + b"\1\0\0"), PACKED, (b"IEND", b"")], "compression 1"),
        ([(b"IHDR", HEADER[:11] + b"\1\0"), PACKED, (b"IEND", b"")], "filtering 1"),
        ([(b"IHDR", HEADER[:12] + b"\2"), PACKED, (b"IEND", b"")], "interlacing 2"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_chunks_that_break_the_rules_are_named(chunks, what):
    error = refusal(made(*chunks))
    assert error.reason == "decode" and what in str(error)


@pytest.mark.parametrize(
    "rows, what",
    [
        (ROWS[:-1], "unpack to 2903 bytes"),
        (ROWS + b"\0", "more than 2904 bytes"),
        (ROWS[:-121] + b"\5" + ROWS[-120:], "the filter 5"),
        (ROWS + bytes(10**7), "more than 2904 bytes"),
    ],
    ids=["short", "long", "filter", "very long"],
)
def test_pixels_that_are_not_those_of_the_header_are_refused(rows, what):
    assert what in str(refusal(with_rows(rows)))


def test_packed_pixels_that_are_damaged_are_refused_though_the_checksum_fits():
    packed = bytearray(
        zlib.compress(np.random.default_rng(0).integers(0, 4, 2904, np.uint8).tobytes())
    )
    packed[200:210] = bytes(10)
    assert "do not unpack" in str(
        refusal(made((b"IHDR", HEADER), (b"IDAT", bytes(packed)), (b"IEND", b"")))
    )
    cut = zlib.compress(ROWS)[:-2]
    assert "do not end" in str(refusal(made((b"IHDR", HEADER), (b"IDAT", cut), (b"IEND", b""))))


def test_a_byte_changed_anywhere_does_not_pass():
    data = png(2, 8, 0, (b"gAMA",), size=(5, 4))
    for at in range(8, len(data)):
        assert refusal(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])


def test_a_pixel_that_names_no_colour_of_the_palette_is_black():
    rows = bytes(1) + bytes([0, 1, 2, 200])
    data = made(
        (b"IHDR", png_header(4, 1, 8, 3, 0)),
        (b"PLTE", b"\1\2\3\4\5\6"),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    assert decoded_pixels(checked_png(data)).tolist() == [
        [[1, 2, 3], [4, 5, 6], [0, 0, 0], [0, 0, 0]]
    ]


def test_what_stands_behind_the_end_is_not_handed_on():
    data = png(2, 8, 0)
    assert checked_png(data + b"<svg>" * 100).data == checked_png(data).data


def test_size_is_refused_before_anything_is_unpacked(monkeypatch):
    monkeypatch.setattr(png_file.zlib, "decompressobj", lambda: pytest.fail("unpacked"))
    assert refusal(with_rows(ROWS, png_header(60000, 60000, 8, 2, 0))).reason == "size"
    assert refusal(with_rows(ROWS, png_header(0, 24, 8, 2, 0))).reason == "size"
    error = refusal(with_rows(ROWS, png_header(8192, 8192, 16, 6, 0)))
    assert error.reason == "size" and "unpacks to 536879104 bytes" in str(error)


def test_the_rows_of_an_interlaced_picture_are_counted_pass_by_pass():
    for size in [(1, 1), (3, 2), (8, 8), (13, 9)]:
        header = png_header(*size, 8, 2, 1)
        rows = bytes(row_bytes_in_all(*size, 8, 2, 1))
        assert (
            checked_png(with_rows(rows, header)).width,
            checked_png(with_rows(rows, header)).height,
        ) == size
        assert refusal(with_rows(rows[:-1], header)).reason == "decode"


def test_many_chunks_are_refused():
    chunks = [(b"IHDR", HEADER), *[(b"IDAT", b"")] * png_file.MAX_CHUNKS, PACKED, (b"IEND", b"")]
    assert f"more than {png_file.MAX_CHUNKS} chunks" in str(refusal(made(*chunks)))
