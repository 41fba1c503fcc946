"""The replay of a frame is one CUDA graph, and gives what the same kernels give when they are
launched one by one.
"""

from functools import partial

from tools.gpu_test.inside import copies, differences, launches, look_into
from tools.gpu_test.machine import Machine, Runtime
from tools.gpu_test.note import Note
from vit_perception.checkpoints.sources import LoadedModel

RUNS = 5


def run(machine: Machine, note: Note) -> None:
    """For each runtime and precision."""
    machine.attempt_each(note, _one)


def _one(
    machine: Machine, note: Note, runtime: Runtime, precision: str, loaded: LoadedModel
) -> None:
    label = f"{runtime.label} {precision}"
    with machine.opened(runtime, loaded, 2, precision) as opened:
        inside = look_into(opened.engine)
        for images in opened.two:
            replayed = copies(opened.engine.infer(images))
            different = differences(replayed, copies(inside.eager_frame(images)))
            note.check(
                not different, f"{label}: the replay equals the eager run bit for bit", different
            )
        if not machine.on_gpu:
            return
        note.check(
            inside.is_graph(), f"{label}: a frame is the replay of a CUDA graph", opened.engine.note
        )
        found = launches(partial(opened.engine.infer, opened.two[0]), RUNS)
        note.figure(f"{label}: launched in {RUNS} frames", found or "the profiler shows nothing")
        if found:
            note.check(
                found == {"graphs": RUNS, "kernels": 0}, f"{label}: a frame is one launch", found
            )
