"""What `/diagnostics` says of the engine."""

from test.pipeline import test_encoders
from test.pipeline.test_pipeline import open_pipeline
from vit_perception.ros import diagnostics


def test_the_status_of_the_engine_says_what_falls_short(tiny_checkpoint):
    """Regression: an engine that ran without its CUDA graph said so in the log alone."""
    pipeline = open_pipeline(tiny_checkpoint)
    try:
        values = {
            v.key: v.value for v in diagnostics.engine_status("node", pipeline, "runs").values
        }
        assert values["runtime"].startswith("torch ") and "note" not in values
        pipeline.engine.note = "runs without a CUDA graph (the runtime says so)"
        values = {
            v.key: v.value for v in diagnostics.engine_status("node", pipeline, "runs").values
        }
        assert values["note"] == pipeline.engine.note
    finally:
        pipeline.close()


def test_the_status_says_what_runs_of_every_encoder(tiny_checkpoint, tiny_second):
    with test_encoders.open_closed(tiny_checkpoint, tiny_second) as pipeline:
        pipeline.every_opened[1].engine.note = "slower than usual"
        values = {
            v.key: v.value for v in diagnostics.engine_status("node", pipeline, "runs").values
        }
    assert values["model"] == tiny_checkpoint.name and values["tiny_vit.model"] == "tiny vit"
    assert values["tiny_vit.runtime"] == values["runtime"] and "note" not in values
    assert values["tiny_vit.note"] == "slower than usual"
    assert float(values["tiny_vit.min_cosine"]) > 0.9999
