"""Three camera processes of different rates; one is killed and started again under each policy. Real DDS."""

import sys
import time

import numpy as np
import pytest
from rclpy.parameter import Parameter

from test.ros.conftest import image_message
from vit_perception.cli.processes import Child
from vit_perception.pipeline import Pipeline
from vit_perception.settings import CameraSettings, EncoderSettings, EngineSettings, ModelSettings

RATES_HZ = {"overhead": 30, "left": 15, "right": 10}


@pytest.fixture
def start(tmp_path):
    """``start(camera)`` begins to send its picture, which differs from the others'; returns the process."""
    made = []

    def begin(camera):
        command = [sys.executable, "-m", "test.ros.camera_process", f"/{camera}/image", str(RATES_HZ[camera]),
                   str(list(RATES_HZ).index(camera))]
        made.append(Child(command, tmp_path / f"{camera}{len(made)}.log"))
        return made[-1]

    yield begin
    for child in made:
        child.kill()


@pytest.fixture
def reference(tiny_checkpoint):
    """What each camera's picture gives, by group name."""
    settings = EncoderSettings(tuple(CameraSettings(n, f"/{n}") for n in RATES_HZ),
                               model=ModelSettings(str(tiny_checkpoint)), engine=EngineSettings("torch", "float32"))
    pipeline = Pipeline.open(settings)
    prepared = pipeline.prepare({n: image_message(1, seed) for seed, n in enumerate(RATES_HZ)})
    result = pipeline.assemble(prepared, pipeline.encode(prepared), {})
    yield {g.name: g.tokens.copy() for g in result.sequence.groups}
    pipeline.close()


class Robot:
    """A rig, and what its frames show of each camera."""

    def __init__(self, rig, reference):
        self.rig, self.reference = rig, reference

    def frames_for(self, seconds: float) -> list[set[str]]:
        """The cameras in each frame of the next ``seconds``; none shows another camera's picture."""
        self.rig.tester.frames.clear()
        end_s = time.monotonic() + seconds
        self.rig.until(lambda: time.monotonic() > end_s)
        frames = [f for f in self.rig.tester.frames.values() if f.tokens is not None]
        return [self._present(f.tokens) for f in frames]

    def _present(self, tokens) -> set[str]:
        groups, present = self.rig.tester.layout.split(tokens), set()
        for camera in RATES_HZ:
            parts = [(groups[f"{camera}/{kind}"], self.reference[f"{camera}/{kind}"]) for kind in ("cls", "patch")]
            if any(part.any() for part, _ in parts):
                present.add(camera)
                for part, expected in parts:
                    np.testing.assert_array_equal(part, expected)
        return present

    def whole_again(self) -> None:
        self.rig.tester.frames.clear()
        self.rig.until(lambda: any(f.tokens is not None and len(self._present(f.tokens)) == 3
                                   for f in list(self.rig.tester.frames.values())), what="a frame of all cameras")

    def silent(self, camera: str) -> None:
        self.rig.until(lambda: any(s.name.endswith(f"camera {camera}") and s.level == b"\x02"
                                   for s in getattr(self.rig.tester.diagnostics, "status", ())), what="ERROR")


def test_a_killed_camera_stops_or_masks_the_output_and_comes_back_by_itself(rig, start, reference):
    one = rig(camera_names=list(RATES_HZ), sync__slop_s=0.05, sync__silent_after_s=0.3,
              **{f"cameras.{n}.topic": f"/{n}/image" for n in RATES_HZ})
    one.activate()
    robot = Robot(one, reference)
    left = {name: start(name) for name in RATES_HZ}["left"]
    robot.whole_again()
    frames = robot.frames_for(1.5)
    assert all(len(f) == 3 for f in frames) and 10 <= len(frames) <= 17  # the slowest camera's 10 Hz

    left.kill()
    robot.silent("left")
    assert robot.frames_for(0.8) == []  # wait
    assert one.node.set_parameters([Parameter("sync.policy", value="mask")])[0].successful
    robot.frames_for(0.2)
    frames = robot.frames_for(0.8)
    assert len(frames) >= 5 and all(f == {"overhead", "right"} for f in frames)

    left = start("left")
    robot.whole_again()
    robot.frames_for(0.3)
    assert all(len(f) == 3 for f in robot.frames_for(0.5))
    left.kill()
    robot.silent("left")
    assert {frozenset(f) for f in robot.frames_for(0.5)} == {frozenset({"overhead", "right"})}
    assert one.node.set_parameters([Parameter("sync.policy", value="wait")])[0].successful
    start("left")
    robot.whole_again()
    one.tester.diagnostics = None
    for camera, rate_hz in RATES_HZ.items():
        books = one.accounts(camera)
        assert books["published"] and not set(books) - {"received", "published", "pending", "dropped.superseded",
                                                        "dropped.unmatched"}
    figures = one.diagnostic("camera overhead")
    assert 25 < float(figures["rate_hz"]) < 32 and float(figures["age_s"]) < 0.2
    for stage in ("receive", "decode", "preprocess", "queue", "age"):
        assert 0 <= float(figures[f"latency_ms.{stage}"].split(" / ")[0]) < 500
    assert {"latency_ms.infer", "latency_ms.publish"} <= set(one.diagnostic(": latency"))
    assert float(one.diagnostic(": process")["rss_mb"]) > 50
