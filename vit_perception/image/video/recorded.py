"""The images of a bag's camera topics: messages as they are, packets of a video as pictures."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from vit_perception.config.cameras.transports import VIDEO_TYPES, instead_of
from vit_perception.config.settings import CameraSettings
from vit_perception.image.video.decoder import NoPicture, Outcome, VideoDecoder, VideoPicture
from vit_perception.image.video.packets import packet_of
from vit_perception.recordings.reader import BagError, BagReader, Undecodable
from vit_perception.wire.records import BadInput


class RecordedImage(NamedTuple):
    """One image of a bag."""

    # When its message was recorded.
    recorded_ns: int
    # The message, or a VideoPicture.
    message: Any

    @property
    def size_bytes(self) -> int:
        """The memory that it holds, about."""
        if isinstance(self.message, VideoPicture):
            return self.message.size_bytes
        return len(self.message.data)


class NoImage(NamedTuple):
    """One message of a bag that gives no image."""

    # When it was recorded.
    recorded_ns: int
    # The short key under which it is counted, and one line for people.
    reason: str
    text: str


class RecordedImages:
    """Gives the images of messages, in order. ``types`` has the message type of each topic."""

    def __init__(self, types: Mapping[str, str]):
        self._decoders = {t: VideoDecoder() for t, kind in types.items() if kind in VIDEO_TYPES}

    def of(self, topic: str, recorded_ns: int, message: Any) -> Iterator[RecordedImage | NoImage]:
        """Yield the images that are known now, of ``message`` and of those before it."""
        decoder = self._decoders.get(topic)
        if decoder is None:
            yield RecordedImage(recorded_ns, message)
            return
        try:
            packet = packet_of(message, origin=recorded_ns)
        except BadInput as error:
            yield from self._told(topic, decoder.lose("a packet was refused"))
            yield NoImage(recorded_ns, error.reason, f"{topic}: {error}")
            return
        yield from self._told(topic, decoder.take(packet))

    def lose(self, topic: str) -> Iterator[RecordedImage | NoImage]:
        """A message of ``topic`` cannot be read."""
        if topic in self._decoders:
            yield from self._told(topic, self._decoders[topic].lose("a message was not readable"))

    def rest(self) -> Iterator[tuple[str, RecordedImage | NoImage]]:
        """Yield what is still to come, by topic, at the end of the bag."""
        for topic, decoder in self._decoders.items():
            for image in self._told(topic, decoder.rest()):
                yield topic, image

    @staticmethod
    def _told(topic: str, outcomes: Iterable[Outcome]) -> Iterator[RecordedImage | NoImage]:
        for each in outcomes:
            if isinstance(each, NoPicture):
                text = f"{topic}, {each.packet.stamp_ns} ns: {each.text}"
                yield NoImage(each.packet.origin, each.reason, text)
            else:
                yield RecordedImage(each.packet.origin, each)


def images_of(
    bag: BagReader, topic: str, tell: Collection[str] = ()
) -> Iterator[RecordedImage | NoImage]:
    """Yield the images of one topic of ``bag``; ``tell`` is as in :meth:`BagReader.messages`."""
    images = RecordedImages({topic: bag.type_of(topic)})
    for _, recorded_ns, message in bag.messages([topic], tell=tell):
        if isinstance(message, Undecodable):
            yield from images.lose(topic)
            yield NoImage(recorded_ns, "short_data", message.text)
        else:
            yield from images.of(topic, recorded_ns, message)
    for _, image in images.rest():
        yield image


def check_recorded_types(cameras: Iterable[CameraSettings], bag: BagReader) -> None:
    """Check that the images in ``bag`` have the type that each camera's transport takes.

    Raises:
        BagError: One has another type that is known; the message says what to set.
    """
    for camera in cameras:
        if camera.topic not in bag.topics:
            continue  # the reader names those that there are
        found = bag.types_of(camera.topic)
        wanted = camera.message_type
        cures = [cure for kind in found if (cure := instead_of(camera.name, kind))]
        if wanted not in found and cures:
            raise BagError(
                f"{bag.path}: {camera.topic} is recorded as {found[0]}; accepted: {wanted}, as "
                f"cameras.{camera.name}.transport is {camera.transport}; {cures[0]}"
            )
