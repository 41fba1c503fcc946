"""Parts of sources' values by name, such as arm.position: what a policy's state is made of."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vit_perception.config.checks import BadSetting

if TYPE_CHECKING:
    from vit_perception.tokens.source import SampledSource

PARAMETER = "policy.state"


@dataclass(frozen=True)
class Component:
    """Some numbers of a source's value."""

    # A name for each.
    numbers: tuple[str, ...]
    unit: str
    # Takes them out of a value: (len(numbers),) float64.
    of: Callable[[Any], np.ndarray]
    # No number's magnitude is larger; infinity where nothing is known.
    largest: float = math.inf
    # What data sets put behind a number's name.
    endings: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class Part:
    """One entry of ``policy.state``."""

    # As the user wrote it, such as arm.position, and the source's name in it.
    text: str
    source: str
    component: Component

    @property
    def names(self) -> tuple[str, ...]:
        """A full name for each number, such as arm.position.x."""
        return tuple(f"{self.text}.{number}" for number in self.component.numbers)

    def also_called(self, number: str) -> set[str]:
        """Return the names, in small letters, that a policy may have for ``number``."""
        component = self.text.partition(".")[2]
        prefixes = {"", f"{self.source}.", f"{component}.", f"{self.text}."}
        endings = self.component.endings
        return {f"{prefix}{number}{ending}".lower() for prefix in prefixes for ending in endings}


def parts_of(texts: tuple[str, ...], sources: "Sequence[SampledSource]") -> tuple[Part, ...]:
    """Return the parts that ``texts``, the parameter's entries, name of ``sources``.

    Raises:
        BadSetting: one is of no source, or of no component of its source.
    """
    by_name = {source.name: source for source in sources}
    parts = []
    for text in texts:
        name, _, wanted = text.partition(".")
        if name not in by_name:
            raise BadSetting(
                PARAMETER,
                list(texts),
                f"parts of {', '.join(by_name) or 'arms or joint states, and there are none'}; "
                f"{text!r:.80} is of none of them",
            )
        components = by_name[name].components()
        if wanted not in components:
            there = [f"{name}.{each}" if each else name for each in components]
            raise BadSetting(
                PARAMETER,
                list(texts),
                f"{', '.join(there) or f'no part of {name}'} in the place of {text!r:.80}",
            )
        parts.append(Part(text, name, components[wanted]))
    return tuple(parts)
