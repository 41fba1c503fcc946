"""Copies of recordings that are played without loss, however slow the machine is."""

from pathlib import Path

from rosbags.interfaces import QosHistory

from vit_perception.datasets.output_messages import offered_qos
from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter


def lossless(bag: Path, out: Path) -> Path:
    """``bag`` copied to ``out``; its topics were offered reliably and with KEEP_ALL, and are played
    so.

    A subscription that is reliable and deep enough then hears every message.
    """
    with (
        BagReader(bag) as read,
        BagWriter(
            out, lambda topic: [offered_qos(False)._replace(history=QosHistory.KEEP_ALL)]
        ) as copy,
    ):
        for message in read.raw(list(read.topics)):
            copy.write(message.topic, message.type_name, message.data, message.stamp_ns)
    return out


def heard_whole(*topics: str) -> dict:
    """Parameters of the node by which its subscriptions of ``topics`` are reliable and deep
    enough.
    """
    return {
        f"qos_overrides.{topic}.subscription.{key}": value
        for topic in topics
        for key, value in (("reliability", "reliable"), ("depth", 1000))
    }
