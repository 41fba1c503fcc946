"""An engine carried as one file: what its key has to agree with, and that the node opens it in
place of a build.
"""

import json
from dataclasses import replace

import pytest

from test.engines.cache.test_engine_file import CONTENT, KEY, file  # noqa: F401 - a fixture
from test.log_lines import LogLines
from vit_perception.config.settings import BadSetting, EngineSettings
from vit_perception.engines.cache import engine_file
from vit_perception.engines.cache.engine_file import EngineFile, recipe, write_engine_file
from vit_perception.engines.cache.key_difference import difference_text, differing_parts
from vit_perception.engines.engine import EngineError
from vit_perception.engines.reference import graph_of
from vit_perception.engines.select import open_engine
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.engines.tensorrt.api import Gpu
from vit_perception.engines.tensorrt.build import BuildOptions
from vit_perception.engines.tensorrt.cached import ENGINE_NAME, cached_engine, engine_key

GPU = Gpu("NVIDIA Some", "8.9", 128, 24)
needs_rtx = pytest.mark.skipif(
    not tensorrt_api.module_name("tensorrt_rtx"),
    reason="tensorrt-rtx-cu13-libs and -bindings are not installed",
)
no_gpu = pytest.mark.skipif(
    not tensorrt_api.driver_fault(), reason="this machine has an NVIDIA GPU"
)


# -- what differs ----------------------------------------------------------------------------------


def test_parts_that_differ_are_named_with_dots_and_tuples_are_lists():
    theirs = {
        **KEY,
        "batch": 3,
        "targets": ("8.9",),
        "config": {"depth": 12, "width": 32},
        "gpu": {"name": "Orin"},
    }
    assert differing_parts(KEY, theirs) == ("batch", "config.depth", "gpu")
    assert differing_parts({"gpu": {"name": "A", "sm": 8}}, {"gpu": {"name": "B", "sm": 8}}) == (
        "gpu.name",
    )
    assert differing_parts(KEY, dict(reversed(KEY.items()))) == ()
    assert difference_text(KEY, theirs) == (
        "batch is 3, here 2; config.depth is 12, here 3; gpu is {'name': 'Orin'}, here missing"
    )


def test_a_strangers_key_makes_no_long_text():
    text = difference_text(KEY, {f"\x1b[31m{i}" * 50: "y" * 10_000 for i in range(1000)})
    assert len(text) < 3000 and "\x1b" not in text and "more" in text


@pytest.mark.parametrize(
    "part, value, words",
    [
        (
            "runtime",
            "tensorrt_rtx 1.6.0",
            "runtime is 'tensorrt_rtx 1.6.0', here 'tensorrt_rtx 1.7.1'",
        ),
        ("batch", 1, "batch is 1, here 2"),
        ("targets", ["8.6"], r"targets is \['8.6'\], here \['8.9'\]"),
        ("config", {"depth": 12, "width": 32}, "config.depth is 12, here 3"),
        ("weights_sha256", "ab", "weights_sha256 is 'ab', here missing"),
    ],
)
def test_another_machines_engine_is_refused_with_the_part_and_the_command(
    file, tmp_path, part, value, words
):
    (tmp_path / "entry" / "key.json").write_text(json.dumps({**KEY, part: value}))
    write_engine_file(file, tmp_path / "entry" / "model.engine")
    with pytest.raises(
        EngineError,
        match=f"engine.file {file} is another machine's or model's: {words}; accepted: one "
        "that this makes with tensorrt_rtx 1.7.1: vit-perception build --backend tensorrt_rtx "
        "--precision float16 --batch 2 --size 64 64 --block -1 --target 8.9 --checkpoint <.*> "
        "--out",
    ):
        EngineFile.opened(file).content_for(KEY)


def test_the_command_for_tensorrt_has_to_run_on_such_a_machine():
    key = {**KEY, "runtime": "tensorrt 10.3.0", "dense_blocks": [0, 2], "gpu": {"name": "Orin"}}
    del key["targets"]
    assert " --block -1 --dense --checkpoint" in recipe(key) and "--target" not in recipe(key)
    assert engine_file._where(key) == " with tensorrt 10.3.0 on this kind of machine"


# -- settings --------------------------------------------------------------------------------------


