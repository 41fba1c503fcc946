"""What a benchmark hears of a node in another process: images offered, tokens that come back."""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from vit_perception.cli.processes import Child
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.wire.stamps import stamp_ns_of

HERE = Path(__file__).resolve().parent
WARM_S, SILENT_S, LEAST_FRAMES = 2.0, 120.0, 3


class Topics(NamedTuple):
    """Of one node."""

    images: str
    tokens: str


class Heard(NamedTuple):
    """One token message."""

    at_s: float  # when it came, monotonic
    age_ms: float  # since the stamp of its image


class Listener:
    """Offers images to nodes, one at a time, and notes the tokens that come. Needs rclpy running.

    The output of the camera's process goes below ``logs``.
    """

    def __init__(self, topics: list[Topics], logs: Path):
        self._logs = logs
        self._heard: dict[str, list[Heard]] = {t.tokens: [] for t in topics}
        node = Node("benchmark_listener")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        for topic in self._heard:
            node.create_subscription(
                Image, topic, lambda m, t=topic: self._hear(t, m), QoSProfile(depth=10)
            )

    def _hear(self, topic: str, message: Image) -> None:
        age_ms = (time.time_ns() - stamp_ns_of(message.header)) / 1e6
        self._heard[topic].append(Heard(time.monotonic(), age_ms))

    def offer(
        self, topics: Topics, rate_hz: float, enough: Callable[[list[Heard]], bool]
    ) -> list[Heard]:
        """Show images until ``enough`` of what was heard; returns all that was.

        Raises:
            RuntimeError: nothing came for two minutes.
        """
        heard = self._heard[topics.tokens]
        heard.clear()
        camera = Child(
            [sys.executable, str(HERE / "camera.py"), topics.images, str(rate_hz)],
            self._logs / "camera.log",
        )
        try:
            news_s, count = time.monotonic(), 0
            while not enough(heard):
                self._executor.spin_once(timeout_sec=0.1)
                if len(heard) > count:
                    news_s, count = time.monotonic(), len(heard)
                if camera.returncode is not None or time.monotonic() > news_s + SILENT_S:
                    raise RuntimeError(
                        f"nothing came on {topics.tokens} in {SILENT_S:g} s; the camera said:\n"
                        f"{camera.tail()}"
                    )
        finally:
            camera.stop()
        return list(heard)

    def steady(self, topics: Topics, rate_hz: float, seconds: float) -> list[Heard]:
        """What came in ``seconds``, after a warm-up; at least LEAST_FRAMES on a slow machine."""
        return _warm(self.offer(topics, rate_hz, lambda heard: _lasted(heard, seconds)))


def _warm(heard: list[Heard]) -> list[Heard]:
    return [h for h in heard if h.at_s >= heard[0].at_s + WARM_S]


def _lasted(heard: list[Heard], seconds: float) -> bool:
    return (
        bool(heard)
        and heard[-1].at_s >= heard[0].at_s + seconds
        and len(_warm(heard)) >= LEAST_FRAMES
    )


def rate_of(heard: list[Heard]) -> float:
    """Messages a second."""
    return (len(heard) - 1) / (heard[-1].at_s - heard[0].at_s)


def median_age_ms(heard: list[Heard]) -> float:
    """Median age of the images whose tokens came."""
    return statistics.median(h.age_ms for h in heard)


def p99_age_ms(heard: list[Heard]) -> float:
    """The age that one in a hundred exceeds."""
    return float(np.percentile([h.age_ms for h in heard], 99))


def engine_ms(pipeline: Pipeline, runs: int = 40) -> float:
    """Median time of the engine alone on a ready batch, run after run."""
    size_px = pipeline.card.rule.network_size_px
    batch = np.random.default_rng(0).integers(0, 256, (1, 3, *size_px), np.uint8)
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        pipeline.engine.infer(batch)
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)
