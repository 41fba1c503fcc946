"""What the outputs of a pipeline mean, as the layout says it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vit_perception.config.settings import EncoderSettings
from vit_perception.engines.select import OpenedEngine
from vit_perception.heads.classification import distinct_names
from vit_perception.image.preprocess import Preprocessor
from vit_perception.pipeline.encoders import EncoderParts
from vit_perception.pipeline.parts import Parts
from vit_perception.tokens.kinds import sources_by_kind, sources_of
from vit_perception.tokens.source import TokenRows, TokenSource
from vit_perception.wire.layout import (
    Layout,
    LayoutApart,
    LayoutBasis,
    LayoutCamera,
    LayoutDense,
    LayoutGroup,
)
from vit_perception.wire.layout_encoders import LayoutConnector, LayoutEncoder, LayoutView
from vit_perception.wire.layout_history import step_name
from vit_perception.wire.records import RgbImage, TokenGroup, TokenSequence, group_name


def rows_of(
    parts: Parts, sources: Sequence[TokenSource], apart: bool = False
) -> list[tuple[TokenSource, TokenRows]]:
    """Every group of rows that ``sources`` contribute: those in the sequence, or those apart."""
    return [
        (source, rows)
        for source in sources
        for rows in source.token_rows(parts.grids, parts.tokenizers)
        if (rows.width_apart is not None) == apart
    ]


def layout_groups(
    parts: Parts, sources: Sequence[TokenSource], frames: int = 1
) -> tuple[LayoutGroup, ...]:
    """Every group of the sequence in its order, one after another, of ``frames`` frames."""
    groups: list[LayoutGroup] = []
    for step in range(frames - 1, -1, -1):
        for source, rows in rows_of(parts, sources):
            start = groups[-1].stop if groups else 0
            group = LayoutGroup(
                name=step_name(group_name(source.name, rows.kind, rows.encoder), step),
                kind=rows.kind,
                source=source.name,
                start=start,
                stop=start + rows.count,
                grid=rows.grid,
                encoder=rows.encoder,
                step=step,
            )
            groups.append(group)
    return tuple(groups)


def layout_apart(parts: Parts, sources: Sequence[TokenSource]) -> tuple[LayoutApart, ...]:
    """Every group that has a topic of its own."""
    return tuple(
        LayoutApart(
            name=f"{source.name}/{rows.kind}",
            kind=rows.kind,
            source=source.name,
            rows=rows.count,
            width=rows.width_apart or 0,
        )
        for source, rows in rows_of(parts, sources, apart=True)
    )


def embedding_width(parts: Parts, sources: Sequence[TokenSource]) -> int:
    """What the fusion makes of a sequence in which everything is missing is as wide as any
    other.
    """
    empty = [
        TokenGroup(
            kind=rows.kind,
            source=source.name,
            tokens=np.zeros((rows.count, parts.width), np.float32),
            valid=False,
            embedded=rows.embedded,
            encoder=rows.encoder,
        )
        for source, rows in rows_of(parts, sources)
    ]
    return len(parts.fusion.embedding(TokenSequence.of(empty)))


def layout_dense(parts: Parts) -> LayoutDense | None:
    """What the dense output is, where it is enabled."""
    if parts.dense is None:
        return None
    spec = parts.dense.spec
    return LayoutDense(
        kind=spec.kind,
        quantity=spec.quantity,
        unit=spec.unit,
        blocks=spec.blocks,
        labels=spec.labels,
        no_label=parts.dense.no_label,
    )


def layout_connector(parts: Parts | EncoderParts) -> LayoutConnector | None:
    """What stands behind the encoder, where something does."""
    spec = parts.connector
    if spec is None:
        return None
    return LayoutConnector(
        widths=spec.widths,
        shuffle=spec.shuffle,
        scale=spec.scale,
        joined=parts.joined,
        left_out=spec.left_out,
    )


def layout_cameras(
    settings: EncoderSettings,
    parts: Parts,
    preprocess: Preprocessor,
    images: Mapping[str, RgbImage],
) -> Iterator[LayoutCamera]:
    """Every camera's geometry, as far as one of ``images`` has shown it, and labels."""
    rule = parts.card.rule
    for camera in settings.cameras:
        seen: dict[str, Any] = {"roi": camera.roi or None, "rectified": camera.rectify}
        image = images.get(camera.name)
        if image is not None:
            plan = preprocess.plan(image.size, camera.region)
            seen |= {"source_size_px": image.size, "scale": plan.scale, "offset_px": plan.offset_px}
        yield LayoutCamera(
            name=camera.name,
            frame_id=image.frame_id if image else "",
            fit=rule.fit,
            network_size_px=rule.network_size_px,
            patch_size_px=parts.patch_size_px,
            labels=distinct_names(parts.labels_of(camera)),
            scores=parts.scores_of(camera.name),
            **seen,
        )


