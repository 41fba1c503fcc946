"""One observation out of messages of several topics, whatever their order; layouts that do not fit
are named.
"""

from dataclasses import replace
from types import SimpleNamespace as Message

import numpy as np
import pytest

from vit_perception.policy.continuity import checked_max_gap_ns
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.policy.live import (
    LayoutMismatch,
    LiveDecoder,
    Observation,
    ObservationWindow,
    check_layout,
)
from vit_perception.wire.layout import Layout, LayoutCamera, LayoutGroup, LayoutState
from vit_perception.wire.tensors import encode_tensor

MS = 1_000_000
LAYOUT = Layout(
    (
        LayoutGroup("wrist/cls", "cls", "wrist", 0, 1),
        LayoutGroup("wrist/patch", "patch", "wrist", 1, 3, (1, 2)),
        LayoutGroup("arm/pose", "pose", "arm", 3, 4),
        LayoutGroup("hand/state", "state", "hand", 4, 5),
    ),
    (LayoutCamera("wrist", "optical", "crop", (28, 28), 14, (48, 64), (0.5, 0.5), (0.0, 4.0)),),
    width=4,
    dtype="float32",
    model="tiny",
    weights_sha256="aa",
    encoder_sha256="bb",
    block=1,
    runtime="torch",
    precision="float32",
    min_cosine=1.0,
    fusion="concat",
    embedding_width=12,
    states=(LayoutState("hand", ("left", "right"), ("position", "velocity")),),
)


def header(stamp_ns):
    return Message(
        stamp=Message(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9), frame_id="optical"
    )


def tokens(stamp_ns, value=1.0, missing=()):
    rows = np.full((5, 4), value, np.float32)
    rows[list(missing)] = 0
    return "/robot/tokens", Message(header=header(stamp_ns), **encode_tensor(rows)._asdict())


def embedding(stamp_ns):
    return "/robot/embedding", Message(
        header=header(stamp_ns), **encode_tensor(np.ones((1, 12), np.float32))._asdict()
    )


def pose(stamp_ns, x_m=0.1):
    at = Message(
        position=Message(x=x_m, y=0.2, z=0.3), orientation=Message(x=0.0, y=0.0, z=0.0, w=1.0)
    )
    return "/robot/arm/pose_at_image", Message(header=header(stamp_ns), pose=at)


def state(stamp_ns):
    return "/robot/hand/state_at_image", Message(
        header=header(stamp_ns),
        name=["left", "right"],
        position=[0.1, 0.2],
        velocity=[1.0, 2.0],
        effort=[],
    )


@pytest.fixture
def decoder():
    made = LiveDecoder("/robot", [LAYOUT], embedding=True)
    assert list(made.topics) == ["/robot/layout"]
    assert made.add(*tokens(1)) is None  # nothing can be read before the layout
    made.add("/robot/layout", Message(data=LAYOUT.to_json()))
    return made


def test_parts_in_any_order_make_one_observation(decoder):
    assert decoder.topics == {
        "/robot/layout": "std_msgs/msg/String",
        "/robot/tokens": "sensor_msgs/msg/Image",
        "/robot/embedding": "sensor_msgs/msg/Image",
        "/robot/arm/pose_at_image": "geometry_msgs/msg/PoseStamped",
        "/robot/hand/state_at_image": "sensor_msgs/msg/JointState",
    }
    parts = [pose(10 * MS), tokens(10 * MS), state(10 * MS), embedding(10 * MS)]
    for shift in range(4):
        now = 10 * MS * (1 + shift)
        parts = [make(now) for make in (pose, tokens, state, embedding)]
        observed = [decoder.add(*part) for part in parts[shift:] + parts[:shift]]
        assert observed[:3] == [None] * 3
        made = observed[3]
        assert (
            made.stamp_ns == now
            and made.mask.all()
            and made.layout == LAYOUT
            and made.embedding.shape == (12,)
        )
        np.testing.assert_array_equal(made.poses["arm"], [0.1, 0.2, 0.3, 0, 0, 0, 1])
        np.testing.assert_array_equal(made.states["hand"], [0.1, 0.2, 1.0, 2.0])
    assert decoder.incomplete == 0


