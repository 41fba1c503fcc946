"""Parameters that change while the node is active: checked, in force from one frame to the next;
the others say why.
"""

import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter

from test.ros.conftest import MILLISECOND_NS, Image, image_message, stamped_pose
from vit_perception.config.reading import all_parameters
from vit_perception.wire.tensors import mask_of

STAMP_NS = 5_000_000_000
ARM = {
    "pose_names": ["arm"],
    "poses.arm.topic": "/ee_pose",
    "poses.arm.frame_id": "base_link",
    "poses.arm.wait_s": 0.0,
}
NAMES = [f"class {k}" for k in range(5)]


def set_to(robot, **values):
    return robot.node.set_parameters_atomically(
        [Parameter(k.replace("__", "."), value=v) for k, v in values.items()]
    )


def shown(robot, k: int):
    """The frame of the k-th image, once it is out."""
    stamp_ns = STAMP_NS + k * 10 * MILLISECOND_NS
    robot.publish("/wrist/image", image_message(stamp_ns))
    return robot.frame(stamp_ns)


def test_outputs_change_from_one_frame_to_the_next(rig, tiny_classifier):
    robot = rig(model__checkpoint=str(tiny_classifier), top_k=5)
    robot.activate()
    first = shown(robot, 1)
    scores = robot.until(lambda: first.classes.get("wrist"))
    assert len(scores) == 5 and first.tokens.dtype == np.float32
    before = robot.tester.layout.layout_id
    assert set_to(robot, top_k=2, output_dtype="float16", cameras__wrist__labels=NAMES).successful
    layout = robot.until(
        lambda: robot.tester.layout if robot.tester.layout.layout_id != before else None
    )
    assert layout.dtype == "float16" and layout.cameras[0].labels == tuple(NAMES)
    second = shown(robot, 2)
    renamed = robot.until(lambda: second.classes.get("wrist"))
    assert second.tokens.dtype == np.float16 and list(renamed.values()) == list(scores.values())[:2]
    assert set(renamed) <= set(NAMES)
    threshold = next(iter(scores.values())) - 1e-6
    assert set_to(robot, min_score=float(threshold), top_k=5).successful
    third = shown(robot, 3)
    assert len(robot.until(lambda: third.classes.get("wrist"))) == 1
    assert set_to(robot, cameras__wrist__labels=[""]).successful
    robot.until(
        lambda: robot.tester.layout.cameras[0].labels[0] == "cup",
        what="the checkpoint's own labels",
    )


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("cameras.wrist.labels", ["a", "b"], "5 names, one a class"),
        ("top_k", 0, "1"),
        ("min_score", 1.5, "1"),
        ("output_dtype", "int4", "float32, float16, int8"),
        ("sync.policy", "hope", "wait, mask"),
        ("poses.arm.max_skew_s", 9.0, ""),
        ("poses.policy", "drop", "mask, require"),
    ],
)
def test_a_value_that_is_not_accepted_changes_nothing(rig, tiny_classifier, name, value, words):
    robot = rig(**ARM, model__checkpoint=str(tiny_classifier))
    robot.activate()
    settings = robot.node._pipeline.settings
    result = robot.node.set_parameters([Parameter(name, value=value)])[0]
    assert not result.successful and words in result.reason
    assert robot.node._pipeline.settings is settings


def test_policies_and_waits_change_while_it_runs(rig):
    robot = rig(**ARM)
    robot.activate()
    assert not mask_of(shown(robot, 1).tokens)[-1]
    assert set_to(robot, poses__policy="require").successful
    robot.publish("/wrist/image", image_message(STAMP_NS + 20 * MILLISECOND_NS))
    robot.accounts("wrist", received=2, dropped__pose_missing=1)
    robot.publish("/ee_pose", stamped_pose(STAMP_NS))
    robot.until(lambda: robot.node._samples.accounts["arm"].received)
    assert mask_of(shown(robot, 3).tokens)[-1]  # 30 ms old, held
    assert set_to(robot, poses__arm__max_skew_s=0.005, poses__policy="mask").successful
    assert not mask_of(shown(robot, 4).tokens)[-1]


