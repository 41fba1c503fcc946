"""Settings for the tools: the node's own parameter file, or what a recording itself says."""

import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from vit_perception.config.cameras.transports import NAMES, VIDEO_TYPES, without_transport
from vit_perception.config.column_settings import column_settings
from vit_perception.config.named_groups import registered_groups
from vit_perception.config.parameter import Parameter
from vit_perception.config.parameter_files import ACCEPTED, ParameterFile, expanded_topic
from vit_perception.config.reading import AUTOSTART, read_settings
from vit_perception.config.settings import (
    BadSetting,
    CameraSettings,
    EncoderSettings,
    PoseSettings,
    group_arguments,
)
from vit_perception.files.errors import InvalidValue
from vit_perception.recordings.kind import BagError
from vit_perception.recordings.reader import BagReader

POSE_TYPE = "geometry_msgs/msg/PoseStamped"
MOST_OF_A_KIND = 64  # cameras or arms, if no parameter file names them
# The first poses of a topic are searched for a frame.
MOST_POSES_SEARCHED = 100
# Words of a topic that say what it carries, not where it comes from.
COMMON_WORDS = (
    "image",
    "image_raw",
    "image_rect",
    "image_color",
    "image_rect_color",
    "compressed",
    "ffmpeg",
    "foxglove",
    "color",
    "rgb",
    "pose",
    "ee_pose",
)


def settings_of_recording(bag: Path) -> EncoderSettings:
    """Return settings with every image topic of ``bag`` as a camera, every PoseStamped as an arm.

    They are named by their topics. A video beside other images of the same camera is left out;
    poses whose headers name no frame are, with a warning.

    Raises:
        BagError: there is no image topic that can be read, or there are too many.
    """
    with BagReader(bag) as reader:
        topics = sorted(reader.topics.values())
        images = [t.name for t in topics if t.type_name in NAMES]
        videos = [t.name for t in topics if t.type_name in VIDEO_TYPES]
        others = {without_transport(name) for name in images if name not in videos}
        images = [t for t in images if t not in videos or without_transport(t) not in others]
        if not images:
            raise BagError(f"{bag} has no image topic; {reader.what_there_is()}")
        whys = {t: why for t in images if (why := reader.why_not_readable(t))}
        if len(whys) == len(images):
            raise BagError(f"no image of {bag} can be read: {next(iter(whys.values()))}")
        for topic, why in whys.items():
            logging.getLogger(__name__).warning("%s: %s is left out: %s", bag, topic, why)
        images = [t for t in images if t not in whys]
        poses = [t.name for t in topics if t.type_name == POSE_TYPE]
        if max(len(images), len(poses)) > MOST_OF_A_KIND:
            raise BagError(
                f"{bag} has {len(images)} image topics and {len(poses)} pose topics; accepted: at "
                f"most {MOST_OF_A_KIND} of each, or a parameter file with those to read"
            )
        used: set[str] = set()
        cameras = tuple(
            CameraSettings(_name(t, "camera", used), t, NAMES[reader.type_of(t)]) for t in images
        )
        arms = []
        for topic in poses:
            found = islice(reader.messages([topic]), MOST_POSES_SEARCHED)
            frame_ids = (each.message.header.frame_id for each in found)
            frame_id = next(filter(None, frame_ids), "")
            name = _name(topic, "arm", used)
            if frame_id:
                arms.append(PoseSettings(name, topic, frame_id))
            elif count := reader.count(topic):
                logging.getLogger(__name__).warning(
                    "left out: the %d poses of %s, whose headers name no frame; to take them, give "
                    "a parameter file with "
                    "pose_names: [%s], poses.%s.topic: %s, poses.%s.accept_empty_frame: true",
                    count,
                    topic,
                    name,
                    name,
                    topic,
                    name,
                )
            else:
                logging.getLogger(__name__).warning(
                    "left out: %s, of which there is no pose", topic
                )
        return EncoderSettings(cameras, tuple(arms))


