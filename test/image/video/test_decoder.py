"""Videos of four codecs, whole and with losses: each packet has one outcome, and each picture is
the one of its stamp.
"""

import random
from types import SimpleNamespace

import numpy as np
import pytest

from test.video_streams import (
    BEGIN_NS,
    ENCODERS,
    FRAME_NS,
    KEY_EVERY,
    SIZE_PX,
    Coded,
    av,
    coded,
    encoded,
    ffmpeg_message,
    foxglove_message,
    pixels,
)
from vit_perception.image.video import decoder as decoder_module
from vit_perception.image.video.decoder import MOST_DELAYED, NoPicture, VideoDecoder, VideoPicture
from vit_perception.image.video.packets import packet_of
from vit_perception.wire.records import BadInput

CODECS = tuple(ENCODERS)
MESSAGES = {"ffmpeg": ffmpeg_message, "foxglove": foxglove_message}


def told(outcomes) -> list[tuple[int, str]]:
    """The number of each outcome's picture, and the reason why there is none."""
    return [
        (
            (each.packet.stamp_ns - BEGIN_NS) // FRAME_NS,
            each.reason if isinstance(each, NoPicture) else "",
        )
        for each in outcomes
    ]


def decoded(packets, codec="h264", message=ffmpeg_message, decoder=None):
    """All outcomes of ``packets``, to the end of the video."""
    decoder = decoder or VideoDecoder()
    outcomes = []
    for packet in packets:
        outcomes += decoder.take(packet_of(message(packet, codec)))
    return outcomes + decoder.rest()


def reasons(count: int, lost: int, until: int) -> list[tuple[int, str]]:
    """Packet ``lost`` is missing, and pictures before ``until`` are dropped."""
    return [(n, "no_key_frame" if lost < n < until else "") for n in range(count) if n != lost]


def needs_ffmpeg_8(codec: str) -> None:
    """Skip where the decoder of HEVC invents the pictures that are missing."""
    if codec == "hevc" and av.library_versions["libavcodec"][0] < 62:
        pytest.skip("FFmpeg before 8 does not report missing pictures of HEVC (PyAV before 16)")


@pytest.mark.parametrize("codec", CODECS)
def test_each_picture_comes_with_its_own_packet_and_is_the_one_that_was_encoded(codec):
    decoder = VideoDecoder()
    for packet in encoded(codec):
        (picture,) = decoder.take(packet_of(ffmpeg_message(packet, codec)))
        image = picture()
        assert (image.stamp_ns, image.frame_id) == (packet.stamp_ns, "camera")
        assert picture.header.stamp.sec * 10**9 + picture.header.stamp.nanosec == packet.stamp_ns
        assert image.pixels.shape == (*SIZE_PX, 3) and image.pixels.dtype == np.uint8
        error = np.abs(image.pixels.astype(int) - pixels(packet.index)).mean()
        wrong = np.abs(image.pixels.astype(int) - pixels(packet.index + 1)).mean()
        assert error < 16 and error < wrong / 2
        assert picture.size_bytes >= 1.5 * SIZE_PX[0] * SIZE_PX[1]
    assert not decoder.rest() and not decoder.waiting


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("message", MESSAGES)
def test_a_video_that_is_joined_in_its_middle_begins_at_its_next_key_frame(codec, message):
    outcomes = decoded(encoded(codec)[3:], codec, MESSAGES[message])
    assert told(outcomes) == reasons(24, 2, KEY_EVERY)[2:]
    whole = decoded(encoded(codec), codec, MESSAGES[message])
    for part, full in zip(outcomes[KEY_EVERY - 3 :], whole[KEY_EVERY:], strict=True):
        np.testing.assert_array_equal(part().pixels, full().pixels)


@pytest.mark.parametrize("codec", CODECS)
def test_after_a_lost_packet_pictures_are_dropped_until_the_next_key_frame(codec):
    packets = encoded(codec)
    outcomes = decoded(packets[:4] + packets[5:], codec)
    assert told(outcomes) == reasons(24, 4, KEY_EVERY)
    said = [each.text for each in outcomes if isinstance(each, NoPicture) and each.is_first]
    assert len(said) == 1
    assert said[0].startswith("packets were lost: ") and "gop_size" in said[0]


