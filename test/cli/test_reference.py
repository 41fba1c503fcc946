"""`vit-perception reference`, and what a pipeline says of a reference that is another's."""

from dataclasses import replace

import numpy as np
import pytest

from test.datasets.embed_runs import CAMERAS, settings_of
from test.datasets.test_encode_recording import looped
from test.policy.test_dataset import folders  # noqa: F401 - a fixture
from vit_perception.cli.main import main
from vit_perception.config.monitor.settings import MonitorSettings
from vit_perception.config.settings import BadSetting
from vit_perception.pipeline.monitor.reference_file import load_reference
from vit_perception.pipeline.pipeline import Pipeline


@pytest.fixture(scope="module")
def short_bag(tmp_path_factory):
    return looped(tmp_path_factory.mktemp("short"))


@pytest.fixture(scope="module")
def reference(folders, tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "new"
    assert main(["reference", str(folders / "parquet"), "--out", str(path)]) == 0
    return path


def test_the_table_says_what_was_learnt_and_nothing_is_written_over(
    folders, reference, tmp_path, capsys
):
    out = tmp_path / "again"
    command = ["reference", str(folders / "parquet"), "--out", str(out)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "agentview  96  24  " in said and f"{out}: for the parameter monitor.reference" in said
    assert load_reference(out).sha256 == load_reference(reference).sha256
    assert main(command) == 1
    assert "accepted: a new" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    (tmp_path / "file").touch()
    assert main([*command[:-1], str(tmp_path / "file")]) == 1
    assert "--out: " in capsys.readouterr().err


def test_a_pipeline_with_its_own_reference_finds_changes(tiny_checkpoint, reference):
    settings = replace(
        settings_of(tiny_checkpoint, arms=()), monitor=MonitorSettings(str(reference))
    )
    pipeline = Pipeline.open(settings)
    try:
        assert pipeline.parts.monitored == ("agentview", "wrist")
    finally:
        pipeline.close()


def refused(settings, says):
    with pytest.raises(BadSetting, match=f"'monitor.reference' is .*{says}"):
        Pipeline.open(settings)


def test_a_reference_of_another_encoder_cameras_or_patches_names_both(
    tiny_checkpoint, tiny_second, reference
):
    monitor = MonitorSettings(str(reference))
    own = replace(settings_of(tiny_checkpoint, arms=()), monitor=monitor)
    other = settings_of(tiny_second, arms=())
    refused(replace(other, monitor=monitor), "a reference of .*this one was learnt from ")
    refused(
        replace(own, cameras=CAMERAS[:1]),
        "a reference of the cameras agentview; this one has agentview, wrist",
    )
    cut = replace(CAMERAS[1], roi=(10, 20, 200, 200))
    refused(
        replace(own, cameras=(CAMERAS[0], cut)),
        "camera wrist as it is here, 320 x 240 px on .* this one was learnt from 320 x 240 px on ",
    )
    beyond = replace(CAMERAS[1], roi=(10, 20, 2000, 200))
    refused(replace(own, cameras=(CAMERAS[0], beyond)), "fits camera wrist: the image is 240 x 320")
    rectified = replace(CAMERAS[1], rectify=True)
    refused(replace(own, cameras=(CAMERAS[0], rectified)), "320 x 240 px rectified on")
    several = replace(own.model, more_checkpoints=(str(tiny_second),))
    with pytest.raises(BadSetting, match="'' with model.more_checkpoints"):
        Pipeline.open(replace(own, model=several))


def test_limits_that_contradict_each_other_are_refused():
    with pytest.raises(BadSetting, match="monitor.shift_error_px' is 1.0; accepted: 2.0 or more"):
        MonitorSettings(shift_error_px=1.0)
    with pytest.raises(BadSetting, match="monitor.novelty_warn"):
        MonitorSettings(novelty_warn=np.nan)


def test_inspect_draws_novelty_and_shift_and_another_recording_gives_the_gain(
    tiny_checkpoint, folders, tmp_path, short_bag, capsys
):
    engine = ["--checkpoint", str(tiny_checkpoint), "--backend", "torch", "--precision", "float32"]
    out = tmp_path / "with_gain"
    command = ["reference", str(folders / "parquet"), "--out", str(out), *engine]
    assert main([*command, "--recording", str(short_bag)]) == 0
    gains = [camera.rotation_gain for camera in load_reference(out).cameras.values()]
    assert all(0.5 <= gain <= 5 for gain in gains)
    look = ["inspect", str(short_bag), "--format", "html", "--reference", str(out), *engine]
    assert main([*look, "--out", str(tmp_path / "look")]) == 0
    report = (tmp_path / "look/report.html").read_text()
    assert "agentview: novelty" in report and "novelty score, 1 is the limit" in report
    assert "agentview: camera shift in px" in report


def test_features_of_another_encoder_than_the_recordings_are_refused(
    tiny_second, folders, tmp_path, short_bag, capsys
):
    engine = ["--checkpoint", str(tiny_second), "--backend", "torch", "--precision", "float32"]
    command = ["reference", str(folders / "parquet"), "--out", str(tmp_path / "new"), *engine]
    assert main([*command, "--recording", str(short_bag)]) == 1
    assert "this one was learnt from" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
