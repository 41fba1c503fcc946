"""Thousands of malformed messages through the functions that the node runs on them; tens of
thousands in the long form.

Whatever comes: no exception but BadInput, which says what would be accepted; no image that the
books lose; and what is taken can be worked with.
"""

import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from test.amount import examples
from test.fuzz import malformed
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
    PoseSettings,
    StateSettings,
)
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.streams.camera_sync import CameraSync
from vit_perception.streams.sample_inputs import SampleInputs
from vit_perception.tokens.joints import JointSource
from vit_perception.tokens.pose import PoseSource
from vit_perception.tokens.tokenizer import make_state_tokenizer, make_tokenizer, pose_numbers
from vit_perception.wire.layout import Layout
from vit_perception.wire.records import BadInput
from vit_perception.wire.stamps import stamp_ns_of
from vit_perception.wire.tensors import decode_tensor, mask_of

# Messages of each kind; four to an example where the order of messages matters.
WANTED = {
    "images": examples(8000),
    "compressed images": examples(6000),
    "poses": examples(4000),
    "joint states": examples(4000),
    "layouts": examples(2000),
    "tensors": examples(2000),
}
SEEN: dict[str, Counter] = {kind: Counter() for kind in WANTED}
REASONS = {"stamp", "frame", "size", "short_data", "encoding", "decode"}


