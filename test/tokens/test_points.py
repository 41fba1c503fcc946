"""The points that patches see, as tokens: against numbers computed by hand; what is masked."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from test.image.patches.depth_images import depth_message
from test.tokens.ray_cameras import (
    FIXED,
    GONE,
    MOUNTED,
    SIZE_PX,
    opened,
    run,
    settings_of,
)
from vit_perception.config.settings import BadSetting, CameraSettings
from vit_perception.datasets.embed import EmbedOptions, run_of
from vit_perception.files.errors import InvalidValue
from vit_perception.tokens.kinds import sources_of
from vit_perception.tokens.tokenizer import FourierTokenizer
from vit_perception.wire.layout import Layout
from vit_perception.wire.records import BadInput

DEPTH = {"depth_topic": "/wrist/depth"}


def depth_mm() -> np.ndarray:
    """Patch (row, column) is at 1000 + 100 row + 10 column mm; a third of it has no depth."""
    pixels = np.full(SIZE_PX, 60000)
    for row in range(4):
        for column in range(4):
            at = (slice(10 + 14 * row, 24 + 14 * row), slice(20 + 14 * column, 34 + 14 * column))
            pixels[at] = 1000 + 100 * row + 10 * column
            pixels[at][::3] = 0
    return pixels


def points_m(moves: bool) -> np.ndarray:
    """What :func:`test.tokens.ray_cameras.numbers_of` says of directions and places, at depth z.

    Fixed: (0.1, 0, 0.2) + z (column, -row, -1). Moved: (1, 0.1, 0.7) + z (row, column, -1).
    """
    points = []
    for row in range(4):
        for column in range(4):
            z = 1 + 0.1 * row + 0.01 * column
            fixed = (0.1 + z * column, -z * row, 0.2 - z)
            points.append((1 + z * row, 0.1 + z * column, 0.7 - z) if moves else fixed)
    return np.array(points)


@pytest.fixture(scope="module")
def pipelines(tiny_checkpoint):
    made = [opened(tiny_checkpoint, rays, camera=DEPTH) for rays in (MOUNTED, FIXED)]
    yield made
    for pipeline in made:
        pipeline.close()


def points_of(pipeline, result):
    """The rows of the points, and which are valid."""
    group = pipeline.layout().group("looks/points")
    rows = slice(group.start, group.stop)
    return result.sequence.tokens[rows], result.sequence.mask[rows]


@pytest.mark.parametrize("moves", [True, False])
@pytest.mark.parametrize("metric", [True, False])
def test_each_patchs_point_in_the_base_frame(pipelines, moves, metric):
    pipeline = pipelines[0 if moves else 1]
    pixels = depth_mm() / 1000 if metric else depth_mm()
    result = run(pipeline, depths={"wrist": depth_message(pixels)})
    tokens, mask = points_of(pipeline, result)
    tokenizer = FourierTokenizer(64, 3)
    expected = np.concatenate([tokenizer.encode(point) for point in points_m(moves)])
    np.testing.assert_allclose(tokens, expected, atol=2e-4 if metric else 1e-5)
    assert mask.all()
    layout = pipeline.layout()
    assert [g.name for g in layout.groups][-2:] == ["looks/ray", "looks/points"]
    assert layout.groups[-1].grid == (4, 4) and layout.embedding_width == 2 * 64
    assert Layout.from_json(layout.to_json()) == layout


def test_a_patch_without_depth_is_masked_and_nan_is_in_no_token(pipelines):
    pixels = depth_mm() / 1000
    pixels[10:24, 20:34] = math.nan
    pixels[24:38, 34:48] = 0.0
    result = run(pipelines[0], depths={"wrist": depth_message(pixels)})
    tokens, mask = points_of(pipelines[0], result)
    assert np.flatnonzero(~mask).tolist() == [0, 5]
    assert np.isfinite(tokens).all() and not tokens[~mask].any()
    assert result.sequence.mask.sum() == len(result.sequence.mask) - 2
    assert all(group.why is None for group in result.sequence.groups)


@pytest.mark.parametrize(
    "depth, reason, text",
    [
        (None, "no_depth", "the image has no depth image"),
        (BadInput("no_depth", "none has come"), "no_depth", "none has come"),
        (depth_message(np.zeros(SIZE_PX, int)), "no_valid_depth", "no patch has a depth"),
        (depth_message(np.full(SIZE_PX, math.nan)), "no_valid_depth", "no patch has a depth"),
        (depth_message(np.ones((480, 640), int)), "depth", "is 480 x 640 px; accepted: 80 x 100"),
        (depth_message(np.ones(SIZE_PX, int), encoding="rgb8"), "depth", "encoding is 'rgb8'"),
        (depth_message(np.ones(SIZE_PX, int), data=b""), "depth", "data has 0 bytes"),
    ],
)
def test_without_usable_depth_the_points_alone_are_masked(pipelines, depth, reason, text):
    result = run(pipelines[0], depths={} if depth is None else {"wrist": depth})
    rays, points = result.sequence.groups[-2:]
    assert (points.why.reason, rays.why) == (reason, None) and text in str(points.why)
    tokens, mask = points_of(pipelines[0], result)
    assert not tokens.any() and not mask.any() and result.sequence.mask[:-16].all()


def test_without_a_pose_or_a_calibration_there_are_no_points(pipelines):
    depths = {"wrist": depth_message(depth_mm())}
    for missing, reason in (
        ({"samples": GONE}, "no_pose"),
        ({"calibration": None}, "no_camera_info"),
    ):
        result = run(pipelines[0], depths=depths, **missing)
        assert [g.why.reason for g in result.sequence.groups[-2:]] == [reason] * 2


def test_points_alone_with_given_weights(tiny_checkpoint, tmp_path):
    generator = torch.Generator().manual_seed(0)
    tensors = {"weight": torch.randn((64, 3), generator=generator), "bias": torch.ones(64)}
    save_file(tensors, tmp_path / "points.safetensors")
    rays = replace(
        FIXED,
        tokens=("points",),
        tokenizer="linear",
        points_tokenizer_weights=str(tmp_path / "points.safetensors"),
    )
    pipeline = opened(tiny_checkpoint, rays, camera=DEPTH)
    tokens, mask = points_of(pipeline, run(pipeline, depths={"wrist": depth_message(depth_mm())}))
    given = torch.tensor(points_m(moves=False), dtype=torch.float32)
    expected = given @ tensors["weight"].T + tensors["bias"]
    np.testing.assert_allclose(tokens, expected, rtol=1e-4, atol=1e-4)
    layout = pipeline.layout()
    assert mask.all() and [g.kind for g in layout.groups][-2:] == ["pose", "points"]
    assert len(layout.rays[0].points_tokenizer_sha256) == 64
    pipeline.close()
    with pytest.raises(InvalidValue, match="rays.looks.points_tokenizer_weights"):
        opened(tiny_checkpoint, replace(rays, points_tokenizer_weights=""), camera=DEPTH)


@pytest.mark.parametrize(
    "rays, camera, text",
    [
        ((), DEPTH, "cameras.wrist.depth_topic.*'/wrist/depth'.*an entry of ray_names"),
        (replace(FIXED, tokens=("ray",)), DEPTH, "cameras.wrist.depth_topic"),
        (replace(FIXED, tokens=("ray", "points")), {}, "rays.looks.tokens.*ray alone"),
    ],
)
def test_depth_and_points_belong_together(rays, camera, text):
    with pytest.raises(BadSetting, match=text):
        sources_of(settings_of("any", rays, camera=camera))


def test_tokens_that_are_none_are_refused():
    for tokens in (("ray", "ray"), ("colour",)):
        with pytest.raises(BadSetting, match="rays.looks.tokens.*some of ray, points, each once"):
            replace(FIXED, tokens=tokens)


def test_a_run_of_embed_remembers_the_depth_topic_and_older_runs_go_on(tiny_checkpoint, pipelines):
    options = EmbedOptions("safetensors")
    camera = run_of(pipelines[0], [], options)["settings"]["cameras"][0]
    assert (camera["depth_topic"], camera["depth_max_skew_s"]) == ("/wrist/depth", 0.02)
    plain = opened(tiny_checkpoint, ())
    camera = run_of(plain, [], options)["settings"]["cameras"][0]
    assert not {"depth_topic", "depth_max_skew_s"} & camera.keys()
    plain.close()
    assert CameraSettings("a", "/a").depth_topic == ""
