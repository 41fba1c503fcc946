import cv2
import numpy as np
import pytest

from test.conftest import DEMO_BAG
from vit_perception.recordings.writer import BagWriter
from vit_perception.training.pictures import check_all, decode, read_bag, read_folder, thin_classes


def write(path, level=100, size=(6, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*size, 3), level, np.uint8))
    return path


def test_every_kind_of_file_is_read_and_what_is_not_a_picture_is_said(tmp_path):
    for k, name in enumerate(("a.jpg", "b.PNG", "deep/er/c.bmp")):
        write(tmp_path / "cup" / name, 40 * k)
    cv2.imwrite(
        str(tmp_path / "cup/d.webp"),
        np.full((6, 8, 3), 120, np.uint8),
        [cv2.IMWRITE_WEBP_QUALITY, 101],
    )
    write(tmp_path / "can/e.png", 200)
    (tmp_path / "cup/notes.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    source = read_folder(tmp_path)
    pictures = check_all(source.pictures)
    levels = {
        p.name: int(pictures.decoded(k).pixels[0, 0, 0]) for k, p in enumerate(pictures.items)
    }
    assert levels == {
        "cup/a.jpg": 0,
        "cup/b.PNG": 40,
        "cup/deep/er/c.bmp": 80,
        "cup/d.webp": 120,
        "can/e.png": 200,
    }
    assert source.left_out == ("class empty has no pictures", "1 other files are left out: 1 .txt")
    assert thin_classes(pictures.labels) == [
        "class can has one picture: it is trained on, none is held out"
    ]


def test_what_is_no_folder_and_no_bag_is_called_so(tmp_path):
    (tmp_path / "file.txt").write_text("mine")
    with pytest.raises(
        ValueError, match="/none is no folder; accepted: a folder with a subfolder a class"
    ):
        read_folder(tmp_path / "none")
    with pytest.raises(
        ValueError, match="file.txt is a file; accepted: a folder with a subfolder a class"
    ):
        read_folder(tmp_path / "file.txt")
    with pytest.raises(
        ValueError,
        match="is no rosbag2 folder, it has no metadata.yaml; accepted: a rosbag2 folder",
    ):
        read_bag(tmp_path, "/camera", "/label")


def test_colours_of_converted_files_are_the_original_ones(tmp_path):
    (tmp_path / "a").mkdir()
    cv2.imwrite(str(tmp_path / "a/x.bmp"), np.full((4, 4, 3), (10, 20, 30), np.uint8))  # B, G, R
    (picture,) = read_folder(tmp_path).pictures
    assert decode(picture.load()).pixels[0, 0].tolist() == [30, 20, 10]


def test_unreadable_files_are_named_and_counted_and_the_others_stay(tmp_path):
    for k in range(3):
        write(tmp_path / f"cup/{k}.png", k)
    whole = write(tmp_path / "cup/cut.jpg", 9, (64, 64)).read_bytes()
    (tmp_path / "cup/cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cup/text.webp").write_text("no picture")
    (tmp_path / "cup/none.png").write_bytes(b"")
    pictures = check_all(read_folder(tmp_path).pictures)
    assert sorted(p.name for p in pictures.items) == ["cup/0.png", "cup/1.png", "cup/2.png"]
    assert sorted(u.name for u in pictures.unreadable) == [
        "cup/cut.jpg",
        "cup/none.png",
        "cup/text.webp",
    ]
    assert all(u.why for u in pictures.unreadable)
    for k in range(3):
        (tmp_path / f"cup/{k}.png").unlink()
    with pytest.raises(ValueError, match="none of 3 pictures can be read; the first: cup/"):
        check_all(read_folder(tmp_path).pictures)


def test_the_digest_is_of_contents_names_and_labels(tmp_path):
    write(tmp_path / "a/x.png", 1)
    write(tmp_path / "b/y.png", 2)
    first = check_all(read_folder(tmp_path).pictures).sha256
    assert check_all(read_folder(tmp_path).pictures, budget_bytes=0).sha256 == first
    write(tmp_path / "a/x.png", 3)
    second = check_all(read_folder(tmp_path).pictures).sha256
    (tmp_path / "b/y.png").rename(tmp_path / "a/y.png")
    assert len({first, second, check_all(read_folder(tmp_path).pictures).sha256}) == 3


def test_raw_frames_of_a_bag_are_held_without_loss(tmp_path):
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_KILTED)
    kinds = {name.rsplit("/", 1)[1]: kind for name, kind in store.types.items()}
    pixels = np.random.default_rng(0).integers(0, 255, (4, 5, 3), np.uint8)

    def image(stamp_s, encoding):
        header = kinds["Header"](stamp=kinds["Time"](sec=stamp_s, nanosec=0), frame_id="camera")
        return kinds["Image"](
            header=header,
            height=4,
            width=5,
            encoding=encoding,
            is_bigendian=0,
            step=15,
            data=pixels.reshape(-1),
        )

    with BagWriter(tmp_path / "bag") as bag:
        for k, (topic, message, kind) in enumerate(
            (
                ("/image", image(1, "bgr8"), "sensor_msgs/msg/Image"),
                ("/label", kinds["String"](data="cup"), "std_msgs/msg/String"),
                ("/image", image(2, "bgr8"), "sensor_msgs/msg/Image"),
                ("/image", image(3, "32FC1"), "sensor_msgs/msg/Image"),
            )
        ):
            bag.write(topic, kind, bytes(store.serialize_cdr(message, kind)), k + 1)
    source = read_bag(tmp_path / "bag", "/image", "/label")
    assert source.left_out == ("1 images come before the first label",)
    pictures = check_all(source.pictures)
    assert pictures.labels == ["cup"] and np.array_equal(
        pictures.decoded(0).pixels, pixels[..., ::-1]
    )
    (refused,) = pictures.unreadable
    assert refused.name == "bag:/image@4" and "32FC1" in refused.why


