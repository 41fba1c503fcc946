"""The flow on the tiny model: what the node, the bag tools and the benchmarks all run."""

from dataclasses import replace

import numpy as np
import pytest

from test.ros.conftest import image_message
from vit_perception.model.heads import Head, save_head
from vit_perception.pipeline import Pipeline
from vit_perception.settings import (BadSetting, CameraSettings, EncoderSettings, EngineSettings, ModelSettings,
                                     OutputSettings, PoseSettings)
from vit_perception.types import BadInput, Pose, PoseAtImage

STAMP_NS = 7_000_000_000
ENGINE = EngineSettings("torch", "float32")


def open_pipeline(checkpoint, cameras=(CameraSettings("a", "/a"), CameraSettings("b", "/b")), **settings):
    model = ModelSettings(str(checkpoint))
    return Pipeline.open(EncoderSettings(tuple(cameras), model=model, engine=ENGINE, **settings))


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint):
    made = open_pipeline(tiny_checkpoint)
    yield made
    made.close()


def run(pipeline, messages, poses=None):
    prepared = pipeline.prepare(messages)
    return pipeline.assemble(prepared, pipeline.encode(prepared), poses or {})


def test_no_output_mixes_two_cameras(pipeline):
    """Changing b's image leaves a's features as they are, to the bit."""
    first, second = image_message(STAMP_NS, seed=1), image_message(STAMP_NS, seed=2)
    alone = run(pipeline, {"a": first, "b": first}).cameras["a"].patch_tokens.copy()
    both = run(pipeline, {"a": first, "b": second}).cameras
    np.testing.assert_array_equal(both["a"].patch_tokens, alone)
    assert not np.array_equal(both["b"].patch_tokens, alone)


def test_a_missing_camera_is_zero_rows_and_a_zero_mask(pipeline):
    result = run(pipeline, {"b": image_message(STAMP_NS)})
    assert list(result.cameras) == ["b"] and result.frame_id == "camera_optical_frame"
    assert result.sequence.mask.tolist() == [False] * 17 + [True] * 17
    assert not result.sequence.tokens[:17].any() and result.sequence.tokens[17:].any()


def test_one_batched_run_equals_one_run_each(pipeline, tiny_checkpoint):
    single = open_pipeline(tiny_checkpoint, (CameraSettings("a", "/a"),))
    message = image_message(STAMP_NS, seed=4)
    batched = run(pipeline, {"a": image_message(STAMP_NS), "b": message}).cameras["b"].cls_token
    np.testing.assert_allclose(batched, run(single, {"a": message}).cameras["a"].cls_token, atol=1e-5)
    single.close()


def test_a_refused_image_is_absent_and_named(pipeline):
    prepared = pipeline.prepare({"a": image_message(STAMP_NS, encoding="thermal"), "b": image_message(STAMP_NS)})
    assert list(prepared.images) == ["b"] and prepared.refused["a"].reason == "encoding"
    assert not prepared.batch[0].any()


def test_the_layout_describes_the_sequence(pipeline):
    result = run(pipeline, {"a": image_message(STAMP_NS), "b": image_message(STAMP_NS)})
    layout = pipeline.layout({n: c.image for n, c in result.cameras.items()})
    assert [g.name for g in layout.groups] == [g.name for g in result.sequence.groups]
    assert layout.token_count == len(result.sequence.tokens) and layout.embedding_width == len(result.embedding)
    assert layout.cameras[0].source_size_px == (48, 64) and layout.precision == "float32"


def test_a_required_pose_that_is_missing_drops_the_frame(tiny_checkpoint):
    arms = (PoseSettings("arm", "/pose", "base"),)
    pipeline = open_pipeline(tiny_checkpoint, poses=arms, pose_policy="require")
    with pytest.raises(BadInput, match="arm") as error:
        run(pipeline, {"a": image_message(STAMP_NS)}, {"arm": PoseAtImage(None, "missing", None)})
    assert error.value.reason == "pose_missing"
    pose = Pose(np.zeros(3), np.array([0, 0, 0, 1.0]), STAMP_NS, "base")
    result = run(pipeline, {"a": image_message(STAMP_NS)}, {"arm": PoseAtImage(pose, "interpolated", 0)})
    assert result.sequence.mask[-1]
    pipeline.close()


