"""Deadline and liveliness of an input: declared once for cameras, arms, joint states and wrenches.

Both are policies of DDS. A publisher that offers none, which is the default of ROS, is not heard by
a subscription that asks for one.
"""

from typing import Any

from vit_perception.config.checks import BadSetting
from vit_perception.config.parameter import TOPICS, Section, param

# What the features of a recording do not depend on.
LIVE_ONLY = ("deadline_s", "liveliness_s")

# A shorter one would be missed by every computer, and each miss is an event.
SHORTEST_S = 0.001
_LONGEST_S = 3600.0


def deadline_param() -> Any:
    """Declare ``deadline_s``."""
    return param(
        0.0,
        "DDS deadline: the longest time between two messages, in s. Misses are counted. 0 is off; "
        "else a publisher must offer one as short (docs/robots_day.md).",
        unit="s",
        bounds=(0.0, _LONGEST_S),
        exact_bounds=False,
        fixed=TOPICS,
    )


def liveliness_param() -> Any:
    """Declare ``liveliness_s``."""
    return param(
        0.0,
        "DDS liveliness: the longest time without a sign of life of a publisher, in s. 0 is off; "
        "else a publisher must offer one as short (docs/robots_day.md).",
        unit="s",
        bounds=(0.0, _LONGEST_S),
        exact_bounds=False,
        fixed=TOPICS,
    )


def check_input_qos(settings: Section, through_tf: bool = False) -> None:
    """Check deadline and liveliness of one input.

    Raises:
        BadSetting: one is out of its bounds, or given to an arm whose poses come ``through_tf``.
    """
    for name, value in zip(LIVE_ONLY, asked_of(settings)):
        if value != 0.0 and not SHORTEST_S <= value <= _LONGEST_S:
            accepted = f"0 for none, or {SHORTEST_S:g} to {_LONGEST_S:g} s"
            raise BadSetting(f"{settings.prefix}{name}", value, accepted)
        if value and through_tf:
            raise BadSetting(
                f"{settings.prefix}{name}", value, "0 with source tf: TF has a QoS of its own"
            )


def asked_of(settings: object) -> tuple[float, float]:
    """Return deadline and liveliness of one input in s; 0 where its settings have none."""
    return getattr(settings, "deadline_s", 0.0), getattr(settings, "liveliness_s", 0.0)


def forget_live_only(settings: Any) -> None:
    """Take deadline and liveliness out of ``settings``, which ``asdict`` has made."""
    if isinstance(settings, dict):
        for name in LIVE_ONLY:
            settings.pop(name, None)
        settings = settings.values()
    elif not isinstance(settings, (list, tuple)):
        return
    for each in settings:
        forget_live_only(each)
