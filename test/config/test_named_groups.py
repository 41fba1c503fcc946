"""A module may bring a new kind of named source, with parameters of its own."""

from dataclasses import MISSING, dataclass
from typing import ClassVar

import pytest
import yaml

from vit_perception.config import named_groups
from vit_perception.config.named_groups import NamedGroup, register_group, registered_groups
from vit_perception.config.offline_settings import settings_of_parameters
from vit_perception.config.parameter import TOPICS, Section, param
from vit_perception.config.reading import all_parameters
from vit_perception.config.settings import BadSetting


@dataclass(frozen=True)
class LightSettings(Section):
    PREFIX: ClassVar[str] = "lights.{}."

    name: str
    topic: str = param(MISSING, "Topic of the light.", fixed=TOPICS)
    gain: float = param(1.0, "Gain.", bounds=(0.0, 2.0))

    def __post_init__(self):
        self.check_parameters()


LIGHTS = NamedGroup("lights", "light_names", LightSettings, "{}/light", "lights")


@pytest.fixture
def lights(monkeypatch):
    monkeypatch.setattr(named_groups, "_GROUPS", dict(named_groups._GROUPS))
    return register_group(LIGHTS)


def settings_of(path, **parameters):
    values = {"camera_names": ["left"], "light_names": ["lamp"], **parameters}
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))
    return settings_of_parameters(path)


def test_a_new_group_is_read_by_name(lights, tmp_path):
    settings = settings_of(tmp_path / "p.yaml", **{"lights.lamp.gain": 0.5})
    (lamp,) = settings.group("lights")
    assert (lamp.name, lamp.topic, lamp.gain) == ("lamp", "/lamp/light", 0.5)
    assert settings.extra == {"lights": (lamp,)}


def test_its_parameters_are_listed(lights):
    named = {p.name: p for p in all_parameters({"lights": "lamp"})}
    assert named["light_names"].kind is tuple
    assert named["lights.lamp.topic"].default == "lamp/light"
    assert (named["lights.lamp.gain"].low, named["lights.lamp.gain"].high) == (0.0, 2.0)


def test_its_values_are_checked_by_the_declaration(lights, tmp_path):
    with pytest.raises(BadSetting) as refused:
        settings_of(tmp_path / "p.yaml", **{"lights.lamp.gain": 3.0})
    assert refused.value.name == "lights.lamp.gain"


def test_its_names_share_the_name_space_of_topics(lights, tmp_path):
    with pytest.raises(BadSetting) as refused:
        settings_of(tmp_path / "p.yaml", light_names=["left"])
    assert refused.value.name == "light_names"


def test_another_group_of_one_prefix_is_refused(lights):
    with pytest.raises(ValueError, match="lights"):
        register_group(NamedGroup("lights", "lamp_names", LightSettings, "{}/light"))
    assert LIGHTS in registered_groups()
