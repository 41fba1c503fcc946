"""Labels in the settings become scores of every camera, equal to transformers' own zero-shot
logits.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from test.log_lines import LogLines
from test.plain_messages import image_message
from test.text_models import clip_folder, siglip_folder, tokenizer
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.config.settings import (
    BadSetting,
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
    ZeroShotSettings,
)
from vit_perception.heads.classification import Head, save_head
from vit_perception.pipeline import zero_shot_heads
from vit_perception.pipeline.pipeline import Pipeline

LABELS = ("cup", "red can", "tray")
TEMPLATES = ("a photo of a {}.", "{}")
STAMP_NS = 7_000_000_000
FAMILIES = {
    "clip": (clip_folder, {"padding": True}, "softmax"),
    "siglip": (siglip_folder, {"padding": "max_length", "max_length": 40}, "sigmoid"),
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vit_perception" / "zero_shot"


def settings(
    folder, labels=LABELS, templates=TEMPLATES[:1], cameras=(CameraSettings("a", "/a"),), block=-1
):
    return EncoderSettings(
        cameras,
        model=ModelSettings(str(folder), block),
        engine=EngineSettings("torch", "float32"),
        zero_shot=ZeroShotSettings(labels, templates),
    )


def theirs(model, padding, pixels, prompts):
    """transformers' logits (1, K), of pixels (3, H, W) that are normalised already."""
    tokens = tokenizer()(prompts, return_tensors="pt", **padding)
    return model(pixel_values=pixels[None], **tokens).logits_per_image[0].numpy()


def encoded(pipeline, message):
    prepared = pipeline.prepare({"a": message})
    output = pipeline.encode(prepared)
    card = pipeline.card
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (card.mean, card.std))
    pixels = (torch.from_numpy(prepared.batch[0]).float() / 255 - mean) / std
    return output, pipeline.assemble(prepared, output, {}), pixels


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_are_transformers_own(family, tmp_path):
    make, padding, kind = FAMILIES[family]
    model = make(tmp_path / "model")
    pipeline = Pipeline.open(settings(tmp_path / "model"))
    differences = []
    for seed in range(3):
        output, result, pixels = encoded(pipeline, image_message(STAMP_NS, seed=seed))
        logits = theirs(model, padding, pixels, [f"a photo of a {label}." for label in LABELS])
        differences.append(np.abs(pipeline.heads["a"].logits(output.cls_token[0]) - logits).max())
        expected = (
            torch.from_numpy(logits).sigmoid()
            if kind == "sigmoid"
            else torch.from_numpy(logits).softmax(0)
        )
        scores = {c.class_id: c.score for c in result.cameras["a"].classes}
        assert scores == pytest.approx(dict(zip(LABELS, expected.tolist())), abs=1e-4)
        assert logits.std() > 0.01  # labels that differ, or equality would say little
    assert max(differences) <= 1e-4
    [camera] = pipeline.layout().cameras
    assert (camera.labels, camera.scores) == (LABELS, kind)
    assert pipeline.card.labels == ()  # the model itself has no classes
    pipeline.close()


def test_templates_are_averaged(tmp_path):
    model = clip_folder(tmp_path / "model")
    pipeline = Pipeline.open(settings(tmp_path / "model", templates=TEMPLATES))
    output, _, pixels = encoded(pipeline, image_message(STAMP_NS))
    means = []
    for label in LABELS:
        tokens = tokenizer()(
            [template.format(label) for template in TEMPLATES], return_tensors="pt", padding=True
        )
        vectors = model.get_text_features(**tokens).pooler_output
        mean = (vectors / vectors.norm(dim=1, keepdim=True)).mean(dim=0)
        means.append(mean / mean.norm())
    image = model.get_image_features(pixels[None]).pooler_output[0]
    expected = model.logit_scale.exp() * torch.stack(means) @ (image / image.norm())
    np.testing.assert_allclose(
        pipeline.heads["a"].logits(output.cls_token[0]), expected.numpy(), atol=1e-4
    )
    pipeline.close()


def test_a_second_start_needs_no_text_tower_and_other_prompts_do(tmp_path, cache, monkeypatch):
    clip_folder(tmp_path / "model")
    first, lines = Pipeline.open(settings(tmp_path / "model")), LogLines()
    first.close()
    assert len(list(cache.iterdir())) == 1
    asked = []
    original = zero_shot_heads.encode_texts
    monkeypatch.setattr(
        zero_shot_heads, "encode_texts", lambda *given: asked.append(given[2]) or original(*given)
    )
    second = Pipeline.open(settings(tmp_path / "model"), log=lines)
    second.close()
    assert not asked and any(line.startswith("zero-shot: 3 labels from") for line in lines)
    np.testing.assert_array_equal(first.heads["a"].texts, second.heads["a"].texts)
    assert (first.heads["a"].scale, first.heads["a"].bias) == (
        second.heads["a"].scale,
        second.heads["a"].bias,
    )
    Pipeline.open(settings(tmp_path / "model", ("cup", "can"))).close()
    Pipeline.open(settings(tmp_path / "model", templates=("{}",))).close()
    assert asked == [["a photo of a cup.", "a photo of a can."], list(LABELS)]


