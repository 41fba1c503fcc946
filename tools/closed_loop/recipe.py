"""What demonstrations are made of, and which seeds are whose. Another recipe is another folder."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

# Demonstrations count up from here, the episodes of the table from there: no episode is in both.
FIRST_DEMONSTRATION_SEED = 0
FIRST_TEST_SEED = 100_000


@dataclass(frozen=True)
class Recipe:
    """Numbers that change what is recorded."""

    version: int = 1  # of the code that records
    # The images' side. The encoder takes them as they are: 12 x 12 patches.
    image_px: int = 168
    # The expert is pushed off its way: the demonstrations then show how to come back.
    push_m: float = 0.03
    push_begins: float = 0.15  # probability at a control step
    push_ends: float = 0.4


RECIPE = Recipe()


class OtherRecipe(Exception):
    """A folder holds what another version of the recipe has made."""


def claim(folder: Path, recipe: Recipe = RECIPE) -> None:
    """Make ``folder`` if it is not there, and write into it which recipe it follows.

    Raises:
        OtherRecipe: it follows another one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.json"
    text = json.dumps(asdict(recipe), indent=1) + "\n"
    if not path.exists():
        path.write_text(text)
    elif path.read_text() != text:
        raise OtherRecipe(
            f"{folder} was made by another recipe ({path} says which); accepted: a new folder, or "
            "this one after it has been removed"
        )
