"""From bytes to pixels: damage inside a JPEG, a decoder that gives another size, and silence on
stderr.
"""

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from test.conftest import ROOT
from test.fuzz.picture_seeds import jpegs, png, pngs
from test.image.image_messages import compressed as message
from vit_perception.image import compressed
from vit_perception.image.compressed import checked_picture, decoded_pixels
from vit_perception.image.decode import decode_compressed
from vit_perception.image.picture import MAX_PICTURE_BYTES
from vit_perception.wire.records import BadInput

PHOTO = cv2.imread(str(ROOT / "vit_perception/engines/parity_pictures/coffee.jpg"))
KINDS = {
    "baseline": [],
    "restarts": [cv2.IMWRITE_JPEG_RST_INTERVAL, 4],
    "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "4:2:0": [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x221111],
    "grey": [],
}


def photo(kind: str) -> bytes:
    pixels = cv2.cvtColor(PHOTO, cv2.COLOR_BGR2GRAY) if kind == "grey" else PHOTO
    return cv2.imencode(".jpg", pixels, KINDS[kind])[1].tobytes()


def damages(data: bytes) -> dict[str, bytes]:
    """What a bad link, a bad disk or a bad driver leaves of the middle of the picture; the end
    marker stays.
    """
    middle = (data.index(b"\xff\xda") + len(data)) // 2
    return {
        "1000 bytes lost": data[:middle] + data[middle + 1000 :],
        "half lost": data[:middle] + b"\xff\xd9",
        "1000 bytes twice": data[:middle] + data[middle - 1000 : middle] + data[middle:],
        "a restart where none belongs": data[:middle] + b"\xff\xd3" + data[middle:],
    }


needs_simplejpeg = pytest.mark.skipif(
    compressed.simplejpeg is None, reason="simplejpeg is not installed"
)


@needs_simplejpeg
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", damages(photo("baseline")))
def test_a_jpeg_that_is_damaged_inside_is_dropped_as_broken(kind, damage, capfd):
    """libjpeg only warns, and OpenCV gives a picture of which half is grey or shifted."""
    data = damages(photo(kind))[damage]
    with pytest.raises(BadInput, match="accepted: a whole JPEG") as caught:
        decode_compressed(message("jpeg", data))
    assert caught.value.reason == "decode" and capfd.readouterr().err == ""


@needs_simplejpeg
def test_a_few_bytes_that_a_webcam_fills_up_with_are_no_damage():
    data = photo("baseline")
    whole = decode_compressed(message("jpeg", data)).pixels
    for filled in (1, 4, 8):
        pixels = decode_compressed(message("jpeg", data[:-2] + b"\x55" * filled + data[-2:])).pixels
        np.testing.assert_array_equal(pixels, whole)
    with pytest.raises(BadInput, match="extraneous bytes before marker 0xd9"):
        decode_compressed(message("jpeg", data[:-2] + b"\x55" * 400 + data[-2:]))


def test_without_simplejpeg_it_goes_on_and_says_once_what_is_not_seen(monkeypatch, caplog):
    monkeypatch.setattr(compressed, "simplejpeg", None)
    monkeypatch.setattr(compressed, "_told", [])
    for _ in range(3):
        pixels = decode_compressed(message("jpeg", photo("baseline"))).pixels
    np.testing.assert_array_equal(
        pixels[..., ::-1], cv2.imdecode(np.frombuffer(photo("baseline"), np.uint8), 1)
    )
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1 and "pip install simplejpeg" in said[0] and "damaged inside" in said[0]


@pytest.mark.parametrize("data", [png(2, 8, 0), photo("baseline")], ids=["png", "jpeg"])
def test_a_decoder_that_gives_another_size_than_the_file_declares_is_not_believed(data):
    picture = checked_picture(data, "")
    with pytest.raises(
        BadInput, match=f"declares {picture.height + 8} x {picture.width} px and decodes to"
    ):
        decoded_pixels(replace(picture, height=picture.height + 8))


def test_a_file_of_gigabytes_is_refused_unread():
    class Endless(bytes):
        def __len__(self):
            return MAX_PICTURE_BYTES + 1

    with pytest.raises(BadInput, match=f"accepted: up to {MAX_PICTURE_BYTES}") as caught:
        checked_picture(Endless(), "jpeg")
    assert caught.value.reason == "size"


@needs_simplejpeg
def test_a_flood_of_broken_pictures_prints_nothing(capfd):
    rng, outcomes = np.random.default_rng(1), []
    for data in (*jpegs(), *pngs()):
        for _ in range(10):
            damaged = bytearray(data)
            for at in rng.integers(len(data) // 2, len(data), 3):
                damaged[at] = rng.integers(256)
            try:
                decode_compressed(message("", bytes(damaged)))
                outcomes.append("decoded")
            except BadInput as error:
                outcomes.append(error.reason)
    assert {"decode", "decoded"} <= set(outcomes)
    assert capfd.readouterr() == ("", "")


LIMITS = """
import os
os.environ["OPENCV_IO_MAX_IMAGE_WIDTH"] = "500"
from vit_perception.image.opencv import cv2
import numpy as np
def taken(height, width):
    try:
        return cv2.imdecode(cv2.imencode(".png", np.zeros((height, width), np.uint8))[1], 0) is not None
    except cv2.error:
        return False
print(taken(100, 100), taken(16385, 4), taken(16384, 4), taken(4, 501), taken(4, 500))
print(sorted(name for name in os.environ if name.startswith("OPENCV_IO")))
"""  # noqa: E501


def test_opencv_has_the_limits_as_well_and_the_environment_is_left_as_it_was():
    done = subprocess.run([sys.executable, "-c", LIMITS], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.splitlines() == [
        "True False True False True",
        "['OPENCV_IO_MAX_IMAGE_WIDTH']",
    ], done.stderr
