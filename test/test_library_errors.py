"""The library does not know the options of the command line: `cli/` adds them."""

import ast
import re
from pathlib import Path

import pytest

import vit_perception

PACKAGE = Path(vit_perception.__file__).parent
# Texts with options of other programs, and commands that the user runs on another machine.
WITH_OPTIONS = {
    "recordings/kind.py": "rosbags-convert",
    "config/engine_settings.py": "the description of engine.file: what makes the file",
    "engines/cache/engine_file.py": "the command that builds the right file, on another machine",
    "checkpoints/demo/conversion.py": "the front matter of a README",
    "checkpoints/demo/weights.py": "pip",
    "checkpoints/huggingface/config.py": "the front matter of a README",
    "ros/health/first_words.py": "the node's own help, and ROS",
    "training/checkpoint_writer.py": "the front matter of a README",
}
MODULES = sorted(
    path.relative_to(PACKAGE).as_posix()
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] != "cli"
)


def texts_of(path: Path) -> list[str]:
    """All texts of a module but its docstrings."""
    tree = ast.parse(path.read_text("utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    ]


@pytest.mark.parametrize("module", MODULES)
def test_no_text_of_the_library_names_an_option(module):
    if module in WITH_OPTIONS:
        return
    assert not [t for t in texts_of(PACKAGE / module) if re.search(r"(?<![\w-])--[a-z]", t)]
