"""`vit-perception basis`, and `embed --store`: from features to a basis, and to small features."""

import json
from dataclasses import replace

import numpy as np
import pytest

from test.datasets.embed_runs import settings_of
from test.datasets.test_encode_recording import looped
from test.policy.test_dataset import folders  # noqa: F401 - a fixture
from vit_perception.cli.main import main
from vit_perception.config.settings import BadSetting, OutputSettings
from vit_perception.pipeline.pipeline import Pipeline
from vit_perception.policy.basis_file import FILE_NAME, load_basis, save_basis
from vit_perception.policy.dataset import FeatureDataset
from vit_perception.policy.features import FeatureFiles
from vit_perception.wire.basis import Basis


@pytest.fixture(scope="module")
def short_bag(tmp_path_factory):
    return looped(tmp_path_factory.mktemp("short"))


@pytest.fixture
def embed(short_bag, tiny_checkpoint):
    """Returns the status of `embed` of a short bag with further options."""

    def call(*options):
        model = ["--checkpoint", str(tiny_checkpoint)]
        engine = ["--backend", "torch", "--precision", "float32"]
        return main(["embed", str(short_bag), *model, *engine, *map(str, options)])

    return call


@pytest.fixture
def small(tmp_path, folders):
    """A basis of 16 directions, learnt by the command."""
    path = tmp_path / "basis.safetensors"
    assert main(["basis", str(folders / "parquet"), "--dims", "16", "--out", str(path)]) == 0
    return path


def test_the_table_says_what_each_count_keeps_and_the_file_has_the_one_asked_for(
    folders, tmp_path, capsys
):
    path, curve = tmp_path / "b.safetensors", tmp_path / "b.png"
    command = ["basis", str(folders / "parquet"), "--dims", "16", "--out", str(path)]
    assert main([*command, "--curve", str(curve)]) == 0
    said = capsys.readouterr().out
    assert "learnt from 96 frames; measured on the 24 that end the episodes" in said
    rows = [line.split() for line in said.splitlines() if line.strip()[:1].isdigit()]
    assert [row[0] for row in rows] == ["8", "16", "32"]
    assert [row[1] for row in rows] == ["12", "20", "36"]
    assert rows[1][-3:] == ["<-", "this", "file"] and len(rows[0]) == len(rows[1]) - 3
    file = load_basis(path)
    files = FeatureFiles(folders / "parquet")
    assert file.basis.directions.shape == (16, 64)
    assert file.basis.encoder_sha256 == files.layouts[0].encoder_sha256
    assert file.model == files.layouts[0].model
    assert curve.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    # Neither is written over.
    for options in (command, [*command[:-1], str(tmp_path / "c"), "--curve", str(curve)]):
        assert main(options) == 1
        assert "accepted: a new" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0


@pytest.mark.parametrize(
    "store, dtype, bytes_a_token", [("int8", "uint8", 68), ("float16", "float16", 128)]
)
def test_store_chooses_the_form_and_readers_see_tokens(
    embed, tmp_path, folders, store, dtype, bytes_a_token
):
    out = tmp_path / store
    embed("--features", "tokens", "--store", store, "--out", str(out))
    files = FeatureFiles(out)
    stored = files._file(0).row(0, ("tokens",))["tokens"]
    assert stored.dtype == dtype and stored[0].nbytes == bytes_a_token
    tokens = files.row(0, ("tokens",))["tokens"]
    assert tokens.shape[1] == 64 and json.loads((out / "manifest.json").read_text())["layouts"]


def test_store_basis_writes_coefficients_with_the_basis_beside_them(embed, tmp_path, small):
    out = tmp_path / "out"
    assert embed("--store", "basis", "--basis", small, "--out", out) == 0
    assert load_basis(out / FILE_NAME).basis.sha256 == load_basis(small).basis.sha256
    plain = tmp_path / "plain"
    embed("--out", str(plain))
    data, exact = FeatureDataset(out), FeatureDataset(plain)
    tokens, expected = data[0]["tokens"][0].numpy(), exact[0]["tokens"][0].numpy()
    layout = data.layouts[0]
    for group in layout.groups:
        one, other = tokens[group.start : group.stop], expected[group.start : group.stop]
        if group.kind == "patch":
            lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
            assert ((one * other).sum(axis=1) / lengths > 0.5).all()
            assert not np.array_equal(one, other)
        else:
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(data[0]["embedding"].numpy(), exact[0]["embedding"].numpy())
    # Two cameras of 16 patches with 16 bytes and a scale; two CLS tokens and a pose in float32.
    stored = data.files._file(0).row(0, ("tokens",))["tokens"]
    assert stored.shape == (2 * 16 * (16 + 4) + 3 * 64 * 4,)
    # A folder whose basis is gone or is another one cannot be read as if it were not.
    other = load_basis(small).basis
    save_basis(out / FILE_NAME, Basis(other.mean + 1, other.directions, ""), "another")
    with pytest.raises(ValueError, match="accepted: that of the layout"):
        FeatureFiles(out)
    (out / FILE_NAME).unlink()
    with pytest.raises(ValueError, match=r"basis\.safetensors' is not a file"):
        FeatureFiles(out)


def test_options_that_contradict_each_other_are_one_line(embed, tmp_path, small, capsys):
    for options, said in (
        (["--store", "basis"], "accepted: with --basis FILE, or tokens.basis"),
        (["--store", "int8", "--basis", small], "--store is int8; accepted: --store basis"),
        (["--basis", small], "--store is not; accepted: --store basis"),
    ):
        assert embed(*options, "--out", tmp_path / "never") == 1
        assert said in capsys.readouterr().err and not (tmp_path / "never").exists()


def test_features_that_cannot_be_learnt_from_are_refused(embed, tmp_path, small, folders, capsys):
    coded, cls = tmp_path / "coded", tmp_path / "cls"
    embed("--store", "basis", "--basis", str(small), "--out", str(coded))
    embed("--features", "cls", "--out", str(cls))
    for folder, said in (
        (coded, "has coefficients of a basis; accepted: tokens in float32"),
        (cls, "has no tokens; accepted: output of `vit-perception embed` with tokens among its"),
        (folders / "mcap", "is of mcap; accepted: parquet or safetensors"),
    ):
        assert main(["basis", str(folder), "--out", str(tmp_path / "no")]) == 1
        assert said in capsys.readouterr().err and not (tmp_path / "no").exists()


def test_a_basis_of_another_encoder_is_refused_by_both(tiny_checkpoint, tmp_path):
    directions = np.eye(64, dtype=np.float32)[:4]
    other = Basis(np.zeros(64, np.float32), directions, "f" * 64)
    save_basis(tmp_path / "b", other, "another model")
    output = OutputSettings(basis=str(tmp_path / "b"))
    settings = replace(settings_of(tiny_checkpoint), output=output)
    with pytest.raises(BadSetting, match=r"tokens\.basis.*this one is of another model, 64 ch"):
        Pipeline.open(settings)
    with pytest.raises(BadSetting, match="output_dtype' is 'int8'; accepted: float32 with"):
        OutputSettings("int8", basis="b")
