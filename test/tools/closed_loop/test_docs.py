"""The tables of the pages are those of the measured cells."""

import pytest

from tools.closed_loop.docs import pages, updated, verdicts_table

CELL = {
    "task": "lift",
    "condition": "dim",
    "form": "float16",
    "trouble": "none",
    "episodes": 20,
}


def test_the_pages_have_the_measured_tables():
    for path, text in pages().items():
        assert path.read_text() == text, f"{path}: run python -m tools.closed_loop.docs"


@pytest.mark.parametrize(
    ("tokens", "network", "says"),
    [(19, 6, "tokens pay"), (6, 19, "the CNN does better"), (17, 15, "not told apart")],
)
def test_a_verdict_needs_intervals_that_do_not_overlap(tokens, network, says):
    cells = [
        CELL | {"policy": "spatial", "successes": tokens},
        CELL | {"policy": "cnn", "successes": 1},
        CELL | {"policy": "cnn, jitter", "successes": network},
    ]
    (line,) = verdicts_table(cells).splitlines()[2:]
    assert line.startswith(f"| lift | dim | {tokens}/20 ") and line.endswith(f"| {says} |")
    assert f"{network}/20" in line and "`cnn, jitter`" in line
    # Training seeds are pooled.
    (line,) = verdicts_table([*cells, cells[0] | {"successes": 0}]).splitlines()[2:]
    assert f"| {tokens}/40 " in line


def test_a_page_without_its_markers_is_refused():
    with pytest.raises(ValueError, match="closed loop, forms: begin"):
        updated("no markers\n", "forms", "")
