"""Engines built ahead of the first start: on this machine, or for GPUs that it does not have."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vit_perception.config.settings import BadSetting, EncoderSettings, EngineSettings
from vit_perception.engines.engine import EngineError
from vit_perception.engines.select import open_engine
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.engines.tensorrt.build import BuildOptions, cached_engine
from vit_perception.files.errors import InvalidValue

if TYPE_CHECKING:
    from vit_perception.checkpoints.sources import LoadedModel

_log = logging.getLogger(__name__)
PROVEN, TO_BE_PROVEN = "proven", "to be proven on the GPU"


@dataclass(frozen=True)
class BuildResult:
    """One engine: its file (None where the runtime keeps none of its own), whether it was there
    already, its parity.

    ``cached`` is None for a runtime that keeps nothing in the cache. ``what`` names runtime,
    precision and target; ``figures`` are the parity report's, ``""`` where it is not proven.
    """

    what: str
    path: Path | None
    cached: bool | None
    parity: Literal["proven", "to be proven on the GPU"]
    figures: str = ""


def build_ahead(
    settings: EngineSettings,
    loaded: "LoadedModel",
    batch: int,
    block: int = -1,
    size_px: tuple[int, int] | None = None,
    targets: tuple[str, ...] = (),
    log: Callable[[str], None] = _log.info,
    progress: Callable[[str, float], None] = lambda what, fraction: None,
    dense: bool = False,
) -> tuple[BuildResult, ...]:
    """Build what ``settings`` would open for ``batch`` images, so that the first start finds it in
    the cache.

    Without ``targets`` the engine is opened here and passes the parity gate: ``proven``. With
    ``targets`` (compute capabilities, ``tensorrt_rtx`` alone) there is one engine for each, built
    on any machine; the first start on such a GPU proves it, and builds another form of attention
    should that fail. ``size_px`` (H, W) replaces the network size of the checkpoint's card;
    ``dense`` is for a node with ``dense.enabled``. ``log`` hears what happens, ``progress`` how
    much of which engine is built, 0 to 1. Raises EngineError: nothing opens, a target or precision
    that there is not, a size that does not fit the patch.
    """
    loaded = with_network_size(loaded, size_px) if size_px else loaded
    if not targets:
        return (_build_here(settings, loaded, batch, block, log, progress, dense),)
    if settings.backend != "tensorrt_rtx":
        raise EngineError(
            f"engine.backend is {settings.backend!r} with targets {', '.join(targets)}; accepted: "
            "tensorrt_rtx, the only one that builds for GPUs that are not here"
        )
    from vit_perception.engines.reference import graph_of

    source = EngineSource(
        graph_of(loaded, block, dense),
        batch,
        log,
        progress=progress,
        check_memory=settings.check_memory,
    )
    return tuple(
        _build_for(target, settings.precision, source) for target in dict.fromkeys(targets)
    )


def _build_here(
    settings: EngineSettings,
    loaded: "LoadedModel",
    batch: int,
    block: int,
    log: Callable[[str], None],
    progress: Callable[[str, float], None],
    dense: bool,
) -> BuildResult:
    opened = open_engine(settings, loaded, batch, block, log, progress, dense)
    engine = opened.engine
    what, path = str(engine), engine.file
    engine.close()
    return BuildResult(what, path, opened.was_cached, PROVEN, str(opened.report))


def _build_for(target: str, precision: str, source: EngineSource) -> BuildResult:
    api = tensorrt_api.load_api("tensorrt_rtx")
    known = tensorrt_api.targets_of(api)
    if target not in known:
        raise EngineError(
            f"compute capability {target} is not a target of tensorrt_rtx {api.__version__}; "
            "accepted: "
            f"{', '.join(known)}"
        )
    native = tensorrt_api.precisions_of(target)
    precision = native[0] if precision == "auto" else precision
    if precision not in native:
        raise EngineError(
            f"engine.precision is {precision!r} for compute capability {target}; accepted: "
            f"{', '.join(native)}"
        )
    path, was_cached = cached_engine(
        source, precision, "half", BuildOptions("tensorrt_rtx", (target,)), None
    )
    what = f"tensorrt_rtx {api.__version__} {precision} for compute capability {target}"
    return BuildResult(what, path, was_cached, TO_BE_PROVEN)


def fitted_to(settings: EncoderSettings, loaded: "LoadedModel") -> "LoadedModel":
    """``loaded`` on the network size of ``settings``. Raises BadSetting where it cannot do what
    they ask for.
    """
    if settings.dense.enabled and loaded.dense is None:
        raise BadSetting(
            "dense.enabled",
            True,
            f"false with {settings.model.checkpoint}, which has no dense head; DPT "
            "and Depth Anything checkpoints have one",
        )
    if settings.model.connector == "none":
        loaded = replace(loaded, connector=None, second=None)
    if loaded.connector is not None:
        check_block(settings, loaded)
    if settings.model.network_size_px is None:
        return loaded
    try:
        return with_network_size(loaded, settings.model.network_size_px)
    except EngineError as error:
        accepted = str(error).partition("accepted: ")[2]
        raise BadSetting("model.network_size", settings.model.network_size, accepted) from error


def check_block(settings: EncoderSettings, loaded: "LoadedModel") -> None:
    """Raise BadSetting where the connector would get another block's tokens than it was trained
    on.
    """
    depth = loaded.model.config.depth
    if settings.model.block not in (-1, depth - 1):
        raise BadSetting(
            "model.block",
            settings.model.block,
            f"-1 with {settings.model.checkpoint}, whose connector takes the last block's tokens; "
            "or any block with model.connector: none",
        )


def with_network_size(loaded: "LoadedModel", size_px: tuple[int, int]) -> "LoadedModel":
    """``loaded`` on images of ``size_px`` (H, W); the shortest edge before a crop grows and shrinks
    with it.

    Raises EngineError where a side is no multiple of the patch size.
    """
    patch_px, rule = loaded.model.config.patch_size_px, loaded.card.rule
    if any(side < patch_px or side % patch_px for side in size_px):
        raise EngineError(
            f"the size is {size_px[0]} x {size_px[1]} px; accepted: multiples of the patch size "
            f"{patch_px}"
        )
    if loaded.connector is not None:
        try:
            loaded.connector.spec.grid_of(loaded.model.config.grid_of(*size_px))
        except InvalidValue as error:
            raise EngineError(str(error)) from error
    edge = rule.resize_shortest_edge_px
    if edge is not None:
        edge = round(edge * max(new / old for new, old in zip(size_px, rule.network_size_px)))
    card = replace(
        loaded.card,
        rule=replace(rule, network_size_px=tuple(size_px), resize_shortest_edge_px=edge),
    )
    return replace(loaded, card=card)
