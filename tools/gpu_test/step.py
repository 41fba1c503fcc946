"""One step in a process of its own: ``python -m tools.gpu_test.step NAME --function MODULE:FUNCTION
...``.

Without a function it writes down what the machine is.
"""

import argparse
import os
import platform
import sys
from importlib import import_module, metadata
from pathlib import Path

from tools.gpu_test.needs import why_no_gpu
from tools.gpu_test.note import Note
from tools.gpu_test.report import write_json
from vit_perception.engines.cuda.fault import end_process
from vit_perception.files import telemetry

PACKAGES = (
    "torch",
    "numpy",
    "transformers",
    "timm",
    "onnx",
    "onnxscript",
    "onnxruntime-gpu",
    "triton",
    "tensorrt",
    "tensorrt_cu12",
    "tensorrt_cu13",
    "tensorrt-rtx-cu13-bindings",
)


def facts(device: str) -> dict:
    """What figures depend on: device, driver, versions. ``why_not`` says why nothing can run,
    ``""`` if it can.
    """
    from benchmarks.gpu_bench import versions

    why_not = why_no_gpu() if device == "cuda" else ""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    name = platform.machine()
    if device == "cuda" and not why_not:
        import torch

        name = torch.cuda.get_device_name()
        found["memory_gib"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
        found["multiprocessors"] = torch.cuda.get_device_properties(0).multi_processor_count
    return {
        "device": name,
        "why_not": why_not,
        **versions(),
        "cores": os.cpu_count(),
        "found": found,
    }


def main(arguments: list[str]) -> int:
    """Run the step and write its result to the file; 0, whatever the result is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--function")
    parser.add_argument("--argument", default="")
    parser.add_argument("--checkpoint", default="demo")
    parser.add_argument("--deadline", type=float, default=float("inf"))
    options = parser.parse_args(arguments)
    telemetry.off()
    if not options.function:
        write_json(options.out, facts(options.device))
        return 0
    note = Note(options.out, options.name, options.deadline)

    def run() -> None:
        from tools.gpu_test.machine import Machine

        module, _, function = options.function.partition(":")
        machine = Machine(options.device, options.folder, options.checkpoint)
        given = (options.argument,) if options.argument else ()
        getattr(import_module(module), function)(machine, note, *given)
        if machine.why_no_stand_in:
            note.check(False, "the stand-in for TensorRT", machine.why_no_stand_in)

    if not note.end(run):
        end_process(0)  # Python's own end would free what lies on the GPU, which may hang
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
