"""The tokens of earlier frames beside those of the current one, and what ends them."""

from dataclasses import replace

import numpy as np
import pytest

from test.pipeline.test_pipeline import open_pipeline, run
from test.plain_messages import image_message
from vit_perception.config.history_settings import HistorySettings
from vit_perception.config.settings import BadSetting, CameraSettings, PoseSettings, SyncSettings
from vit_perception.pipeline import history as history_module
from vit_perception.pipeline.history import PERIOD_FRAMES, TokenHistory
from vit_perception.wire.layout import Layout
from vit_perception.wire.layout_history import LayoutHistory
from vit_perception.wire.records import Pose, SampleAtImage

MS = 1_000_000
START_NS = 7_000_000_000


@pytest.fixture(scope="module")
def opened(tiny_checkpoint):
    made = open_pipeline(
        tiny_checkpoint,
        poses=(PoseSettings("arm", "/pose", "base"),),
        sync=SyncSettings(policy="mask"),
        history=HistorySettings(frames=3, stride_s=0.1),
    )
    yield made
    made.close()


@pytest.fixture
def pipeline(opened):
    opened.history.clear()
    return opened


@pytest.fixture(scope="module")
def plain(tiny_checkpoint):
    """The same without a history."""
    made = open_pipeline(
        tiny_checkpoint,
        poses=(PoseSettings("arm", "/pose", "base"),),
        sync=SyncSettings(policy="mask"),
    )
    yield made
    made.close()


def frame(pipeline, at_ms, cameras=("a", "b"), pose=True, size_px=(48, 64)):
    """The result of one frame whose images and pose belong to its time alone."""
    stamp_ns = START_NS + at_ms * MS
    messages = {c: image_message(stamp_ns, seed=at_ms + ord(c), size_px=size_px) for c in cameras}
    x_m = at_ms / 1000
    value = Pose(np.array([x_m, 0.0, 0.5]), np.array([0.0, 0.0, 0.0, 1.0]), stamp_ns, "base")
    found = SampleAtImage(value if pose else None, "interpolated" if pose else "missing", None)
    return run(pipeline, messages, {"arm": found})


