"""A policy's side and a robot's side that share no code with the package, nor with ROS:
CycloneDDS's Python binding.

    python test/interop/cyclone_client.py DOMAIN FRAMES OUT.npz

Sends FRAMES images and poses to the node as a robot would, waits for the layout and for tokens,
mask and embedding of each, and writes down what it read: nothing of vit_perception or of rclpy is
imported here.
"""

import json
import os
import sys
import time
from dataclasses import dataclass

import numpy as np

# One machine, no multicast: as ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST has it.
os.environ[
    "CYCLONEDDS_URI"
] = """<CycloneDDS><Domain><General><AllowMulticast>false</AllowMulticast>
<Interfaces><NetworkInterface address="127.0.0.1"/></Interfaces></General>
<Discovery><ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>40</MaxAutoParticipantIndex>
<Peers><Peer Address="127.0.0.1"/></Peers></Discovery></Domain></CycloneDDS>"""

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import DomainParticipant
from cyclonedds.idl import IdlStruct, annotations, types
from cyclonedds.pub import DataWriter
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration


@dataclass
@annotations.final
class Time(IdlStruct, typename="builtin_interfaces::msg::dds_::Time_"):
    sec: types.int32
    nanosec: types.uint32


@dataclass
@annotations.final
class Header(IdlStruct, typename="std_msgs::msg::dds_::Header_"):
    stamp: Time
    frame_id: str


@dataclass
@annotations.final
class Image(IdlStruct, typename="sensor_msgs::msg::dds_::Image_"):
    header: Header
    height: types.uint32
    width: types.uint32
    encoding: str
    is_bigendian: types.uint8
    step: types.uint32
    data: types.sequence[types.uint8]


@dataclass
@annotations.final
class Text(IdlStruct, typename="std_msgs::msg::dds_::String_"):
    data: str


@dataclass
@annotations.final
class Point(IdlStruct, typename="geometry_msgs::msg::dds_::Point_"):
    x: types.float64
    y: types.float64
    z: types.float64


@dataclass
@annotations.final
class Quaternion(IdlStruct, typename="geometry_msgs::msg::dds_::Quaternion_"):
    x: types.float64
    y: types.float64
    z: types.float64
    w: types.float64


@dataclass
@annotations.final
class Pose(IdlStruct, typename="geometry_msgs::msg::dds_::Pose_"):
    position: Point
    orientation: Quaternion


@dataclass
@annotations.final
class PoseStamped(IdlStruct, typename="geometry_msgs::msg::dds_::PoseStamped_"):
    header: Header
    pose: Pose


XCDR1 = Policy.DataRepresentation(use_cdrv0_representation=True, use_xcdrv2_representation=False)
RELIABLE = Policy.Reliability.Reliable(duration(seconds=1))
OUTPUTS = ("tokens", "token_mask", "embedding", "wrist/cls_token")
FIRST_SEC, HEIGHT_PX, WIDTH_PX = 100, 48, 64


def picture(index: int) -> np.ndarray:
    """(48, 64, 3) uint8, R G B."""
    return np.random.default_rng(index).integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), np.uint8)


def value_of(
    message: Image, layout: dict | None = None, basis: np.ndarray | None = None
) -> np.ndarray:
    """docs/wire_format.md, in a few lines."""
    if message.encoding == "8UC1" and message.height == 1 and message.step == message.width:
        return restored(bytes(message.data), layout, basis)
    if message.encoding == "8UC1":
        rows = np.frombuffer(bytes(message.data), np.uint8).reshape(message.height, message.step)
        steps = rows[:, : message.width].astype(np.float32) - 128
        return steps * np.ascontiguousarray(rows[:, message.width :]).view("<f4")
    dtype = {"32FC1": "<f4", "16FC1": "<f2", "mono8": "u1"}[message.encoding]
    return np.frombuffer(bytes(message.data), dtype).reshape(message.height, message.width)


def restored(data: bytes, layout: dict, basis: np.ndarray) -> np.ndarray:
    """The same for a layout with a basis: (K + 1, D), the mean and the directions."""
    mean, directions = basis[0], basis[1:]
    dims, parts, at = len(directions), [], 0
    for group in layout["groups"]:
        count = group["stop"] - group["start"]
        reduced = group["kind"] == "patch"
        size = count * (dims + 4 if reduced else 4 * len(mean))
        bytes_of = np.frombuffer(data[at : at + size], np.uint8).reshape(count, -1)
        at += size
        if not reduced:
            parts.append(bytes_of.view("<f4"))
            continue
        scales = np.ascontiguousarray(bytes_of[:, dims:]).view("<f4")
        coefficients = (bytes_of[:, :dims].astype(np.float32) - 128) * scales
        is_there = coefficients.any(axis=1, keepdims=True)
        parts.append((coefficients @ directions + mean) * is_there)
    assert at == len(data), (at, len(data))
    return np.concatenate(parts)


def wait_for(done, what: str, timeout_s: float = 120.0):
    deadline_s = time.monotonic() + timeout_s
    while not (result := done()):
        if time.monotonic() > deadline_s:
            sys.exit(f"no {what} within {timeout_s:g} s")
        time.sleep(0.01)
    return result


def main(domain: int, frames: int, out: str) -> None:
    participant = DomainParticipant(domain)
    latched = Qos(RELIABLE, XCDR1, Policy.Durability.TransientLocal, Policy.History.KeepLast(1))
    layouts = DataReader(
        participant, Topic(participant, "rt/vit_encoder/layout", Text), qos=latched
    )
    qos = Qos(RELIABLE, XCDR1, Policy.Durability.Volatile, Policy.History.KeepLast(10))
    readers = {
        name: DataReader(participant, Topic(participant, f"rt/vit_encoder/{name}", Image), qos=qos)
        for name in OUTPUTS
    }
    images = DataWriter(participant, Topic(participant, "rt/wrist/image", Image), qos=qos)
    poses = DataWriter(participant, Topic(participant, "rt/ee_pose", PoseStamped), qos=qos)
    layout = json.loads(wait_for(lambda: layouts.take(1), "layout")[0].data)
    for end in (images, poses):
        wait_for(end.get_matched_subscriptions, "subscription of the node")
    for reader in readers.values():
        wait_for(reader.get_matched_publications, "publication of the node")
    read = {"layout": json.dumps(layout)}
    basis = None
    if "basis" in layout:
        topic = Topic(participant, "rt/vit_encoder/basis", Image)
        bases = DataReader(participant, topic, qos=latched)
        basis = read["basis"] = value_of(wait_for(lambda: bases.take(1), "basis")[0])
    for index in range(frames):
        header = Header(Time(FIRST_SEC + index, 7), "camera")
        pose = Pose(Point(0.1 * index, 0.2, 0.3), Quaternion(0, 0, 0, 1))
        poses.write(PoseStamped(Header(header.stamp, "base_link"), pose))
        images.write(
            Image(header, HEIGHT_PX, WIDTH_PX, "rgb8", 0, 3 * WIDTH_PX, picture(index).tobytes())
        )
        for name, reader in readers.items():
            message = wait_for(lambda: reader.take(1), f"{name} of frame {index}")[0]
            assert (message.header.stamp.sec, message.header.frame_id) == (
                FIRST_SEC + index,
                "camera",
            ), message.header
            read[f"{name}.{index}"] = value_of(message, layout, basis)
    np.savez(out, **read)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