def test_a_head_gives_classes_and_a_foreign_one_is_refused(tiny_checkpoint, tmp_path):
    rng = np.random.default_rng(0)
    save_head(tmp_path / "own", Head(("x", "y", "z"), rng.normal(size=(3, 128)), np.zeros(3), "cls_mean"))
    save_head(tmp_path / "foreign", Head(("x", "y"), rng.normal(size=(2, 64)), np.zeros(2), encoder_sha256="ab" * 32))
    save_head(tmp_path / "wide", Head(("x", "y"), rng.normal(size=(2, 768)), np.zeros(2)))
    pipeline = open_pipeline(tiny_checkpoint, (CameraSettings("a", "/a", head=str(tmp_path / "own")),),
                             output=OutputSettings(top_k=2))
    classes = run(pipeline, {"a": image_message(STAMP_NS)}).cameras["a"].classes
    assert len(classes) == 2 and classes[0].score >= classes[1].score > 0
    pipeline.close()
    with pytest.raises(BadSetting, match="cameras.a.head.*fitted on abab"):
        open_pipeline(tiny_checkpoint, (CameraSettings("a", "/a", head=str(tmp_path / "foreign")),))
    with pytest.raises(ValueError, match="768"):
        open_pipeline(tiny_checkpoint, (CameraSettings("a", "/a", head=str(tmp_path / "wide")),))


def test_one_cameras_absurd_image_is_refused_alone(pipeline):
    """Found by a reader: it raised out of prepare, and every camera's frame was lost with it."""
    thin = image_message(STAMP_NS, size_px=(1, 60000))
    prepared = pipeline.prepare({"a": image_message(STAMP_NS), "b": thin})
    assert list(prepared.images) == ["a"] and prepared.refused["b"].reason == "size" and not prepared.batch[1].any()


def test_features_that_are_not_finite_never_go_out(pipeline):
    prepared = pipeline.prepare({"a": image_message(STAMP_NS), "b": image_message(STAMP_NS)})
    output = pipeline.encode(prepared)
    broken = replace(output, patch_tokens=np.full_like(output.patch_tokens, np.nan))
    with pytest.raises(BadInput) as error:
        pipeline.assemble(prepared, broken, {})
    assert error.value.reason == "not_finite"


def test_a_head_of_another_block_is_refused_and_the_layout_tells_blocks_apart(tiny_checkpoint, tmp_path):
    last = open_pipeline(tiny_checkpoint)
    save_head(tmp_path, Head(("x", "y"), np.ones((2, 64)), np.zeros(2), encoder_sha256=last.encoder_sha256))
    camera = CameraSettings("a", "/a", head=str(tmp_path))
    with pytest.raises(BadSetting, match="block 0"):
        Pipeline.open(EncoderSettings((camera,), model=ModelSettings(str(tiny_checkpoint), 0), engine=ENGINE))
    for block in (-1, 1):
        model = ModelSettings(str(tiny_checkpoint), block)
        same = Pipeline.open(EncoderSettings((camera,), model=model, engine=ENGINE))
        assert same.layout().encoder_sha256 == last.layout().encoder_sha256
        same.close()
    last.close()


def test_another_block_gives_other_tokens(tiny_checkpoint, pipeline):
    early = Pipeline.open(EncoderSettings((CameraSettings("a", "/a"),), model=ModelSettings(str(tiny_checkpoint), 0),
                                          engine=ENGINE))
    message = image_message(STAMP_NS)
    assert not np.allclose(run(early, {"a": message}).cameras["a"].cls_token,
                           run(pipeline, {"a": message}).cameras["a"].cls_token, atol=1e-2)
    early.close()
