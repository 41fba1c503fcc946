"""Engines of a Jetson whose power mode switches multiprocessors off, and what is said when no
engine fits.

The cache itself makes its entries; only the engine in them is none, and the version of TensorRT is
given.
"""

import json
import os
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from test.log_lines import LogLines
from vit_perception.engines.cache.neighbours import what_changed
from vit_perception.engines.cache.store import CacheError, discard
from vit_perception.engines.cuda.gpus import Gpu
from vit_perception.engines.reference import graph_of
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.engines.tensorrt.build import BuildOptions
from vit_perception.engines.tensorrt.cached import cached_engine, engine_key, served_by

ORIN = Gpu("Orin", "8.7", 16, 61, 4096, True)
OPTIONS = BuildOptions("tensorrt")
VERSION = "10.3.0"


class WouldBuild(Exception):
    """The source is asked for what an engine is built from."""


@dataclass(frozen=True, eq=False)
class Watched(EngineSource):
    def cached(self, key, build):
        if key["kind"] == "onnx":
            raise WouldBuild
        return super().cached(key, build)


@pytest.fixture
def jetson(source, tmp_path, monkeypatch):
    """A source with an empty cache; its log is ``lines``."""
    monkeypatch.setattr(
        tensorrt_api, "load_api", lambda flavour: SimpleNamespace(__version__=VERSION)
    )
    lines = LogLines()
    made = Watched(source.graph, 2, lines, tmp_path)
    object.__setattr__(made, "lines", lines)
    return made


def key_for(source, gpu, version=VERSION, precision="float16", attention="half"):
    return engine_key(source, precision, attention, OPTIONS, version, gpu)


def built(source, gpu, **different):
    """The folder of an engine that was built on ``gpu``."""

    def build(folder):
        (folder / "model.engine").write_bytes(b"plan")

    return source.cached(key_for(source, gpu, **different), build).path


def found(source, gpu):
    path, was_cached = cached_engine(source, "float16", "half", OPTIONS, gpu)
    assert was_cached
    return path.parent


def test_a_power_mode_with_more_multiprocessors_builds_nothing(jetson):
    """Regression: nvpmodel to MAXN had the node build for minutes, with a good engine in the
    cache.
    """
    entry = built(jetson, replace(ORIN, multiprocessors=8))
    assert found(jetson, ORIN) == entry
    assert (
        "built while 8 multiprocessors of the GPU were active, and 16 are now" in jetson.lines[-1]
    )
    assert f"remove {entry}" in jetson.lines[-1]


def test_the_engine_of_this_very_mode_is_preferred_and_nothing_is_said(jetson):
    built(jetson, replace(ORIN, multiprocessors=8))
    exact = built(jetson, ORIN)
    assert found(jetson, ORIN) == exact and jetson.lines == []


def test_of_several_smaller_modes_the_largest_is_taken(jetson):
    built(jetson, replace(ORIN, multiprocessors=6))
    larger = built(jetson, replace(ORIN, multiprocessors=12))
    assert found(jetson, ORIN) == larger


def test_with_fewer_multiprocessors_than_it_was_built_for_an_engine_is_not_used(jetson):
    """NVIDIA warns of errors and of a deadlock."""
    entry = built(jetson, ORIN)
    with pytest.raises(WouldBuild):
        cached_engine(jetson, "float16", "half", OPTIONS, replace(ORIN, multiprocessors=8))
    assert jetson.lines[-1].endswith(f"{entry.name}, where gpu.multiprocessors is 16, here 8")


def test_the_memory_of_the_gpu_is_no_reason_to_build(jetson):
    entry = built(jetson, ORIN)
    assert found(jetson, replace(ORIN, memory_gib=30)) == entry


def test_a_damaged_engine_of_a_smaller_mode_is_not_built_under_its_name(jetson):
    """It would be built with 16 multiprocessors active, and taken for one of 8 when 8 are."""
    entry = built(jetson, replace(ORIN, multiprocessors=8))
    (entry / "model.engine").write_bytes(b"plam")
    with pytest.raises(WouldBuild):
        cached_engine(jetson, "float16", "half", OPTIONS, ORIN)
    assert (entry / "model.engine").read_bytes() == b"plam"


def test_an_engine_that_the_runtime_refuses_makes_room_for_the_next_smaller_mode(jetson):
    six, eight = (built(jetson, replace(ORIN, multiprocessors=count)) for count in (6, 8))
    assert found(jetson, ORIN) == eight
    discard(eight, "the runtime refuses it", jetson.log)
    assert found(jetson, ORIN) == six


