"""Which depth image an image has, what is kept, and what is refused."""

import threading

import numpy as np
import pytest

from test.image.patches.depth_images import depth_message
from vit_perception.config.settings import BadSetting, CameraSettings
from vit_perception.streams import depths
from vit_perception.streams.depths import DepthHistory, DepthInputs, Depths
from vit_perception.wire.records import BadInput

MS = 1_000_000
SECOND_NS = 1_000_000_000
PIXELS = np.ones((2, 2), int)


def message(stamp_ns):
    return depth_message(PIXELS, stamp_ns)


def history(*stamps_ns, **options):
    made = DepthHistory(**options)
    for stamp_ns in stamps_ns:
        made.add(stamp_ns, message(stamp_ns))
    return made


def stamp_of(found):
    return found and found.header.stamp.sec * SECOND_NS + found.header.stamp.nanosec


def test_its_own_then_the_latest_earlier_then_the_first_later_one():
    made = history(100, 300, 200)
    found = [stamp_of(made.at(stamp_ns, 60)) for stamp_ns in (200, 250, 161, 90, 30, 361)]
    assert found == [200, 200, 200, 100, None, None]
    assert (made.covers(300), made.covers(301)) == (True, False)


def test_what_is_old_or_too_much_is_forgotten(monkeypatch):
    made = history(*range(1, 4 * SECOND_NS, SECOND_NS // 2), keep_s=1.0)
    assert [stamp_ns for stamp_ns, _ in made._kept] == [
        5 * SECOND_NS // 2 + 1,
        3 * SECOND_NS + 1,
        7 * SECOND_NS // 2 + 1,
    ]
    monkeypatch.setattr(depths, "MOST_BYTES", 3 * 8)
    crowded = history(*range(1, 1000))
    assert len(crowded._kept) == 3 and crowded._bytes == 24
    twice = history(5, 5)
    assert len(twice._kept) == 1 and twice._bytes == 8


def test_time_that_is_set_back():
    made = history(10 * SECOND_NS, 5 * SECOND_NS)
    assert [stamp_ns for stamp_ns, _ in made._kept] == [5 * SECOND_NS]
    cameras = (CameraSettings("a", "/a", depth_topic="/depth"),)
    kept = Depths(cameras)
    kept.add(["a"], message(10 * SECOND_NS))
    kept.forget_after(10 * SECOND_NS - 5 * MS)
    assert kept.covers(10 * SECOND_NS), "a late image is no jump"
    kept.forget_after(5 * SECOND_NS)
    assert not kept.covers(1)


def test_counters_and_what_is_refused(monkeypatch):
    cameras = (CameraSettings("a", "/a", depth_topic="/depth"), CameraSettings("b", "/b"))
    inputs = DepthInputs(cameras, threading.Condition())
    monkeypatch.setattr(depths, "WAIT_S", 0.0)
    assert isinstance(inputs.at({"a": SECOND_NS, "b": SECOND_NS})["a"], BadInput)
    inputs.add("a", message(2 * SECOND_NS))
    found = inputs.at({"a": 2 * SECOND_NS + 5 * MS})
    assert stamp_of(found["a"]) == 2 * SECOND_NS and "b" not in found
    with pytest.raises(BadInput, match="stamp"):
        inputs.add("a", message(0))
    monkeypatch.setattr(depths, "MOST_BYTES", 4)
    with pytest.raises(BadInput, match="8 bytes; accepted: up to 4"):
        inputs.add("a", message(2 * SECOND_NS))
    account = inputs.accounts["a"]
    assert (account.received, account.used, account.missing) == (3, 1, 1)
    assert account.refused == {"stamp": 1, "size": 1} and account.waited == 1
    assert not Depths(cameras[1:]).by_topic and Depths(cameras[1:]).covers(1)


def test_an_image_waits_for_the_depth_image_of_its_stamp(monkeypatch):
    monkeypatch.setattr(depths, "WAIT_S", 60.0)
    inputs = DepthInputs((CameraSettings("a", "/a", depth_topic="/d"),), threading.Condition())
    found = []
    thread = threading.Thread(target=lambda: found.append(inputs.at({"a": SECOND_NS})))
    thread.start()
    inputs.add("a", message(SECOND_NS - 5 * MS))
    inputs.add("a", message(SECOND_NS))
    thread.join(60.0)
    assert stamp_of(found[0]["a"]) == SECOND_NS


def test_a_difference_that_is_no_time_is_refused():
    with pytest.raises(BadSetting, match="cameras.a.depth_max_skew_s.*0 to 1"):
        CameraSettings("a", "/a", depth_topic="/d", depth_max_skew_s=float("nan"))
