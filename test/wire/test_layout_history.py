"""Which earlier frames are chosen, and what the layout says of them."""

import hashlib
import json

import numpy as np
import pytest

from test.wire.test_tensors import LAYOUT, message
from vit_perception.wire.layout import Layout, LayoutHistory
from vit_perception.wire.layout_history import (
    MOST_KEPT_FRAMES,
    NO_FRAME,
    refused,
    same_views,
    with_history,
)
from vit_perception.wire.records import BadInput
from vit_perception.wire.tensors import decode_stamps, encode_stamps

MS = 1_000_000


HISTORY = LayoutHistory.of(3, 0.1)
OF_THREE = with_history(LAYOUT, HISTORY)


@pytest.mark.parametrize(
    "stamps_ms, stride_s, tolerance_s, chosen",
    [
        ([1000], 0.1, 0, [-1, -1, 0]),
        ([800, 900, 1000], 0.1, 0, [0, 1, 2]),
        ([800, 850, 900, 950, 1000], 0.1, 0, [0, 2, 4]),
        # 40 ms from its time is within half of the stride, and not within 30 ms.
        ([840, 940, 1000], 0.1, 0, [0, 1, 2]),
        ([840, 940, 1000], 0.1, 0.03, [-1, -1, 2]),
        # Of two as near the older one; at half of the stride a frame is the younger step's.
        ([880, 920, 1000], 0.1, 0, [-1, 0, 2]),
        ([850, 1000], 0.1, 0, [-1, 0, 1]),
        ([750, 1000], 0.1, 0, [0, -1, 1]),
        ([749, 1000], 0.1, 0, [-1, -1, 1]),
        # Frames less often than the stride: no frame stands for two steps.
        ([700, 850, 1000], 0.1, 0, [-1, 1, 2]),
        # The current frame is never its own past.
        ([990, 1000], 0.1, 0, [-1, -1, 1]),
    ],
)
def test_each_step_takes_the_nearest_frame_within_the_tolerance(
    stamps_ms, stride_s, tolerance_s, chosen
):
    rule = LayoutHistory.of(3, stride_s, tolerance_s)
    assert rule.chosen(MS * np.array(stamps_ms)).tolist() == chosen


def test_it_is_what_a_search_through_all_frames_gives():
    random = np.random.default_rng(3)
    for _ in range(200):
        rule = LayoutHistory.of(int(random.integers(1, 6)), float(random.uniform(0.01, 0.3)))
        stamps_ns = np.cumsum(random.integers(1, 90 * MS, int(random.integers(1, 40))))
        found = rule.chosen(stamps_ns)
        for place, age_ns in zip(found[:-1], rule.ages_ns):
            away_ns = stamps_ns - (stamps_ns[-1] - age_ns)
            best = int(np.argmin(np.abs(away_ns)))  # of two as near the first, the older one
            is_near = -rule.tolerance_ns <= away_ns[best] < rule.tolerance_ns
            assert place == (best if is_near else NO_FRAME)
        assert found[-1] == len(stamps_ns) - 1
        taken = found[found != NO_FRAME]
        assert (np.diff(taken) > 0).all(), "no frame twice, oldest first"


def test_only_so_many_frames_are_looked_at_as_the_node_keeps():
    rule = LayoutHistory.of(2, 10.0)
    stamps_ns = np.arange(1, 4 * MOST_KEPT_FRAMES) * 4 * MS
    assert rule.chosen(stamps_ns).tolist() == [NO_FRAME, len(stamps_ns) - 1]
    stamps_ns = np.arange(1, 4 * MOST_KEPT_FRAMES) * 10 * MS
    assert rule.chosen(stamps_ns).tolist() == [len(stamps_ns) - 1001, len(stamps_ns) - 1]


@pytest.mark.parametrize(
    "values, name",
    [
        ((0, 0.1, 0), "frames"),
        ((33, 0.1, 0), "frames"),
        ((8, 10.0, 0), "frames"),
        ((2, 0.0, 0), "stride_s"),
        ((2, -0.1, 0), "stride_s"),
        ((2, float("nan"), 0), "stride_s"),
        ((2, float("inf"), 0), "stride_s"),
        ((2, 0.1, 0.06), "tolerance_s"),
        ((2, 0.1, -0.01), "tolerance_s"),
        ((2, 0.1, float("nan")), "tolerance_s"),
    ],
)
def test_numbers_that_are_no_history_are_refused(values, name):
    assert refused(*values).name == name
    with pytest.raises(ValueError, match=f"^{name} is .*; accepted: .*") as caught:
        LayoutHistory.of(*values)
    assert "\n" not in str(caught.value)


