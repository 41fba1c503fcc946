"""The pixels that reach the network: against Pillow, against Hugging Face's processors, and against
the geometry.
"""

import warnings

import cv2
import numpy as np
import pytest
import torch

from test.image.image_messages import image
from vit_perception.image.decode import decode_image
from vit_perception.image.patch_geometry import PatchGeometry, ResizeRule
from vit_perception.image.preprocess import Preprocessor
from vit_perception.wire.records import BadInput, RgbImage, Roi

SIZES = [(480, 640), (481, 641), (97, 301), (301, 97), (223, 225), (50, 37), (224, 224)]


def picture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Waves and edges from coarse to fine, (H, W, 3) uint8: every frequency that a resize can get
    wrong.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    waves = [np.sin(2 * np.pi * (f * x * (c + 1) + f * f * y)) for c, f in enumerate((3, 9, 31))]
    channels = np.stack(waves, axis=-1) * 80 + 127
    channels[size[0] // 3 : size[0] // 2, size[1] // 4 : size[1] // 2] = (250, 5, 128)
    return np.clip(channels + rng.normal(0, 20, channels.shape), 0, 255).astype(np.uint8)


def rgb(pixels: np.ndarray) -> RgbImage:
    return RgbImage(pixels, 1, "camera")


def hwc(tensor: torch.Tensor) -> np.ndarray:
    return tensor.permute(1, 2, 0).numpy().astype(int)


def differences(ours: torch.Tensor, theirs: np.ndarray) -> tuple[float, int]:
    """The worst channel's mean and the worst pixel's absolute difference, in levels of 255."""
    difference = np.abs(hwc(ours) - theirs.astype(int))
    return difference.mean(axis=(0, 1)).max(), difference.max()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "nearest", "lanczos"])
def test_stretch_is_pillows_resize(size, interpolation):
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pixels = picture(size)
    try:
        preprocess = Preprocessor(ResizeRule((224, 224), interpolation=interpolation))
    except ValueError as error:
        assert interpolation == "lanczos" and "or a newer torch" in str(error)
        pytest.skip(f"this torch has no lanczos, and says so: {error}")
    resampling = getattr(image_module.Resampling, interpolation.upper())
    # In two calls, because Pillow 13 changed the order of the two passes for portrait images.
    horizontal = image_module.fromarray(pixels).resize((224, size[0]), resampling)
    theirs = np.asarray(horizontal.resize((224, 224), resampling))
    mean, worst = differences(preprocess(rgb(pixels)), theirs)
    assert mean <= 0.05 and worst <= 2


def hugging_face_processors():
    absent = "transformers is not installed"
    vit = pytest.importorskip("transformers.models.vit.image_processing_pil_vit", reason=absent)
    bit = pytest.importorskip("transformers.models.bit.image_processing_pil_bit", reason=absent)
    raw = {"do_rescale": False, "do_normalize": False}
    square = {"height": 224, "width": 224}
    yield (
        ResizeRule((224, 224), "stretch", interpolation="bilinear"),
        vit.ViTImageProcessorPil(size=square, resample=2, **raw),
    )
    yield (
        ResizeRule((224, 224), "crop", 256),
        bit.BitImageProcessorPil(
            size={"shortest_edge": 256}, crop_size=square, do_center_crop=True, resample=3, **raw
        ),
    )
    yield (
        ResizeRule((224, 224), "crop"),
        bit.BitImageProcessorPil(
            size={"shortest_edge": 224}, crop_size=square, do_center_crop=True, resample=3, **raw
        ),
    )


@pytest.mark.parametrize("size", SIZES)
def test_hugging_face_processors_give_the_same_pixels(size):
    """One pixel of another crop offset would cost several levels on these pictures."""
    pixels = picture(size)
    for rule, processor in hugging_face_processors():
        theirs = processor(pixels, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        mean, worst = differences(Preprocessor(rule)(rgb(pixels)), theirs)
        # A portrait image by Pillow 13: the passes in the other order, see
        # test_stretch_is_pillows_resize.
        mean_limit, worst_limit = (0.3, 16) if size[0] > size[1] else (0.05, 2)
        assert mean <= mean_limit and worst <= worst_limit, (rule, mean, worst)
        shifted, _ = differences(Preprocessor(rule)(rgb(pixels)), np.roll(theirs, 1, axis=1))
        assert shifted > 3


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "rgb16", "bgr16", "bgra16"])
@pytest.mark.parametrize("pad", [0, 7])
def test_the_memory_order_of_the_source_does_not_matter(encoding, pad):
    pixels = picture((60, 80))
    samples = np.dstack([pixels, pixels[..., :1]]) if "a" in encoding else pixels
    if encoding.startswith("bgr"):
        samples = samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    if encoding.endswith("16"):
        samples = (samples.astype("<u2") << 8) + 99
    rows = np.frombuffer(np.ascontiguousarray(samples).tobytes(), np.uint8).reshape(60, -1)
    preprocess = Preprocessor(ResizeRule((28, 42), "crop"))
    expected = preprocess(rgb(pixels))
    decoded = decode_image(image(encoding, (60, 80), rows, pad=pad))
    assert torch.equal(preprocess(decoded), expected)
    assert (
        expected.is_contiguous() and expected.dtype == torch.uint8 and expected.shape == (3, 28, 42)
    )


def test_read_only_pixels_are_neither_copied_nor_warned_about():
    """torch.from_numpy warns once per process about a read-only array: on a robot, about every kind
    of message.
    """
    pixels = picture((60, 80))
    pixels.flags.writeable = False
    before = pixels.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for view in (pixels, pixels[..., ::-1]):
            Preprocessor(ResizeRule((28, 28)))(rgb(view))
    assert not pixels.flags.writeable
    np.testing.assert_array_equal(pixels, before)


