"""The flow on the tiny model: what the node, the bag tools and the benchmarks all run."""

from dataclasses import replace

import numpy as np
import pytest

from test.plain_messages import image_message
from vit_perception.config.settings import (
    BadSetting,
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    FusionSettings,
    ModelSettings,
    OutputSettings,
    PoseSettings,
    StateSettings,
)
from vit_perception.heads.classification import Head, save_head
from vit_perception.image.decode import decode_image
from vit_perception.image.opencv import cv2
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.records import BadInput, Pose, Sample, SampleAtImage

STAMP_NS = 7_000_000_000
ENGINE = EngineSettings("torch", "float32")


def open_pipeline(
    checkpoint, cameras=(CameraSettings("a", "/a"), CameraSettings("b", "/b")), **settings
):
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
    np.testing.assert_allclose(
        batched, run(single, {"a": message}).cameras["a"].cls_token, atol=1e-5
    )
    single.close()


def test_a_refused_image_is_absent_and_named(pipeline):
    prepared = pipeline.prepare(
        {"a": image_message(STAMP_NS, encoding="thermal"), "b": image_message(STAMP_NS)}
    )
    assert list(prepared.images) == ["b"] and prepared.refused["a"].reason == "encoding"
    assert not prepared.batch[0].any()


def test_a_decoded_image_gives_the_batch_of_its_message(pipeline):
    message = image_message(STAMP_NS, seed=3)
    image = decode_image(message)
    expected = pipeline.prepare({"a": message, "b": message}).batch.copy()
    prepared = pipeline.prepare({"a": image, "b": lambda: image})
    np.testing.assert_array_equal(prepared.batch, expected)
    assert prepared.images == {"a": image, "b": image}
    assert prepared.camera_ms.keys() == {"a", "b"}


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"stamp_ns": 0}, "stamp"),
        ({"frame_id": "a\nb"}, "frame"),
        ({"pixels": np.zeros((0, 8, 3), np.uint8)}, "size"),
        ({"pixels": np.zeros((8, 8), np.uint8)}, "encoding"),
        ({"pixels": np.zeros((8, 8, 3), np.float32)}, "encoding"),
    ],
)
def test_a_decoded_image_is_checked_as_a_message_is(pipeline, changes, reason):
    good = decode_image(image_message(STAMP_NS))
    prepared = pipeline.prepare({"a": good, "b": replace(good, **changes)})
    assert list(prepared.images) == ["a"] and prepared.refused["b"].reason == reason
    assert not prepared.batch[1].any()


def test_the_layout_describes_the_sequence(pipeline):
    result = run(pipeline, {"a": image_message(STAMP_NS), "b": image_message(STAMP_NS)})
    layout = pipeline.layout({n: c.image for n, c in result.cameras.items()})
    assert [g.name for g in layout.groups] == [g.name for g in result.sequence.groups]
    assert layout.token_count == len(result.sequence.tokens) and layout.embedding_width == len(
        result.embedding
    )
    assert layout.cameras[0].source_size_px == (48, 64) and layout.precision == "float32"


def test_a_required_pose_that_is_missing_drops_the_frame(tiny_checkpoint):
    arms = (PoseSettings("arm", "/pose", "base"),)
    pipeline = open_pipeline(tiny_checkpoint, poses=arms, pose_policy="require")
    with pytest.raises(BadInput, match="arm") as error:
        run(pipeline, {"a": image_message(STAMP_NS)}, {"arm": SampleAtImage(None, "missing", None)})
    assert error.value.reason == "pose_missing"
    pose = Pose(np.zeros(3), np.array([0, 0, 0, 1.0]), STAMP_NS, "base")
    result = run(
        pipeline, {"a": image_message(STAMP_NS)}, {"arm": SampleAtImage(pose, "interpolated", 0)}
    )
    assert result.sequence.mask[-1]
    pipeline.close()