def test_a_loss_in_h264_is_seen_by_the_streams_own_numbers_where_the_message_has_none():
    packets = encoded("h264")
    outcomes = decoded(packets[:4] + packets[5:], "h264", foxglove_message)
    assert told(outcomes) == reasons(24, 4, KEY_EVERY)
    assert "frame_num goes from 3 to 5" in outcomes[4].text


@pytest.mark.parametrize("codec", ["hevc", "av1"])
def test_a_loss_is_seen_by_decoders_that_miss_a_picture(codec):
    needs_ffmpeg_8(codec)
    packets = encoded(codec)
    outcomes = told(decoded(packets[:4] + packets[5:], codec, foxglove_message))
    assert outcomes[4] == (5, "decode")
    assert outcomes[5:] == reasons(24, 4, KEY_EVERY)[5:]


def test_the_loss_of_a_key_frame_costs_all_pictures_until_the_next_one():
    packets = encoded("h264")
    outcomes = told(decoded(packets[:10] + packets[11:]))
    assert outcomes == reasons(24, 10, 20)


def test_pictures_that_are_reordered_have_the_stamps_of_their_own_packets():
    packets = encoded(b_frames=2, options=(("preset", "fast"),))
    assert [p.index for p in packets] != sorted(p.index for p in packets)
    outcomes = decoded(packets)
    assert told(outcomes) == [(n, "") for n in range(24)]
    for picture in outcomes:
        image = picture()
        index = (image.stamp_ns - BEGIN_NS) // FRAME_NS
        assert np.abs(image.pixels.astype(int) - pixels(index)).mean() < 16
    whole = {o.packet.stamp_ns: o().pixels for o in outcomes}
    # The second packet is that of picture 3, on which 1 and 2 depend.
    for lost in (1, 4, 7):
        rest = decoded(packets[:lost] + packets[lost + 1 :])
        assert sorted(n for n, _ in told(rest)) == sorted(
            p.index for p in packets if p is not packets[lost]
        )
        for each in rest:
            if isinstance(each, VideoPicture):
                np.testing.assert_array_equal(each().pixels, whole[each.packet.stamp_ns])


def test_a_video_without_key_frames_begins_where_its_refresh_is_through():
    options = {"preset": "veryfast", "tune": "zerolatency", "x264-params": "intra-refresh=1"}
    frames = [av.VideoFrame.from_ndarray(pixels(n), format="rgb24") for n in range(40)]
    for index, frame in enumerate(frames):
        frame.pts = index
    packets = coded(frames, options=options)
    whole = decoded(packets)
    outcomes = decoded(packets[:3] + packets[4:])
    dropped = [n for n, reason in told(outcomes) if reason]
    assert dropped == list(range(4, dropped[-1] + 1)) and dropped[-1] < 30
    np.testing.assert_array_equal(outcomes[-1]().pixels, whole[-1]().pixels)


@pytest.mark.parametrize("codec", CODECS)
def test_a_damaged_packet_is_named_and_what_follows_waits_for_a_key_frame(codec):
    needs_ffmpeg_8(codec)
    packets = list(encoded(codec))
    packets[4] = packets[4]._replace(data=packets[4].data[:5] + bytes(20))
    outcomes = decoded(packets, codec)
    assert [n for n, reason in told(outcomes) if reason] == list(range(4, KEY_EVERY))
    # To HEVC what is left of the packet is none of a picture: the next one misses it.
    bad = outcomes[5 if codec == "hevc" else 4]
    assert bad.reason == "decode" and "does not decode as" in bad.text


def test_the_resolution_and_the_codec_may_change_in_the_stream():
    smaller = [
        packet._replace(index=packet.index + 24) for packet in encoded(size_px=(64, 80), count=12)
    ]
    decoder = VideoDecoder()
    outcomes = []
    for packet in (*encoded(), *smaller):
        outcomes += decoder.take(packet_of(ffmpeg_message(packet)))
    assert [o().size for o in outcomes] == [SIZE_PX] * 24 + [(64, 80)] * 12
    other = [packet._replace(index=packet.index + 36) for packet in encoded("vp9")]
    outcomes = [decoder.take(packet_of(ffmpeg_message(p, "libvpx-vp9"))) for p in other[1:]]
    assert told(outcomes[0]) == [(37, "no_key_frame")]
    assert outcomes[0][0].text.startswith("the codec has changed")
    assert [len(o) for o in outcomes] == [1] * 23 and outcomes[9][0]().size == SIZE_PX


