"""Frames that overlap: nothing is mixed, lost or sent out of order, whatever step hangs or fails.

The real pipeline; a test holds one of its steps where it wants it to be.
"""

import threading
from collections import deque

import numpy as np
import pytest

from test.plain_messages import image_message
from test.waiting import HANG_S, wait_until
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
)
from vit_perception.engines.cuda.fault import GpuLost
from vit_perception.pipeline.frame_state import EngineFailed, FrameCalls, Received
from vit_perception.pipeline.frames import FrameLoop
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.pipeline.timing.latencies import StageLatencies
from vit_perception.streams.camera_sync import CameraSync, sync_of
from vit_perception.streams.sample_inputs import SampleInputs

STAMP_NS = 7_000_000_000
MS = 1_000_000


@pytest.fixture
def pipeline(tiny_checkpoint):
    made = Pipeline.open(
        EncoderSettings(
            (CameraSettings("a", "/a"),),
            model=ModelSettings(str(tiny_checkpoint)),
            engine=EngineSettings("torch", "float32"),
        )
    )
    yield made
    made.close()


class Gate:
    """A function that waits until it is let through, once for each :meth:`open`."""

    def __init__(self, function):
        self._function = function
        self._tickets = threading.Semaphore(0)
        self._free = threading.Event()
        self.arrived = 0

    def __call__(self, *arguments):
        self.arrived += 1
        if not self._free.is_set():
            assert self._tickets.acquire(timeout=HANG_S)
        return self._function(*arguments)

    def open(self):
        self._tickets.release()

    def open_for_good(self):
        self._free.set()
        self._tickets.release()


class Running:
    """A loop on a thread of its own, and what it said."""

    def __init__(self, pipeline, overlap=True):
        self.published, self.warned, self.failures = [], [], []
        self.changed = threading.Condition()
        self.sync = CameraSync(["a"], *sync_of(pipeline.settings), 0)
        self.changes = deque()
        self.publish = lambda result: self.published.append(
            (result.stamp_ns, result.sequence.tokens.copy(), result.cameras["a"].cls_token.copy())
        )
        self.loop = FrameLoop(
            pipeline=pipeline,
            sync=self.sync,
            samples=SampleInputs([], self.changed),
            changed=self.changed,
            changes=self.changes,
            overlap=overlap,
            calls=FrameCalls(
                publish=lambda result: self.publish(result),
                warn=lambda cameras, text: self.warned.append((list(cameras), text)),
                failed=self.failures.append,
            ),
            latencies=StageLatencies(),
            camera_latencies={"a": StageLatencies()},
        )
        self.thread = threading.Thread(target=self.loop.run)
        self.thread.start()

    def show(self, k, **changes):
        stamp_ns = STAMP_NS + k * MS
        message = image_message(stamp_ns, seed=k, **changes)
        with self.changed:
            self.sync.add("a", stamp_ns, Received(message, stamp_ns, 0), 0)
            self.changed.notify_all()

    def until(self, done, what):
        wait_until(done, what)

    def end(self):
        self.loop.stop()
        self.thread.join(HANG_S)
        assert not self.thread.is_alive()

    @property
    def account(self):
        return self.sync.accounts["a"]

    def balanced(self):
        account = self.account
        dropped = account.dropped.total()
        return account.received == account.published + dropped + self.sync.pending("a")


@pytest.fixture
def running(pipeline):
    made = Running(pipeline)
    yield made
    made.end()


def hold(monkeypatch, owner, name):
    gate = Gate(getattr(owner, name))
    monkeypatch.setattr(owner, name, gate)
    return gate


def expected(pipeline, k):
    prepared = pipeline.prepare({"a": image_message(STAMP_NS + k * MS, seed=k)})
    result = pipeline.assemble(prepared, pipeline.encode(prepared), {})
    return result.sequence.tokens.copy()


def test_three_frames_are_on_their_way_at_once_and_none_is_mixed_with_another(
    pipeline, running, monkeypatch
):
    wanted = [expected(pipeline, k) for k in range(5)]
    prepare = hold(monkeypatch, pipeline, "prepare")
    infer = hold(monkeypatch, pipeline.engine, "infer")
    publish = hold(monkeypatch, running, "publish")
    for k in range(3):
        running.show(k)
        running.until(lambda k=k: prepare.arrived == k + 1, "the prepare")
        if k == 2:
            break
        prepare.open()
        running.until(lambda k=k: infer.arrived == k + 1, "the run")
        if k == 0:
            infer.open()
            running.until(lambda: publish.arrived == 1, "the publication")
    # 0 is being published, 1 is in the engine, and 2 is being prepared.
    assert (prepare.arrived, infer.arrived, publish.arrived) == (3, 2, 1)
    assert running.account.in_flight == 3 and running.balanced()
    prepare.open_for_good()
    infer.open()
    for k in (3, 4):
        publish.open()
        running.until(lambda k=k: publish.arrived == k - 1, "the next publication")
        running.show(k)
        running.until(lambda k=k: prepare.arrived == k + 1, "the next prepare")
        infer.open()
    publish.open_for_good()
    infer.open_for_good()
    running.until(lambda: running.account.published == 5, "five frames")
    assert [stamp_ns for stamp_ns, *_ in running.published] == [STAMP_NS + k * MS for k in range(5)]
    for (_, tokens, cls_token), right in zip(running.published, wanted, strict=True):
        np.testing.assert_array_equal(tokens, right)
        np.testing.assert_array_equal(cls_token, right[0])
    assert running.balanced() and not running.warned and not running.failures


