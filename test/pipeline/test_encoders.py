"""Several encoders in one pipeline: each one's tokens are those of a pipeline of its own."""

import json
from dataclasses import replace

import numpy as np
import pytest

from test.pipeline.several_encoders import (
    CAMERAS,
    MESSAGES,
    STAMP_NS,
    open_closed,
    open_pipeline,
    run,
    settings_of,
)
from test.plain_messages import image_message
from vit_perception.config.settings import (
    BadSetting,
    CameraSettings,
    EngineSettings,
    ModelSettings,
    PoseSettings,
    ZeroShotSettings,
)
from vit_perception.heads.classification import Head, save_head
from vit_perception.image.decode import decode_image
from vit_perception.pipeline.encoders import names_of
from vit_perception.pipeline.zero_shot_heads import encoder_of_texts
from vit_perception.policy.live import LayoutMismatch, check_layout
from vit_perception.wire.layout import Layout
from vit_perception.wire.records import BadInput, Roi


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint, tiny_second):
    made = open_pipeline(tiny_checkpoint, tiny_second)
    yield made
    made.close()


@pytest.fixture(scope="module")
def alone(tiny_checkpoint, tiny_second):
    """A pipeline for each of the two checkpoints."""
    made = {"dinov2": open_pipeline(tiny_checkpoint), "vit": open_pipeline(tiny_second)}
    yield made
    for each in made.values():
        each.close()


def names(pipeline) -> list[str]:
    return [encoder.name for encoder in pipeline.layout().encoders]


def test_tokens_are_those_of_a_node_with_each_checkpoint_alone(pipeline, alone):
    result = run(pipeline, MESSAGES)
    layout = pipeline.layout()
    parts = layout.split(result.sequence.tokens)
    assert result.sequence.tokens.shape == (2 * (1 + 16 + 1 + 9), 64) and layout.token_count == 54
    for name, single in zip(names(pipeline), alone.values()):
        own = single.layout().split(run(single, MESSAGES).sequence.tokens)
        for camera in "ab":
            for kind in ("cls", "patch"):
                given = parts[f"{camera}/{name}/{kind}"]
                wanted = own[f"{camera}/{kind}"]
                assert given.shape == wanted.shape and np.abs(wanted).max() > 0.1
                np.testing.assert_allclose(given, wanted, atol=1e-5)


def test_topics_of_a_camera_are_the_first_encoders(pipeline, alone):
    both, one = (run(each, MESSAGES).cameras["b"] for each in (pipeline, alone["dinov2"]))
    np.testing.assert_allclose(both.patch_tokens, one.patch_tokens, atol=1e-5)
    np.testing.assert_allclose(both.cls_token, one.cls_token, atol=1e-5)
    np.testing.assert_allclose(both.cls_attention, one.cls_attention, atol=1e-6)
    assert both.grid == (4, 4)


def test_the_embedding_has_the_cls_tokens_of_every_encoder_camera_by_camera(pipeline):
    result = run(pipeline, MESSAGES)
    parts = pipeline.layout().split(result.sequence.tokens)
    wanted = [parts[f"{camera}/{name}/cls"][0] for camera in "ab" for name in names(pipeline)]
    np.testing.assert_array_equal(result.embedding, np.concatenate(wanted))
    assert pipeline.layout().embedding_width == 4 * 64 == len(result.embedding)


def test_a_missing_camera_is_masked_in_the_groups_of_every_encoder(pipeline):
    run(pipeline, MESSAGES)  # leaves pixels of both cameras in the buffers
    result = run(pipeline, {"b": image_message(STAMP_NS)})
    assert result.sequence.mask.tolist() == [False] * 27 + [True] * 27
    assert not result.sequence.tokens[:27].any()
    prepared = pipeline.prepare({"b": MESSAGES["b"], "a": image_message(STAMP_NS, encoding="odd")})
    assert prepared.refused["a"].reason == "encoding"
    assert [batch.shape for batch in prepared.each] == [(2, 3, 56, 56), (2, 3, 48, 48)]
    assert all(not batch[0].any() and batch[1].any() for batch in prepared.each)


