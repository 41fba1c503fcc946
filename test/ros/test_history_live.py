"""History on the node: what it publishes over DDS is what `embed`, the data set and the live window
make of the same frames, and it ends where time or the node begins anew.
"""

from dataclasses import replace

import numpy as np
import pytest
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from test.ros.sensor_messages import MILLISECOND_NS, image_message
from test.ros.test_embed_equals_live import (
    CAMERAS,
    FRAMES,
    PARAMETERS,
    basis_file,
    listen,
    send,
    settings_of,
    slice_of_the_demo,
)
from vit_perception.config.history_settings import HistorySettings
from vit_perception.config.settings import OutputSettings
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.pipeline.history import PERIOD_FRAMES
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.basis_file import load_basis
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.policy.live import LiveDecoder, ObservationWindow
from vit_perception.recordings.reader import BagReader
from vit_perception.wire.basis import decode_tokens
from vit_perception.wire.tensors import decode_stamps, mask_of

__all__ = ["basis_file", "slice_of_the_demo"]  # fixtures

HISTORY = {"history__frames": 4, "history__stride_s": 0.12}
RULE = HistorySettings(frames=4, stride_s=0.12)


@pytest.mark.parametrize("form", ["float32", "int8", "basis"])
def test_live_history_equals_embed_data_set_and_window(
    rig, slice_of_the_demo, tiny_checkpoint, basis_file, tmp_path, form
):
    """To the bit in every form, with two cameras."""
    output = (
        OutputSettings(basis=str(basis_file)) if form == "basis" else OutputSettings(dtype=form)
    )
    robot = rig(**PARAMETERS, **HISTORY, output_dtype=output.dtype, tokens__basis=output.basis)
    robot.activate()
    heard: list[tuple[str, bytes]] = []
    names = dict.fromkeys(
        ["tokens", "token_mask", "history_stamps", "embedding"], "sensor_msgs/Image"
    )
    names["arm/pose_at_image"] = "geometry_msgs/PoseStamped"
    listen(robot, names, heard)
    send(
        robot,
        slice_of_the_demo,
        lambda: len({data for topic, data in heard if topic.endswith("/tokens")}),
    )
    robot.until(lambda: len(heard) >= FRAMES * len(names), what=f"all of {len(names)} topics")

    source = BagSource(slice_of_the_demo, f"/{CAMERAS[0]}/image/compressed")
    plain = replace(settings_of(tiny_checkpoint), output=output)
    for name, settings in (("plain", plain), ("history", replace(plain, history=RULE))):
        pipeline = Pipeline.open(settings)
        for kind in ("mcap", "safetensors"):
            embed(pipeline, [source], tmp_path / f"{name}_{kind}", EmbedOptions(kind))
        pipeline.close()
    with BagReader(tmp_path / "history_mcap") as bag:
        written = [
            (m.topic, m.data)
            for m in bag.raw(list(bag.topics))
            if m.topic.removeprefix("/vit_encoder/") in names
        ]
    assert len(written) == FRAMES * len(names) and sorted(written) == sorted(heard)

    # What the node sent, in the order of the frames, against windows of a node without history.
    layout = robot.tester.layout
    sent = [
        (deserialize_message(data, Image), topic) for topic, data in heard if "/arm/" not in topic
    ]
    basis = load_basis(output.basis).basis if output.basis else None
    messages = [m for m, topic in sent if topic.endswith("/tokens")]
    tokens = [decode_tokens(message, layout, basis) for message in messages]
    stamps = [decode_stamps(m) for m, topic in sent if topic.endswith("/history_stamps")]
    data = FeatureDataset(tmp_path / "plain_safetensors", history=4, stride_s=0.12)
    window, decoder = ObservationWindow(4, stride_s=0.12), LiveDecoder(expected=data.layouts)
    with BagReader(tmp_path / "plain_mcap") as bag:
        observations = [
            o for topic, _, m in bag.messages(list(bag.topics)) if (o := decoder.add(topic, m))
        ]
    # A policy that was trained on these windows takes the node's history as it is.
    (expected,) = data.layouts_of_history
    assert expected == layout and expected.layout_id == layout.layout_id
    assert len(data) == len(tokens) == len(stamps) == len(observations) == FRAMES
    for k, observation in enumerate(observations):
        made = window.add(observation)
        for found in (made, {name: np.asarray(v) for name, v in data[k].items() if name in made}):
            np.testing.assert_array_equal(layout.steps(tokens[k]), found["tokens"])
            np.testing.assert_array_equal(layout.steps(mask_of(tokens[k])), found["mask"])
            np.testing.assert_array_equal(stamps[k], found["stamps_ns"])
    assert (stamps[-1] > 0).all() and (stamps[0] > 0).tolist() == [False, False, False, True]


