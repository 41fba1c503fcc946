"""What the documents say of the code is so: texts that people will read, files that are named."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
OTHERS = {"Python", "launch"}  # who says it where it is not this package


def texts_of_the_code() -> str:
    """Every string of the package, one a line, with … for what is filled in."""
    found = []
    for path in (ROOT / "vit_perception").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def test_the_symptoms_on_a_jetson_are_texts_of_the_code():
    table = (ROOT / "docs/jetson.md").read_text().split("## What breaks first")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][
        2:
    ]
    assert len(rows) > 10 and all(len(row) == 4 for row in rows)
    known = texts_of_the_code()
    for who, text, *_ in rows:
        if who not in OTHERS:
            quoted = re.search("`([^`]+)`", text)[1]
            missing = [
                part
                for part in map(str.strip, quoted.split("…"))
                if len(part) > 2 and part not in known
            ]
            assert not missing, f"{quoted!r}: no text of the code has {missing}"


def test_the_files_that_contributing_names_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = [*re.findall(r"`([\w./]+\.(?:py|md|txt))`", text), *re.findall(r"\]\(([^)]+)\)", text)]
    assert len(named) > 20
    missing = [n for n in named if not any((ROOT / f / n).exists() for f in ("", "vit_perception"))]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_links_to_exists(document):
    text = document.read_text()
    linked = [t.split("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in t]
    missing = [name for name in linked if not (document.parent / name).exists()]
    programs = re.findall(r"\b((?:test|examples|benchmarks|tools)/[\w/]+\.\w+)", text)
    missing += [name for name in programs if not (ROOT / name).exists()]
    assert not missing
