"""The gate of JPEG: every marker of ITU-T T.81, and the number of scans."""

import struct

import cv2
import numpy as np
import pytest

from test.fuzz.picture_mutations import jpeg_parts
from test.fuzz.picture_seeds import RGB, saved
from vit_perception.image import compressed
from vit_perception.image.compressed import decoded_pixels
from vit_perception.image.jpeg_file import MAX_SCANS, MAX_SEGMENTS, checked_jpeg
from vit_perception.wire.records import BadInput


def encoded(*flags: int, pixels: np.ndarray = RGB) -> bytes:
    return cv2.imencode(".jpg", pixels, list(flags))[1].tobytes()


BASELINE, PROGRESSIVE = encoded(), encoded(cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
RESTARTS = encoded(cv2.IMWRITE_JPEG_RST_INTERVAL, 1)
FRAME, SCAN = BASELINE.index(b"\xff\xc0"), BASELINE.index(b"\xff\xda")
DATA = SCAN + 14  # behind the scan header of three colours


def segment(marker: int, content: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(content) + 2) + content


def refusal(data: bytes) -> BadInput:
    with pytest.raises(BadInput, match="accepted: ") as caught:
        checked_jpeg(data)
    return caught.value


def put_in(at: int, piece: bytes, data: bytes = BASELINE) -> bytes:
    return data[:at] + piece + data[at:]


@pytest.mark.parametrize("progressive", [0, 1])
@pytest.mark.parametrize("restarts", [0, 3])
@pytest.mark.parametrize("sampling", [0x111111, 0x211111, 0x121111, 0x221111, 0x411111])
def test_every_kind_gives_the_pixels_that_opencv_gives(sampling, restarts, progressive):
    data = encoded(
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        sampling,
        cv2.IMWRITE_JPEG_RST_INTERVAL,
        restarts,
        cv2.IMWRITE_JPEG_PROGRESSIVE,
        progressive,
    )
    picture = checked_jpeg(data)
    assert (picture.height, picture.width) == RGB.shape[:2]
    for grey, flag in ((False, cv2.IMREAD_COLOR), (True, cv2.IMREAD_GRAYSCALE)):
        pixels = decoded_pixels(picture, grey)
        np.testing.assert_array_equal(
            pixels if grey else pixels[..., ::-1], cv2.imdecode(np.frombuffer(data, np.uint8), flag)
        )


@pytest.mark.skipif(compressed.simplejpeg is None, reason="simplejpeg is not installed")
@pytest.mark.parametrize("mode, options", [("L", {}), ("CMYK", {}), ("RGB", {"keep_rgb": True})])
def test_without_simplejpeg_the_pixels_are_the_same(mode, options, monkeypatch):
    picture = checked_jpeg(saved("JPEG", mode, **options))
    with_it = [decoded_pixels(picture, grey).astype(int) for grey in (False, True)]
    monkeypatch.setattr(compressed, "simplejpeg", None)
    for pixels, grey in zip(with_it, (False, True)):
        assert np.abs(pixels - decoded_pixels(picture, grey)).max() <= (1 if mode == "CMYK" else 0)


def test_a_marker_without_length_does_not_hide_the_size():
    """FF01 was taken for a segment, and what it seemed to hold hid a frame header of 32,000 px a
    side.
    """
    hidden = segment(
        0xC0, struct.pack(">BHHB", 8, 16, 16, 3) + bytes([1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0])
    )
    large = BASELINE[: FRAME + 5] + struct.pack(">HH", 32000, 32000) + BASELINE[FRAME + 9 :]
    for marker in (0x01, 0xD0, 0xD7, 0xD8, 0xD9):
        lying = put_in(2, b"\xff" + bytes([marker]) + hidden, large)
        assert refusal(lying).reason in ("decode", "size")
    assert refusal(put_in(FRAME, b"\xff\x01", large)).reason == "size"
    assert checked_jpeg(put_in(FRAME, b"\xff\x01")).data == checked_jpeg(BASELINE).data


@pytest.mark.parametrize(
    "marker, what",
    [
        *[(m, "lossless") for m in (0xC3, 0xC7, 0xCB)],
        *[(m, "hierarchical") for m in (0xC5, 0xC6, 0xC7, 0xDE, 0xDF)],
        *[(m, "arithmetic-coded") for m in (0xC9, 0xCA, 0xCB, 0xCC, 0xCD, 0xCE, 0xCF)],
        (0xDC, "height at its end"),
        *[(m, f"marker {m:02x}") for m in (0x00, 0x02, 0xBF, 0xC8, 0xD0, 0xD7, 0xD8, 0xF0, 0xFD)],
    ],
)
def test_what_is_no_baseline_or_progressive_jpeg_is_refused_by_name(marker, what):
    for at in (2, FRAME, SCAN):
        error = refusal(put_in(at, segment(marker, bytes(8))))
        assert error.reason == "decode" and what in str(error)


@pytest.mark.parametrize(
    "data, reason, what",
    [
        (put_in(FRAME, BASELINE[FRAME : FRAME + 19]), "decode", "two frame headers"),
        (put_in(2, BASELINE[SCAN:DATA]), "decode", "scan before its frame header"),
        (BASELINE[:SCAN] + b"\xff\xd9", "decode", "no scan"),
        (b"\xff\xd8\xff\xd9", "decode", "no frame header"),
        (put_in(2, b"\0\0"), "decode", "00 at byte 2"),
        (put_in(2, b"\xff\xfe\0\1"), "decode", "length of 1 bytes"),
        (BASELINE[: FRAME + 4] + b"\x0c" + BASELINE[FRAME + 5 :], "decode", "12 bits a sample"),
        (BASELINE[: FRAME + 5] + bytes(2) + BASELINE[FRAME + 7 :], "size", "0 x 40 px"),
        (BASELINE[: FRAME + 11] + b"\x51" + BASELINE[FRAME + 12 :], "decode", "5 x 1"),
        (
            BASELINE[: FRAME + 11] + b"\x44" + BASELINE[FRAME + 12 :],
            "decode",
            "10 blocks in an MCU",
        ),
        (BASELINE[: FRAME + 13] + b"\1" + BASELINE[FRAME + 14 :], "decode", "stands there twice"),
        (BASELINE[: FRAME + 9] + b"\2" + BASELINE[FRAME + 10 :], "decode", "15 bytes"),
        (BASELINE[: SCAN + 5] + b"\7" + BASELINE[SCAN + 6 :], "decode", "its frame header has not"),
        (BASELINE[: DATA - 2] + b"\x3e" + BASELINE[DATA - 1 :], "decode", "coefficients 0 to 62"),
        (put_in(len(BASELINE) - 2, BASELINE[SCAN:DATA] + b"\0"), "decode", "does not follow"),
        (BASELINE[:-2], "short_data", "no end marker"),
        (put_in(len(BASELINE) - 2, b"\xff\xfe\x90\0", BASELINE), "short_data", "no end marker"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_breaks_the_rules_is_refused_by_name(data, reason, what):
    error = refusal(data)
    assert error.reason == reason and what in str(error)


def test_an_end_marker_in_a_thumbnail_or_behind_the_data_is_not_the_picture_s():
    exif = segment(0xE1, b"Exif\0\0" + encoded(pixels=RGB[:8, :8]))
    assert refusal(put_in(2, exif, BASELINE[:-2])).reason == "short_data"
    with_thumbnail = checked_jpeg(put_in(2, exif))
    assert with_thumbnail.data == checked_jpeg(BASELINE).data


def test_what_cameras_and_phones_put_around_the_picture_is_not_handed_on():
    behind = BASELINE + bytes(5000) + b"\xff\xd8\xff" + PROGRESSIVE
    fills = BASELINE.replace(b"\xff\xda", b"\xff\xff\xff\xff\xda").replace(
        b"\xff\xdb", b"\xff\xff\xdb"
    )
    texts = put_in(
        FRAME, segment(0xFE, b"by hand") + segment(0xE2, b"ICC_PROFILE\0" + bytes(60000))
    )
    assert len(fills) > len(BASELINE)
    for data in (behind, fills, texts):
        assert checked_jpeg(data).data == checked_jpeg(BASELINE).data
    np.testing.assert_array_equal(
        decoded_pixels(checked_jpeg(fills)), decoded_pixels(checked_jpeg(BASELINE))
    )


def test_a_frame_of_motion_jpeg_leaves_out_the_usual_huffman_tables():
    parts = jpeg_parts(BASELINE)
    without = b"".join(part for part in parts if part[:2] != b"\xff\xc4")
    assert len(without) < len(BASELINE) - 400
    np.testing.assert_array_equal(
        decoded_pixels(checked_jpeg(without)), decoded_pixels(checked_jpeg(BASELINE))
    )


def test_many_segments_are_refused():
    assert f"more than {MAX_SEGMENTS} segments" in str(
        refusal(put_in(2, segment(0xFE, b"") * MAX_SEGMENTS))
    )


def progressive(*scans: bytes) -> bytes:
    """8 x 8 px of grey in ``scans``. Tables have one code, 0: no difference for DC, the block's end
    for AC.
    """
    tables = segment(0xDB, b"\0" + b"\1" * 64) + b"".join(
        segment(0xC4, bytes([k, 1]) + bytes(16)) for k in (0, 0x10)
    )
    frame = segment(0xC2, struct.pack(">BHHB", 8, 8, 8, 1) + b"\1\x11\0")
    return b"\xff\xd8" + tables + frame + b"".join(scans) + b"\xff\xd9"


def scan(first: int, last: int, high: int, low: int) -> bytes:
    return segment(0xDA, bytes([1, 1, 0, first, last, high << 4 | low])) + b"\x7f"


REFINED = [
    scan(0, 0, 0, 13),
    *(scan(0, 0, low + 1, low) for low in range(12, -1, -1)),
    scan(1, 63, 0, 13),
    *(scan(1, 63, low + 1, low) for low in range(12, -1, -1)),
]


def test_progressive_scans_are_taken_up_to_the_bound():
    assert (decoded_pixels(checked_jpeg(progressive(*REFINED))) == 128).all()
    bands = [scan(0, 0, 0, 0), *(scan(k, k, 0, 0) for k in range(1, 64))]
    assert (
        len(bands) <= MAX_SCANS and (decoded_pixels(checked_jpeg(progressive(*bands))) == 128).all()
    )
    too_many = [
        scan(0, 0, 0, 0),
        *(s for k in range(1, 64) for s in (scan(k, k, 0, 1), scan(k, k, 1, 0))),
    ]
    error = refusal(progressive(*too_many))
    assert error.reason == "decode" and f"more than {MAX_SCANS} scans" in str(error)


@pytest.mark.parametrize(
    "scans",
    [
        [scan(0, 0, 0, 0), scan(0, 0, 0, 0)],
        [scan(0, 0, 0, 1), scan(0, 0, 0, 1)],
        [scan(0, 0, 0, 2), scan(0, 0, 1, 0)],
        [scan(0, 0, 1, 0)],
        [scan(1, 63, 0, 0)],
        [scan(0, 63, 0, 0)],
        [scan(0, 0, 0, 14)],
        [scan(0, 0, 0, 0), scan(5, 3, 0, 0)],
        [scan(0, 0, 0, 0), scan(1, 64, 0, 0)],
        [scan(0, 0, 0, 0), scan(1, 9, 0, 0), scan(9, 63, 0, 0)],
    ],
    ids=range(10),
)
def test_a_scan_that_brings_nothing_new_is_refused(scans):
    """A progressive JPEG of 231 kB with thousands of scans took 10 s, one of 1.1 MB 86 s."""
    assert "does not follow" in str(refusal(progressive(*scans)))


@pytest.mark.parametrize("kept", range(1, len(REFINED)))
def test_a_progressive_picture_whose_last_scans_are_cut_off_is_refused(kept):
    error = refusal(progressive(*REFINED[:kept]))
    assert error.reason == "decode" and f"ends after {kept} scans" in str(error)


def test_encoders_stay_far_below_the_bound():
    assert 5 < PROGRESSIVE.count(b"\xff\xda") <= 12 < MAX_SCANS
    assert RESTARTS.count(b"\xff\xd0") and checked_jpeg(RESTARTS)
