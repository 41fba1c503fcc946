"""A process that keeps the GPU busy with matrix products, as a policy on the same GPU does:
``--device cuda``.

For each line on its input it prints, as JSON, how long its steps have taken since the last one. It
ends with its input.
"""

import argparse
import json
import select
import sys
import time

import torch

from benchmarks.gpu_figures import timing

PRODUCTS = 20  # of a step


def main(arguments: list[str]) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    on_gpu = parser.parse_args(arguments).device == "cuda"
    side, dtype = (4096, torch.float16) if on_gpu else (64, torch.float32)
    left, right = (
        torch.randn(side, side, device="cuda" if on_gpu else "cpu", dtype=dtype) for _ in range(2)
    )
    times_ms: list[float] = []

    def step() -> None:
        started_s = time.perf_counter()
        for _ in range(PRODUCTS):
            torch.mm(left, right)
        if on_gpu:
            torch.cuda.synchronize()
        times_ms.append(1e3 * (time.perf_counter() - started_s))

    for _ in range(3):
        step()
    print("busy", flush=True)
    while True:
        step()
        if select.select([sys.stdin], [], [], 0)[0]:
            if not sys.stdin.readline():
                return 0
            figures = timing(times_ms, 1)
            print(
                json.dumps(
                    {
                        "steps": len(times_ms),
                        **{name: figures[name] for name in ("p50_ms", "p99_ms")},
                    }
                ),
                flush=True,
            )
            times_ms.clear()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
