"""What the demo checks before it starts, and what it may remove."""

from argparse import Namespace

import pytest

from test.conftest import DEMO_BAG, TRAIN_BAG
from vit_perception.cli.demo import check, make_room


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


@pytest.mark.parametrize("changes, said", [({"rate": 0.0}, "--rate is 0.0"), ({"bag": DEMO_BAG / "nope"}, "--bag: no bag"),
                                           ({"train_bag": DEMO_BAG / "nope"}, "--train-bag: no bag")])
def test_what_would_fail_in_a_minute_is_said_at_once(changes, said):
    arguments = {"rate": 1.0, "bag": DEMO_BAG, "train_bag": TRAIN_BAG}
    check(Namespace(**arguments))
    with pytest.raises(ValueError, match=said):
        check(Namespace(**(arguments | changes)))
