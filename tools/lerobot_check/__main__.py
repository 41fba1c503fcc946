"""``python -m tools.lerobot_check``: LeRobot itself on a data set of `embed --format lerobot`.

Its loader opens the set offline, each value is that of the files, its own statistics are ours, and
its training script trains ACT, with the settings that it has by itself. Needs the packages of
requirements/parity.txt. Writes the table of docs/lerobot.md; 1 where a check fails.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tools.lerobot_check.data import opened, pictures, statistics
from tools.lerobot_check.sets import (
    DEMO_BAG,
    ROOT,
    TRAIN_BAG,
    beginning_of,
    embed,
    import_lerobot,
    small_encoder,
)
from tools.lerobot_check.training import trained

RESULTS = ROOT / "benchmarks/results/lerobot_check.json"
DOCUMENT = ROOT / "docs/lerobot.md"
BEGIN, END = "<!-- lerobot_check: begin -->", "<!-- lerobot_check: end -->"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.lerobot_check", description=__doc__)
    parser.add_argument("--steps", type=int, default=20, help="of training (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="of training (default: %(default)s)")
    parser.add_argument("--checkpoint", default="", help="the encoder (default: a small one)")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HF_HOME"] = os.environ["HF_DATASETS_CACHE"] = str(Path(folder) / "cache")
        import_lerobot()
        arguments.checkpoint = arguments.checkpoint or small_encoder(Path(folder) / "encoder")
        rows = list(_checks(Path(folder), arguments))
    for row in rows:
        print(f"{'ok    ' if row['ok'] else 'FAILED'} {row['what']}: {row['found']}")
    result = {"lerobot": version("lerobot"), "rows": rows}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    _write_table(rows)
    return 0 if all(row["ok"] for row in rows) else 1


def _checks(folder: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    root = folder / "set"
    embed(TRAIN_BAG, root, arguments.checkpoint, "--features", "tokens")
    yield from opened(root)
    yield statistics(root)
    short = beginning_of(DEMO_BAG, folder / "short")
    for kind in ("images", "videos"):
        embed(short, folder / kind, arguments.checkpoint, "--images", kind)
        yield pictures(folder / kind, kind)
    yield from trained(root, folder / "trained", arguments.steps, arguments.batch)


def _write_table(rows: list[dict[str, Any]]) -> None:
    if not DOCUMENT.exists():
        return
    text = DOCUMENT.read_text("utf-8")
    lines = ["| check | found |", "| --- | --- |"]
    lines += [
        f"| {row['what']} | {row['found']}{'' if row['ok'] else ' **failed**'} |" for row in rows
    ]
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    DOCUMENT.write_text("\n".join([f"{head}{BEGIN}", *lines, f"{END}{tail}"]), "utf-8")


if __name__ == "__main__":
    sys.exit(main())
