"""What a topic with video carries: its first picture says it."""

from typing import Any, NamedTuple

from vit_perception.image.video.decoder import NoPicture, PictureHeader
from vit_perception.image.video.packets import packet_of
from vit_perception.ros.suggest.seen import TopicSeen
from vit_perception.wire.records import BadInput


class Headed(NamedTuple):
    """What every message has that the listener notes."""

    header: PictureHeader


def first_picture(topic: TopicSeen, message: Any) -> Headed:
    """Note what the first picture of a video is; later packets are not decoded.

    Raises:
        BadInput: There was none yet.
    """
    packet = packet_of(message)
    topic.largest_bytes = max(topic.largest_bytes, len(packet.data))
    for each in topic.video.take(packet) if topic.video else ():
        if isinstance(each, NoPicture):
            raise BadInput(each.reason, each.text)
        height, width = each().size
        topic.picture = f"{width}×{height} {packet.codec}"
        topic.video = None
        break
    if topic.video is not None:
        raise BadInput("no_picture", "its pictures come later than the packets, and none came yet")
    return Headed(PictureHeader.of(packet))
