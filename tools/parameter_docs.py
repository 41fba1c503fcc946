"""Write the README's table of parameters from their declarations.

python -m tools.parameter_docs
"""

from pathlib import Path

import vit_perception.tokens.kinds  # noqa: F401 - each kind of source registers its parameters
from vit_perception.config.parameter import Parameter
from vit_perception.config.reading import all_parameters

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- parameters: begin -->\n", "<!-- parameters: end -->\n"


def table() -> str:
    """Return a Markdown table; ● marks parameters that may change while the node is active."""
    rows = [_row(parameter) for parameter in all_parameters({})]
    return "\n".join(["| parameter | default | what |", "| --- | --- | --- |", *rows, ""])


def updated(text: str) -> str:
    """Return the README's ``text`` with the table between the two markers replaced.

    Raises:
        ValueError: there is not exactly one of each marker.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{README} lacks the markers {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}{table()}{END}{after}"


def _row(parameter: Parameter) -> str:
    mark = "" if parameter.fixed else " ●"
    texts = [parameter.description.replace("|", "\\|")]
    if parameter.choices:
        texts.append(f"One of {', '.join(f'`{choice}`' for choice in parameter.choices)}.")
    if parameter.low is not None:
        texts.append(f"{parameter.low:g} to {parameter.high:g}.")
    return f"| `{parameter.name}`{mark} | {_default(parameter)} | {' '.join(texts)} |"


def _default(parameter: Parameter) -> str:
    value = parameter.default
    if value in ((), ""):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    shown = value if not isinstance(value, tuple) else ", ".join(value)
    unit = f" {parameter.unit}" if parameter.unit and isinstance(value, float) else ""
    return f"`{shown}`{unit}"


if __name__ == "__main__":
    README.write_text(updated(README.read_text()))