def test_time_that_jumps_back_begins_anew():
    decoder = VideoDecoder()
    packets = encoded(count=48)
    decoded(packets[20:], decoder=decoder)
    again = []
    for packet in packets[:12]:
        again += decoder.take(packet_of(foxglove_message(packet)))
    assert told(again) == [(n, "") for n in range(12)]


def test_packets_that_never_give_a_picture_are_counted_and_bounded():
    headers = encoded()[0].data.split(b"\0\0\1")
    # The parameter sets alone, as some publishers send them: no picture, and no fault.
    sets = b"".join(b"\0\0\1" + unit for unit in headers[1:3])
    decoder = VideoDecoder()
    told_first = decoder.take(packet_of(ffmpeg_message(Coded(0, True, sets))))
    assert told(told_first) in ([(0, "no_key_frame")], [(0, "decode")])
    outcomes = []
    for index in range(3000):
        filler = Coded(index + 1, False, b"\0\0\0\1\x0c\xff\xff\x80")
        outcomes += decoder.take(packet_of(ffmpeg_message(filler)))
        assert decoder.waiting <= MOST_DELAYED + 1
    assert len(outcomes) == 3000 and not any(isinstance(o, VideoPicture) for o in outcomes)
    following = [p._replace(index=p.index + 4000) for p in encoded()]
    assert len([o for o in decoded(following, decoder=decoder) if not told([o])[0][1]]) == 24


@pytest.mark.parametrize(
    "data",
    [
        b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        b"\0\0\0\x18ftypmp42" + bytes(400),
        b"\x1aE\xdf\xa3" + bytes(400),
        bytes(1 << 20),
        b"\xff" * 4096,
        b"\0\0\1" * 100_000,
    ],
    ids=["playlist", "mp4", "matroska", "zeros", "ones", "start codes"],
)
@pytest.mark.parametrize("codec", CODECS)
def test_what_is_no_packet_of_the_codec_is_dropped_and_the_video_goes_on(codec, data):
    decoder = VideoDecoder()
    packets = encoded(codec)
    for packet in packets[:3]:
        decoder.take(packet_of(ffmpeg_message(packet, codec)))
    (bad,) = told(decoder.take(packet_of(ffmpeg_message(Coded(3, False, data), codec))))
    # To AV1 the head of a Matroska file says: show again the picture that is there.
    again = codec == "av1" and data.startswith(b"\x1aE")
    assert bad in [(3, reason) for reason in ("decode", "no_picture", *([""] * again))]
    outcomes = decoded(packets[KEY_EVERY:], codec, decoder=decoder)
    assert [o for o in told(outcomes) if not o[1]] == [(n, "") for n in range(KEY_EVERY, 24)]


def bits_of(*values: int | tuple[int, int]) -> str:
    """Exp-Golomb codes of numbers, and (number, bits) as they are."""
    text = ""
    for value in values:
        if isinstance(value, tuple):
            text += f"{value[0]:0{value[1]}b}"
        else:
            text += "0" * ((value + 1).bit_length() - 1) + f"{value + 1:b}"
    return text


