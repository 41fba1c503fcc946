"""How much is tried: a short form by default, the long one with VIT_PERCEPTION_LONG_TESTS=1."""

import os

LONG = os.environ.get("VIT_PERCEPTION_LONG_TESTS", "0") not in ("", "0")
SHORT_SHARE = 5  # the short form tries one in so many


def examples(long: int) -> int:
    """How many examples a test draws whose long form draws ``long``."""
    return long if LONG else long // SHORT_SHARE
