"""What it takes to read a tower out of a policy of 8 GB, and what connectors cost.

    python benchmarks/policy_tower_bench.py      (some minutes, 3 GB of memory, 6 GB of disk)

The policy is a pi0 in two shards with the whole SigLIP so400m between holes: sparse files, so that
the disk need not hold 8 GB; the tower's bytes are real. It stands beside a folder that has the same
tensors alone. Each is loaded in turn by a process of its own, with the files on the disk only, then
again with them in the page cache:

``read``      what the system holds of the policy's files after the first load, by mincore
``resident``  the peak of the process's memory less what it held before: mapped pages of the files
              count, though the system may take them back
``cpu_s``     processor time of the load with its digest, from the page cache; ``call_cpu_s`` of the
              call alone, without the digest's thread
``wall_s``    time of the load with its digest; ``disk_wall_s`` with the files on the disk only

Figures are medians; ``wall_s`` moves with other work on the machine. Read and resident are bound by
the tower's bytes: as the file holds them, and as the model holds them, which is float32.

Connectors: benchmarks/connector_cost.py; ``--connectors-only`` measures them alone and keeps the
loads of the file. Exit status 1 if a bound is not kept. Writes
benchmarks/results/policy_tower.json.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run from a checkout, nothing installed
MOST_READ, MOST_RESIDENT, MOST_TIME = 1.2, 1.2, 1.5
SIZES = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
}
DTYPES = ("float32", "bfloat16")
FOLDERS = ("policy", "alone")
NOTES = (
    "wall_s and disk_wall_s depend on what else runs on the core; the bounds of time are for "
    "processor time.",
    "Connectors: OpenVINO computes a linear layer with a fused exact GELU in another kernel than a "
    "bare one, in float32 8 % slower for OpenVLA's layers; our engine keeps the GELU apart. What "
    "is left above 1.05 is memory: evo1's pixel shuffle and its norm each read and write 4 MB. The "
    "shortest of 60 times alone in torch, beside 13.7 ms of products: the shuffle 0.76 ms, a plain "
    "copy of the same bytes 0.55 ms, the norm 1.1 ms, the GELU 0.3 ms. On a busy machine ratios of "
    "smolvla and evo1 were higher by up to 0.05, since copies suffer more than products.",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=27, help="of the tower (default: 27)")
    parser.add_argument("--hole-gb", type=float, default=8.0, help="beside it (default: 8)")
    parser.add_argument("--runs", type=int, default=3, help="of each load (default: 3)")
    parser.add_argument("--turns", type=int, default=25, help="of a connector (default: 25)")
    parser.add_argument(
        "--connectors-only", action="store_true", help="keep the loads that --out holds"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/policy_tower.json")
    arguments = parser.parse_args()
    if arguments.connectors_only:
        report = json.loads(arguments.out.read_text())
    else:
        report = measured_loads(arguments)
    report |= {
        "connectors_at": where(),
        "connectors": run("connectors", arguments.turns),
        "notes": NOTES,
    }
    arguments.out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(report, indent=1, ensure_ascii=False), f"written to {arguments.out}", sep="\n")
    found = faults(report)
    print("\n".join(found) or "all within bounds")
    return 1 if found else 0


def measured_loads(arguments: argparse.Namespace) -> dict:
    """Measure the loads of each type of weights."""
    rows = {}
    for dtype in DTYPES:
        with tempfile.TemporaryDirectory() as folder:
            run("write", folder, dtype, arguments.blocks, arguments.hole_gb)
            rows[dtype] = row_of(Path(folder), arguments.runs)
    return {
        "command": "python benchmarks/policy_tower_bench.py",
        "runs": arguments.runs,
        "tower": f"SigLIP so400m/14, {arguments.blocks} blocks, projector to 2048",
        "loads_at": where(),
        "loads": rows,
    }


def where() -> dict:
    """Say on which day, processor and software something was measured."""
    import torch

    return {
        "date": datetime.date.today().isoformat(),
        "machine": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
    }


def run(*arguments: object) -> dict:
    """Give what this program prints with ``arguments``, as a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        text=True,
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "STEP_OF_BENCH": "1"},
    )
    return json.loads(done.stdout.splitlines()[-1])


def row_of(folder: Path, runs: int) -> dict:
    """Load both folders in turn, from the disk and from the page cache."""
    loads: dict[str, list[dict]] = {who: [] for who in FOLDERS}
    for turn in range(runs):
        # The one that goes first changes, so that neither has what the other left behind.
        for who in FOLDERS if turn % 2 else reversed(FOLDERS):
            loads[who].append(run("load", folder / who))

    def median(who: str, name: str) -> float:
        return statistics.median(one[name] for one in loads[who])

    size = json.loads((folder / "sizes.json").read_text())
    read, resident = median("policy", "read"), median("policy", "resident")
    resident_alone = median("alone", "resident")
    row = {
        "policy_mb": round(size["policy"] / 1e6, 1),
        "tower_mb": round(size["tower"] / 1e6, 1),
        "tower_in_float32_mb": round(size["tower_in_float32"] / 1e6, 1),
        "read_mb": round(read / 1e6, 1),
        "resident_mb": round(resident / 1e6, 1),
        "resident_alone_mb": round(resident_alone / 1e6, 1),
        "read_per_tower": round(read / size["tower"], 3),
        "resident_per_tower": round(resident / size["tower_in_float32"], 3),
    }
    for name in ("cpu_s", "call_cpu_s", "wall_s", "disk_wall_s"):
        policy_s, alone_s = (median(who, name) for who in FOLDERS)
        row |= {
            f"policy_{name}": round(policy_s, 3),
            f"alone_{name}": round(alone_s, 3),
            f"{name}_ratio": round(policy_s / alone_s, 3),
        }
    return row


