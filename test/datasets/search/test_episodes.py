"""The table of episodes, against recordings with known faults."""

import json

import numpy as np
import pytest

from test.datasets.search.stored import hand_made
from vit_perception.datasets.search.episodes import episodes_of
from vit_perception.datasets.search.feature_set import FeatureSet

COUNT = 40


@pytest.fixture
def seven(tmp_path):
    """Seven recordings of 4 s: of one, 0.5 s lack; one is short; one shows something else."""
    rng = np.random.default_rng(0)
    vectors = np.array([1.0, 0, 0, 0, 0, 0, 0, 0]) + 0.02 * rng.normal(size=(7 * COUNT, 8))
    episodes = np.repeat(np.arange(7), COUNT)
    vectors[episodes == 5] = np.array([0, 1.0, 0, 0, 0, 0, 0, 0]) + 0.02 * rng.normal(
        size=(COUNT, 8)
    )
    vectors = np.stack([vectors, vectors], axis=1)
    vectors[3 * COUNT + 7, 1] = 0
    stamps_s = np.tile(np.arange(COUNT) * 0.1, 7)
    stamps_s[COUNT + 20 : 2 * COUNT] += 0.5
    kept = np.ones(len(episodes), bool)
    kept[6 * COUNT + 10 :] = False
    folder = hand_made(
        tmp_path / "seven",
        vectors[kept],
        episodes=episodes[kept],
        stamps_s=stamps_s[kept],
        names=tuple("abcdefg"),
        cameras=("wrist", "far"),
        shard_frames=25,
        dropped={"decode": 5},
    )
    entries = [{"source": 2, "dropped": {"decode": 3}}, {"source": 2, "dropped": {"decode": 2}}]
    entries.append({"source": 0, "dropped": {}})
    (folder / "journal.jsonl").write_text("\n".join(json.dumps(e) for e in entries))
    return folder


def test_what_is_wrong_with_each_is_noted(seven):
    rows = episodes_of(FeatureSet([seven]))
    notes = {row.recording: row.notes for row in rows}
    assert notes == {
        "a": (),
        "b": ("gaps",),
        "c": ("dropped",),
        "d": ("camera missing",),
        "e": (),
        "f": ("novel",),
        "g": ("short",),
    }
    b = rows[1]
    assert (b.gaps, b.missing_frames, b.frames) == (1, 5, COUNT)
    assert b.longest_step_s == pytest.approx(0.6) and b.length_s == pytest.approx(4.4)
    assert b.rate_hz == pytest.approx(10)
    assert [row.dropped for row in rows] == [0, 0, 5, 0, 0, 0, 0]
    assert [row.camera_missing for row in rows] == [0, 0, 0, 1, 0, 0, 0]
    assert rows[5].novelty > 0.8 and rows[0].novelty < 0.02


def test_without_the_journal_what_was_dropped_is_not_known(seven):
    (seven / "journal.jsonl").unlink()
    assert {row.dropped for row in episodes_of(FeatureSet([seven]))} == {None}


def test_one_episode_has_nothing_to_be_compared_with(tmp_path):
    folder = hand_made(tmp_path / "one", np.ones((1, 1, 8)), dropped={"decode": 2})
    (row,) = episodes_of(FeatureSet([folder]))
    assert (row.novelty, row.rate_hz, row.length_s, row.dropped) == (None, 0.0, 0.0, 2)
