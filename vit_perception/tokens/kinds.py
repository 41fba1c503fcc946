"""Every kind of token source. Importing this module imports each file of the folder.

Parameters of a kind are known from then on: readers of settings import this module first.
"""

import importlib
import pkgutil

from vit_perception import tokens
from vit_perception.config.settings import EncoderSettings
from vit_perception.tokens.source import TokenSource, registered

for _module in pkgutil.iter_modules(tokens.__path__, f"{tokens.__name__}."):
    importlib.import_module(_module.name)


def sources_of(settings: EncoderSettings) -> tuple[TokenSource, ...]:
    """Return every source that ``settings`` name, in the order of the sequence."""
    return tuple(source for kind in registered() for source in kind.of(settings))


def sources_by_kind(
    settings: EncoderSettings,
) -> list[tuple[type[TokenSource], list[TokenSource]]]:
    """Return each kind with its sources, also a kind without any."""
    return [(kind, kind.of(settings)) for kind in registered()]
