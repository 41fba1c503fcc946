"""Fine-tuning on scikit-learn's handwritten digits (8 x 8 px), in process."""

import dataclasses
import json
import math
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.model.variants import VARIANTS
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.training.finetune import FineTuning, run
from vit_perception.training.pictures import check_all, read_folder
from vit_perception.training.recipe import Recipe
from vit_perception.training.start import (
    classifier_config,
    start_from_checkpoint,
    start_from_variant,
)

pytestmark = pytest.mark.usefixtures("one_thread")
SHORT = {"epochs": 3, "learning_rate": 3e-3, "layer_decay": 1.0, "flip": True, "colour": 0.2}


def tuning_of(folder, recipe, seed=None):
    pictures = check_all(read_folder(folder).pictures)
    labels = tuple(sorted(set(pictures.labels)))
    start = start_from_variant("test", 32, labels, None, recipe.seed if seed is None else seed)
    return FineTuning(start, pictures, recipe)


def made(folder):
    folder.mkdir()
    return folder


def weights_of(folder):
    return load_checkpoint(str(folder)).model.state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_digits_are_learned_from_scratch_and_the_node_sees_what_training_saw(digits, tmp_path):
    started_s = time.process_time()
    recipe = Recipe(epochs=14, learning_rate=5e-3, layer_decay=1.0, crop_scale=0.85, patience=14)
    tuning = tuning_of(digits, recipe)
    outcome = run(tuning, tmp_path, resume=False)
    assert len(tuning.held_out) == 450
    best = outcome.history[outcome.best_epoch - 1]
    assert best["held_out_accuracy"] >= 0.97, outcome.history
    # The best epoch was chosen on the same pictures; the last one was not chosen at all.
    assert outcome.history[-1]["held_out_accuracy"] >= 0.96
    assert time.process_time() - started_s < 60
    settings = EncoderSettings(
        (CameraSettings("camera", "files", "compressed"),),
        model=ModelSettings(str(tmp_path)),
        engine=EngineSettings("torch", "float32"),
    )
    pipeline = Pipeline.open(settings)
    assert pipeline.card.family == "vit_perception" and pipeline.card.labels == tuple("0123456789")
    right = []
    for index in tuning.held_out:
        picture = tuning.pictures.items[index]
        prepared = pipeline.prepare({"camera": picture.load().decoded()})
        result = pipeline.assemble(prepared, pipeline.encode(prepared), {})
        right.append(result.cameras["camera"].classes[0].class_id == picture.label)
    pipeline.close()
    assert len(right) == 450 and np.mean(right) == best["held_out_accuracy"]


