"""The monitor on tokens in the wire's forms: features and bases made here, and the docs' table."""

import json

import numpy as np
import pytest

from benchmarks.monitor_bench import demo, main
from benchmarks.monitor_forms import Stored, form_cases, forms_of, forms_table, sent
from test.cli.test_basis import embed, short_bag, small  # noqa: F401 - fixtures
from test.conftest import ROOT
from test.policy.test_dataset import folders  # noqa: F401 - a fixture
from vit_perception.cli.main import main as vit_perception
from vit_perception.datasets.reference.learn import learn_reference
from vit_perception.files.errors import InvalidValue
from vit_perception.pipeline.monitor.monitor import CameraMonitor
from vit_perception.policy.basis_file import load_basis, save_basis
from vit_perception.policy.features import FeatureFiles
from vit_perception.wire.basis import Basis

RESULTS = ROOT / "benchmarks/results"
# From a token to the nearest step of eight bits, in parts of its largest channel.
HALF_STEP = 1 / 254


def test_features_read_in_a_form_are_to_the_bit_those_that_embed_stores(embed, tmp_path, small):
    plain, stored = tmp_path / "plain", tmp_path / "stored"
    assert embed("--features", "tokens", "--out", plain) == 0
    options = ["--store", "basis", "--basis", small]
    assert embed("--features", "tokens", *options, "--out", stored) == 0
    form = forms_of(plain, [small])[-1]
    assert form.name == "basis_16"
    made, expected = Stored(plain, form), FeatureFiles(stored)
    assert len(made) == len(expected) > 0
    for row in range(len(made)):
        one, other = (files.row(row, ("tokens",))["tokens"] for files in (made, expected))
        np.testing.assert_array_equal(one, other)


def patches_of(features, count):
    files = FeatureFiles(features)
    groups = {c.name: files.layouts[0].group(f"{c.name}/patch") for c in files.layouts[0].cameras}
    rows = [files.row(row, ("tokens",))["tokens"] for row in range(count)]
    return {name: np.stack([r[g.start : g.stop] for r in rows]) for name, g in groups.items()}


def test_each_form_is_judged_by_the_references_that_meet_it(folders, small):
    features = folders / "parquet"
    normal = patches_of(features, 60)
    dark = {name: 0.5 * rows[:10] + 0.5 * rows[9::-1] + 1 for name, rows in normal.items()}
    forms = {form.name: form for form in forms_of(features, [small])}
    for name, rows in normal.items():
        np.testing.assert_array_equal(sent(forms["float32"], normal)[name], rows)
        error = np.abs(sent(forms["int8"], normal)[name] - rows).max(axis=-1)
        assert error.max() > 0 and (error <= 1.01 * HALF_STEP * np.abs(rows).max(axis=-1)).all()
        coarse = np.abs(sent(forms["basis_16"], normal)[name] - rows).max(axis=-1)
        assert coarse.mean() > error.mean()
    learnt = learn_reference(FeatureFiles(features)).reference.cameras
    monitors = {name: CameraMonitor(camera) for name, camera in learnt.items()}
    tokens = {"normal": normal, "dirt": dark}
    cases = form_cases(demo, tokens, monitors, features, [small], lambda camera: [])
    assert [(case["reference"], case["tokens"]) for case in cases] == [
        ("float32", "float32"),
        ("float32", "int8"),
        ("float32", "basis_16"),
        ("basis_16", "float32"),
        ("basis_16", "basis_16"),
    ]
    exact = demo(tokens, monitors)
    for camera, row in cases[0]["cameras"].items():
        assert row == {k: v for k, v in exact[camera].items() if k != "monitor_cpu_ms"}
    scores = [[c["variants"][0]["score"] for c in each["cameras"].values()] for each in cases]
    assert scores[0] == pytest.approx(scores[1], rel=0.1)
    assert all(scores[0] != other for other in scores[2:])


def test_features_and_bases_that_do_not_fit_are_refused(folders, small, tmp_path, embed):
    basis = load_basis(small).basis
    other = tmp_path / "other.safetensors"
    save_basis(other, Basis(basis.mean, basis.directions, "another"), "another")
    with pytest.raises(InvalidValue, match="of another encoder"):
        forms_of(folders / "parquet", [other])
    assert embed("--features", "tokens", "--store", "int8", "--out", tmp_path / "int8") == 0
    with pytest.raises(InvalidValue, match="not stored as float32"):
        forms_of(tmp_path / "int8", [small])


def test_bases_without_features_are_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["x", "--reference", "r", "--cache", "c", "--basis", "b"])
    with pytest.raises(SystemExit):
        main()
    assert "--features and --basis belong together" in capsys.readouterr().err


def test_a_reference_of_coefficients_says_what_it_is_not_good_for(embed, tmp_path, small, capsys):
    """Of 32 directions it warned of every unchanged window of the node's tokens, in silence."""
    plain, stored = tmp_path / "plain", tmp_path / "stored"
    embed("--features", "tokens", "--out", plain)
    embed("--features", "tokens", "--store", "basis", "--basis", small, "--out", stored)
    capsys.readouterr()
    for folder, is_said in ((plain, False), (stored, True)):
        assert (
            vit_perception(["reference", str(folder), "--out", str(tmp_path / "r"), "--force"]) == 0
        )
        assert ("learnt from coefficients of 16 directions" in capsys.readouterr().out) == is_said


def test_the_docs_table_is_that_of_the_results_and_float32_is_that_of_the_bench():
    report = json.loads((RESULTS / "monitor_forms.json").read_text())
    assert forms_table(report) in (ROOT / "docs/monitor.md").read_text()
    bench = json.loads((RESULTS / "monitor.json").read_text())["demo"]
    first = report["cases"][0]
    assert (first["reference"], first["tokens"]) == ("float32", "float32")
    for camera, row in first["cameras"].items():
        assert row == {k: v for k, v in bench[camera].items() if k != "monitor_cpu_ms"}
