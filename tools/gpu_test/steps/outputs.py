"""Two inputs in turn: each gets its own outputs, wholly written, and nothing is allocated."""

from tools.gpu_test.inside import copies, differences, look_into
from tools.gpu_test.machine import Machine, Runtime
from tools.gpu_test.note import Note
from vit_perception.checkpoints.sources import LoadedModel

ROUNDS = 1000


def run(machine: Machine, note: Note) -> None:
    """For each runtime and precision."""
    machine.attempt_each(note, _one)


def _one(
    machine: Machine, note: Note, runtime: Runtime, precision: str, loaded: LoadedModel
) -> None:
    label, rounds = f"{runtime.label} {precision}", machine.rounds(ROUNDS)
    with machine.opened(runtime, loaded, 2, precision) as opened:
        engine, inside = opened.engine, look_into(opened.engine)
        expected = [(images, copies(engine.infer(images))) for images in opened.two]
        note.check(
            bool(differences(expected[0][1], expected[1][1])),
            f"{label}: two inputs have two outputs",
        )
        inside.poison()
        wrong, seen, before = 0, {}, machine.allocations()
        for _ in range(rounds):
            for images, outputs in expected:
                inside.poison()
                different = differences(engine.infer(images).arrays, outputs)
                wrong, seen = wrong + bool(different), seen or different
        note.check(
            not wrong,
            f"{label}: {2 * rounds} runs in turn, each output its input's",
            f"{wrong} runs: {seen}",
        )
        taken = machine.allocations() - before
        note.check(
            taken == 0, f"{label}: {2 * rounds} runs allocate nothing", f"{taken} allocations"
        )
