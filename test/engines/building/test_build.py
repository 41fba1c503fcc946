"""Engines built ahead: for GPUs that are not here, to be proven there; or here, and proven."""

from dataclasses import replace

import pytest

from test.log_lines import LogLines
from vit_perception.config.settings import EngineSettings
from vit_perception.engines.building.build import (
    PROVEN,
    TO_BE_PROVEN,
    build_ahead,
    with_network_size,
)
from vit_perception.engines.engine import EngineError
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.image.patch_geometry import ResizeRule

RTX = EngineSettings("tensorrt_rtx", "float16")
needs_rtx = pytest.mark.skipif(
    not tensorrt_api.module_name("tensorrt_rtx"),
    reason="tensorrt-rtx-cu13-libs and -bindings are not installed",
)


@needs_rtx
def test_one_engine_a_target_to_be_proven_there_and_found_the_second_time(loaded):
    log = LogLines()
    first = build_ahead(RTX, loaded, 1, targets=("8.6", "8.9"), log=log)
    assert [result.cached for result in first] == [False, False]
    assert {result.parity for result in first} == {TO_BE_PROVEN} and {
        result.figures for result in first
    } == {""}
    assert len({result.path for result in first}) == 2 and all(
        result.path.stat().st_size > 100_000 for result in first
    )
    assert first[1].what.startswith("tensorrt_rtx 1.") and first[1].what.endswith(
        "float16 for compute capability 8.9"
    )
    told = len(log)
    again = build_ahead(RTX, loaded, 1, targets=("8.9", "8.9"), log=log)
    assert again == (replace(first[1], cached=True),) and len(log) == told


@needs_rtx
def test_precision_auto_is_the_targets_fastest_and_one_that_it_lacks_is_refused(loaded):
    (result,) = build_ahead(EngineSettings("tensorrt_rtx"), loaded, 1, targets=("8.9",))
    assert "float16" in result.what
    with pytest.raises(
        EngineError, match="precision is 'bfloat16' for .* 7.5; accepted: float16, float32"
    ):
        build_ahead(EngineSettings("tensorrt_rtx", "bfloat16"), loaded, 1, targets=("7.5",))
    with pytest.raises(
        EngineError, match="precision is 'int8' for .* 8.9; accepted: float16, bfloat16"
    ):
        build_ahead(EngineSettings("tensorrt_rtx", "int8"), loaded, 1, targets=("8.9",))


@needs_rtx
def test_a_target_that_there_is_not_is_refused(loaded):
    with pytest.raises(
        EngineError, match="capability 9.0 is not a target of tensorrt_rtx 1.*accepted: 7.5, 8.0"
    ):
        build_ahead(RTX, loaded, 1, targets=("9.0",))


@pytest.mark.parametrize("backend", ["tensorrt", "auto", "torch"])
def test_targets_are_for_rtx_alone(loaded, backend):
    with pytest.raises(
        EngineError, match=f"backend is '{backend}' with targets 8.9; accepted: tensorrt_rtx"
    ):
        build_ahead(EngineSettings(backend), loaded, 1, targets=("8.9",))


@needs_rtx
@pytest.mark.skipif(not tensorrt_api.driver_fault(), reason="this machine has an NVIDIA GPU")
def test_without_targets_and_without_a_gpu_it_says_what_is_missing(loaded):
    with pytest.raises(
        EngineError, match="no CUDA device: .*engines for other machines can be built here"
    ):
        build_ahead(RTX, loaded, 1)


def test_what_is_built_here_is_proven_here(loaded, tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="openvino is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = EngineSettings("openvino", "float32")
    (first,) = build_ahead(settings, loaded, 1)
    assert (first.parity, first.cached) == (PROVEN, False) and "CLS cosine" in first.figures
    assert first.what.startswith("openvino 20") and " float32 on " in first.what
    assert build_ahead(settings, loaded, 1)[0].cached


def test_another_size_fits_the_patch_and_keeps_the_crops_share(loaded):
    crop = replace(loaded, card=replace(loaded.card, rule=ResizeRule((64, 64), "crop", 72)))
    rule = with_network_size(crop, (64, 96)).card.rule
    assert rule.network_size_px == (64, 96) and rule.resize_shortest_edge_px == 108
    assert with_network_size(loaded, (32, 48)).card.rule.resize_shortest_edge_px is None
    for size in ((64, 65), (0, 64), (4, 64)):
        with pytest.raises(
            EngineError, match=f"size is {size[0]} x {size[1]} px; accepted: multiples of the patch"
        ):
            with_network_size(loaded, size)


@needs_rtx
def test_another_size_is_another_engine(loaded):
    results = [
        build_ahead(RTX, loaded, 1, size_px=size, targets=("8.9",))[0].path
        for size in (None, (64, 48))
    ]
    assert results[0] != results[1]