def test_the_layout_says_all_of_each_encoder(pipeline, alone, tiny_second):
    result = run(pipeline, MESSAGES)
    before = pipeline.layout()
    layout = pipeline.layout({name: camera.image for name, camera in result.cameras.items()})
    first, second = layout.encoders
    single = {name: each.layout() for name, each in alone.items()}
    assert [(g.name, g.stop - g.start, g.grid, g.encoder) for g in layout.groups[:4]] == [
        (f"a/{first.name}/cls", 1, None, first.name),
        (f"a/{first.name}/patch", 16, (4, 4), first.name),
        ("a/tiny_vit/cls", 1, None, "tiny_vit"),
        ("a/tiny_vit/patch", 9, (3, 3), "tiny_vit"),
    ]
    for encoder, own in ((first, single["dinov2"]), (second, single["vit"])):
        for name in ("model", "weights_sha256", "encoder_sha256", "block", "width"):
            assert getattr(encoder, name) == getattr(own, name)
        assert (encoder.runtime, encoder.precision) == (own.runtime, own.precision)
    assert second.model == tiny_second.name == "tiny vit"
    assert (second.grid, second.patch_size_px, second.network_size_px) == ((3, 3), 16, (48, 48))
    assert (second.fit, second.interpolation) == ("crop", "bicubic")
    assert second.mean == second.std == (0.5, 0.5, 0.5) and first.std == (0.229, 0.224, 0.225)
    # What has no list is the first encoder's.
    for name in ("model", "weights_sha256", "encoder_sha256", "block", "runtime", "precision"):
        assert getattr(layout, name) == getattr(single["dinov2"], name)
    assert layout.cameras[0].patch_size_px == 14 and before.encoders[1].views == ()
    # The geometry is that of the network size of each.
    image = result.cameras["b"].image
    for encoder, its_own in zip(layout.encoders, alone.values()):
        view = encoder.views[1]
        plan = its_own.geometry(image.size).plan
        assert (view.camera, view.scale, view.offset_px) == ("b", plan.scale, plan.offset_px)
    assert layout.encoders[0].views[1].scale != layout.encoders[1].views[1].scale


def test_a_region_of_interest_is_in_the_geometry_of_every_encoder(pipeline, alone):
    roi = Roi(x=10, y=6, width=40, height=30)
    as_before = pipeline.settings
    cameras = (as_before.cameras[0], replace(as_before.cameras[1], roi=tuple(roi)))
    pipeline.apply(replace(as_before, cameras=cameras))
    try:
        image = decode_image(MESSAGES["b"])
        layout = pipeline.layout({"b": image})
    finally:
        pipeline.apply(as_before)
    for encoder, its_own in zip(layout.encoders, alone.values()):
        (view,) = encoder.views
        plan = its_own.geometry(image.size, roi).plan
        assert (view.camera, view.scale, view.offset_px) == ("b", plan.scale, plan.offset_px)
        assert plan.offset_px != its_own.geometry(image.size).plan.offset_px


def test_the_layout_returns_from_json_and_is_checked(pipeline, alone):
    result = run(pipeline, MESSAGES)
    layout = pipeline.layout({name: camera.image for name, camera in result.cameras.items()})
    again = Layout.from_json(layout.to_json())
    assert again == layout and again.layout_id == layout.layout_id
    said = json.loads(layout.to_json())
    for wrong in ({"encoders": []}, {"encoders": [said["encoders"][0]] * 2}):
        with pytest.raises(BadInput, match="layout.encoders.*names that differ"):
            Layout.from_json(json.dumps(said | wrong))
    plain = json.loads(alone["vit"].layout().to_json())
    assert "encoders" not in plain and all("encoder" not in group for group in plain["groups"])


