"""The state token of a policy over DDS: that of the policy's formula, and what `embed` writes."""

import array
import re

import numpy as np
import pytest
import yaml
from geometry_msgs.msg import PoseStamped
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState

from test.checkpoints.policies.policy_folders import TOKEN_WIDTH, write_pi0, write_smolvla
from test.conftest import ROOT
from test.ros.conftest import MILLISECOND_NS, image_message
from test.tokens.policy_states import (
    FINGER_M,
    NUMBERS,
    PARTS,
    POSITION_M,
    QUATERNION_XYZW,
    settings_of,
    token_of,
)
from vit_perception.cli.main import main
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.policy.live import LiveDecoder
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter
from vit_perception.ros.messages import header_of
from vit_perception.wire.tensors import decode_tensor, mask_of

POLICIES = (ROOT / "docs/policies.md").read_text()
STAMP_NS = 5_000_000_000
LATER_NS = STAMP_NS + 900 * MILLISECOND_NS
PARAMETERS = {
    "pose_names": ["arm"],
    "poses.arm.topic": "/ee_pose",
    "poses.arm.frame_id": "base_link",
    "poses.arm.wait_s": 1.0,
    "state_names": ["gripper"],
    "states.gripper.topic": "/joint_states",
    "states.gripper.joints": ["finger"],
    "states.gripper.wait_s": 1.0,
}
WIDTHS = {"smolvla": TOKEN_WIDTH, "pi0": 64}


@pytest.fixture(scope="module", params=WIDTHS)
def policy(request, tmp_path_factory):
    """(name, folder) of a tiny policy."""
    make = {"smolvla": write_smolvla, "pi0": write_pi0}[request.param]
    return request.param, make(tmp_path_factory.mktemp(request.param))


def pose_message(stamp_ns: int) -> PoseStamped:
    message = PoseStamped(header=header_of(stamp_ns, "base_link"))
    for axis, value in zip("xyz", POSITION_M):
        setattr(message.pose.position, axis, value)
    for axis, value in zip("xyzw", QUATERNION_XYZW):
        setattr(message.pose.orientation, axis, value)
    return message


def finger_message(stamp_ns: int) -> JointState:
    return JointState(
        header=header_of(stamp_ns, ""), name=["finger"], position=array.array("d", [FINGER_M])
    )


def messages() -> list:
    """(topic, source, message), as a robot sends them; the finger is silent at the later image."""
    sent = []
    for stamp_ns, has_finger in ((STAMP_NS, True), (LATER_NS, False)):
        for after_ms in (-10, 10):
            near_ns = stamp_ns + after_ms * MILLISECOND_NS
            sent.append(("/ee_pose", "arm", pose_message(near_ns)))
            if has_finger:
                sent.append(("/joint_states", "gripper", finger_message(near_ns)))
        sent.append(("/wrist/image", "", image_message(stamp_ns)))
    return sent


def test_the_node_sends_what_embed_writes_and_the_policy_computes(rig, policy, tmp_path):
    name, folder = policy
    robot = rig(**PARAMETERS, model__checkpoint=str(folder), policy__state=list(PARTS))
    robot.activate()
    for topic, source, message in messages():
        if source:
            robot.feel(topic, message, source)
        else:
            robot.publish(topic, message)
            robot.frame(message.header.stamp.sec * 10**9 + message.header.stamp.nanosec)
    layout = robot.tester.layout
    in_tokens = name == "smolvla"

    def state_of(frame):
        if in_tokens:
            return layout.split(frame.tokens)["policy/policy_state"]
        robot.until(lambda: frame.apart, what="the state's token")
        return frame.apart["policy_state"]

    there, masked = (robot.tester.frames[stamp_ns] for stamp_ns in (STAMP_NS, LATER_NS))
    assert [g.name for g in layout.groups][-1] == (
        "policy/policy_state" if in_tokens else "gripper/state"
    )
    assert [a.topic for a in layout.apart] == ([] if in_tokens else ["policy_state"])
    wanted = token_of(NUMBERS, WIDTHS[name])[None]
    np.testing.assert_allclose(state_of(there), wanted, atol=1e-5)
    assert mask_of(there.tokens).all()
    assert not state_of(masked).any()
    assert (~mask_of(masked.tokens)).sum() == (2 if in_tokens else 1)
    # What `embed` makes of the same messages, topic for topic.
    pipeline = Pipeline.open(settings_of(folder))
    source = BagSource(bag_of(tmp_path), "/wrist/image")
    embed(pipeline, [source], tmp_path / "out", EmbedOptions("mcap"))
    pipeline.close()
    decoder = LiveDecoder("/vit_encoder", [layout], embedding=True)
    found = {}
    with BagReader(tmp_path / "out") as bag:
        for topic, _, message in bag.messages(list(bag.topics)):
            if topic.endswith("/policy_state"):
                assert decode_tensor(message).shape == (1, WIDTHS[name])
            observation = decoder.add(topic, message)
            if observation:
                found[observation.stamp_ns] = observation
    for stamp_ns, frame in ((STAMP_NS, there), (LATER_NS, masked)):
        np.testing.assert_array_equal(found[stamp_ns].tokens, frame.tokens)
        assert found[stamp_ns].apart.keys() == frame.apart.keys()
        for kind, rows in frame.apart.items():
            np.testing.assert_array_equal(found[stamp_ns].apart[kind], rows)


