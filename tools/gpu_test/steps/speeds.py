"""How long a frame takes, of each runtime here, with and without its graph, in stages, and by
torch.compile.
"""

import copy
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks import gpu_bench
from benchmarks.gpu_figures import timing
from tools.gpu_test.inside import Inside, look_into
from tools.gpu_test.machine import Machine, Runtime
from tools.gpu_test.needs import missing_packages
from tools.gpu_test.note import LeftOut, Note
from vit_perception.checkpoints.sources import LoadedModel
from vit_perception.engines.parity_gate import measure, parity_batch, run_batches
from vit_perception.image.preprocess import Preprocessor
from vit_perception.wire.records import EncoderOutput

BATCHES, RUNS = (1, 3, 8), 200
# (batch, mode of torch.compile): with reduce-overhead it records CUDA graphs as well.
COMPILED = ((1, "default"), (1, "reduce-overhead"), (3, "reduce-overhead"), (8, "reduce-overhead"))
_LEAST_S, _COMPILE_S = 10.0, 45.0


def run(machine: Machine, note: Note, name: str) -> None:
    """``name``, a variant: each runtime's frame by graph, eager, in stages; then
    benchmarks/gpu_bench.py's rows.
    """
    options = gpu_bench.parse(
        [
            "--device",
            machine.device,
            "--out",
            str(machine.folder / "unused.json"),
            "--runs",
            str(machine.rounds(RUNS)),
        ]
    )
    loaded, name = machine.random(name), name if machine.on_gpu else "test"
    for batch in BATCHES:
        for runtime in machine.real_runtimes:
            if note.time_left(_LEAST_S):
                note.attempt(
                    f"{runtime.label} batch {batch}",
                    partial(frames, machine, note, runtime, loaded, name, batch),
                )
            else:
                note.row(
                    {
                        "model": name,
                        "batch": batch,
                        "runtime": runtime.label,
                        "why_not": "no time was left",
                    }
                )
    # Native only here: this loads cuBLAS, which nobody's memory should be charged for.
    rates = {
        precision: gpu_bench.measured_rates(machine.device, precision)
        for precision in machine.real_runtimes[0].precisions()
    }
    note.figure("rates", {precision: vars(rate) for precision, rate in rates.items()})
    for batch in BATCHES:
        if note.time_left(_LEAST_S):
            note.attempt(
                f"every runtime, batch {batch}",
                partial(_every_runtime, note, name, batch, options, rates),
            )
        else:
            note.row(
                {
                    "model": name,
                    "batch": batch,
                    "runtime": "every runtime",
                    "why_not": "no time was left",
                }
            )


def _every_runtime(note: Note, name: str, batch: int, options, rates: dict) -> None:
    for row in gpu_bench.measure_model(name, batch, options, rates):
        note.row({"mode": "as benchmarks/gpu_bench.py", **row})


def frames(
    machine: Machine, note: Note, runtime: Runtime, loaded: LoadedModel, name: str, batch: int
) -> None:
    """Rows of one runtime in its fastest precision: a frame as it runs, the same launched one by
    one, its stages.
    """
    precision, runs = runtime.precisions()[0], machine.rounds(RUNS)
    common = {"model": name, "batch": batch, "runtime": runtime.label, "precision": precision}
    with machine.opened(runtime, loaded, batch, precision) as opened:
        inside, images = look_into(opened.engine), opened.two[0]
        mode = "graph" if inside.is_graph() else "eager"
        note.row(
            {
                **common,
                "mode": mode,
                "note": opened.engine.note,
                "min_cosine": opened.report.min_cosine,
                **timed(lambda: opened.engine.infer(images), runs, batch),
                **stages_ms(inside, runs),
            }
        )
        if mode == "graph":
            note.row(
                {
                    **common,
                    "mode": "eager",
                    **timed(lambda: inside.eager_frame(images), runs, batch),
                }
            )


def timed(run_frame: Callable[[], object], runs: int, batch: int) -> dict[str, float]:
    """p50, p99, images a second, and ``cpu_ms``: the CPU time of the whole process for a frame,
    waiting included.
    """
    gpu_bench.timed(run_frame, min(runs, 20))  # warm
    begun_s, times_ms = time.process_time(), []
    for _ in range(runs):
        started_s = time.perf_counter()
        run_frame()
        times_ms.append(1e3 * (time.perf_counter() - started_s))
    return {**timing(times_ms, batch), "cpu_ms": 1e3 * (time.process_time() - begun_s) / runs}


