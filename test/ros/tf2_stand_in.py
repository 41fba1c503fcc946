"""What the node uses of tf2_ros, for chains without rotation: where tf2_ros is not installed, tests
of the node's own logic run on this. Names, arguments and errors are those of tf2_ros 0.36 to 0.41;
it proves nothing about tf2.
"""

from types import ModuleType, SimpleNamespace

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.time import Time


class TransformException(Exception):
    """The base of tf2's errors."""


class Buffer:
    """Samples by child frame; a static one has the stamp None."""

    def __init__(self):
        self._links: dict[str, tuple[str, dict]] = {}

    def set_transform(self, transform, authority):
        stamp = Time.from_msg(transform.header.stamp).nanoseconds
        self._put(transform, stamp)

    def set_transform_static(self, transform, authority):
        self._put(transform, None)

    def _put(self, transform, stamp):
        moved = transform.transform.translation
        samples = self._links.setdefault(transform.child_frame_id, (transform.header.frame_id, {}))[
            1
        ]
        newest = max((s for s in samples if s is not None), default=0)
        if stamp is None or stamp >= newest - 10 * 10**9:  # older than the cache is ignored
            samples[stamp] = np.array([moved.x, moved.y, moved.z])

    def clear(self):
        self._links = {child: link for child, link in self._links.items() if None in link[1]}

    def _chain(self, target, source):
        links = []
        while source != target:
            if source not in self._links:
                raise TransformException(
                    f'"{source}" passed to lookupTransform argument does not exist'
                )
            source, samples = self._links[source]
            links.append(samples)
        return links

    def get_latest_common_time(self, target, source):
        newest = [max(samples) for samples in self._chain(target, source) if None not in samples]
        return Time(nanoseconds=min(newest, default=0))

    def lookup_transform(self, target, source, time):
        total = np.zeros(3)
        for samples in self._chain(target, source):
            stamps = sorted(s for s in samples if s is not None)
            total += (
                samples[None]
                if None in samples
                else [
                    np.interp(time.nanoseconds, stamps, [samples[s][k] for s in stamps])
                    for k in range(3)
                ]
            )
        found = TransformStamped(child_frame_id=source)
        found.header.frame_id, found.header.stamp = target, time.to_msg()
        moved = found.transform.translation
        moved.x, moved.y, moved.z = map(float, total)
        return found


class TransformListener:
    """Hands what it is given to the buffer; nothing comes over DDS."""

    def __init__(self, buffer, node):
        self.buffer = buffer
        self.tf_sub, self.tf_static_sub = (
            SimpleNamespace(topic_name=t) for t in ("/tf", "/tf_static")
        )

    def callback(self, data):
        for transform in data.transforms:
            self.buffer.set_transform(transform, "default_authority")

    def static_callback(self, data):
        for transform in data.transforms:
            self.buffer.set_transform_static(transform, "default_authority")

    def unregister(self):
        pass


def module() -> ModuleType:
    """A module with these names."""
    made = ModuleType("tf2_ros")
    made.Buffer, made.TransformListener, made.TransformException = (
        Buffer,
        TransformListener,
        TransformException,
    )
    return made
