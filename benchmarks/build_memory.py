"""Measure the most memory that an export and a build of TensorRT-RTX take at once, each in a
process of its own, for ViT-S, B and L of random weights at 224 px. Needs no GPU. Writes
benchmarks/results/build_memory.json, in which each row has what
vit_perception.engines.building.memory asks for beside it.

    python benchmarks/build_memory.py      (some minutes)
"""

import argparse
import datetime
import json
import platform
import sys
import tempfile
from pathlib import Path

import torch

from vit_perception.engines.building import memory
from vit_perception.engines.encoder_graph import EncoderGraph
from vit_perception.engines.source import export_apart
from vit_perception.engines.tensorrt import api as tensorrt_api
from vit_perception.engines.tensorrt.build import BuildOptions, build_apart
from vit_perception.files.atomic import write_whole
from vit_perception.files.log import PrintedLog
from vit_perception.files.memory import give_back_freed_memory
from vit_perception.model.variants import VARIANTS
from vit_perception.model.vision_transformer import VisionTransformer

HERE = Path(__file__).resolve().parent
HALF = (0.5, 0.5, 0.5)


def measure(variant: str, precision: str, batch: int, target: str) -> dict:
    """Export and build once: a row of figures, memory in MiB."""
    torch.manual_seed(0)
    graph = EncoderGraph(VisionTransformer(VARIANTS[variant]).eval(), HALF, HALF, (224, 224))
    options = BuildOptions("tensorrt_rtx", (target,))
    with tempfile.TemporaryDirectory() as folder:
        onnx_path, engine_path = Path(folder) / "model.onnx", Path(folder) / "model.engine"
        give_back_freed_memory()
        before = own_bytes()
        exported = export_apart(
            graph, batch, onnx_path, precision, "half", "exporting", PrintedLog()
        )
        built = build_apart(onnx_path, options, engine_path, PrintedLog())
        kept = own_bytes() - before
        engine_bytes = engine_path.stat().st_size
    weights = memory.weights_of(graph)
    mib = {
        "export": exported,
        "export_asked_for": memory.export_bytes(weights, precision),
        "build": built,
        "build_asked_for": memory.build_bytes(weights, precision),
        "engine": engine_bytes,
        "kept_by_the_parent": kept,
    }
    return {
        "variant": variant,
        "precision": precision,
        "batch": batch,
        "weights_millions": round(weights / 1e6, 1),
        "mib": {name: round(count / 2**20) for name, count in mib.items()},
    }


def own_bytes() -> int:
    """What this process holds, pages of files left out."""
    return next(
        int(line.split()[1]) << 10
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("RssAnon")
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["S/16", "B/16", "L/16"])
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=("float32", "float16", "bfloat16"),
        default=["float16", "bfloat16", "float32"],
    )
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--target", default="8.9", help="compute capability (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE / "results/build_memory.json")
    args = parser.parse_args()
    api = tensorrt_api.load_api("tensorrt_rtx")
    rows = [
        measure(variant, precision, args.batch, args.target)
        for variant in args.variants
        for precision in args.precisions
    ]
    result = {
        "date": datetime.date.today().isoformat(),
        "command": "python benchmarks/build_memory.py",
        "runtime": f"tensorrt_rtx {api.__version__}",
        "target": args.target,
        "network_size_px": [224, 224],
        "weights": "random",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "rows": rows,
    }
    text = json.dumps(result, indent=1)
    write_whole(args.out, lambda file: file.write_text(text + "\n"))
    for row in rows:
        print(row)
    return 0


if __name__ == "__main__":
    sys.exit(main())
