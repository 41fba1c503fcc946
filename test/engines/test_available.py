"""The table of backends: every row names an engine that exists, and what it may run."""

import pytest

from vit_perception.config.backends import (
    BACKEND_NAMES,
    BACKENDS,
    ENGINE_FILE_BACKENDS,
    PRECISIONS,
    PROVIDERS,
    modules_of,
    runs_on_cpu_only,
)
from vit_perception.config.settings import EngineSettings
from vit_perception.engines.available import available_backends, make_engine
from vit_perception.engines.engine import Engine, why_not_installed


@pytest.mark.parametrize("row", BACKENDS, ids=lambda row: row.label)
def test_a_row_names_its_engine_and_all_precisions_of_this_machine(row):
    engine = make_engine(row)
    status = engine.status()
    assert isinstance(engine, Engine) and engine.name == status.name == row.name
    assert set(status.precisions) <= set(row.precisions) <= set(PRECISIONS)
    assert status.found or status.why_not


def test_every_precision_that_can_be_set_runs_somewhere():
    assert {precision for row in BACKENDS for precision in row.precisions} == set(PRECISIONS)


def test_labels_are_unique_and_the_statuses_are_in_the_order_of_the_table():
    labels = [row.label for row in BACKENDS]
    assert len(set(labels)) == len(labels)
    assert [status.name for status in available_backends()] == labels


def test_what_settings_accept_comes_from_the_table():
    assert BACKEND_NAMES == ("tensorrt", "tensorrt_rtx", "torch", "openvino", "onnxruntime")
    assert PROVIDERS == ("cpu", "cuda", "tensorrt")
    assert ENGINE_FILE_BACKENDS == ("tensorrt", "tensorrt_rtx")
    for name in BACKEND_NAMES:
        assert EngineSettings(name).backend == name


def test_auto_tries_no_provider_that_a_user_has_to_name():
    tried = [row.label for row in BACKENDS if row.allowed_by("auto", "cpu")]
    assert tried == [
        "tensorrt",
        "tensorrt_rtx",
        "torch on CUDA",
        "openvino",
        "onnxruntime",
        "torch on the CPU",
    ]


@pytest.mark.parametrize(
    "backend, provider, only",
    [
        ("openvino", "cpu", True),
        ("onnxruntime", "cpu", True),
        ("onnxruntime", "cuda", False),
        ("torch", "cpu", False),
        ("tensorrt", "cpu", False),
        ("auto", "cpu", False),
    ],
)
def test_which_settings_run_on_the_cpu_only(backend, provider, only):
    assert runs_on_cpu_only(backend, provider) is only


def test_a_runtime_that_is_not_installed_is_named_with_all_its_modules(monkeypatch):
    assert modules_of("nothing") == ()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert why_not_installed("tensorrt_rtx") == (
        "Python package tensorrt_rtx or tensorrt_rtx_bindings is not installed"
    )