def test_a_bag_without_labels_in_time_is_refused(tmp_path):
    from vit_perception.recordings.reader import BagReader

    with BagReader(DEMO_BAG) as bag, BagWriter(tmp_path / "bag") as copy:
        images = list(bag.raw(["/wrist/image/compressed"]))[:3]
        for message in images:
            copy.write(message.topic, message.type_name, message.data, message.stamp_ns)
        (label, *_) = bag.raw(["/task_stage"])
        copy.write(label.topic, label.type_name, label.data, images[-1].stamp_ns + 1)
    with pytest.raises(
        ValueError, match="none of 3 images on /wrist/image/compressed has a label on /task_stage"
    ):
        read_bag(tmp_path / "bag", "/wrist/image/compressed", "/task_stage")


@pytest.mark.parametrize("content", ["empty", "one empty class"])
def test_a_folder_without_pictures_is_refused(tmp_path, content):
    if content == "one empty class":
        (tmp_path / "cup").mkdir()
    with pytest.raises(
        ValueError, match="holds no pictures; accepted: a folder with a subfolder a class"
    ):
        read_folder(tmp_path)


def test_hidden_folders_and_copies_are_no_classes_and_no_pictures(tmp_path):
    for name in (
        "cup/a.png",
        "can/b.png",
        "can/deep/c.png",
        ".ipynb_checkpoints/a-checkpoint.png",
        "cup/.ipynb_checkpoints/a-checkpoint.png",
        "cup/@eaDir/a.png",
        "__MACOSX/cup/a.png",
        ".Trash/a.png",
        "cup/._a.png",
        "can/Thumbs.db.d/d.png",
    ):
        write(tmp_path / name)
    (tmp_path / "cup/Thumbs.db").write_bytes(b"x")
    source = read_folder(tmp_path)
    assert sorted(p.name for p in source.pictures) == [
        "can/Thumbs.db.d/d.png",
        "can/b.png",
        "can/deep/c.png",
        "cup/a.png",
    ]
    assert source.left_out == (
        "7 hidden files are left out, or files of folders that are hidden or kept by a program",
    )


def test_links_in_a_circle_are_no_classes_and_give_no_picture_twice(tmp_path):
    (
        write(tmp_path / "set/cup/a.png"),
        write(tmp_path / "set/can/b.png"),
        write(tmp_path / "far/c.png"),
    )
    (tmp_path / "set/all").symlink_to(tmp_path / "set")
    (tmp_path / "set/above").symlink_to(tmp_path)
    (tmp_path / "set/cup/again").symlink_to(tmp_path / "set/cup")
    (tmp_path / "set/cup/self.png").symlink_to(tmp_path / "set/cup/self.png")
    (tmp_path / "set/bowl").symlink_to(tmp_path / "far")  # a class that lies elsewhere is one
    source = read_folder(tmp_path / "set")
    assert sorted(p.name for p in source.pictures) == ["bowl/c.png", "can/b.png", "cup/a.png"]
    assert source.left_out == (
        "above is no class: it is a link to a folder that holds the classes",
        "all is no class: it is a link to a folder that holds the classes",
    )
