"""A log that a test can look at."""


class LogLines(list):
    """All sentences in order. ``warnings`` has those of that level, ``steps`` the progress."""

    def __init__(self):
        super().__init__()
        self.warnings: list[str] = []
        self.steps: list[tuple[str, float]] = []

    def info(self, text: str) -> None:
        self.append(text)

    def warning(self, text: str) -> None:
        self.append(text)
        self.warnings.append(text)

    def progress(self, what: str, fraction: float, text: str = "") -> None:
        self.steps.append((what, fraction))
        if text:
            self.append(text)
