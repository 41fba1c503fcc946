"""A checkpoint that does not say how its images are prepared: both cures, and what is refused."""

import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from test.checkpoints.dense.test_huggingface import dpt_depth
from test.checkpoints.family_files import WRITERS
from test.checkpoints.meta.tensors import backbone
from test.checkpoints.policies.policy_folders import write_smolvla
from test.datasets.embed_runs import settings_of
from vit_perception.checkpoints.by_hand import MARK, by_hand_hint
from vit_perception.checkpoints.errors import CheckpointError
from vit_perception.checkpoints.extract import write_extract
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.config.by_hand import ByHand
from vit_perception.config.settings import BadSetting, ModelSettings
from vit_perception.datasets.embed import EmbedOptions, run_of
from vit_perception.engines.reference import encoder_digest
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.pipeline.pipeline import Pipeline

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GIVEN = ByHand(MEAN, STD, (56, 56))
FILE = "preprocessor_config.json"
NAMES = {"mean": "model.mean", "std": "model.std", "size_px": "model.size"}


@pytest.fixture
def bare(tiny_checkpoint, tmp_path):
    """The tiny checkpoint without its preprocessor_config.json."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "bare")
    (folder / FILE).unlink()
    return folder


def what_the_error_says(folder):
    """The file to write, its content, and the parameters."""
    with pytest.raises(CheckpointError, match=r"no file preprocessor_config\.json") as caught:
        load_checkpoint(str(folder))
    path, content, *lists = re.search(
        r"save as (\S+): (\{.*\}), or set model.mean: (\[.*\]), model.std: (\[.*\]), "
        r"model.size: (\[.*\])$",
        str(caught.value),
    ).groups()
    mean, std, size_px = (tuple(json.loads(text)) for text in lists)
    return SimpleNamespace(path=path, content=content, by_hand=ByHand(mean, std, size_px))


def test_both_cures_of_the_error_give_one_model_that_is_marked(bare, tiny_checkpoint):
    said = what_the_error_says(bare)
    assert said.path == str(bare / FILE)
    by_parameters = load_checkpoint(str(bare), by_hand=said.by_hand)
    (bare / FILE).write_text(said.content)
    by_file = load_checkpoint(str(bare))
    for card in (by_parameters.card, by_file.card):
        assert (card.mean, card.std) == (MEAN, STD)
        assert card.rule == ResizeRule((56, 56), fit="stretch", interpolation="bicubic")
        assert card.by_hand and card.name == f"bare{MARK}"
    assert encoder_digest(by_parameters) == encoder_digest(by_file)
    # The file of the authors has no such mark, and the names of others do not change.
    card = load_checkpoint(str(tiny_checkpoint)).card
    assert not card.by_hand and card.name == tiny_checkpoint.name


@pytest.mark.parametrize(
    "model_type, mean", [("vit", 0.5), ("clip", 0.48145466), ("dinov3_vit", 0.485)]
)
def test_each_family_has_its_authors_mean(tmp_path, model_type, mean):
    hint = by_hand_hint(tmp_path, model_type, (224, 336), None)
    assert json.loads(re.search(r"\{.*\}", hint)[0])["image_mean"][0] == mean
    assert "model.mean" not in hint
    # Authors who used several kinds: nothing to propose but where to give it.
    assert by_hand_hint(tmp_path, "radio", (224, 224), None) == ""
    assert "set model.mean, model.std and model.size" in by_hand_hint(
        tmp_path, "internvl", (448, 448), GIVEN
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_part_alone_is_refused_with_the_parameter_that_is_missing(bare, name):
    with pytest.raises(BadSetting) as refused:
        load_checkpoint(str(bare), by_hand=GIVEN._replace(**{name: ()}))
    assert re.match(rf"parameter '{NAMES[name]}' is \[\]; accepted: ", str(refused.value))
    assert str(bare / FILE) in str(refused.value)
    assert "given together: model.size, model.mean, model.std" in str(refused.value)


@pytest.mark.parametrize(
    "name, value, own",
    [
        ("mean", (0.5, 0.456, 0.406), list(MEAN)),
        ("std", (0.229, 0.224, 0.2251), list(STD)),
        ("size_px", (56, 70), [56, 56]),
    ],
)
def test_what_the_checkpoint_says_is_not_replaced(tiny_checkpoint, name, value, own):
    with pytest.raises(BadSetting) as refused:
        load_checkpoint(str(tiny_checkpoint), by_hand=ByHand(**{name: value}))
    expected = f"parameter '{NAMES[name]}' is {list(value)}; accepted: {own}, which is what"
    assert str(refused.value).startswith(expected)


def test_what_agrees_with_the_checkpoint_is_accepted_and_changes_nothing(tiny_checkpoint):
    own = load_checkpoint(str(tiny_checkpoint)).card
    for by_hand in (GIVEN, ByHand(mean=MEAN), ByHand(std=STD), ByHand(size_px=(56, 56))):
        card = load_checkpoint(str(tiny_checkpoint), by_hand=by_hand).card
        assert (card.name, card.rule, card.mean, card.std, card.by_hand) == (
            *(own.name, own.rule, own.mean, own.std),
            False,
        )


def test_a_file_is_filled_where_it_has_no_such_field(bare):
    fields = {"size": {"height": 56, "width": 56}, "resample": 2, "image_std": list(STD)}
    (bare / FILE).write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match=r"has no 'image_mean'.*\n.*model\.mean"):
        load_checkpoint(str(bare))
    card = load_checkpoint(str(bare), by_hand=ByHand(mean=MEAN)).card
    assert (card.mean, card.std, card.name) == (MEAN, STD, f"bare{MARK}")
    assert card.rule.interpolation == "bilinear"
    with pytest.raises(BadSetting, match=r"'model\.mean' is \[\]"):
        load_checkpoint(str(bare), by_hand=ByHand(std=STD))
    with pytest.raises(BadSetting, match=r"'model\.std' is \[0\.5, 0\.5, 0\.5\]"):
        load_checkpoint(str(bare), by_hand=ByHand(mean=MEAN, std=(0.5, 0.5, 0.5)))
    fields = {"do_normalize": False, "image_mean": None}
    (bare / FILE).write_text(json.dumps(fields))
    card = load_checkpoint(str(bare), by_hand=ByHand(size_px=(56, 56))).card
    assert (card.mean, card.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def test_the_size_before_a_crop_cannot_be_given(bare):
    fields = {"do_center_crop": True, "crop_size": 56, "image_mean": MEAN, "image_std": STD}
    (bare / FILE).write_text(json.dumps(fields))
    for by_hand in (ByHand(), GIVEN):
        with pytest.raises(CheckpointError, match=r"has no 'size'") as refused:
            load_checkpoint(str(bare), by_hand=by_hand)
        assert "model.size" not in str(refused.value)


def test_a_weights_file_takes_it_instead_of_its_authors_transform(tmp_path, caplog):
    path = tmp_path / "dino_deitsmall8_pretrain.pth"
    torch.save(backbone(), path)
    published = load_checkpoint(str(path)).card
    assert published.rule.fit == "crop" and not published.by_hand
    assert "beside it, or set model.mean, model.std and model.size" in caplog.text
    caplog.clear()
    given = ByHand((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), (64, 96))
    card = load_checkpoint(str(path), by_hand=given).card
    assert (card.rule.fit, card.rule.network_size_px) == ("stretch", (64, 96))
    assert (card.mean, card.std) == given[:2] and card.name == f"dino_deitsmall8_pretrain{MARK}"
    assert not caplog.text
    with pytest.raises(BadSetting, match=r"'model\.size' is \[\]"):
        load_checkpoint(str(path), by_hand=ByHand(mean=MEAN, std=STD))


@pytest.mark.parametrize("family", ["qwen2_5_vl", "internvl", "siglip2"])
def test_families_with_processors_of_their_own_take_the_size_as_it_is(family, tmp_path):
    WRITERS[family](tmp_path / "model")
    (tmp_path / "model" / FILE).unlink()
    with pytest.raises(CheckpointError, match=r"no file.*\n.*set model\.mean, model\.std and"):
        load_checkpoint(str(tmp_path / "model"))
    given = GIVEN._replace(size_px=(64, 96))
    loaded = load_checkpoint(str(tmp_path / "model"), by_hand=given)
    assert loaded.card.rule.network_size_px == (64, 96) and loaded.card.mean == MEAN


def test_a_size_of_which_patches_do_not_see_all_is_given_as_it_was_trained(tmp_path):
    WRITERS["siglip"](tmp_path / "model")
    own = load_checkpoint(str(tmp_path / "model"))
    patch_px = own.model.config.patch_size_px
    given = GIVEN._replace(size_px=(4 * patch_px + 3,) * 2)
    (tmp_path / "model" / FILE).unlink()
    card = load_checkpoint(str(tmp_path / "model"), by_hand=given).card
    assert card.rule.fit == "stretch_corner" and card.by_hand
    assert card.rule.network_size_px == (4 * patch_px,) * 2


def test_a_dense_model_takes_it_too(tmp_path):
    _, folder = dpt_depth(tmp_path)
    (folder / FILE).unlink()
    with pytest.raises(CheckpointError, match=r"set model\.mean, model\.std and model\.size"):
        load_checkpoint(str(folder))
    card = load_checkpoint(str(folder), by_hand=GIVEN._replace(size_px=(32, 48))).card
    assert card.rule.network_size_px == (32, 48) and card.by_hand


def test_of_a_policy_only_its_own_is_accepted(tmp_path):
    folder = str(write_smolvla(tmp_path))
    own = load_checkpoint(folder).card
    half = ByHand((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), own.rule.network_size_px)
    assert load_checkpoint(folder, by_hand=half).card.name == own.name
    with pytest.raises(BadSetting, match=r"'model\.mean' is .*accepted: \[0\.5, 0\.5, 0\.5\]"):
        load_checkpoint(folder, by_hand=ByHand(mean=MEAN))


def test_an_extracted_folder_keeps_the_mark(tmp_path):
    WRITERS["internvl"](tmp_path / "model")
    (tmp_path / "model" / FILE).unlink()
    loaded = load_checkpoint(str(tmp_path / "model"), by_hand=GIVEN._replace(size_px=(64, 64)))
    write_extract(loaded, tmp_path / "encoder")
    card = load_checkpoint(str(tmp_path / "encoder")).card
    assert card.by_hand and card.name == f"encoder{MARK}" and card.mean == MEAN


def given_to(settings, more=()):
    return replace(
        settings,
        model=ModelSettings(
            settings.model.checkpoint, more_checkpoints=more, mean=MEAN, std=STD, size=(56, 56)
        ),
    )


def test_layout_and_run_say_it_and_are_those_of_the_file(bare):
    said = what_the_error_says(bare)
    settings = settings_of(bare)
    layouts, runs = [], []
    for each in (given_to(settings), settings):
        pipeline = Pipeline.open(each)
        layouts.append(pipeline.layout())
        runs.append(run_of(pipeline, [], EmbedOptions("mcap")))
        pipeline.close()
        (bare / FILE).write_text(said.content)
    assert layouts[0].to_json() == layouts[1].to_json()
    assert layouts[0].model == f"bare{MARK}"
    with_parameters, without = (run.pop("settings") for run in runs)
    assert runs[0] == runs[1] and runs[0]["model"] == f"bare{MARK}"
    given = {"mean": MEAN, "std": STD, "size": (56, 56)}
    assert {name: with_parameters["model"].pop(name) for name in given} == given
    # A run without them has no new keys, so that one of an earlier version goes on.
    assert with_parameters == without


def test_further_checkpoints_do_not_take_it(bare, tiny_second, tmp_path):
    pipeline = Pipeline.open(given_to(settings_of(bare), more=(str(tiny_second),)))
    first, second = pipeline.layout().encoders
    pipeline.close()
    assert (first.model, first.mean) == (f"bare{MARK}", MEAN)
    own = load_checkpoint(str(tiny_second)).card
    assert (second.model, second.mean, second.std) == (own.name, own.mean, own.std)
    assert second.network_size_px == own.rule.network_size_px != (56, 56)
    other = shutil.copytree(bare, tmp_path / "other")
    with pytest.raises(CheckpointError, match=rf"{other}: no file .*\n.*save as") as refused:
        Pipeline.open(given_to(settings_of(bare), more=(str(other),)))
    assert "model.mean" not in str(refused.value)