def test_views_of_absent_cameras_are_not_compared():
    assert same_views({"a": 1}, {"a": 1, "b": 2}) and same_views({"a": 1, "b": 2}, {"b": 2})
    assert not same_views({"a": 1, "b": 2}, {"a": 1, "b": 3})


def test_the_layout_names_steps_and_parts_tokens_by_them():
    again = Layout.from_json(OF_THREE.to_json())
    assert again == OF_THREE and again.token_count == 18
    assert [g.name for g in again.groups if g.kind == "cls"] == [
        "wrist/cls@2",
        "wrist/cls@1",
        "wrist/cls",
    ]
    tokens = np.arange(54).reshape(18, 3)
    steps = again.steps(tokens)
    assert steps.shape == (3, 6, 3) and np.shares_memory(steps, tokens)
    np.testing.assert_array_equal(steps[2, 1:5], again.split(tokens)["wrist/patch"])
    assert again.steps(np.ones(18, bool)).shape == (3, 6)
    assert [s.name for s in again.samples] == ["arm", "body"], "each source once"
    written = json.loads(OF_THREE.to_json())
    assert written["history"] == {"frames": 3, "stride_s": 0.1, "tolerance_s": 0.05}
    assert [g["step"] for g in written["groups"]] == [2, 2, 2, 1, 1, 1, 0, 0, 0]


def test_a_layout_without_history_is_byte_for_byte_what_it_was():
    """The id and the text are those of the version before there was a history."""
    assert LAYOUT.layout_id == "2cab0f7228dcd7db"
    digest = hashlib.sha256(LAYOUT.to_json().encode()).hexdigest()
    assert digest.startswith("53dca4f3b0c611c3")
    written = json.loads(LAYOUT.to_json())
    assert "history" not in written and not any("step" in group for group in written["groups"])
    assert LAYOUT.steps(np.ones((6, 3))).shape == (1, 6, 3)


def change(edit):
    fields = json.loads(OF_THREE.to_json())
    edit(fields)
    return json.dumps(fields)


@pytest.mark.parametrize(
    "edit, said",
    [
        (lambda f: f["history"].update(frames=2_000_000_000), "accepted: 2 to 32 frames"),
        (lambda f: f["history"].update(frames=1), "accepted: 2 to 32 frames"),
        (lambda f: f["history"].update(frames=2), "does not fit a history of 2 frames"),
        (lambda f: f["history"].update(frames=9), "does not fit a history of 9 frames"),
        (lambda f: f["history"].update(stride_s=0), "and times above 0"),
        (lambda f: f["history"].update(stride_s=float("nan")), "layout.history.stride_s is nan"),
        (lambda f: f["groups"][0].update(step=1), "does not fit a history of 3 frames"),
        (lambda f: f["groups"][0].update(name="wrist/cls@7"), "does not fit a history"),
        (lambda f: f["groups"][1].update(source="other"), "does not fit a history"),
        (lambda f: f.pop("history"), "accepted: step 0 without history"),
    ],
)
def test_a_history_that_contradicts_the_groups_is_refused(edit, said):
    with pytest.raises(BadInput, match="accepted") as caught:
        Layout.from_json(change(edit))
    assert said in str(caught.value)


def test_stamps_survive_the_wire_to_the_nanosecond():
    stamps_ns = (0, 1, 1_764_000_000_123_456_789, 2_147_483_647_999_999_999)
    fields = encode_stamps(stamps_ns)
    assert (fields.height, fields.width, fields.encoding, fields.step) == (1, 4, "32SC2", 32)
    assert decode_stamps(message(fields)).tolist() == list(stamps_ns)


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"encoding": "32FC1"}, "accepted: 32SC2"),
        ({"width": 3}, "3 of 32SC2 does not fit 16 bytes"),
        ({"width": 0}, "accepted: one row"),
        ({"height": 2}, "accepted: one row"),
        ({"width": 2**32 - 1}, "does not fit 16 bytes"),
    ],
)
def test_stamps_that_do_not_fit_their_bytes_are_refused(wrong, said):
    sent = message(encode_stamps((5, 6)))
    for name, value in wrong.items():
        setattr(sent, name, value)
    with pytest.raises(BadInput, match=said):
        decode_stamps(sent)
