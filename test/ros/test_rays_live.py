"""Rays and points live: equal to what `embed` gives for a bag, to the bit; what is masked is
counted.
"""

import numpy as np
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from test.image.patches.depth_images import depth_message
from test.ros.conftest import MILLISECOND_NS, image_message, stamped_pose
from test.ros.test_rectify_live import IMAGE, INFO, info_message, stamp_ns
from vit_perception.config.ray_settings import RaySettings
from vit_perception.config.settings import (
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
    PoseSettings,
)
from vit_perception.datasets.embed import EmbedOptions, embed
from vit_perception.datasets.embed_sources import BagSource
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.recordings.writer import BagWriter
from vit_perception.ros.messages import header_of
from vit_perception.streams import calibrations, depths, pairing

POSE = "/ee_pose"
DEPTH = "/wrist/depth"
KINDS = {
    IMAGE: "sensor_msgs/msg/Image",
    DEPTH: "sensor_msgs/msg/Image",
    INFO: "sensor_msgs/msg/CameraInfo",
    POSE: "geometry_msgs/msg/PoseStamped",
}
TRANSLATION_M = [0.1, 0.0, 0.2]
QUATERNION = [0.5, -0.5, 0.5, -0.5]
PARAMETERS = {
    "pose_names": ["arm"],
    "poses__arm__topic": POSE,
    "poses__arm__frame_id": "base_link",
    "ray_names": ["looks"],
    "rays__looks__camera": "wrist",
    "rays__looks__pose": "arm",
    "rays__looks__translation_m": TRANSLATION_M,
    "rays__looks__quaternion_xyzw": QUATERNION,
    "poses__arm__wait_s": 1.0,
}


def recorded(path, messages):
    with BagWriter(path) as bag:
        for k, (topic, message) in enumerate(messages):
            data = serialize_message(message)
            bag.write(topic, KINDS[topic], data, stamp_ns(0) + k * MILLISECOND_NS)
    return BagSource(path, IMAGE)


def opened(checkpoint, **camera):
    rays = RaySettings(
        "looks",
        "wrist",
        pose="arm",
        translation_m=tuple(TRANSLATION_M),
        quaternion_xyzw=tuple(QUATERNION),
    )
    return Pipeline.open(
        EncoderSettings(
            (CameraSettings("wrist", IMAGE, **camera),),
            poses=(PoseSettings("arm", POSE, "base_link"),),
            model=ModelSettings(str(checkpoint)),
            engine=EngineSettings("torch", "float32"),
            extra={"rays": (rays,)},
        )
    )


def test_live_equals_embed_and_the_data_set_has_the_rows(
    rig, tiny_checkpoint, tmp_path, monkeypatch
):
    """Frame 1 is between two poses, and frame 2 has none."""
    monkeypatch.setattr(calibrations, "WAIT_S", 60.0)
    monkeypatch.setattr(pairing, "SILENT_S", 3600.0)
    images = [image_message(stamp_ns(k), k) for k in range(3)]
    infos = [info_message(stamp_ns(k)) for k in range(3)]
    poses = [
        stamped_pose(stamp_ns(0), x_m=0.1),
        stamped_pose(stamp_ns(1) - 10 * MILLISECOND_NS, x_m=0.3),
        stamped_pose(stamp_ns(1) + 20 * MILLISECOND_NS, x_m=0.7),
    ]
    before = [(POSE, poses[0]), (INFO, infos[0]), (IMAGE, images[0]), (POSE, poses[1])]
    messages = [*before, (POSE, poses[2])]
    messages += [(t, m) for k in (1, 2) for t, m in ((INFO, infos[k]), (IMAGE, images[k]))]
    pipeline = opened(tiny_checkpoint)
    source = recorded(tmp_path / "bag", messages)
    options = EmbedOptions("safetensors", features=("tokens", "patch"))
    manifest = embed(pipeline, [source], tmp_path / "out", options)
    assert (manifest["frames"], manifest["dropped"]) == (3, {})
    (skipped,) = manifest["skipped"]
    assert (skipped["topic"], skipped["reason"], skipped["count"]) == ("looks/ray", "no_pose", 1)
    pipeline.close()
    data = FeatureDataset(tmp_path / "out")
    rows = [data.files.row(k, ("tokens", "mask", "looks.ray")) for k in range(3)]
    for row in rows:
        np.testing.assert_array_equal(row["looks.ray"], row["tokens"][-16:])
    assert [row["mask"][-16:].all() for row in rows] == [True, True, False]
    assert not rows[2]["looks.ray"].any() and rows[2]["mask"][:17].all()

    robot = rig(**PARAMETERS)
    robot.activate()
    for topic, message in messages:
        if topic == POSE:
            robot.feel(topic, message)
        else:
            robot.publish(topic, message)
        if topic == IMAGE:
            k = images.index(message)
            sent = robot.frame(stamp_ns(k))
            np.testing.assert_array_equal(sent.tokens, rows[k]["tokens"])
            np.testing.assert_array_equal(sent.tokens.any(axis=1), rows[k]["mask"])
    assert robot.tester.layout.layout_id in {layout.layout_id for layout in data.layouts}

    def said():
        statuses = getattr(robot.tester.diagnostics, "status", ())
        return next((s for s in statuses if s.name.endswith(": rays looks")), None)

    status = robot.until(
        lambda: (s := said()) and any(v.key == "masked.no_pose" for v in s.values) and s,
        what="the count",
    )
    assert {v.key: v.value for v in status.values} == {"masked.no_pose": "1", "arm": "missing"}
    assert status.level == b"\x01" and "no pose of arm at the image" in status.message


