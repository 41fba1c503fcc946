"""A real node in this process, talking over real DDS to a tester node."""

import threading

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image

from test.ros.sensor_messages import MILLISECOND_NS, image_message, stamped_pose
from test.waiting import HANG_S, wait_until
from vit_perception.ros.diagnostics import parse_accounts
from vit_perception.ros.encoder_node import EncoderNode
from vit_perception.ros.playback.output_watcher import OutputWatcher


@pytest.fixture(scope="session", autouse=True)
def rclpy_running():
    rclpy.init()
    yield
    rclpy.try_shutdown()


class Rig:
    """The encoder node on a thread of its own, and a tester that publishes to it and watches its
    outputs.
    """

    def __init__(self, parameters: dict):
        self.node = EncoderNode(
            parameter_overrides=[Parameter(k, value=v) for k, v in parameters.items()]
        )
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
        self._thread.join(HANG_S)
        self.node.close()
        self.node.destroy_node()
        self.tester.destroy_node()

    def until(self, done, what: str = "it"):
        """Spin the tester until ``done()`` gives something true, and give that back."""
        return wait_until(done, what, step=lambda: self._testers.spin_once(timeout_sec=0.05))

    def activate(self) -> None:
        """Configure and activate, and wait until the node's outputs are matched with the tester's
        subscriptions.
        """
        assert self.node.trigger_configure().name == "SUCCESS"
        assert self.node.trigger_activate().name == "SUCCESS"
        self.until(lambda: self.tester.layout, what="the layout")
        self.matched()

    def matched(self) -> None:
        """Wait until whatever the tester subscribes to and the node publishes has found each other,
        on both sides.

        A volatile topic gives nothing to a subscription that is matched later, and how long that
        takes nobody knows.
        """
        pairs = [
            (p, s)
            for s in self.tester.subscriptions
            for p in self.node.publishers
            if p.topic_name == s.topic_name
        ]
        self.until(
            lambda: all(p.get_subscription_count() and s.get_publisher_count() for p, s in pairs),
            what=f"the matching of {sorted(p.topic_name for p, _ in pairs)}",
        )

    def publish(self, topic: str, message) -> None:
        """Send ``message``, waiting for the subscription first."""
        if topic not in self._publishers:
            self._publishers[topic] = self.tester.create_publisher(type(message), topic, 100)
        publisher = self._publishers[topic]
        self.until(
            lambda: (
                publisher.get_subscription_count()
                and all(
                    s.get_publisher_count()
                    for s in self.node.subscriptions
                    if s.topic_name == topic
                )
            ),
            what=f"a subscription of {topic}",
        )
        publisher.publish(message)

    def feel(self, topic: str, message, source: str = "arm") -> None:
        """Send a pose or joint state of ``source``, and wait until the node has it: before an
        image, for example.
        """
        account = self.node._samples.accounts[source]
        before = account.received
        self.publish(topic, message)
        self.until(lambda: account.received > before, what=f"a message of {source}")

    def frame(self, stamp_ns: int):
        """The frame published with that stamp."""
        return self.until(
            lambda: (f := self.tester.frames.get(stamp_ns)) and f.received_ns and f,
            what=f"frame {stamp_ns}",
        )

    def accounts(self, camera: str, **expected: int):
        """The books of ``camera`` as /diagnostics has them, once they hold what is expected."""

        def found():
            message: DiagnosticArray | None = self.tester.diagnostics
            books = parse_accounts(message).get(camera) if message else None
            return (
                books
                if books and all(books[k.replace("__", ".")] == n for k, n in expected.items())
                else None
            )

        books = self.until(found, what=f"accounts {expected}")
        dropped = sum(n for key, n in books.items() if key.startswith("dropped."))
        assert books["received"] == books["published"] + dropped + books["pending"]
        return books

    def diagnostic(self, name: str) -> dict[str, str]:
        """The values of the status called ``name``, from the newest /diagnostics."""
        return next(
            {v.key: v.value for v in s.values}
            for s in self.tester.diagnostics.status
            if s.name.endswith(name)
        )


@pytest.fixture
def rig(tiny_checkpoint):
    """``rig(**parameters)`` makes a node with the tiny checkpoint on torch; dots in names are
    double underscores.
    """
    made = []

    def make(**parameters):
        defaults = {
            "camera_names": ["wrist"],
            "cameras.wrist.topic": "/wrist/image",
            "model.checkpoint": str(tiny_checkpoint),
            "engine.backend": "torch",
            "engine.precision": "float32",
        }
        given = {name.replace("__", "."): value for name, value in parameters.items()}
        made.append(Rig(defaults | given))
        return made[-1]

    yield make
    for each in made:
        each.close()


__all__ = ["MILLISECOND_NS", "CompressedImage", "Image", "Rig", "image_message", "stamped_pose"]
