"""A camera's region of interest through the flow: its tokens are those of an image that ends at the
region's edges, and everything that is said of pixels means those of the whole image.
"""

import json
from dataclasses import replace

import numpy as np
import pytest

from test.checkpoints.dense.dense_models import dpt_depth
from test.plain_messages import image_message
from vit_perception.config.settings import (
    CameraSettings,
    DenseSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.datasets.embed import EmbedOptions, run_of
from vit_perception.image.decode import decode_image
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.layout_check import LayoutMismatch, check_layout
from vit_perception.wire.layout import Layout

STAMP_NS = 7_000_000_000
ROI = (10, 6, 40, 30)


def opened(checkpoint, *rois, **settings):
    """A pipeline with the cameras a, b, ... that have ``rois``."""
    cameras = tuple(
        CameraSettings(name, f"/{name}", roi=roi) for name, roi in zip("abc", rois, strict=False)
    )
    return Pipeline.open(
        EncoderSettings(
            cameras,
            model=ModelSettings(str(checkpoint)),
            engine=EngineSettings("torch", "float32"),
            **settings,
        )
    )


def cut(message, roi):
    """The image of ``message`` that has only the pixels of ``roi``."""
    x, y, width, height = roi
    image = decode_image(message)
    return replace(image, pixels=image.pixels[y : y + height, x : x + width].copy())


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint):
    made = opened(tiny_checkpoint, ROI, ())
    yield made
    made.close()


def run(pipeline, messages):
    prepared = pipeline.prepare(messages)
    return pipeline.assemble(prepared, pipeline.encode(prepared), {})


def test_tokens_are_those_of_an_image_that_ends_at_the_edges(pipeline):
    message, other = image_message(STAMP_NS, 1), image_message(STAMP_NS, 2, (30, 90))
    result = run(pipeline, {"a": message, "b": other})
    tokens = result.sequence.tokens.copy()
    camera = result.cameras["a"]
    assert camera.roi == ROI and camera.image.size == (48, 64)
    assert result.cameras["b"].roi is None
    alone = run(pipeline, {"a": message, "b": cut(message, ROI)})
    assert not np.array_equal(tokens, alone.sequence.tokens)
    np.testing.assert_array_equal(
        alone.sequence.tokens[:17], alone.sequence.tokens[17:], "a's region is b's whole image"
    )
    np.testing.assert_array_equal(tokens[:17], alone.sequence.tokens[:17])
    seen = pipeline.network_view(camera.image, camera.roi)
    np.testing.assert_array_equal(seen, pipeline.network_view(cut(message, ROI)))


def test_the_layout_maps_patches_to_pixels_of_the_whole_image(pipeline):
    """40 x 30 px at (10, 6): crop to 56 x 56 scales by 56 / 30 and 74 / 40, and cuts 9 columns."""
    images = {name: decode_image(image_message(STAMP_NS)) for name in "ab"}
    a, b = pipeline.layout(images).cameras
    assert (a.roi, a.source_size_px, a.scale) == (ROI, (48, 64), (56 / 30, 74 / 40))
    np.testing.assert_allclose(a.offset_px, (-6 * 56 / 30, -9 - 10 * 74 / 40))
    assert b.roi is None and b.scale == (56 / 48, 74 / 64) and b.offset_px == (0, -9)
    geometry = pipeline.geometry((48, 64), camera_region(pipeline, "a"))
    assert (geometry.plan.scale, geometry.plan.offset_px) == (a.scale, a.offset_px)
    top, left, bottom, right = geometry.patch_box_in_source(5)
    np.testing.assert_allclose((top, bottom), (6 + 7.5, 6 + 15))
    np.testing.assert_allclose((left, right), (10 + (9 + 14) * 40 / 74, 10 + (9 + 28) * 40 / 74))


def camera_region(pipeline, name):
    return next(c.region for c in pipeline.settings.cameras if c.name == name)


def test_an_image_that_lacks_the_region_is_refused_alone(pipeline):
    small = image_message(STAMP_NS, 3, (35, 64))
    prepared = pipeline.prepare({"a": small, "b": small})
    error = prepared.refused["a"]
    assert error.reason == "roi" and list(prepared.images) == ["b"]
    assert "35 x 64 px" in str(error) and "[10, 6, 40, 30]" in str(error)
    assert not prepared.batch[0].any() and prepared.batch[1].any()
    assert list(run(pipeline, {"a": image_message(STAMP_NS), "b": small}).cameras) == ["a", "b"]


def test_depth_has_the_size_of_the_image_and_is_unknown_outside_the_region(tmp_path):
    _, folder = dpt_depth(tmp_path)
    pipeline = opened(folder, ROI, (), dense=DenseSettings(True))
    message = image_message(STAMP_NS, 1)
    cameras = run(pipeline, {"a": message, "b": cut(message, ROI)}).cameras
    depth, alone = (pipeline.dense_values(cameras[name]) for name in "ab")
    assert depth.shape == (48, 64) and np.isfinite(depth).sum() <= 40 * 30
    inside = depth[6:36, 10:50]
    assert np.isfinite(inside).sum() == np.isfinite(alone).sum() > 900
    np.testing.assert_allclose(inside, alone, atol=1e-4)
    pipeline.close()


def test_a_policy_of_another_region_is_refused(pipeline, tiny_checkpoint):
    other = opened(tiny_checkpoint, (), ())
    with pytest.raises(LayoutMismatch, match=r"cameras.0.roi is None where \(10, 6, 40, 30\)"):
        check_layout(other.layout(), [pipeline.layout()])
    check_layout(pipeline.layout(), [Layout.from_json(pipeline.layout().to_json())])
    other.close()


def test_a_run_of_embed_without_regions_goes_on_with_one_of_before_them(pipeline):
    cameras = run_of(pipeline, [], EmbedOptions("mcap"))["settings"]["cameras"]
    with_it, without = json.loads(json.dumps(cameras))
    assert with_it == without | {"name": "a", "topic": "/a", "roi": [*ROI]}
    assert not {"roi", "rectify", "camera_info_topic"} & set(without)
