"""Three camera processes of different rates; one is killed and started again under each policy.
Real DDS.
"""

import sys

import numpy as np
import pytest
from rclpy.parameter import Parameter

from test.ros.conftest import image_message
from vit_perception.cli.processes import Child
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.streams.camera_sync import MAX_PENDING

RATES_HZ = {"overhead": 30, "left": 15, "right": 10}


@pytest.fixture
def start(tmp_path):
    """``start(camera)`` begins to send its picture, which differs from the others'; returns the
    process.
    """
    made = []

    def begin(camera):
        command = [
            sys.executable,
            "-m",
            "test.ros.camera_process",
            f"/{camera}/image",
            str(RATES_HZ[camera]),
            str(list(RATES_HZ).index(camera)),
        ]
        made.append(Child(command, tmp_path / f"{camera}{len(made)}.log"))
        return made[-1]

    yield begin
    for child in made:
        child.kill()


@pytest.fixture
def reference(tiny_checkpoint):
    """What each camera's picture gives, by group name."""
    settings = EncoderSettings(
        tuple(CameraSettings(n, f"/{n}") for n in RATES_HZ),
        model=ModelSettings(str(tiny_checkpoint)),
        engine=EngineSettings("torch", "float32"),
    )
    pipeline = Pipeline.open(settings)
    prepared = pipeline.prepare({n: image_message(1, seed) for seed, n in enumerate(RATES_HZ)})
    result = pipeline.assemble(prepared, pipeline.encode(prepared), {})
    yield {g.name: g.tokens.copy() for g in result.sequence.groups}
    pipeline.close()


class Robot:
    """A rig, and what its frames show of each camera."""

    def __init__(self, rig, reference):
        self.rig, self.reference = rig, reference

    def _frames(self) -> list[set[str]]:
        return [
            self._present(f.tokens)
            for f in list(self.rig.tester.frames.values())
            if f.tokens is not None
        ]

    def next_frames(self, count: int) -> list[set[str]]:
        """The cameras in each of the next ``count`` frames or more; none shows another camera's
        picture.
        """
        self.rig.tester.frames.clear()
        return self.rig.until(
            lambda: len(frames := self._frames()) >= count and frames, what=f"{count} frames"
        )

    def frames_during(self, camera: str, images: int) -> list[set[str]]:
        """The cameras in each frame while the node receives so many images of ``camera``."""
        self.rig.tester.frames.clear()
        account = self.rig.node._sync.accounts[camera]
        wanted = account.received + images
        self.rig.until(lambda: account.received >= wanted, what=f"{images} images of {camera}")
        return self._frames()

    def _present(self, tokens) -> set[str]:
        groups, present = self.rig.tester.layout.split(tokens), set()
        for camera in RATES_HZ:
            parts = [
                (groups[f"{camera}/{kind}"], self.reference[f"{camera}/{kind}"])
                for kind in ("cls", "patch")
            ]
            if any(part.any() for part, _ in parts):
                present.add(camera)
                for part, expected in parts:
                    np.testing.assert_array_equal(part, expected)
        return present

    def whole_again(self) -> None:
        self.rig.tester.frames.clear()
        self.rig.until(
            lambda: any(len(present) == 3 for present in self._frames()),
            what="a frame of all cameras",
        )

    def silent(self, camera: str) -> None:
        """Wait until the node says so, and has done with the last images of ``camera``."""
        self.rig.tester.diagnostics = None
        self.rig.until(
            lambda: any(
                s.name.endswith(f"camera {camera}") and s.level == b"\x02"
                for s in getattr(self.rig.tester.diagnostics, "status", ())
            ),
            what="ERROR",
        )
        self.frames_during("overhead", MAX_PENDING + 1)


def test_a_killed_camera_stops_or_masks_the_output_and_comes_back_by_itself(rig, start, reference):
    # Longer than a busy machine keeps a camera's process from sending.
    one = rig(
        camera_names=list(RATES_HZ),
        sync__slop_s=0.05,
        sync__silent_after_s=2.0,
        **{f"cameras.{n}.topic": f"/{n}/image" for n in RATES_HZ},
    )
    one.activate()
    robot = Robot(one, reference)
    left = {name: start(name) for name in RATES_HZ}["left"]
    robot.whole_again()
    assert all(len(f) == 3 for f in robot.next_frames(10))
    books = one.node._sync.accounts
    assert (
        books["overhead"].published <= books["right"].received
    )  # one of the slowest camera's in each

    left.kill()
    robot.silent("left")
    assert robot.frames_during("overhead", 20) == []  # wait
    assert one.node.set_parameters([Parameter("sync.policy", value="mask")])[0].successful
    assert all(f == {"overhead", "right"} for f in robot.next_frames(5))

    left = start("left")
    robot.whole_again()
    assert all(len(f) == 3 for f in robot.next_frames(5))
    left.kill()
    robot.silent("left")
    assert all(f == {"overhead", "right"} for f in robot.next_frames(5))
    assert one.node.set_parameters([Parameter("sync.policy", value="wait")])[0].successful
    start("left")
    robot.whole_again()
    one.tester.diagnostics = None
    for camera in RATES_HZ:
        books = one.accounts(camera)
        assert books["published"] and not set(books) - {
            "received",
            "published",
            "pending",
            "dropped.superseded",
            "dropped.unmatched",
        }
    figures = one.diagnostic("camera overhead")
    assert float(figures["rate_hz"]) > 0 and float(figures["age_s"]) >= 0
    p50_ms = {
        stage: float(figures[f"latency_ms.{stage}"].split(" / ")[0])
        for stage in ("receive", "decode", "preprocess", "queue", "age")
    }
    assert min(p50_ms.values()) >= 0 and max(p50_ms["queue"], p50_ms["receive"]) <= p50_ms["age"]
    assert {"latency_ms.infer", "latency_ms.publish"} <= set(one.diagnostic(": latency"))
    assert float(one.diagnostic(": process")["rss_mb"]) > 50
