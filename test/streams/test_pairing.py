"""A topic is waited for where it comes with each image, and not where it comes less often."""

import pytest

from vit_perception.streams import pairing
from vit_perception.streams.pairing import Pairing

FRAME_NS = 33_000_000


@pytest.fixture(autouse=True)
def nothing_is_silent(monkeypatch):
    monkeypatch.setattr(pairing, "SILENT_S", 3600.0)


def waits(messages_ns, images: int = 20, late: bool = True) -> list[bool]:
    """Whether each of the images is waited for; messages come just after the image before them is
    taken, if ``late``, or just before.
    """
    learned, said = Pairing(), []
    for k in range(images):
        now_ns = k * FRAME_NS
        for stamp_ns in messages_ns if not late else ():
            if now_ns - FRAME_NS < stamp_ns <= now_ns:
                learned.came(stamp_ns)
        said.append(learned.is_expected(now_ns))
        for stamp_ns in messages_ns if late else ():
            if now_ns <= stamp_ns < now_ns + FRAME_NS:
                learned.came(stamp_ns)
    return said


def test_one_beside_each_image_is_waited_for_until_it_is_there():
    beside = [k * FRAME_NS for k in range(20)]
    assert waits(beside) == [True] * 20
    assert waits(beside, late=False) == [False] * 20


def test_a_latched_one_delays_one_image_at_most():
    assert waits([-5], late=False) == [True] + [False] * 19
    assert waits([0], late=False) == [False, True] + [False] * 18, "it might come with each"
    assert waits([-1]) == [True] + [False] * 19


@pytest.mark.parametrize("every", [2, 3, 6])
def test_slower_ones_delay_no_image_once_that_is_known(every):
    """Of every second image: the second one shows it, and from the third on none is waited for."""
    slower = [k * FRAME_NS for k in range(0, 20, every)]
    assert not any(waits(slower)[2:])
    assert not any(waits([stamp_ns + 5 for stamp_ns in slower])[1:])


def test_one_that_is_lost_stops_the_waiting_for_two_images():
    lost = [k * FRAME_NS for k in range(20) if k != 5]
    assert waits(lost) == [True] * 6 + [False] * 2 + [True] * 12


def test_a_topic_that_is_silent_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(pairing, "SILENT_S", -1.0)
    assert not any(waits([k * FRAME_NS for k in range(20)]))
