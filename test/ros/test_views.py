"""Pictures of features and attention: for who looks, and never in front of the tokens."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from sensor_msgs.msg import Image

from test.ros.conftest import MILLISECOND_NS, image_message
from test.waiting import HANG_S
from vit_perception.config.settings import PoseSettings
from vit_perception.engines.engine import Engine
from vit_perception.ros import outputs
from vit_perception.ros import views as view_thread
from vit_perception.wire.stamps import stamp_ns_of

STAMP_NS = 5_000_000_000
ARM = {"pose_names": ["arm"], "poses.arm.topic": "/ee_pose", "poses.arm.frame_id": "base_link"}
ARM_SETTINGS = PoseSettings("arm", "/ee_pose", "base_link")


def test_views_are_published_to_who_looks(rig):
    robot = rig()
    seen = {}
    for view in ("feature_view", "attention_view"):
        robot.tester.create_subscription(
            Image, f"/vit_encoder/wrist/{view}", lambda m, v=view: seen.__setitem__(v, m), 5
        )
    robot.activate()
    robot.until(
        lambda: all(
            p.get_subscription_count()
            for topic, p in robot.node._outputs._publishers.items()
            if topic.row.when == "view"
        )
    )
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.until(lambda: len(seen) == 2, what="both views")
    for message in seen.values():
        assert (message.height, message.width, message.encoding) == (56, 56, "rgb8")
        assert message.header.frame_id == "camera_optical_frame" and len(set(message.data)) > 20


@pytest.fixture
def blocked_view(monkeypatch):
    """Views that are not made until ``go`` is set; ``begun`` says that one was asked for, ``seen``
    of what.
    """

    class Blocked:
        begun, go, seen = threading.Event(), threading.Event(), []

        def __call__(self, patch_tokens, grid, size_px):
            Blocked.begun.set()
            assert Blocked.go.wait(HANG_S)
            Blocked.seen.append(patch_tokens)
            return np.full((*size_px, 3), len(Blocked.seen), np.uint8)

    monkeypatch.setattr(outputs, "PcaView", Blocked)
    yield Blocked
    Blocked.go.set()


def test_tokens_go_out_before_a_view_is_made_and_later_frames_wait_for_none(
    rig, blocked_view, monkeypatch
):
    robot, views, infer, kept = rig(), [], Engine.infer, []

    def infer_into_one_buffer(engine, images):
        output = infer(engine, images)
        kept.append(output.patch_tokens.copy() if not kept else None)
        kept[0][:] = output.patch_tokens
        return replace(output, patch_tokens=kept[0])

    monkeypatch.setattr(Engine, "infer", infer_into_one_buffer)
    robot.tester.create_subscription(Image, "/vit_encoder/wrist/feature_view", views.append, 5)
    robot.activate()
    stamps = [STAMP_NS + k * 10 * MILLISECOND_NS for k in range(4)]
    frames = []
    for k, stamp_ns in enumerate(stamps):
        robot.publish("/wrist/image", image_message(stamp_ns, seed=k))
        frames.append(robot.frame(stamp_ns))
        if k == 0:
            robot.until(blocked_view.begun.is_set, what="the first view")
    assert not views
    robot.accounts("wrist", received=4, published=4, pending=0)
    blocked_view.go.set()
    robot.until(lambda: len(views) == 2, what="the views of the first and the newest frame")
    assert [stamp_ns_of(view.header) for view in views] == [stamps[0], stamps[-1]]
    # Those of its own frame, though the engine has written over them since.
    for tokens, frame in zip(blocked_view.seen, (frames[0], frames[-1])):
        np.testing.assert_array_equal(tokens, frame.tokens[1:17])


@pytest.mark.parametrize("transition", ["deactivate", "cleanup"])
def test_a_view_in_the_making_is_not_sent_after(rig, blocked_view, transition, monkeypatch, capfd):
    robot, views = rig(), []
    robot.tester.create_subscription(Image, "/vit_encoder/wrist/feature_view", views.append, 5)
    robot.activate()
    robot.publish("/wrist/image", image_message(STAMP_NS))
    robot.until(blocked_view.begun.is_set, what="the view")
    monkeypatch.setattr(view_thread, "LONGEST_VIEW_S", 0.1)
    assert robot.node.trigger_deactivate().name == "SUCCESS"
    if transition == "cleanup":
        assert robot.node.trigger_cleanup().name == "SUCCESS"
    blocked_view.go.set()
    robot.until(
        lambda: not any(t.name == "views" for t in threading.enumerate()),
        what="the end of the thread",
    )
    assert not views and "Traceback" not in capfd.readouterr().err