def faults(report: dict) -> list[str]:
    """What is out of bounds."""
    bounds = {
        "read_per_tower": MOST_READ,
        "resident_per_tower": MOST_RESIDENT,
        "cpu_s_ratio": MOST_TIME,
        "call_cpu_s_ratio": MOST_TIME,
    }
    found = [
        f"{dtype}: {name} {row[name]} > {most}"
        for dtype, row in report["loads"].items()
        for name, most in bounds.items()
        if not row[name] <= most
    ]
    from benchmarks.connector_cost import MOST_RATIO

    return found + [
        f"connector of {name}: {row['ratio']} > {MOST_RATIO}"
        for name, row in report["connectors"].items()
        if not row["ratio"] <= MOST_RATIO
    ]


def write(folder: Path, dtype: str, blocks: int, hole_gb: float) -> dict:
    """Write the sparse policy, its tower alone, and a small policy; give nothing."""
    import torch

    from test.checkpoints.policies.policy_folders import PI0, paligemma, pi0_tensors, write_pi0
    from test.checkpoints.policies.sparse_files import GB, write_sparse

    write_pi0(folder / "small")
    with torch.device("meta"):
        made = pi0_tensors(paligemma(width=2048, num_hidden_layers=blocks, **SIZES))
    ours = ("vision_tower", "multi_modal_projector")
    torch.manual_seed(0)
    tower = {
        name: torch.empty(t.shape, dtype=getattr(torch, dtype)).normal_(std=0.02)
        for name, t in made.items()
        if any(part in name for part in ours)
    }
    language = "model.paligemma_with_expert.paligemma.model.language_model.layers"
    quarter = int(hole_gb * GB / 4)
    shards = {
        "model-00001-of-00002.safetensors": {f"{language}.0.weight": 2 * quarter},
        "model-00002-of-00002.safetensors": {
            f"{language}.1.weight": quarter,
            **tower,
            f"{language}.2.weight": quarter,
        },
    }
    # Without a feature of the state, its statistics need not be there.
    config = json.dumps({**PI0, "image_resolution": [224, 224], "input_features": {}})
    for who in FOLDERS:
        (folder / who).mkdir()
        (folder / who / "config.json").write_text(config)
    for name, held in shards.items():
        write_sparse(folder / "policy" / name, held)
    weight_map = {tensor: name for name, held in shards.items() for tensor in held}
    index = folder / "policy/model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    write_sparse(folder / "alone/model.safetensors", tower)
    count = sum(t.numel() for t in tower.values())
    sizes = {
        "policy": sum(path.stat().st_size for path in (folder / "policy").glob("*.safetensors")),
        "tower": count * getattr(torch, dtype).itemsize,
        "tower_in_float32": count * 4,
    }
    (folder / "sizes.json").write_text(json.dumps(sizes))
    return {}


def load(folder: Path) -> dict:
    """Load ``folder`` from the disk, and again from the page cache; what that read and took."""
    import torch

    from test.checkpoints.policies.sparse_files import bytes_in_memory, forget
    from vit_perception.checkpoints.sources import load_checkpoint

    torch.set_num_threads(1)
    load_checkpoint(str(folder.parent / "small"))  # imports what a policy needs
    files = list(folder.glob("*.safetensors"))
    for path in files:
        forget(path)
    before = sum(map(bytes_in_memory, files))
    if before > 1e6:
        raise RuntimeError(f"{folder}: the system keeps {before / 1e6:.1f} MB in memory")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    resident = status_bytes("VmRSS")
    from_disk = timed(folder)
    figures = {
        "resident": status_bytes("VmHWM") - resident,
        "read": sum(map(bytes_in_memory, files)) - before,
        "disk_wall_s": from_disk["wall_s"],
    }
    return figures | timed(folder)


def timed(folder: Path) -> dict:
    """Load ``folder`` and wait for its digest; seconds."""
    from vit_perception.checkpoints.sources import load_checkpoint

    started_s, cpu_s, call_s = time.perf_counter(), time.process_time(), time.thread_time()
    loaded = load_checkpoint(str(folder))
    call_cpu_s = time.thread_time() - call_s
    if len(loaded.card.weights_sha256) != 64:  # waits for the digest
        raise RuntimeError("no digest")
    return {
        "cpu_s": time.process_time() - cpu_s,
        "call_cpu_s": call_cpu_s,
        "wall_s": time.perf_counter() - started_s,
    }


def status_bytes(name: str) -> int:
    """A figure of this process that the kernel keeps: ``VmRSS``, or its peak ``VmHWM``."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))


def processor() -> str:
    """The processor's name, as Linux gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def step() -> dict:
    """Do one step of the benchmark, in a process of its own."""
    what, *given = sys.argv[1:]
    if what == "write":
        return write(Path(given[0]), given[1], int(given[2]), float(given[3]))
    if what == "load":
        return load(Path(given[0]))
    from benchmarks.connector_cost import costs

    return costs(int(given[0]))


if __name__ == "__main__":
    if os.environ.get("STEP_OF_BENCH"):
        print(json.dumps(step()))
        sys.exit(0)
    sys.exit(main())
