"""Observations with a history, and windows by age of observations without one."""

from dataclasses import replace
from types import SimpleNamespace as Message

import numpy as np
import pytest

from test.policy.test_live import LAYOUT, MS, header
from vit_perception.policy.live import LayoutMismatch, LiveDecoder, Observation, ObservationWindow
from vit_perception.wire.layout import LayoutHistory
from vit_perception.wire.layout_history import with_history
from vit_perception.wire.tensors import encode_stamps, encode_tensor

TWO = LayoutHistory.of(2, 0.1)
PLAIN = replace(LAYOUT, groups=LAYOUT.groups[:2], states=())
LAYOUT_OF_TWO = with_history(PLAIN, TWO)


def tokens_of(stamp_ns):
    rows = np.ones((6, 4), np.float32)
    return "/robot/tokens", Message(header=header(stamp_ns), **encode_tensor(rows)._asdict())


def stamps_of(stamp_ns, stamps_ns):
    fields = encode_stamps(stamps_ns)._asdict()
    return "/robot/history_stamps", Message(header=header(stamp_ns), **fields)


def decoder_of(**arguments):
    made = LiveDecoder("/robot", **arguments)
    made.add("/robot/layout", Message(data=LAYOUT_OF_TWO.to_json()))
    return made


@pytest.mark.parametrize("tokens_first", [True, False])
def test_an_observation_waits_for_the_stamps_of_its_steps(tokens_first):
    decoder = decoder_of()
    assert decoder.topics["/robot/history_stamps"] == "sensor_msgs/msg/Image"
    parts = [tokens_of(200 * MS), stamps_of(200 * MS, (100 * MS, 200 * MS))]
    first, second = parts if tokens_first else parts[::-1]
    assert decoder.add(*first) is None
    observation = decoder.add(*second)
    assert observation.history_stamps_ns.tolist() == [100 * MS, 200 * MS]
    assert observation.layout.steps(observation.tokens).shape == (2, 3, 4)


def test_a_decoder_of_tokens_alone_does_not_wait_for_them():
    decoder = decoder_of(body=False)
    assert "/robot/history_stamps" not in decoder.topics
    assert decoder.add(*tokens_of(200 * MS)).history_stamps_ns is None


def test_stamps_of_another_number_of_steps_leave_nothing_behind():
    decoder = decoder_of()
    with pytest.raises(ValueError, match="history_stamps has 3 stamps; accepted: 2"):
        decoder.add(*stamps_of(200 * MS, (1, 2, 3)))
    assert decoder.add(*tokens_of(200 * MS)) is None
    assert decoder.add(*stamps_of(200 * MS, (0, 200 * MS))) is not None


def test_a_policy_of_one_frame_is_told_that_the_node_sends_a_history():
    with pytest.raises(LayoutMismatch, match="history is"):
        decoder_of(expected=[PLAIN])


def seen(at_ms, layout=PLAIN, mask=True):
    rows = np.full((3, 4), at_ms, np.float32)
    poses = {"poses": {"arm": np.full(7, at_ms, np.float64)}}
    return Observation(at_ms * MS, rows, np.full(3, mask), None, poses, layout)


def steps_ms(made):
    return (made["stamps_ns"] // MS).tolist()


def test_a_window_by_age_is_there_from_the_first_observation_on():
    window = ObservationWindow(3, stride_s=0.1)
    made = window.add(seen(1000))
    assert steps_ms(made) == [0, 0, 1000]
    assert made["mask"].tolist() == [[False] * 3, [False] * 3, [True] * 3]
    assert not made["tokens"][:2].any() and np.isnan(made["poses"]["arm"][:2]).all()
    assert steps_ms(window.add(seen(1060))) == [0, 1000, 1060]
    assert steps_ms(window.add(seen(1200))) == [1000, 1060, 1200]
    made = window.add(seen(1290))
    assert steps_ms(made) == [1060, 1200, 1290]
    np.testing.assert_array_equal(made["tokens"][:, 0, 0], [1060, 1200, 1290])
    np.testing.assert_array_equal(made["poses"]["arm"][:, 0], [1060, 1200, 1290])


def test_a_step_back_an_episode_and_another_meaning_begin_anew():
    window = ObservationWindow(2, stride_s=0.1)
    for at_ms in (1000, 1100):
        window.add(seen(at_ms))
    assert steps_ms(window.add(seen(1100))) == [0, 1100], "no time has passed"
    assert steps_ms(window.add(seen(1200))) == [1100, 1200]
    assert steps_ms(window.add(seen(300))) == [0, 300]
    window.begin_episode()
    assert steps_ms(window.add(seen(400))) == [0, 400]
    other = replace(PLAIN, encoder_sha256="cc")
    assert steps_ms(window.add(seen(500, other))) == [0, 500]


def test_only_a_camera_that_changed_what_it_sees_is_a_break():
    window = ObservationWindow(2, stride_s=0.1)
    camera = PLAIN.cameras[0]
    unseen = replace(PLAIN, cameras=(replace(camera, source_size_px=None, frame_id=""),))
    small = replace(PLAIN, cameras=(replace(camera, source_size_px=(24, 32)),))
    window.add(seen(1000, unseen, mask=False))  # the camera has sent nothing yet
    assert steps_ms(window.add(seen(1100))) == [1000, 1100]
    assert steps_ms(window.add(seen(1200, small))) == [0, 1200]
    # Absent now, so that there is nothing to compare.
    assert steps_ms(window.add(seen(1300, PLAIN, mask=False))) == [1200, 1300]


def test_a_window_keeps_no_more_than_its_span():
    window = ObservationWindow(2, stride_s=0.1)
    for at_ms in range(1000, 3000, 10):
        window.add(seen(at_ms))
    assert len(window._kept) == 16  # 150 ms at 100 Hz, both ends included
