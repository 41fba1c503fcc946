"""An engine carried to a robot as one file: used where it is this node's, and otherwise refused with what differs."""

import hashlib
import json
import os
from dataclasses import replace

import pytest

from vit_perception.engines import engine_file, tensorrt_api, tensorrt_build
from vit_perception.engines.engine import EngineError
from vit_perception.engines.engine_file import EngineFile, check_out, recipe, write_engine_file
from vit_perception.engines.key_difference import difference_text, differing_parts
from vit_perception.engines.select import open_engine
from vit_perception.engines.source import EngineSource
from vit_perception.engines.tensorrt_api import Gpu
from vit_perception.engines.tensorrt_build import BuildOptions, cached_engine, engine_key
from vit_perception.errors import InvalidValue
from vit_perception.export.reference import graph_of
from vit_perception.settings import BadSetting, EngineSettings

KEY = {"kind": "engine", "runtime": "tensorrt_rtx 1.7.1", "precision": "float16", "attention": "half", "batch": 2,
       "batches": None, "network_size_px": [64, 64], "block": -1, "targets": ["8.9"],
       "config": {"depth": 3, "width": 32}}
CONTENT = bytes(range(256)) * 64
GPU = Gpu("NVIDIA Some", "8.9", 128, 24)
needs_rtx = pytest.mark.skipif(not tensorrt_api.module_name("tensorrt_rtx"),
                               reason="tensorrt-rtx-cu13-libs and -bindings are not installed")
no_gpu = pytest.mark.skipif(not tensorrt_api.driver_fault(), reason="this machine has an NVIDIA GPU")


@pytest.fixture
def file(tmp_path):
    """A file made of a cache entry that holds no real engine."""
    entry = tmp_path / "entry"
    entry.mkdir()
    (entry / "model.engine").write_bytes(CONTENT)
    (entry / "key.json").write_text(json.dumps(KEY))
    write_engine_file(tmp_path / "robot.vitengine", entry / "model.engine")
    return tmp_path / "robot.vitengine"


def test_what_was_written_comes_back(file):
    opened = EngineFile.opened(file)
    assert opened.key == KEY and opened.content_for({**KEY, "targets": ("8.9",)}) == CONTENT
    assert (opened.flavour, opened.precision, opened.attention) == ("tensorrt_rtx", "float16", "half")


def test_nobody_else_may_write_what_is_made_whatever_the_umask(file, tmp_path):
    earlier = os.umask(0)
    try:
        write_engine_file(tmp_path / "again", tmp_path / "entry" / "model.engine")
    finally:
        os.umask(earlier)
    assert (tmp_path / "again").stat().st_mode & 0o777 == 0o644 and EngineFile.opened(tmp_path / "again").key == KEY


# -- damage ------------------------------------------------------------------------------------------------------------


def flipped(content, at):
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1:]


@pytest.mark.parametrize("harm, words", [
    (lambda content: b"", "none of this version's"), (lambda content: flipped(content, 3), "none of this version's"),
    (lambda content: b"PK\x03\x04" + content, "none of this version's"),
    (lambda content: content.replace(b"format 1", b"format 2", 1), "none of this version's"),
    (lambda content: flipped(content, 40), "its header does not have its checksum"),
    (lambda content: flipped(content, content.index(b"float16")), "its header does not have its checksum"),
    (lambda content: content[:150], "its header does not have its checksum"),
    (lambda content: content[:-1], "16383 bytes of engine are there, 16384 were written"),
    (lambda content: content + b"x", "16385 bytes of engine are there")])
def test_damage_to_the_header_or_the_length_is_seen_at_once(file, harm, words):
    file.write_bytes(harm(file.read_bytes()))
    with pytest.raises(EngineError, match=f"engine.file {file} is .*{words}.*; accepted: "):
        EngineFile.opened(file)


def test_a_flipped_bit_in_the_engine_is_seen_before_it_is_used(file):
    file.write_bytes(flipped(file.read_bytes(), -100))
    opened = EngineFile.opened(file)
    with pytest.raises(EngineError, match="is damaged .the engine does not have its checksum.*copy it again"):
        opened.content_for(KEY)


