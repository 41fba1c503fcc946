"""Write the tables of docs/closed_loop.md and docs/policies.md from the measured cells.

python -m tools.closed_loop.docs
"""

import json
from collections.abc import Callable
from pathlib import Path

from tools.closed_loop.forms import FORMS, TRAINED_ON, USUAL
from tools.closed_loop.interface import CONDITIONS, TASKS, TROUBLES
from tools.closed_loop.plan import RECOMMENDED
from tools.closed_loop.results import wilson
from tools.closed_loop.work import ROOT

RESULTS = ROOT / "benchmarks/results/closed_loop.json"
# The order of the columns; each has a row in policies/train.py.
COLUMNS = (
    "spatial",
    "spatial, augmented",
    "cnn",
    "cnn, jitter",
    "cnn, permuted",
    "cnn, augmented",
)
OTHERS = ("pose only", "spatial, no pose", "cls", "neighbours", "transformer")
NOTHING = "–"
NOT_YET = "Nothing has been measured yet.\n"


def measured() -> list[dict]:
    """Return the cells in lockstep with the full number of demonstrations."""
    cells = json.loads(RESULTS.read_text())["cells"]
    most = max(cell["demonstrations"] for cell in cells)
    return [c for c in cells if c["time"] == "lockstep" and c["demonstrations"] == most]


def pooled(cells: list[dict], **wanted: str) -> tuple[int, int] | None:
    """Return successes and episodes of all training seeds of one cell; None if it was not run."""
    wanted = {"form": USUAL, "trouble": TROUBLES[0]} | wanted
    chosen = [c for c in cells if all(c[name] == value for name, value in wanted.items())]
    if not chosen:
        return None
    return sum(c["successes"] for c in chosen), sum(c["episodes"] for c in chosen)


def shown(result: tuple[int, int] | None) -> str:
    """Return successes of episodes with Wilson's interval."""
    if result is None:
        return NOTHING
    low, high = wilson(*result)
    return f"{result[0]}/{result[1]} ({low:.2f}–{high:.2f})"


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """Return a table."""
    if not rows:
        return NOT_YET
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def conditions_table(cells: list[dict]) -> str:
    """Every condition, under the policies that see."""
    used = [p for p in COLUMNS if any(c["policy"] == p for c in cells)]
    rows = []
    for task in TASKS:
        for condition in CONDITIONS:
            found = [pooled(cells, task=task, condition=condition, policy=p) for p in used]
            if any(found):
                rows.append([task, condition, *map(shown, found)])
    return markdown(["task", "condition", *(f"`{p}`" for p in used)], rows)


def others_table(cells: list[dict]) -> str:
    """The other policies, as demonstrated."""
    rows = []
    for policy in OTHERS:
        found = [pooled(cells, task=task, condition=CONDITIONS[0], policy=policy) for task in TASKS]
        if any(found):
            rows.append([f"`{policy}`", *map(shown, found)])
    return markdown(["policy, as demonstrated", *TASKS], rows)


def forms_table(cells: list[dict]) -> str:
    """The recommended policy with every form of the tokens, and policies trained on other forms."""
    rows = []
    for form in FORMS:
        found = pooled(cells, task="lift", condition=CONDITIONS[0], policy=COLUMNS[0], form=form)
        if found:
            rows.append([form, shown(found)])
    for policy, form in TRAINED_ON.items():
        found = pooled(cells, task="lift", condition=CONDITIONS[0], policy=policy, form=form)
        if found:
            rows.append([f"{form}, the policy `{policy}`", shown(found)])
    return markdown(["tokens", "Lift, `spatial`, as demonstrated"], rows)


def troubles_table(cells: list[dict]) -> str:
    """The recommended policy under every trouble."""
    rows = []
    for trouble in TROUBLES:
        found = pooled(
            cells, task="lift", condition=CONDITIONS[0], policy=COLUMNS[0], trouble=trouble
        )
        if found:
            rows.append([trouble, shown(found)])
    return markdown(["trouble", "Lift, `spatial`, as demonstrated"], rows)


def verdicts_table(cells: list[dict]) -> str:
    """Where tokens pay: the policy on tokens against the best CNN of each condition."""
    rows = []
    for task in TASKS:
        for condition in CONDITIONS:
            row = _verdict(cells, task, condition)
            if row:
                rows.append([task, condition, *row])
    return markdown(["task", "condition", "tokens", "best small CNN", "what the figures say"], rows)


def _verdict(cells: list[dict], task: str, condition: str) -> list[str]:
    found = {p: pooled(cells, task=task, condition=condition, policy=p) for p in COLUMNS}
    there = {p: result for p, result in found.items() if result}
    networks = [p for p in there if p.startswith("cnn")]
    on_tokens = RECOMMENDED
    if on_tokens not in there or not networks:
        return []
    # The best of the networks: that favours them.
    network = max(networks, key=lambda p: there[p][0] / there[p][1])
    says = "not told apart"
    if wilson(*there[on_tokens])[0] > wilson(*there[network])[1]:
        says = "tokens pay"
    elif wilson(*there[on_tokens])[1] < wilson(*there[network])[0]:
        says = "the CNN does better"
    parts = [f"{shown(there[p])} `{p}`" for p in (on_tokens, network)]
    return [*parts, says]


TABLES: dict[str, tuple[str, Callable[[list[dict]], str]]] = {
    "conditions": ("docs/closed_loop.md", conditions_table),
    "others": ("docs/closed_loop.md", others_table),
    "forms": ("docs/closed_loop.md", forms_table),
    "troubles": ("docs/closed_loop.md", troubles_table),
    "verdicts": ("docs/policies.md", verdicts_table),
}


def updated(text: str, name: str, table: str) -> str:
    """Return a page's ``text`` with the table ``name`` between its markers replaced.

    Raises:
        ValueError: there is not exactly one of each marker.
    """
    begin, end = f"<!-- closed loop, {name}: begin -->\n", f"<!-- closed loop, {name}: end -->\n"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the page lacks the markers {begin.strip()} and {end.strip()}")
    before, _, rest = text.partition(begin)
    return f"{before}{begin}{table}{end}{rest.partition(end)[2]}"


def pages(root: Path = ROOT) -> dict[Path, str]:
    """Return every page with its tables as they should be."""
    cells = measured()
    texts: dict[Path, str] = {}
    for name, (page, make) in TABLES.items():
        path = root / page
        texts[path] = updated(texts.get(path, path.read_text()), name, make(cells))
    return texts


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
