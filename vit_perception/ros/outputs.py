"""The node's output topics: one publisher each, and one frame's results as messages."""

from collections.abc import Callable
from functools import partial

import numpy as np
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header, String
from vision_msgs.msg import Classification, VisionInfo

from vit_perception.pipeline.feature_views import PcaView, attention_view
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.ros.messages import (
    classification_message,
    dense_message,
    header_of,
    mask_message,
    pose_message,
    state_message,
    tensor_message,
    view_message,
    vision_info_message,
)
from vit_perception.ros.qos import LATCHED_QOS, tensor_qos
from vit_perception.ros.views import ViewThread
from vit_perception.wire.layout import Layout
from vit_perception.wire.records import CameraResult, FrameResult, RgbImage

__all__ = ["LATCHED_QOS", "Outputs", "send"]


def send(publisher: Publisher, make: Callable[[], object]) -> None:
    """Publish what ``make`` gives while somebody subscribes.

    The topics are volatile, so nobody could hear it otherwise, and a tensor costs 0.3 ms, a view
    several.
    """
    if publisher.get_subscription_count():
        publisher.publish(make())


class Outputs:
    """Publishers of everything below the node's name, for one configured pipeline.

    ``failed`` is given a camera's name and the traceback where one of its views could not be made.
    """

    def __init__(self, node: Node, pipeline: Pipeline, failed: Callable[[str, str], None]):
        self._node = node
        self._pipeline = pipeline
        self._all: list[Publisher] = []
        self._views = ViewThread(
            lambda text: failed(", ".join(self._pca), f"a view could not be made: {text}")
        )
        try:
            self._create(pipeline)
        except BaseException:
            self.destroy()
            raise
        self._sources: dict[str, RgbImage] = {}
        self._pca = {camera.name: PcaView() for camera in pipeline.settings.cameras}
        self.layout = self._publish_layout()

    def _create(self, pipeline: Pipeline) -> None:
        self._tokens = self._publisher(Image, "~/tokens")
        self._token_mask = self._publisher(Image, "~/token_mask")
        self._embedding = self._publisher(Image, "~/embedding")
        self._cameras = {}
        for camera in pipeline.settings.cameras:
            topics = {
                "patch_features": Image,
                "cls_token": Image,
                "feature_view": Image,
                "attention_view": Image,
            }
            if pipeline.labels_of(camera.name):
                topics["classification"] = Classification
            if pipeline.dense:
                topics[pipeline.dense.spec.kind] = Image
            self._cameras[camera.name] = {
                topic: self._publisher(kind, f"~/{camera.name}/{topic}")
                for topic, kind in topics.items()
            }
        self._poses = {
            arm.name: self._publisher(PoseStamped, f"~/{arm.name}/pose_at_image")
            for arm in pipeline.settings.poses
        }
        self._states = {
            state.name: self._publisher(JointState, f"~/{state.name}/state_at_image")
            for state in pipeline.settings.states
        }
        if pipeline.dense and pipeline.dense.spec.kind == "segmentation":
            for name in self._cameras:
                self._publish_info(name)
        # Plain and latched, so that configure can say what was loaded and late subscribers still
        # hear it.
        self._layout = self._node.create_publisher(String, "~/layout", LATCHED_QOS)
        self._all.append(self._layout)

    def _publish_info(self, camera: str) -> None:
        info = self._node.create_publisher(VisionInfo, f"~/{camera}/segmentation_info", LATCHED_QOS)
        self._all.append(info)
        labels_at = f"{self._node.resolve_topic_name('~/layout')}#dense.labels"
        info.publish(vision_info_message(header_of(0, ""), self._pipeline.card.name, labels_at))

    def _publisher(self, kind, topic):
        override = QoSOverridingOptions.with_default_policies()
        self._all.append(
            self._node.create_publisher(kind, topic, tensor_qos(), qos_overriding_options=override)
        )
        return self._all[-1]

    @property
    def _dtype(self) -> str:
        return self._pipeline.settings.output.dtype

    def refresh(self, pipeline: Pipeline) -> None:
        """Go on with ``pipeline``, whose settings or engine may be others; the layout goes out
        where it differs.
        """
        self._pipeline = pipeline
        if pipeline.layout(self._sources) != self.layout:
            self.layout = self._publish_layout()

    def pause(self) -> None:
        """Make no more views until the next frame: the worker has stopped."""
        self._views.stop()

    def destroy(self) -> None:
        """Take the topics down."""
        self._views.stop()
        for publisher in self._all:
            self._node.destroy_publisher(publisher)
        self._all = []

    @staticmethod
    def _key(image: RgbImage) -> tuple:
        """What the layout says of a camera's images."""
        return image.size, image.frame_id

    def _publish_layout(self) -> Layout:
        layout = self._pipeline.layout(self._sources)
        self._layout.publish(String(data=layout.to_json()))
        return layout

    def publish(self, result: FrameResult) -> None:
        """Send one frame. Subscribers match topics by stamp: DDS keeps no order between topics."""
        changed = {
            name: c.image
            for name, c in result.cameras.items()
            if name not in self._sources or self._key(self._sources[name]) != self._key(c.image)
        }
        if changed:
            # Only size and frame matter: an image kept here would keep its message's memory.
            self._sources |= {
                n: RgbImage(np.empty((*i.size, 0), np.uint8), i.stamp_ns, i.frame_id)
                for n, i in changed.items()
            }
            self.layout = self._publish_layout()
        for name, camera in result.cameras.items():
            self._publish_camera(name, camera)
        for arm, found in result.poses.items():
            if found.pose is not None:
                send(self._poses[arm], lambda pose=found.pose: pose_message(pose))
        fields = {state.name: state for state in self._pipeline.settings.states}
        for name, found in result.states.items():
            if found.state is not None:
                send(
                    self._states[name],
                    lambda n=name, state=found.state: state_message(state, fields[n]),
                )
        header = header_of(result.stamp_ns, result.frame_id)
        send(self._embedding, lambda: tensor_message(header, result.embedding[None], self._dtype))
        send(self._token_mask, lambda: mask_message(header, result.sequence.mask))
        send(self._tokens, lambda: tensor_message(header, result.sequence.tokens, self._dtype))
        if self._pipeline.settings.output.views:
            views = [
                v for name, camera in result.cameras.items() for v in self._views_of(name, camera)
            ]
            # After everything that a policy waits for: the first views take up to a second.
            if views:
                self._views.show(views)
        if self._pipeline.dense is not None:
            # Last: it can take a second, which no policy that wants the tokens should wait for.
            for name, camera in result.cameras.items():
                self._publish_dense(name, camera)

    def _publish_dense(self, name: str, camera: CameraResult) -> None:
        header = header_of(camera.image.stamp_ns, camera.image.frame_id)
        send(
            self._cameras[name][self._pipeline.dense.spec.kind],
            lambda: dense_message(header, self._pipeline.dense_values(camera)),
        )

    def _publish_camera(self, name: str, camera: CameraResult) -> None:
        topics = self._cameras[name]
        header = header_of(camera.image.stamp_ns, camera.image.frame_id)
        send(
            topics["cls_token"], lambda: tensor_message(header, camera.cls_token[None], self._dtype)
        )
        send(
            topics["patch_features"],
            lambda: tensor_message(header, camera.patch_tokens, self._dtype),
        )
        if "classification" in topics:
            send(topics["classification"], lambda: classification_message(header, camera.classes))

    def _views_of(
        self, name: str, camera: CameraResult
    ) -> list[tuple[Publisher, Callable[[], Image]]]:
        """The views of ``camera`` that somebody looks at. What the engine writes over in its next
        run is copied.
        """
        topics, views = self._cameras[name], []
        header = header_of(camera.image.stamp_ns, camera.image.frame_id)
        if topics["feature_view"].get_subscription_count():
            views.append(
                (
                    topics["feature_view"],
                    partial(
                        self._feature_view, header, name, camera.patch_tokens.copy(), camera.grid
                    ),
                )
            )
        if topics["attention_view"].get_subscription_count():
            views.append(
                (
                    topics["attention_view"],
                    partial(
                        self._attention_view,
                        header,
                        camera.image,
                        camera.cls_attention.copy(),
                        camera.grid,
                    ),
                )
            )
        return views

    def _feature_view(
        self, header: Header, name: str, patch_tokens: np.ndarray, grid: tuple[int, int]
    ) -> Image:
        return view_message(
            header, self._pca[name](patch_tokens, grid, self._pipeline.card.rule.network_size_px)
        )

    def _attention_view(
        self, header: Header, image: RgbImage, cls_attention: np.ndarray, grid: tuple[int, int]
    ) -> Image:
        return view_message(
            header, attention_view(cls_attention, grid, self._pipeline.network_view(image))
        )