def test_a_file_that_is_exchanged_while_it_is_open_is_refused(file, tmp_path):
    opened = EngineFile.opened(file)
    (tmp_path / "entry" / "key.json").write_text(json.dumps({**KEY, "batch": 3}))
    write_engine_file(file, tmp_path / "entry" / "model.engine")
    with pytest.raises(EngineError, match="it has changed since it was opened"):
        opened.content_for(KEY)


@pytest.mark.parametrize("header", [
    b"[]", b"{}", b"no JSON", b'{"key": 3}', b'{"key": {}, "engine_bytes": 0, "engine_sha256": ""}', b"[" * 100_000,
    b'{"key": {"runtime": 3, "precision": "", "attention": ""}, "engine_bytes": 0, "engine_sha256": ""}',
    b'{"key": {"runtime": "a", "precision": [], "attention": ""}, "engine_bytes": 0, "engine_sha256": ""}',
    b'{"key": {"runtime": "a", "precision": "", "attention": ""}, "engine_bytes": "0", "engine_sha256": ""}',
    b'{"key": {"a": ' + b'{"a":' * 300 + b"0" + b"}" * 300 + b"}}"])
def test_a_header_with_its_checksum_that_is_none_is_refused(tmp_path, header):
    path = tmp_path / "bad"
    path.write_bytes(engine_file._FORMAT + hashlib.sha256(header).hexdigest().encode() + b" " + header + b"\n")
    with pytest.raises(EngineError, match="is damaged .its header is none"):
        EngineFile.opened(path)


def test_a_header_without_an_end_is_not_read_whole(tmp_path):
    path = tmp_path / "bad"
    path.write_bytes(engine_file._FORMAT)
    os.truncate(path, 1 << 40)  # a file with a hole
    with pytest.raises(EngineError, match="does not have its checksum"):
        EngineFile.opened(path)


# -- who may have written it -------------------------------------------------------------------------------------------


def a_link(file):
    file.rename(file.with_name("real"))
    file.symlink_to("real")


def a_fifo(file):
    file.unlink()
    os.mkfifo(file)


def a_folder(file):
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("change, words", [
    (lambda file: file.chmod(0o664), "may be written by others .mode 0664.*accepted as an engine.*chmod go-w"),
    (lambda file: file.chmod(0o646), "may be written by others"),
    (lambda file: file.with_name("second").hardlink_to(file), "has a second name .a hard link"),
    (lambda file: file.parent.chmod(0o777), "above an engine, may be written by others.*copy it to a folder"),
    (a_link, "is a symbolic link; accepted as an engine: files"), (a_fifo, "is a pipe"), (a_folder, "is a folder")],
    ids=["group", "world", "hard link", "folder", "link", "FIFO", "no file"])
def test_what_others_could_have_put_there_is_refused(file, change, words):
    change(file)
    with pytest.raises(EngineError, match=f"engine.file is not used: .*{words}"):
        EngineFile.opened(file)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused_and_one_of_roots_is_not(file):
    EngineFile.opened(file)
    os.chown(file, 12345, 12345)
    with pytest.raises(EngineError, match="belongs to user 12345; accepted as an engine: what belongs to you or "):
        EngineFile.opened(file)


def test_folders_above_stay_as_they_are_and_may_be_links(file, tmp_path):
    """Regression of a thought: the cache's own folders are made 0700, and this may be the user's home."""
    tmp_path.chmod(0o755)
    (tmp_path / "link").symlink_to(tmp_path)
    assert EngineFile.opened(tmp_path / "link" / file.name).key == KEY
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_one_that_is_missing_is_told(tmp_path):
    with pytest.raises(EngineError, match="engine.file .*/nothing cannot be read: No such file.*accepted: a file that"):
        EngineFile.opened(tmp_path / "nothing")
    with pytest.raises(EngineError, match="engine.file .*/no/folder cannot be read: No such file"):
        EngineFile.opened(tmp_path / "no" / "folder")


# -- what differs ------------------------------------------------------------------------------------------------------


