"""The picture of docs/policy_node.md: its numbers are those of its text, and it can be drawn."""

import numpy as np

from test.conftest import ROOT
from tools import action_timeline
from vit_perception.image.opencv import cv2


def test_the_page_says_the_numbers_of_the_picture():
    assert action_timeline.measured() == (3, 4, 3)
    ready_ms = action_timeline.AGE_MS + action_timeline.RUNNING_MS
    text = " ".join((ROOT / "docs/policy_node.md").read_text().split())
    assert f"is {action_timeline.AGE_MS} ms old when the policy begins" in text
    assert f"takes {action_timeline.RUNNING_MS} ms" in text
    assert f"ready after {ready_ms} ms, so its first three actions are over" in text
    assert "carried out actions 4 to 6 of the chunk before" in text


def test_it_is_drawn_as_it_is_committed(tmp_path, monkeypatch):
    """Up to the smoothing of letters, which is another one in other versions of FreeType."""
    committed = cv2.imread(str(action_timeline.PICTURE))
    monkeypatch.setattr(action_timeline, "PICTURE", tmp_path / "drawn.png")
    assert action_timeline.main() == 0
    drawn = cv2.imread(str(tmp_path / "drawn.png"))
    assert drawn.shape == committed.shape
    assert np.abs(drawn.astype(int) - committed).mean() < 3