def test_an_engine_on_all_cores_has_them_for_itself(pipeline, monkeypatch):
    """Regression: the next image was prepared while the engine ran, and was older for nothing."""
    running = Running(pipeline, overlap=False)
    try:
        prepare = hold(monkeypatch, pipeline, "prepare")
        prepare.open_for_good()
        publish = hold(monkeypatch, running, "publish")
        running.show(0)
        running.until(lambda: publish.arrived == 1, "the publication")
        for k in (1, 2):
            running.show(k)
        assert running.account.in_flight == 1 and prepare.arrived == 1
        publish.open_for_good()
        running.until(lambda: running.account.published == 2, "the newest image")
        assert [stamp_ns for stamp_ns, *_ in running.published] == [STAMP_NS, STAMP_NS + 2 * MS]
        assert running.balanced()
    finally:
        running.end()


def test_while_frames_wait_the_newest_image_wins(pipeline, running, monkeypatch):
    infer = hold(monkeypatch, pipeline.engine, "infer")
    running.show(0)
    running.until(lambda: infer.arrived == 1, "the run")
    for k in range(1, 8):
        running.show(k)
    infer.open_for_good()
    running.until(lambda: not running.sync.pending("a"), "the end of what waits")
    stamps_ns = [stamp_ns for stamp_ns, *_ in running.published]
    assert stamps_ns == sorted(stamps_ns) and stamps_ns[-1] == STAMP_NS + 7 * MS
    assert running.account.dropped.keys() == {"superseded"} and running.balanced()


def test_at_the_end_the_frame_that_runs_goes_out_and_the_prepared_one_is_counted(
    pipeline, running, monkeypatch
):
    prepare = hold(monkeypatch, pipeline, "prepare")
    prepare.open_for_good()
    infer = hold(monkeypatch, pipeline.engine, "infer")
    for k in range(2):
        running.show(k)
        running.until(lambda k=k: prepare.arrived == k + 1, "the prepare")
    running.until(lambda: infer.arrived == 1, "the run")
    assert running.loop.doing[0] == "encode"
    running.loop.stop()
    infer.open_for_good()
    running.end()
    assert len(running.published) == 1
    assert running.account.dropped == {"deactivated": 1} and running.balanced()
    assert not running.sync.pending("a")


@pytest.mark.parametrize(
    "error, kind, reason",
    [
        (RuntimeError("out of memory"), EngineFailed, "deactivated"),
        (GpuLost("CUDA error 700"), GpuLost, "gpu_lost"),
    ],
)
def test_a_failing_engine_is_told_once_and_every_image_is_accounted_for(
    pipeline, running, monkeypatch, error, kind, reason
):
    def fail(images):
        raise error

    prepare = hold(monkeypatch, pipeline, "prepare")
    prepare.open_for_good()
    monkeypatch.setattr(pipeline.engine, "infer", fail)
    infer = hold(monkeypatch, pipeline.engine, "infer")
    running.show(0)
    running.until(lambda: infer.arrived == 1, "the run")
    running.show(1)
    running.until(lambda: prepare.arrived == 2, "the next prepare")
    infer.open_for_good()
    running.thread.join(HANG_S)
    assert [type(failure) for failure in running.failures] == [kind]
    assert running.account.dropped == {"engine_error": 1, reason: 1}
    assert running.balanced() and not running.sync.pending("a")


def test_a_defect_while_publishing_costs_its_own_frame_alone(pipeline, running):
    publish = running.publish

    def fail_once(result):
        running.publish = publish
        raise KeyError("a defect")

    running.publish = fail_once
    running.show(0)
    running.until(lambda: running.account.dropped["error"] == 1, "the drop")
    running.show(1)
    running.until(lambda: running.account.published == 1, "the next frame")
    assert running.balanced() and not running.failures
    ((cameras, text),) = running.warned
    assert cameras == ["a"] and "KeyError: 'a defect'" in text


def test_an_image_refused_while_another_runs_leaves_that_ones_stamp_in_flight(
    pipeline, running, monkeypatch
):
    """The samples around the oldest stamp in flight are kept: it must be the right one's."""
    infer = hold(monkeypatch, pipeline.engine, "infer")
    running.show(0)
    running.until(lambda: infer.arrived == 1, "the run")
    running.show(1, encoding="thermal")
    running.until(lambda: running.account.dropped["encoding"] == 1, "the refusal")
    assert running.sync.oldest_ns() == STAMP_NS and running.account.in_flight == 1
    infer.open_for_good()
    running.until(lambda: running.account.published == 1, "the frame")
    assert running.sync.oldest_ns() is None


def test_a_change_waits_until_no_frame_is_on_its_way(pipeline, running, monkeypatch):
    seen = []
    infer = hold(monkeypatch, pipeline.engine, "infer")
    running.show(0)
    running.until(lambda: infer.arrived == 1, "the run")
    with running.changed:
        running.changes.append(lambda: seen.append(len(running.published)))
        running.changed.notify_all()
    running.show(1)
    assert not seen
    infer.open_for_good()
    running.until(lambda: running.account.published == 2, "both frames")
    assert seen == [1]  # after the first, before the second