def test_without_a_camera_info_images_go_out_and_the_rays_are_counted(rig, monkeypatch):
    monkeypatch.setattr(calibrations, "WAIT_S", 0.0)
    fixed = {"rays__looks__pose": "", "poses__arm__wait_s": 0.0}
    robot = rig(**PARAMETERS | fixed)
    robot.activate()
    assert INFO in {s.topic_name for s in robot.node.subscriptions}
    robot.publish(IMAGE, image_message(stamp_ns(0)))
    sent = robot.frame(stamp_ns(0))
    assert not sent.tokens[-16:].any() and sent.tokens[:17].any(axis=1).all()
    robot.publish(INFO, info_message(0, size_px=(480, 640)))
    account = robot.node._inputs.extras.calibrations.accounts["wrist"]
    robot.until(lambda: account.received == 1, what="the CameraInfo")
    robot.publish(IMAGE, image_message(stamp_ns(1)))
    assert not robot.frame(stamp_ns(1)).tokens[-16:].any()
    robot.publish(INFO, info_message(stamp_ns(2)))
    robot.until(lambda: account.received == 2, what="the good CameraInfo")
    robot.publish(IMAGE, image_message(stamp_ns(2)))
    assert robot.frame(stamp_ns(2)).tokens[-16:].any(axis=1).all()
    robot.accounts("wrist", received=3, published=3)
    values = robot.until(
        lambda: (found := robot.diagnostic(": rays looks")) and len(found) == 2 and found,
        what="both counts",
    )
    assert values == {"masked.no_camera_info": "1", "masked.camera_info": "1"}


def depth_image(frame: int, **options) -> Image:
    """Each pixel another depth; some have none."""
    pixels = (np.arange(48 * 64).reshape(48, 64) * (frame + 7)) % 5000
    plain = depth_message(pixels, **options)
    message = Image(header=header_of(stamp_ns(frame), "camera_optical_frame"))
    for name in ("height", "width", "encoding", "is_bigendian", "step"):
        setattr(message, name, getattr(plain, name))
    message.data.frombytes(plain.data)
    return message


def test_points_live_equal_embed_and_the_depth_image_is_waited_for(
    rig, tiny_checkpoint, tmp_path, monkeypatch
):
    """That of frame 1 comes after its image, and that of frame 2 is no depth image."""
    monkeypatch.setattr(calibrations, "WAIT_S", 60.0)
    monkeypatch.setattr(pairing, "SILENT_S", 3600.0)
    monkeypatch.setattr(depths, "WAIT_S", 60.0)
    images = [image_message(stamp_ns(k), k) for k in range(3)]
    messages = []
    for k, image in enumerate(images):
        depth = (DEPTH, depth_image(k, **({"encoding": "mono16"} if k == 2 else {})))
        beside = [(POSE, stamped_pose(stamp_ns(k), x_m=0.1 * k)), (INFO, info_message(stamp_ns(k)))]
        messages += [*beside, (IMAGE, image), depth] if k else [*beside, depth, (IMAGE, image)]
    pipeline = opened(tiny_checkpoint, depth_topic=DEPTH)
    source = recorded(tmp_path / "bag", messages)
    manifest = embed(pipeline, [source], tmp_path / "out", EmbedOptions("safetensors"))
    (skipped,) = manifest["skipped"]
    assert (skipped["topic"], skipped["reason"]) == ("looks/points", "depth")
    pipeline.close()
    data = FeatureDataset(tmp_path / "out")
    rows = [data.files.row(k, ("tokens", "mask")) for k in range(3)]
    assert [row["mask"][-16:].all() for row in rows] == [True, True, False]
    assert rows[2]["mask"][:-16].all()

    robot = rig(**PARAMETERS, cameras__wrist__depth_topic=DEPTH)
    robot.activate()
    received = dict.fromkeys((INFO, DEPTH, IMAGE), 0)
    extras = robot.node._inputs.extras
    for topic, message in messages:
        if topic == POSE:
            robot.feel(topic, message)
            continue
        robot.publish(topic, message)
        received[topic] += 1
        accounts = {INFO: extras.calibrations.accounts, DEPTH: extras.depths.accounts}
        if topic == IMAGE:
            robot.accounts("wrist", received=received[IMAGE])
        else:
            account = accounts[topic]["wrist"]
            robot.until(lambda a=account, n=received[topic]: a.received == n, what=topic)
    for k, row in enumerate(rows):
        np.testing.assert_array_equal(robot.frame(stamp_ns(k)).tokens, row["tokens"])
    assert robot.tester.layout.layout_id in {layout.layout_id for layout in data.layouts}
    expected = {"received": "3", "used": "3", "missing": "0"}
    for name in ("camera_info", "depth"):
        robot.until(
            lambda name=name: (
                (said := robot.diagnostic(": camera wrist"))
                and all(said[f"{name}.{key}"] == value for key, value in expected.items())
            ),
            what=f"the counts of {name}",
        )
    values = robot.until(
        lambda: (found := robot.diagnostic(": rays looks")) and "masked.depth" in found and found,
        what="the count of what is masked",
    )
    assert values["masked.depth"] == "1"
