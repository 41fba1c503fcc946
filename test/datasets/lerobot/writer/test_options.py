"""Options of `embed --format lerobot`, as a user types them: what is wrong is one line."""

import re

import pytest

from test.conftest import DEMO_BAG
from test.datasets.lerobot.test_dataset import data_set
from test.datasets.lerobot.writer.recordings import bag  # noqa: F401
from vit_perception.cli.main import main
from vit_perception.datasets.lerobot.writer.options import LeRobotOptions
from vit_perception.files.errors import InvalidValue


@pytest.mark.parametrize(
    "options, said",
    [
        ({"actions": ("state", "/goal")}, "action is state, /goal; accepted: topics, or state"),
        ({"action_at": "later"}, "action_at is 'later'; accepted: next, now"),
        ({"actions": ("none",), "action_at": "now"}, "action_at is given, and the action is none"),
    ],
)
def test_options_that_do_not_fit_are_named(options, said):
    with pytest.raises(InvalidValue, match=said):
        LeRobotOptions(**options)


@pytest.mark.parametrize(
    "given, said",
    [
        ([], "--action is not given, and the source has no column of that name; accepted: a topic"),
        (
            ["--action", "/gaol"],
            "--action: .*has no topic /gaol that is read; .*did you mean '/goal'",
        ),
        (["--action", "/gripper", "--action", "/goal:mode"], "--action: /goal .*field mode"),
        (["--action", "none", "--task", "a", "--task", "b"], "--task is given 2 times; accepted"),
        (["--action", "none", "--column", "x=/goal"], "--column has x; accepted: with --format"),
        (["--action", "none", "--features", "cls"], "--features has cls; accepted: tokens"),
    ],
)
def test_what_is_wrong_is_a_line_before_the_model_is_loaded(bag, tmp_path, capsys, given, said):
    command = ["embed", str(bag), "--format", "lerobot", "--out", str(tmp_path / "out"), *given]
    assert main([*command, "--checkpoint", str(tmp_path / "no_model")]) == 1
    told = capsys.readouterr().err
    assert re.search(said, told, re.DOTALL), told
    assert "no_model" not in told and not (tmp_path / "out").exists()


def test_the_options_belong_to_the_format(tmp_path, capsys):
    given = ["embed", str(DEMO_BAG), "--action", "state", "--out", str(tmp_path / "out")]
    assert main(given) == 1
    said = "--action is given, and --format is parquet; accepted: with --format lerobot"
    assert said in capsys.readouterr().err


def test_an_action_topic_of_what_is_no_bag_is_named(tmp_path, capsys):
    data_set(tmp_path / "set", "v3.0", video=False)
    given = ["embed", str(tmp_path / "set"), "--format", "lerobot", "--out", str(tmp_path / "out")]
    assert main([*given, "--action", "/goal"]) == 1
    assert "--action is given, and " in capsys.readouterr().err
