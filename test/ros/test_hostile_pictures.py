"""Pictures that crashed, filled or held up the node: each is a counted drop, and the next good one
is published.

It takes a second for each: that is how often the node's books go out.
"""

import array

import cv2
import numpy as np

from test.fuzz.picture_seeds import png, png_chunk
from test.image.test_compressed import damages, photo
from test.image.test_jpeg_file import progressive, scan
from test.ros.conftest import MILLISECOND_NS, CompressedImage
from vit_perception.ros.messages import header_of

STAMP_NS = 5_000_000_000
GOOD = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1].tobytes()
END = png_chunk(b"IEND", b"")
HOSTILE = {
    "an animation": ("decode", png(6, 8, 0, (b"acTL", b"fcTL", b"fdAT"))),
    "an end of 4 GB": ("short_data", png(2, 8, 0).replace(END, b"\xff\xff\xff\xf0IEND")),
    "thousands of scans": ("decode", progressive(scan(0, 0, 0, 0), *[scan(1, 63, 0, 0)] * 5000)),
    "a marker without length": (
        "size",
        GOOD.replace(b"\x00\x30\x00\x40", b"\x7d\x00\x7d\x00").replace(
            b"\xff\xdb", b"\xff\x01\xff\xdb", 1
        ),
    ),
    "half lost": ("decode", damages(photo("baseline"))["half lost"]),
}


def test_hostile_pictures_are_counted_drops(rig, capfd):
    robot = rig(cameras__wrist__transport="compressed")
    robot.activate()
    capfd.readouterr()
    counts: dict[str, int] = {}
    for number, (reason, data) in enumerate(HOSTILE.values()):
        counts[f"dropped__{reason}"] = counts.get(f"dropped__{reason}", 0) + 1
        send(robot, STAMP_NS + number * MILLISECOND_NS, data)
        robot.accounts("wrist", received=number + 1, published=0, **counts)
    end_ns = STAMP_NS + len(HOSTILE) * MILLISECOND_NS
    send(robot, end_ns, GOOD)
    robot.frame(end_ns)
    robot.accounts("wrist", received=len(HOSTILE) + 1, published=1, pending=0, **counts)
    printed = capfd.readouterr().err
    # The node's own warning names what libjpeg found; the libraries themselves print nothing.
    assert (
        "Corrupt JPEG" not in printed.replace("does not decode: Corrupt JPEG", "")
        and "libpng" not in printed
    )


def send(robot, stamp_ns: int, data: bytes) -> None:
    message = CompressedImage(header=header_of(stamp_ns, "camera"), format="jpeg")
    message.data = array.array("B", data)
    robot.publish("/wrist/image", message)