def test_two_runs_give_the_same_weights_and_another_seed_others(few_digits, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(tuning_of(few_digits, Recipe(**SHORT, seed=seed)), made(tmp_path / name), False)
    a, b, c = (weights_of(tmp_path / name) for name in "abc")
    assert same(a, b) and not same(a, c)


def test_a_run_that_is_taken_up_ends_as_one_that_was_not_interrupted(few_digits, tmp_path):
    whole, parts = made(tmp_path / "whole"), made(tmp_path / "parts")
    expected = run(tuning_of(few_digits, Recipe(**SHORT)), whole, False)
    interrupted = tuning_of(few_digits, Recipe(**SHORT))
    count = 0

    def stop(pictures):
        nonlocal count
        count += 1
        if count == 2 * (interrupted.steps_per_epoch + 2) + 2:  # in the middle of the third epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(interrupted, parts, False, advance=stop)
    # Other random weights at the start do not matter: all of them come from the state.
    outcome = run(tuning_of(few_digits, Recipe(**SHORT), seed=0), parts, True)
    assert outcome.resumed_at == 2 and outcome.best_epoch == expected.best_epoch
    assert [untimed(row) for row in outcome.history] == [untimed(row) for row in expected.history]
    assert same(weights_of(whole), weights_of(parts))
    again = run(tuning_of(few_digits, Recipe(**SHORT)), parts, True)
    assert again.resumed_at == 3 and again.history == outcome.history


def untimed(row):
    return {name: value for name, value in row.items() if name != "seconds"}


@pytest.mark.parametrize("change", ["label", "picture", "recipe"])
def test_a_run_is_not_taken_up_with_other_pictures_labels_or_numbers(tmp_path, change):
    from test.training.conftest import write_digits

    folder, out = write_digits(tmp_path / "digits", 40), made(tmp_path / "out")
    recipe = {"epochs": 1}
    run(tuning_of(folder, Recipe(**recipe)), out, False)
    if change == "label":
        (folder / "3").rename(folder / "three")
    elif change == "picture":
        next((folder / "3").iterdir()).unlink()
    else:
        recipe["epochs"] = 2
    said = {
        "label": "labels: '0, 1, 2, 3, 4.* now",
        "picture": "pictures: 40 then, 39 now",
        "recipe": "epochs: 1 then, 2 now",
    }[change]
    with pytest.raises(ValueError, match=f"(?s)is another run.*{said}"):
        run(tuning_of(folder, Recipe(**recipe)), out, True)


def test_a_run_is_not_taken_up_with_a_model_of_the_same_weights_and_another_function(
    few_digits, tiny_classifier, tmp_path
):
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(tiny_classifier, checkpoint)
    pictures = check_all(read_folder(few_digits).pictures)
    labels = tuple(sorted(set(pictures.labels)))

    def tuning():
        return FineTuning(
            start_from_checkpoint(str(checkpoint), labels, None, 0), pictures, Recipe(epochs=1)
        )

    out = made(tmp_path / "out")
    run(tuning(), out, False)
    assert run(tuning(), out, True).resumed_at == 1
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"hidden_act": "quick_gelu"}))
    with pytest.raises(ValueError, match="(?s)is another run.*start_model: "):
        run(tuning(), out, True)


def test_it_stops_when_nothing_gets_better_and_keeps_the_best(few_digits, tmp_path):
    tuning = tuning_of(few_digits, Recipe(epochs=20, patience=2))
    accuracies = iter([0.3, 0.5, 0.5, 0.4, 0.9])
    best_weights = []

    def epoch(number, advance):
        with torch.no_grad():
            tuning.model.head.bias.fill_(float(number))
        return {
            "epoch": number,
            "held_out_accuracy": next(accuracies),
            "held_out_loss": 1.0,
            "seconds": 0.0,
        }

    tuning.epoch = epoch
    outcome = run(tuning, tmp_path, False, lambda row, best: best_weights.append(best))
    assert outcome.stopped == "2 epochs brought nothing better" and outcome.best_epoch == 2
    assert best_weights == [True, True, False, False]
    assert weights_of(tmp_path)["head.bias"].tolist() == [2.0] * 10


def test_a_loss_that_is_not_finite_stops_the_run(few_digits, tmp_path):
    tuning = tuning_of(few_digits, Recipe(**SHORT))
    with torch.no_grad():
        tuning.model.head.weight.fill_(math.inf)
    with pytest.raises(RuntimeError, match="the loss is nan in epoch 1") as caught:
        run(tuning, tmp_path, False)
    assert caught.value.hint_argument == "learning_rate"


def test_bfloat16_learns_too_and_saves_float32(few_digits, tmp_path):
    tuning = tuning_of(few_digits, Recipe(**SHORT | {"epochs": 2}, precision="bfloat16"))
    outcome = run(tuning, tmp_path, False)
    assert outcome.history[1]["train_loss"] < outcome.history[0]["train_loss"] < 3
    assert {t.dtype for t in tuning.model.state_dict().values()} == {torch.float32}


