"""The table of output topics: what the documentation says, and what frames are sent as."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from test.conftest import ROOT
from test.wire.test_basis import BASIS, TOKENS, WITH_BASIS
from test.wire.test_tensors import LAYOUT
from vit_perception.tokens import kinds
from vit_perception.tokens.source import SampledSource, registered
from vit_perception.wire import topics
from vit_perception.wire.basis import Basis, decode_groups, pack_group
from vit_perception.wire.layout import LayoutApart, LayoutDense, LayoutHistory
from vit_perception.wire.monitored import CameraChange, CameraShift
from vit_perception.wire.records import (
    CameraResult,
    ClassScore,
    FrameResult,
    Pose,
    RgbImage,
    Sample,
    SampleAtImage,
    TokenGroup,
    TokenSequence,
)
from vit_perception.wire.tensors import TensorFields, decode_stamps, decode_tensor, encode_rows

WHEN = {
    "frame": "each frame",
    "dense": "each frame, last, while somebody subscribes",
    "view": "while somebody subscribes; frames are skipped where it takes longer",
    "configure": "at configure; latched",
    "layout": "at configure, and when it changes; latched",
}


def documented() -> str:
    """The table as docs/wire_format.md has to have it."""
    camera = [*topics.CAMERA, topics.CLASSIFICATION]
    samples = [
        (topics.sample_topic(kind.kind, kind.type), kind.label)
        for kind in registered()
        if issubclass(kind, SampledSource) and kind.__module__.startswith(kinds.tokens.__name__)
    ]
    # The only tokens apart, by now.
    apart = replace(topics.APART, name="policy_state")
    frame = [apart, topics.EMBEDDING, topics.HISTORY_STAMPS, topics.TOKEN_MASK, topics.TOKENS]
    later = [*topics.VIEWS, topics.DEPTH, topics.SEGMENTATION, topics.SEGMENTATION_INFO]
    rows = [
        *((row, "camera") for row in (*camera, *topics.MONITOR)),
        *samples,
        *((row, "camera") for row in (*frame, *later, topics.BASIS, topics.LAYOUT)),
    ]
    lines = ["| topic | type | what | sent |", "| --- | --- | --- | --- |"]
    for row, label in rows:
        name = row.name.format(f"<{label}>")
        lines.append(f"| `~/{name}` | {row.type} | {row.what} | {WHEN[row.when]} |")
    return "\n".join(lines)


def test_the_documentation_has_the_table():
    text = (ROOT / "docs/wire_format.md").read_text()
    found = re.search(r"<!-- topics:.*?-->\n(.*?)\n?<!-- end of topics -->", text, re.DOTALL)
    assert found is not None and found[1] == documented()


STATE_TOKEN = np.arange(1, 6, dtype=np.float32)[None]
# What a layout has where the policy's state token is wider than the others.
APART = LayoutApart("policy/policy_state", "policy_state", "policy", 1, 5)


def result(pose: Pose | None) -> FrameResult:
    """One frame of ``LAYOUT``."""
    pixels = np.zeros((480, 640, 3), np.uint8)
    camera = CameraResult(
        image=RgbImage(pixels, 5, "optical"),
        cls_token=np.arange(3, dtype=np.float32),
        patch_tokens=np.ones((4, 3), np.float32),
        cls_attention=np.zeros((1, 4), np.float32),
        grid=(2, 2),
        classes=(ClassScore("a", 0.5),),
    )
    tokens = np.ones((6, 3), np.float32)
    return FrameResult(
        stamp_ns=5,
        frame_id="optical",
        cameras={"wrist": camera},
        samples={
            "arm": SampleAtImage(pose, "interpolated" if pose else "missing", None),
            "body": SampleAtImage(Sample(np.array([0.1, 0.2]), 5, ""), "held", 1),
        },
        sequence=TokenSequence.of([TokenGroup("cls", "wrist", tokens)]),
        embedding=np.ones(6, np.float32),
        apart=(TokenGroup("policy_state", "policy", STATE_TOKEN, apart=True),),
    )


POSE = Pose(np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 0.0, 1.0]), 5, "base")


def sent(frame: FrameResult, layout=LAYOUT, dense=None, monitored=()) -> dict[str, topics.Fields]:
    outgoing = topics.Outgoing(frame, layout, dense)
    encoded = {
        topic.name: topic.row.encode(outgoing, topic.source)
        for topic in topics.topics_of(layout, monitored)
        if topic.row.encode
    }
    return {name: fields for name, fields in encoded.items() if fields is not None}


def test_a_frame_is_sent_camera_by_camera_then_samples_then_tokens():
    found = sent(result(POSE))
    assert list(found) == [
        "wrist/cls_token",
        "wrist/patch_features",
        "wrist/classification",
        "arm/pose_at_image",
        "body/state_at_image",
        "embedding",
        "token_mask",
        "tokens",
    ]
    assert found["arm/pose_at_image"]["pose"]["position"] == {"x": 1.0, "y": 2.0, "z": 3.0}
    state = found["body/state_at_image"]
    assert (state["name"], list(state["position"])) == (["elbow", "gripper"], [0.1, 0.2])
    rows = TensorFields(**{k: v for k, v in found["tokens"].items() if k != "header"})
    np.testing.assert_array_equal(decode_tensor(rows), np.ones((6, 3)))


def test_what_is_missing_is_not_sent():
    found = sent(replace(result(None), cameras={}))
    assert list(found) == ["body/state_at_image", "embedding", "token_mask", "tokens"]


def test_patch_tokens_are_reduced_once_for_two_topics():
    """`patch_features` and `tokens` were each reduced, which took twice the time."""
    reduced = []

    class Counting(Basis):
        def reduce(self, tokens):
            reduced.append(len(tokens))
            return super().reduce(tokens)

    basis = Counting(BASIS.mean, BASIS.directions, BASIS.encoder_sha256)
    frame = replace(
        result(POSE),
        sequence=TokenSequence.of([TokenGroup("patch", "wrist", TOKENS)]),
        cameras={"wrist": replace(result(POSE).cameras["wrist"], patch_tokens=TOKENS[1:5])},
    )
    outgoing = topics.Outgoing(frame, WITH_BASIS, None, basis)
    features, tokens = (
        SimpleNamespace(**row.encode(outgoing, "wrist"))
        for row in (topics.CAMERA[1], topics.TOKENS)
    )
    assert reduced == [4]
    groups = decode_groups(tokens, WITH_BASIS)
    np.testing.assert_array_equal(decode_tensor(features), groups["wrist/patch"])
    alone = encode_rows(pack_group(TOKENS[1:5], "patch", BASIS))
    assert bytes(features.data) == bytes(alone.data)


def test_tokens_of_another_width_have_a_topic_of_their_own():
    found = sent(result(POSE), replace(LAYOUT, apart=(APART,)))
    assert list(found)[-4:] == ["policy_state", "embedding", "token_mask", "tokens"]
    rows = TensorFields(**{k: v for k, v in found["policy_state"].items() if k != "header"})
    np.testing.assert_array_equal(decode_tensor(rows), STATE_TOKEN)
    assert found["policy_state"]["header"] == found["tokens"]["header"]


def test_stamps_of_the_history_are_there_where_the_layout_has_one():
    frame = replace(result(POSE), history_stamps_ns=(0, 4, 5))
    found = sent(frame, replace(LAYOUT, history=LayoutHistory(3, 0.1, 0.05)))
    assert list(found)[-4:] == ["embedding", "history_stamps", "token_mask", "tokens"]
    stamps = found["history_stamps"]
    assert stamps["header"] == found["tokens"]["header"]
    rows = TensorFields(**{k: v for k, v in stamps.items() if k != "header"})
    assert decode_stamps(rows).tolist() == [0, 4, 5]


def test_dense_rows_are_there_where_the_layout_says_so():
    dense = LayoutDense("segmentation", "class", "", (2, 5), ("wall", "floor"), 255)
    layout = replace(LAYOUT, dense=dense)
    labels = np.ones((480, 640), np.uint8)
    found = sent(result(POSE), layout, lambda camera: labels)
    assert found["wrist/segmentation"]["encoding"] == "mono8"
    latched = [topic.name for topic in topics.topics_of(layout) if topic.row.latched]
    assert latched == ["wrist/segmentation_info", "layout"]


def test_what_the_monitor_found_is_sent_with_the_header_of_the_cameras_image():
    shift = CameraShift(x_px=4.0, y_px=-1.5, rotation_deg=0.5, agreement=0.9)
    changed = replace(result(POSE), changes={"wrist": CameraChange(0.75, 1.2, shift)})
    found = sent(changed, monitored=("wrist",))
    assert found["wrist/novelty"]["results"] == [{"class_id": "novel", "score": 0.75}]
    assert found["wrist/camera_shift"]["vector"] == {"x": 4.0, "y": -1.5, "z": 0.5}
    header = found["wrist/cls_token"]["header"]
    assert found["wrist/novelty"]["header"] == found["wrist/camera_shift"]["header"] == header
    # No shift where the background shows none, and neither where the monitor saw no image.
    unseen = replace(changed, changes={"wrist": CameraChange(0.75, 1.2, None, "no background")})
    assert "wrist/camera_shift" not in sent(unseen, monitored=("wrist",))
    assert "wrist/novelty" not in sent(result(POSE), monitored=("wrist",))
    # Without a reference there are no such topics.
    assert not [name for name in sent(changed) if "novelty" in name or "shift" in name]
