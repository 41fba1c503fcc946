"""What the demo checks before it starts, and what it may remove."""

from argparse import Namespace

import pytest

from test.conftest import DEMO_BAG, ROOT, TRAIN_BAG
from vit_perception.cli.demo import check, make_room, parameters_of
from vit_perception.files.errors import InvalidValue


def test_only_what_a_demo_wrote_is_removed(tmp_path):
    """Found by a reader: --out emptied whatever folder it was given."""
    (tmp_path / "heads").mkdir()
    (tmp_path / "summary.json").write_text("{}")
    make_room(tmp_path)
    assert not list(tmp_path.iterdir())
    (tmp_path / "thesis.txt").write_text("three years of work")
    with pytest.raises(ValueError, match="thesis.txt"):
        make_room(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "three years of work"
    make_room(tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir()


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"rate": 0.0}, "--rate is 0.0"),
        ({"bag": DEMO_BAG / "nope"}, "--bag: no bag"),
        ({"train_bag": DEMO_BAG / "nope"}, "--train-bag: no bag"),
    ],
)
def test_what_would_fail_in_a_minute_is_said_at_once(changes, said):
    arguments = {"rate": 1.0, "bag": DEMO_BAG, "train_bag": TRAIN_BAG}
    check(Namespace(**arguments))
    with pytest.raises(ValueError, match=said):
        check(Namespace(**(arguments | changes)))


def test_a_parameter_file_that_the_demo_cannot_use_is_one_line(tmp_path):
    assert (
        parameters_of(ROOT / "config/demo.yaml")["cameras.wrist.topic"] == "/wrist/image/compressed"
    )
    file = tmp_path / "p.yaml"
    for text, said in (
        ("- a", "is no parameter file"),
        ("hello", "is no parameter file"),
        ("", "is no parameter file"),
        (
            "/**: {ros__parameters: {camera_names: [a]}}",
            "gives no text for cameras.agentview.topic",
        ),
    ):
        file.write_text(text)
        with pytest.raises(InvalidValue, match=f"p.yaml {said}.*; accepted: "):
            parameters_of(file)
