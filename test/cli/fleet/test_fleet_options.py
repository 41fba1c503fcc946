"""Options of `embed --ray` and `--dry-run`: what is wrong is one line before anything runs."""

import pytest

from test.conftest import DEMO_BAG, ROOT
from vit_perception.cli.main import main

EMBED = ["embed", str(DEMO_BAG), "--params", str(ROOT / "config/demo.yaml")]


@pytest.mark.parametrize(
    "options, said",
    [
        (["--ray", "local", "--ray-cpus", "0"], "--ray-cpus is 0; accepted: 1 or more"),
        (["--ray", "local", "--ray-gpus", "1.5"], "--ray-gpus is 1.5; accepted: a part of one"),
        (["--ray", "local", "--ray-gpus", "-1"], "--ray-gpus is -1; accepted: 0 to 64"),
        (["--ray", "local", "--ray-workers", "-1"], "--ray-workers is -1; accepted: 0 or more"),
        (["--strict"], "--strict is given without --ray"),
    ],
)
def test_numbers_out_of_their_bounds(tmp_path, capsys, options, said):
    assert main([*EMBED, "--out", str(tmp_path / "out"), *options]) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "address, said",
    [
        ("127.0.0.1:9", "--ray is 127.0.0.1:9, where nothing answers"),
        ("nowhere", "--ray is 'nowhere'; accepted: auto"),
        ("ray://127.0.0.1:10001", "must be part of the cluster"),
    ],
)
def test_an_address_where_no_cluster_is(tmp_path, capsys, address, said):
    assert main([*EMBED, "--out", str(tmp_path / "out"), "--ray", address]) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_output_on_object_storage_is_refused_with_what_to_do(capsys):
    assert main([*EMBED, "--out", "s3://bucket/out", "--ray", "local"]) == 1
    assert "--out is s3://bucket/out; accepted with --ray: a folder" in capsys.readouterr().err


def test_strict_ends_at_a_bag_that_cannot_be_read(tmp_path, capsys):
    bad = tmp_path / "bad.mcap"
    bad.write_bytes(b"no bag")
    given = ["embed", str(DEMO_BAG), str(bad), "--out", str(tmp_path / "out"), "--dry-run"]
    assert main([*given, "--ray", "local", "--strict"]) == 1
    assert str(bad) in capsys.readouterr().err


def test_the_plan_has_sources_frames_bytes_and_time(tiny_classifier, tmp_path, capsys):
    bad = tmp_path / "bad.mcap"
    bad.write_bytes(b"no bag")
    given = [EMBED[0], str(bad), *EMBED[1:], "--checkpoint", str(tiny_classifier)]
    given += ["--backend", "torch", "--precision", "float32"]
    assert main([*given, "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "150 frames  pick_place_demo" in plan and "0 frames  bad.mcap  will be left out" in plan
    assert "150 frames  2 sources, of which 1 cannot be read" in plan
    assert "bytes to write: " in plan and "time: 0:" in plan and "on 1 worker" in plan
    assert not (tmp_path / "out").exists()
