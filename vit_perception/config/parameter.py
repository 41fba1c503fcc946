"""One parameter, declared once: as metadata of the settings field that holds its value.

The check of a value, the declaration to ROS, the settings objects, the reader of parameter files
and the README's table are all made of this declaration.
"""

from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, get_args, get_origin, get_type_hints

from vit_perception.config.checks import BadSetting, expand_path, one_of, within

# Why a parameter cannot change while the node is configured.
ENGINE = "the engine is opened and verified with it"
TOPICS = "topics and subscriptions are made of it"
TOKENS = "what the tokens mean must not change under a policy"
ENCODED = "texts are encoded at configure"
ONCE = "it is read once, at the start"

_KIND_NAMES = {
    bool: "bool",
    int: "int",
    float: "float (15.0, not 15)",
    str: "str",
}
# By the kind of a list's items.
_LIST_NAMES = {str: "list of strings", int: "list of integers"}


@dataclass(frozen=True)
class Parameter:
    """One parameter of the node, under its full name."""

    # The full name, for example ``cameras.wrist.topic``.
    name: str
    # The value when none is given; ``kind`` is its type, a tuple for a list.
    default: Any
    kind: type
    # What it does, as a full sentence, with its unit.
    description: str
    # The unit of a number, for example ``s``; empty for numbers without one.
    unit: str = ""
    # The smallest and the largest number; both None without bounds.
    low: float | None = None
    high: float | None = None
    # The accepted texts; empty for any text.
    choices: tuple[str, ...] = ()
    # Why it cannot change while the node is configured; empty if it can.
    fixed: str = ""
    # The type of a list's items.
    items: type = str

    def accepted(self) -> str:
        """Return what a value must be, for an error message."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        kind = self.kind_accepted()
        return kind if self.low is None else f"{kind} from {self.low:g} to {self.high:g}"

    def kind_accepted(self) -> str:
        """Return the type that a value must have, for an error message."""
        return _LIST_NAMES[self.items] if self.kind is tuple else _KIND_NAMES[self.kind]


@dataclass(frozen=True)
class _Declared:
    """What ``param`` keeps in the metadata of a field."""

    description: str
    name: str = ""
    unit: str = ""
    bounds: tuple[float, float] | None = None
    exact_bounds: bool = True
    choices: tuple[str, ...] = ()
    fixed: str = ""
    is_path: bool = False


def param(
    default: Any,
    description: str,
    *,
    name: str = "",
    unit: str = "",
    bounds: tuple[float, float] | None = None,
    exact_bounds: bool = True,
    choices: tuple[str, ...] = (),
    fixed: str = "",
    is_path: bool = False,
) -> Any:
    """Declare a settings field that is a parameter.

    ``default`` is ``dataclasses.MISSING`` for a value that must be given. ``name`` is the full name
    of the parameter if it is not the section's prefix and the field's name. ``bounds`` are the
    smallest and the largest number; with ``exact_bounds`` False the class checks more itself.
    ``fixed`` says why the parameter cannot change while the node is configured. A path may begin
    with ``~``.
    """
    declared = _Declared(
        description=description,
        name=name,
        unit=unit,
        bounds=bounds,
        exact_bounds=exact_bounds,
        choices=choices,
        fixed=fixed,
        is_path=is_path,
    )
    return field(default=default, metadata={"parameter": declared})


class Section:
    """A group of settings whose parameters have one prefix; a base of frozen dataclasses.

    In a named group (cameras, poses, ...) the prefix holds ``{}`` where the name goes.
    """

    PREFIX: ClassVar[str] = ""

    @property
    def prefix(self) -> str:
        """The beginning of the names of this object's parameters."""
        return self.PREFIX.format(getattr(self, "name", ""))

    def check_parameters(self) -> None:
        """Check every field against its declaration and expand paths.

        Raises:
            BadSetting: a value is none of the choices, out of its bounds, or in the home folder of
                an unknown user.
        """
        for each, declared in _declarations(type(self)):
            parameter = declared.name or f"{self.prefix}{each.name}"
            value = getattr(self, each.name)
            if declared.choices and not isinstance(value, tuple):
                one_of(parameter, value, declared.choices)
            if declared.bounds and declared.exact_bounds:
                within(parameter, value, *declared.bounds, unit=declared.unit)
            if declared.is_path:
                expand_path(self, each.name, parameter)


def parameters_of(section: type[Section], name: str = "") -> Iterator[tuple[str, Parameter]]:
    """Yield each field's name and its parameter, for the ``section`` class called ``name``.

    A value that must be given has the empty value of its kind as default here: the settings say
    what is missing.
    """
    prefix = section.PREFIX.format(name)
    kinds = get_type_hints(section)
    for each, declared in _declarations(section):
        kind = get_origin(kinds[each.name]) or kinds[each.name]
        items = get_args(kinds[each.name])[0] if kind is tuple else str
        low, high = declared.bounds or (None, None)
        yield (
            each.name,
            Parameter(
                name=declared.name or f"{prefix}{each.name}",
                default=kind() if each.default is MISSING else each.default,
                kind=kind,
                description=declared.description,
                unit=declared.unit,
                low=low,
                high=high,
                choices=() if kind is tuple else declared.choices,
                fixed=declared.fixed,
                items=items,
            ),
        )


def _declarations(section: type) -> Iterator[tuple[Any, _Declared]]:
    for each in fields(section):
        if "parameter" in each.metadata:
            yield each, each.metadata["parameter"]


def require(parameter: str, value: Any, accepted: str) -> None:
    """Raise BadSetting for an empty ``value`` of ``parameter``, which must be given."""
    if not value:
        raise BadSetting(parameter, value, accepted)
