"""What a LeRobot data set of features is to hold."""

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

from vit_perception.datasets.lerobot.layout import ACTION
from vit_perception.files.errors import InvalidValue

# In place of a topic: the state of the next frame; no action at all.
NEXT_STATE, NO_ACTION = "state", "none"
# Which command belongs to a frame: the last one up to the next frame, or up to the frame itself.
NEXT, NOW = "next", "now"
PICTURES = ("none", "images", "videos")


@dataclass(frozen=True)
class LeRobotOptions:
    """What is written beside the embedding.

    Raises:
        InvalidValue: A field is not accepted; ``argument`` names it.
    """

    # Topics as in columns (TOPIC[:FIELD][@hold or @linear]), side by side in one vector; or
    # NEXT_STATE or NO_ACTION alone. Empty: the column ``action`` of the source.
    actions: tuple[str, ...] = ()
    # NEXT or NOW; empty: NEXT for topics, NOW for a column that the source has.
    action_at: str = ""
    # One for all sources, or one for each.
    tasks: tuple[str, ...] = ("unnamed",)
    # One of PICTURES.
    pictures: str = "none"
    # Whether tokens and their mask are written too.
    tokens: bool = False

    def __post_init__(self):
        if len(self.actions) > 1 and {NEXT_STATE, NO_ACTION} & set(self.actions):
            raise InvalidValue(
                f" is {', '.join(self.actions)}; accepted: topics, or {NEXT_STATE} or {NO_ACTION} "
                "alone",
                argument=ACTION,
            )
        if self.action_at not in ("", NEXT, NOW):
            raise InvalidValue(
                f" is {self.action_at!r}; accepted: {NEXT}, {NOW}", argument="action_at"
            )
        if self.action_at and self.actions in ((NEXT_STATE,), (NO_ACTION,)):
            raise InvalidValue(
                f" is given, and the action is {self.actions[0]}; accepted: with a topic",
                argument="action_at",
            )

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics among ``actions``."""
        return () if self.actions in ((NEXT_STATE,), (NO_ACTION,)) else self.actions

    def columns(self) -> tuple[str, ...]:
        """Return the columns that ``topics`` are read as: action, action_2, ..."""
        return tuple(f"{action_column(k)}={topic}" for k, topic in enumerate(self.topics))

    def check(self, columns: Collection[str], has_state: bool) -> None:
        """Check that there is what the action is made of.

        Raises:
            InvalidValue: The source has no such ``columns``, or no poses and joint states.
        """
        if self.actions == (NEXT_STATE,) and not has_state:
            raise InvalidValue(
                f" is {NEXT_STATE}, and there are no poses and no joint states; accepted: a topic "
                f"of commands, or {NO_ACTION}",
                argument=ACTION,
            )
        if self.actions not in ((NEXT_STATE,), (NO_ACTION,)) and ACTION not in columns:
            raise InvalidValue(
                " is not given, and the source has no column of that name; accepted: a topic of "
                f"commands, {NEXT_STATE} for the state of the next frame, {NO_ACTION} for a data "
                "set without actions",
                argument=ACTION,
            )

    def task_of(self, source: int, sources: int) -> str:
        """Return the task of a source, of which there are ``sources`` in each repeat.

        Raises:
            InvalidValue: There are tasks for another number of sources.
        """
        if len(self.tasks) not in (1, sources):
            raise InvalidValue(
                f" is given {len(self.tasks)} times; accepted: once, or {sources} times: once for "
                "each source",
                argument="task",
            )
        return self.tasks[0] if len(self.tasks) == 1 else self.tasks[source % sources]

    def identity(self) -> dict[str, Any]:
        """Return what tells one data set of the same features from another."""
        return asdict(self)


def action_column(number: int) -> str:
    """Return the name of the column of an action topic, by its number from 0."""
    return f"{ACTION}_{number + 1}" if number else ACTION
