"""Joint states by name, in any order and in messages of several drivers; and what no state can be
made of.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from vit_perception.config.settings import BadSetting, PoseSettings, StateSettings
from vit_perception.streams.joint_history import JointSamples, StateHistory, joint_samples_of
from vit_perception.streams.source_streams import SourceStreams
from vit_perception.tokens.joints import JointSource
from vit_perception.tokens.pose import PoseSource
from vit_perception.tokens.tokenizer import make_state_tokenizer
from vit_perception.wire.records import BadInput

MS = 1_000_000
START = 1_700_000_000_000 * MS
JOINTS = ("shoulder", "elbow", "gripper")
STATE = StateSettings("body", "/joint_states", JOINTS, ("position", "velocity"), max_skew_s=0.05)
SKEW = 50 * MS


def message(stamp_ns=START, frame_id="", **joints):
    """``joints`` are (position, velocity) by name, in the order given."""
    stamp = SimpleNamespace(sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp, frame_id=frame_id),
        name=list(joints),
        position=[p for p, _ in joints.values()],
        velocity=[v for _, v in joints.values()],
    )


def test_positions_then_velocities_in_the_order_of_the_settings():
    history = StateHistory(STATE)
    history.add(
        joint_samples_of(
            message(gripper=(3, 30), other=(9, 90), shoulder=(1, 10), elbow=(2, 20)), STATE
        )
    )
    found = history.lookup(START, SKEW)
    assert found.value.numbers.tolist() == [1, 2, 3, 10, 20, 30] and found.status == "interpolated"
    assert found.skew_ns == 0 and found.value.stamp_ns == START


def test_joints_of_two_drivers_are_interpolated_each_between_its_own_samples():
    history = StateHistory(STATE)
    for ms, joints in (
        (0, {"elbow": (0, 0), "shoulder": (0, 1)}),
        (10, {"shoulder": (1, 1), "elbow": (2, 0)}),
        (-20, {"gripper": (0, 0)}),
        (20, {"gripper": (4, 0)}),
    ):
        history.add(joint_samples_of(message(START + ms * MS, **joints), STATE))
    found = history.lookup(START + 5 * MS, SKEW)
    np.testing.assert_allclose(found.value.numbers, [0.5, 1.0, 2.5, 1, 0, 0], atol=1e-12)
    assert (found.status, found.skew_ns) == ("interpolated", 15 * MS)
    assert history.covers(START + 10 * MS) and not history.covers(START + 11 * MS)
    held = history.lookup(START + 15 * MS, SKEW)
    assert (held.status, held.skew_ns) == ("held", 5 * MS)
    assert held.value.numbers.tolist()[:2] == [1, 2]


def test_a_joint_that_never_came_is_named():
    history = StateHistory(STATE)
    history.add(joint_samples_of(message(shoulder=(1, 0), elbow=(2, 0)), STATE))
    found = history.lookup(START, SKEW)
    assert (found.value, found.status, found.skew_ns, found.lacking) == (
        None,
        "missing",
        None,
        ("gripper",),
    )


def test_a_loop_forgets_the_pass_before():
    body = SourceStreams([JointSource(STATE)])
    whole = dict.fromkeys(JOINTS, (1.0, 0.0))
    for ms in range(0, 3000, 10):
        body.add("/joint_states", message(START + ms * MS, **whole))
    body.forget_after(START + 500 * MS)
    assert body.at(START + 500 * MS)["body"].status == "missing"
    body.add("/joint_states", message(START + 500 * MS, **whole))
    body.forget_after(START + 500 * MS)  # the joints' own jump came first
    assert body.at(START + 500 * MS)["body"].status == "interpolated"


def changed(given, **fields):
    for name, value in fields.items():
        setattr(given, name, value)
    return given


@pytest.mark.parametrize(
    "given, reason, words",
    [
        (message(0, elbow=(1, 1)), "stamp", "above zero"),
        (message(elbow=(math.nan, 1)), "nan", "elbow"),
        (message(elbow=(1, math.inf)), "nan", "elbow"),
        (message(elbow=(1e9, 1)), "magnitude", "1e+06"),
        (
            changed(message(elbow=(1, 1)), velocity=[]),
            "length",
            "velocity has 0 values for 1 names",
        ),
        (changed(message(elbow=(1, 1)), position=[1, 2]), "length", "position has 2 values"),
        (
            changed(
                message(elbow=(1, 1)), name=["elbow", "elbow"], position=[1, 2], velocity=[1, 2]
            ),
            "joints",
            "elbow",
        ),
        (message(wheel=(1, 1)), "other_joints", "shoulder, elbow, gripper"),
        (message(), "other_joints", "shoulder"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(given, reason, words):
    with pytest.raises(BadInput, match="accepted") as error:
        joint_samples_of(given, STATE)
    assert error.value.reason == reason and words in str(error.value)


def test_another_drivers_message_is_no_fault_to_a_bag():
    body = SourceStreams(
        [
            PoseSource(PoseSettings("arm", "/pose", "base")),
            PoseSource(PoseSettings("tf", "", source="tf", base_frame="a", ee_frame="b")),
            JointSource(STATE),
        ]
    )
    assert sorted(body.by_topic) == ["/joint_states", "/pose"]
    body.add("/joint_states", message(wheel=(1, 1)))
    with pytest.raises(BadInput, match="nan"):
        body.add("/joint_states", message(elbow=(math.nan, 1)))
    found = body.at(START)
    assert sorted(found) == ["arm", "body", "tf"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 60), st.sampled_from(JOINTS)), max_size=30),
    st.integers(-5, 65),
)
def test_any_arrival_order_gives_what_numpy_interpolates(arrivals, at_ms):
    """Each joint moves by 10 rad/s; whatever came in whichever order, what is interpolated is
    exact.
    """
    history = StateHistory(STATE)
    for ms, joint in arrivals:
        history.add(joint_samples_of(message(START + ms * MS, **{joint: (ms / 100, 1.0)}), STATE))
    found = history.lookup(START + at_ms * MS, SKEW)
    seen = {joint: sorted({ms for ms, j in arrivals if j == joint}) for joint in JOINTS}
    far = {
        joint
        for joint, times in seen.items()
        if not times or min(abs(at_ms - ms) for ms in times) > 50
    }
    assert set(found.lacking) == far and (found.value is None) == bool(far)
    if found.value is not None:
        expected = [np.interp(at_ms, seen[j], seen[j]) / 100 for j in JOINTS]
        np.testing.assert_allclose(found.value.numbers[:3], expected, atol=1e-9)


def test_the_fourier_token_follows_the_documented_formula():
    """Number by number, as another language would write it."""
    numbers, width = np.array([0.3, -1.2, 0.04, 0.5, 0.0, -0.01]), 64
    token = make_state_tokenizer("fourier", width, STATE).encode(numbers)
    pairs, octaves = 32, math.ceil(32 / 6)
    expected = []
    for p in range(pairs):
        wavelength = 8 * (0.02 / 8) ** ((p // 6) / (octaves - 1))
        angle = 2 * math.pi * numbers[p % 6] / wavelength
        expected += [math.sqrt(2) * math.cos(angle), math.sqrt(2) * math.sin(angle)]
    assert token.shape == (1, width) and token.dtype == np.float32
    np.testing.assert_allclose(token[0], expected, atol=1e-6)
    assert np.sqrt(np.mean(token**2)) == pytest.approx(1, abs=1e-6)


def test_a_trained_tokenizer_has_the_states_own_number_of_inputs(tmp_path):
    path = str(tmp_path / "state.safetensors")
    weight = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    save_file({"weight": weight, "bias": np.ones(8, np.float32)}, path)
    state = StateSettings("body", "/j", JOINTS, ("position", "velocity"), tokenizer_weights=path)
    numbers = np.arange(6.0)
    np.testing.assert_allclose(
        make_state_tokenizer("linear", 8, state).encode(numbers)[0], weight @ numbers + 1, rtol=1e-5
    )
    with pytest.raises(ValueError, match="states.body.tokenizer_weights"):
        make_state_tokenizer("mlp", 8, STATE)
    with pytest.raises(ValueError, match="weight"):
        make_state_tokenizer(
            "linear", 8, StateSettings("body", "/j", JOINTS, tokenizer_weights=path)
        )


def test_more_joints_than_a_token_can_hold_are_refused():
    with pytest.raises(BadSetting, match="states.body.joints.*at most 2 joints"):
        make_state_tokenizer("fourier", 8, STATE)


@pytest.mark.parametrize("fraction, expected", [(0.25, 3.1), (0.75, -3.1)])
def test_a_joint_that_wraps_is_held_and_not_led_through_zero(fraction, expected):
    history = StateHistory(StateSettings("arm", "/joints", ("j1",)))
    for stamp_ns, angle in ((10**9, 3.1), (10**9 + 20_000_000, -3.1)):
        history.add(JointSamples(stamp_ns, "", {"j1": (angle,)}))
    found = history.lookup(10**9 + round(fraction * 20_000_000), 50_000_000)
    assert found.status == "held" and found.value.numbers.tolist() == [expected]


def test_a_message_of_thousands_of_names_is_refused_before_they_are_read():
    class Names(list):
        def __iter__(self):
            raise AssertionError("they were read")

    given = message(elbow=(1, 1))
    given.name = Names(["elbow"] * 5000)
    with pytest.raises(BadInput, match="5000 names; accepted: at most 4096") as caught:
        joint_samples_of(given, STATE)
    assert caught.value.reason == "joints"


def endless(before, after, continuous=("j1", "j2"), fields=("position",)):
    state = StateSettings("arm", "/joints", ("j1", "j2"), fields, continuous=continuous)
    history = StateHistory(state)
    for stamp_ns, numbers in ((10**9, before), (10**9 + 20_000_000, after)):
        history.add(JointSamples(stamp_ns, "", {"j1": numbers, "j2": numbers}))
    return history


@pytest.mark.parametrize(
    "before, after, fraction, expected",
    [
        (3.1, -3.1, 0.25, 3.1 + 0.25 * (2 * math.pi - 6.2)),
        (-3.1, 3.1, 0.75, 3.1 + 0.25 * (2 * math.pi - 6.2)),
        (3.0, -3.0, 0.5, math.pi),
        (-3.0, 3.0, 0.5, math.pi),
        (0.1, 0.3, 0.5, 0.2),
        (6.2, 0.1, 0.0, 6.2 - 2 * math.pi),
        (20.0, 20.2, 0.5, 20.1 - 6 * math.pi),
        (-math.pi, -math.pi, 0.5, math.pi),
        (math.pi, math.pi, 0.0, math.pi),
    ],
)
def test_a_continuous_joint_goes_the_shorter_way_across_the_wrap(before, after, fraction, expected):
    found = endless((before,), (after,)).lookup(10**9 + round(fraction * 20_000_000), 50_000_000)
    assert found.status == "interpolated" and found.value.numbers[0] == pytest.approx(
        expected, abs=1e-9
    )
    assert -math.pi < found.value.numbers[0] <= math.pi


def test_the_other_joint_and_velocities_are_none_that_wrap():
    history = endless((3.1, -9.0), (-3.1, 9.0), ("j1",), fields=("position", "velocity"))
    found = history.lookup(10**9 + 5_000_000, 50_000_000)
    assert found.status == "held" and found.value.numbers.tolist()[1:] == [3.1, -4.5, -9.0]
    only_velocity = endless((9.0,), (-9.0,), fields=("velocity",)).lookup(
        10**9 + 5_000_000, 50_000_000
    )
    assert only_velocity.value.numbers.tolist() == [4.5, 4.5]


@given(before=st.floats(-100, 100), after=st.floats(-100, 100), fraction=st.floats(0, 1))
def test_a_continuous_joint_never_turns_by_more_than_half_a_turn(before, after, fraction):
    found = endless((before,), (after,)).lookup(10**9 + round(fraction * 20_000_000), 50_000_000)
    angle = found.value.numbers[0]
    assert -math.pi < angle <= math.pi
    ends = [abs(math.remainder(angle - end, 2 * math.pi)) for end in (before, after)]
    assert sum(ends) == pytest.approx(abs(math.remainder(after - before, 2 * math.pi)), abs=1e-9)