def test_the_parameter_file_of_the_documentation_runs_live_and_offline(rig, tmp_path):
    (text,) = re.findall(r"```yaml\n# smolvla.yaml\n(.*?)```", POLICIES, re.DOTALL)
    folder = write_smolvla(tmp_path / "my_smolvla")
    file = tmp_path / "smolvla.yaml"
    file.write_text(text.replace("/models/my_smolvla", str(folder)))
    given = yaml.safe_load(file.read_text())["/**"]["ros__parameters"]
    robot = rig(**given)
    robot.activate()
    wanted = token_of(NUMBERS, TOKEN_WIDTH)[None]
    for topic, source, message in messages()[:5]:
        topic = {"/wrist/image": "/wrist/image_raw"}.get(topic, topic)
        robot.feel(topic, message, source) if source else robot.publish(topic, message)
    tokens = robot.frame(STAMP_NS).tokens
    np.testing.assert_allclose(tokens[-1:], wanted, atol=1e-5)
    bag = bag_of(tmp_path, {"/wrist/image": "/wrist/image_raw"})
    command = ["embed", str(bag), "--params", str(file), "--backend", "torch", "--precision"]
    assert main([*command, "float32", "--out", str(tmp_path / "features")]) == 0
    data = FeatureDataset(tmp_path / "features")
    np.testing.assert_array_equal(data[0]["tokens"][0].numpy(), tokens)


def bag_of(folder, names=None):
    """A bag of :func:`messages`; ``names`` are other names of topics."""
    with BagWriter(folder / "bag") as bag:
        for order, (topic, _, message) in enumerate(messages()):
            kind = type(message)
            type_name = f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"
            name = (names or {}).get(topic, topic)
            bag.write(name, type_name, serialize_message(message), STAMP_NS + order)
    return folder / "bag"


def test_diagnostics_say_what_is_lacking(rig, policy):
    _, folder = policy
    parameters = PARAMETERS | {"poses.arm.wait_s": 0.0, "states.gripper.wait_s": 0.0}
    robot = rig(**parameters, model__checkpoint=str(folder), policy__state=list(PARTS))
    robot.activate()

    def said():
        statuses = getattr(robot.tester.diagnostics, "status", ())
        return next(
            ((s.message, s.level) for s in statuses if s.name.endswith(": policy state")), ("", b"")
        )

    robot.until(lambda: said() == ("waiting for an image", b"\x00"), what="the first status")
    robot.feel("/ee_pose", pose_message(STAMP_NS))
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.frame(STAMP_NS)
    robot.until(
        lambda: (
            said() == ("its token is masked: no sample of gripper at the latest image", b"\x01")
        ),
        what="what is lacking",
    )
    robot.feel("/ee_pose", pose_message(LATER_NS))
    robot.feel("/joint_states", finger_message(LATER_NS), "gripper")
    robot.publish("/wrist/image", image_message(LATER_NS))
    robot.frame(LATER_NS)
    robot.until(lambda: said() == ("made at the latest image", b"\x00"), what="that it is made")


def test_a_mapping_that_does_not_fit_fails_configure_and_another_one_mends_it(rig, policy, capfd):
    _, folder = policy
    robot = rig(**PARAMETERS, model__checkpoint=str(folder), policy__state=["arm.position"])
    assert robot.node.trigger_configure().name == "FAILURE"
    said = capfd.readouterr().err
    assert "parameter 'policy.state' is ['arm.position']; accepted: 7 numbers" in said
    assert "these are 3: arm.position 3" in said
    robot.node.set_parameters([Parameter("policy.state", value=list(PARTS))])
    assert robot.node.trigger_configure().name == "SUCCESS"
    (changed,) = robot.node.set_parameters([Parameter("policy.state", value=["gripper"])])
    assert not changed.successful and "what the tokens mean must not change" in changed.reason
