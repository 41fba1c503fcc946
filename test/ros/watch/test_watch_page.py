"""The page of `vit-perception watch --web` in a browser: it shows the robot, and asks this
machine alone.
"""

import array
import io
import itertools
import os
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image as Picture

from test.chromium import Browser, chromium
from test.ros.conftest import image_message, stamped_pose
from test.ros.health.test_situations import ARM
from test.ros.watch.watching import Watch
from test.waiting import PROGRAM_S, wait_until

S = 1_000_000_000
# Colours that the viewer itself does not use.
MAGENTA, CYAN = (255, 0, 255), (0, 255, 255)
KEEP = os.environ.get("VIT_PERCEPTION_SCREENSHOT")  # a file for the picture, for people


@pytest.fixture(scope="module", autouse=True)
def browser_is_there():
    chromium()


def halves(stamp_ns: int):
    """An image of two halves."""
    message = image_message(stamp_ns, size_px=(120, 160), encoding="rgb8")
    pixels = np.empty((120, 160, 3), np.uint8)
    pixels[:, :80], pixels[:, 80:] = MAGENTA, CYAN
    message.data = array.array("B", pixels.tobytes())
    return message


def share_of(picture: bytes, colour: tuple[int, int, int]) -> float:
    pixels = np.asarray(Picture.open(io.BytesIO(picture)).convert("RGB")).astype(int)
    return float(np.mean(np.abs(pixels - colour).max(axis=-1) < 16))


def test_the_page_shows_the_image_and_asks_this_machine_alone(rig, tiny_classifier, tmp_path):
    robot = rig(**ARM, poses__arm__wait_s=0.0, model__checkpoint=str(tiny_classifier))
    robot.activate()
    numbers = itertools.count(1)

    def live() -> None:
        number = next(numbers)
        stamp_ns = 100 * S + number * S // 20
        robot.publish("/ee_pose", stamped_pose(stamp_ns, x_m=0.01 * (number % 40)))
        robot.publish("/wrist/image", halves(stamp_ns))
        robot._testers.spin_once(timeout_sec=0.05)

    watch = Watch(tmp_path, "--rate-hz", "2")
    try:
        with Browser(tmp_path / "profile") as page:
            page.open(watch.url)
            shot = wait_until(
                lambda: (
                    min(share_of(picture := page.screenshot(), c) for c in (MAGENTA, CYAN)) > 0.005
                    and picture
                ),
                "the image on the page",
                lambda: f"{page.said[-20:]}\n{watch.tail()}",
                step=live,
                limit_s=PROGRAM_S,
            )
            if KEEP:
                Path(KEEP).write_bytes(shot)
            own = {f"127.0.0.1:{port}" for port in (watch.web_port, watch.data_port)}
            asked = {urlsplit(url).netloc for url in page.requests if url.startswith("http")}
            assert own <= asked and page.answered <= own
            # What Rerun's page would have asked is refused by the browser itself.
            assert asked - own <= page.refused
    finally:
        assert watch.stop() == 0
