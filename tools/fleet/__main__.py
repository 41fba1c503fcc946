"""A fleet of two nodes on this machine: the proof, and what faults lead to. Linux, as root.

python -m tools.fleet --checkpoint demo --out benchmarks/results/fleet_faults.json

The proof: 40 bags on two nodes of one core each, a worker killed in the middle, and every file the
same as that of one process. Exit status 1 where anything is not as promised.
"""

import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from tools.fleet.bags import make_bags
from tools.fleet.faults import FAULTS, Fault, worker_killed
from tools.fleet.nodes import Cluster
from tools.fleet.runs import ROOT, Unexpected, Work
from vit_perception.files.atomic import write_whole

PROOF = Fault(
    "proof: 40 bags, worker killed in the middle", "the files of one process", worker_killed
)


@dataclass(frozen=True)
class Outcome:
    """A row of the table."""

    fault: str
    passed: bool
    expected: str
    seen: str
    took_s: float


def parse() -> Namespace:
    parser = ArgumentParser(prog="python -m tools.fleet", description=__doc__)
    parser.add_argument("--checkpoint", default="demo", help="default: %(default)s")
    parser.add_argument("--backend", default="torch", help="default: %(default)s")
    parser.add_argument("--precision", default="float32", help="default: %(default)s")
    parser.add_argument("--bags", type=int, default=12, help="of each fault (default: %(default)s)")
    parser.add_argument("--proof-bags", type=int, default=40, help="0 leaves the proof out")
    parser.add_argument(
        "--faults", nargs="*", metavar="TEXT", help="only those whose names contain one of these"
    )
    parser.add_argument("--cores", type=int, nargs=2, default=[0, 1], help="of the two nodes")
    parser.add_argument("--out", type=Path, help="JSON file")
    return parser.parse_args()


def main() -> int:
    args = parse()
    chosen = [
        fault
        for fault in FAULTS
        if args.faults is None or any(text in fault.name for text in args.faults)
    ]
    rows: list[Outcome] = []
    # Short: the paths of Ray's sockets may have 107 characters.
    with tempfile.TemporaryDirectory(prefix="vf", dir="/tmp") as name:
        folder = Path(name)
        if args.proof_bags:
            rows += _tried(args, folder / "p", args.proof_bags, [PROOF])
        rows += _tried(args, folder / "f", args.bags, chosen)
    for row in rows:
        print(f"{'as promised' if row.passed else 'OTHERWISE'}  {row.fault}: {row.seen}")
    if args.out:
        result = {
            "command": shlex.join(["python", "-m", "tools.fleet", *sys.argv[1:]]),
            "machine": {"cpus": os.cpu_count(), "load": os.getloadavg(), "on": platform.platform()},
            "versions": {name: version(name) for name in ("ray", "torch", "numpy", "pyarrow")},
            "outcomes": [asdict(row) for row in rows],
        }
        text = json.dumps(result, indent=1) + "\n"
        write_whole(args.out, lambda file: file.write_text(text))
    return 0 if all(row.passed for row in rows) else 1


def _tried(args: Namespace, folder: Path, bags: int, faults: list[Fault]) -> list[Outcome]:
    if not faults:
        return []
    (folder / "bags").mkdir(parents=True)
    options = ["--params", str(ROOT / "config/demo.yaml"), "--checkpoint", args.checkpoint]
    options += ["--backend", args.backend, "--precision", args.precision, "--shard-frames", "20"]
    work = Work(folder, make_bags(folder / "bags", bags), options, args.cores)
    one = work.in_one_process()
    rows = []
    for fault in faults:
        begun_s = time.monotonic()
        (folder / "r").mkdir(exist_ok=True)
        with Cluster(folder / "r", args.cores) as cluster:
            try:
                cluster.start(0)
                if fault.name != "a node joins late":
                    cluster.start(1)
                seen, passed = fault.inject(cluster, work, one), True
            except (Unexpected, TimeoutError, RuntimeError, subprocess.SubprocessError) as error:
                seen, passed = str(error), False
        took_s = time.monotonic() - begun_s
        rows.append(Outcome(fault.name, passed, fault.expected, seen, round(took_s, 1)))
        print(rows[-1], flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
