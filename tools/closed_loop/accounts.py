"""Where every observation and every chunk went."""

from dataclasses import dataclass, field


@dataclass
class Accounts:
    """Of all episodes of one simulator process."""

    rehearsals: int = 0  # observations before the first answer; they belong to no episode
    observations: int = 0
    applied: int = 0  # observations whose chunk moved the robot
    missed: int = 0  # observations whose deadline passed
    dropped: int = 0  # observations without images, on purpose; nobody can answer them
    chunks: int = 0  # received whole
    rehearsed: int = 0  # chunks for rehearsals
    unused: int = 0  # chunks that came too late
    refused: dict[str, int] = field(default_factory=dict)  # messages, by reason

    def wrong(self) -> str:
        """Return what does not add up; empty where all does."""
        if self.observations != self.applied + self.missed:
            return f"{self.observations} observations, {self.applied} applied, {self.missed} missed"
        if self.chunks != self.applied + self.rehearsed + self.unused:
            return (
                f"{self.chunks} chunks, {self.applied} applied, {self.rehearsed} for rehearsals, "
                f"{self.unused} unused"
            )
        return ""