def test_a_missing_pose_is_not_waited_for(decoder):
    for part in (embedding(5 * MS), state(5 * MS)):
        assert decoder.add(*part) is None
    made = decoder.add(*tokens(5 * MS, missing=[3]))
    assert (
        made.mask.tolist() == [True, True, True, False, True] and np.isnan(made.poses["arm"]).all()
    )


def test_overtaken_moments_are_counted_and_never_mixed(decoder):
    for part in (tokens(10 * MS, 7.0), pose(20 * MS), state(20 * MS), embedding(20 * MS)):
        assert decoder.add(*part) is None
    made = decoder.add(*tokens(20 * MS, 9.0))
    assert np.all(made.tokens == 9.0) and decoder.incomplete == 1
    assert decoder.add(*pose(10 * MS)) is None and decoder.add(*embedding(10 * MS)) is None
    for k in range(100):
        decoder.add(*pose((30 + k) * MS))
    assert decoder.incomplete == 1 + 90  # what waits is bounded


def test_a_bag_that_loops_goes_on(decoder):
    for now in (5_000 * MS, 6_000 * MS, 1_000 * MS):
        made = [decoder.add(*make(now)) for make in (pose, state, embedding, tokens)][-1]
        assert made.stamp_ns == now


def test_a_layout_that_does_not_fit_is_refused_with_the_fields():
    other = replace(LAYOUT, encoder_sha256="cc", block=0)
    with pytest.raises(
        LayoutMismatch, match="encoder_sha256 is 'cc' where 'bb' is expected; block is 0 where 1"
    ):
        LiveDecoder("/robot", [LAYOUT]).add("/robot/layout", Message(data=other.to_json()))
    with pytest.raises(LayoutMismatch, match="cameras.0.fit is 'pad' where 'crop' is expected"):
        check_layout(
            replace(LAYOUT, cameras=(replace(LAYOUT.cameras[0], fit="pad"),)), [other, LAYOUT]
        )
    unseen = replace(
        LAYOUT.cameras[0], source_size_px=None, scale=None, offset_px=None, frame_id=""
    )
    check_layout(replace(LAYOUT, cameras=(unseen,)), [LAYOUT])  # no image yet
    on_a_robot = replace(LAYOUT, runtime="tensorrt", precision="float16", min_cosine=0.9995)
    check_layout(on_a_robot, [LAYOUT])
    with pytest.raises(LayoutMismatch, match="runtime is 'tensorrt'"):
        check_layout(on_a_robot, [LAYOUT], may_differ=())


def test_windows_are_strided_and_begin_anew_when_time_goes_back(decoder):
    window, made = ObservationWindow(3, 2), []
    for now in (1, 2, 3, 4, 5, 6, 2, 3):
        for part in (pose(now * MS), state(now * MS), embedding(now * MS), tokens(now * MS, now)):
            observation = decoder.add(*part)
            made += [window.add(observation)] if observation else []
    assert [m["stamps_ns"].tolist() if m else None for m in made] == [None] * 4 + [
        [MS, 3 * MS, 5 * MS],
        [2 * MS, 4 * MS, 6 * MS],
    ]
    assert made[-1]["tokens"].shape == (3, 5, 4) and made[-1]["poses"]["arm"].shape == (3, 7)
    with pytest.raises(ValueError, match="history is 0"):
        ObservationWindow(0)


def test_a_window_does_not_span_two_layouts():
    """As in the data set: an image of another size keeps the tokens' shape, and changes what they
    show.
    """
    window, made = ObservationWindow(2), []
    small = replace(LAYOUT, cameras=(replace(LAYOUT.cameras[0], source_size_px=(24, 32)),))
    decoder = LiveDecoder("/robot", [LAYOUT, small], embedding=True)
    for now in range(1, 5):
        if now in (1, 3):
            decoder.add("/robot/layout", Message(data=(LAYOUT if now == 1 else small).to_json()))
        for part in (pose(now * MS), state(now * MS), embedding(now * MS), tokens(now * MS, now)):
            observation = decoder.add(*part)
            made += [window.add(observation)] if observation else []
    assert [m["stamps_ns"].tolist() if m else None for m in made] == [
        None,
        [MS, 2 * MS],
        None,
        [3 * MS, 4 * MS],
    ]