def test_the_file_says_what_auto_is_and_another_choice_is_refused(file):
    opened = EngineFile.opened(file)
    assert opened.narrowed(EngineSettings(file=str(file))) == EngineSettings(
        "tensorrt_rtx", "float16", file=str(file)
    )
    with pytest.raises(
        EngineError,
        match="backend is 'tensorrt' and engine.file .* is for 'tensorrt_rtx'; accepted",
    ):
        opened.narrowed(EngineSettings("tensorrt"))
    with pytest.raises(
        EngineError, match="precision is 'float32' and .* 'float16'; .* --precision float32 --out"
    ):
        opened.narrowed(EngineSettings(precision="float32"))
    with pytest.raises(
        BadSetting, match="'engine.file' is '/x'; accepted: '' with engine.backend openvino"
    ):
        EngineSettings("openvino", file="/x")
    with pytest.raises(EngineError, match="is for 'openvino'; accepted: tensorrt, tensorrt_rtx"):
        replace(opened, key={**KEY, "runtime": "openvino 1"}).narrowed(EngineSettings())


@pytest.fixture(scope="module")
def carried(source, tmp_path_factory):
    """A real TensorRT-RTX engine of the tiny model for a GPU that is not here, as a file."""
    folder = tmp_path_factory.mktemp("carried")
    built = EngineSource(source.graph, 2, folder=folder / "cache")
    engine, _ = cached_engine(
        built, "float16", "half", BuildOptions("tensorrt_rtx", ("8.9",)), None
    )
    write_engine_file(folder / "tiny.vitengine", engine)
    return folder / "tiny.vitengine"


@needs_rtx
@no_gpu
def test_the_node_opens_the_file_in_place_of_a_build(carried, loaded, monkeypatch, tmp_path):
    """The real runtime gets it, and says what it says of every engine without a GPU.

    Only the look for a GPU is replaced.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tensorrt_api, "find_gpu", lambda: (GPU, ""))
    lines = LogLines()
    with pytest.raises(
        EngineError, match="tensorrt_rtx float16: .*cannot load the engine: .*cudaError"
    ):
        open_engine(EngineSettings(file=str(carried)), loaded, 2, log=lines)
    assert not list(tmp_path.rglob("*")) and not any(
        "export" in line or "building" in line for line in lines
    )


@needs_rtx
@no_gpu
def test_the_files_form_of_attention_is_the_only_one_that_is_tried(loaded, monkeypatch, tmp_path):
    key = engine_key(
        EngineSource(graph_of(loaded), 2),
        "float16",
        "float32_softmax",
        BuildOptions("tensorrt_rtx", ("8.9",)),
        tensorrt_api.load_api("tensorrt_rtx").__version__,
        None,
    )
    (tmp_path / "key.json").write_text(json.dumps(key))
    (tmp_path / ENGINE_NAME).write_bytes(CONTENT)
    write_engine_file(tmp_path / "file", tmp_path / ENGINE_NAME)
    monkeypatch.setattr(tensorrt_api, "find_gpu", lambda: (GPU, ""))
    with pytest.raises(
        EngineError, match="run: tensorrt_rtx float16 with attention float32_softmax: "
    ) as raised:
        open_engine(EngineSettings(file=str(tmp_path / "file")), loaded, 2)
    assert str(raised.value).count("tensorrt_rtx float16") == 1


@needs_rtx
@pytest.mark.parametrize(
    "batch, gpu, words",
    [
        (3, GPU, "batch is 2, here 3; accepted"),
        (2, replace(GPU, compute_capability="8.6"), r"targets is \['8.9'\], here"),
    ],
)
def test_the_node_refuses_a_file_for_other_cameras_or_another_gpu(
    carried, loaded, monkeypatch, batch, gpu, words
):
    monkeypatch.setattr(tensorrt_api, "find_gpu", lambda: (gpu, ""))
    with pytest.raises(EngineError, match=words):
        open_engine(EngineSettings(file=str(carried)), loaded, batch)


@needs_rtx
def test_the_node_refuses_a_file_of_another_model(carried, loaded, monkeypatch):
    monkeypatch.setattr(tensorrt_api, "find_gpu", lambda: (GPU, ""))
    with pytest.raises(
        EngineError,
        match="weights_sha256 is '[0-9a-f]{64}', here '[0-9a-f]{64}'; .*"
        r"network_size_px is \[64, 64\], here \[64, 72\]",
    ):
        open_engine(
            EngineSettings(file=str(carried)),
            replace(
                loaded,
                card=replace(
                    loaded.card,
                    mean=(0.5, 0.5, 0.5),
                    rule=replace(loaded.card.rule, network_size_px=(64, 72)),
                ),
            ),
            2,
        )


@needs_rtx
def test_what_is_carried_is_what_this_machine_would_build(carried, loaded):
    key = engine_key(
        EngineSource(graph_of(loaded), 2),
        "float16",
        "half",
        BuildOptions("tensorrt_rtx", ("8.9",)),
        tensorrt_api.load_api("tensorrt_rtx").__version__,
        None,
    )
    assert len(EngineFile.opened(carried).content_for(key)) > 100_000
