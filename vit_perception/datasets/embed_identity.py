"""What the features of a run depend on: a run is resumed only if it is the same."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from vit_perception.config.input_qos import forget_live_only
from vit_perception.datasets.embed_columns import COLUMNS_VERSION
from vit_perception.datasets.embed_options import EmbedOptions
from vit_perception.datasets.embed_sources import Source
from vit_perception.engines.encoder_graph import GRAPH_VERSION
from vit_perception.pipeline.pipeline import Pipeline


def run_of(pipeline: Pipeline, sources: Sequence[Source], options: EmbedOptions) -> dict[str, Any]:
    """Return everything that the features depend on; a run is resumed only if it is the same."""
    engine = pipeline.engine
    settings = asdict(pipeline.settings)
    if not settings["extra"]:
        del settings["extra"]  # runs of earlier versions can go on
    forget_live_only(settings)
    for camera in settings["cameras"]:
        if not camera["depth_topic"]:
            del camera["depth_max_skew_s"]
        for later in ("roi", "rectify", "camera_info_topic", "depth_topic"):
            if not camera[later]:
                del camera[later]
    # The statistics of the state are in no other digest. Of a basis the digest counts, no path.
    given = pipeline.layout().policy_state
    of_policy = {"policy_state_sha256": given.sha256} if given else {}
    del settings["output"]["basis"]
    of_basis = {"basis_sha256": pipeline.parts.basis.sha256} if pipeline.parts.basis else {}
    if given is None:
        del settings["policy"]
    if not settings["columns"]:
        del settings["columns"]
    if settings["history"]["frames"] == 1:
        del settings["history"]
    for name in ("more_checkpoints", "mean", "std", "size"):
        if not settings["model"][name]:
            del settings["model"][name]
    run = {
        "columns_version": COLUMNS_VERSION,
        "graph_version": GRAPH_VERSION,
        "file_format": options.file_format,
        "features": list(options.chosen),
        "node": options.node,
        "shard_bytes": options.shard_bytes,
        "shard_frames": options.shard_frames,
        "sources": [source.identity() for source in sources],
        "settings": settings,
        "model": pipeline.card.name,
        "weights_sha256": pipeline.card.weights_sha256,
        "encoder_sha256": pipeline.encoder_sha256,
        "runtime": engine.runtime,
        "precision": engine.precision,
        **of_policy,
        **of_basis,
        **_further_encoders(pipeline),
    }
    if options.batch != 1:
        run["batch"] = options.batch
    if options.columns:
        run["columns"] = [column.described() for column in options.columns]
    return run


def _further_encoders(pipeline: Pipeline) -> dict[str, Any]:
    """Return what the features depend on of each encoder but the first; {} if there is one."""
    further = [
        {
            "model": encoder.card.name,
            "weights_sha256": encoder.card.weights_sha256,
            "encoder_sha256": encoder.encoder_sha256,
            "runtime": opened.engine.runtime,
            "precision": opened.engine.precision,
        }
        for encoder, opened in zip(pipeline.parts.encoders[1:], pipeline.every_opened[1:])
    ]
    return {"more_encoders": further} if further else {}
