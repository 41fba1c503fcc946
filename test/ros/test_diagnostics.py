"""What `/diagnostics` says of the engine."""

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
