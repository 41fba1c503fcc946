"""What a recording is read as if no parameter file says it."""

import logging
from dataclasses import MISSING, fields
from pathlib import Path

from vit_perception.config.named_groups import NamedGroup, registered_groups
from vit_perception.config.offline_settings import POSE_TYPE, settings_of_recording
from vit_perception.config.settings import EncoderSettings
from vit_perception.recordings.reader import BagReader
from vit_perception.tokens.source import SampledSource, registered


def settings_without_parameters(bag: Path) -> EncoderSettings:
    """Return settings with the cameras and arms of ``bag``, and name what needs a parameter file.

    A recording does not say in which order the joints go into a token, or in which frame a force
    must be. Topics of such sources are left out, each with a warning that says what to write.

    Raises:
        BagError: There is no image topic that can be read, or there are too many topics.
    """
    settings = settings_of_recording(bag)
    groups = {group.prefix: group for group in registered_groups()}
    asked = {
        kind.type: groups[kind.group]
        for kind in registered()
        if issubclass(kind, SampledSource) and kind.group in groups and kind.type != POSE_TYPE
    }
    with BagReader(bag) as reader:
        for topic in sorted(reader.topics.values()):
            if (group := asked.get(topic.type_name)) and reader.count(topic.name):
                logging.getLogger(__name__).warning(
                    "left out: %s (%s); to take it, give a parameter file with %s",
                    topic.name,
                    topic.type_name,
                    _parameters(group, topic.name),
                )
    return settings


def _parameters(group: NamedGroup, topic: str) -> str:
    """Return those that must be given for one source of ``group``."""
    prefix = f"{group.prefix}.NAME."
    needed = [
        f"{prefix}{entry.name}"
        for entry in fields(group.settings)
        if entry.default is MISSING and entry.name not in ("name", "topic")
    ]
    return ", ".join([f"{group.names_parameter}: [NAME]", f"{prefix}topic: {topic}", *needed])
