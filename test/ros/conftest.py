"""A real node in this process, talking over real DDS to a tester node."""

import threading
import time

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image

from test.ros.sensor_messages import MILLISECOND_NS, image_message, stamped_pose
from vit_perception.ros.diagnostics import parse_accounts
from vit_perception.ros.encoder_node import EncoderNode
from vit_perception.ros.output_watcher import OutputWatcher


@pytest.fixture(scope="session", autouse=True)
def rclpy_running():
    rclpy.init()
    yield
    rclpy.try_shutdown()


class Rig:
    """The encoder node on a thread of its own, and a tester that publishes to it and watches its outputs."""

    def __init__(self, parameters: dict):
        self.node = EncoderNode(parameter_overrides=[Parameter(k, value=v) for k, v in parameters.items()])
        self.tester = OutputWatcher("/vit_encoder", views=False)
        self._publishers: dict[str, object] = {}
        self._testers = SingleThreadedExecutor()
        self._testers.add_node(self.tester)
        self._nodes = SingleThreadedExecutor()
        self._nodes.add_node(self.node)
        self._thread = threading.Thread(target=self._nodes.spin, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._nodes.shutdown()
        self._thread.join(5)
        self.node.close()
        self.node.destroy_node()
        self.tester.destroy_node()

    def until(self, done, timeout_s: float = 20.0, what: str = "it"):
        """Spin the tester until ``done()`` gives something true, and give that back."""
        deadline_s = time.monotonic() + timeout_s
        while not (result := done()):
            assert time.monotonic() < deadline_s, f"{what} did not happen within {timeout_s:g} s"
            self._testers.spin_once(timeout_sec=0.05)
        return result

    def activate(self) -> None:
        """Configure and activate, and wait until the node's subscriptions are matched."""
        assert self.node.trigger_configure().name == "SUCCESS"
        assert self.node.trigger_activate().name == "SUCCESS"
        self.until(lambda: self.tester.layout, what="the layout")

    def publish(self, topic: str, message) -> None:
        """Send ``message``, waiting for the subscription first."""
        if topic not in self._publishers:
            self._publishers[topic] = self.tester.create_publisher(type(message), topic, 100)
        publisher = self._publishers[topic]
        self.until(publisher.get_subscription_count, what=f"a subscription of {topic}")
        publisher.publish(message)

    def frame(self, stamp_ns: int):
        """The frame published with that stamp."""
        return self.until(lambda: (f := self.tester.frames.get(stamp_ns)) and f.received_ns and f,
                          what=f"frame {stamp_ns}")

    def accounts(self, camera: str, **expected: int):
        """The books of ``camera`` as /diagnostics has them, once they hold what is expected."""
        def found():
            message: DiagnosticArray | None = self.tester.diagnostics
            books = parse_accounts(message).get(camera) if message else None
            return books if books and all(books[k.replace("__", ".")] == n for k, n in expected.items()) else None

        books = self.until(found, timeout_s=8, what=f"accounts {expected}")
        dropped = sum(n for key, n in books.items() if key.startswith("dropped."))
        assert books["received"] == books["published"] + dropped + books["pending"]
        return books

    def diagnostic(self, name: str) -> dict[str, str]:
        """The values of the status called ``name``, from the newest /diagnostics."""
        return next({v.key: v.value for v in s.values} for s in self.tester.diagnostics.status if s.name.endswith(name))


@pytest.fixture
def rig(tiny_checkpoint):
    """``rig(**parameters)`` makes a node with the tiny checkpoint on torch; dots in names are double underscores."""
    made = []

    def make(**parameters):
        defaults = {"camera_names": ["wrist"], "cameras.wrist.topic": "/wrist/image",
                    "model.checkpoint": str(tiny_checkpoint), "engine.backend": "torch", "engine.precision": "float32"}
        given = {name.replace("__", "."): value for name, value in parameters.items()}
        made.append(Rig(defaults | given))
        return made[-1]

    yield make
    for each in made:
        each.close()


__all__ = ["CompressedImage", "Image", "MILLISECOND_NS", "Rig", "image_message", "stamped_pose"]
