"""Memory: what an export and a build ask for, what is free by /proc and by control groups, and what
is refused.
"""

import json

import pytest

from test.conftest import ROOT
from test.log_lines import LogLines
from vit_perception.engines.building import memory
from vit_perception.engines.building.memory import (
    FreeMemory,
    build_bytes,
    export_bytes,
    free_memory,
)
from vit_perception.engines.engine import EngineError
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.engines.tensorrt.build import BuildOptions
from vit_perception.engines.tensorrt.cached import cached_engine

MIB = 1 << 20
ADA = BuildOptions("tensorrt_rtx", ("8.9",))


@pytest.mark.parametrize(
    "weights, precision, export_mib, build_mib",
    [
        (100 * MIB, "float32", 400 + 440, 350 + 1320),
        (100 * MIB, "float16", 400 + 800, 350 + 660),
        (100 * MIB, "bfloat16", 400 + 800, 350 + 660),
        (0, "float16", 400, 350),
    ],
)
def test_what_is_asked_for_is_a_base_and_a_factor_of_the_weights(
    weights, precision, export_mib, build_mib
):
    assert export_bytes(weights, precision) == export_mib * MIB
    assert build_bytes(weights, precision) == build_mib * MIB
    assert build_bytes(weights, precision, 1 << 30) == (build_mib + 1024) * MIB


def test_what_is_asked_for_covers_every_measurement_and_not_much_more():
    rows = json.loads((ROOT / "benchmarks/results/build_memory.json").read_text())["rows"]
    assert {row["variant"] for row in rows} >= {"S/16", "B/16", "L/16"}
    for row in rows:
        for name, asked in (("export", export_bytes), ("build", build_bytes)):
            asked_mib = asked(round(row["weights_millions"] * 1e6), row["precision"]) / MIB
            assert 0.8 * asked_mib < row["mib"][name] < asked_mib, (row, name)


def test_weights_are_parameters_and_buffers(source):
    parameters = sum(p.numel() for p in source.graph.parameters())
    assert parameters <= memory.weights_of(source.graph) < parameters + 100_000


# -- what is free ----------------------------------------------------------------------------------


def tree(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(str(content))
    return {"proc": folder / "proc", "cgroups": folder / "cg"}


MEMINFO = (
    "MemTotal:       8000000 kB\nMemFree:   1 kB\nMemAvailable:    4096 kB\nSwapFree:        1024 "
    "kB\n"
    "HugePages_Total:  0\n"
)


def test_without_a_group_it_is_what_the_machine_has(tmp_path):
    found = free_memory(**tree(tmp_path, {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n"}))
    assert found == FreeMemory(4 * MIB, MIB, str(tmp_path / "proc/meminfo"))
    assert (
        str(found).startswith("0.00 GiB are free and 0.00 GiB of swap (")
        and found.total_bytes == 5 * MIB
    )


def test_a_group_of_version_2_and_those_above_it_bound_it_and_idle_pages_of_files_make_room(
    tmp_path,
):
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "0::/robot/node\n",
        "cg/robot/node/memory.max": "max\n",
        "cg/robot/node/memory.current": 10 * MIB,
        "cg/robot/memory.max": 12 * MIB,
        "cg/robot/memory.current": 11 * MIB,
        "cg/robot/memory.stat": f"file 7\ninactive_file {MIB}\nactive_file 9\n",
        "cg/robot/memory.swap.max": 0,
        "cg/robot/memory.swap.current": 0,
    }
    assert free_memory(**tree(tmp_path, files)) == FreeMemory(
        2 * MIB, 0, str(tmp_path / "cg/robot")
    )
    files["cg/robot/memory.swap.max"] = "max"
    assert free_memory(**tree(tmp_path, files)) == FreeMemory(
        2 * MIB, MIB, str(tmp_path / "cg/robot")
    )
    files["cg/robot/memory.current"] = 14 * MIB  # above a limit that was lowered
    assert free_memory(**tree(tmp_path, files)).available_bytes == 0


def test_a_group_of_version_1_bounds_it_and_counts_memory_and_swap_together(tmp_path):
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "5:cpu,memory:/docker/abc\n0::/\n",
        "cg/memory/docker/abc/memory.limit_in_bytes": 3 * MIB,
        "cg/memory/docker/abc/memory.usage_in_bytes": 2 * MIB,
        "cg/memory/docker/abc/memory.stat": f"total_inactive_file {MIB}\n",
        "cg/memory/docker/abc/memory.memsw.limit_in_bytes": 7 * MIB // 2,
        "cg/memory/docker/abc/memory.memsw.usage_in_bytes": 2 * MIB,
        "cg/memory/memory.limit_in_bytes": 9223372036854771712,
        "cg/memory/memory.usage_in_bytes": 5,
    }
    assert free_memory(**tree(tmp_path, files)) == FreeMemory(
        2 * MIB, MIB // 2, str(tmp_path / "cg/memory/docker/abc")
    )


def test_in_a_container_that_is_told_the_hosts_path_the_root_of_its_groups_counts(tmp_path):
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "3:memory:/docker/abc\n",
        "cg/memory/memory.limit_in_bytes": 3 * MIB,
        "cg/memory/memory.usage_in_bytes": 2 * MIB,
    }
    assert free_memory(**tree(tmp_path, files)) == FreeMemory(MIB, MIB, str(tmp_path / "cg/memory"))


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"proc/meminfo": "nonsense", "proc/self/cgroup": "what\n1:memory\n\n0::/../..\n"},
        {"proc/meminfo": MEMINFO.replace("MemAvailable", "Other")},
    ],
)
def test_where_nothing_can_be_read_nothing_is_refused(tmp_path, files):
    assert free_memory(**tree(tmp_path, files)).available_bytes > 1 << 60


