"""The thread that decodes: it keeps the order, its memory is bounded, and it ends."""

import threading
from collections import Counter

import pytest

from test.video_streams import Coded, encoded, ffmpeg_message
from test.waiting import wait_until
from vit_perception.image.video.decoder import VideoDecoder
from vit_perception.ros.video import video_input as module
from vit_perception.ros.video.video_input import Arrival, VideoInput


class Taken:
    """What a VideoInput gave."""

    def __init__(self):
        self.stamps_ns = []
        self.reasons = Counter()
        self.texts = []
        self.input = VideoInput("wrist", self.give, self.refuse)

    def give(self, picture):
        self.stamps_ns.append(picture.packet.stamp_ns)
        assert picture.packet.origin == picture.packet.stamp_ns

    def refuse(self, reason, text):
        self.reasons[reason] += 1
        self.texts += [text] if text else []

    def add(self, packet):
        self.input.add(ffmpeg_message(packet), packet.stamp_ns)

    @property
    def count(self):
        return len(self.stamps_ns) + sum(self.reasons.values())


@pytest.fixture
def taken():
    made = Taken()
    yield made
    made.input.stop("deactivated")
    assert not made.input._thread.is_alive()


def test_pictures_come_in_order_with_what_is_known_of_their_packets(taken):
    packets = encoded(count=48)
    for packet in packets:
        taken.add(packet)
    wait_until(lambda: taken.count == 48, "all pictures")
    assert taken.stamps_ns == [p.stamp_ns for p in packets] and not taken.reasons


@pytest.mark.parametrize("limit", ["MOST_WAITING", "MOST_WAITING_BYTES"])
def test_a_decoder_that_falls_behind_drops_all_that_waits_and_begins_anew(
    taken, monkeypatch, limit
):
    packets = encoded(count=48)
    largest = max(len(p.data) for p in packets)
    monkeypatch.setattr(module, limit, 4 if limit == "MOST_WAITING" else 4 * largest)
    held, go_on = threading.Event(), threading.Event()
    take = VideoDecoder.take

    def slow(decoder, packet):
        held.set()
        assert go_on.wait(60)
        return take(decoder, packet)

    monkeypatch.setattr(VideoDecoder, "take", slow)
    taken.add(packets[0])
    assert held.wait(60)
    for packet in packets[1:25]:
        taken.add(packet)
        assert len(taken.input._waiting) <= 25
        assert taken.input._waiting_bytes <= 4 * largest
    go_on.set()
    wait_until(lambda: taken.count == 25, "all packets")
    assert taken.reasons["decode_behind"] >= 4
    assert set(taken.reasons) <= {"decode_behind", "no_key_frame"}
    assert any("packets came faster than this machine decodes them" in t for t in taken.texts)
    for count, packet in enumerate(packets[25:], 26):
        taken.add(packet)
        wait_until(lambda: taken.count == count, "the rest")
    assert taken.stamps_ns[-18:] == [p.stamp_ns for p in packets[30:]]


def test_what_waits_at_the_end_is_counted_and_nothing_comes_after_it(taken):
    packets = encoded(b_frames=2, options=(("preset", "fast"),))
    for packet in packets[:10]:
        taken.add(packet)
    wait_until(lambda: taken.count + taken.input._decoder.waiting == 10, "all at the decoder")
    taken.input.stop("deactivated")
    assert taken.count == 10 and taken.reasons["deactivated"] > 0
    taken.add(packets[10])
    taken.input.stop("deactivated")
    assert taken.count == 10


def test_a_defect_at_one_packet_is_counted_and_does_not_end_the_video(taken, monkeypatch):
    packets = encoded()
    take = VideoDecoder.take

    def broken(decoder, packet):
        if packet.stamp_ns == packets[3].stamp_ns:
            raise RuntimeError("a bug")
        return take(decoder, packet)

    monkeypatch.setattr(VideoDecoder, "take", broken)
    for packet in packets:
        taken.add(packet)
    wait_until(lambda: taken.count == 24, "all")
    assert taken.reasons == {"error": 1, "no_key_frame": 6}
    assert any("a bug" in text for text in taken.texts)


def test_a_message_that_is_no_packet_is_refused_in_its_place(taken):
    packets = list(encoded())
    packets[12] = Coded(12, False, b"")
    for packet in packets:
        taken.add(packet)
    wait_until(lambda: taken.count == 24, "all")
    assert taken.reasons == {"short_data": 1, "no_key_frame": 7}


def test_the_time_to_arrival_is_only_told_of_stamps_of_the_same_clock():
    arrival = Arrival(monotonic_ns=0, clock_ns=2_000_000_000)
    assert arrival.after_ms(1_990_000_000) == pytest.approx(10.0)
    assert arrival.after_ms(2_000_000_001) is None
    assert Arrival(0, 10**18).after_ms(1) is None