@pytest.mark.parametrize(
    "count, serves", [(16, True), (8, True), (17, False), (0, False), ("8", False), (None, False)]
)
def test_a_carried_engine_serves_a_mode_with_as_many_or_more_multiprocessors(jetson, count, serves):
    key = key_for(jetson, ORIN)
    built_for = {**key, "gpu": {**key["gpu"], "multiprocessors": count}}
    assert (served_by(key, built_for) == built_for) == serves


def test_an_engine_that_others_can_write_is_refused_with_the_cure(jetson):
    entry = built(jetson, replace(ORIN, multiprocessors=8))
    os.chmod(entry / "model.engine", 0o666)
    with pytest.raises(
        CacheError, match="the engine cache is not used: .*may be written by others.*chmod"
    ):
        cached_engine(jetson, "float16", "half", OPTIONS, ORIN)


@pytest.mark.parametrize(
    "gpu, version, said",
    [
        (ORIN, "10.13.3", "runtime is 'tensorrt 10.3.0', here 'tensorrt 10.13.3'"),
        (
            replace(ORIN, name="Thor", compute_capability="11.0"),
            VERSION,
            "gpu.name is 'Orin', here 'Thor'; gpu.compute_capability is '8.7', here '11.0'",
        ),
        (replace(ORIN, l2_cache_kib=2048), VERSION, "gpu.l2_cache_kib is 4096, here 2048"),
    ],
)
def test_what_changed_names_the_part_of_the_key(jetson, gpu, version, said):
    entry = built(jetson, ORIN)
    text = what_changed(key_for(jetson, gpu, version), jetson.folder)
    assert text == (
        f"no engine in {jetson.folder} fits; the nearest of the same encoder is {entry.name}, "
        f"where {said}"
    )


def test_what_changed_names_another_number_of_cameras_or_way_to_build(jetson):
    built(jetson, ORIN)
    three = EngineSource(jetson.graph, 3, folder=jetson.folder)
    assert what_changed(key_for(three, ORIN), jetson.folder).endswith("where batch is 2, here 3")
    key = engine_key(
        jetson, "float16", "half", BuildOptions("tensorrt", workspace_bytes=1), VERSION, ORIN
    )
    assert what_changed(key, jetson.folder).endswith(f"where workspace_bytes is {1 << 30}, here 1")


def test_the_nearest_engine_is_named_and_those_of_other_encoders_and_precisions_are_not(
    jetson, loaded
):
    far = built(jetson, replace(ORIN, name="Thor"), version="10.1.0")
    near = built(jetson, ORIN, version="10.1.0")
    built(jetson, ORIN, precision="bfloat16")
    built(jetson, ORIN, attention="float32")
    text = what_changed(key_for(jetson, ORIN), jetson.folder)
    assert near.name in text and far.name not in text and "precision" not in text
    assert what_changed(key_for(jetson, ORIN, precision="float32"), jetson.folder) == ""
    model = loaded.model.__class__(loaded.model.config)
    other = EngineSource(graph_of(replace(loaded, model=model.eval())), 2)
    assert what_changed(key_for(other, ORIN), jetson.folder) == ""


def hostile(name, content):
    def write(folder):
        entry = folder / name
        entry.mkdir(mode=0o700)
        (entry / "key.json").write_bytes(content)
        os.chmod(entry / "key.json", 0o600)

    return write


def test_what_lies_in_the_cache_is_read_within_bounds_and_explains_nothing_else(jetson):
    key = key_for(jetson, ORIN)
    folder = jetson.folder
    for write in (
        hostile("a", b"["),
        hostile("b", b"[" * 50_000),
        hostile("c", b"[]"),
        hostile("d", b" " * 100_000),
        hostile("e", b"\xff"),
        hostile("f", b'{"gpu": ' + b"1" * 5000 + b"}"),
        hostile("h", b'{"kind": ' + b"[" * 900 + b"]" * 900 + b"}"),
    ):
        write(folder)
    os.mkfifo(folder / "pipe")
    (folder / "a" / "key.json").unlink()
    os.mkfifo(folder / "a" / "key.json", 0o600)  # its reader would wait for ever
    assert what_changed(key, folder) == "" == what_changed(key, folder / "nowhere")
    hostile("g", json.dumps({**key, **{f"\x1b[2J{i}": "\x07" * 1000 for i in range(10)}}).encode())(
        folder
    )
    text = what_changed(key, folder)
    assert "encoder is g, where " in text and text.endswith("2 more")
    assert "\x1b" not in text and "\x07" not in text and len(text) < 4000
    os.chmod(folder / "g" / "key.json", 0o666)
    assert what_changed(key, folder) == ""


def test_two_gpus_of_a_kind_share_an_engine_and_two_kinds_do_not(jetson):
    entry = built(jetson, ORIN)
    assert found(jetson, replace(ORIN)) == entry
    with pytest.raises(WouldBuild):
        cached_engine(jetson, "float16", "half", OPTIONS, replace(ORIN, name="Thor"))
