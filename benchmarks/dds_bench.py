"""How many raw images arrive in another process, with Fast DDS's defaults and with the profile.

    python benchmarks/dds_bench.py      (about six minutes)

Sizes, rates, best effort and reliable, one sender and two, with and without other busy programs.
Prints a table, and writes benchmarks/results/dds.json. `vit-perception doctor` makes one of these
trials on the machine on which it runs.
"""

import argparse
import contextlib
import datetime
import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run from a checkout, nothing installed

from benchmarks.one_block_bench import processor
from vit_perception.cli.processes import PROFILE_VARIABLES, profile_variable, share_folder
from vit_perception.files.atomic import write_whole
from vit_perception.files.process_group import OWN_GROUP
from vit_perception.ros.health.image_trial import ImageTrial, run_trial

SIZES = ((320, 240), (400, 400), (640, 480), (1280, 720))
TRIALS = (
    *(ImageTrial(width_px=w, height_px=h) for w, h in SIZES),
    ImageTrial(rate_hz=5.0),
    ImageTrial(reliable=True),
    ImageTrial(width_px=1280, height_px=720, reliable=True),
    ImageTrial(width_px=320, height_px=240, senders=2),
    ImageTrial(senders=2),
)
MOST_S = 300.0  # of one trial; its processes start slowly on a busy computer
UNDER_LOAD = (ImageTrial(width_px=320, height_px=240), ImageTrial(), ImageTrial(reliable=True))


@contextlib.contextmanager
def busy_programs(count: int):
    """Keep ``count`` programs busy while the block runs."""
    programs = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], **OWN_GROUP)
        for _ in range(count)
    ]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def measure(trial: ImageTrial, profile: bool, rounds: int, busy: int) -> dict:
    """Return one row: the trial, and what arrived in all rounds together."""
    environment = {k: v for k, v in os.environ.items() if k not in PROFILE_VARIABLES}
    if profile:
        environment[profile_variable()] = str(share_folder() / "config/fastdds_large_data.xml")
    with busy_programs(busy):
        results = [run_trial(trial, environment, MOST_S) for _ in range(rounds)]
    delays_ms = [r.median_ms for r in results if r.arrived]
    return {
        **asdict(trial),
        "profile": profile,
        "busy_programs": busy,
        "load_average": round(os.getloadavg()[0], 1),
        "sent": sum(r.sent for r in results),
        "arrived": sum(r.arrived for r in results),
        "arrived_by_round": [r.arrived for r in results],
        "median_ms": round(statistics.median(delays_ms), 1) if delays_ms else None,
    }


def line(row: dict) -> str:
    """Return a row of the table."""
    ends = "reliable" if row["reliable"] else "best effort"
    delay = "-" if row["median_ms"] is None else f"{row['median_ms']:.1f} ms"
    return (
        f"{row['width_px']}x{row['height_px']:<5} {row['rate_hz']:>4.0f} Hz  {ends:<11} "
        f"{row['senders']} sender(s)  {row['busy_programs']} busy  "
        f"load {row['load_average']:>4.1f}  {'profile' if row['profile'] else 'default':<8} "
        f"{row['arrived']:>4} of {row['sent']:<4} {delay}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument(
        "--trials", type=int, default=len(TRIALS), help="only the first ones (default: all)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "benchmarks/results/dds.json",
        help="what to write (default: %(default)s)",
    )
    args = parser.parse_args()
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    cores = len(os.sched_getaffinity(0))
    chosen = [(trial, 0) for trial in TRIALS[: args.trials]]
    if args.trials >= len(TRIALS):
        chosen += [(trial, 2 * cores) for trial in UNDER_LOAD]
    report: dict = {
        "date": datetime.date.today().isoformat(),
        "command": "python benchmarks/dds_bench.py",
        "processor": processor(),
        "cores": cores,
        "middleware": os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp"),
        "rows": [],
    }
    for trial, busy in chosen:
        for profile in (False, True):
            report["rows"].append(measure(trial, profile, args.rounds, busy))
            print(line(report["rows"][-1]), flush=True)
            text = json.dumps(report, indent=1) + "\n"
            write_whole(args.out, lambda file, text=text: file.write_text(text))


if __name__ == "__main__":
    main()