def test_a_class_of_one_picture_is_trained_on_and_none_in_all_is_refused(few_digits, tmp_path):
    pictures = check_all(read_folder(few_digits).pictures)
    single = next(k for k, label in enumerate(pictures.labels) if label == "7")
    keep = [p for k, p in enumerate(pictures.items) if p.label == "3" or k == single]
    some = check_all(keep)
    start = start_from_variant("test", 32, ("3", "7"), None, 0)
    tuning = FineTuning(start, some, Recipe(epochs=1))
    assert [some.labels[k] for k in tuning.train].count("7") == 1
    assert {some.labels[k] for k in tuning.held_out} == {"3"}
    one_each = check_all([next(p for p in keep if p.label == label) for label in "37"])
    with pytest.raises(ValueError, match="no picture can be held out"):
        FineTuning(start, one_each, Recipe())


def test_a_start_from_a_checkpoint_keeps_its_encoder_and_a_fitting_head(
    tiny_checkpoint, tiny_classifier
):
    given = load_checkpoint(str(tiny_checkpoint))
    start = start_from_checkpoint(str(tiny_checkpoint), ("can", "cup"), None, 0)
    config = start.model.config
    assert (config.pooling, config.head, config.classes, start.head) == (
        "cls_mean",
        "linear",
        2,
        "new",
    )
    assert start.rule == given.card.rule and start.mean == given.card.mean
    mine, theirs = start.model.state_dict(), given.model.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert all(mine[name].data_ptr() != theirs[name].data_ptr() for name in theirs)
    images = torch.rand(2, 3, *start.rule.network_size_px)
    assert torch.equal(start.model(images).logits, torch.zeros(2, 2))
    classifier = load_checkpoint(str(tiny_classifier))
    kept = start_from_checkpoint(str(tiny_classifier), classifier.card.labels, None, 0)
    assert kept.head == "that of the checkpoint"
    assert torch.equal(
        kept.model.state_dict()["head.weight"], classifier.model.state_dict()["head.weight"]
    )
    other = start_from_checkpoint(str(tiny_classifier), ("a", "b"), None, 0)
    assert other.head == "new" and other.model.config.pooling == classifier.model.config.pooling


def test_a_start_that_cannot_be_is_named():
    with pytest.raises(ValueError, match="variant is 'XXL'; accepted: test, Ti/16"):
        start_from_variant("XXL", None, ("a", "b"), None, 0)
    with pytest.raises(ValueError, match="multiples of the patch size 8"):
        start_from_variant("test", 30, ("a", "b"), None, 0)
    with pytest.raises(ValueError, match="feature is 'best'"):
        start_from_variant("test", 32, ("a", "b"), "best", 0)


def test_torchs_own_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    start_from_variant("test", 32, ("a", "b"), None, 0)
    assert torch.equal(torch.rand(3), expected)


def test_the_evaluation_counts_truth_by_row(few_digits):
    tuning = tuning_of(few_digits, Recipe())
    tuning.model = _always(3)
    evaluation, loss = tuning.evaluate(tuning.pictures, range(50))
    assert evaluation.confusion[:, 3].sum() == evaluation.confusion.sum() == 50
    assert evaluation.confusion[3, 3] == tuning.pictures.labels[:50].count(
        "3"
    ) and loss == pytest.approx(
        -np.mean([10.0 if la == "3" else 0.0 for la in tuning.pictures.labels[:50]])
        + math.log(9 + math.e**10)
    )


def _always(index):
    class Model(torch.nn.Module):
        def forward(self, images):
            logits = torch.zeros(len(images), 10)
            logits[:, index] = 10.0
            return SimpleNamespace(logits=logits)

    return Model()


def test_a_classifier_on_another_pooling_leaves_the_checkpoints_own_behind():
    config = dataclasses.replace(VARIANTS["test"], pooling="map", pooling_heads=2)
    assert classifier_config(config, 3, None).pooling_heads == 2
    assert classifier_config(config, 3, "mean").pooling_heads == 0
    summary = dataclasses.replace(VARIANTS["test"], pooling="cls_set", cls_set=2)
    assert classifier_config(summary, 3, None).pooled_width == 2 * config.width
    assert classifier_config(summary, 3, "cls_mean").cls_set == 0
