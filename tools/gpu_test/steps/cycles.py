"""Opened and closed again and again: neither the GPU's memory nor the host's grows."""

from functools import partial

from tools.gpu_test.machine import Machine, Runtime
from tools.gpu_test.note import Note
from vit_perception.checkpoints.sources import LoadedModel

WARM_UP, CYCLES = 3, 20
# An engine of this model takes about 45 MB (float16) in either memory: twenty that were left behind
# are 900 MB, and one buffer of outputs in each cycle is 15 MB. Drivers and allocators keep a few
# MB, now and then; torch counts its own.
MOST_GROWTH_BYTES = {"torch": 0, "gpu": 8 << 20, "host": 12 << 20}


def run(machine: Machine, note: Note) -> None:
    """For each runtime in its fastest precision."""
    note.figure(
        "most growth in MB", {name: size / 2**20 for name, size in MOST_GROWTH_BYTES.items()}
    )
    loaded = machine.random()
    for runtime in machine.runtimes:
        note.attempt(runtime.label, partial(_one, machine, note, runtime, loaded))


def _one(machine: Machine, note: Note, runtime: Runtime, loaded: LoadedModel) -> None:
    source, precision = machine.source(loaded, 2), runtime.precisions()[0]
    cycles, sizes = machine.rounds(CYCLES), []
    for _ in range(WARM_UP + cycles):
        with machine.opened(runtime, loaded, 2, precision, source) as opened:
            opened.engine.infer(opened.two[0])
        del opened
        sizes.append(machine.memory())
    note.figure(
        f"{runtime.label} {precision}: MB after each cycle",
        {name: [size[name] / 2**20 for size in sizes] for name in sizes[0]},
    )
    for name, begun in sizes[WARM_UP - 1].items():
        growth = sizes[-1][name] - begun
        note.check(
            growth <= MOST_GROWTH_BYTES[name],
            f"{runtime.label} {precision}: {cycles} cycles leave the memory ({name}) as it was",
            f"{growth / 2**20:.1f} MB more",
        )
