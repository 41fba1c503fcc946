"""Two Ray nodes of one core each against one process on one core: frames/s, overhead, start-up.

python -m benchmarks.fleet_bench --out benchmarks/results/fleet.json

Linux, as root. Each round runs one process, then Ray with one node, then with two. Rates are from
the first shard to the last, from the times of the files. CPU seconds are those of all processes:
those of Ray, the driver and the workers; on a busy machine they say more than rates. Run it on two
idle cores: `load` in the result says whether they were.
"""

import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser, Namespace
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from tools.fleet.bags import make_bags
from tools.fleet.nodes import Cluster, processes_below
from tools.fleet.runs import ROOT, Run, Work, check_same, environment
from vit_perception.files.atomic import write_whole

SAMPLE_S = 0.5
TICKS_HZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measured:
    """One run."""

    frames_per_s: float
    # Of all processes, from the first shard to the last.
    cpu_s_per_frame: float
    # From the command to the first shard, and to the end.
    start_s: float
    wall_s: float


class CpuSampler:
    """CPU seconds of process trees over time, also of processes that end in between."""

    def __init__(self, roots: list[int]):
        self._roots = roots
        self._seconds: dict[int, float] = {}
        self._samples: list[tuple[float, float]] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "CpuSampler":
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(SAMPLE_S):
            for root in self._roots:
                for pid in (root, *processes_below(root)):
                    try:
                        text = Path(f"/proc/{pid}/stat").read_text()
                    except OSError:
                        continue
                    fields = text.rsplit(")", 1)[1].split()
                    self._seconds[pid] = (int(fields[11]) + int(fields[12])) / TICKS_HZ
            self._samples.append((time.time(), sum(self._seconds.values())))

    def between(self, begin_s: float, end_s: float) -> float:
        """Return the CPU seconds between two times of :func:`time.time`."""

        def at(when_s: float) -> float:
            return min(self._samples, key=lambda sample: abs(sample[0] - when_s))[1]

        return at(end_s) - at(begin_s)


def measured(out: Path, begun_s: float, ended_s: float, cpu: CpuSampler) -> Measured:
    """Return the figures of a finished run. A shard's file has the time at which it was made."""
    manifest = json.loads((out / "manifest.json").read_text())
    times = sorted(
        ((out / shard["file"]).stat().st_mtime, shard["frames"]) for shard in manifest["shards"]
    )
    first_s, last_s = times[0][0], times[-1][0]
    frames = sum(count for when_s, count in times if when_s > first_s)
    return Measured(
        frames_per_s=frames / (last_s - first_s),
        cpu_s_per_frame=cpu.between(first_s, last_s) / frames,
        start_s=first_s - begun_s,
        wall_s=ended_s - begun_s,
    )


def one_process(work: Work, out: Path) -> Measured:
    command = ["taskset", "-c", str(work.cores[0]), *work.command(out)]
    begun_s = time.time()
    with open(out.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=environment())
        with CpuSampler([process.pid]) as cpu:
            if process.wait():
                raise RuntimeError(out.with_suffix(".log").read_text()[-2000:])
            ended_s = time.time()
    return measured(out, begun_s, ended_s, cpu)


def on_ray(work: Work, folder: Path, out: Path, nodes: int) -> Measured:
    (folder / "r").mkdir(exist_ok=True)
    with Cluster(folder / "r", work.cores) as cluster:
        for number in range(nodes):
            cluster.start(number)
        begun_s = time.time()
        run = Run(cluster, work, out.name, out=out)
        with CpuSampler([run.pid, *cluster.roots]) as cpu:
            run.end()
            ended_s = time.time()
    return measured(out, begun_s, ended_s, cpu)


def parse() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", default="demo", help="default: %(default)s")
    parser.add_argument("--backend", default="torch", help="default: %(default)s")
    parser.add_argument("--precision", default="float32", help="default: %(default)s")
    parser.add_argument("--bags", type=int, default=24, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--cores", type=int, nargs=2, default=[0, 1], help="default: 0 1")
    parser.add_argument("--out", type=Path, help="JSON file")
    return parser.parse_args()


def main() -> None:
    args = parse()
    rounds: dict[str, list[Measured]] = {"one process": [], "ray, one": [], "ray, two": []}
    loads = []
    with tempfile.TemporaryDirectory(prefix="vf", dir="/tmp") as name:
        folder = Path(name)
        (folder / "bags").mkdir()
        options = ["--params", str(ROOT / "config/demo.yaml"), "--checkpoint", args.checkpoint]
        options += ["--backend", args.backend, "--precision", args.precision]
        options += ["--shard-frames", "20"]
        work = Work(folder, make_bags(folder / "bags", args.bags), options, args.cores)
        for number in range(args.rounds):
            loads.append(os.getloadavg()[0])
            one = folder / f"one{number}"
            rounds["one process"].append(one_process(work, one))
            for nodes, key in ((1, "ray, one"), (2, "ray, two")):
                out = folder / f"ray{nodes}_{number}"
                rounds[key].append(on_ray(work, folder, out, nodes))
                check_same(out, one)
            print({key: asdict(values[-1]) for key, values in rounds.items()}, flush=True)
    medians = {
        key: {
            field: round(statistics.median(getattr(each, field) for each in values), 4)
            for field in Measured.__dataclass_fields__
        }
        for key, values in rounds.items()
    }
    one, single, two = medians.values()
    result = {
        "command": shlex.join(["python", "-m", "benchmarks.fleet_bench", *sys.argv[1:]]),
        "machine": {"cpus": os.cpu_count(), "on": platform.platform(), "load": loads},
        "versions": {name: version(name) for name in ("ray", "torch", "numpy", "pyarrow")},
        "medians": medians,
        "two_nodes_against_one_process": round(two["frames_per_s"] / one["frames_per_s"], 3),
        "overhead_of_rate": round(one["frames_per_s"] / single["frames_per_s"] - 1, 4),
        "overhead_of_cpu": round(single["cpu_s_per_frame"] / one["cpu_s_per_frame"] - 1, 4),
        "rounds": {key: [asdict(each) for each in values] for key, values in rounds.items()},
    }
    text = json.dumps(result, indent=1) + "\n"
    print(text)
    if args.out:
        write_whole(args.out, lambda file: file.write_text(text))


if __name__ == "__main__":
    main()