def test_a_damaged_cache_is_made_again(tmp_path, cache):
    clip_folder(tmp_path / "model")
    first = Pipeline.open(settings(tmp_path / "model"))
    first.close()
    [file] = cache.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    lines = LogLines()
    second = Pipeline.open(settings(tmp_path / "model"), log=lines)
    second.close()
    assert any("is damaged" in line for line in lines)
    np.testing.assert_array_equal(first.heads["a"].texts, second.heads["a"].texts)


def test_cameras_with_labels_or_a_head_of_their_own(tmp_path):
    clip_folder(tmp_path / "model")
    save_head(tmp_path / "head", Head(("full", "empty"), np.zeros((2, 32)), np.zeros(2)))
    cameras = (
        CameraSettings("a", "/a"),
        CameraSettings("b", "/b", zero_shot_labels=("open", "closed")),
        CameraSettings("c", "/c", head=str(tmp_path / "head")),
    )
    pipeline = Pipeline.open(settings(tmp_path / "model", cameras=cameras))
    assert [pipeline.labels_of(name) for name in "abc"] == [
        LABELS,
        ("open", "closed"),
        ("full", "empty"),
    ]
    pipeline.close()
    only = Pipeline.open(settings(tmp_path / "model", labels=(), cameras=cameras[:2]))
    assert [only.labels_of(name) for name in "ab"] == [(), ("open", "closed")]
    only.close()


def test_checkpoints_and_blocks_without_texts_are_refused(tmp_path, tiny_checkpoint):
    with pytest.raises(
        BadSetting,
        match="'zero_shot.labels' is .*'cup'.*of the family dinov2; only clip, siglip, tipsv2",
    ):
        Pipeline.open(settings(tiny_checkpoint))
    clip_folder(tmp_path / "model")
    with pytest.raises(BadSetting, match="'model.block' is 0; accepted: -1 with zero_shot.labels"):
        Pipeline.open(settings(tmp_path / "model", block=0))
    (tmp_path / "model" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="no file tokenizer.json"):
        Pipeline.open(settings(tmp_path / "model"))


def test_one_label_alone_is_refused_where_scores_are_a_softmax(tmp_path):
    for name, (make, _, kind) in FAMILIES.items():
        make(tmp_path / name)
        if kind == "softmax":
            with pytest.raises(
                BadSetting,
                match=r"'zero_shot.labels' is \['cup'\]; accepted: at least two .*softmax",
            ):
                Pipeline.open(settings(tmp_path / name, labels=("cup",)))
            continue
        pipeline = Pipeline.open(settings(tmp_path / name, labels=("cup",)))
        _, result, _ = encoded(pipeline, image_message(STAMP_NS))
        (scored,) = result.cameras["a"].classes
        assert scored.class_id == "cup" and 0 < scored.score < 1
        pipeline.close()


def test_original_files_say_which_checkpoint_has_the_texts(tmp_path):
    from test.checkpoints.clip.clip_files import openai_names, whole_model

    numbers = {
        name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")
    }
    torch.save({**openai_names(whole_model()), **numbers}, tmp_path / "m.pt")
    with pytest.raises(
        BadSetting, match="not read from openai_clip files; set model.checkpoint .*transformers"
    ):
        Pipeline.open(settings(tmp_path / "m.pt"))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ZeroShotSettings(("cup", "cup")), "zero_shot.labels.*differ"),
        (lambda: ZeroShotSettings(("cup", " ")), "zero_shot.labels.*none of them empty"),
        (lambda: ZeroShotSettings(("cup",), ()), "zero_shot.templates' is .*at least one text"),
        (lambda: ZeroShotSettings(("cup",), ("a photo",)), "zero_shot.templates.*with {} once"),
        (
            lambda: CameraSettings("a", "/a", head="h", zero_shot_labels=("x",)),
            "cameras.a.zero_shot_labels.*none for a camera with a head",
        ),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(BadSetting, match=message):
        make()


def test_of_several_checkpoints_the_first_that_knows_texts_gives_the_scores(
    tmp_path, tiny_classifier
):
    """The first is a classifier that knows none: labels by text win over its head."""
    clip_folder(tmp_path / "clip")
    both = replace(
        settings(tiny_classifier),
        model=ModelSettings(str(tiny_classifier), more_checkpoints=(str(tmp_path / "clip"),)),
    )
    classes = []
    for each in (both, settings(tmp_path / "clip")):
        pipeline = Pipeline.open(each)
        classes.append(encoded(pipeline, image_message(STAMP_NS))[1].cameras["a"].classes)
        assert pipeline.layout().cameras[0].labels == LABELS
        pipeline.close()
    assert [c.class_id for c in classes[0]] == [c.class_id for c in classes[1]]
    assert [c.score for c in classes[0]] == pytest.approx([c.score for c in classes[1]], abs=1e-5)
