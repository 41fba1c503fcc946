"""Pictures in files: one list, one reader, and BMP and WebP for the tools but not for topics."""

import os

import numpy as np
import pytest
from PIL import Image

from test.fuzz.picture_seeds import RGB, bmps, saved, webps
from test.image.image_messages import compressed as message
from vit_perception.image import picture_files
from vit_perception.image.decode import decode_compressed
from vit_perception.image.picture_files import (
    PICTURE_SUFFIXES,
    EncodedPicture,
    picture_data,
    pictures_below,
    read_picture,
)
from vit_perception.wire.records import BadInput

BMP, WEBP = saved("BMP"), saved("WEBP", lossless=True)


def refusal(data: bytes) -> BadInput:
    with pytest.raises(BadInput, match="accepted: ") as caught:
        EncodedPicture(data, "").decoded()
    return caught.value


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "WEBP"])
def test_a_file_decodes_as_in_pillow_whatever_its_name_says(tmp_path, form):
    file = tmp_path / "picture.jpg"
    file.write_bytes(saved(form))
    decoded = read_picture(file).decoded()
    np.testing.assert_array_equal(decoded.pixels, np.asarray(Image.open(file).convert("RGB")))
    assert (decoded.stamp_ns, decoded.frame_id) == (1, "picture.jpg")


@pytest.mark.parametrize("data", [d for k, d in enumerate(bmps()) if k != 2], ids=range(6))
def test_every_plain_bmp_is_taken(data):
    assert EncodedPicture(data, "bmp").decoded().size == RGB.shape[:2]


@pytest.mark.parametrize("data", webps()[:-1], ids=range(5))
def test_every_still_webp_is_taken(data):
    assert EncodedPicture(data, "webp").decoded().size == RGB.shape[:2]


@pytest.mark.parametrize("data", [BMP, WEBP], ids=["bmp", "webp"])
def test_topics_take_neither(data):
    with pytest.raises(BadInput, match="accepted: JPEG") as caught:
        decode_compressed(message("webp", data))
    assert caught.value.reason == "encoding"


def test_kinds_that_are_not_taken_are_named():
    assert "packed (kind 1)" in str(refusal(bmps()[2])) and "animated" in str(refusal(webps()[-1]))
    assert "header of 99 bytes" in str(refusal(BMP[:14] + b"\x63" + BMP[15:]))
    assert "the chunk" in str(refusal(WEBP[:12] + b"ABCD" + WEBP[16:]))


@pytest.mark.parametrize(
    "data", [BMP[:-1], BMP[:29], BMP[:2], WEBP[:-2], WEBP[:20], WEBP[:12]], ids=range(6)
)
def test_a_cut_file_is_short_data(data):
    assert refusal(data).reason == "short_data"


@pytest.mark.parametrize(
    "size",
    [
        b"\xff\xff\xff\x7f\1\0\0\0",
        b"\1\0\0\0\0\0\0\x80",
        bytes(8),
        b"\0\x40\0\0\1\x40\0\0",
        b"\0\0\0\x80\1\0\0\0",
    ],
    ids=range(5),
)
def test_a_bmp_that_declares_gigabytes_or_nothing_is_refused_before_it_is_decoded(
    size, monkeypatch
):
    monkeypatch.setattr(picture_files, "_pillow_pixels", lambda data: pytest.fail("decoded"))
    assert refusal(BMP[:18] + size + BMP[26:]).reason == "size"


def test_a_webp_that_declares_gigabytes_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(picture_files, "_pillow_pixels", lambda data: pytest.fail("decoded"))
    extended = webps()[4]
    assert extended[12:16] == b"VP8X"
    assert refusal(extended[:24] + b"\xff" * 6 + extended[30:]).reason == "size"
    assert refusal(WEBP[:21] + b"\xff\xff\xff\x0f" + WEBP[25:]).reason == "size"
    lossy = saved("WEBP")
    assert refusal(lossy[:26] + b"\xff\x3f\xff\x3f" + lossy[30:]).reason == "size"


def test_the_list_has_every_ending_and_leaves_out_what_is_hidden(tmp_path):
    for name in (
        "a/1.JPG",
        "a/2.jpeg",
        "3.png",
        "4.bmp",
        "5.WebP",
        "6.txt",
        "._1.jpg",
        ".ipynb_checkpoints/1.jpg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "7.jpg")
    (tmp_path / "8.jpg").mkdir()
    assert [str(f.relative_to(tmp_path)) for f in pictures_below(tmp_path)] == [
        "3.png",
        "4.bmp",
        "5.WebP",
        "a/1.JPG",
        "a/2.jpeg",
    ]
    hidden = tmp_path / ".ipynb_checkpoints"
    assert pictures_below(hidden) == [hidden / "1.jpg"]
    assert PICTURE_SUFFIXES == (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@pytest.mark.parametrize(
    "make, what",
    [
        (os.mkfifo, "a FIFO"),
        (os.mkdir, "a folder"),
        (lambda p: None, "No such file"),
        (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull"),
    ],
)
def test_what_is_no_picture_is_named_and_nothing_waits_for_it(tmp_path, make, what):
    make(tmp_path / "a.jpg")
    with pytest.raises(BadInput, match="accepted: ") as caught:
        picture_data(tmp_path / "a.jpg")
    assert (
        caught.value.reason == "file" and what in str(caught.value) and "a.jpg" in str(caught.value)
    )
