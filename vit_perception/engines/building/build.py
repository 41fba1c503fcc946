"""Engines built ahead of the first start: on this machine, or for GPUs that it does not have."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vit_perception.config.settings import BadSetting, EncoderSettings, EngineSettings
from vit_perception.engines.engine import EngineError
from vit_perception.engines.select import OpenedEngine, open_engine
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.engines.tensorrt.build import BuildOptions
from vit_perception.engines.tensorrt.cached import cached_engine
from vit_perception.files.log import SILENT, Log

if TYPE_CHECKING:
    from vit_perception.checkpoints.sources import LoadedModel

PROVEN = "proven"
TO_BE_PROVEN = "to be proven on the GPU"


@dataclass(frozen=True)
class BuildResult:
    """One engine that was built ahead."""

    # Runtime, precision and target, for people.
    what: str
    # The engine's file; None if the runtime keeps none.
    path: Path | None
    # Whether it was in the cache already; None for a runtime that keeps nothing there.
    cached: bool | None
    parity: Literal["proven", "to be proven on the GPU"]
    # Of the parity report; "" if it is not proven.
    figures: str = ""


def build_ahead(
    settings: EngineSettings,
    loaded: "LoadedModel",
    batch: int,
    *,
    block: int = -1,
    size_px: tuple[int, int] | None = None,
    targets: tuple[str, ...] = (),
    dense: bool = False,
    log: Log = SILENT,
) -> tuple[BuildResult, ...]:
    """Build what ``settings`` would open for ``batch`` images; the first start finds it cached.

    Without ``targets`` the engine is opened here and passes the parity gate: it is ``proven``.
    ``targets`` are compute capabilities, for ``tensorrt_rtx`` alone. Then one engine is built for
    each, on any machine. The first start on such a GPU proves it, and builds another form of
    attention if it fails. ``size_px`` (H, W) replaces the network size of the checkpoint's card.
    ``dense`` is for a node with ``dense.enabled``. ``log`` gets what happens.

    Raises:
        EngineError: Nothing opens, a target or precision does not exist, or the size does not fit
            the patch.
    """
    loaded = with_network_size(loaded, size_px) if size_px else loaded
    if not targets:
        opened = open_engine(settings, loaded, batch, block=block, dense=dense, log=log)
        return (_closed(opened),)
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
        check_memory=settings.check_memory,
    )
    return tuple(
        _build_for(target, settings.precision, source) for target in dict.fromkeys(targets)
    )


def _closed(opened: OpenedEngine) -> BuildResult:
    """Close an engine that was opened here, and so is proven."""
    engine = opened.engine
    what = str(engine)
    path = engine.file
    engine.close()
    return BuildResult(what, path, opened.was_cached, PROVEN, str(opened.report))


def _build_for(target: str, precision: str, source: EngineSource) -> BuildResult:
    api = tensorrt_api.load_api("tensorrt_rtx")
    known = tensorrt_api.targets_of(api)
    if target not in known:
        raise EngineError(
            f"compute capability {target} is not a target of tensorrt_rtx {api.__version__}; "
            f"accepted: {', '.join(known)}"
        )
    native = tensorrt_api.precisions_of(target)
    precision = native[0] if precision == "auto" else precision
    if precision not in native:
        raise EngineError(
            f"engine.precision is {precision!r} for compute capability {target}; accepted: "
            f"{', '.join(native)}"
        )
    path, was_cached = cached_engine(
        source,
        precision=precision,
        attention="half",
        options=BuildOptions("tensorrt_rtx", (target,)),
        gpu=None,
    )
    what = f"tensorrt_rtx {api.__version__} {precision} for compute capability {target}"
    return BuildResult(what, path, was_cached, TO_BE_PROVEN)


def fitted_to(settings: EncoderSettings, loaded: "LoadedModel") -> "LoadedModel":
    """Return ``loaded`` with the network size of ``settings``.

    Raises:
        BadSetting: The checkpoint has no dense head, or its patches do not fit the size.
    """
    if settings.dense.enabled and loaded.dense is None:
        raise BadSetting(
            "dense.enabled",
            True,
            f"false with {settings.model.checkpoint}, which has no dense head; DPT "
            "and Depth Anything checkpoints have one",
        )
    if settings.model.network_size_px is None:
        return loaded
    if accepted := _accepted_sizes(loaded, settings.model.network_size_px):
        raise BadSetting("model.network_size", settings.model.network_size, accepted)
    return with_network_size(loaded, settings.model.network_size_px)


def _accepted_sizes(loaded: "LoadedModel", size_px: tuple[int, int]) -> str:
    """Say which sizes are accepted in place of ``size_px``; "" if it fits the patches."""
    patch_px = loaded.model.config.patch_size_px
    if all(side >= patch_px and side % patch_px == 0 for side in size_px):
        return ""
    return f"multiples of the patch size {patch_px}"


def with_network_size(loaded: "LoadedModel", size_px: tuple[int, int]) -> "LoadedModel":
    """Return ``loaded`` for images of ``size_px`` (H, W).

    If the card crops, the shortest edge before the crop scales along.

    Raises:
        EngineError: A side is not a multiple of the patch size.
    """
    if accepted := _accepted_sizes(loaded, size_px):
        raise EngineError(f"the size is {size_px[0]} x {size_px[1]} px; accepted: {accepted}")
    rule = loaded.card.rule
    edge = rule.resize_shortest_edge_px
    if edge is not None:
        edge = round(edge * max(new / old for new, old in zip(size_px, rule.network_size_px)))
    card = replace(
        loaded.card,
        rule=replace(rule, network_size_px=tuple(size_px), resize_shortest_edge_px=edge),
    )
    return replace(loaded, card=card)
