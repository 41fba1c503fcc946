"""One battery for every decoder: each encoding, and each kind of compressed image and file."""

import array
import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image as Pillow

from test.fuzz.picture_seeds import RGB, saved
from test.image.image_messages import compressed, header, image, random_rows
from vit_perception.image.decode import decode_compressed, decode_image
from vit_perception.image.encodings import ACCEPTED_ENCODINGS
from vit_perception.image.picture_files import EncodedPicture
from vit_perception.wire.records import BadInput, RgbImage
from vit_perception.wire.stamps import stamp_ns_of

SIZE = (6, 8)
BUFFERS = (
    bytes,
    bytearray,
    memoryview,
    lambda data: array.array("B", data),
    lambda data: np.frombuffer(data, np.uint8),
)


class Decoder(NamedTuple):
    """One kind of message, and what decodes it."""

    decode: Callable[[SimpleNamespace], RgbImage]
    message: SimpleNamespace
    size: tuple[int, int]  # (height, width) in px

    def with_(self, **fields: object) -> SimpleNamespace:
        message = copy.copy(self.message)
        vars(message).update(fields)
        return message

    def refusal(self, **fields: object) -> BadInput:
        with pytest.raises(BadInput, match="accepted: ") as caught:
            self.decode(self.with_(**fields))
        return caught.value


def of_encoding(name: str) -> Decoder:
    return Decoder(decode_image, image(name, SIZE, random_rows(name, *SIZE)), SIZE)


def of_data(data: bytes) -> Decoder:
    return Decoder(decode_compressed, compressed("", data), RGB.shape[:2])


def of_file(data: bytes, ending: str) -> Decoder:
    message = SimpleNamespace(header=header(), format=ending, data=data)
    return Decoder(decode_file, message, RGB.shape[:2])


def decode_file(message: SimpleNamespace) -> RgbImage:
    picture = EncodedPicture(
        data=bytes(message.data),
        format=message.format,
        stamp_ns=stamp_ns_of(message.header),
        frame_id=message.header.frame_id,
    )
    return picture.decoded()


RAW = {name: of_encoding(name) for name in ACCEPTED_ENCODINGS}
COMPRESSED = {
    "jpeg": of_data(saved("JPEG")),
    "jpeg progressive": of_data(saved("JPEG", progressive=True)),
    "jpeg grey": of_data(saved("JPEG", "L")),
    "jpeg cmyk": of_data(saved("JPEG", "CMYK")),
    "png": of_data(saved("PNG")),
    "png grey": of_data(saved("PNG", "L")),
    "png alpha": of_data(saved("PNG", "RGBA")),
    "png palette": of_data(saved("PNG", "P")),
    "file jpeg": of_file(saved("JPEG"), "jpg"),
    "file png": of_file(saved("PNG"), "png"),
    "file bmp": of_file(saved("BMP"), "bmp"),
    "file webp lossless": of_file(saved("WEBP", lossless=True), "webp"),
    "file webp lossy": of_file(saved("WEBP"), "webp"),
}


def check_decodes(decoder: Decoder):
    decoded = decoder.decode(decoder.message)
    assert decoded.pixels.shape == (*decoder.size, 3) and decoded.pixels.dtype == np.uint8
    assert len(np.unique(decoded.pixels)) > 4
    assert (decoded.stamp_ns, decoded.frame_id, decoded.size) == (
        12_000_000_345,
        "wrist_optical",
        decoder.size,
    )


def check_takes_any_buffer(decoder: Decoder):
    expected = decoder.decode(decoder.message).pixels
    for buffer in BUFFERS:
        message = decoder.with_(data=buffer(decoder.message.data))
        np.testing.assert_array_equal(decoder.decode(message).pixels, expected)
        assert bytes(message.data) == decoder.message.data


def check_short_data(decoder: Decoder):
    """OpenCV 4 fills the rest of a cut JPEG with grey and returns it as an image."""
    length = len(decoder.message.data)
    for kept in (length - 1, length * 9 // 10, length * 6 // 10):
        assert decoder.refusal(data=decoder.message.data[:kept]).reason == "short_data"


def check_empty_data(decoder: Decoder):
    assert decoder.refusal(data=b"").reason in ("short_data", "encoding")


def check_no_stamp(decoder: Decoder):
    assert decoder.refusal(header=header(0, 0)).reason == "stamp"


def check_bad_frame(decoder: Decoder):
    for frame_id in ("x" * 257, "\x1b[2J", "a\0b"):
        assert decoder.refusal(header=header(frame_id=frame_id)).reason == "frame"


CHECKS = [
    check_decodes,
    check_takes_any_buffer,
    check_short_data,
    check_empty_data,
    check_no_stamp,
    check_bad_frame,
]


@pytest.mark.parametrize(
    "name, check",
    [
        pytest.param(name, check, id=f"{name}-{check.__name__.removeprefix('check_')}")
        for name in (*RAW, *COMPRESSED)
        for check in CHECKS
        if not (check is check_no_stamp and name.startswith("file"))  # files have no stamp
    ],
)
def test_every_decoder(name, check):
    check({**RAW, **COMPRESSED}[name])


@pytest.mark.parametrize("name", RAW)
def test_short_data_says_what_is_needed(name):
    needed = len(RAW[name].message.data)
    said = str(RAW[name].refusal(data=RAW[name].message.data[:-1]))
    assert str(needed) in said and str(needed - 1) in said and name in said


@pytest.mark.parametrize("name", COMPRESSED)
def test_pixels_are_those_of_pillow(name):
    import io

    decoder = COMPRESSED[name]
    expected = Pillow.open(io.BytesIO(decoder.message.data)).convert("RGB")
    pixels = decoder.decode(decoder.message).pixels.astype(int)
    assert np.abs(pixels - np.asarray(expected)).max() <= (2 if "jpeg" in name else 0)


@pytest.mark.parametrize("name", COMPRESSED)
def test_no_damage_escapes_as_another_exception(name, capfd):
    rng = np.random.default_rng(0)
    decoder = COMPRESSED[name]
    outcomes = set()
    for k in range(150):
        damaged = bytearray(decoder.message.data)
        # The heads of BMP and WebP are small: half of the changes are there.
        most = len(damaged) if k % 2 else min(len(damaged), 80)
        for at in rng.integers(0, most, 4):
            damaged[at] = rng.integers(256)
        try:
            pixels = decoder.decode(decoder.with_(data=bytes(damaged))).pixels
            assert pixels.dtype == np.uint8 and pixels.ndim == 3
            outcomes.add("decoded")
        except BadInput as error:
            outcomes.add(error.reason)
    assert outcomes & {"decode", "size", "encoding"}
    assert capfd.readouterr().err == ""
