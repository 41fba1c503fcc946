"""Files for RViz and Foxglove: they are of this commit, and name what a node really has."""

import json
import re

import pytest
import yaml

from test.conftest import ROOT
from vit_perception.config.parameter_files import DEFAULT_NODE
from vit_perception.viewing.viewer_files import (
    EXAMPLES,
    example,
    figure_path,
    foxglove_layout,
    main,
    rviz_config,
    shown_of,
)

# Of the node: the others are of other programs.
CONFIGS = [
    path for path in sorted((ROOT / "config").glob("*.yaml")) if "camera_names" in path.read_text()
]


def topics_in(layout: dict) -> set[str]:
    """The topics that a Foxglove layout names."""
    text = json.dumps(layout)
    return {found.split(".")[0] for found in re.findall(r'"(/[\w/]+(?:\.[^"\\]*)?)(?:\\"|")', text)}


def leaves(tree) -> list[str]:
    if isinstance(tree, str):
        return [tree]
    assert tree["direction"] in ("row", "column") and 0 < tree["splitPercentage"] < 100
    return [*leaves(tree["first"]), *leaves(tree["second"])]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_files_are_those_of_the_example_configurations(name, tmp_path):
    assert (ROOT / name).read_text() == example(name, ROOT / "config"), (
        "run `python -m vit_perception.viewing.viewer_files`"
    )


def test_the_program_writes_them_all(tmp_path):
    (tmp_path / "config").symlink_to(ROOT / "config")
    main(tmp_path)
    assert all((tmp_path / name).read_text() == (ROOT / name).read_text() for name in EXAMPLES)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_every_example_has_all_its_cameras_and_arms_in_both(config):
    node = "/robot_1/eyes"
    shown = shown_of(config, node)
    assert shown.images and all(topic.startswith("/") for topic in shown.images.values())
    layout = json.loads(foxglove_layout(shown))
    panels = layout["configById"]
    assert sorted(leaves(layout["layout"])) == sorted(panels)  # each panel stands once
    rviz = yaml.safe_load(rviz_config(shown))["Visualization Manager"]
    displayed = {d["Topic"]["Value"] for d in rviz["Displays"] if "Topic" in d}
    images = {panel.get("imageMode", {}).get("imageTopic") for panel in panels.values()}
    for camera, topic in shown.images.items():
        views = {f"{node}/{camera}/feature_view", f"{node}/{camera}/attention_view"}
        assert views <= displayed and {topic, *views} <= images
    poses = {f"{node}/{arm}/pose_at_image" for arm in shown.arms}
    assert poses <= displayed and poses == set(panels["3D!arms"]["topics"])
    assert len(displayed) == 2 * len(shown.images) + len(poses)
    assert rviz["Global Options"]["Fixed Frame"] == (shown.frame or "map")


def test_what_is_read_of_a_file(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(
        "/**: {ros__parameters: {camera_names: [a], cameras.a.topic: cam/image, pose_names: [left],"
        " poses.left.source: tf, poses.left.base_frame: torso}}"
    )
    shown = shown_of(file, "/ns/vit")
    assert (shown.images, shown.arms, shown.frame) == ({"a": "/ns/cam/image"}, ("left",), "torso")
    file.write_text("/other: {ros__parameters: {camera_names: [a]}}")
    assert shown_of(file, DEFAULT_NODE).images == {}


def test_foxgloves_path_of_a_figure_names_status_and_key():
    assert figure_path("/ns/vit", "camera a", "latency_p99_ms.age") == (
        '/diagnostics.status[:]{name=="ns/vit: camera a"}.values[:]{key=="latency_p99_ms.age"}'
        ".value"
    )
