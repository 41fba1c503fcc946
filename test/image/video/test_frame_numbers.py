"""Gaps in H.264 by frame_num: of real streams, and of heads that lie."""

import random

import pytest

from test.image.video.test_decoder import bits_of, unit_of
from test.video_streams import av, coded, encoded, pixels
from vit_perception.image.video.frame_numbers import FrameNumbers


def gaps(packets) -> list[str]:
    numbers = FrameNumbers()
    return [numbers.gap(p.data) for p in packets]


def of_options(pixel_format="yuv420p", b_frames=0, **options):
    frames = []
    for index in range(24):
        frames.append(av.VideoFrame.from_ndarray(pixels(index), format="rgb24"))
        frames[-1].pts = index
    return coded(frames, options=options, pixel_format=pixel_format, b_frames=b_frames)


@pytest.mark.parametrize(
    "packets",
    [
        pytest.param(lambda: encoded(), id="baseline"),
        pytest.param(lambda: of_options(preset="fast"), id="high"),
        pytest.param(lambda: of_options("yuv444p", preset="fast"), id="4:4:4"),
        pytest.param(lambda: of_options("yuv422p10le", preset="fast"), id="4:2:2, 10 bits"),
        pytest.param(lambda: of_options(preset="fast", b_frames=3), id="b frames"),
        pytest.param(
            lambda: of_options(preset="fast", **{"x264-params": "cqm=jvt"}), id="scaling lists"
        ),
        pytest.param(lambda: of_options(preset="fast", **{"x264-params": "slices=4"}), id="slices"),
    ],
)
def test_a_whole_stream_has_no_gap_and_a_lost_reference_is_one(packets):
    whole = packets()
    assert not any(gaps(whole))
    for lost in (1, 6, 12):
        # A picture that no other one refers to leaves no gap, and does no harm.
        is_reference = any(
            unit[0] & 0x60 and unit[0] & 31 in (1, 5)
            for unit in whole[lost].data.split(b"\0\0\1")
            if unit
        )
        seen = gaps(whole[:lost] + whole[lost + 1 :])
        assert bool(any(seen)) == is_reference
        assert not any(seen[:lost]) and (not is_reference or "frame_num goes from" in seen[lost])


def test_the_head_is_read_bit_by_bit():
    numbers = FrameNumbers()
    # frame_num of 4 bits, order kind 1 with a list of two, gaps not allowed.
    sps = unit_of(b"\x67\x42\x00\x1e", bits_of(0, 0, 1, (0, 1), 1, 2, 2, 3, 4, 1, (0, 1), 9, 5))
    pps = unit_of(b"\x68", bits_of(0, 0, (0, 2)))

    def picture(number: int, kind: bytes = b"\x61") -> bytes:
        return unit_of(kind, bits_of(0, 5, 0, (number, 4)) + "10" * 10)

    assert not numbers.gap(sps + pps + picture(0, b"\x65"))
    for number in [*range(1, 16), 0, 1, 1]:
        assert not numbers.gap(picture(number))
    assert numbers.gap(picture(3)) == "frame_num goes from 1 to 3"
    numbers.forget()
    assert not numbers.gap(picture(9)) and not numbers.gap(picture(10, b"\x01"))
    assert not numbers.gap(picture(10)) and not numbers.gap(picture(0, b"\x65"))


def test_gaps_that_the_stream_allows_are_none():
    numbers = FrameNumbers()
    sps = unit_of(b"\x67\x42\x00\x1e", bits_of(0, 0, 2, 1, (1, 1), 9, 5))
    pps = unit_of(b"\x68", bits_of(0, 0, (0, 2)))
    for number, kind in ((0, b"\x65"), (1, b"\x61"), (7, b"\x61")):
        data = unit_of(kind, bits_of(0, 5, 0, (number, 4)) + "10" * 10)
        assert not numbers.gap(sps + pps + data)


def test_whatever_comes_it_ends_and_says_nothing_wrong_of_the_next_stream():
    choose = random.Random(0)
    numbers = FrameNumbers()
    for _ in range(500):
        data = b"\0\0\1" + choose.randbytes(choose.randrange(1, 60))
        assert isinstance(numbers.gap(data), str)
    assert isinstance(numbers.gap(b"\0\0\1\x67" * 100_000), str)
    assert isinstance(numbers.gap(bytes(1 << 22)), str)
    assert len(numbers._sps) <= 32 and len(numbers._sps_of) <= 256
    assert not any(numbers.gap(p.data) for p in encoded()[: len(encoded())])
