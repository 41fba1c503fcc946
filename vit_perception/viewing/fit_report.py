"""What `vit-perception fit` prints: a progress bar, unreadable images, and the result."""

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from vit_perception.files.errors import printable
from vit_perception.heads.fit import Evaluation


class RateColumn(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f} pictures/s" if speed else "", style="progress.data.speed")


def picture_progress() -> Progress:
    """Return a progress bar with count, rate and remaining time."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(),
    )


def print_unreadable(unreadable: list[dict[str, str]], shown: int = 10) -> None:
    """Print how many images could not be read, and which."""
    if unreadable:
        print(f"{len(unreadable)} pictures cannot be read and are left out:")
        for entry in unreadable[:shown]:
            print(printable(f"  {entry['picture']}: {entry['why']}", keep=""))
        if len(unreadable) > shown:
            print(f"  and {len(unreadable) - shown} more, all in report.json")


def print_evaluations(evaluations: dict[str, Evaluation]) -> None:
    """Print accuracy and confusion of each evaluation."""
    if "held_out" not in evaluations:
        print("nothing held out: a class needs two pictures for that")
    for name, evaluation in evaluations.items():
        print(
            f"{name.replace('_', ' ')}: accuracy {evaluation.accuracy:.3f} of "
            f"{evaluation.confusion.sum()} pictures"
        )
        print(evaluation.table())
