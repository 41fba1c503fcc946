"""Pipelines with several encoders, and images for them."""

from test.plain_messages import image_message
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.pipeline.pipeline import Pipeline

STAMP_NS = 7_000_000_000
CAMERAS = (CameraSettings("a", "/a"), CameraSettings("b", "/b"))
ENGINE = EngineSettings("torch", "float32")


def settings_of(checkpoint, *more, cameras=CAMERAS, engine=ENGINE, model=None, **settings):
    chosen = ModelSettings(str(checkpoint), more_checkpoints=tuple(map(str, more)), **(model or {}))
    return EncoderSettings(cameras, model=chosen, engine=engine, **settings)


def open_pipeline(*arguments, **settings) -> Pipeline:
    return Pipeline.open(settings_of(*arguments, **settings))


def run(pipeline, messages):
    prepared = pipeline.prepare(messages)
    return pipeline.assemble(prepared, pipeline.encode(prepared), {})


MESSAGES = {"a": image_message(STAMP_NS, seed=1), "b": image_message(STAMP_NS, seed=2)}


class open_closed:
    """``with open_closed(...) as pipeline``: closed in the end."""

    def __init__(self, *arguments, **settings):
        self._pipeline = open_pipeline(*arguments, **settings)

    def __enter__(self) -> Pipeline:
        return self._pipeline

    def __exit__(self, *raised) -> None:
        self._pipeline.close()