def test_this_machine_has_some():
    assert 1 << 20 < free_memory().total_bytes < 1 << 50


# -- what is refused -------------------------------------------------------------------------------


@pytest.fixture
def source_of(source, tmp_path):
    lines = LogLines()

    def make(**options):
        return EngineSource(source.graph, 2, lines, tmp_path / "cache", **options)

    make.lines = lines
    return make


@pytest.mark.parametrize(
    "free_mib, words",
    [
        (
            340,
            "building the tensorrt_rtx engine in float16 takes up to 0.34 GiB of memory, and "
            r"0.33 GiB are free and 0.00 GiB of swap \(/here\): close .* swap, .*engine.file "
            r".*check_memory: false",
        ),
        (
            380,
            "exporting the model to ONNX in float16 for batch 2 takes up to 0.39 GiB of memory, "
            "and 0.37 GiB are free",
        ),
    ],
)
def test_a_build_or_an_export_that_lacks_memory_is_refused_with_both_figures(
    source_of, monkeypatch, free_mib, words
):
    pytest.importorskip(
        "tensorrt_rtx_bindings", reason="tensorrt-rtx-cu13-bindings are not installed"
    )
    monkeypatch.setattr(memory, "free_memory", lambda: FreeMemory(free_mib * MIB, 0, "/here"))
    with pytest.raises(EngineError, match=words):
        cached_engine(source_of(), "float16", "half", ADA, None)
    assert not [path for path in source_of().folder.iterdir() if path.suffix != ".lock"]
    assert not any("exporting" in line for line in source_of.lines) or free_mib > 350


def test_swap_counts_as_memory(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: FreeMemory(MIB, 3 * MIB, "/here"))
    memory.check("building", 4 * MIB)
    with pytest.raises(EngineError, match="building takes up to"):
        memory.check("building", 4 * MIB + 1)


@pytest.mark.skipif(
    not tensorrt_api.module_name("tensorrt_rtx"), reason="tensorrt-rtx wheels are not installed"
)
def test_who_says_so_builds_whatever_is_free(source_of, monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: FreeMemory(0, 0, "/here"))
    path, was_cached = cached_engine(source_of(check_memory=False), "float16", "half", ADA, None)
    assert path.stat().st_size > 100_000 and not was_cached
    assert {file.name for file in path.parent.parent.glob("*/*")} == {  # no copy of the graph stays
        "key.json",
        "sha256.json",
        "model.engine",
        "model.onnx",
        "model.onnx.data",
    }