def unit_of(head: bytes, bits: str) -> bytes:
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    return b"\0\0\0\1" + head + int(bits, 2).to_bytes(len(bits) // 8, "big")


def test_a_huge_claimed_size_is_refused_before_memory_is_taken():
    resource = pytest.importorskip("resource")
    edge = 16384 // 16 - 1
    sps = unit_of(
        b"\x67\x42\x00\x33", bits_of(0, 0, 2, 1, (0, 1), edge, edge, (1, 1), (0, 1), (0, 1), (0, 1))
    )
    pps = unit_of(b"\x68", bits_of(0, 0, (0, 2), 0, 0, 0, (0, 3), 0, 0, 0, (0, 3)))
    idr = unit_of(b"\x65", bits_of(0, 7, 0, (0, 4), 0, (0, 2), 0, 0) + "10" * 32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    packet = Coded(0, True, sps + pps + idr)
    (refused,) = VideoDecoder().take(packet_of(ffmpeg_message(packet)))
    assert refused.reason == "decode" and "pictures of up to 9437184 px" in refused.text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_the_limit_is_that_of_the_decoder(monkeypatch):
    monkeypatch.setattr(decoder_module, "MOST_PX", SIZE_PX[0] * SIZE_PX[1] - 1)
    assert {reason for _, reason in told(decoded(encoded()))} == {"decode", "no_key_frame"}


@pytest.mark.parametrize("codec", CODECS)
def test_whatever_happens_to_packets_each_has_one_outcome(codec):
    choose = random.Random(codec)
    good = encoded(codec)
    decoder = VideoDecoder()
    seen = []
    for index in range(300):
        packet = good[index % 24]
        data = bytearray(packet.data)
        what = choose.randrange(8)
        if what == 0:
            continue
        if what == 1:
            for _ in range(choose.randrange(1, 30)):
                data[choose.randrange(len(data))] = choose.randrange(256)
        elif what == 2:
            del data[choose.randrange(1, len(data)) :]
        elif what == 3:
            data = bytearray(choose.randbytes(choose.randrange(1, 2000)))
        message = ffmpeg_message(Coded(index, packet.is_key, bytes(data)), codec)
        seen.append(index)
        decoder_outcomes = decoder.take(packet_of(message))
        for each in decoder_outcomes:
            seen.remove((each.packet.stamp_ns - BEGIN_NS) // FRAME_NS)
            if isinstance(each, VideoPicture):
                each()
    for each in decoder.rest():
        seen.remove((each.packet.stamp_ns - BEGIN_NS) // FRAME_NS)
    assert not seen


def rgb_of(y: int, u: int, v: int, luma: tuple[float, float], full: bool) -> np.ndarray:
    """ITU-R BT.601 and BT.709, computed by hand."""
    red, blue = luma
    scale_y, scale_c, offset = (1.0, 1.0, 0) if full else (255 / 219, 255 / 224, 16)
    grey, cb, cr = (y - offset) * scale_y, (u - 128) * scale_c, (v - 128) * scale_c
    r = grey + 2 * (1 - red) * cr
    b = grey + 2 * (1 - blue) * cb
    g = (grey - red * r - blue * b) / (1 - red - blue)
    return np.clip([r, g, b], 0, 255)


@pytest.mark.parametrize("full", [False, True, None], ids=["limited", "full", "range not said"])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020", "not said"])
@pytest.mark.parametrize("colour", [(120, 90, 180), (60, 200, 100), (180, 128, 128)])
def test_colours_are_converted_as_the_stream_says(matrix, full, colour):
    frame = av.VideoFrame(64, 48, "yuv420p")
    for plane, value in zip(frame.planes, colour, strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    options = {"preset": "ultrafast", "tune": "zerolatency", "qp": "0"}
    said = []
    names = {"bt601": "smpte170m", "bt709": "bt709", "bt2020": "bt2020nc"}
    said += [f"colormatrix={names[matrix]}" if matrix in names else ""]
    said += [{True: "fullrange=on", False: "fullrange=off", None: ""}[full]]
    if any(said):
        options["x264-params"] = ":".join(filter(None, said))
    frame.pts = 0
    (picture,) = decoded(coded([frame], options=options))
    weights = {"bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
    luma = weights.get(matrix, (0.299, 0.114))
    if matrix == "bt2020" and not hasattr(av.video.reformatter.Colorspace, "BT2020"):
        with pytest.raises(BadInput, match="matrix 9 .*accepted: BT.601 and BT.709"):
            picture()
        return
    expected = rgb_of(*colour, luma, bool(full))
    assert np.abs(picture().pixels.astype(float) - expected).max() <= 2.5


def test_pixels_that_are_no_colours_in_8_or_10_bits_are_refused():
    frame = av.VideoFrame(64, 48, "yuv420p")
    frame.pts = 0
    (picture,) = decoded(coded([frame]))
    odd = SimpleNamespace(
        pts=1, is_corrupt=False, key_frame=True, format=SimpleNamespace(name="gray16le"), planes=()
    )
    decoder = VideoDecoder()
    decoder._waiting[1] = picture.packet
    (refused,) = decoder._pictures([odd])
    assert refused.reason == "encoding" and "pixels are gray16le; accepted: yuv420p" in refused.text