def stamps_ms(result):
    return [(s - START_NS) // MS if s else None for s in result.history_stamps_ns]


def test_tokens_are_those_of_the_frames_at_each_age_to_the_bit(pipeline, plain):
    frames = {at: frame(plain, at).sequence for at in range(0, 450, 50)}
    for at in frames:
        result = frame(pipeline, at)
        wanted = [at - 200, at - 100, at]
        assert stamps_ms(result) == [t if t >= 0 else None for t in wanted]
        layout = pipeline.layout()
        steps = layout.steps(result.sequence.tokens)
        masks = layout.steps(result.sequence.mask)
        for t, tokens, mask in zip(wanted, steps, masks):
            if t >= 0:
                np.testing.assert_array_equal(tokens, frames[t].tokens)
                np.testing.assert_array_equal(mask, frames[t].mask)
            else:
                assert not tokens.any() and not mask.any()


def test_the_embedding_and_the_frames_own_outputs_have_no_history(pipeline, plain):
    frame(pipeline, 0)
    result, alone = frame(pipeline, 100), frame(plain, 100)
    np.testing.assert_array_equal(result.embedding, alone.embedding)
    assert list(result.poses) == ["arm"]
    assert pipeline.layout().embedding_width == plain.layout().embedding_width


def test_the_layout_has_the_groups_of_each_step_and_without_history_is_unchanged(pipeline, plain):
    layout = pipeline.layout()
    assert Layout.from_json(layout.to_json()) == layout
    assert layout.history == LayoutHistory(3, 0.1, 0.05)
    assert layout.token_count == 3 * plain.layout().token_count
    groups = frame(pipeline, 0).sequence.groups
    assert [(g.name, g.step) for g in groups] == [
        (g.name.split("@")[0], g.step) for g in layout.groups
    ]
    assert layout.samples == plain.layout().samples
    assert plain.layout().history is None


def test_a_missing_camera_or_pose_stays_missing_in_later_frames(pipeline):
    frame(pipeline, 0, cameras=("b",), pose=False)
    result = frame(pipeline, 100)
    layout = pipeline.layout()
    mask = layout.split(result.sequence.mask)
    assert not mask["a/patch@1"].any() and not mask["arm/pose@1"].any()
    assert mask["b/patch@1"].all() and mask["a/patch"].all() and mask["arm/pose"].all()


@pytest.mark.parametrize("back_ms", [0, 1, 50, 5000])
def test_a_step_back_in_time_ends_the_history(pipeline, back_ms):
    for at in (5000, 5100, 5200):
        frame(pipeline, at)
    result = frame(pipeline, 5200 - back_ms)
    assert stamps_ms(result) == [None, None, 5200 - back_ms]
    assert pipeline.history.frames == 1


def test_a_gap_masks_the_steps_in_it(pipeline):
    for at in (0, 100):
        frame(pipeline, at)
    assert stamps_ms(frame(pipeline, 300)) == [100, None, 300]
    assert stamps_ms(frame(pipeline, 9000)) == [None, None, 9000]
    assert pipeline.history.frames == 1, "older frames are not kept"


def test_frames_of_another_image_size_are_masked(pipeline):
    frame(pipeline, 0)
    frame(pipeline, 100, cameras=("b",))
    # Only b has changed, and a was in none of the frames beside it.
    assert stamps_ms(frame(pipeline, 200, size_px=(40, 60))) == [None, None, 200]
    frame(pipeline, 300, cameras=("a",), size_px=(40, 60))
    assert stamps_ms(frame(pipeline, 400, cameras=("b",), size_px=(40, 60))) == [200, 300, 400]


def test_a_kept_frame_is_no_view_of_the_engines_output(pipeline):
    """The engine writes its next output where this one is."""
    first = frame(pipeline, 0)
    kept = first.sequence.tokens.copy()
    of_the_engine = [
        array for c in first.cameras.values() for array in (c.patch_tokens, c.cls_token)
    ]
    for group in first.sequence.groups:
        assert not any(np.shares_memory(group.tokens, array) for array in of_the_engine)
    second = frame(pipeline, 100)
    rows = len(kept) // 3
    np.testing.assert_array_equal(second.sequence.tokens[rows : 2 * rows], kept[-rows:])


def test_a_stride_below_the_period_of_the_frames_is_said(pipeline):
    for k in range(PERIOD_FRAMES):
        frame(pipeline, 150 * k)
        assert not pipeline.history.complaint
    frame(pipeline, 150 * PERIOD_FRAMES)
    said = pipeline.history.complaint
    assert said.startswith("history.stride_s is 0.1, and frames come every 0.15 s")
    assert "accepted: at least the time between two frames" in said and "\n" not in said
    pipeline.history.clear()
    assert not pipeline.history.complaint


def one_row(of: TokenHistory, plain, at_ms):
    sequence = frame(plain, 0).sequence
    return of.extended(sequence, START_NS + at_ms * MS, {})


def test_a_history_longer_than_the_buffer_is_said_and_memory_is_bounded(plain, monkeypatch):
    monkeypatch.setattr(history_module, "MOST_KEPT_FRAMES", 10)
    history = TokenHistory(LayoutHistory.of(2, 0.2), frame_bytes=100)
    for k in range(21):
        one_row(history, plain, 10 * k)
    assert history.frames == 10
    said = history.complaint
    assert "history.frames is 2 with a stride of 0.2 s" in said and "reach back 0.09 s" in said
    # At a lower rate the same frames reach back far enough.
    for k in range(21):
        one_row(history, plain, 1000 + 50 * k)
    assert not history.complaint and history.frames <= 10


def test_more_memory_than_there_may_be_is_refused_before_an_engine_is_opened(monkeypatch):
    monkeypatch.setattr(history_module, "MOST_KEPT_BYTES", 4 << 20)
    TokenHistory(LayoutHistory.of(4, 0.1), frame_bytes=1 << 20)
    with pytest.raises(BadSetting, match="'history.frames' is 5; accepted: 1 to 4: .*1 MiB"):
        TokenHistory(LayoutHistory.of(5, 0.1), frame_bytes=1 << 20)


def test_what_is_kept_is_every_frame_of_the_span_and_no_more(plain):
    history = TokenHistory(LayoutHistory.of(3, 0.1), frame_bytes=100)
    for k in range(100):
        one_row(history, plain, 10 * k)
    # (K - 1) strides and the tolerance: 250 ms, at 100 Hz, both ends included.
    assert history.frames == 26
    assert history.frames_before(10 * MS) >= history.frames - 1
    assert TokenHistory(None, 100).frames_before(10 * MS) == 0


def test_one_frame_is_off(plain):
    result = frame(plain, 0)
    assert result.history_stamps_ns == () and plain.history.frames == 0


def test_every_camera_alone_is_a_history_too(tiny_checkpoint):
    made = open_pipeline(
        tiny_checkpoint,
        (CameraSettings("a", "/a"),),
        history=replace(HistorySettings(), frames=2),
    )
    for at in (0, 200):
        result = run(made, {"a": image_message(START_NS + at * MS, seed=at)})
    assert result.sequence.mask.all() and len(result.sequence.mask) == 2 * 17
    made.close()
