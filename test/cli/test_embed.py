"""`vit-perception embed` as a user types it: what is wrong is one line, before the model is loaded
where it can be.
"""

import json
from argparse import Namespace

import pytest
import yaml

from test.cli.test_cli import run
from test.conftest import DEMO_BAG
from vit_perception.cli.main import main
from vit_perception.cli.pipeline_options import images_only, with_overrides
from vit_perception.config.ray_settings import RaySettings
from vit_perception.config.settings import (
    BadSetting,
    CameraSettings,
    EncoderSettings,
    EngineSettings,
    ModelSettings,
    PolicySettings,
    PoseSettings,
    StateSettings,
)
from vit_perception.datasets.embed_journal import Journal
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter

# What the options of `embed` and `inspect` that choose a model are if none is given.
NO_OPTIONS = {
    "backend": "",
    "precision": "",
    "checkpoint": "",
    "mean": [],
    "std": [],
    "model_size": [],
}


@pytest.fixture
def pictures(tmp_path):
    import cv2
    import numpy as np

    (tmp_path / "pictures").mkdir()
    for k in range(3):
        cv2.imwrite(str(tmp_path / f"pictures/{k}.png"), np.full((40, 50, 3), 60 * k, np.uint8))
    return tmp_path / "pictures"


def test_pictures_need_no_poses_and_no_states_and_a_camera_keeps_its_own(
    pictures, tiny_classifier, tmp_path
):
    cameras = (
        CameraSettings("wrist", "/w", "raw", labels=("a", "b")),
        CameraSettings("far", "/f", head="head"),
    )
    given = EncoderSettings(
        cameras,
        (PoseSettings("arm", "/p", "world"),),
        "require",
        states=(StateSettings("hand", "joint_states", ("a",)),),
        state_policy="require",
        policy=PolicySettings(("arm.position", "hand")),
    )
    made = images_only(
        given, (CameraSettings("wrist", "key", "compressed"), CameraSettings("new", "other"))
    )
    assert made.cameras == (
        CameraSettings("wrist", "key", "compressed", labels=("a", "b")),
        CameraSettings("new", "other"),
    )
    assert not made.poses and not made.states and not made.policy.state
    with pytest.raises(BadSetting, match=r"cameras.far.rectify.*which have no CameraInfo"):
        rectified = (CameraSettings("far", "/f", rectify=True, roi=(0, 0, 9, 9)),)
        images_only(EncoderSettings(rectified), (CameraSettings("far", "key"),))
    with pytest.raises(BadSetting, match=r"rays.looks.camera.*which have no CameraInfo"):
        rays = {"rays": (RaySettings("looks", "far"),)}
        far = (CameraSettings("far", "/f"),)
        images_only(EncoderSettings(far, extra=rays), (CameraSettings("far", "key"),))

    params = {
        "camera_names": ["wrist"],
        "state_names": ["hand"],
        "states": {"policy": "require", "hand.joints": ["a"]},
        "cameras.wrist.labels": ["a", "b", "c", "d", "e"],
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({"/**": {"ros__parameters": params}}))
    status = main(
        [
            "embed",
            str(pictures),
            "--out",
            str(tmp_path / "out"),
            "--params",
            str(tmp_path / "p.yaml"),
            "--checkpoint",
            str(tiny_classifier),
            "--backend",
            "torch",
            "--precision",
            "float32",
        ]
    )
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert status == 0 and manifest["frames"] == 3
    assert manifest["layouts"][-1]["cameras"][0]["labels"] == ["a", "b", "c", "d", "e"]


def test_an_engine_that_the_command_line_names_takes_the_place_of_the_robots_file():
    robot = EncoderSettings(
        (CameraSettings("a", "/a"),), engine=EngineSettings("tensorrt", file="/robot/engine")
    )

    def engine(**given):
        return with_overrides(robot, Namespace(**{**NO_OPTIONS, **given})).engine

    assert engine() == robot.engine
    assert engine(backend="openvino") == EngineSettings("openvino")
    assert engine(precision="float32") == EngineSettings("tensorrt", "float32")