def runs(kind: str, messages_each: int = 1):
    """Derandomized, so that every run tests the same; more with ``--hypothesis-seed`` by hand."""
    return settings(
        max_examples=WANTED[kind] // messages_each,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def pipeline(tiny_checkpoint):
    cameras = (CameraSettings("raw", "/raw", "raw"), CameraSettings("file", "/file", "compressed"))
    opened = Pipeline.open(
        EncoderSettings(
            cameras,
            model=ModelSettings(str(tiny_checkpoint)),
            engine=EngineSettings("torch", "float32"),
        )
    )
    yield opened
    opened.close()


def checked(error: Exception, kind: str, reasons: set[str]) -> str:
    """The reason of ``error``, which must be a BadInput that helps."""
    assert isinstance(error, BadInput), repr(error)
    assert "accepted" in str(error) and error.reason in reasons, f"{error.reason}: {error}"
    SEEN[kind][error.reason] += 1
    return error.reason


def balanced(sync: CameraSync, camera: str) -> bool:
    books = sync.accounts[camera]
    return books.received == books.published + sum(books.dropped.values()) + sync.pending(camera)


def run_stream(pipeline: Pipeline, camera: str, kind: str, messages: list) -> None:
    """``messages`` of one camera, each received, grouped and prepared as in the node."""
    sync = CameraSync([camera], 0, "wait", 10**9, 0)
    for index, message in enumerate(malformed.one_after_another(messages)):
        try:
            sync.add(camera, stamp_ns_of(message.header), message, index)
        except BadInput as error:
            sync.refuse(camera, checked(error, kind, REASONS))
        assert balanced(sync, camera)
        for name, taken in (sync.take(index) or {}).items():
            prepared = pipeline.prepare({name: taken})
            row = [c.name for c in pipeline.settings.cameras].index(name)
            if name in prepared.refused:
                sync.finish(name, checked(prepared.refused[name], kind, REASONS))
                assert not prepared.batch[row].any()
            else:
                pixels = prepared.images[name].pixels
                assert (
                    pixels.dtype == np.uint8 and pixels.shape[2:] == (3,) and min(pixels.shape) > 0
                )
                if kind == "images":
                    assert prepared.images[name].size == (taken.height, taken.width)
                SEEN[kind]["taken"] += 1
                sync.finish(name)
            assert balanced(sync, name)
    books = sync.accounts[camera]
    assert books.received == len(messages) and sync.pending(camera) == 0
    for reason in books.dropped.keys() - REASONS:
        SEEN[kind][reason] += books.dropped[reason]
    SEEN[kind]["all"] += len(messages)


@runs("images", 4)
@given(messages=st.lists(malformed.images(), min_size=4, max_size=4))
def test_images(pipeline, messages):
    run_stream(pipeline, "raw", "images", messages)


@runs("compressed images", 4)
@given(messages=st.lists(malformed.compressed_images(), min_size=4, max_size=4))
def test_compressed_images(pipeline, messages):
    run_stream(pipeline, "file", "compressed images", messages)


TOKENIZER = make_tokenizer("fourier", 64, "")


@runs("poses", 4)
@given(messages=st.lists(malformed.poses(), min_size=4, max_size=4))
def test_poses(messages):
    arm = PoseSettings("arm", "/ee_pose", "base_link", wait_s=0.0)
    inputs = SampleInputs([PoseSource(arm)], threading.Condition())
    for message in messages:
        try:
            inputs.add(arm.name, message)
        except BadInput as error:
            checked(error, "poses", {"stamp", "frame", "nan", "quaternion", "position"})
            continue
        SEEN["poses"]["taken"] += 1
        found = inputs.at(stamp_ns_of(message.header))["arm"]
        if found.value is not None:
            assert np.isfinite(TOKENIZER.encode(pose_numbers(found.value))).all()
    account = inputs.accounts["arm"]
    assert (
        account.received
        == len(messages)
        == sum(account.refused.values()) + sum(account.statuses.values())
    )
    SEEN["poses"]["all"] += len(messages)


STATE = StateSettings(
    "body", "/joint_states", ("elbow", "shoulder"), ("position", "velocity"), wait_s=0.0
)
STATE_TOKENIZER = make_state_tokenizer("fourier", 64, STATE)


@runs("joint states", 4)
@given(messages=st.lists(malformed.joint_states(), min_size=4, max_size=4))
def test_joint_states(messages):
    inputs = SampleInputs([JointSource(STATE)], threading.Condition())
    for message in messages:
        try:
            inputs.add(STATE.name, message)
        except BadInput as error:
            checked(
                error,
                "joint states",
                {"stamp", "frame", "other_joints", "joints", "length", "nan", "magnitude"},
            )
            continue
        SEEN["joint states"]["taken"] += 1
        found = inputs.at(stamp_ns_of(message.header))["body"]
        assert found.value is None or np.isfinite(STATE_TOKENIZER.encode(found.value.numbers)).all()
    account = inputs.accounts["body"]
    assert (
        account.received
        == len(messages)
        == sum(account.refused.values()) + sum(account.statuses.values())
    )
    SEEN["joint states"]["all"] += len(messages)


@runs("layouts")
@given(text=malformed.layout_texts())
def test_layouts(text):
    SEEN["layouts"]["all"] += 1
    try:
        layout = Layout.from_json(text)
    except ValueError as error:
        assert "accepted" in str(error), error
        SEEN["layouts"]["refused"] += 1
        return
    SEEN["layouts"]["taken"] += 1
    tokens = np.broadcast_to(np.float32(0), (layout.token_count, layout.width))
    parts = layout.split(tokens)
    assert (
        sum(map(len, parts.values())) == layout.token_count
        and Layout.from_json(layout.to_json()) == layout
    )


@runs("tensors")
@given(message=malformed.tensors())
def test_tensors(message):
    SEEN["tensors"]["all"] += 1
    try:
        tensor = decode_tensor(message)
    except ValueError as error:
        assert "accepted" in str(error), error
        SEEN["tensors"]["refused"] += 1
        return
    SEEN["tensors"]["taken"] += 1
    assert (
        tensor.shape == (message.height, message.width) and len(mask_of(tensor)) == message.height
    )


def test_enough_was_tried(request, capsys):
    """Last in this file. Prints what came of them."""
    ran = [kind for kind in WANTED if SEEN[kind]["all"]]
    if len(ran) < len(WANTED):
        pytest.skip(f"only {', '.join(ran) or 'nothing'} ran: run the whole file")
    with capsys.disabled():
        for kind, seen in SEEN.items():
            print(f"\nmalformed {kind}: {dict(seen)}", end="")
    assert sum(seen["all"] for seen in SEEN.values()) >= examples(20_000)
    assert all(0 < seen["taken"] < seen["all"] for seen in SEEN.values())
