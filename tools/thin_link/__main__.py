"""Measure small tokens: `python -m tools.thin_link sizes`, `link` or `tables`.

    sizes   bytes, CPU time and what is kept of tokens in each form: seconds
    link    frames a second and their age over thin links, between two network namespaces: half an
            hour. With --node the node itself sends: minutes. Needs Linux, root (or CAP_NET_ADMIN
            and CAP_SYS_ADMIN), `ip` and `tc` of iproute2, `unshare` and `nsenter` of util-linux
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

from tools.thin_link.link import ADDRESSES, BURST_BYTES, QUEUE_MS, check_rights
from tools.thin_link.plan import RATE_HZ, RECORDING, ROOT, node_trials, row_of, trials
from tools.thin_link.prepare import prepare
from tools.thin_link.sizes import image_rows, token_rows
from tools.thin_link.tables import link_table, node_table, settings_table, sizes_table
from vit_perception.engines.torch_engine import read_cpu
from vit_perception.files.atomic import write_whole
from vit_perception.files.errors import UserError

RESULTS = ROOT / "benchmarks/results"
SECONDS, NODE_SECONDS = 5.0, 10.0


def about(command: str) -> dict:
    """Return what a report says of the machine and the versions."""
    return {
        "date": datetime.date.today().isoformat(),
        "command": f"python -m tools.thin_link {command}",
        "processor": read_cpu(Path("/proc/cpuinfo"))[0],
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


def link(work: Path, out: Path, seconds: float | None, resume: bool, node: bool) -> None:
    """Run the trials of recorded messages, or of the node, and keep the rows of the others."""
    report = json.loads(out.read_text()) if out.exists() else {"rows": []}
    made = about("link --node" if node else "link")
    made |= {"fast_dds": version("ros-fastdds"), "rclpy": version("rclpy")}
    made |= {"queue_ms": QUEUE_MS, "burst_bytes": BURST_BYTES, "addresses": ADDRESSES}
    kept, planned = report.pop("rows"), node_trials() if node else trials()
    report |= {"node": made} if node else made
    if not resume:
        kept = [row for row in kept if not any(trial.is_of(row) for trial in planned)]
    report["rows"] = kept
    for number, trial in enumerate(planned, 1):
        if any(trial.is_of(row) for row in report["rows"]):
            continue
        row = row_of(trial, work, seconds or (NODE_SECONDS if node else SECONDS))
        row["load_average"] = round(os.getloadavg()[0], 1)
        row["nice"] = os.nice(0)
        report["rows"].append(row)
        write(out, report)
        print(f"{number} of {len(planned)}: {json.dumps(row)}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.thin_link",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("what", choices=("sizes", "link", "tables"))
    parser.add_argument("--work", type=Path, default=ROOT / "thin_link_work", metavar="FOLDER")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the JSON to write")
    parser.add_argument("--seconds", type=float, help="of a trial (default: 5; with --node 10)")
    parser.add_argument(
        "--node",
        action="store_true",
        help="`link` alone: the node itself encodes replayed images, instead of recorded tokens",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the rows of --out")
    args = parser.parse_args()
    if args.node and args.what != "link":
        parser.error(f"--node is given with {args.what}; accepted: with link")
    if args.what == "tables":
        measured, trials_done = (
            json.loads((RESULTS / name).read_text())
            for name in ("thin_tokens.json", "thin_link.json")
        )
        of_trials = [table(trials_done) for table in (link_table, node_table, settings_table)]
        print("\n\n".join([sizes_table(measured), *of_trials]))
        return 0
    try:
        if args.what == "link":
            check_rights()
        prepare(args.work)
        if args.what == "sizes":
            sizes(args.work, args.out or RESULTS / "thin_tokens.json")
        else:
            out = args.out or RESULTS / "thin_link.json"
            link(args.work, out, args.seconds, args.resume, args.node)
    except UserError as error:
        print(f"python -m tools.thin_link: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