def test_parts_that_differ_are_named_with_dots_and_tuples_are_lists():
    theirs = {**KEY, "batch": 3, "targets": ("8.9",), "config": {"depth": 12, "width": 32}, "gpu": {"name": "Orin"}}
    assert differing_parts(KEY, theirs) == ("batch", "config.depth", "gpu")
    assert differing_parts({"gpu": {"name": "A", "sm": 8}}, {"gpu": {"name": "B", "sm": 8}}) == ("gpu.name",)
    assert differing_parts(KEY, dict(reversed(KEY.items()))) == ()
    assert difference_text(KEY, theirs) == ("batch is 3, here 2; config.depth is 12, here 3; gpu is {'name': 'Orin'}, "
                                            "here missing")


def test_a_strangers_key_makes_no_long_text():
    text = difference_text(KEY, {f"\x1b[31m{i}" * 50: "y" * 10_000 for i in range(1000)})
    assert len(text) < 3000 and "\x1b" not in text and "more" in text


@pytest.mark.parametrize("part, value, words", [
    ("runtime", "tensorrt_rtx 1.6.0", "runtime is 'tensorrt_rtx 1.6.0', here 'tensorrt_rtx 1.7.1'"),
    ("batch", 1, "batch is 1, here 2"), ("targets", ["8.6"], r"targets is \['8.6'\], here \['8.9'\]"),
    ("config", {"depth": 12, "width": 32}, "config.depth is 12, here 3"),
    ("weights_sha256", "ab", "weights_sha256 is 'ab', here missing")])
def test_another_machines_engine_is_refused_with_the_part_and_the_command(file, tmp_path, part, value, words):
    (tmp_path / "entry" / "key.json").write_text(json.dumps({**KEY, part: value}))
    write_engine_file(file, tmp_path / "entry" / "model.engine")
    with pytest.raises(EngineError, match=f"engine.file {file} is another machine's or model's: {words}; accepted: one "
                       "that this makes with tensorrt_rtx 1.7.1: vit-perception build --backend tensorrt_rtx "
                       "--precision float16 --batch 2 --size 64 64 --block -1 --target 8.9 --checkpoint <.*> --out"):
        EngineFile.opened(file).content_for(KEY)


def test_the_command_for_tensorrt_has_to_run_on_such_a_machine():
    key = {**KEY, "runtime": "tensorrt 10.3.0", "dense_blocks": [0, 2], "gpu": {"name": "Orin"}}
    del key["targets"]
    assert " --block -1 --dense --checkpoint" in recipe(key) and "--target" not in recipe(key)
    assert engine_file._where(key) == " with tensorrt 10.3.0 on this kind of machine"


# -- settings ----------------------------------------------------------------------------------------------------------


def test_the_file_says_what_auto_is_and_another_choice_is_refused(file):
    opened = EngineFile.opened(file)
    assert opened.narrowed(EngineSettings(file=str(file))) == EngineSettings("tensorrt_rtx", "float16", file=str(file))
    with pytest.raises(EngineError, match="backend is 'tensorrt' and engine.file .* is for 'tensorrt_rtx'; accepted"):
        opened.narrowed(EngineSettings("tensorrt"))
    with pytest.raises(EngineError, match="precision is 'float32' and .* 'float16'; .* --precision float32 --out"):
        opened.narrowed(EngineSettings(precision="float32"))
    with pytest.raises(BadSetting, match="'engine.file' is '/x'; accepted: '' with engine.backend openvino"):
        EngineSettings("openvino", file="/x")
    with pytest.raises(EngineError, match="is for 'openvino'; accepted: tensorrt, tensorrt_rtx"):
        replace(opened, key={**KEY, "runtime": "openvino 1"}).narrowed(EngineSettings())


@pytest.fixture(scope="module")
def carried(source, tmp_path_factory):
    """A real TensorRT-RTX engine of the tiny model for a GPU that is not here, as a file."""
    folder = tmp_path_factory.mktemp("carried")
    built = EngineSource(source.graph, 2, folder=folder / "cache")
    engine, _ = cached_engine(built, "float16", "half", BuildOptions("tensorrt_rtx", ("8.9",)), None)
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
    lines = []
    with pytest.raises(EngineError, match="tensorrt_rtx float16: .*cannot load the engine: .*cudaError"):
        open_engine(EngineSettings(file=str(carried)), loaded, 2, log=lines.append)
    assert not list(tmp_path.rglob("*")) and not any("export" in line or "building" in line for line in lines)


