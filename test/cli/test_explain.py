"""`vit-perception explain`, as a user types it."""

import json

import cv2
import numpy as np
import pytest
from safetensors.torch import save_file

from test.cli.test_cli import run
from test.conftest import ROOT
from test.text_models import siglip_folder, tokenizer
from test.viewing.test_model_trace import KINDS, model_of
from vit_perception.checkpoints.native import config_json, preprocessor_json
from vit_perception.checkpoints.sources import load_checkpoint
from vit_perception.cli.explain import decoded_picture, normalised
from vit_perception.cli.main import main
from vit_perception.heads.classification import Head, save_head
from vit_perception.image.patch_geometry import ResizeRule
from vit_perception.image.preprocess import Preprocessor

pytest.importorskip("matplotlib", reason="matplotlib draws the figure")
PICTURE = ROOT / "vit_perception/engines/parity_pictures/coffee.jpg"


def test_a_classifier_shape_by_shape(tiny_classifier, tmp_path):
    done = run(
        "explain", PICTURE, "--checkpoint", tiny_classifier, "--out", tmp_path / "coffee.png"
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    # 32 x 32 px in patches of 16 px: 2 x 2 of 3 * 16 * 16 numbers, then 32 wide, 2 heads, and a CLS
    # token.
    for name, shape in (
        ("network input", "1 × 3 × 32 × 32"),
        ("patches", "1 × 4 × 768"),
        ("embedding", "1 × 4 × 32"),
        ("+ CLS", "1 × 5 × 32"),
        ("+ position", "1 × 5 × 32"),
        ("block 1 · attention", "1 × 2 × 5 × 5"),
        ("blocks 0 – 1", "1 × 5 × 32"),
        ("CLS token", "1 × 32"),
        ("patch tokens", "1 × 4 × 32"),
        ("logits", "1 × 5"),
    ):
        assert any(
            line.split("  ")[1] == name and f" {shape} " in line
            for line in done.stdout.splitlines()
            if line.startswith("  ")
        ), (name, done.stdout)
    assert all(
        f"  {label}" in done.stdout for label in ("cup", "can", "robot", "crane#1", "crane#3")
    )
    assert done.stdout.endswith(f"figure: {tmp_path / 'coffee.png'}\n")
    assert cv2.imread(str(tmp_path / "coffee.png")).shape[1] == 1260


@pytest.mark.parametrize("kind", ["registers", "rope", "distilled", "map"])
def test_every_kind_of_model_as_json(kind, tmp_path, capsys):
    changes, asked_by, tokens = KINDS[kind]
    model = model_of(**changes)
    labels = tuple(f"thing {k}" for k in range(model.config.classes))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(config_json(model.config, labels))
    rule = ResizeRule((32, 48), "stretch")
    (folder / "preprocessor_config.json").write_text(
        preprocessor_json(rule, (0.5,) * 3, (0.5,) * 3)
    )
    save_file(model.state_dict(), folder / "model.safetensors")
    out = tmp_path / "figure.png"
    given = ["--checkpoint", str(folder), "--json", "--out", str(out), "--block", "1"]
    assert main(["explain", str(PICTURE), *given]) == 0
    found = json.loads(capsys.readouterr().out)
    shapes = {step["step"]: step["shape"] for step in found["shapes"]}
    assert found["grid"] == [4, 6] and shapes["patches"] == [1, 24, 192]
    # One token more for each patch than on the 6 x 3 of the other test.
    assert shapes["blocks 0 – 2"] == [1, tokens + 6, 32]
    assert (
        found["attention"]["asked_by"] == asked_by
        and len(found["attention"]["share_on_patches"]) == 4
    )
    assert found["positions"] == ("rotary" if kind == "rope" else "learned")
    assert np.shape(found["attention_distance_px"]) == (3, 4)
    assert [len(found["top_classes"]), found["figure"]] == [
        5 if labels else 0,
        str(out),
    ] and out.is_file()


def test_the_classes_of_a_head(tiny_checkpoint, tmp_path, capsys):
    head = Head(("cup", "can"), np.zeros((2, 64)), np.log([0.75, 0.25]))
    save_head(tmp_path / "head", head)
    arguments = [
        "explain",
        str(PICTURE),
        "--checkpoint",
        str(tiny_checkpoint),
        "--out",
        str(tmp_path / "a.png"),
    ]
    assert main([*arguments, "--head", str(tmp_path / "head")]) == 0
    assert "  0.750  cup\n  0.250  can\n" in capsys.readouterr().out
    save_head(
        tmp_path / "head", Head(("a", "b"), np.zeros((2, 64)), np.zeros(2), encoder_sha256="0" * 64)
    )
    assert main([*arguments, "--head", str(tmp_path / "head")]) == 1
    assert "fitted on the features of encoder 000000000000" in capsys.readouterr().err


def test_classes_by_their_names_are_transformers_own(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    theirs = siglip_folder(tmp_path / "model")
    arguments = [
        "explain",
        str(PICTURE),
        "--checkpoint",
        str(tmp_path / "model"),
        "--out",
        str(tmp_path / "a.png"),
        "--json",
        "--labels",
        "cup",
        "red can",
    ]
    assert main(arguments) == 0
    found = {c["label"]: c["score"] for c in json.loads(capsys.readouterr().out)["top_classes"]}
    loaded = load_checkpoint(str(tmp_path / "model"))
    pixels = normalised(
        Preprocessor(loaded.card.rule)(decoded_picture(PICTURE)), loaded.card.mean, loaded.card.std
    )
    prompts = tokenizer()(
        ["a photo of a cup.", "a photo of a red can."],
        return_tensors="pt",
        padding="max_length",
        max_length=40,
    )
    logits = theirs(pixel_values=pixels, **prompts).logits_per_image[0]
    assert found == pytest.approx(
        dict(zip(("cup", "red can"), logits.sigmoid().tolist())), abs=1e-5
    )
    assert (
        main([*arguments, "--block", "0"]) == 1
        and "-1 with zero_shot.labels" in capsys.readouterr().err
    )


@pytest.mark.parametrize("through", ["itself", "link", "hard link"])
def test_the_picture_is_never_written_over(through, tiny_checkpoint, tmp_path, capsys):
    given = cv2.imencode(".png", np.full((40, 40, 3), 90, np.uint8))[1].tobytes()
    picture = out = tmp_path / "q.png"
    picture.write_bytes(given)
    if through != "itself":
        out = tmp_path / "other.png"
        out.symlink_to(picture) if through == "link" else out.hardlink_to(picture)
    assert (
        main(["explain", str(picture), "--checkpoint", str(tiny_checkpoint), "--out", str(out)])
        == 1
    )
    assert f"--out is {out}, the picture itself; accepted: another file" in capsys.readouterr().err
    assert picture.read_bytes() == given


def test_what_is_wrong_is_one_line(tiny_checkpoint, tmp_path, capsys):
    (tmp_path / "broken.jpg").write_bytes(PICTURE.read_bytes()[:40])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "notes.txt").write_text("no picture")
    out = ("--out", str(tmp_path / "a.png"))
    for arguments, expected in (
        (("/no/picture.jpg", *out), "/no/picture.jpg is no file"),
        ((tmp_path, *out), "is no file"),
        ((tmp_path / "notes.txt", *out), "notes.txt is no picture; accepted: .jpg"),
        ((tmp_path / "broken.jpg", *out), "broken.jpg: "),
        ((tmp_path / "text.png", *out), "text.png: "),
        ((PICTURE, *out, "--block", "2"), "block is 2; accepted: -2 to 1"),
        ((PICTURE, *out, "--block", "-3", "--labels", "cup"), "block is -3"),
        ((PICTURE, *out, "--labels", "cup"), "only clip, siglip, tipsv2 checkpoints know texts"),
        ((PICTURE, *out, "--checkpoint", "/no/model"), "/no/model"),
        ((PICTURE, *out, "--head-grid", "0"), "--head-grid is 0"),
        ((PICTURE, *out, "--top-k", "0"), "--top-k is 0"),
        ((PICTURE, "--out", tmp_path / "a.jpg"), "ends in .png"),
        ((PICTURE, "--out", tmp_path / "no/a.png"), "a folder that exists"),
    ):
        given = ["--checkpoint", str(tiny_checkpoint)] if "--checkpoint" not in arguments else []
        assert main(["explain", *map(str, arguments), *given]) == 1
        said = capsys.readouterr().err
        assert expected in said and len(said.splitlines()) == 1, said
    assert not (tmp_path / "a.png").exists()
    with pytest.raises(SystemExit, match="2"):
        main(["explain"])
