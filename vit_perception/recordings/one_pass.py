"""One pass over the messages of a bag, with a limit on what they unpack to."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from vit_perception.files.errors import InvalidValue
from vit_perception.recordings.bag_files import BagFiles, OpenFile
from vit_perception.recordings.kind import BagError
from vit_perception.recordings.storage import (
    MOST_MESSAGE_BYTES,
    MOST_TIMES_UNPACKED,
    Channel,
    TooLarge,
    Unreadable,
    accepted_instead,
    mib,
    most_unpacked,
    one_line,
)
from vit_perception.recordings.unpacking import ZSTD_MAGIC, unpacked_message


class FoundMessage(NamedTuple):
    """One message of a bag."""

    channel: Channel
    stamp_ns: int  # time of recording
    data: bytes | Unreadable  # unpacked CDR, or why there is none
    unpacked_bytes: int  # of a message that is packed; else 0


class OnePass:
    """Iterate over messages file by file; ``counts`` has the number of messages by topic so far.

    ``wanted`` has the type of each topic. The messages were recorded from ``start_ns`` until before
    ``stop_ns``.

    Raises:
        BagError: a file is damaged, or its messages unpack to too much. Iteration raises it.
    """

    def __init__(
        self,
        files: BagFiles,
        wanted: Mapping[str, str],
        start_ns: int | None,
        stop_ns: int | None,
    ):
        self.counts: Counter[str] = Counter()
        self._files = files
        self._wanted = wanted
        self._start_ns = start_ns
        self._stop_ns = stop_ns

    def __iter__(self) -> Iterator[FoundMessage]:
        unpacked_bytes = 0
        most_bytes = most_unpacked(self._files.size_bytes)
        for file in self._files:
            try:
                with file.opened() as opened:
                    for found in self._of_file(opened):
                        unpacked_bytes += found.unpacked_bytes
                        if unpacked_bytes > most_bytes:
                            raise Unreadable(
                                f"its messages unpack to more than {mib(most_bytes)}; accepted: at "
                                f"most that, or {MOST_TIMES_UNPACKED} times its size"
                            )
                        self.counts[found.channel.topic] += 1
                        yield found
            except (Unreadable, InvalidValue, OSError) as error:
                accepted = accepted_instead(error, "a whole bag")
                raise BagError(f"{file.path} is damaged: {one_line(error)}{accepted}") from error

    def _of_file(self, file: OpenFile) -> Iterator[FoundMessage]:
        channels = {
            channel.id: channel
            for channel in file.summary.channels
            if self._wanted.get(channel.topic) == channel.type_name
        }
        if not channels:
            return
        folder = self._files.folder
        packed = folder is not None and folder.compression == "message"
        for number, stamp_ns, data in file.messages(channels, self._start_ns, self._stop_ns):
            unpacked_bytes = 0
            # CDR never begins like Zstandard; single files do not say that messages are packed.
            if isinstance(data, bytes) and (packed or data[:4] == ZSTD_MAGIC):
                data = _unpacked(data)
                if isinstance(data, bytes):
                    unpacked_bytes = len(data)
                elif isinstance(data, TooLarge):
                    unpacked_bytes = MOST_MESSAGE_BYTES
            yield FoundMessage(
                channel=channels[number],
                stamp_ns=stamp_ns,
                data=data,
                unpacked_bytes=unpacked_bytes,
            )


def _unpacked(data: bytes) -> bytes | Unreadable:
    try:
        return unpacked_message(data)
    except Unreadable as error:
        return error
