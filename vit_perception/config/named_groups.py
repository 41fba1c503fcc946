"""Groups of settings that the user names: cameras, poses of arms, joint states, and further kinds.

A module that brings another kind of input registers its group when it is imported. Declaration,
reading and documentation of parameters loop over the registered groups.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from vit_perception.config.parameter import TOKENS, Parameter, parameters_of


@dataclass(frozen=True)
class NamedGroup:
    """A kind of input of which there may be several, each with a name of its own."""

    # The beginning of its parameters: ``wrenches`` for ``wrenches.<name>.topic``.
    prefix: str
    # The parameter that lists the names, for example ``wrench_names``.
    names_parameter: str
    # The settings of one of them: a frozen dataclass and Section with a ``name`` and a ``topic``.
    settings: type[Any]
    # The topic if none is given; ``{}`` stands for the name.
    default_topic: str
    # What they are, in the plural, for descriptions.
    what: str = ""
    # Why the names cannot change while the node is configured.
    fixed: str = TOKENS

    @property
    def names(self) -> Parameter:
        """The parameter that lists the names."""
        return Parameter(
            name=self.names_parameter,
            default=(),
            kind=tuple,
            description=f"Names of the {self.what or self.prefix}. Each becomes a part of output "
            "topics. [], [''] or no key is none.",
            fixed=self.fixed,
        )

    def parameters(self, name: str) -> Iterator[tuple[str, Parameter]]:
        """Yield field name and parameter of the one called ``name``."""
        for field_name, parameter in parameters_of(self.settings, name):
            if field_name == "topic":
                parameter = replace(parameter, default=self.default_topic.format(name))
            yield field_name, parameter


_GROUPS: dict[str, NamedGroup] = {}


def register_group(group: NamedGroup) -> NamedGroup:
    """Make ``group`` known to every reader of parameters, and return it.

    Raises:
        ValueError: another group has its prefix or its list of names.
    """
    for other in _GROUPS.values():
        same = {other.prefix, other.names_parameter} & {group.prefix, group.names_parameter}
        if same and other != group:
            raise ValueError(f"two groups of parameters are called {', '.join(sorted(same))}")
    _GROUPS[group.prefix] = group
    return group


def registered_groups() -> tuple[NamedGroup, ...]:
    """Return every registered group, in the order of registration."""
    return tuple(_GROUPS.values())
