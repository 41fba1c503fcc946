"""The parity gate's figures and limits, on outputs whose error is known."""

from dataclasses import replace

import numpy as np
import pytest

from vit_perception.engines.parity_gate import (
    PICTURES,
    ParityLimits,
    measure,
    parity_batch,
    run_batches,
)
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.image.preprocess import Preprocessor
from vit_perception.wire.records import EncoderOutput

LIMITS = ParityLimits.for_precision("bfloat16")


@pytest.fixture
def reference():
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    return EncoderOutput(normal(4, 64), normal(4, 16, 64), np.abs(normal(4, 3, 16)), normal(4, 10))


def rotated(vectors, cosine):
    """Vectors of the same length at a given cosine to ``vectors``."""
    other = np.random.default_rng(1).normal(size=vectors.shape)
    unit = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    other -= (other * unit).sum(-1, keepdims=True) * unit
    other /= np.linalg.norm(other, axis=-1, keepdims=True)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (length * (cosine * unit + np.sqrt(1 - cosine**2) * other)).astype(np.float32)


def test_equal_outputs_pass_with_perfect_figures(reference):
    report = measure(reference, reference)
    assert report.min_cosine == pytest.approx(1) and report.worst_patch_cosine == pytest.approx(1)
    assert (report.tokens_l2, report.attention_l2, report.logits_l2, report.finite) == (
        0,
        0,
        0,
        True,
    )
    assert report.pictures == 4 and report.failures(LIMITS) == []


@pytest.mark.parametrize("cosine, passes", [(0.9995, True), (0.9985, False)])
def test_min_cosine_is_the_lower_of_cls_and_mean_patch(reference, cosine, passes):
    cls_off = measure(replace(reference, cls_token=rotated(reference.cls_token, cosine)), reference)
    patches_off = measure(
        replace(reference, patch_tokens=rotated(reference.patch_tokens, cosine)), reference
    )
    for report, name in ((cls_off, "CLS cosine"), (patches_off, "mean patch cosine")):
        assert report.min_cosine == pytest.approx(cosine, abs=1e-6)
        failures = report.failures(LIMITS)
        assert (not failures) == passes
        assert passes or f"{name} {cosine:.5f} is below 0.999" in failures


def test_one_bad_picture_is_not_averaged_away(reference):
    cls_token = reference.cls_token.copy()
    cls_token[2] = rotated(cls_token[2:3], 0.998)
    report = measure(replace(reference, cls_token=cls_token), reference)
    assert report.cls_cosine == pytest.approx(0.998, abs=1e-6)


def test_one_bad_patch_fails_though_the_mean_passes(reference):
    patch_tokens = reference.patch_tokens.copy()
    patch_tokens[1, 5] = rotated(patch_tokens[1, 5:6], 0.985)
    report = measure(replace(reference, patch_tokens=patch_tokens), reference)
    assert report.patch_cosine > 0.999
    assert report.failures(LIMITS) == ["worst patch cosine 0.98500 is below 0.99"]


@pytest.mark.parametrize(
    "field, name",
    [
        ("cls_token", "tokens"),
        ("patch_tokens", "tokens"),
        ("logits", "logits"),
        ("cls_attention", "CLS attention"),
    ],
)
def test_scale_which_the_cosine_does_not_see_fails_by_l2(reference, field, name):
    report = measure(replace(reference, **{field: getattr(reference, field) * 1.25}), reference)
    assert report.min_cosine == pytest.approx(1)
    (failure,) = report.failures(LIMITS)
    assert failure.startswith(f"relative L2 of the {name} 0.2500 is above")


@pytest.mark.parametrize("field", ["cls_token", "patch_tokens", "cls_attention", "logits"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_single_number_that_is_not_finite_fails(reference, field, value):
    array = getattr(reference, field).copy()
    array.flat[7] = value
    report = measure(replace(reference, **{field: array}), reference)
    assert report.failures(LIMITS) == ["an output holds NaN or infinity"]
    assert "NOT FINITE" in str(report)


def test_zeros_fail(reference):
    report = measure(replace(reference, cls_token=np.zeros_like(reference.cls_token)), reference)
    assert report.cls_cosine == 0 and report.failures(LIMITS)


def test_a_missing_or_misshapen_output_is_named(reference):
    with pytest.raises(ValueError, match=r"logits has shape \(\), the reference \(4, 10\)"):
        measure(replace(reference, logits=None), reference)
    with pytest.raises(ValueError, match=r"cls_token has shape \(4, 63\)"):
        measure(replace(reference, cls_token=reference.cls_token[:, :-1]), reference)


def test_limits_by_precision_and_setting():
    for precision in ("float32", "bfloat16", "float16"):
        limits = ParityLimits.for_precision(precision)
        assert (limits.min_cosine, limits.relative_l2) == (0.999, 0.05)
        assert limits.worst_patch_cosine == pytest.approx(0.99)
    int8 = ParityLimits.for_precision("int8")
    assert (int8.min_cosine, int8.relative_l2) == (
        0.99,
        0.15,
    ) and int8.worst_patch_cosine == pytest.approx(0.9)
    assert ParityLimits.for_precision("float16", 0.9999).worst_patch_cosine == pytest.approx(0.999)


def test_the_pictures_are_small_and_their_licences_are_listed():
    pictures = sorted(PICTURES.glob("*.jpg"))
    text = (PICTURES / "LICENSES.md").read_text()
    assert len(pictures) == 4
    for picture in pictures:
        assert picture.stat().st_size <= 40_000 and f"`{picture.name}`" in text


@pytest.mark.parametrize("batch, count", [(1, 4), (2, 4), (3, 6), (4, 4), (5, 5), (8, 8), (16, 16)])
def test_every_slot_has_a_picture_and_all_differ(batch, count):
    images = parity_batch(Preprocessor(ResizeRule((48, 32), fit="crop")), batch)
    assert (
        images.shape == (count, 3, 48, 32)
        and images.dtype == np.uint8
        and images.flags.c_contiguous
    )
    assert len({image.tobytes() for image in images}) == count
    assert min(image.std() for image in images) > 20  # natural pictures, none flat


def test_run_batches_copies_what_the_engine_owns():
    owned = EncoderOutput(
        *(np.zeros(shape, np.float32) for shape in ((2, 4), (2, 3, 4), (2, 1, 3)))
    )

    def infer(images):
        owned.cls_token[:] = images[:, 0, 0, :1]
        return owned

    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    joined = run_batches(infer, images, 2)
    assert joined.cls_token[:, 0].tolist() == [0, 1, 2, 3] and joined.logits is None