@pytest.fixture
def one_camera(rig):
    robot = rig(camera_names=["wrist"], history__frames=2, history__stride_s=0.1)
    robot.stamps = {}
    robot.activate()
    watch(robot)
    return robot


def watch(robot):
    """Keep the stamps of the steps by the frame's own."""

    def heard(message):
        stamps_ns = decode_stamps(message)
        robot.stamps[int(stamps_ns[-1])] = stamps_ns.tolist()

    robot.subscription = robot.tester.create_subscription(
        Image, "/vit_encoder/history_stamps", heard, 10
    )
    robot.matched()


def steps_of(robot, stamp_ns):
    robot.publish("/wrist/image", image_message(stamp_ns, seed=stamp_ns % 1000))
    return robot.until(lambda: robot.stamps.get(stamp_ns), what=f"stamps of {stamp_ns}")


def test_it_ends_where_time_jumps_back_and_where_the_node_is_deactivated(one_camera):
    robot = one_camera
    start_ns = 50_000 * MILLISECOND_NS
    later_ns = start_ns + 100 * MILLISECOND_NS
    assert steps_of(robot, start_ns) == [0, start_ns]
    assert steps_of(robot, later_ns) == [start_ns, later_ns]
    # Simulated time begins anew: the frames of its first run are no past of the second.
    again_ns = start_ns - 20_000 * MILLISECOND_NS
    assert steps_of(robot, again_ns) == [0, again_ns]
    next_ns = again_ns + 100 * MILLISECOND_NS
    assert steps_of(robot, next_ns) == [again_ns, next_ns]
    assert robot.node.trigger_deactivate().name == "SUCCESS"
    assert robot.node.trigger_activate().name == "SUCCESS"
    robot.matched()
    after_ns = next_ns + 100 * MILLISECOND_NS
    assert steps_of(robot, after_ns) == [0, after_ns]
    last_ns = after_ns + 100 * MILLISECOND_NS
    assert steps_of(robot, last_ns) == [after_ns, last_ns]


@pytest.mark.parametrize(
    "values, said",
    [
        ({"history__frames": 0}, "'history.frames' is 0; accepted: int from 1 to 32"),
        ({"history__frames": 2, "history__stride_s": -0.1}, "'history.stride_s' is -0.1; accepted"),
        (
            {"history__frames": 32, "history__stride_s": 10.0},
            "'history.frames' is 32; accepted: 1 to 7 with a stride of 10 s",
        ),
    ],
)
def test_a_history_that_cannot_be_fails_at_configure_by_name(rig, capfd, values, said):
    robot = rig(camera_names=["wrist"], **values)
    assert robot.node.trigger_configure().name == "FAILURE"
    (line,) = [row for row in capfd.readouterr().err.splitlines() if "configure failed" in row]
    assert said in line


def test_a_stride_below_the_period_of_the_camera_is_warned_of(one_camera, capfd):
    start_ns = 50_000 * MILLISECOND_NS
    for k in range(PERIOD_FRAMES + 1):
        stamp_ns = start_ns + 150 * k * MILLISECOND_NS
        steps_of(one_camera, stamp_ns)
    # The frame's own warning is given after it was published: that of the next one has come.
    steps_of(one_camera, stamp_ns + 150 * MILLISECOND_NS)
    said = [row for row in capfd.readouterr().err.splitlines() if "history.stride_s" in row]
    assert len(said) == 1 and "/wrist/image: history.stride_s is 0.1" in said[0]
    assert "frames come every 0.15 s" in said[0]
