"""config/diagnostic_aggregator.yaml against the names that the node publishes."""

import pytest
import yaml

from test.conftest import ROOT
from vit_perception.tokens.kinds import registered

FILE = ROOT / "config/diagnostic_aggregator.yaml"
# Of every input that has a status; the policy's state is made of others.
ROBOT = {
    "camera_names": ["wrist", "front"],
    "cameras.wrist.topic": "/wrist/image",
    "cameras.front.topic": "/front/image",
    "pose_names": ["arm"],
    "poses.arm.topic": "/ee_pose",
    "poses.arm.frame_id": "base_link",
    "state_names": ["body"],
    "states.body.topic": "/joints",
    "states.body.joints": ["elbow"],
    "wrench_names": ["hand"],
    "wrenches.hand.topic": "/wrench",
    "wrenches.hand.frame_id": "tool",
}


def analyzers() -> dict[str, dict]:
    parameters = yaml.safe_load(FILE.read_text())["analyzers"]["ros__parameters"]
    return {name: given for name, given in parameters.items() if isinstance(given, dict)}


def matching(name: str) -> list[str]:
    """The analyzers that take the status ``name``, as GenericAnalyzer::match does."""
    return [
        analyzer
        for analyzer, given in analyzers().items()
        if any(text in name for text in given["contains"])
    ]


def test_it_has_only_what_a_generic_analyzer_reads():
    for given in analyzers().values():
        assert given["type"] == "diagnostic_aggregator/GenericAnalyzer"
        assert set(given) == {"type", "path", "contains", "timeout"}
        assert isinstance(given["timeout"], float)  # the aggregator ends at an int
    assert len({given["path"] for given in analyzers().values()}) == len(analyzers())


@pytest.mark.parametrize("namespace", ["", "left/robot"])
def test_every_kind_of_source_has_its_place(namespace):
    node = f"{namespace}/vit_encoder".lstrip("/")
    for kind in registered():
        assert len(matching(f"{node}: {kind.label} x")) == 1, f"{kind.label} is not in {FILE.name}"


def test_every_status_of_a_node_is_in_one_place_and_every_text_is_used(rig):
    robot = rig(**ROBOT)
    robot.activate()
    robot.until(lambda: len(getattr(robot.tester.diagnostics, "status", ())) > 5)
    names = [status.name for status in robot.tester.diagnostics.status]
    assert [name for name in names if len(matching(name)) != 1] == []
    texts = [text for given in analyzers().values() for text in given["contains"]]
    unused = [text for text in texts if not any(text in name for name in names)]
    # What is made of others has no status of its own yet.
    assert unused == ["vit_encoder: monitor ", "vit_encoder: rays ", "vit_encoder: policy state"]