@pytest.mark.parametrize("max_gap_s", [0.05, 0.2, 1.0, float("inf")])
def test_live_windows_are_those_of_the_stored_frames(max_gap_s):
    """One rule for both: gaps, steps back, equal stamps and layouts break a window; seeded
    recordings.
    """
    small = replace(LAYOUT, cameras=(replace(LAYOUT.cameras[0], source_size_px=(24, 32)),))
    rng = np.random.default_rng(7)
    for history, stride in ((1, 1), (2, 1), (2, 3), (3, 2)):
        steps_ms = rng.choice([10, 10, 10, 10, 60, 300, 1500, 0, -40], 80)
        stamps_ns = (10_000 + np.cumsum(steps_ms)) * MS
        layouts = np.cumsum(rng.random(80) < 0.05) % 2
        data = FeatureDataset.__new__(FeatureDataset)  # the rule alone: no files
        data.history, data.stride = history, stride
        data.files = Message(stamp_ns=stamps_ns, episode=np.zeros(80, int), layout_index=layouts)
        data._begins = data._beginnings(checked_max_gap_ns(history, stride, max_gap_s))
        ends = data._complete_windows()
        window, live = ObservationWindow(history, stride, max_gap_s), []
        for k, (stamp_ns, layout) in enumerate(zip(stamps_ns, layouts)):
            made = window.add(
                Observation(
                    int(stamp_ns),
                    np.full((1, 1), k),
                    np.ones(1, bool),
                    None,
                    {},
                    (LAYOUT, small)[layout],
                )
            )
            live += [made["tokens"][:, 0, 0].tolist()] if made else []
        assert (
            live == [list(range(end - (history - 1) * stride, end + 1, stride)) for end in ends]
            and live
        )


def test_a_gap_and_a_new_episode_begin_a_new_window():
    window = ObservationWindow(2, max_gap_s=0.5)

    def add(stamp_ns):
        return window.add(
            Observation(stamp_ns, np.ones((1, 1)), np.ones(1, bool), None, {}, LAYOUT)
        )

    assert [add(t * MS) is not None for t in (1000, 1500, 2001, 2002)] == [False, True, False, True]
    window.begin_episode()
    assert add(2003 * MS) is None and add(2004 * MS) is not None
    for gap_s in (0.0, float("nan"), -1.0):
        with pytest.raises(ValueError, match="max_gap_s"):
            ObservationWindow(2, max_gap_s=gap_s)


@pytest.mark.parametrize(
    "name, spoilt, words",
    [
        (
            "tokens",
            lambda ns: Message(
                header=header(ns), **encode_tensor(np.ones((3, 4), np.float32))._asdict()
            ),
            "3",
        ),
        (
            "embedding",
            lambda ns: Message(
                header=header(ns), **encode_tensor(np.ones((2, 4), np.float32))._asdict()
            ),
            "2 rows",
        ),
        (
            "hand/state_at_image",
            lambda ns: Message(header=header(ns), position=[1.0], velocity=[]),
            "1 and 0 numbers",
        ),
        (
            "nobody/state_at_image",
            lambda ns: Message(header=header(ns), position=[1.0], velocity=[]),
            "no source",
        ),
    ],
)
def test_a_message_that_contradicts_the_layout_leaves_nothing_behind(decoder, name, spoilt, words):
    """A flood of them, each with a stamp of its own, would fill the memory."""
    for stamp_ns in range(1000, 1100):
        with pytest.raises(ValueError, match=words):
            decoder.add(f"/robot/{name}", spoilt(stamp_ns))
    assert not decoder._pending and decoder.incomplete == 0
