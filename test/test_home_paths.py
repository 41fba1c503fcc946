"""``~`` and ``~user`` in every setting and every option that is a path."""

import argparse
import dataclasses
import getpass
import importlib
from pathlib import Path

import pytest

from vit_perception.cli.main import SUBCOMMANDS
from vit_perception.config.checks import BadSetting, home_path
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    FusionSettings,
    ModelSettings,
    StateSettings,
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_every_path_of_the_settings_may_begin_with_the_home_folder(home):
    made = EncoderSettings(
        (CameraSettings("a", "/a", head="~/p"),),
        model=ModelSettings("~/p"),
        engine=EngineSettings(calibration="~/p", file="~/p"),
        states=(StateSettings("s", "/s", ("j",), tokenizer_weights="~/p"),),
        fusion=FusionSettings("cross_attention", "~/p", "linear", "~/p"),
    )
    found = []

    def walk(value):
        for field in dataclasses.fields(value):
            one = getattr(value, field.name)
            for item in one if isinstance(one, tuple) else (one,):
                if dataclasses.is_dataclass(item):
                    walk(item)
                elif item == f"{home}/p":
                    found.append(field.name)
                else:
                    assert item != "~/p", field.name

    walk(made)
    assert sorted(found) == [
        "calibration",
        "checkpoint",
        "file",
        "head",
        "tokenizer_weights",
        "tokenizer_weights",
        "weights",
    ]


def test_every_path_of_a_list_may_begin_with_the_home_folder(home):
    made = ModelSettings("demo", more_checkpoints=("~/p", "hf://owner/name"))
    assert made.more_checkpoints == (f"{home}/p", "hf://owner/name")
    with pytest.raises(BadSetting, match=r"'model.more_checkpoints' is '~no.such.user/x'"):
        ModelSettings("demo", more_checkpoints=("~no.such.user/x",))


def test_other_paths_stay_as_they_are():
    for path in ("demo", "hf://owner/name", "/a/~/b", "a~b", "./~x", ""):
        assert home_path(path) == path


def test_a_user_has_a_home_and_nobody_has_none():
    user = getpass.getuser()
    assert home_path(f"~{user}/x") == str(Path(f"~{user}").expanduser() / "x")
    with pytest.raises(
        BadSetting,
        match="'model.checkpoint' is '~no.such.user/x'; accepted: a path, with ~ or ~user, "
        "or ./~no.such.user",
    ):
        ModelSettings("~no.such.user/x")
    with pytest.raises(BadSetting, match="cameras.a.head"):
        CameraSettings("a", "/a", head="~no.such.user/x")


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_no_option_takes_a_path_otherwise(name, home):
    parser = argparse.ArgumentParser()
    importlib.import_module(f"vit_perception.cli.{name}").add_arguments(parser)
    for action in parser._actions:
        assert action.type is not Path, action.option_strings
        if (action.type is not None and isinstance(action.default, Path)) or action.dest in (
            "out",
            "params",
            "bag",
        ):
            assert action.type("~/x") == home / "x"


def test_an_option_with_an_unknown_user_is_refused_by_name(capsys):
    from vit_perception.cli.main import main

    with pytest.raises(SystemExit) as caught:
        main(["replay", "~no.such.user/bag"])
    said = capsys.readouterr().err
    assert (
        caught.value.code == 2
        and "argument bag: '~no.such.user/bag' is in the home folder of" in said
    )
