"""Settings objects made from values of parameters, wherever these come from: a node or a file."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from vit_perception.config.checks import check_name
from vit_perception.config.named_groups import NamedGroup, registered_groups
from vit_perception.config.parameter import ONCE, Parameter, Section, parameters_of
from vit_perception.config.settings import EncoderSettings, group_arguments

# Returns the value of a parameter, or its default; a list is a tuple.
ValueOf = Callable[[Parameter], Any]

AUTOSTART = Parameter(
    name="autostart",
    default=False,
    kind=bool,
    description="Configure and activate as soon as the node runs. The launch file sets it to true.",
    fixed=ONCE,
)


def common_parameters() -> Iterator[Parameter]:
    """Yield every parameter that belongs to no single camera, arm or other named source."""
    yield AUTOSTART
    for group in registered_groups():
        yield group.names
    for section in (*_sections().values(), EncoderSettings):
        for _, parameter in parameters_of(section):
            yield parameter


def all_parameters(names: Mapping[str, str]) -> Iterator[Parameter]:
    """Yield every parameter, with one source of each group: ``names`` by the group's prefix."""
    yield from common_parameters()
    for group in registered_groups():
        for _, parameter in group.parameters(names.get(group.prefix, "<name>")):
            yield parameter


def read_names(value_of: ValueOf) -> dict[NamedGroup, tuple[str, ...]]:
    """Return the names of each registered group.

    Raises:
        BadSetting: a name cannot be a part of a topic.
    """
    names = {group: value_of(group.names) for group in registered_groups()}
    for group, listed in names.items():
        for name in listed:
            # Checked before it becomes part of a parameter's name.
            check_name(group.names_parameter, name)
    return names


def read_settings(value_of: ValueOf) -> EncoderSettings:
    """Make the settings from the values of all parameters, by the names of the fields.

    Raises:
        BadSetting: a value is not accepted.
    """
    named = {
        group.prefix: tuple(
            group.settings(name=name, **_values(group.parameters(name), value_of)) for name in names
        )
        for group, names in read_names(value_of).items()
    }
    sections = {
        field: section(**_values(parameters_of(section), value_of))
        for field, section in _sections().items()
    }
    return EncoderSettings(
        **group_arguments(named),
        **sections,
        **_values(parameters_of(EncoderSettings), value_of),
    )


def _values(parameters: Iterator[tuple[str, Parameter]], value_of: ValueOf) -> dict[str, Any]:
    return {field: value_of(parameter) for field, parameter in parameters}


def _sections() -> dict[str, type]:
    """Return the sections of the settings by field: model, engine, fusion, ..."""
    kinds = get_type_hints(EncoderSettings)
    return {
        field.name: kinds[field.name]
        for field in fields(EncoderSettings)
        if isinstance(kinds[field.name], type) and issubclass(kinds[field.name], Section)
    }