def test_out_is_written_and_returned():
    preprocess = Preprocessor(ResizeRule((28, 28), "pad", pad_value_rgb=(1, 2, 3)))
    batch = torch.full((2, 3, 28, 28), 99, dtype=torch.uint8)
    result = preprocess(rgb(picture((30, 60))), out=batch[1])
    assert result.data_ptr() == batch[1].data_ptr()
    assert torch.equal(batch[1], preprocess(rgb(picture((30, 60)))))
    assert (batch[0] == 99).all()


@pytest.mark.parametrize("out", [torch.empty(3, 28, 27, dtype=torch.uint8), torch.empty(3, 28, 28)])
def test_an_out_that_does_not_fit_is_refused(out):
    with pytest.raises(ValueError, match=r"accepted: \(3, 28, 28\) torch.uint8"):
        Preprocessor(ResizeRule((28, 28)))(rgb(picture((30, 60))), out=out)


def test_padding_has_its_colour_and_the_picture_lies_between():
    pixels = np.full((30, 60, 3), (200, 100, 50), np.uint8)
    result = hwc(Preprocessor(ResizeRule((28, 28), "pad", pad_value_rgb=(1, 2, 3)))(rgb(pixels)))
    # 30 x 60 becomes 14 x 28, 7 rows from the top.
    assert np.unique(result[:7].reshape(-1, 3), axis=0).tolist() == [[1, 2, 3]]
    assert np.unique(result[7:21].reshape(-1, 3), axis=0).tolist() == [[200, 100, 50]]
    assert np.unique(result[21:].reshape(-1, 3), axis=0).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("size", [(480, 640), (481, 641), (97, 301), (301, 97)])
@pytest.mark.parametrize(
    "rule",
    [
        ResizeRule((112, 112)),
        ResizeRule((112, 112), "crop"),
        ResizeRule((112, 140), "crop"),
        ResizeRule((112, 112), "crop", 128),
        ResizeRule((112, 112), "pad"),
    ],
    ids=["stretch", "crop", "crop wide", "crop 128", "pad"],
)
def test_a_rectangle_drawn_in_the_source_lights_the_patch_of_the_geometry(rule, size):
    preprocess = Preprocessor(rule)
    geometry = PatchGeometry(preprocess.plan(size), 14)
    rows, columns = geometry.grid
    drawn = 0
    for index in range(0, rows * columns, 5):
        top, left, bottom, right = geometry.patch_box_in_source(index)
        if top < 0 or left < 0 or bottom > size[0] or right > size[1]:
            continue
        pixels = np.zeros((*size, 3), np.uint8)
        pixels[round(top) : round(bottom), round(left) : round(right)] = 255
        network = preprocess(rgb(pixels))[0].numpy().astype(float)
        brightness = network.reshape(rows, 14, columns, 14).mean(axis=(1, 3)).reshape(-1)
        assert brightness.argmax() == index and brightness[index] > 215
        assert np.delete(brightness, index).max() < 25
        drawn += 1
    assert drawn >= 3


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("form", ["rgb", "bgr", "padded rows", "read-only"])
def test_a_region_is_what_an_image_of_these_pixels_alone_would_be(fit, form):
    pixels = picture((90, 140))
    given = {
        "rgb": pixels,
        "bgr": np.ascontiguousarray(pixels[..., ::-1])[..., ::-1],
        "padded rows": np.concatenate([pixels, pixels], axis=1)[:, :140],
        "read-only": np.frombuffer(pixels.tobytes(), np.uint8).reshape(pixels.shape),
    }[form]
    preprocess = Preprocessor(ResizeRule((56, 56), fit))
    found = preprocess(rgb(given), roi=Roi(x=30, y=11, width=101, height=47))
    alone = preprocess(rgb(np.ascontiguousarray(pixels[11:58, 30:131])))
    assert torch.equal(found, alone) and not torch.equal(found, preprocess(rgb(pixels)))


def test_a_region_outside_the_image_leaves_the_row_as_it_was():
    preprocess = Preprocessor(ResizeRule((28, 28)))
    out = torch.full((3, 28, 28), 7, dtype=torch.uint8)
    with pytest.raises(BadInput, match="the image is 48 x 64 px"):
        preprocess(rgb(picture((48, 64))), out=out, roi=Roi(0, 0, 65, 10))
    assert (out == 7).all()


def test_plans_are_cached_per_size():
    preprocess = Preprocessor(ResizeRule((28, 28), "crop"))
    assert preprocess.plan((30, 60)) is preprocess.plan((30, 60))
    assert preprocess.plan((30, 61)).source_size_px == (30, 61)


def test_a_strip_that_would_become_gigabytes_is_refused():
    with pytest.raises(BadInput, match="1 x 400000") as caught:
        Preprocessor(ResizeRule((224, 224), "crop"))(rgb(np.zeros((1, 400_000, 3), np.uint8)))
    assert caught.value.reason == "size"
    # The other fits bound the resized size by the network's.
    for fit in ("stretch", "pad"):
        assert Preprocessor(ResizeRule((224, 224), fit))(
            rgb(np.zeros((1, 9000, 3), np.uint8))
        ).shape == (3, 224, 224)


@pytest.mark.parametrize("size", SIZES)
def test_aliased_bilinear_is_opencvs_linear_resize(size):
    pixels = picture(size)
    ours = Preprocessor(ResizeRule((224, 224), interpolation="bilinear_aliased"))(
        rgb(pixels)
    ).numpy()
    theirs = cv2.resize(pixels, (224, 224), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)
    difference = np.abs(ours.astype(int) - theirs)
    assert difference.max() <= 1 and difference.mean() < 0.5