def test_a_head_gives_classes_and_a_foreign_one_is_refused(tiny_checkpoint, tmp_path):
    rng = np.random.default_rng(0)
    save_head(
        tmp_path / "own", Head(("x", "y", "z"), rng.normal(size=(3, 128)), np.zeros(3), "cls_mean")
    )
    save_head(
        tmp_path / "foreign",
        Head(("x", "y"), rng.normal(size=(2, 64)), np.zeros(2), encoder_sha256="ab" * 32),
    )
    save_head(tmp_path / "wide", Head(("x", "y"), rng.normal(size=(2, 768)), np.zeros(2)))
    pipeline = open_pipeline(
        tiny_checkpoint,
        (CameraSettings("a", "/a", head=str(tmp_path / "own")),),
        output=OutputSettings(top_k=2),
    )
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
    assert (
        list(prepared.images) == ["a"]
        and prepared.refused["b"].reason == "size"
        and not prepared.batch[1].any()
    )


@pytest.mark.parametrize(
    "error, reason",
    [
        (ValueError("cannot reshape"), "decode"),
        (cv2.error("(-215)"), "decode"),
        (MemoryError(), "decode"),
        (AttributeError("a defect"), "error"),
        (KeyError("a defect"), "error"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_defect_of_the_decoding_is_no_bad_input_and_keeps_its_traceback(
    pipeline, monkeypatch, error, reason
):
    """Regression: every exception was taken for a bad picture, and said in a line without where it
    came from.
    """

    def raise_it(message):
        raise error

    monkeypatch.setitem(pipeline._prepare.decoders, "b", raise_it)
    prepared = pipeline.prepare({"a": image_message(STAMP_NS), "b": image_message(STAMP_NS)})
    assert list(prepared.images) == ["a"] and prepared.refused["b"].reason == reason
    said = str(prepared.refused["b"])
    assert type(error).__name__ in said and ("in raise_it" in said) == (reason == "error")


def test_features_that_are_not_finite_never_go_out(pipeline):
    prepared = pipeline.prepare({"a": image_message(STAMP_NS), "b": image_message(STAMP_NS)})
    output = pipeline.encode(prepared)
    broken = replace(output, patch_tokens=np.full_like(output.patch_tokens, np.nan))
    with pytest.raises(BadInput) as error:
        pipeline.assemble(prepared, broken, {})
    assert error.value.reason == "not_finite"


def test_a_head_of_another_block_is_refused_and_the_layout_tells_blocks_apart(
    tiny_checkpoint, tmp_path
):
    last = open_pipeline(tiny_checkpoint)
    save_head(
        tmp_path,
        Head(("x", "y"), np.ones((2, 64)), np.zeros(2), encoder_sha256=last.encoder_sha256),
    )
    camera = CameraSettings("a", "/a", head=str(tmp_path))
    with pytest.raises(BadSetting, match="block 0"):
        Pipeline.open(
            EncoderSettings((camera,), model=ModelSettings(str(tiny_checkpoint), 0), engine=ENGINE)
        )
    for block in (-1, 1):
        model = ModelSettings(str(tiny_checkpoint), block)
        same = Pipeline.open(EncoderSettings((camera,), model=model, engine=ENGINE))
        assert same.layout().encoder_sha256 == last.layout().encoder_sha256
        same.close()
    last.close()


def test_another_block_gives_other_tokens(tiny_checkpoint, pipeline):
    early = Pipeline.open(
        EncoderSettings(
            (CameraSettings("a", "/a"),),
            model=ModelSettings(str(tiny_checkpoint), 0),
            engine=ENGINE,
        )
    )
    message = image_message(STAMP_NS)
    assert not np.allclose(
        run(early, {"a": message}).cameras["a"].cls_token,
        run(pipeline, {"a": message}).cameras["a"].cls_token,
        atol=1e-2,
    )
    early.close()


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"cameras": (CameraSettings("a", "/a", head="/no/head"),)}, "/no/head"),
        ({"cameras": (CameraSettings("a", "/a", labels=("x", "y")),)}, "cameras.a.labels.*no head"),
        (
            {"fusion": FusionSettings(tokenizer="mlp", tokenizer_weights="/no/tokenizer")},
            "/no/tokenizer",
        ),
        ({"fusion": FusionSettings("cross_attention", weights="/no/fusion")}, "/no/fusion"),
        (
            {"states": (StateSettings("s", "/j", tuple(f"j{k}" for k in range(33))),)},
            "states.s.joints.*at most 32",
        ),
        ({"model": ModelSettings("tiny", 7)}, "model.block.*-2 to 1"),
    ],
)
def test_what_is_wrong_besides_the_engine_is_found_before_an_engine_is_opened(
    tiny_checkpoint, monkeypatch, settings, words
):
    """A TensorRT build takes minutes; a wrong path must not wait for it."""
    opened = []
    monkeypatch.setattr(
        "vit_perception.pipeline.encoders.open_engine", lambda *a, **k: opened.append(a)
    )
    defaults = {
        "cameras": (CameraSettings("a", "/a"),),
        "model": ModelSettings(str(tiny_checkpoint)),
        "engine": ENGINE,
    }
    if "model" in settings:
        settings = {"model": ModelSettings(str(tiny_checkpoint), settings["model"].block)}
    with pytest.raises(ValueError, match=words):
        Pipeline.open(EncoderSettings(**(defaults | settings)))
    assert not opened


