"""What can be wrong with an input, why, and what to do about it: one table.

The node's warnings, `/diagnostics` (value ``situation``) and docs/robots_day.md are made of it.
"""

from typing import NamedTuple

# Of a publisher whose QoS does not match.
_ASKS = "{policies} (it offers {offered}; the node asks for {wanted})"
_ASK_LESS = (
    "set qos_overrides.{topic}.subscription, deadline_s or liveliness_s, or the publisher's QoS"
)


class Situation(NamedTuple):
    """One row; ``{}`` fields are filled in with what was measured."""

    # The value ``situation`` of the input's status.
    name: str
    # What is the case.
    says: str
    # Why, as far as the node can see.
    cause: str = ""
    # What a person does about it.
    cure: str = ""
    # Whether the log warns of it.
    warns: bool = True

    def text(self, **found: object) -> str:
        """Return the row as one text, with ``found`` in its fields."""
        parts = (part.format(**found) for part in (self.says, self.cause, self.cure))
        return "; ".join(filter(None, parts))


RECEIVING = Situation("receiving", says="receiving", warns=False)
STARTING = Situation(
    "starting",
    says="waiting for the first {what}, {age} so far",
    cause="publishers are found within seconds",
    cure="wait",
    warns=False,
)
NEVER_CAME = Situation(
    "never_came",
    says="no {what} has come",
    cause="nothing publishes on it",
    cure="is the name right, does it publish?",
)
NEVER_SENT = Situation(
    "never_sent",
    says="no {what} has come",
    cause="{publishers}, no message for {age}",
    cure="look at the log of the publisher",
)
STOPPED = Situation(
    "stopped",
    says="no {what} for {age}",
    cause="{publishers}, no usable message since{nearest}",
    cure="look at the log of the publisher, and at the cable",
)
GONE = Situation(
    "gone",
    says="no {what} for {age}",
    cause="nothing publishes on it any more{nearest}",
    cure="start the publisher again",
)
FIRST_CAME = Situation(
    "first_came", says="{label} {name}: the first {what} came after {age}", warns=False
)
CAME_BACK = Situation("came_back", says="{label} {name} is back after {age}", warns=False)
NO_TRANSFORM = Situation(
    "no_transform",
    says="no {what} {since}",
    cause="TF says: {trouble}",
    cure="is the chain of frames complete, and does somebody send each link?",
)
OTHER_TYPE = Situation(
    "other_type",
    says="no {what} {since}",
    cause="it is published as {found}; {wants} wants {wanted}{nearby}",
    cure="take a topic of that type{instead}",
)
OTHER_QOS = Situation(
    "other_qos",
    says="no {what} {since}",
    cause=f"the QoS of its publisher {{peer}} does not match: {_ASKS}",
    cure=_ASK_LESS,
)
REFUSED_PUBLISHER = Situation(
    "refused_publisher",
    says="nothing comes from its publisher {peer}",
    cause=f"its QoS does not match: {_ASKS}",
    cure=_ASK_LESS,
)
REFUSED_SUBSCRIBER = Situation(
    "refused_subscriber",
    says="its subscriber {peer} gets nothing",
    cause="its QoS does not match: {policies} (it asks for {wanted}; the node offers {offered})",
    cure="ask for no more there, or set qos_overrides.{topic}.publisher",
)
DEADLINE_MISSED = Situation(
    "deadline_missed",
    says="no {what} for longer than its deadline of {deadline}, {missed} times since activate",
    cause="they come late or seldom",
    cure="look at the publisher's rate and at the network, or raise {prefix}.deadline_s",
)
NOT_ALIVE = Situation(
    "not_alive",
    says="{count} of its publishers gave no sign of life for {lease}",
    cause="the process hangs or was killed, or the network is cut",
    cure="look at the publisher's process and at the network",
)
WAITING = Situation(
    "waiting",
    says="waiting for {others} (sync.policy: wait)",
    cause="no group of images is complete without it",
    cure="sync.policy: mask goes on without it",
)
UNMATCHED = Situation(
    "unmatched",
    says="images come, but none was published for {window}; mostly unmatched",
    cause="no image of {others} lies within sync.slop_s ({slop}) of them{clocks}",
    cure="synchronise the cameras' clocks, or raise sync.slop_s",
)
LATE_IMAGES = Situation(
    "late_images",
    says="images come, but none was published for {window}; mostly late",
    cause="they arrive after newer ones were encoded, or their stamps stand still",
    cure="look at the stamps that the driver sets, and at the network",
)
REFUSED = Situation(
    "refused",
    says="images come, but none was published for {window}; mostly {reason}",
    cause="the node cannot use them",
    cure="the other warnings of this topic give the value and what is accepted",
)
NO_KEY_FRAME = Situation(
    "no_key_frame",
    says="packets come, but no picture was published for {window}; mostly no_key_frame",
    cause="the video is joined in its middle, or packets get lost, and no key frame has come since",
    cure="have the publisher send key frames more often (gop_size), or make the topic reliable",
)
UNPUBLISHED = Situation(
    "unpublished",
    says="images come, but none was published for {window}; mostly {reason}",
    cause="docs/robots_day.md explains the reason",
)
REFUSED_SAMPLES = Situation(
    "refused_samples",
    says="no {what} near the latest image",
    cause="{how_far}, {count} were refused, mostly as {reason}",
    cure="{consequence}; the other warnings of this topic say what is accepted",
)
LATE = Situation(
    "late",
    says="no {what} near the latest image{which}",
    cause="{how_far}{clocks}",
    cure="{consequence}; if they come late or seldom, raise {prefix}.wait_s or {prefix}.max_skew_s",
)

SITUATIONS = (
    STARTING,
    NEVER_CAME,
    NEVER_SENT,
    STOPPED,
    GONE,
    FIRST_CAME,
    CAME_BACK,
    NO_TRANSFORM,
    OTHER_TYPE,
    OTHER_QOS,
    REFUSED_PUBLISHER,
    REFUSED_SUBSCRIBER,
    DEADLINE_MISSED,
    NOT_ALIVE,
    WAITING,
    UNMATCHED,
    LATE_IMAGES,
    REFUSED,
    NO_KEY_FRAME,
    UNPUBLISHED,
    REFUSED_SAMPLES,
    LATE,
)


def duration(seconds: float) -> str:
    """Return a time as a person says it: ``0.4 s``, ``12 s``."""
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