def stages_ms(inside: Inside, runs: int) -> dict[str, float]:
    """The median time on the GPU of a frame's upload, compute and download, by CUDA events; empty
    without a GPU.
    """
    stages, stream = inside.stages(), inside.stream()
    if not stages or not isinstance(stream, torch.cuda.Stream):
        return {}
    times_ms: dict[str, list[float]] = {name: [] for name in stages}
    for _ in range(runs):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(len(stages) + 1)]
        with torch.cuda.stream(stream), torch.no_grad():
            events[0].record()
            for stage, event in zip(stages.values(), events[1:], strict=True):
                stage()
                event.record()
        stream.synchronize()
        for name, begun, ended in zip(stages, events, events[1:]):
            times_ms[name].append(begun.elapsed_time(ended))
    return {f"{name}_ms": float(np.median(times)) for name, times in times_ms.items()}


def compiled(machine: Machine, note: Note, name: str) -> None:
    """``name`` by torch.compile: a frame from pinned memory to pinned memory, as an engine's is."""
    if machine.on_gpu and missing_packages(("triton",)):
        raise LeftOut("Python package triton is not installed, which torch.compile needs")
    loaded, name = machine.random(name), name if machine.on_gpu else "test"
    for batch, mode in COMPILED:
        if note.time_left(_COMPILE_S):
            note.attempt(
                f"torch.compile {mode}, batch {batch}",
                partial(_compiled, machine, note, loaded, name, batch, mode),
            )
        else:
            note.row(
                {
                    "model": name,
                    "batch": batch,
                    "runtime": f"torch.compile {mode}",
                    "why_not": f"less than {_COMPILE_S:g} s were left",
                }
            )


def _compiled(
    machine: Machine, note: Note, loaded: LoadedModel, name: str, batch: int, mode: str
) -> None:
    torch.compiler.reset()
    precision, runs = machine.real_runtimes[0].precisions()[0], machine.rounds(RUNS)
    source = machine.source(loaded, batch)
    pictures = parity_batch(Preprocessor(loaded.card.rule), batch)
    graph = copy.deepcopy(source.graph).to(machine.device, getattr(torch, precision))
    graph.model.patch_embedding.unfolded = machine.on_gpu
    # On a CPU its plain form: what is shown there is that this program works.
    options = {"mode": mode} if machine.on_gpu else {"backend": "eager"}
    frame = CompiledFrame(
        torch.compile(graph, dynamic=False, **options),
        graph.output_names,
        pictures[:batch],
        machine.device,
    )
    begun_s = time.perf_counter()
    for _ in range(3):
        frame.run(pictures[:batch])
    seconds = time.perf_counter() - begun_s
    report = measure(run_batches(frame.run, pictures, batch), source.reference(pictures))
    note.row(
        {
            "model": name,
            "batch": batch,
            "runtime": f"torch.compile {mode}",
            "precision": precision,
            "mode": mode,
            "compile_s": seconds,
            "min_cosine": report.min_cosine,
            **timed(lambda: frame.run(pictures[:batch]), runs, batch),
        }
    )


class CompiledFrame:
    """Upload, a compiled ``graph`` and download, with buffers that are made once."""

    def __init__(self, graph: Callable, names: tuple[str, ...], images: np.ndarray, device: str):
        self._graph, self._names, self._on_gpu = graph, names, device == "cuda"
        self._pinned = torch.zeros(images.shape, dtype=torch.uint8, pin_memory=self._on_gpu)
        self._images = torch.zeros(images.shape, dtype=torch.uint8, device=device)
        self._results: list[torch.Tensor] = []

    def run(self, images: np.ndarray) -> EncoderOutput:
        """One frame; the arrays given back are the same ones each time."""
        np.copyto(self._pinned.numpy(), images)
        with torch.no_grad():
            self._images.copy_(self._pinned, non_blocking=True)
            outputs = self._graph(self._images)
            if not self._results:
                self._results = [
                    torch.empty(o.shape, dtype=o.dtype, pin_memory=self._on_gpu) for o in outputs
                ]
            for result, output in zip(self._results, outputs, strict=True):
                result.copy_(output, non_blocking=True)
        if self._on_gpu:
            torch.cuda.current_stream().synchronize()
        return EncoderOutput(
            **{
                name: result.numpy()
                for name, result in zip(self._names, self._results, strict=True)
            }
        )
