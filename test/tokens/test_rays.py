"""Rays as tokens: their numbers against ones computed by hand, where they go, what is masked."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from test.plain_messages import image_message
from test.tokens.ray_cameras import (
    CALIBRATION,
    FIXED,
    GONE,
    MOUNTED,
    SIZE_PX,
    STAMP_NS,
    every_number,
    opened,
    run,
    settings_of,
)
from vit_perception.config.ray_settings import RaySettings
from vit_perception.config.settings import BadSetting, PoseSettings
from vit_perception.files.weights import BadWeights
from vit_perception.image.patches.rays import PatchView, patch_rays
from vit_perception.tokens.kinds import sources_of
from vit_perception.tokens.tokenizer import FourierTokenizer
from vit_perception.wire.layout import Layout
from vit_perception.wire.records import BadInput


@pytest.fixture(scope="module")
def pipelines(tiny_checkpoint):
    """One with a camera on the arm, and one with a camera that does not move."""
    made = [opened(tiny_checkpoint, rays) for rays in (MOUNTED, FIXED)]
    yield made
    for pipeline in made:
        pipeline.close()


def rays_of(pipeline, result) -> np.ndarray:
    return pipeline.layout().split(result.sequence.tokens)["looks/ray"]


def mask_of(pipeline, result) -> np.ndarray:
    group = pipeline.layout().group("looks/ray")
    return result.sequence.mask[group.start : group.stop]


@pytest.mark.parametrize("moves", [True, False])
def test_each_patchs_token_is_made_of_its_plucker_coordinates(pipelines, moves):
    pipeline = pipelines[0 if moves else 1]
    tokenizer = FourierTokenizer(64, 6)
    expected = np.concatenate([tokenizer.encode(each) for each in every_number(moves)])
    for _ in range(2):  # the second time from what is kept
        result = run(pipeline)
        np.testing.assert_allclose(rays_of(pipeline, result), expected, atol=1e-5)
        assert result.sequence.mask.all()


def test_the_layout_says_what_they_are_and_gives_the_same_rays(pipelines):
    pipeline = pipelines[0]
    result = run(pipeline)
    layout = pipeline.layout({"wrist": result.cameras["wrist"].image})
    assert [g.name for g in layout.groups] == ["wrist/cls", "wrist/patch", "arm/pose", "looks/ray"]
    group = layout.groups[-1]
    assert (group.kind, group.grid, group.stop - group.start) == ("ray", (4, 4), 16)
    (said,) = layout.rays
    assert (said.camera, said.pose, said.base_frame) == ("wrist", "arm", "base")
    assert said.translation_m == (0.1, 0.0, 0.2) and said.quaternion_xyzw == (1, 0, 0, 0)
    assert Layout.from_json(layout.to_json()) == layout
    assert len(result.embedding) == layout.embedding_width == 2 * 64
    view = PatchView.of_layout(layout, "wrist")
    x, y, z = patch_rays(view, CALIBRATION).forward.T
    assert (x.round(9).tolist(), y.round(9).tolist()) == (
        [0, 1, 2, 3] * 4,
        sorted([0, 1, 2, 3] * 4),
    )
    assert (z == 1).all()
    fixed = pipelines[1].layout().rays[0]
    assert (fixed.pose, fixed.base_frame) == ("", "table")


def test_without_rays_the_layout_says_nothing_of_them(tiny_checkpoint):
    pipeline = opened(tiny_checkpoint, ())
    assert "rays" not in pipeline.layout().to_json()
    pipeline.close()


@pytest.mark.parametrize(
    "missing, reason, text",
    [
        ({"calibration": None}, "no_camera_info", "the image has no CameraInfo"),
        ({"calibration": BadInput("no_camera_info", "none yet")}, "no_camera_info", "none yet"),
        (
            {"calibration": replace(CALIBRATION, size_px=(480, 640))},
            "camera_info",
            "the image is 80 x 100 px, and the CameraInfo is for 480 x 640 px",
        ),
        ({"samples": GONE}, "no_pose", "no pose of arm at the image: there is no usable one"),
    ],
)
def test_what_is_missing_masks_the_rays_alone_and_says_why(pipelines, missing, reason, text):
    pipeline = pipelines[0]
    result = run(pipeline, **missing)
    group = result.sequence.groups[-1]
    assert group.why.reason == reason and text in str(group.why)
    assert not mask_of(pipeline, result).any() and not rays_of(pipeline, result).any()
    assert result.sequence.mask[:17].all()
    assert run(pipeline).sequence.mask.all(), "the next one has them again"


def test_patches_in_the_padding_and_beyond_the_lens_are_masked_one_by_one(pipelines):
    pipeline = pipelines[1]
    folds = replace(CALIBRATION, distortion=(-0.4, 0.0, 0.0, 0.0))
    result = run(pipeline, calibration=folds)
    mask = mask_of(pipeline, result).reshape(4, 4)
    assert mask.tolist() == [[True] + [False] * 3] + [[False] * 4] * 3
    rows = rays_of(pipeline, result)
    assert rows[0].any() and not rows[1:].any() and np.isfinite(rows).all()
    assert result.sequence.groups[-1].why is None


def test_a_camera_that_is_absent_has_no_rays(pipelines):
    pipeline = pipelines[0]
    two = settings_of(pipeline.settings.model.checkpoint)
    camera = replace(two.cameras[0], name="far", topic="/far", roi=())
    settings = replace(two, cameras=(camera, *two.cameras))
    with_two = type(pipeline).open(replace(settings, sync=replace(settings.sync, policy="mask")))
    message = image_message(STAMP_NS, size_px=SIZE_PX)
    prepared = with_two.prepare({"far": message}, calibrations={"wrist": CALIBRATION})
    result = with_two.assemble(prepared, with_two.encode(prepared), {"arm": GONE["arm"]})
    assert result.sequence.groups[-1].why.reason == "no_image"
    with_two.close()


def test_given_weights(tiny_checkpoint, tmp_path):
    generator = torch.Generator().manual_seed(0)
    shapes = {"fc1.weight": (8, 6), "fc1.bias": (8,), "fc2.weight": (64, 8), "fc2.bias": (64,)}
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    save_file(tensors, tmp_path / "mlp.safetensors")
    rays = replace(MOUNTED, tokenizer="mlp", tokenizer_weights=str(tmp_path / "mlp.safetensors"))
    pipeline = opened(tiny_checkpoint, rays)
    numbers = torch.tensor(every_number(moves=True), dtype=torch.float32)
    hidden = torch.nn.functional.gelu(numbers @ tensors["fc1.weight"].T + tensors["fc1.bias"])
    expected = hidden @ tensors["fc2.weight"].T + tensors["fc2.bias"]
    np.testing.assert_allclose(rays_of(pipeline, run(pipeline)), expected, rtol=1e-4, atol=1e-4)
    said = pipeline.layout().rays[0]
    assert said.tokenizer == "mlp" and len(said.tokenizer_sha256) == 64
    pipeline.close()
    with pytest.raises(BadWeights, match="weight"):
        opened(tiny_checkpoint, replace(rays, tokenizer="linear"))


def test_each_encoder_has_rays_of_its_own_patches(tiny_checkpoint, tmp_path):
    from transformers import Dinov2Config, Dinov2Model

    from test.conftest import write_preprocessing

    config = Dinov2Config(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=4, image_size=28, patch_size=14
    )
    Dinov2Model(config).save_pretrained(tmp_path / "small")
    write_preprocessing(tmp_path / "small", 28)
    pipeline = opened(tiny_checkpoint, FIXED, more=[tmp_path / "small"])
    result = run(pipeline)
    layout = pipeline.layout({"wrist": result.cameras["wrist"].image})
    names = [g.name for g in layout.groups if g.kind == "ray"]
    first, second = (name.split("/")[1] for name in names)
    assert names == [f"looks/{first}/ray", f"looks/{second}/ray"] and first != second
    groups = layout.split(result.sequence.tokens)
    assert [len(groups[name]) for name in names] == [16, 4]
    view = PatchView.of_layout(layout, "wrist", second)
    forward = patch_rays(view, CALIBRATION).forward
    np.testing.assert_allclose(forward[0], [0.5, 0.5, 1], atol=1e-9)  # of four patches the middle
    assert result.sequence.mask.all()
    pipeline.close()


@pytest.mark.parametrize(
    "fields, parameter, accepted",
    [
        ({"quaternion_xyzw": (0.0, 0.0, 0.0, 0.0)}, "quaternion_xyzw", "its norm is 0"),
        ({"quaternion_xyzw": (0.0, 0.0, 0.5, 0.5)}, "quaternion_xyzw", "its norm is 0.7071"),
        ({"quaternion_xyzw": (0.0, 0.0, 2.0, 0.0)}, "quaternion_xyzw", "list of 4 floats"),
        ({"quaternion_xyzw": (float("nan"), 0.0, 0.0, 1.0)}, "quaternion_xyzw", "list of 4"),
        ({"translation_m": (0.0, 1.0)}, "translation_m", "list of 3 floats"),
        ({"translation_m": (0.0, 1.0, float("inf"))}, "translation_m", "list of 3 floats"),
        ({"camera": ""}, "camera", "one of camera_names"),
        ({"tokenizer": "linear"}, "tokenizer_weights", "untrained linear gives noise"),
    ],
)
def test_wrong_settings_are_refused_by_name(fields, parameter, accepted):
    with pytest.raises(BadSetting, match=rf"rays.looks.{parameter}.*{accepted}"):
        RaySettings(**{"name": "looks", "camera": "wrist"} | fields)


@pytest.mark.parametrize(
    "rays, text",
    [
        (RaySettings("looks", "far"), "rays.looks.camera.*'far'.*one of camera_names: wrist"),
        (RaySettings("looks", "wrist", pose="leg"), "rays.looks.pose.*one of pose_names: arm"),
        (
            RaySettings("looks", "wrist", pose="arm", base_frame="world"),
            "rays.looks.base_frame.*'world'.*'' or 'base'",
        ),
    ],
)
def test_a_camera_arm_or_frame_that_is_not_there_is_refused(rays, text):
    with pytest.raises(BadSetting, match=text):
        sources_of(settings_of("any", rays))


def test_an_arm_of_tf_gives_the_camera_its_place():
    arm = PoseSettings("arm", "", source="tf", base_frame="base", ee_frame="wrist_optical_frame")
    settings = replace(settings_of("any", RaySettings("looks", "wrist", pose="arm")), poses=(arm,))
    (source,) = [each for each in sources_of(settings) if each.name == "looks"]
    assert source.base_frame == "base" and source.made_of == ("arm",)


def test_a_token_that_is_too_narrow_is_refused(tmp_path):
    from vit_perception.tokens.source import CheckpointTokens

    sources = [each for each in sources_of(settings_of("any")) if each.name == "looks"]
    with pytest.raises(BadSetting, match=r"rays.looks.tokenizer.*at most 5 .*width 10"):
        type(sources[0]).tokenizers(sources, settings_of("any"), CheckpointTokens("any", 10))
