"""A few numbers in a file that two processes map: what a sensor shall do, and how much it has sent.

Memory, not messages: the counts outlive a kill -9, and an order takes effect at the next message.
"""

from pathlib import Path

import numpy as np

ORDERS = (
    "paused",
    "offset_ns",
    "damage_every",
    "damage_kind",
    "flood",
    "half_size",
    "not_a_number",
)
COUNTS = ("sent", "damaged", "begun_ns")


class Board:
    """``orders`` are written by the harness, ``counts`` by the sensor; each name is an int64.

    From its tick number ``paused`` on a sensor sends nothing (0: it does), so cameras stop with the
    same one, as with their trigger; ``offset_ns`` is added to the stamps; ``damage_every`` N
    damages each Nth image, with ``damage_kind`` 0 damage, 1 crash pictures, 2 slow pictures
    (compressed cameras only); ``flood`` N sends N bad messages with each tick (a compressed camera:
    hostile pictures; an arm: poses 1 ns apart, frame ids of 1 MB); ``half_size`` 1 halves the
    images; ``not_a_number`` 1 sends NaN poses. ``sent`` counts what was handed to DDS (just before,
    so that none is missed in a kill), ``damaged`` those of them that were damaged, ``begun_ns`` is
    the wall clock at the first message of the present process.
    """

    def __init__(self, path: Path):
        kind = np.dtype([(name, np.int64) for name in ORDERS + COUNTS])
        self._numbers = np.memmap(path, kind, "r+" if path.exists() else "w+", shape=(1,))

    def __getitem__(self, name: str) -> int:
        return int(self._numbers[name][0])

    def __setitem__(self, name: str, value: int) -> None:
        self._numbers[name][0] = value
