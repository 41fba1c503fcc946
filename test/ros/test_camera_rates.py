"""Cameras of different rates: the node pairs the nearest images, as a bag does, and waits for one
no longer than the slop.
"""

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from test.waiting import wait_until
from vit_perception.config.settings import CameraSettings, EncoderSettings
from vit_perception.pipeline.frame_state import Received
from vit_perception.pipeline.history import TokenHistory
from vit_perception.pipeline.prepare import Prepared
from vit_perception.pipeline.worker import EncoderWorker
from vit_perception.streams.camera_sync import CameraSync
from vit_perception.streams.recorded_groups import ImageGroups
from vit_perception.streams.sample_inputs import SampleInputs
from vit_perception.wire.records import BadInput

MS = 1_000_000
START_NS = 10_000_000_000
SLOP_NS = 50 * MS


def sent(rates_hz, delays_ms, phases_ms=(0, 0, 0), seconds=2):
    """(arrival ns, camera, stamp ns), in the order of arrival."""
    images = []
    for camera, hz, delay_ms, phase_ms in zip("abc", rates_hz, delays_ms, phases_ms):
        for k in range(seconds * hz):
            stamp_ns = START_NS + k * 1000 * MS // hz + round(phase_ms * MS)
            images.append((stamp_ns + round(delay_ms * MS), camera, stamp_ns))
    return sorted(images)


def lively(images):
    """Groups of a node that encodes in no time, and how long each was put off: taken as soon as
    there is one.
    """
    cameras = sorted({camera for _, camera, _ in images})
    sync = CameraSync(cameras, SLOP_NS, "wait", 10**12, 0)
    groups, waits_ms = [], []

    def take(now_ns):
        group = sync.take(now_ns)
        if group:
            groups.append({camera: message[0] for camera, message in group.items()})
            waits_ms.append((now_ns - max(arrived for _, arrived in group.values())) / MS)
            for camera in group:
                sync.finish(camera)

    for arrived_ns, camera, stamp_ns in images:
        if sync.deferred_until_ns is not None and sync.deferred_until_ns <= arrived_ns:
            take(sync.deferred_until_ns)
        sync.add(camera, stamp_ns, (stamp_ns, arrived_ns), arrived_ns)
        take(arrived_ns)
    for camera, account in sync.accounts.items():
        assert account.received == account.published + sum(account.dropped.values()) + sync.pending(
            camera
        )
        assert account.in_flight == 0
    return groups, waits_ms


def recorded(images):
    """The groups of a bag with the same images."""
    grouping = ImageGroups(sorted({camera for _, camera, _ in images}), SLOP_NS, False, 10**12)
    groups = [g for _, camera, stamp_ns in images for g in grouping.add(camera, stamp_ns, stamp_ns)]
    return [{camera: member[0] for camera, member in group.items()} for group in groups]


@pytest.mark.parametrize(
    "rates_hz, delays_ms, phases_ms",
    [
        ((10, 30), (0, 1), (0, 0)),
        ((10, 30), (1, 0), (0, 0)),
        ((10, 30), (0, 20), (0, 0)),
        ((10, 30), (40, 0), (0, 0)),
        ((30, 10), (0, 1), (0, 0)),
        ((30, 10), (1, 0), (0, 0)),
        ((10, 30), (0, 1), (0, 10)),
        ((10, 30), (1, 0), (0, 20)),
        ((30, 15, 10), (0, 1, 2), (0, 0, 0)),
        ((30, 15, 10), (2, 1, 0), (0, 0, 0)),
        ((30, 30), (0, 1), (0, 10)),
        ((30, 30), (1, 0), (12, 0)),
    ],
)
def test_the_node_pairs_what_a_bag_pairs(rates_hz, delays_ms, phases_ms):
    images = sent(rates_hz, delays_ms, phases_ms)
    groups, waits_ms = lively(images)
    truth = recorded(images)
    # At the very start no camera's rate is known; at the end the bag may wait for an image that
    # never comes.
    assert len(truth) >= 2 * min(rates_hz) - 3
    assert [g for g in groups if g["a"] > START_NS + 250 * MS][: len(truth) - 8] == [
        g for g in truth if g["a"] > START_NS + 250 * MS
    ][: len(truth) - 8]
    assert all(
        max(g.values()) - min(g.values()) <= 500 * MS // sorted(rates_hz)[1] + MS
        for g in groups[3:]
    )
    assert max(waits_ms) <= max(delays_ms)  # the nearer image came, and was taken with it