@needs_rtx
@no_gpu
def test_the_files_form_of_attention_is_the_only_one_that_is_tried(loaded, monkeypatch, tmp_path):
    key = engine_key(EngineSource(graph_of(loaded), 2), "float16", "float32_softmax",
                     BuildOptions("tensorrt_rtx", ("8.9",)), tensorrt_api.load_api("tensorrt_rtx").__version__, None)
    (tmp_path / "key.json").write_text(json.dumps(key))
    (tmp_path / tensorrt_build.ENGINE_NAME).write_bytes(CONTENT)
    write_engine_file(tmp_path / "file", tmp_path / tensorrt_build.ENGINE_NAME)
    monkeypatch.setattr(tensorrt_api, "find_gpu", lambda: (GPU, ""))
    with pytest.raises(EngineError, match="run: tensorrt_rtx float16 with attention float32_softmax: ") as raised:
        open_engine(EngineSettings(file=str(tmp_path / "file")), loaded, 2)
    assert str(raised.value).count("tensorrt_rtx float16") == 1


@needs_rtx
@pytest.mark.parametrize("batch, gpu, words", [
    (3, GPU, "batch is 2, here 3; accepted"),
    (2, replace(GPU, compute_capability="8.6"), r"targets is \['8.9'\], here")])
def test_the_node_refuses_a_file_for_other_cameras_or_another_gpu(carried, loaded, monkeypatch, batch, gpu, words):
    monkeypatch.setattr(tensorrt_api, "find_gpu", lambda: (gpu, ""))
    with pytest.raises(EngineError, match=words):
        open_engine(EngineSettings(file=str(carried)), loaded, batch)


@needs_rtx
def test_the_node_refuses_a_file_of_another_model(carried, loaded, monkeypatch):
    monkeypatch.setattr(tensorrt_api, "find_gpu", lambda: (GPU, ""))
    with pytest.raises(EngineError, match="weights_sha256 is '[0-9a-f]{64}', here '[0-9a-f]{64}'; .*"
                       r"network_size_px is \[64, 64\], here \[64, 72\]"):
        open_engine(EngineSettings(file=str(carried)), replace(
            loaded, card=replace(loaded.card, mean=(0.5, 0.5, 0.5), rule=replace(loaded.card.rule,
                                                                                network_size_px=(64, 72)))), 2)


@needs_rtx
def test_what_is_carried_is_what_this_machine_would_build(carried, loaded):
    key = engine_key(EngineSource(graph_of(loaded), 2), "float16", "half", BuildOptions("tensorrt_rtx", ("8.9",)),
                     tensorrt_api.load_api("tensorrt_rtx").__version__, None)
    assert len(EngineFile.opened(carried).content_for(key)) > 100_000


# -- where it is written -----------------------------------------------------------------------------------------------


def test_what_lies_there_is_replaced_only_by_force_and_a_links_target_stays(file, tmp_path):
    with pytest.raises(InvalidValue, match="which is there already; accepted: a new file, or --force"):
        check_out(file, False)
    check_out(file, True)
    check_out(tmp_path / "new", False)
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("mine")
    link.symlink_to(target)
    with pytest.raises(InvalidValue, match="link, which is there already"):
        check_out(link, False)
    check_out(link, True)
    write_engine_file(link, tmp_path / "entry" / tensorrt_build.ENGINE_NAME)
    assert target.read_text() == "mine" and not link.is_symlink() and EngineFile.opened(link).key == KEY


def test_what_is_no_place_for_a_file_is_refused_before_a_build(tmp_path):
    for path, words in ((tmp_path, "a folder; accepted: a file"), (tmp_path / "no" / "x", "in a folder that exists")):
        with pytest.raises(InvalidValue, match=words):
            check_out(path, True)
