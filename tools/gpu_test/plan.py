"""What ``make gpu-test`` does, in order. Imports nothing, so that the plan is printed anywhere."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """``name`` is unique; ``what`` says what it shows; ``function`` is ``module:function``.

    A step is stopped after ``limit_s``, and not begun with less than ``least_s`` of its part's time
    left. ``needs`` are Python packages without which it is left out. ``argument`` is handed to the
    function, ``""`` for none.
    """

    name: str
    what: str
    function: str
    limit_s: int
    least_s: int = 20
    needs: tuple[str, ...] = ()
    argument: str = ""


def _step(name: str, what: str, function: str, limit_s: int, **more) -> Step:
    return Step(name, what, f"tools.gpu_test.steps.{function}", limit_s, **more)


# A part fits into ten minutes with its start, and with the end of a step that is stopped.
BUDGET_S = 540
MODELS = ("S/14", "B/16", "L/16")
PARTS: dict[str, tuple[Step, ...]] = {
    "tests": (
        _step(
            "graph",
            "the replay is one CUDA graph, and equals the eager run bit for bit",
            "graph:run",
            120,
        ),
        _step(
            "outputs",
            "two inputs in turn, 1,000 times each, give their own outputs; NaN lies there before "
            "each run",
            "outputs:run",
            120,
        ),
        _step(
            "threads",
            "runs from a second thread; another thread allocates while a graph is recorded",
            "threads:run",
            120,
        ),
        _step(
            "cycles",
            "20 times opened and closed: neither the GPU's memory nor the host's grows",
            "cycles:run",
            120,
        ),
        _step(
            "weights",
            "the demo's weights in each precision against the parity gate; their largest values "
            "beside "
            "float16's 65,504",
            "weights:run",
            240,
        ),
        _step(
            "connector",
            "a tower with each form of a policy's connector in one engine passes the gate",
            "connector:run",
            240,
        ),
        _step("marked", "the tests that are marked gpu", "marked:run", 300, needs=("pytest",)),
    ),
    "faults": (
        _step(
            "sticky-assert",
            "a failed assert on the GPU ends the process with its exit status",
            "faults:sticky",
            90,
            argument="assert",
        ),
        _step(
            "sticky-address", "so does an illegal address", "faults:sticky", 90, argument="address"
        ),
        _step("sticky-trap", "so does a kernel that traps", "faults:sticky", 90, argument="trap"),
        _step(
            "sticky-auto",
            "after an illegal address, backend auto does not go on to the CPU",
            "faults:sticky",
            90,
            argument="auto",
        ),
        _step(
            "capture-synchronize",
            "a recording that CUDA ends: stream restored, empty_cache() works, frames right "
            "without a graph",
            "capture:run",
            90,
            argument="synchronize",
        ),
        _step(
            "capture-error",
            "the same of a recording that Python ends",
            "capture:run",
            90,
            argument="error",
        ),
        _step(
            "capture-tensorrt",
            "the same of TensorRT's, or its stand-in's",
            "capture:run",
            90,
            argument="synchronize tensorrt",
        ),
        _step(
            "out-of-memory",
            "a load without memory fails, the cached file stays, and a later load works",
            "memory:run",
            180,
        ),
    ),
    "bench": (
        *(
            _step(
                f"speeds-{name}",
                f"ViT-{name}, batch 1, 3, 8: p50 and p99 of each runtime, by graph, eager; upload, "
                "compute, download; CPU time",
                "speeds:run",
                150,
                argument=name,
            )
            for name in MODELS
        ),
        _step(
            "neighbour",
            "beside a process that keeps the GPU busy: p99 with stream priority and with "
            "max_rate_hz",
            "neighbour:run",
            120,
            argument="B/16",
        ),
        *(
            _step(
                f"compile-{name}",
                f"ViT-{name}, batch 1, 3, 8: torch.compile",
                "speeds:compiled",
                150,
                argument=name,
            )
            for name in MODELS
        ),
    ),
}


def text(parts: tuple[str, ...], budget_s: float = BUDGET_S) -> str:
    """The plan of ``parts`` for people."""
    lines = []
    for part in parts:
        lines.append(
            f"# {part} (at most {budget_s:g} s; a step that finds no time is left out, and said so)"
        )
        lines += [f"#   {step.name:<20} {step.what}" for step in PARTS[part]]
    return "\n".join(lines)
