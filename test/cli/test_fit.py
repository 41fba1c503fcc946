"""`vit-perception fit`, as a user types it: the heads, and what goes wrong."""

import json
from argparse import ArgumentParser

import cv2
import numpy as np
import pytest

from test.cli.fitting import fit, own_cache_and_threads, pictures  # noqa: F401
from vit_perception.cli import fit as fit_command
from vit_perception.files.errors import InvalidValue


def test_a_second_fit_says_that_its_features_are_known(pictures, tiny_checkpoint, tmp_path, capsys):
    (pictures / "dark/broken.jpg").write_text("no picture")
    options = (
        "--images",
        pictures,
        "--checkpoint",
        tiny_checkpoint,
        "--backend",
        "torch",
        "--out",
        tmp_path / "head",
    )
    assert fit(*options) == 0
    said = capsys.readouterr().out
    assert (
        "16 pictures, 0 of them from the cache" in said
        and "held out: accuracy 1.000 of 4 pictures" in said
    )
    assert "1 pictures cannot be read and are left out:\n  dark/broken.jpg: " in said
    assert fit(*options, "--family", "vit") == 1  # taken at its word
    assert "all sizes of a vit model" in capsys.readouterr().err
    assert (
        fit(*options, "--method", "nearest_mean", "--test-images", pictures, "--family", "dinov2")
        == 0
    )
    said = capsys.readouterr().out
    assert "train: 16 pictures, 16 of them from the cache" in said
    report = json.loads((tmp_path / "head/report.json").read_text())
    assert report["features_from_cache"] == {"train": 16, "test_images": 16}
    assert [u["picture"] for u in report["unreadable"]] == ["dark/broken.jpg"] * 2
    assert report["test_images"] == {"accuracy": 1.0, "pictures": 16, "confusion": [[8, 0], [0, 8]]}


@pytest.mark.parametrize(
    "what, said",
    [
        (
            "the pictures",
            "pictures holds bright, dark; accepted: a new or an empty folder, or a head",
        ),
        ("half a head", "out holds labels.json, which is no whole head"),
        ("a file", "file/out cannot be written"),
        ("one class", "the labels are dark; accepted: at least two classes"),
        ("unknown test label", "label grey is only in what is tested on; accepted: bright, dark"),
    ],
)
def test_a_head_that_cannot_be_saved_or_fitted_is_refused_before_any_encoding(
    pictures, tmp_path, capsys, what, said
):
    out, more = tmp_path / "out", []
    if what == "the pictures":
        out = pictures
    elif what == "half a head":
        out.mkdir()
        (out / "labels.json").write_text('["theirs"]')
    elif what == "a file":
        (tmp_path / "file").write_text("")
        out = tmp_path / "file/out"
    elif what == "one class":
        (pictures / "bright").rename(tmp_path / "elsewhere")
    else:
        (tmp_path / "test/grey").mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "test/grey/0.png"), np.full((8, 8, 3), 99, np.uint8))
        more = ["--test-images", tmp_path / "test"]
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    # The checkpoint is looked for after all that.
    assert fit("--images", pictures, "--checkpoint", "/no/model", "--out", out, *more) == 1
    assert said in capsys.readouterr().err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_head_is_bound_to_the_network_size_that_it_was_fitted_on(
    pictures, tiny_checkpoint, tmp_path, capsys
):
    from vit_perception.config.settings import (
        CameraSettings,
        EncoderSettings,
        EngineSettings,
        ModelSettings,
    )
    from vit_perception.pipeline.pipeline import Pipeline

    options = (
        "--images",
        pictures,
        "--checkpoint",
        tiny_checkpoint,
        "--backend",
        "torch",
        "--out",
        tmp_path / "head",
    )
    assert fit(*options, "--network-size", "28x42") == 0
    for size, fits in (("28x42", True), ("", False)):
        settings = EncoderSettings(
            (CameraSettings("camera", "files", "compressed", head=str(tmp_path / "head")),),
            model=ModelSettings(str(tiny_checkpoint), network_size=size),
            engine=EngineSettings("torch"),
        )
        if fits:
            Pipeline.open(settings).close()
        else:
            with pytest.raises(ValueError, match="encoder"):
                Pipeline.open(settings)
    capsys.readouterr()
    for size in ("28x43", "large", "0x0"):
        assert fit(*options, "--network-size", size) == 1
        assert f"'model.network_size' is '{size}'; accepted: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("--epochs", 3), "--epochs has no meaning with --method logistic"),
        (
            ("--resume", "--variant", "test"),
            "--variant, --resume has no meaning with --method logistic",
        ),
        (
            ("--method", "finetune", "--backend", "torch"),
            "--backend has no meaning with --method finetune",
        ),
        (
            ("--method", "finetune", "--variant", "test", "--checkpoint", "demo"),
            "--variant and --checkpoint are both",
        ),
        (("--method", "finetune", "--image-size", 32), "--image-size is given without --variant"),
        (("--method", "finetune", "--image-size", 0), "--image-size is given without --variant"),
        (
            ("--method", "finetune", "--variant", "test", "--image-size", 0),
            "--image-size is 0; accepted: multiples of the patch size 8",
        ),
        (("--epochs", 0), "--epochs has no meaning with --method logistic"),
        (
            ("--method", "finetune", "--network-size", "32x32"),
            "--network-size has no meaning with --method finetune",
        ),
        (("--method", "finetune", "--variant", "huge"), "--variant is 'huge'; accepted: test"),
        (
            ("--method", "finetune", "--variant", "test", "--epochs", 0),
            "--epochs is 0; accepted: 1 or more",
        ),
        (("--method", "finetune", "--variant", "test", "--threads", 0), "--threads is 0"),
        (
            ("--method", "finetune", "--variant", "test", "--device", "gpu"),
            "--device is 'gpu'; accepted: cpu, cuda or cuda:<n>\n",
        ),
        (
            ("--method", "finetune", "--variant", "test", "--family", "vit"),
            "--variant and --family are both",
        ),
        (("--held-out", 1.5), "--held-out is 1.5"),
        (("--test-bag", "/no/bag"), "--test-bag needs --topic"),
    ],
)
def test_an_option_that_cannot_hold_is_refused_at_once(pictures, tmp_path, capsys, arguments, said):
    assert fit("--images", pictures, "--out", tmp_path / "out", *arguments) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, text",
    [
        ("--bag b --topic /i --roi 0 0 0 9", "^--roi is .0, 0, 0, 9.; accepted: .x, y, width"),
        ("--bag b --topic /i --rectify --test-images t", "--roi and --rectify are given with"),
        ("--images i --roi 0 0 9 9", "--roi and --rectify are given with pictures"),
        ("--bag b --topic /i --camera-info-topic /c", "given without --rectify"),
    ],
)
def test_options_of_fit_that_cannot_be(words, text):
    parser = ArgumentParser()
    fit_command.add_arguments(parser)
    with pytest.raises(InvalidValue, match=text):
        fit_command.check(parser.parse_args([*words.split(), "--out", "head"]))
