"""Calibration images from the demo's recording and from folders of pictures, and what is
refused.
"""

import shutil

import cv2
import numpy as np
import pytest
from PIL import Image
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from test.conftest import TRAIN_BAG
from vit_perception.config.settings import BadSetting
from vit_perception.image.calibration import calibration_images
from vit_perception.image.decode import decode_compressed
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.image.preprocess import Preprocessor
from vit_perception.recordings.reader import BagReader

STORE = get_typestore(Stores.ROS2_KILTED)
IMAGE = "sensor_msgs/msg/Image"


@pytest.fixture(scope="module")
def preprocess():
    return Preprocessor(ResizeRule((32, 48)))


def write_bag(folder, topics):
    """A bag of ``topics``: name -> list of (encoding, pixels)."""
    stamp_type, header_type, image_type = (
        STORE.types[t] for t in ("builtin_interfaces/msg/Time", "std_msgs/msg/Header", IMAGE)
    )
    with Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP) as bag:
        for name, images in topics.items():
            connection = bag.add_connection(name, IMAGE, typestore=STORE)
            for second, (encoding, pixels) in enumerate(images, 1):
                message = image_type(
                    header_type(stamp_type(second, 0), "cam"),
                    *pixels.shape[:2],
                    encoding,
                    0,
                    pixels.strides[0],
                    np.ascontiguousarray(pixels).view(np.uint8).ravel(),
                )
                bag.write(connection, second * 10**9, STORE.serialize_cdr(message, IMAGE))
    return folder


def grey(value):
    return "rgb8", np.full((20, 30, 3), value, np.uint8)


def test_the_recording_gives_both_cameras_their_share_and_the_same_images_again(preprocess):
    images = calibration_images(str(TRAIN_BAG), preprocess, 10)
    assert images.shape == (10, 3, 32, 48) and images.dtype == np.uint8
    np.testing.assert_array_equal(calibration_images(str(TRAIN_BAG), preprocess, 10), images)
    with BagReader(TRAIN_BAG) as bag:
        recorded = {}
        for topic, _, message in bag.messages(
            ["/agentview/image/compressed", "/wrist/image/compressed"]
        ):
            recorded.setdefault(topic, []).append(message)
    ends = [
        preprocess(decode_compressed(messages[i])).numpy()
        for messages in recorded.values()
        for i in (0, -1)
    ]
    np.testing.assert_array_equal(
        sorted(map(bytes, images[[0, 4, 5, 9]])), sorted(map(bytes, ends))
    )


def test_topics_are_sampled_from_end_to_end_and_what_is_no_picture_is_left_out(
    preprocess, tmp_path
):
    depth = [("16UC1", np.full((20, 30), 500, np.uint16))] * 3
    bag = write_bag(
        tmp_path / "bag",
        {
            "/a": [grey(v) for v in range(0, 100, 10)],
            "/depth": depth,
            "/b": [grey(v) for v in (200, 210)],
        },
    )
    images = calibration_images(str(bag), preprocess, 9)
    assert sorted(int(i.flat[0]) for i in images) == [0, 40, 90, 200, 210]


def test_a_folder_of_pictures_at_any_depth(preprocess, tmp_path):
    for index in range(6):
        folder = tmp_path / "pictures" / str(index % 2)
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{index}.png"), np.full((9, 9, 3), (0, 0, 40 * index), np.uint8))
    images = calibration_images(str(tmp_path / "pictures"), preprocess, 3)
    # Red is the first channel, and files are taken in the order of their names: 0/0, 0/2, 0/4, 1/1,
    # 1/3, 1/5.
    assert [int(image[0, 0, 0]) for image in images] == [0, 160, 200]
    assert not images[:, 1:].any()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda folder: folder / "none", "this is no folder"),
        (lambda folder: folder, "it holds no images"),
        (
            lambda folder: write_bag(
                folder / "bag", {"/depth": [("16UC1", np.zeros((9, 9), np.uint16))]}
            ),
            "no image of it can be used, the last because encoding",
        ),
        (lambda folder: broken_picture(folder), "no image of it can be used, the last because"),
        (lambda folder: broken_bag(folder), "accepted: a rosbag2 folder with metadata.yaml"),
    ],
    ids=["no folder", "empty", "depth only", "broken picture", "broken bag"],
)
def test_what_cannot_be_read_names_the_parameter_the_path_and_what_is_accepted(
    preprocess, tmp_path, make, message
):
    path = str(make(tmp_path))
    with pytest.raises(
        BadSetting, match="a rosbag2 folder with colour image topics, or a folder of pictures"
    ) as e:
        calibration_images(path, preprocess)
    assert (
        e.value.name == "engine.calibration"
        and repr(path) in str(e.value)
        and message in str(e.value)
    )


def test_a_folder_called_bag_and_one_file_of_a_recording_are_read(preprocess, tmp_path):
    bag = write_bag(tmp_path / "made.bag", {"/a": [grey(v) for v in (0, 40, 80)]})
    for path in (bag, *bag.glob("*.mcap")):
        assert [int(i.flat[0]) for i in calibration_images(str(path), preprocess)] == [0, 40, 80]


def test_a_message_that_is_cut_is_left_out(preprocess, tmp_path):
    whole = write_bag(tmp_path / "whole", {"/a": [grey(v) for v in (0, 40, 80)]})
    with (
        BagReader(whole) as bag,
        Writer(tmp_path / "cut", version=9, storage_plugin=StoragePlugin.MCAP) as cut,
    ):
        connection = cut.add_connection("/a", IMAGE, typestore=STORE)
        for index, message in enumerate(bag.raw(["/a"])):
            cut.write(
                connection,
                message.stamp_ns,
                message.data[: len(message.data) // (2 if index == 1 else 1)],
            )
    assert [int(i.flat[0]) for i in calibration_images(str(tmp_path / "cut"), preprocess)] == [
        0,
        80,
    ]


def test_pictures_of_every_kind_are_read_and_broken_ones_left_out(preprocess, tmp_path):
    for index, ending in enumerate(("png", "bmp", "webp", "jpg")):
        options = {"lossless": True} if ending == "webp" else {}
        Image.new("RGB", (9, 9), (40 * index,) * 3).save(tmp_path / f"{index}.{ending}", **options)
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "3.jpg").read_bytes()[:-30])
    (tmp_path / ".hidden.png").write_bytes((tmp_path / "0.png").read_bytes())
    assert [int(i.flat[0]) for i in calibration_images(str(tmp_path), preprocess)] == [
        0,
        40,
        80,
        120,
    ]


def broken_picture(folder):
    (folder / "half.png").write_bytes(b"\x89PNG\r\n\x1a\nhalf")
    return folder


def broken_bag(folder):
    shutil.copytree(TRAIN_BAG, folder / "bag")
    (recording,) = (folder / "bag").glob("*.mcap")
    recording.write_bytes(recording.read_bytes()[:1000])
    return folder / "bag"
