"""The engines of several encoders: found in the cache, opened and closed together."""

import numpy as np
import pytest

from test.pipeline.several_encoders import MESSAGES, open_closed, open_pipeline, run
from vit_perception.config.settings import EngineSettings
from vit_perception.engines.engine import EngineError
from vit_perception.pipeline import encoders
from vit_perception.pipeline.frame_state import copied
from vit_perception.wire.records import EncoderOutput


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_an_engine_is_that_of_a_node_with_the_checkpoint_alone(
    backend, tiny_checkpoint, tiny_second, tmp_path, monkeypatch
):
    """What one has built the other finds; tokens are equal to the bit."""
    pytest.importorskip(backend, reason=f"{backend} is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    engine = EngineSettings(backend, "float32")
    with open_closed(tiny_second, engine=engine) as own:
        assert own.opened.was_cached is False
        wanted = run(own, MESSAGES).cameras["a"].patch_tokens.copy()
    with open_closed(tiny_checkpoint, tiny_second, engine=engine) as pipeline:
        assert [opened.was_cached for opened in pipeline.every_opened] == [False, True]
        layout = pipeline.layout()
        tokens = layout.split(run(pipeline, MESSAGES).sequence.tokens)["a/tiny_vit/patch"]
        np.testing.assert_array_equal(tokens, wanted)
        assert [e.runtime.split()[0] for e in layout.encoders] == [backend] * 2


def test_a_second_engine_that_does_not_open_leaves_none_open(
    tiny_checkpoint, tiny_second, monkeypatch
):
    opened = []
    really = encoders.open_engine

    def second_fails(settings, loaded, batch, **arguments):
        if opened:
            raise EngineError("no memory for the second")
        opened.append(really(settings, loaded, batch, **arguments))
        return opened[0]

    monkeypatch.setattr(encoders, "open_engine", second_fails)
    with pytest.raises(EngineError, match="no memory for the second"):
        open_pipeline(tiny_checkpoint, tiny_second)
    with pytest.raises(EngineError, match="not open"):
        opened[0].engine.infer(np.zeros((2, 3, 56, 56), np.uint8))


def test_every_engine_is_closed_also_if_closing_one_fails(
    tiny_checkpoint, tiny_second, monkeypatch
):
    pipeline = open_pipeline(tiny_checkpoint, tiny_second)
    first, second = (opened.engine for opened in pipeline.every_opened)

    def fails():
        raise RuntimeError("the runtime's own")

    monkeypatch.setattr(first, "close", fails)
    with pytest.raises(RuntimeError, match="the runtime's own"):
        pipeline.close()
    with pytest.raises(EngineError, match="not open"):
        second.infer(np.zeros((2, 3, 48, 48), np.uint8))


def test_the_engine_that_fails_is_the_one_in_hand(tiny_checkpoint, tiny_second, monkeypatch):
    with open_closed(tiny_checkpoint, tiny_second) as pipeline:
        second = pipeline.every_opened[1].engine

        def fails(images):
            raise RuntimeError("gone")

        monkeypatch.setattr(second, "infer", fails)
        with pytest.raises(RuntimeError, match="gone"):
            pipeline.encode(pipeline.prepare(MESSAGES))
        assert pipeline.engine_in_hand is second
        assert pipeline.what_runs().count(" on torch ") == 2


def test_a_copy_of_the_output_has_every_encoders():
    def output(value, more=()):
        return EncoderOutput(*(np.full((1, 2, 2), value, np.float32) for _ in range(3)), more=more)

    kept = copied(output(1, (output(2),)), None)
    again = copied(output(3, (output(4),)), kept)
    assert again is kept and [each.patch_tokens.max() for each in kept.each] == [3, 4]
