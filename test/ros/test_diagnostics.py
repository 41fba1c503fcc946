"""What `/diagnostics` says of the engine, and that its numbers can be plotted."""

import math
import re

from test.pipeline import test_encoders
from test.pipeline.test_pipeline import open_pipeline
from test.ros.conftest import image_message, stamped_pose
from vit_perception.ros import diagnostics


def test_the_status_of_the_engine_says_what_falls_short(tiny_checkpoint):
    """Regression: an engine that ran without its CUDA graph said so in the log alone."""
    pipeline = open_pipeline(tiny_checkpoint)
    try:
        values = {
            v.key: v.value for v in diagnostics.engine_status("node", pipeline, "runs").values
        }
        assert values["runtime"].startswith("torch ") and "note" not in values
        pipeline.engine.note = "runs without a CUDA graph (the runtime says so)"
        values = {
            v.key: v.value for v in diagnostics.engine_status("node", pipeline, "runs").values
        }
        assert values["note"] == pipeline.engine.note
    finally:
        pipeline.close()


def test_the_status_says_what_runs_of_every_encoder(tiny_checkpoint, tiny_second):
    with test_encoders.open_closed(tiny_checkpoint, tiny_second) as pipeline:
        pipeline.every_opened[1].engine.note = "slower than usual"
        values = {
            v.key: v.value for v in diagnostics.engine_status("node", pipeline, "runs").values
        }
    assert values["model"] == tiny_checkpoint.name and values["tiny_vit.model"] == "tiny vit"
    assert values["tiny_vit.runtime"] == values["runtime"] and "note" not in values
    assert values["tiny_vit.note"] == "slower than usual"
    assert float(values["tiny_vit.min_cosine"]) > 0.9999


# Values that are texts, or two numbers for people; each number of PAIRS has its own key, too.
TEXTS = re.compile(
    r"(runtime|precision|device|model|weights_sha256|parity|note|situation|topic|not_taken\..+)"
)
PAIRS = re.compile(r"(latency_ms\.\w+|skew_ms)")
NUMBERS = re.compile(r"-?\d+(\.\d+)?")


def test_every_number_stands_alone_so_that_plotjuggler_draws_it(rig):
    """PlotJuggler reads the number that a value begins with, and nothing behind it: of "4 / 9" it
    draws 4.
    """
    robot = rig(
        pose_names=["arm"],
        poses__arm__topic="/ee_pose",
        poses__arm__frame_id="base_link",
        poses__arm__wait_s=0.0,
    )
    robot.activate()
    stamp_ns = robot.node.get_clock().now().nanoseconds
    robot.feel("/ee_pose", stamped_pose(stamp_ns))
    robot.publish("/wrist/image", image_message(stamp_ns))
    robot.frame(stamp_ns)
    robot.accounts("wrist", published=1)
    found = {}
    for entry in robot.tester.diagnostics.status:
        values = {value.key: value.value for value in entry.values}
        for key, value in values.items():
            if not TEXTS.fullmatch(key):
                found[key] = value
        for pair in filter(PAIRS.fullmatch, values):
            what, _, stage = pair.partition("_ms")
            first, second = values[pair].split(" / ")
            other = "p99" if what == "latency" else "max"
            assert values[f"{what}_p50_ms{stage}"] == first
            assert values[f"{what}_{other}_ms{stage}"] == second
    plotted = {key: value for key, value in found.items() if not PAIRS.fullmatch(key)}
    assert {"latency_p99_ms.age", "skew_max_ms", "rate_hz", "rss_mb", "min_cosine"} <= set(plotted)
    assert [key for key, value in plotted.items() if not NUMBERS.fullmatch(value)] == []
    assert all(math.isfinite(float(value)) for value in plotted.values())
