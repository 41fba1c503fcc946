"""Which of the topics that were seen become cameras, arms, joint states and force/torque sensors.

Plain values, no ROS.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vit_perception.config.cameras.transports import NAMES, VIDEO_TYPES, without_transport
from vit_perception.files.errors import MOST_SHOWN, OperationFailed, printable
from vit_perception.image.camera_info import INFO_TYPE
from vit_perception.ros.suggest import names
from vit_perception.ros.suggest.lenses import lens_settings
from vit_perception.ros.suggest.names import Naming
from vit_perception.ros.suggest.seen import GraphSeen, TopicSeen
from vit_perception.ros.suggest.timing import (
    Setting,
    clock_findings,
    sample_settings,
    sync_settings,
)
from vit_perception.tokens.camera import TYPES
from vit_perception.tokens.joints import JointSource
from vit_perception.tokens.pose import PoseSource
from vit_perception.tokens.wrench import WrenchSource

RAW, COMPRESSED = TYPES["raw"], TYPES["compressed"]
TRANSPORTS = NAMES  # by message type
POSE, STATE, WRENCH = PoseSource.type, JointSource.type, WrenchSource.type
LISTENED = (RAW, COMPRESSED, *VIDEO_TYPES, POSE, STATE, WRENCH, INFO_TYPE)
MOST_JOINTS = 64  # that are written; a message with more is no arm's
# Of the images of one camera the first of these that comes; names that are none of them, last.
_PREFERRED = ("image_raw", "image", "image_color", "image_rect_color", "image_rect", "image_mono")
# Below that part of the compressed images, raw ones get lost on their way.
_ENOUGH_RAW = 0.8
_COMMAND = re.compile(
    r"(^|[/_])(goal|target|desired|command|commands|cmd|setpoint|reference|equilibrium|planned)"
    r"($|[/_])|initialpose",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Chosen:
    """One source of the node."""

    name: str
    topic: TopicSeen
    # The parameters behind its topic's.
    settings: tuple[Setting, ...] = ()
    # What else is to be said, one comment each.
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suggestion:
    """Parameters for what was seen."""

    # Sources by the prefix of their parameters: cameras, poses, states, wrenches.
    groups: dict[str, list[Chosen]]
    sync: list[Setting]
    # Topics that are not used, and why.
    left_out: list[tuple[TopicSeen, str]] = field(default_factory=list)
    # What is wrong with the clocks.
    wrong: list[str] = field(default_factory=list)


def suggest(graph: GraphSeen) -> Suggestion:
    """Return parameters for the topics of ``graph``.

    Raises:
        OperationFailed: no image came that the node can use.
    """
    left_out: list[tuple[TopicSeen, str]] = []
    used: set[str] = set()
    cameras = _cameras(graph, used, left_out)
    if not cameras:
        raise OperationFailed(nothing_usable(graph, left_out))
    images = [camera.topic for camera in cameras]
    groups = {"cameras": cameras}
    kinds: tuple[tuple[str, str, Naming, Callable[[str, TopicSeen], Chosen]], ...] = (
        ("poses", POSE, names.ARMS, _arm),
        ("states", STATE, names.STATES, _state),
        ("wrenches", WRENCH, names.WRENCHES, _wrench),
    )
    for prefix, kind, naming, make in kinds:
        topics = _usable(graph.of_type((kind,)), left_out)
        called = names.names_of([t.name for t in topics], naming, used)
        groups[prefix] = []
        for topic in topics:
            chosen = make(called[topic.name], topic)
            times = sample_settings(f"{prefix}.{chosen.name}", topic, images)
            groups[prefix].append(
                Chosen(chosen.name, topic, (*chosen.settings, *times), chosen.notes)
            )
    samples = [each.topic for prefix in groups if prefix != "cameras" for each in groups[prefix]]
    wrong, _ = clock_findings(images, samples)
    return Suggestion(groups, sync_settings(images), left_out, wrong)


def nothing_usable(graph: GraphSeen, left_out: Sequence[tuple[TopicSeen, str]]) -> str:
    """Return one line that says that there is no image, and what there is instead."""
    where = f"on ROS domain {graph.domain} within {graph.listened_s:.0f} s"
    if not graph.topics:
        return (
            f"no camera, pose, joint state or wrench is published {where}; start the robot or a "
            "replay, or set ROS_DOMAIN_ID to that of the robot"
        )
    images = [(topic, why) for topic, why in left_out if topic.type in TRANSPORTS]
    if images:
        said = "; ".join(f"{topic.name}: {why}" for topic, why in images[:3])
        return printable(f"no image came that the node can use {where}: {said}", keep="")
    there = ", ".join(t.name for t in graph.topics[:5])
    return printable(f"no camera publishes {where}, only {there}", keep="")


def _usable(topics: Sequence[TopicSeen], left_out: list[tuple[TopicSeen, str]]) -> list[TopicSeen]:
    """Those of ``topics`` that carry measurements; the others go to ``left_out``."""
    good = []
    for topic in topics:
        why = why_not(topic)
        if why:
            left_out.append((topic, why))
        else:
            good.append(topic)
    return good


def why_not(topic: TopicSeen) -> str:
    """Return why the node cannot use ``topic``; "" where it can."""
    if not topic.received:
        return topic.refused or "no message came"
    if not topic.usable:
        return topic.refused
    if _COMMAND.search(topic.name):
        return "by its name a command, no measurement"
    if topic.type == STATE and len(topic.joints) > MOST_JOINTS:
        return f"it names {len(topic.joints)} joints; name those that are wanted"
    if topic.type == WRENCH and not topic.frame_id:
        return "its headers name no frame, which the node needs"
    return ""


def _cameras(
    graph: GraphSeen, used: set[str], left_out: list[tuple[TopicSeen, str]]
) -> list[Chosen]:
    """One topic of each camera, of its raw, compressed and rectified ones."""
    by_camera: dict[str, list[TopicSeen]] = {}
    for topic in _usable(graph.of_type(tuple(TRANSPORTS)), left_out):
        by_camera.setdefault(_camera_of(topic.name), []).append(topic)
    best = {camera: _best(topics) for camera, topics in by_camera.items()}
    called = names.names_of(list(by_camera), names.CAMERAS, used)
    chosen = []
    for camera, topics in by_camera.items():
        notes = tuple(
            f"the same camera: {t.name} ({TRANSPORTS[t.type]}, {t.picture}, {t.rate_text})"
            for t in topics
            if t is not best[camera]
        )
        transport = Setting(
            f"cameras.{called[camera]}.transport",
            TRANSPORTS[best[camera].type],
            f"{best[camera].picture}, {best[camera].rate_text}",
        )
        settings, said = lens_settings(called[camera], best[camera], graph.infos)
        chosen.append(Chosen(called[camera], best[camera], (transport, *settings), (*notes, *said)))
    return chosen


def _camera_of(topic: str) -> str:
    """What the topics of one camera have in common: /left/cam of /left/cam/image_raw/compressed."""
    bare = without_transport(topic)
    above, _, last = bare.rpartition("/")
    return above if above and re.fullmatch(r"image(_\w+)?", last) else bare


def _best(topics: Sequence[TopicSeen]) -> TopicSeen:
    """The topic that is taken of one camera: as it sends it, raw unless raw images get lost."""

    def place(topic: TopicSeen) -> int:
        last = without_transport(topic.name).rpartition("/")[2]
        return _PREFERRED.index(last) if last in _PREFERRED else len(_PREFERRED)

    first = min(place(topic) for topic in topics)
    same = [topic for topic in topics if place(topic) == first]
    raw = next((topic for topic in same if topic.type == RAW), None)
    packed = next((topic for topic in same if topic.type == COMPRESSED), None)
    if raw is None or packed is None:
        # Video where there is nothing else: a picture of it needs those before it.
        return raw or packed or same[0]
    return raw if raw.arrived_hz >= _ENOUGH_RAW * packed.arrived_hz else packed


def _arm(name: str, topic: TopicSeen) -> Chosen:
    prefix = f"poses.{name}"
    others = [frame for frame in topic.frame_ids if frame != topic.frame_id]
    why = f"as its headers say, {topic.rate_text}"
    if others:
        shown = ", ".join(printable(o, MOST_SHOWN, keep="") or "no frame" for o in others[:3])
        why += f"; messages with {shown} are refused"
    settings = [Setting(f"{prefix}.frame_id", topic.frame_id, why)]
    if not topic.frame_id:
        settings.append(Setting(f"{prefix}.accept_empty_frame", True, "its headers name no frame"))
    return Chosen(name, topic, tuple(settings))


def _state(name: str, topic: TopicSeen) -> Chosen:
    prefix = f"states.{name}"
    also = ("position", "velocity") if topic.has_velocities else ("position",)
    fields = "velocities come, too: [position, velocity]" if topic.has_velocities else ""
    joints = f"all {len(topic.joints)} that it names, {topic.rate_text}"
    return Chosen(
        name,
        topic,
        (
            Setting(f"{prefix}.joints", tuple(topic.joints), joints),
            Setting(f"{prefix}.fields", also[:1], fields),
        ),
    )


def _wrench(name: str, topic: TopicSeen) -> Chosen:
    why = f"as its headers say, {topic.rate_text}"
    return Chosen(name, topic, (Setting(f"wrenches.{name}.frame_id", topic.frame_id, why),))