def test_a_policy_is_told_when_the_second_encoder_is_another(pipeline):
    live = pipeline.layout()
    seen = pipeline.layout({c: r.image for c, r in run(pipeline, MESSAGES).cameras.items()})
    first, second = seen.encoders
    # Another runtime may be, and the geometry is not known yet: neither is a difference.
    check_layout(live, [replace(seen, encoders=(first, replace(second, runtime="other 1.0")))])
    trained = replace(seen, encoders=(first, replace(second, encoder_sha256="0" * 64)))
    with pytest.raises(LayoutMismatch, match=r"encoders\.1\.encoder_sha256"):
        check_layout(live, [trained])


def test_other_widths_are_refused_with_the_cure(tiny_checkpoint, tiny_classifier):
    with pytest.raises(BadSetting, match="model.more_checkpoints") as refused:
        open_pipeline(tiny_checkpoint, tiny_classifier)
    text = str(refused.value)
    assert f"64 ({tiny_checkpoint.name})" in text and f"32 ({tiny_classifier.name})" in text
    assert "one width" in text and "a node for each" in text


def test_a_block_is_that_of_every_encoder(tiny_checkpoint, tiny_second):
    with open_closed(tiny_checkpoint, tiny_second, model={"block": 0}) as pipeline:
        own = open_pipeline(tiny_second, model={"block": 0})
        wanted = run(own, MESSAGES).cameras["a"].patch_tokens
        given = pipeline.layout().split(run(pipeline, MESSAGES).sequence.tokens)
        np.testing.assert_allclose(given["a/tiny_vit/patch"], wanted, atol=1e-5)
        own.close()
    with pytest.raises(BadSetting, match="a block from -2 to 1, of .* as of every other encoder"):
        open_pipeline(tiny_checkpoint, tiny_second, model={"block": 2})


def test_a_network_size_is_that_of_every_encoder(tiny_checkpoint, tiny_second):
    with open_closed(tiny_checkpoint, tiny_second, model={"network_size": "112x112"}) as pipeline:
        prepared = pipeline.prepare(MESSAGES)
        assert [batch.shape for batch in prepared.each] == [(2, 3, 112, 112)] * 2
        # Both have one rule: the image is resized once, into one array.
        assert np.shares_memory(*prepared.each)
        assert [encoder.grid for encoder in pipeline.layout().encoders] == [(8, 8), (7, 7)]
    with pytest.raises(BadSetting, match="multiples of the patch size 16"):
        open_pipeline(tiny_checkpoint, tiny_second, model={"network_size": "56x56"})


# -- classification --------------------------------------------------------------------------------


def test_classes_are_those_of_the_first_checkpoint_with_a_head(pipeline, alone):
    both, one = (run(each, MESSAGES).cameras["a"].classes for each in (pipeline, alone["vit"]))
    assert [c.class_id for c in both] == [c.class_id for c in one] and len(both) == 3
    assert [c.score for c in both] == pytest.approx([c.score for c in one], abs=1e-5)
    assert pipeline.layout().cameras[0].labels == ("cup", "can", "robot")