def test_states_follow_the_poses_in_sequence_layout_and_embedding(tiny_checkpoint):
    arms, states = (
        (PoseSettings("arm", "/p", "base"),),
        (
            StateSettings("body", "/j", ("elbow", "gripper"), continuous=("elbow",)),
            StateSettings("head", "/j", ("pan",), ("velocity",)),
        ),
    )
    pipeline = open_pipeline(
        tiny_checkpoint, (CameraSettings("a", "/a"),), poses=arms, states=states
    )
    pose = Pose(np.zeros(3), np.array([0, 0, 0, 1.0]), STAMP_NS, "base")
    prepared = pipeline.prepare({"a": image_message(STAMP_NS)})
    result = pipeline.assemble(
        prepared,
        pipeline.encode(prepared),
        {
            "arm": SampleAtImage(pose, "interpolated", 0),
            "body": SampleAtImage(Sample(np.array([0.1, 0.2]), STAMP_NS, ""), "held", 5),
            "head": SampleAtImage(None, "missing", None, lacking=("pan",)),
        },
    )
    layout = pipeline.layout()
    assert [g.name for g in layout.groups] == [
        "a/cls",
        "a/patch",
        "arm/pose",
        "body/state",
        "head/state",
    ]
    assert result.sequence.mask.tolist() == [True] * 19 + [False]
    np.testing.assert_array_equal(result.embedding[128:192], result.sequence.tokens[18])
    assert (
        layout.embedding_width == len(result.embedding) == 4 * 64
        and not result.embedding[192:].any()
    )
    assert [(s.name, s.joints, s.fields) for s in layout.states] == [
        ("body", ("elbow", "gripper"), ("position",)),
        ("head", ("pan",), ("velocity",)),
    ]
    assert [s.continuous for s in layout.states] == [("elbow",), ()]
    assert type(layout).from_json(layout.to_json()) == layout
    pipeline.close()


def test_a_required_state_that_is_missing_drops_the_frame_and_names_the_joint(tiny_checkpoint):
    states = (StateSettings("body", "/j", ("elbow",)),)
    pipeline = open_pipeline(
        tiny_checkpoint, (CameraSettings("a", "/a"),), states=states, state_policy="require"
    )
    prepared = pipeline.prepare({"a": image_message(STAMP_NS)})
    with pytest.raises(BadInput, match="elbow") as error:
        pipeline.assemble(
            prepared,
            pipeline.encode(prepared),
            {"body": SampleAtImage(None, "missing", None, lacking=("elbow",))},
        )
    assert error.value.reason == "state_missing"
    pipeline.close()


def test_labels_thresholds_and_policies_are_applied_and_wrong_labels_are_not(tiny_classifier):
    pipeline = open_pipeline(tiny_classifier, (CameraSettings("a", "/a"),))
    message = {"a": image_message(STAMP_NS)}
    before = run(pipeline, message).cameras["a"].classes
    names = tuple(f"name {k}" for k in range(5))
    changed = replace(
        pipeline.settings,
        cameras=(CameraSettings("a", "/a", labels=names),),
        output=OutputSettings(min_score=before[1].score),
    )
    pipeline.apply(changed)
    after = run(pipeline, message).cameras["a"].classes
    assert [c.score for c in after] == [c.score for c in before[:2]] and {
        c.class_id for c in after
    } <= set(names)
    assert pipeline.layout().cameras[0].labels == names
    with pytest.raises(BadSetting, match="cameras.a.labels.*5 names, one a class"):
        pipeline.apply(replace(changed, cameras=(CameraSettings("a", "/a", labels=names[:4]),)))
    assert pipeline.settings is changed
    pipeline.close()