def test_a_checkpoint_that_the_command_line_names_is_the_only_one():
    given = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.5, 1.0), "size": (56, 70)}
    robot = EncoderSettings(
        (CameraSettings("a", "/a"),), model=ModelSettings("one", more_checkpoints=("two",), **given)
    )

    def model(**options):
        return with_overrides(robot, Namespace(**{**NO_OPTIONS, **options})).model

    assert model() == robot.model
    # What the file says of the preprocessing is of the file's checkpoint.
    assert model(checkpoint="three") == ModelSettings("three")
    own = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "model_size": [28, 28]}
    assert model(checkpoint="three", **own) == ModelSettings(
        "three", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), size=(28, 28)
    )
    assert model(mean=[0.1, 0.2, 0.3]).by_hand == ((0.1, 0.2, 0.3), (0.25, 0.5, 1.0), (56, 70))


def test_no_frame_is_a_status_and_says_why(tiny_checkpoint, tmp_path):
    with BagReader(DEMO_BAG) as bag, BagWriter(tmp_path / "bag") as out:
        for message in bag.raw(["/wrist/image/compressed"], stop_ns=bag.start_ns + 300_000_000):
            out.write(
                message.topic, message.type_name, message.data[:-40] + bytes(40), message.stamp_ns
            )
    given = [
        tmp_path / "bag",
        "--checkpoint",
        tiny_checkpoint,
        "--backend",
        "torch",
        "--precision",
        "float32",
    ]
    done = run("embed", *given, "--out", tmp_path / "out")
    assert done.returncode == 1 and "no frame came out" in done.stderr
    assert "short_data, the first: camera" in done.stdout and "end marker" in done.stdout
    done = run("inspect", *given, "--out", tmp_path / "look")
    assert (
        done.returncode == 1
        and "short_data, the first: " in done.stderr
        and "end marker" in done.stderr
    )
    assert not list((tmp_path / "look").glob("*")) and not list((tmp_path / "look").glob(".*"))


def test_what_was_left_out_is_said_each_time(tiny_checkpoint, tmp_path, capsys):
    with BagReader(DEMO_BAG) as bag, BagWriter(tmp_path / "bag") as out:
        for message in bag.raw(
            ["/wrist/image/compressed", "/ee_pose"], stop_ns=bag.start_ns + 300_000_000
        ):
            cut = message.topic == "/ee_pose" and message.stamp_ns > bag.start_ns + 200_000_000
            out.write(
                message.topic,
                message.type_name,
                message.data[:20] if cut else message.data,
                message.stamp_ns,
            )
    given = [
        str(g)
        for g in (
            tmp_path / "bag",
            "--checkpoint",
            tiny_checkpoint,
            "--backend",
            "torch",
            "--precision",
            "float32",
            "--out",
        )
    ]
    lines = []
    for _ in range(2):  # the second finds everything done
        assert main(["embed", *given, str(tmp_path / "out")]) == 0
        lines.append(capsys.readouterr().out.splitlines()[-2:])
    assert lines[0] == lines[1] and lines[0][0].startswith("6 frames in 1 files")
    assert (
        "left out: 10 undecodable of /ee_pose, the first: a message of /ee_pose at " in lines[0][1]
    )
    assert main(["inspect", *given, str(tmp_path / "look"), "--format", "html"]) == 0
    assert lines[0][1] in capsys.readouterr().out
    assert (
        "<th>other messages left out</th><td>10 undecodable of /ee_pose</td>"
        in (tmp_path / "look/report.html").read_text()
    )


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--shard-mb", "nan"], "--shard-mb is nan; accepted: more than 0"),
        (["--shard-mb", "inf"], "--shard-mb is inf; accepted: more than 0"),
        (
            ["--node", "foo bar", "--format", "mcap"],
            "--node is 'foo bar'; accepted: a node's full name",
        ),
        (["--shard-frames", "0"], "--shard-frames is 0; accepted: 1 or more"),
        (
            ["--params", "{own}/nope.yaml"],
            "--params: there is no {own}/nope.yaml; accepted: a parameter file of the node",
        ),
        (["--period-s", "nan"], "--period-s is nan; accepted: 1e-9"),
        (
            ["--checkpoint", "nope", "--out", "{own}"],
            "holds other files (.env); accepted: a new or an empty folder",
        ),
        (
            ["--checkpoint", "nope", "--out", "{own}/.env"],
            "is a file; accepted: a new or an empty folder",
        ),
    ],
)
def test_options_that_cannot_be_are_named(pictures, tmp_path, capsys, arguments, said):
    (tmp_path / "own").mkdir()
    (tmp_path / "own/.env").write_text("mine")
    given = [a.format(own=tmp_path / "own") for a in arguments]
    assert main(["embed", str(pictures), "--out", str(tmp_path / "out"), *given]) == 1
    error = capsys.readouterr().err
    assert said.format(own=tmp_path / "own") in error and "free disk space" not in error
    assert (tmp_path / "own/.env").read_text() == "mine"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("subcommand", ["embed", "inspect"])
