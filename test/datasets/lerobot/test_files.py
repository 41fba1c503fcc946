"""Files of LeRobot data sets: what their templates and cells may reach."""

import os
import shutil

import pytest

from test.datasets.lerobot.hostile_sets import (  # noqa: F401
    change_info,
    change_rows,
    episode_file,
    of_videos,
    outcome,
    pipeline,
)
from test.datasets.lerobot.test_dataset import KEY, data_set, picture
from vit_perception.datasets.lerobot.dataset import LeRobotSource
from vit_perception.datasets.lerobot.files import filled
from vit_perception.files.errors import UserError


def test_cells_that_point_outside_or_at_a_pipe_or_device_give_no_picture(tmp_path, pipeline):
    root = data_set(tmp_path / "set", "v2.1", False)
    import cv2

    inside, outside = root / "images/in.png", tmp_path / "out.png"
    inside.parent.mkdir()
    cv2.imwrite(str(inside), picture(0)), cv2.imwrite(str(outside), picture(0))
    os.mkfifo(root / "images/pipe.png")
    (root / "images/zero.png").symlink_to("/dev/zero")
    (root / "images/link.png").symlink_to(outside)
    (root / "images/circle.png").symlink_to("circle.png")
    cells = (
        ["images/in.png", "../out.png", str(outside), "images/pipe.png"],
        ["images/zero.png", "images/link.png", "images/circle.png"],
    )
    for episode, paths in enumerate(cells):
        change_rows(
            episode_file(root, episode),
            lambda rows, paths=paths: [
                r.update({KEY: {"bytes": None, "path": p}}) for r, p in zip(rows, paths)
            ],
        )
    assert outcome(LeRobotSource(root), pipeline) == [0] + ["file"] * 6
    change_rows(
        episode_file(root, 0),
        lambda rows: [
            r.update({KEY: {"bytes": None, "path": p}})
            for r, p in zip(rows, ["images", "a\0b", "x" * 5000, ""])
        ],
    )
    assert outcome(LeRobotSource(root), pipeline)[:4] == ["file"] * 4


def test_links_of_the_hub_cache_are_followed_and_data_files_elsewhere_are_refused(tmp_path):
    root = data_set(tmp_path / "hub/datasets--a--b/snapshots/0123", "v2.1", False)
    blobs = tmp_path / "hub/datasets--a--b/blobs"
    blobs.mkdir()
    shutil.move(episode_file(root, 0), blobs / "abc")
    episode_file(root, 0).symlink_to("../../../../blobs/abc")
    assert LeRobotSource(root).total() == 7
    episode_file(root, 0).unlink()
    shutil.move(blobs / "abc", tmp_path / "abc")
    episode_file(root, 0).symlink_to(tmp_path / "abc")
    with pytest.raises(UserError, match="lies outside of"):
        LeRobotSource(root)


@pytest.mark.parametrize(
    "template",
    [
        "../{video_key}.mp4",
        "/etc/{video_key}",
        "{video_key.__class__}",
        "{0}",
        "{}",
        "{video_key:>1000000000}",
        "{episode_index:999999999d}",
        "{video_key!r}",
        "{episode_index:{episode_chunk}d}",
        "{episode_index:03x}",
        "{no_field}",
        "{{}}",
        "{video_key:03d}",
        "a" * 10_000,
        "videos",
        "{episode_index:99d}",
        "{",
    ],
)
def test_templates_reach_nothing_else_and_format_nothing_else(tmp_path, of_videos, template):
    root = data_set(tmp_path / "set", "v2.1", True)
    change_info(root, video_path=template)
    assert outcome(LeRobotSource(root), of_videos) == ["file"] * 7


def test_templates_are_filled_as_the_format_defines_them():
    assert filled(
        "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        {"video_key": "a.b", "episode_chunk": 1, "episode_index": 1234567},
    ) == ("videos/chunk-001/a.b/episode_1234567.mp4")
