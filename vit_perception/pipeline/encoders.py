"""The encoders of a pipeline: what each checkpoint gives, and an engine for each.

Several encoders are several engines, run one after another. So an engine is the same as in a node
of its own: same key in the cache, same file, same parity figures, and a build ahead serves both.
In one graph for all, a drift of one would be hidden by the other, each change of one would build
all anew, and the memory of a build would be that of all together.
"""

import re
from collections.abc import Sequence
from dataclasses import replace

from vit_perception.checkpoints.families import AUTO
from vit_perception.checkpoints.sources import LoadedModel, load_checkpoint
from vit_perception.config.checks import BadSetting
from vit_perception.config.settings import EncoderSettings
from vit_perception.engines.building.build import fitted_to
from vit_perception.engines.reference import encoder_digest
from vit_perception.engines.select import OpenedEngine, open_engine
from vit_perception.files.log import Log
from vit_perception.tokens.frame import EncoderGrid

_LONGEST_NAME = 64


class EncoderParts:
    """What one checkpoint gives to the layout and to the tokens, on the size of its card.

    ``name`` is empty if it is the only encoder.

    Raises:
        BadSetting: It has no block ``model.block``.
    """

    def __init__(self, settings: EncoderSettings, loaded: LoadedModel, name: str = ""):
        config = loaded.model.config
        self.name = name
        self.card = loaded.card
        self.width = config.width
        self.patch_size_px = config.patch_size_px
        self.grid = config.grid_of(*self.card.rule.network_size_px)
        self.connector = loaded.connector.spec if loaded.connector else None
        # Channels of each encoder whose tokens stand side by side; empty for one.
        self.joined = (config.width, loaded.second.model.config.width) if loaded.second else ()
        if self.connector is not None:
            # Tokens are those behind it: fewer, each of a square of patches.
            self.width = self.connector.width
            self.patch_size_px *= self.connector.shuffle
            self.grid = self.connector.grid_of(self.grid)
        if settings.model.block not in range(-config.depth, config.depth):
            raise BadSetting(
                "model.block",
                settings.model.block,
                f"a block from {-config.depth} to {config.depth - 1}"
                + (f", of {name} as of every other encoder" if name else ""),
            )
        self.block = range(config.depth)[settings.model.block]
        self.encoder_sha256 = encoder_digest(loaded, self.block)
        # Whether the checkpoint has a classifier.
        self.classifies = loaded.model.head is not None

    @property
    def for_sources(self) -> EncoderGrid:
        """What token sources have to know of it."""
        return EncoderGrid(self.grid, self.name)


def load_encoders(
    settings: EncoderSettings, log: Log, loaded: LoadedModel | None = None
) -> tuple[LoadedModel, ...]:
    """Load every checkpoint of ``settings``, fitted to them, and without what is not used.

    ``loaded`` is the first checkpoint if it is loaded already. ``model.family``, the dense head and
    what is given of the preprocessing are the first's; ``model.network_size``, block and connector
    are of all.

    Raises:
        CheckpointError: A checkpoint cannot be read.
        BadSetting: A checkpoint does not fit the settings.
    """
    model = settings.model
    if loaded is None:
        log.info(f"loading checkpoint {model.checkpoint}")
        loaded = load_checkpoint(model.checkpoint, model.family, model.by_hand)
    fitted = [fitted_to(settings, loaded)]
    for checkpoint in model.more_checkpoints:
        log.info(f"loading checkpoint {checkpoint}")
        # As settings of its own, which errors then name. Preprocessing is not given by hand here.
        own = replace(model, checkpoint=checkpoint, more_checkpoints=(), family=AUTO)
        alone = replace(
            settings,
            model=replace(own, mean=(), std=(), size=()),
            dense=replace(settings.dense, enabled=False),
        )
        fitted.append(fitted_to(alone, load_checkpoint(checkpoint, by_hand=None)))
    return tuple(fitted)


def encoder_parts(
    settings: EncoderSettings, loaded: Sequence[LoadedModel]
) -> tuple[EncoderParts, ...]:
    """Return the parts of each encoder, whose tokens can stand in one sequence.

    Raises:
        BadSetting: An encoder has no such block, or the widths of their tokens differ.
    """
    if len(loaded) == 1:
        return (EncoderParts(settings, loaded[0]),)
    names = names_of([each.card.name for each in loaded])
    parts = tuple(EncoderParts(settings, each, name) for each, name in zip(loaded, names))
    if len({each.width for each in parts}) > 1:
        raise BadSetting(
            "model.more_checkpoints",
            list(settings.model.more_checkpoints),
            "checkpoints whose tokens have one width, as all rows of ~/tokens have; these have "
            f"{', '.join(f'{each.width} ({each.name})' for each in parts)}. Take models of one "
            "size or policies of one language model (with model.connector: auto), or start a node "
            "for each encoder",
        )
    return parts


def names_of(models: Sequence[str]) -> list[str]:
    """Return a name for each of ``models``, the names of checkpoints, that differ from each other.

    A name is the last part of the checkpoint's, in letters, digits, ``.``, ``-`` and ``_``.
    """
    names: list[str] = []
    for model in models:
        last = model.rstrip("/").rsplit("/", 1)[-1][:_LONGEST_NAME]
        name = base = re.sub(r"[^\w.-]", "_", last, flags=re.ASCII) or "encoder"
        count = 1
        while name in names:
            count += 1
            name = f"{base}_{count}"
        names.append(name)
    return names


def open_engines(
    settings: EncoderSettings, loaded: Sequence[LoadedModel], log: Log, frames: int = 1
) -> tuple[OpenedEngine, ...]:
    """Open an engine for each of ``loaded``, of which the first may have a dense head.

    Each takes the images of ``frames`` frames in one run.

    Raises what :func:`vit_perception.engines.select.open_engine` raises; nothing stays open then.
    """
    opened: list[OpenedEngine] = []
    try:
        for index, each in enumerate(loaded):
            if len(loaded) > 1:
                log.info(f"engine {index + 1} of {len(loaded)}, for {each.card.name}")
            opened.append(
                open_engine(
                    settings.engine,
                    each,
                    batch=frames * len(settings.cameras),
                    block=settings.model.block,
                    log=log,
                    dense=settings.dense.enabled and index == 0,
                    cameras=settings.cameras,
                )
            )
    except BaseException:
        close_engines(opened)
        raise
    return tuple(opened)


def close_engines(opened: Sequence[OpenedEngine]) -> None:
    """Close every engine, also if closing one fails; the first failure is raised in the end.

    Raises what an engine's runtime raises.
    """
    failures: list[Exception] = []
    for each in opened:
        try:
            each.engine.close()
        except Exception as error:
            failures.append(error)
    if failures:
        raise failures[0]
