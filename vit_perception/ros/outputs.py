"""The node's output topics: one publisher each, and one frame's results as messages."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import numpy as np
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos_overriding_options import QoSOverridingOptions

from vit_perception.pipeline.feature_views import PcaView, attention_view
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.ros.events.callbacks import PublisherEventCallbacks
from vit_perception.ros.events.qos_events import QosEvents
from vit_perception.ros.messages import class_of, message_of
from vit_perception.ros.qos import LATCHED_QOS, tensor_qos
from vit_perception.ros.views import ViewThread
from vit_perception.wire import topics
from vit_perception.wire.records import CameraResult, FrameResult, RgbImage
from vit_perception.wire.tensors import encode_view
from vit_perception.wire.topics import Fields, Outgoing, SentTopic

__all__ = ["LATCHED_QOS", "Outputs"]

FEATURE_VIEW, ATTENTION_VIEW = topics.VIEWS
RCLError: type[Exception] = rclpy_implementation.RCLError
REFUSED_WARN_S = 5.0


class Outputs:
    """Publishers of everything below the node's name, for one configured pipeline.

    ``failed`` is given the cameras' names and the traceback where a view could not be made;
    ``events`` counts subscribers whose QoS does not match.
    """

    def __init__(
        self,
        node: Node,
        pipeline: Pipeline,
        failed: Callable[[Collection[str], str], None],
        events: QosEvents,
    ):
        self._node = node
        self._pipeline = pipeline
        self._events = events
        self._views = ViewThread(
            lambda text: failed(self._pca, f"a view could not be made: {text}")
        )
        self._images: dict[str, RgbImage] = {}  # of each camera, one of its size and frame
        self._pca = {camera.name: PcaView() for camera in pipeline.settings.cameras}
        self.layout = pipeline.layout()
        self._publishers: dict[SentTopic, Publisher] = {}
        self._refused = 0  # messages that DDS did not take
        try:
            for topic in topics.topics_of(self.layout, pipeline.parts.monitored):
                self._publishers[topic] = self._publisher(topic)
        except BaseException:
            self.destroy()
            raise
        self._send_latched("configure")
        self._send_latched("layout")

    def _publisher(self, topic: SentTopic) -> Publisher:
        kind, name = class_of(topic.row.type), f"~/{topic.name}"
        if topic.row.latched:
            # Plain and latched, so that configure can say what was loaded and late subscribers
            # still hear it.
            return self._node.create_publisher(
                kind, name, LATCHED_QOS, event_callbacks=self._callbacks(topic)
            )
        override = QoSOverridingOptions.with_default_policies()
        return self._node.create_publisher(
            kind,
            name,
            tensor_qos(),
            event_callbacks=self._callbacks(topic),
            qos_overriding_options=override,
        )

    def _callbacks(self, topic: SentTopic) -> PublisherEventCallbacks:
        name = self._node.resolve_topic_name(f"~/{topic.name}")
        return self._events.of_output(name, topic.row.type)

    def _send_latched(self, when: topics.When) -> None:
        layout_topic = self._node.resolve_topic_name("~/layout")
        for topic, publisher in self._publishers.items():
            if topic.row.when == when:
                fields = topics.latched_fields(
                    topic.row, self.layout, layout_topic, self._pipeline.parts.basis
                )
                publisher.publish(message_of(topic.row.type, fields))

    def refresh(self, pipeline: Pipeline) -> None:
        """Continue with ``pipeline``, whose settings or engine may be others; the layout goes out
        where it differs.
        """
        self._pipeline = pipeline
        layout = pipeline.layout(self._images)
        if layout != self.layout:
            self.layout = layout
            self._send_latched("layout")

    def pause(self) -> None:
        """Make no more views until the next frame: the worker has stopped."""
        self._views.stop()

    def destroy(self) -> None:
        """Take the topics down."""
        self._views.stop()
        for publisher in self._publishers.values():
            self._node.destroy_publisher(publisher)
        self._publishers = {}
        self._events.forget_outputs()

    def publish(self, result: FrameResult) -> None:
        """Send one frame. Topics can arrive in any order; subscribers match them by stamp."""
        self._update_layout(result)
        dense = self._pipeline.dense_values if self._pipeline.dense is not None else None
        outgoing = Outgoing(result, self.layout, dense, self._pipeline.parts.basis)
        self._send(outgoing, "frame")
        if self._pipeline.settings.output.views:
            views = [
                view for name, camera in result.cameras.items() for view in self._made(name, camera)
            ]
            # After everything that a policy waits for: the first views take up to a second.
            if views:
                self._views.show(views)
        # Last: it can take a second, which no policy that wants the tokens should wait for.
        self._send(outgoing, "dense")

    def _send(self, outgoing: Outgoing, when: topics.When) -> None:
        for topic, publisher in self._publishers.items():
            # Volatile, so nobody could hear it otherwise; a tensor costs 0.3 ms, a view several.
            if topic.row.when == when and topic.row.encode and publisher.get_subscription_count():
                fields = topic.row.encode(outgoing, topic.source)
                if fields is not None:
                    self._publish(publisher, message_of(topic.row.type, fields))

    def _publish(self, publisher: Publisher, message: Any) -> None:
        """Send ``message``. DDS refuses one of a reliable topic if the link to a subscriber does
        not take it within 0.1 s: that message is lost, and the node goes on.
        """
        try:
            publisher.publish(message)
        except RCLError as error:
            if not self._node.context.ok():
                raise
            self._refused += 1
            self._node.get_logger().warning(
                f"{publisher.topic_name}: a message was not sent, as DDS did not take it "
                f"({self._refused} messages of all topics so far): {error}; accepted: a "
                "best-effort subscription, or smaller tokens (docs/thin_link.md)",
                throttle_duration_sec=REFUSED_WARN_S,
            )

    def _update_layout(self, result: FrameResult) -> None:
        """Send the layout where a camera's size or frame is new."""
        changed = {}
        for name, camera in result.cameras.items():
            image, known = camera.image, self._images.get(name)
            if known is None or (known.size, known.frame_id) != (image.size, image.frame_id):
                # Only size and frame matter: an image kept here would keep its message's memory.
                pixels = np.empty((*image.size, 0), np.uint8)
                changed[name] = RgbImage(pixels, image.stamp_ns, image.frame_id)
        if changed:
            self._images |= changed
            self.layout = self._pipeline.layout(self._images)
            self._send_latched("layout")

    def _made(self, name: str, camera: CameraResult) -> list[tuple[Publisher, Callable[[], Any]]]:
        """The views of ``camera`` that somebody looks at. What the engine writes over in its next
        run is copied.
        """
        views: list[tuple[Publisher, Callable[[], Any]]] = []
        header = topics.camera_header(camera)
        publisher = self._publishers[SentTopic(FEATURE_VIEW, name)]
        if publisher.get_subscription_count():
            patches = camera.patch_tokens.copy()
            make = partial(self._feature_view, header, name, patches, camera.grid)
            views.append((publisher, make))
        publisher = self._publishers[SentTopic(ATTENTION_VIEW, name)]
        if publisher.get_subscription_count():
            attention = camera.cls_attention.copy()
            make = partial(self._attention_view, header, camera, attention)
            views.append((publisher, make))
        return views

    def _feature_view(
        self, header: Fields, name: str, patch_tokens: np.ndarray, grid: tuple[int, int]
    ) -> Any:
        size_px = self._pipeline.card.rule.network_size_px
        picture = self._pca[name](patch_tokens, grid, size_px)
        return message_of(topics.IMAGE_TYPE, topics.image_fields(header, encode_view(picture)))

    def _attention_view(
        self, header: Fields, camera: CameraResult, cls_attention: np.ndarray
    ) -> Any:
        # Of ``camera`` itself only the image: the rest is the engine's.
        seen = self._pipeline.network_view(camera.image, camera.roi)
        picture = attention_view(cls_attention, camera.grid, seen)
        return message_of(topics.IMAGE_TYPE, topics.image_fields(header, encode_view(picture)))
