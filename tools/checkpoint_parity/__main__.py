"""``python -m tools.checkpoint_parity [GROUP ...]``: fill the table of docs/checkpoints.md; 1 where
a row is out of bounds or a group fails. Where groups are named only these are run, and the others'
rows stay as they were.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.checkpoint_parity.report import read_json, table, write_into, write_json
from tools.checkpoint_parity.rows import LARGEST_DIFFERENCE, LARGEST_PIXEL_DIFFERENCE, Row

ROOT = Path(__file__).resolve().parents[2]
GROUPS = (
    "google",
    "huggingface",
    "timm",
    "meta",
    "clip",
    "keras",
    "dense",
    "policies",
    "towers",
    "language_models",
    "lerobot_policies",
)
DOCUMENT, RESULTS = ROOT / "docs/checkpoints.md", ROOT / "benchmarks/results/checkpoint_parity.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.checkpoint_parity", description=__doc__)
    parser.add_argument(
        "groups", nargs="*", choices=[[], *GROUPS], metavar="GROUP", help=", ".join(GROUPS)
    )
    parser.add_argument(
        "--json", type=Path, help="run the one GROUP here and write its rows to this file"
    )
    arguments = parser.parse_args()
    if arguments.json is not None:
        module = importlib.import_module(f"tools.checkpoint_parity.{arguments.groups[0]}")
        write_json(arguments.json, {arguments.groups[0]: module.rows()})
        return 0
    kept = read_json(RESULTS) if arguments.groups else {}
    failed = []
    for group in arguments.groups or GROUPS:
        print(f"{group} ...", file=sys.stderr, flush=True)
        kept[group] = _run_apart(group)
        failed += [] if kept[group] else [group]
        # After each group, so that a run that is cut short has not been for nothing.
        write_json(RESULTS, kept)
        write_into(DOCUMENT, table(_in_order(kept)))
    rows = _in_order({group: kept[group] for group in arguments.groups or GROUPS})
    print(table(rows))
    faults = [f"{row.family} {row.what}: {fault}" for row in rows for fault in row.faults()]
    print(
        "\n".join([*faults, *(f"{group}: failed, see above" for group in failed)])
        or f"{len(rows)} rows, all within bounds: tokens and logits {LARGEST_DIFFERENCE:g}, pixels "
        f"{LARGEST_PIXEL_DIFFERENCE:g}/255"
    )
    return 1 if faults or failed else 0


def _in_order(groups: dict[str, list[Row]]) -> list[Row]:
    return [row for group in GROUPS for row in groups.get(group, [])]


def _run_apart(group: str) -> list[Row]:
    """A group's rows, from a process of its own: the frameworks of different origins do not share
    one well.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "rows.json"
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "JAX_PLATFORMS": "cpu",
            "HF_HUB_OFFLINE": "1",
        }
        run = subprocess.run(
            [sys.executable, "-m", "tools.checkpoint_parity", group, "--json", str(result)],
            cwd=ROOT,
            env=environment,
        )
        if run.returncode or not result.exists():
            return []
        return read_json(result)[group]


if __name__ == "__main__":
    sys.exit(main())
