"""Settings for the tools: the node's own parameter file, or what a recording itself says."""

import logging
import re
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import yaml

from vit_perception.bags.reader import BagError, BagReader
from vit_perception.errors import InvalidValue
from vit_perception.settings import BadSetting, CameraSettings, EncoderSettings, PoseSettings, StateSettings, check_name

IMAGE_TYPES = {"sensor_msgs/msg/Image": "raw", "sensor_msgs/msg/CompressedImage": "compressed"}
POSE_TYPE = "geometry_msgs/msg/PoseStamped"
MOST_OF_A_KIND = 64  # cameras or arms that nobody has asked for by name
# Words of a topic that say what it carries, not from where.
COMMON_WORDS = ("image", "image_raw", "image_rect", "image_color", "image_rect_color", "compressed", "color", "rgb",
                "pose", "ee_pose")


def settings_of_recording(bag: Path) -> EncoderSettings:
    """Every image topic of ``bag`` as a camera and every PoseStamped as an arm, named by their topics.

    Raises BagError where there is no image topic.
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
            raise BagError(f"{bag} has {len(images)} image topics and {len(poses)} pose topics; accepted: at most "
                           f"{MOST_OF_A_KIND} of each, or --params with those to read")
        used: set[str] = set()
        cameras = tuple(CameraSettings(_name(t, "camera", used), t, IMAGE_TYPES[topics[t]]) for t in images)
        arms = []
        for topic in poses:
            first = next(reader.messages([topic]), None)
            if first is not None and first[2].header.frame_id:
                arms.append(PoseSettings(_name(topic, "arm", used), topic, first[2].header.frame_id))
        return EncoderSettings(cameras, tuple(arms))


def _name(topic: str, otherwise: str, used: set[str]) -> str:
    """The topic's last telling word, as a name that no other camera or arm has."""
    telling = [word for word in topic.strip("/").split("/") if word not in COMMON_WORDS]
    name = base = telling[-1] if telling and telling[-1][:1].isalpha() else otherwise
    count = 1
    while name in used:
        count += 1
        name = f"{base}_{count}"
    used.add(name)
    return name


def settings_of_parameters(file: Path) -> EncoderSettings:
    """The settings that the node would read from a ROS 2 parameter file. Raises BadSetting or ValueError, named."""
    if not file.is_file():
        raise InvalidValue(f"--params: there is no {file}; accepted: a parameter file of the node, as config/demo.yaml")
    try:
        content = yaml.load(file.read_text(), _Loader)
        (node,) = content.values()
        given = dict(_flat(node["ros__parameters"]))
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidValue(f"{file} is no parameter file of one node: {error}; accepted: as config/demo.yaml"
                           ) from error
    reader = _Parameters(given)
    settings = reader.settings()
    if unused := reader.unused():
        raise BadSetting(unused[0], given[unused[0]], f"a parameter of the node ({file})")
    return settings


class _Loader(yaml.SafeLoader):
    """As ROS reads numbers: 1e-3 is one too."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"),
                              list("-+0123456789"))


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested groups as the dotted names that ROS makes of them."""
    pairs = []
    for key, value in values.items():
        pairs += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return pairs


# Where a settings field does not have its parameter's name.
_RENAMED = {"pose_policy": "poses.policy", "fusion.tokenizer": "poses.tokenizer",
            "fusion.tokenizer_weights": "poses.tokenizer_weights", "state_policy": "states.policy",
            "fusion.state_tokenizer": "states.tokenizer", "output.min_score": "min_score",
            "output.views": "views", "output.dtype": "output_dtype",
            "output.top_k": "top_k", "output.max_rate_hz": "max_rate_hz"}
# Parameters that say nothing about what comes out.
_NODE_ONLY = ("autostart", "use_sim_time")
# What the node says of a value of another type.
_ACCEPTED = {float: "float (15.0, not 15)", int: "int", bool: "bool", str: "str", tuple: "list of strings"}
_NAMED = {"cameras": ("camera_names", "{}/image"), "poses": ("pose_names", "{}/pose"),
          "states": ("state_names", "joint_states")}


class _Parameters:
    """Fills the settings' dataclasses by the names of their fields, so that a new field needs nothing here."""

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

    def unused(self) -> list[str]:
        return [n for n in self._given if n not in self._used and not n.startswith("qos_overrides.")]

    def _named(self, group: str, kind: type) -> tuple:
        names_key, topic = _NAMED[group]
        made = []
        types = get_type_hints(kind)
        for name in self._value(names_key, tuple, ()):
            check_name(names_key, name)
            # A list without a default is empty, and the settings say what it wants.
            defaults = {f.name: () if f.default is MISSING else f.default for f in fields(kind)}
            defaults["topic"] = topic.format(name)
            made.append(kind(name, **{key: self._value(f"{group}.{name}.{key}", types[key], default)
                                      for key, default in defaults.items() if key != "name"}))
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
                changes[field.name] = self._value(_RENAMED.get(name, name), types[field.name], value)
        return replace(settings, **changes)

    def _value(self, name: str, kind: Any, default: Any) -> Any:
        """What the file says, as the settings hold it. Raises BadSetting for a type that the node would refuse."""
        self._used.add(name)
        if name not in self._given:
            return default
        value, kind = self._given[name], get_origin(kind) or kind
        of_kind = type(value) is (list if kind is tuple else kind)  # a bool is an int to isinstance
        if not of_kind or kind is tuple and not all(isinstance(item, str) for item in value):
            raise BadSetting(name, value, _ACCEPTED[kind])
        if kind is tuple:
            # As in the node: an empty list has no type in ROS, and one empty text stands for it.
            return tuple(value) if value != [""] else ()
        return value