def test_the_sync_policy_changes_while_a_camera_is_silent(rig):
    robot = rig(
        camera_names=["a", "b"],
        sync__silent_after_s=0.1,
        **{"cameras.a.topic": "/a", "cameras.b.topic": "/b"},
    )
    robot.activate()
    robot.publish("/a", image_message(STAMP_NS))
    robot.accounts("a", received=1, pending=1)
    assert set_to(robot, sync__policy="mask").successful
    assert mask_of(robot.frame(STAMP_NS).tokens).tolist() == [True] * 17 + [False] * 17


def test_views_are_switched_off_and_on(rig):
    robot = rig(views=False)
    seen = []
    robot.tester.create_subscription(Image, "/vit_encoder/wrist/attention_view", seen.append, 5)
    robot.activate()
    view = next(p for p in robot.node.publishers if p.topic_name.endswith("attention_view"))
    robot.until(view.get_subscription_count)
    shown(robot, 1)
    assert not seen
    assert set_to(robot, views=True).successful
    shown(robot, 2)
    robot.until(lambda: seen, what="a view")


def test_what_is_fixed_says_why_and_can_be_set_after_cleanup(rig):
    wrench = {"wrench_names": ["hand"], "wrenches.hand.frame_id": "tool"}
    rays = {"ray_names": ["looks"], "rays.looks.camera": "wrist"}
    robot = rig(**ARM, **wrench, **rays, state_names=["body"], states__body__joints=["elbow"])
    robot.activate()
    names = {
        "cameras": "wrist",
        "poses": "arm",
        "states": "body",
        "wrenches": "hand",
        "rays": "looks",
    }
    specs = all_parameters(names)
    fixed = [spec for spec in specs if spec.fixed]
    assert len(fixed) > 20 and {"top_k", "views", "poses.policy", "sync.slop_s"}.isdisjoint(
        s.name for s in fixed
    )
    for spec in fixed:
        value = robot.node._settings_source.value(spec.name)
        entries = [{str: "x", int: 1, float: 0.5}[spec.item]] * (spec.count or 1)
        result = robot.node.set_parameters(
            [Parameter(spec.name, value=value or (entries if value == [] else value))]
        )[0]
        assert (
            not result.successful and spec.fixed in result.reason and "cleanup" in result.reason
        ), spec.name
        assert spec.fixed in robot.node.describe_parameter(spec.name).description
    robot.node.trigger_deactivate()
    robot.node.trigger_cleanup()
    assert robot.node.set_parameters([Parameter("model.block", value=0)])[0].successful


def test_a_change_while_inactive_is_there_after_activate(rig):
    robot = rig(**ARM)
    assert robot.node.trigger_configure().name == "SUCCESS"
    robot.until(lambda: robot.tester.layout)
    assert set_to(robot, output_dtype="float16", poses__policy="require").successful
    robot.until(lambda: robot.tester.layout.dtype == "float16", what="the layout")
    assert robot.node.trigger_activate().name == "SUCCESS"
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.accounts("wrist", received=1, dropped__pose_missing=1)


def test_ros2_param_set_reaches_an_active_node(rig):
    """By the service that the command calls: on the executor's thread, while the worker encodes."""
    robot = rig()
    robot.activate()
    client = robot.tester.create_client(SetParameters, "/vit_encoder/set_parameters")
    robot.until(client.service_is_ready, what="the service")
    request = SetParameters.Request(
        parameters=[
            Parameter(n, value=v).to_parameter_msg()
            for n, v in (
                ("output_dtype", "float16"),
                ("max_rate_hz", 50.0),
                ("model.block", 0),
                ("no_such", 1),
            )
        ]
    )
    done = client.call_async(request)
    k = 0
    while not done.done():
        k += 1
        shown(robot, k)
    assert [r.successful for r in done.result().results] == [True, True, False, False]
    assert "the engine is opened and verified with it" in done.result().results[2].reason
    assert shown(robot, k + 1).tokens.dtype == np.float16


def test_another_rate_does_not_wait_out_the_former_period(rig):
    robot = rig()
    robot.activate()
    assert set_to(robot, max_rate_hz=0.01).successful
    shown(robot, 1)
    robot.publish("/wrist/image", image_message(STAMP_NS + 20 * MILLISECOND_NS))
    robot.accounts("wrist", received=2, published=1, pending=1)
    assert set_to(robot, max_rate_hz=0.0).successful
    robot.frame(STAMP_NS + 20 * MILLISECOND_NS)
    assert not robot.node.set_parameters([Parameter("max_rate_hz", value=1e-300)])[0].successful
