"""Videos of LeRobot data sets that lack something or are damaged: it costs their own frames."""

import random
import shutil

import pytest

from test.datasets.lerobot.hostile_sets import change_rows, episode_file, of_videos, outcome  # noqa: F401
from test.datasets.lerobot.test_dataset import KEY, data_set, write_video
from vit_perception.datasets.lerobot.dataset import LeRobotSource


def test_a_video_that_is_short_missing_or_cut_costs_its_own_frames_only(tmp_path, of_videos):
    root = data_set(tmp_path / "set", "v2.1", True)
    first = root / f"videos/chunk-000/{KEY}/episode_000000.mp4"
    write_video(first, range(3))
    assert outcome(LeRobotSource(root), of_videos) == [0, 1, 2, "frame", 4, 5, 6]
    first.write_bytes(first.read_bytes()[:60])
    assert outcome(LeRobotSource(root), of_videos) == ["file"] * 4 + [4, 5, 6]
    first.unlink()
    assert outcome(LeRobotSource(root), of_videos) == ["file"] * 4 + [4, 5, 6]


def test_a_frame_that_the_video_lacks_costs_that_frame_only(tmp_path, of_videos):
    root = data_set(tmp_path / "set", "v2.1", True)
    change_rows(episode_file(root, 0), lambda rows: rows[1].update(timestamp=0.151))
    assert outcome(LeRobotSource(root), of_videos) in (
        [0, "frame", 2, 3, 4, 5, 6],
        [0, 1, "frame", 3, 4, 5, 6],
    )
    change_rows(episode_file(root, 0), lambda rows: rows[1].update(timestamp=float("nan")))
    assert outcome(LeRobotSource(root), of_videos) == [0, "file", 2, 3, 4, 5, 6]


def test_damage_inside_a_video_never_ends_the_run_and_spares_the_other_episode(tmp_path, of_videos):
    root = data_set(tmp_path / "set", "v2.1", True)
    first, rng = root / f"videos/chunk-000/{KEY}/episode_000000.mp4", random.Random(3)
    whole = first.read_bytes()
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(8):
            data[rng.randrange(len(data))] = rng.randrange(256)
        first.write_bytes(data)
        results = outcome(LeRobotSource(root), of_videos)
        assert len(results) == 7 and results[4:] == [4, 5, 6]


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {}\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n",
        "<?xml version='1.0'?><MPD>{}</MPD>",
    ],
)
def test_playlists_are_no_videos(tmp_path, of_videos, content):
    root = data_set(tmp_path / "set", "v2.1", True)
    first = root / f"videos/chunk-000/{KEY}/episode_000000.mp4"
    shutil.move(first, root / "other.mp4")
    first.write_text(content.format(root / "other.mp4"))
    results = list(LeRobotSource(root).results(of_videos, 0))
    assert [getattr(r.result, "reason", "") for r in results] == ["file"] * 4 + [""] * 3
    assert "neither MP4 nor Matroska" in results[0].result.text