def test_a_cameras_own_head_takes_the_encoder_that_it_was_fitted_on(
    tiny_checkpoint, tiny_second, alone, tmp_path
):
    rng = np.random.default_rng(0)
    paths = {}
    for name, digest in (
        ("own", alone["vit"].encoder_sha256),
        ("free", ""),
        ("foreign", "0" * 64),
    ):
        paths[name] = tmp_path / name
        weight = rng.normal(size=(2, 64))
        save_head(paths[name], Head(("x", "y"), weight, np.zeros(2), encoder_sha256=digest))

    def cameras(one, other):
        return tuple(replace(c, head=str(h)) for c, h in zip(CAMERAS, (one, other)))

    with open_closed(
        tiny_checkpoint, tiny_second, cameras=cameras(paths["own"], paths["free"])
    ) as pipeline:
        result = run(pipeline, MESSAGES)
        scores = {
            "a": pipeline.heads["a"].scores(
                run(alone["vit"], MESSAGES).cameras["a"].cls_token, np.zeros((1, 64), np.float32)
            ),
            "b": pipeline.heads["b"].scores(
                run(alone["dinov2"], MESSAGES).cameras["b"].cls_token,
                np.zeros((1, 64), np.float32),
            ),
        }
        for camera, wanted in scores.items():
            found = {c.class_id: c.score for c in result.cameras[camera].classes}
            assert found == pytest.approx(dict(zip("xy", wanted)), abs=1e-5)
    with pytest.raises(BadSetting, match="tiny vit, block 1 .*; this one was fitted on 0000"):
        open_pipeline(tiny_checkpoint, tiny_second, cameras=cameras(paths["foreign"], paths["own"]))


def test_no_encoder_that_knows_texts_is_refused_as_with_one(tiny_checkpoint, tiny_second):
    labels = ZeroShotSettings(("a cup", "a can"))
    with pytest.raises(BadSetting, match="zero_shot.labels.*of the family dinov2"):
        open_pipeline(tiny_checkpoint, tiny_second, zero_shot=labels)


def test_texts_go_to_the_first_encoder_that_knows_them(tiny_checkpoint, tiny_second, monkeypatch):
    monkeypatch.setattr(
        "vit_perception.pipeline.zero_shot_heads._accepted_labels",
        lambda loaded, labels: None if loaded == "clip" else "none",
    )
    settings = settings_of(tiny_checkpoint, tiny_second, zero_shot=ZeroShotSettings(("x", "y")))
    assert encoder_of_texts(settings, ["dino", "clip"]) == 1
    assert encoder_of_texts(settings, ["dino", "vit"]) == 0
    assert encoder_of_texts(settings_of(tiny_checkpoint, tiny_second), ["dino", "clip"]) == 0


# -- settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more, said",
    [
        (("",), "none of them empty"),
        (("y",) * 2, "differ from each other"),
        (("x",), "differ from each other and from model.checkpoint, which is x"),
        (tuple("abcdefgh"), "up to 7"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(more, said):
    with pytest.raises(BadSetting, match=said):
        ModelSettings("x", more_checkpoints=more)


def test_an_engine_file_holds_one_encoder(tiny_checkpoint, tiny_second):
    with pytest.raises(BadSetting, match="engine.file.*an engine of its own"):
        settings_of(tiny_checkpoint, tiny_second, engine=EngineSettings(file="/robot.engine"))


def test_names_differ_and_are_parts_of_a_path():
    given = ["facebook/dinov2-small", "my model", "a/dinov2-small", "größe/", "", "x" * 99]
    wanted = ["dinov2-small", "my_model", "dinov2-small_2", "gr__e", "encoder", "x" * 64]
    assert names_of(given) == wanted


def test_a_layout_without_further_checkpoints_is_as_it_was(tiny_checkpoint):
    """Neither groups nor keys are others: equal ids mean the same as before."""
    cameras = (CameraSettings("a", "/a"),)
    poses = (PoseSettings("arm", "/p", "base"),)
    with open_closed(tiny_checkpoint, cameras=cameras, poses=poses) as pipeline:
        layout = pipeline.layout()
        assert [group.name for group in layout.groups] == ["a/cls", "a/patch", "arm/pose"]
        assert set(json.loads(layout.to_json())) == {
            *("layout_id", "groups", "cameras", "width", "dtype", "model", "weights_sha256"),
            *("encoder_sha256", "block", "runtime", "precision", "min_cosine", "fusion"),
            *("fusion_weights_sha256", "pose_tokenizer", "pose_tokenizer_sha256"),
            *("embedding_width", "states", "state_tokenizer", "schema_version"),
        }
        assert pipeline.parts.encoders[0].name == ""
