"""What RViz and Foxglove open: a node's views, images, classes, poses and /diagnostics.

``python -m vit_perception.viewing.viewer_files`` writes the files of the example configurations
anew; the launch files write those of the node that they start.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vit_perception.config.parameter_files import DEFAULT_NODE, ParameterFile, expanded_topic
from vit_perception.files.atomic import write_whole

# Where the files of the example configurations stand, below the folder of config/.
EXAMPLES = {
    "rviz/vit_perception.rviz": "one_camera_one_arm.yaml",
    "foxglove/one_camera.json": "one_camera_one_arm.yaml",
    "foxglove/three_cameras.json": "three_cameras_two_arms.yaml",
}
_VIEWS = ("feature_view", "attention_view")


@dataclass(frozen=True)
class Shown:
    """What there is to be seen of a node."""

    node: str  # full name
    images: dict[str, str]  # topic by camera
    arms: tuple[str, ...]
    frame: str  # of the first arm's poses; empty without arms


def shown_of(params_file: Path, node: str) -> Shown:
    """Return what ``node`` has with the parameters in a file.

    Raises:
        InvalidValue: It is not a parameter file.
    """
    given = ParameterFile(params_file).values_for(node)

    def names(parameter: str) -> list[str]:
        value = given.get(parameter)
        return [str(name) for name in value] if isinstance(value, list) else []

    topics = {name: given.get(f"cameras.{name}.topic") for name in names("camera_names")}
    arms = names("pose_names")
    frames = [
        given.get(f"poses.{arm}.{name}") for arm in arms[:1] for name in ("base_frame", "frame_id")
    ]
    return Shown(
        node=node,
        images={n: expanded_topic(str(t), node) for n, t in topics.items() if t},
        arms=tuple(arms),
        frame=next((str(frame) for frame in frames if frame), ""),
    )


def text_for(viewer: str, shown: Shown) -> str:
    """Return the file of ``rviz`` or ``foxglove``."""
    return rviz_config(shown) if viewer == "rviz" else foxglove_layout(shown)


def rviz_config(shown: Shown) -> str:
    """Return a configuration of RViz 2: an image of each view, and the poses as axes."""
    displays: list[dict[str, Any]] = [
        {"Class": "rviz_default_plugins/Grid", "Name": "Grid", "Enabled": True, "Cell Size": 0.1}
    ]
    for camera in shown.images:
        for view in _VIEWS:
            displays.append(
                {
                    "Class": "rviz_default_plugins/Image",
                    "Name": f"{camera}: {view}",
                    "Enabled": True,
                    "Topic": _rviz_topic(f"{shown.node}/{camera}/{view}"),
                }
            )
    for arm in shown.arms:
        displays.append(
            {
                "Class": "rviz_default_plugins/Pose",
                "Name": f"{arm}: pose at the image",
                "Enabled": True,
                "Shape": "Axes",
                "Axes Length": 0.1,
                "Axes Radius": 0.01,
                "Topic": _rviz_topic(f"{shown.node}/{arm}/pose_at_image"),
            }
        )
    orbit = {"Class": "rviz_default_plugins/Orbit", "Name": "Current View", "Distance": 2.0}
    content = {
        "Panels": [{"Class": "rviz_common/Displays", "Name": "Displays"}],
        "Visualization Manager": {
            "Class": "",
            "Name": "root",
            "Enabled": True,
            "Displays": displays,
            "Global Options": {
                "Background Color": "48; 48; 48",
                "Fixed Frame": shown.frame or "map",
                "Frame Rate": 30,
            },
            "Tools": [{"Class": "rviz_default_plugins/MoveCamera"}],
            "Views": {"Current": orbit | {"Pitch": 0.6, "Yaw": 0.8}},
        },
        "Window Geometry": {"Width": 1400, "Height": 900},
    }
    return yaml.safe_dump(content, sort_keys=False)


def _rviz_topic(topic: str) -> dict[str, Any]:
    return {
        "Value": topic,
        "Depth": 1,
        "History Policy": "Keep Last",
        "Reliability Policy": "Best Effort",
        "Durability Policy": "Volatile",
    }


def foxglove_layout(shown: Shown) -> str:
    """Return a layout that Foxglove imports: a row for each camera, below it poses, latency and
    /diagnostics.
    """
    panels: dict[str, dict[str, Any]] = {}
    rows = []
    for camera, image in shown.images.items():
        row = []
        for view, topic in {
            "image": image,
            **{view: f"{shown.node}/{camera}/{view}" for view in _VIEWS},
        }.items():
            row.append(f"Image!{camera}_{view}")
            panels[row[-1]] = {
                "imageMode": {"imageTopic": topic},
                "foxglovePanelTitle": f"{camera}: {view}",
            }
        row.append(f"StateTransitions!{camera}_classes")
        best = f"{shown.node}/{camera}/classification.results[0].class_id"
        panels[row[-1]] = {
            "paths": [{"value": best, "timestampMethod": "receiveTime", "label": camera}],
            "isSynced": True,
            "foxglovePanelTitle": f"{camera}: best class",
        }
        rows.append(_split("row", row))
    panels["3D!arms"] = {
        "followTf": shown.frame,
        "topics": {
            f"{shown.node}/{arm}/pose_at_image": {"visible": True, "type": "axis", "axisScale": 0.1}
            for arm in shown.arms
        },
        "foxglovePanelTitle": "poses at the image",
    }
    panels["Plot!age"] = {
        "paths": [
            {
                "value": figure_path(shown.node, f"camera {camera}", f"latency_{share}_ms.age"),
                "timestampMethod": "receiveTime",
                "enabled": True,
                "label": f"{camera} {share}",
            }
            for camera in shown.images
            for share in ("p50", "p99")
        ],
        "foxglovePanelTitle": "age of the outputs (ms)",
        "showLegend": True,
        "isSynced": True,
    }
    panels["DiagnosticSummary!all"] = {"topicToRender": "/diagnostics", "sortByLevel": True}
    rows.append(_split("row", ["3D!arms", "Plot!age", "DiagnosticSummary!all"]))
    content = {
        "configById": panels,
        "globalVariables": {},
        "userNodes": {},
        "playbackConfig": {"speed": 1},
        "layout": _split("column", rows),
    }
    return json.dumps(content, indent=1) + "\n"


def figure_path(node: str, status: str, key: str) -> str:
    """Return where Foxglove finds a number of /diagnostics."""
    name = f"{node.lstrip('/')}: {status}"
    return f'/diagnostics.status[:]{{name=="{name}"}}.values[:]{{key=="{key}"}}.value'


def _split(direction: str, parts: list[Any]) -> Any:
    """Return parts of equal size, one after another, as a tree of pairs."""
    if len(parts) == 1:
        return parts[0]
    return {
        "direction": direction,
        "first": parts[0],
        "second": _split(direction, parts[1:]),
        "splitPercentage": round(100 / len(parts), 2),
    }


def example(name: str, config: Path) -> str:
    """Return the file ``name`` of EXAMPLES; ``config`` is the folder of the configurations."""
    viewer = name.split("/")[0]
    return text_for(viewer, shown_of(config / EXAMPLES[name], DEFAULT_NODE))


def main(root: Path) -> None:
    """Write the files of EXAMPLES below ``root``."""
    for name in EXAMPLES:
        text = example(name, root / "config")
        (root / name).parent.mkdir(exist_ok=True)
        write_whole(root / name, lambda file, text=text: file.write_text(text))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