def test_a_bag_without_its_metadata_is_told_from_pictures(tmp_path, capsys, subcommand):
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag/day_0.mcap").write_bytes(b"")
    assert main([subcommand, str(tmp_path / "bag"), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "is a bag without metadata.yaml; accepted: the whole folder (`ros2 bag reindex" in error
    assert "or a file of it: day_0.mcap" in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("number, room", [(28, True), (13, False)])
def test_only_a_full_disk_asks_for_room(
    pictures, tiny_checkpoint, tmp_path, capsys, monkeypatch, number, room
):
    def fails(*unused):
        raise OSError(number, "as the system says")

    monkeypatch.setattr("vit_perception.datasets.embed_journal.Journal.append", fails)
    assert (
        main(
            [
                "embed",
                str(pictures),
                "--out",
                str(tmp_path / "out"),
                "--checkpoint",
                str(tiny_checkpoint),
                "--backend",
                "torch",
                "--precision",
                "float32",
            ]
        )
        == 1
    )
    error = capsys.readouterr().err
    assert (
        "as the system says" in error
        and ("hint: finished files are kept; free disk space" in error) == room
    )


def test_ctrl_c_says_how_to_go_on_and_it_does(
    pictures, tiny_checkpoint, tmp_path, capsys, monkeypatch
):
    given = [
        "embed",
        str(pictures),
        "--out",
        str(tmp_path / "out"),
        "--checkpoint",
        str(tiny_checkpoint),
        "--backend",
        "torch",
        "--precision",
        "float32",
        "--shard-frames",
        "1",
    ]
    whole, shards = Journal.append, []

    def interrupted(journal, entry):
        whole(journal, entry)
        shards.append(entry.file)
        if len(shards) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", interrupted)
        assert main(given) == 130
    assert "are kept; run the same command again to continue" in capsys.readouterr().err
    assert main(given) == 0 and "3 frames in 3 files" in capsys.readouterr().out


@pytest.mark.parametrize(
    "column, said",
    [
        ("a=/nope", "--column a: {bag} has no topic /nope that is read; accepted: /agentview"),
        ("a=/task_stage", "--column a: /task_stage of {bag} (std_msgs/msg/String): it holds more"),
        ("nothing", "parameter 'columns' is 'nothing'; accepted: NAME=TOPIC[:FIELD]"),
    ],
)
def test_a_column_that_is_none_is_one_line(tmp_path, column, said, capsys):
    out = str(tmp_path / "out")
    assert main(["embed", str(DEMO_BAG), "--out", out, "--column", column]) == 1
    assert capsys.readouterr().err.startswith("vit-perception embed: " + said.format(bag=DEMO_BAG))
    assert not (tmp_path / "out").exists()


def test_pictures_have_no_topics(pictures, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["embed", str(pictures), "--out", out, "--column", "a=/b"]) == 1
    assert "is no bag; accepted: bags, whose topics become columns" in capsys.readouterr().err


def test_pictures_changed_at_random_by_an_option_and_what_is_wrong_with_it_in_a_line(
    pictures, tiny_checkpoint, tmp_path, capsys
):
    given = [
        *("embed", str(pictures), "--checkpoint", str(tiny_checkpoint), "--backend", "torch"),
        *("--precision", "float32", "--features", "cls"),
    ]
    out = tmp_path / "varied"
    options = ["--augment", "2", "--augment-seed", "3", "--augment-strength", "blobs=2"]
    assert main([*given, *options, "--out", str(out)]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["frames"] == 9
    assert [source["augment"]["repeat"] for source in manifest["run"]["sources"]] == [0, 1, 2]
    assert manifest["run"]["sources"][1]["augment"]["blobs"] == 2
    for wrong, said in (
        (["--augment", "-2"], "--augment is -2; accepted: 0 to 1000"),
        (["--augment-seed", "3"], "--augment is 0, and a seed or a strength is given"),
        (["--augment", "1", "--augment-strength", "hue=1"], "--augment-strength has 'hue=1'"),
    ):
        assert main([*given, *wrong, "--out", str(tmp_path / "none")]) == 1
        assert said in capsys.readouterr().err and not (tmp_path / "none").exists()
