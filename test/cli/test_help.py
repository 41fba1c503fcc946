"""The help of every subcommand: examples that are accepted, options in groups, plain words."""

import re
import shlex
from importlib import import_module

import pytest

from vit_perception import __version__
from vit_perception.cli.demo import next_steps
from vit_perception.cli.main import SUBCOMMANDS, main, parser_of

MOST_IN_A_GROUP = 16
# Words of the code, or of how it is arranged, that mean nothing to a user.
CODE_WORDS = re.compile(r"argparse|dataclass|module|of its own here|callback|None|True\b|\bdict\b")


def help_of(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def options_of(name):
    """The subcommand's parser, with its groups."""
    [choices] = [a.choices for a in parser_of([name])._actions if a.dest == "subcommand"]
    return choices[name]


def test_the_version_is_the_packages(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"vit-perception {__version__}\n"


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_examples_of_the_help_are_accepted(name, capsys):
    examples = import_module(f"vit_perception.cli.{name}").EXAMPLES.strip().splitlines()
    shown = help_of(name, capsys)
    assert examples and shown.endswith("examples:\n" + "".join(f"  {e}\n" for e in examples))
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "vit-perception" and words[0] == name
        assert parser_of([name]).parse_args(words).subcommand == name


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_option_is_explained_in_plain_words(name):
    for action in options_of(name)._actions:
        assert action.help, f"{name}: {action.option_strings or action.dest} has no help"
        assert not CODE_WORDS.search(action.help), f"{name}: {action.help}"
        assert "as the node's" not in action.help, f"{name}: {action.help}"


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_many_options_are_in_groups(name):
    groups = options_of(name)._action_groups
    for group in groups:
        # A mutually exclusive group's actions are those of the group around it, too.
        count = len({id(action) for action in group._group_actions})
        assert count <= MOST_IN_A_GROUP, f"{name}: {group.title} has {count} options"
    ungrouped = [a for a in options_of(name)._optionals._group_actions if a.dest != "help"]
    assert len(ungrouped) <= 5, f"{name}: {[a.dest for a in ungrouped]} are in no group"


def test_the_groups_of_fit(capsys):
    shown = help_of("fit", capsys)
    titles = re.findall(r"^(\w.*):$", shown, re.MULTILINE)
    assert titles == [
        "options",
        "what is learned from",
        "what is tested on",
        "method and result",
        "model",
        "only with --method logistic or nearest_mean",
        "only with --method finetune: start and machine",
        "only with --method finetune: training",
        "examples",
    ]


def test_paragraphs_of_a_description_stay_apart(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    shown = help_of("build", capsys)
    assert "finds it in the cache.\n\nWith --target" in shown


@pytest.mark.parametrize(
    "program, shown, node",
    [
        (".venv/bin/vit-perception", ".venv/bin/vit-perception", ".venv/bin/encoder_node"),
        ("vit-perception", "vit-perception", "encoder_node"),
        ("/x/vit_perception/cli/main.py", "vit-perception", "encoder_node"),
    ],
)
def test_the_demo_ends_with_commands_that_can_be_typed(program, shown, node, monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", [program])
    text = next_steps(tmp_path)
    assert f"open {tmp_path / 'report.html'} in a browser" in text
    assert f" {node} --ros-args --params-file YOURS.yaml -p autostart:=true\n" in text
    commands = re.findall(rf"  {re.escape(shown)} (.*?)(?:  .*)?$", text, re.MULTILINE)
    assert [shlex.split(c)[0] for c in commands] == ["inspect", "embed", "status", "watch"]
    for command in commands:
        words = shlex.split(command)
        assert parser_of(words[:1]).parse_args(words).subcommand == words[0]