def test_a_slow_camera_is_paired_with_the_image_of_its_moment_whichever_comes_first():
    for delays_ms in ((0, 1), (1, 0)):
        groups, _ = lively(sent((10, 30), delays_ms))
        assert len(groups) == 20 and all(abs(g["a"] - g["b"]) < MS for g in groups)


@pytest.mark.parametrize("phase_ms", [3, 10, 15])
def test_cameras_of_one_rate_wait_for_nothing(phase_ms):
    images = sent((30, 30), (0, 0), (0, phase_ms))
    groups, waits_ms = lively(images)
    assert len(groups) == 60 and set(waits_ms) == {0}
    assert all(g["b"] - g["a"] == phase_ms * MS for g in groups)


def test_an_image_that_does_not_come_is_waited_for_as_long_as_the_slop_and_the_worker_wakes_then():
    sync = CameraSync(["a", "b"], SLOP_NS, "wait", 10**12, 0)
    for stamp_ms in (0, 33, 67):
        sync.add("b", START_NS + stamp_ms * MS, f"b{stamp_ms}", 1000 * MS)
    sync.add("a", START_NS + 100 * MS, "a100", 1010 * MS)
    assert sync.take(1015 * MS) is None and sync.deferred_until_ns == 1060 * MS
    assert sync.take(1059 * MS) is None
    assert sync.take(1060 * MS) == {"a": "a100", "b": "b67"} and sync.deferred_until_ns is None
    assert sync.accounts["b"].dropped == {"superseded": 2}


def image(camera, stamp_ms):
    """What :meth:`CameraSync.add` takes of an image that comes now."""
    stamp_ns, now_ns = START_NS + stamp_ms * MS, time.monotonic_ns()
    return camera, stamp_ns, Received(f"{camera}{stamp_ms}", stamp_ns, now_ns), now_ns


def test_the_worker_wakes_when_the_wait_is_over():
    changed, taken = threading.Condition(), []

    class Opened:
        """A pipeline that notes the messages of a group, and refuses them."""

        settings = EncoderSettings((CameraSettings("a", "/a"), CameraSettings("b", "/b")))
        leaves_a_core = True
        history = TokenHistory(settings.history.rule, 0)
        parts = SimpleNamespace(forget=history.clear)

        def prepare(self, messages, batch, *extras):
            taken.append((time.monotonic_ns(), messages))
            refused = {camera: BadInput("noted", "") for camera in messages}
            return Prepared({}, refused, np.zeros(0, np.uint8))

    worker = EncoderWorker(
        changed,
        lambda result: None,
        lambda cameras, text: None,
        lambda error: taken.append((0, error)),
    )
    sync, slop_ns = CameraSync(["a", "b"], 20 * MS, "wait", 10**12, time.monotonic_ns()), 20 * MS
    with changed:
        for stamp_ms in (60, 75, 90):
            sync.add(*image("b", stamp_ms))
    worker.start(Opened(), sync, SampleInputs([], changed))
    with changed:
        camera, stamp_ns, received, arrived_ns = image("a", 100)
        sync.add(camera, stamp_ns, received, arrived_ns)
        changed.notify_all()
    wait_until(lambda: taken, "the wake-up")
    worker.stop()
    worker.shutdown()
    assert [group for _, group in taken] == [{"a": "a100", "b": "b90"}]
    assert taken[0][0] - arrived_ns >= slop_ns
    assert sync.accounts["a"].dropped == {"noted": 1} and not sync.accounts["a"].in_flight
