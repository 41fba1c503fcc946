"""What the outputs of a pipeline mean, as the layout says it."""

from collections.abc import Iterator, Mapping

import numpy as np

from vit_perception.config.settings import EncoderSettings
from vit_perception.heads.classification import distinct_names
from vit_perception.image.preprocess import Preprocessor
from vit_perception.pipeline.parts import Parts
from vit_perception.wire.layout import Layout, LayoutCamera, LayoutDense, LayoutGroup, LayoutState
from vit_perception.wire.records import RgbImage, TokenGroup, TokenSequence


def layout_groups(settings: EncoderSettings, grid: tuple[int, int]) -> Iterator[LayoutGroup]:
    """Every group of the sequence in its order: each camera's CLS and patch tokens, then poses,
    then states.
    """
    start = 0
    for camera in settings.cameras:
        yield LayoutGroup(f"{camera.name}/cls", "cls", camera.name, start, start + 1)
        stop = start + 1 + grid[0] * grid[1]
        yield LayoutGroup(f"{camera.name}/patch", "patch", camera.name, start + 1, stop, grid)
        start = stop
    for kind, sources in (("pose", settings.poses), ("state", settings.states)):
        for source in sources:
            yield LayoutGroup(f"{source.name}/{kind}", kind, source.name, start, start + 1)
            start += 1


def embedding_width(parts: Parts, groups: tuple[LayoutGroup, ...]) -> int:
    """What the fusion makes of a sequence in which everything is missing is as wide as any
    other.
    """
    empty = [
        TokenGroup(
            g.kind, g.source, np.zeros((g.stop - g.start, parts.width), np.float32), valid=False
        )
        for g in groups
    ]
    return len(parts.fusion.embedding(TokenSequence.of(empty)))


def layout_states(settings: EncoderSettings, parts: Parts) -> tuple[LayoutState, ...]:
    """The joints of every state token."""
    return tuple(
        LayoutState(
            s.name, s.joints, s.fields, parts.state_tokenizers[s.name].weights_sha256, s.continuous
        )
        for s in settings.states
    )


def layout_dense(parts: Parts) -> LayoutDense | None:
    """What the dense output is, where it is enabled."""
    if parts.dense is None:
        return None
    spec = parts.dense.spec
    return LayoutDense(
        spec.kind, spec.quantity, spec.unit, spec.blocks, spec.labels, parts.dense.no_label
    )


def layout_cameras(
    settings: EncoderSettings,
    parts: Parts,
    preprocess: Preprocessor,
    sources: Mapping[str, RgbImage],
) -> Iterator[LayoutCamera]:
    """Every camera's geometry, as far as an image of ``sources`` has shown it, and labels."""
    rule = parts.card.rule
    for camera in settings.cameras:
        seen = {}
        image = sources.get(camera.name)
        if image is not None:
            plan = preprocess.plan(image.size)
            seen = {"source_size_px": image.size, "scale": plan.scale, "offset_px": plan.offset_px}
        yield LayoutCamera(
            camera.name,
            image.frame_id if image else "",
            rule.fit,
            rule.network_size_px,
            parts.patch_size_px,
            labels=distinct_names(parts.labels_of(camera)),
            scores=parts.scores_of(camera.name),
            **seen,
        )


def layout_of(
    settings: EncoderSettings,
    parts: Parts,
    preprocess: Preprocessor,
    sources: Mapping[str, RgbImage],
    runtime: str,
    precision: str,
    min_cosine: float,
) -> Layout:
    """The layout of the outputs that ``settings`` and ``parts`` give on the engine described."""
    groups = tuple(layout_groups(settings, parts.grid))
    return Layout(
        groups=groups,
        cameras=tuple(layout_cameras(settings, parts, preprocess, sources)),
        width=parts.width,
        dtype=settings.output.dtype,
        model=parts.card.name,
        weights_sha256=parts.card.weights_sha256,
        encoder_sha256=parts.encoder_sha256,
        block=parts.block,
        runtime=runtime,
        precision=precision,
        min_cosine=round(min_cosine, 6),
        fusion=parts.fusion.kind,
        fusion_weights_sha256=parts.fusion.weights_sha256,
        pose_tokenizer=parts.tokenizer.kind,
        pose_tokenizer_sha256=parts.tokenizer.weights_sha256,
        embedding_width=embedding_width(parts, groups),
        states=layout_states(settings, parts),
        state_tokenizer=settings.fusion.state_tokenizer,
        dense=layout_dense(parts),
    )