def _name(topic: str, otherwise: str, used: set[str]) -> str:
    """Return the topic's last word that is not common, as a name that is not ``used`` yet."""
    words = [re.sub(r"\W", "_", word, flags=re.ASCII) for word in topic.strip("/").split("/")]
    telling = [word for word in words if word not in COMMON_WORDS]
    name = base = telling[-1] if telling and telling[-1][:1].isalpha() else otherwise
    count = 1
    while name in used:
        count += 1
        name = f"{base}_{count}"
    used.add(name)
    return name


def settings_of_parameters(file: Path, node: str = "") -> EncoderSettings:
    """Return the settings of :func:`read_parameters`, without the name."""
    return read_parameters(file, node)[0]


def read_parameters(file: Path, node: str = "") -> tuple[EncoderSettings, str]:
    """Return what the node of the full name ``node`` reads from a parameter file, and that name.

    Without ``node`` the file says it (:meth:`ParameterFile.node`). Relative topics become the full
    names that they have for that node.

    Raises:
        BadSetting: a parameter is not accepted.
        InvalidValue: the file cannot be read.
    """
    if not file.exists():
        raise InvalidValue(f": there is no {file}; accepted: {ACCEPTED}", argument="params")
    content = ParameterFile(file)
    node = node.rstrip("/") or content.node()
    reader = _GivenValues(content.values_for(node))
    settings = reader.settings()
    for section, given in content.sections_for(node):
        for name in reader.unused(given):
            # A section for many nodes may have parameters of others.
            if "*" not in section or content.is_of_one:
                raise BadSetting(name, given[name], f"a parameter of the node ({file})")
            logging.getLogger(__name__).warning(
                "%s: parameter '%s' of %s is not one of %s's and does nothing",
                file,
                name,
                section,
                node,
            )
    return _with_full_topics(settings, node), node


def _with_full_topics(settings: EncoderSettings, node: str) -> EncoderSettings:
    """Return ``settings`` with the topics' full names, as they are for ``node``."""
    groups = {
        group.prefix: tuple(
            replace(
                source,
                **{
                    field: expanded_topic(getattr(source, field), node)
                    for field in ("topic", "camera_info_topic", "depth_topic")
                    if hasattr(source, field)
                },
            )
            for source in settings.group(group.prefix)
        )
        for group in registered_groups()
    }
    columns = tuple(
        column._replace(topic=expanded_topic(column.topic, node)).text
        for column in column_settings(settings.columns)
    )
    return replace(settings, columns=columns, **group_arguments(groups))


# Parameters that every node has, and that say nothing about what comes out. `ros2 param dump` has
# them too. Nodes of Humble do not have the second one.
_OF_EVERY_NODE = (
    Parameter("use_sim_time", False, bool, "Take the time from /clock."),
    Parameter("start_type_description_service", True, bool, "Start ~/get_type_description."),
)


class _GivenValues:
    """The values that a parameter file gives; it remembers which of them were read."""

    def __init__(self, given: dict[str, Any]):
        self._given = given
        self._used: set[str] = set()

    def settings(self) -> EncoderSettings:
        for parameter in (AUTOSTART, *_OF_EVERY_NODE):
            self._value_of(parameter)
        return read_settings(self._value_of)

    def unused(self, given: Iterable[str]) -> list[str]:
        """Return the names that mean nothing to the node."""
        return [n for n in given if n not in self._used and not n.startswith("qos_overrides.")]

    def _value_of(self, parameter: Parameter) -> Any:
        """Return what the file says, as the settings hold it.

        Raises:
            BadSetting: the value has a type that the node would refuse.
        """
        name = parameter.name
        kind = parameter.kind
        self._used.add(name)
        if name not in self._given:
            return parameter.default
        value = self._given[name]
        is_list = kind is tuple
        # As in the node: some tools of ROS cannot write an empty list, and write [''].
        if is_list and value in (None, [""]):
            return ()
        # Not isinstance(): a bool is an int to it.
        has_kind = type(value) is (list if is_list else kind)
        if is_list and value == [""]:
            # As in the node: some tools of ROS cannot write an empty list, and write [''].
            return ()
        if not has_kind or (is_list and not all(type(item) is parameter.item for item in value)):
            raise BadSetting(name, value, parameter.kind_accepted())
        return tuple(value) if is_list else value
