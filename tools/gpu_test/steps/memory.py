"""Memory that does not suffice for a load: an error, the cached files stay, and a later load
works.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch

from tools.gpu_test.inside import copies, differences
from tools.gpu_test.machine import Machine, Runtime
from tools.gpu_test.note import LeftOut, Note
from vit_perception.checkpoints.sources import LoadedModel
from vit_perception.engines.engine import EngineError
from vit_perception.files.atomic import file_sha256

_LARGEST_BYTES, _SMALLEST_BYTES = 1 << 30, 1 << 18


def run(machine: Machine, note: Note) -> None:
    """For each runtime in its fastest precision."""
    if machine.on_gpu and torch.cuda.get_device_properties(0).is_integrated:
        raise LeftOut(
            "this GPU shares its memory with the host: filling it would end other processes"
        )
    loaded = machine.random()
    for runtime in machine.runtimes:
        note.attempt(runtime.label, partial(_one, machine, note, runtime, loaded))


def _one(machine: Machine, note: Note, runtime: Runtime, loaded: LoadedModel) -> None:
    label, precision, source = runtime.label, runtime.precisions()[0], machine.source(loaded, 2)
    with machine.opened(runtime, loaded, 2, precision, source) as opened:
        spec, images = opened.spec, opened.two[0]
        expected = copies(opened.engine.infer(images))
    before, text = files_in(machine.folder / "engines"), ""
    engine = runtime.make()
    with (
        no_memory()
        if machine.on_gpu
        else patch.object(engine, "_open", side_effect=MemoryError("on purpose"))
    ):
        try:
            engine.open(source, spec)
        except EngineError as error:
            text = str(error)
    note.check(bool(text), f"{label}: the load fails, as an EngineError", "it opened")
    note.figure(f"{label}: says", text[:1000])
    engine.close()
    after = files_in(machine.folder / "engines")
    note.check(
        after == before, f"{label}: {len(before)} cached files stay as they were", sorted(after)
    )
    with machine.opened(runtime, loaded, 2, precision, source) as opened:
        different = differences(copies(opened.engine.infer(images)), expected)
        was_cached = opened.was_cached
    note.check(
        not different, f"{label}: with memory it opens again, and gives what it gave", different
    )
    note.check(was_cached is not False, f"{label}: nothing is built again", was_cached)


def files_in(folder: Path) -> dict[str, str]:
    """Digest by name of what compiled engines are made of."""
    return {
        str(path.relative_to(folder)): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }


@contextmanager
def no_memory() -> Iterator[None]:
    """While entered, the GPU has less than a megabyte left."""
    blocks, size = [], _LARGEST_BYTES
    while size >= _SMALLEST_BYTES:
        try:
            blocks.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.cuda.OutOfMemoryError:
            size //= 2
    try:
        yield
    finally:
        blocks.clear()
        torch.cuda.empty_cache()
