"""Measure small tokens: `python -m tools.thin_link sizes`, `link` or `tables`.

    sizes   bytes, CPU time and what is kept of tokens in each form: seconds
    link    frames a second and their age over thin links, between two network namespaces: half an
            hour. Needs Linux, root (or CAP_NET_ADMIN and CAP_SYS_ADMIN), `ip` and `tc` of iproute2,
            `unshare` and `nsenter` of util-linux
    tables  print the tables of docs/thin_link.md, of the results

`sizes` and `link` first embed the demo's two recordings in the working folder, which takes minutes
once. They write benchmarks/results/thin_tokens.json and thin_link.json. An interrupted `link`
leaves nothing behind, and goes on where it was if it is given again with --resume.
"""

import argparse
import datetime
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.one_block_bench import processor
from tools.thin_link.link import ADDRESSES, BURST_BYTES, QUEUE_MS, check_rights
from tools.thin_link.plan import RATE_HZ, RECORDING, ROOT, dds_of, sent_of, trials
from tools.thin_link.prepare import prepare
from tools.thin_link.sizes import image_rows, token_rows
from tools.thin_link.tables import link_table, settings_table, sizes_table
from tools.thin_link.trial import run_trial
from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import UserError

RESULTS = ROOT / "benchmarks/results"


def about(command: str) -> dict:
    """Return what a report says of the machine and the versions."""
    return {
        "date": datetime.date.today().isoformat(),
        "command": f"python -m tools.thin_link {command}",
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": sys.version.split()[0],
        "numpy": np.__version__,
    }


def write(path: Path, report: dict) -> None:
    write_whole(path, lambda partial: partial.write_text(json.dumps(report, indent=1) + "\n"))


def sizes(work: Path, out: Path) -> None:
    report = about("sizes")
    report["rate_hz"] = RATE_HZ
    report["rows"] = token_rows(work / "demo", work, RATE_HZ) + image_rows(RECORDING, RATE_HZ)
    write(out, report)
    for row in report["rows"]:
        print(row)


def link(work: Path, out: Path, seconds: float, resume: bool) -> None:
    done = json.loads(out.read_text())["rows"] if resume and out.exists() else []
    report = about("link")
    report |= {"fast_dds": version("ros-fastdds"), "rclpy": version("rclpy")}
    report |= {"queue_ms": QUEUE_MS, "burst_bytes": BURST_BYTES, "addresses": ADDRESSES}
    report["rows"] = done
    planned = trials()
    for trial in planned:
        if any(trial.is_of(row) for row in done):
            continue
        row = run_trial(
            link=trial.link,
            sent=sent_of(trial.form, work),
            dds=dds_of(trial.dds, work),
            reliable=trial.reliable,
            rate_hz=trial.rate_hz,
            seconds=seconds,
        )
        row["load_average"] = round(os.getloadavg()[0], 1)
        row["nice"] = os.nice(0)
        report["rows"].append(row)
        write(out, report)
        print(f"{len(report['rows'])} of {len(planned)}: {json.dumps(row)}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.thin_link",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("sizes", "link", "tables"))
    parser.add_argument("--work", type=Path, default=ROOT / "thin_link_work", metavar="FOLDER")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the JSON to write")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a trial (default: 5)")
    parser.add_argument("--resume", action="store_true", help="go on with the rows of --out")
    args = parser.parse_args()
    if args.what == "tables":
        measured, trials_done = (
            json.loads((RESULTS / name).read_text())
            for name in ("thin_tokens.json", "thin_link.json")
        )
        made = sizes_table(measured), link_table(trials_done), settings_table(trials_done)
        print("\n\n".join(made))
        return 0
    try:
        if args.what == "link":
            check_rights()
        prepare(args.work)
        if args.what == "sizes":
            sizes(args.work, args.out or RESULTS / "thin_tokens.json")
        else:
            out = args.out or RESULTS / "thin_link.json"
            link(args.work, out, args.seconds, args.resume)
    except UserError as error:
        print(f"python -m tools.thin_link: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
