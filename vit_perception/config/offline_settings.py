"""Settings for the tools: the node's own parameter file, or what a recording itself says."""

import logging
import re
from collections.abc import Iterable
from dataclasses import MISSING, fields, is_dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from vit_perception.config.parameter_files import ACCEPTED, ParameterFile, expanded_topic
from vit_perception.config.settings import (
    BadSetting,
    CameraSettings,
    EncoderSettings,
    PoseSettings,
    StateSettings,
    check_name,
)
from vit_perception.files.errors import InvalidValue
from vit_perception.recordings.reader import BagError, BagReader

IMAGE_TYPES = {"sensor_msgs/msg/Image": "raw", "sensor_msgs/msg/CompressedImage": "compressed"}
POSE_TYPE = "geometry_msgs/msg/PoseStamped"
MOST_OF_A_KIND = 64  # cameras or arms that nobody has asked for by name
# The first poses of a topic that are asked for their frame.
MOST_POSES_ASKED = 100
# Words of a topic that say what it carries, not from where.
COMMON_WORDS = (
    "image",
    "image_raw",
    "image_rect",
    "image_color",
    "image_rect_color",
    "compressed",
    "color",
    "rgb",
    "pose",
    "ee_pose",
)


def settings_of_recording(bag: Path) -> EncoderSettings:
    """Every image topic of ``bag`` as a camera and every PoseStamped as an arm, named by their
    topics.

    The log says which poses are left out, because their headers name no frame. Raises BagError
    where there is no image topic.
    """
    with BagReader(bag) as reader:
        topics = reader.topics
        images = [t for t in sorted(topics) if topics[t] in IMAGE_TYPES]
        if not images:
            raise BagError(f"{bag} has no image topic; {reader.what_there_is()}")
        whys = {t: why for t in images if (why := reader.why_not_readable(t))}
        if len(whys) == len(images):
            raise BagError(f"no image of {bag} can be read: {next(iter(whys.values()))}")
        for topic, why in whys.items():
            logging.getLogger(__name__).warning("%s: %s is left out: %s", bag, topic, why)
        images = [t for t in images if t not in whys]
        poses = [t for t in sorted(topics) if topics[t] == POSE_TYPE]
        if max(len(images), len(poses)) > MOST_OF_A_KIND:
            raise BagError(
                f"{bag} has {len(images)} image topics and {len(poses)} pose topics; accepted: at "
                "most "
                f"{MOST_OF_A_KIND} of each, or --params with those to read"
            )
        used: set[str] = set()
        cameras = tuple(
            CameraSettings(_name(t, "camera", used), t, IMAGE_TYPES[topics[t]]) for t in images
        )
        arms = []
        for topic in poses:
            headed = (
                message for _, _, message in islice(reader.messages([topic]), MOST_POSES_ASKED)
            )
            frame_id = next((pose.header.frame_id for pose in headed if pose.header.frame_id), "")
            name = _name(topic, "arm", used)
            if frame_id:
                arms.append(PoseSettings(name, topic, frame_id))
            elif count := reader.count(topic):
                logging.getLogger(__name__).warning(
                    "left out: the %d poses of %s, whose headers name no frame; to take them, give "
                    "--params with "
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
    """The topic's last telling word, as a name that no other camera or arm has."""
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
    """The settings of :func:`read_parameters` alone."""
    return read_parameters(file, node)[0]


def read_parameters(file: Path, node: str = "") -> tuple[EncoderSettings, str]:
    """What the node of the full name ``node`` would read from a ROS 2 parameter file, and that
    name.

    Without ``node`` the file says it (:meth:`ParameterFile.node`). Relative topics have the full
    name that they have for that node. Raises BadSetting or InvalidValue, naming the parameter or
    the file.
    """
    if not file.exists():
        raise InvalidValue(f"--params: there is no {file}; accepted: {ACCEPTED}")
    content = ParameterFile(file)
    node = node.rstrip("/") or content.node()
    reader = _Parameters(content.values_for(node))
    settings = reader.settings()
    for section, given in content.sections_for(node):
        for name in reader.unused(given):
            # What is said to many nodes need not be for this one.
            if "*" not in section or content.is_of_one:
                raise BadSetting(name, given[name], f"a parameter of the node ({file})")
            logging.getLogger(__name__).warning(
                "%s: parameter '%s' of %s is not one of %s's and does nothing",
                file,
                name,
                section,
                node,
            )
    return replace(
        settings,
        **{
            kind: tuple(
                replace(one, topic=expanded_topic(one.topic, node))
                for one in getattr(settings, kind)
            )
            for kind in _NAMED
        },
    ), node


# Where a settings field does not have its parameter's name.
_RENAMED = {
    "pose_policy": "poses.policy",
    "fusion.tokenizer": "poses.tokenizer",
    "fusion.tokenizer_weights": "poses.tokenizer_weights",
    "state_policy": "states.policy",
    "fusion.state_tokenizer": "states.tokenizer",
    "output.min_score": "min_score",
    "output.views": "views",
    "output.dtype": "output_dtype",
    "output.top_k": "top_k",
    "output.max_rate_hz": "max_rate_hz",
}
# Parameters that say nothing about what comes out.
_NODE_ONLY = ("autostart", "use_sim_time")
# What the node says of a value of another type.
_ACCEPTED = {
    float: "float (15.0, not 15)",
    int: "int",
    bool: "bool",
    str: "str",
    tuple: "list of strings",
}
_NAMED = {
    "cameras": ("camera_names", "{}/image"),
    "poses": ("pose_names", "{}/pose"),
    "states": ("state_names", "joint_states"),
}


class _Parameters:
    """Fills the settings' dataclasses by the names of their fields, so that a new field needs
    nothing here.
    """

    def __init__(self, given: dict[str, Any]):
        self._given = given
        self._used: set[str] = set()

    def settings(self) -> EncoderSettings:
        cameras = self._named("cameras", CameraSettings)
        base = EncoderSettings(cameras, self._named("poses", PoseSettings))
        states = self._named("states", StateSettings)
        for name in _NODE_ONLY:
            self._value(name, bool, False)
        return self._filled(base, "", states)

    def unused(self, given: Iterable[str]) -> list[str]:
        """Names that say nothing to the node."""
        return [n for n in given if n not in self._used and not n.startswith("qos_overrides.")]

    def _named(self, group: str, kind: type) -> tuple:
        names_key, topic = _NAMED[group]
        made = []
        types = get_type_hints(kind)
        for name in self._value(names_key, tuple, ()):
            check_name(names_key, name)
            # A list without a default is empty, and the settings say what it wants.
            defaults = {f.name: () if f.default is MISSING else f.default for f in fields(kind)}
            defaults["topic"] = topic.format(name)
            made.append(
                kind(
                    name,
                    **{
                        key: self._value(f"{group}.{name}.{key}", types[key], default)
                        for key, default in defaults.items()
                        if key != "name"
                    },
                )
            )
        return tuple(made)

    def _filled(self, settings: Any, prefix: str, states: tuple[StateSettings, ...] = ()) -> Any:
        changes: dict[str, Any] = {"states": states} if states else {}
        types = get_type_hints(type(settings))
        for field in fields(settings):
            if field.name in _NAMED:
                continue
            value, name = getattr(settings, field.name), f"{prefix}{field.name}"
            if is_dataclass(value):
                changes[field.name] = self._filled(value, f"{name}.")
            else:
                changes[field.name] = self._value(
                    _RENAMED.get(name, name), types[field.name], value
                )
        return replace(settings, **changes)

    def _value(self, name: str, kind: Any, default: Any) -> Any:
        """What the file says, as the settings hold it. Raises BadSetting for a type that the node
        would refuse.
        """
        self._used.add(name)
        if name not in self._given:
            return default
        value, kind = self._given[name], get_origin(kind) or kind
        if value is None and kind is tuple:
            return ()
        of_kind = type(value) is (list if kind is tuple else kind)  # a bool is an int to isinstance
        if not of_kind or (kind is tuple and not all(isinstance(item, str) for item in value)):
            raise BadSetting(name, value, _ACCEPTED[kind])
        if kind is tuple:
            # As in the node: one empty text stands for an empty list, which some tools of ROS
            # cannot write.
            return tuple(value) if value != [""] else ()
        return value