def layout_encoders(
    settings: EncoderSettings,
    parts: Parts,
    preprocess: Sequence[Preprocessor],
    images: Mapping[str, RgbImage],
    opened: Sequence[OpenedEngine],
) -> Iterator[LayoutEncoder]:
    """Every encoder where there are several, with the geometry of the cameras in ``images``."""
    if len(parts.encoders) == 1:
        return
    for encoder, resize, its_engine in zip(parts.encoders, preprocess, opened, strict=True):
        card = encoder.card
        plans = {
            c.name: resize.plan(images[c.name].size, c.region)
            for c in settings.cameras
            if c.name in images
        }
        yield LayoutEncoder(
            name=encoder.name,
            model=card.name,
            weights_sha256=card.weights_sha256,
            encoder_sha256=encoder.encoder_sha256,
            block=encoder.block,
            width=encoder.width,
            grid=encoder.grid,
            patch_size_px=encoder.patch_size_px,
            network_size_px=card.rule.network_size_px,
            fit=card.rule.fit,
            interpolation=card.rule.interpolation,
            mean=card.mean,
            std=card.std,
            runtime=its_engine.engine.runtime,
            precision=its_engine.engine.precision,
            connector=layout_connector(encoder),
            views=tuple(
                LayoutView(camera, plan.scale, plan.offset_px) for camera, plan in plans.items()
            ),
        )


def layout_of(
    *,
    settings: EncoderSettings,
    parts: Parts,
    preprocess: Sequence[Preprocessor],
    images: Mapping[str, RgbImage],
    opened: Sequence[OpenedEngine],
) -> Layout:
    """The layout of the outputs that ``settings`` and ``parts`` give on the engines ``opened``.

    ``preprocess`` and ``opened`` are in the order of the encoders.
    """
    sources = sources_of(settings)
    engine = opened[0].engine
    min_cosine = min(each.report.min_cosine for each in opened)
    return Layout(
        groups=layout_groups(parts, sources, settings.history.frames),
        apart=layout_apart(parts, sources),
        cameras=tuple(layout_cameras(settings, parts, preprocess[0], images)),
        width=parts.width,
        dtype=settings.output.dtype,
        model=parts.card.name,
        weights_sha256=parts.card.weights_sha256,
        encoder_sha256=parts.encoder_sha256,
        block=parts.block,
        runtime=engine.runtime,
        precision=engine.precision,
        min_cosine=round(min_cosine, 6),
        fusion=parts.fusion.kind,
        fusion_weights_sha256=parts.fusion.weights_sha256,
        embedding_width=embedding_width(parts, sources),
        dense=layout_dense(parts),
        basis=LayoutBasis(parts.basis.sha256, parts.basis.dims) if parts.basis else None,
        connector=layout_connector(parts),
        encoders=tuple(layout_encoders(settings, parts, preprocess, images, opened)),
        history=settings.history.rule,
        **source_fields(settings, parts),
    )


def source_fields(settings: EncoderSettings, parts: Parts) -> dict[str, Any]:
    """What the layout says of the sources other than cameras."""
    fields: dict[str, Any] = {"sources": ()}
    for kind, sources in sources_by_kind(settings):
        found = kind.layout_fields(sources, settings, parts.tokenizers)
        fields["sources"] += found.pop("sources", ())
        fields |= found
    return fields
