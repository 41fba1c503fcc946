"""Recordings for a fleet, made from the two demo bags by cutting and shifting in time.

python -m tools.fleet.bags FOLDER --count 40
"""

import struct
from argparse import ArgumentParser
from pathlib import Path

from vit_perception.recordings.reader import BagReader
from vit_perception.recordings.writer import BagWriter

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = tuple(ROOT / "data/demo" / name for name in ("pick_place_train", "pick_place_demo"))
LONGEST_S = 2.5
DAY_NS = 86_400_000_000_000
# Little-endian CDR: after four bytes, std_msgs/Header begins with seconds and nanoseconds.
STAMP = struct.Struct("<4xiI")
WITH_HEADER = ("sensor_msgs/msg/CompressedImage", "geometry_msgs/msg/PoseStamped")


def make_bags(folder: Path, count: int, seconds: float = LONGEST_S) -> list[Path]:
    """Write ``count`` bags of up to ``seconds``, no two alike, and return their paths in order.

    Every fifth bag begins again in the middle: its stamps jump back, so that it has two episodes.
    """
    made = []
    for number in range(count):
        path = folder / f"bag_{number:03d}"
        if not path.exists():
            with BagReader(DEMO[number % 2]) as bag:
                _cut(bag, path, number, seconds)
        made.append(path)
    return made


def _cut(bag: BagReader, path: Path, number: int, seconds: float) -> None:
    span_ns = round(seconds * 1e9)
    begin_ns = bag.start_ns + (number * 370_000_000) % (bag.end_ns - bag.start_ns - span_ns)
    end_ns = begin_ns + span_ns - (number % 4) * span_ns // 8
    back_ns = 5_000_000_000 if number % 5 == 4 else 0
    with BagWriter(path) as cut:
        for message in bag.raw(list(bag.topics), begin_ns, end_ns):
            later = message.stamp_ns >= (begin_ns + end_ns) // 2
            shift_ns = number * DAY_NS - (back_ns if later else 0)
            data = message.data
            if message.type_name in WITH_HEADER:
                seconds_, rest_ns = STAMP.unpack_from(data)
                stamp_ns = seconds_ * 1_000_000_000 + rest_ns + shift_ns
                data = data[:4] + struct.pack("<iI", *divmod(stamp_ns, 1_000_000_000)) + data[12:]
            # Recorded in order, as a recorder does.
            cut.write(
                message.topic, message.type_name, bytes(data), message.stamp_ns + number * DAY_NS
            )


if __name__ == "__main__":
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=40)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    print(*make_bags(given.folder, given.count), sep="\n")
