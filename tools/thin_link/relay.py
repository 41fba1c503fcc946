"""Passes packets between two TUN devices that it makes, each later and some not at all.

    relay.py DEVICE DEVICE DELAY_MS LOSS_PERCENT multicast|unicast

It prints `ready` when the devices are there, and runs until it is killed. The same packets are lost
in each run: the count of packets decides, by a generator with a fixed seed.
"""

import contextlib
import fcntl
import os
import random
import selectors
import struct
import sys
import time
from collections import deque
from typing import NamedTuple

# linux/if_tun.h: make a device; packets of layer 3; without four bytes before each.
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
LARGEST_PACKET = 65_536


class Waiting(NamedTuple):
    """A packet on its way."""

    due_s: float  # monotonic
    packet: bytes
    to: int  # descriptor of the device that gets it


def opened(device: str) -> int:
    """Make the TUN ``device`` and return its descriptor, which is read without waiting."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TUN | IFF_NO_PI))
    return descriptor


def is_multicast(packet: bytes) -> bool:
    """Whether an IP packet goes to a group: IPv4 addresses from 224 on, IPv6 addresses with FF."""
    if packet[0] >> 4 == 6:
        return packet[24] == 0xFF
    return packet[16] >> 4 == 0xE


def relay(one: int, other: int, delay_s: float, loss: float, multicast: bool) -> None:
    """Pass packets both ways, ``delay_s`` after they came, but a share of ``loss``.

    Without ``multicast`` only those to one receiver pass.
    """
    chance = random.Random(0)
    peers = {one: other, other: one}
    waiting: deque[Waiting] = deque()  # the delay is one, so they are in order
    selector = selectors.DefaultSelector()
    for device in peers:
        selector.register(device, selectors.EVENT_READ)
    while True:
        wait_s = max(0.0, waiting[0].due_s - time.monotonic()) if waiting else None
        for key, _ in selector.select(wait_s):
            for packet in _packets(key.fd):
                if chance.random() >= loss and (multicast or not is_multicast(packet)):
                    due_s = time.monotonic() + delay_s
                    waiting.append(Waiting(due_s, packet, peers[key.fd]))
        while waiting and waiting[0].due_s <= time.monotonic():
            each = waiting.popleft()
            # A device that is not up yet takes none: lost, as on a radio.
            with contextlib.suppress(OSError):
                os.write(each.to, each.packet)


def _packets(device: int):
    """Yield what has come, as long as there is some; a device that is down gives an error."""
    with contextlib.suppress(OSError):
        while True:
            yield os.read(device, LARGEST_PACKET)


if __name__ == "__main__":
    ends = opened(sys.argv[1]), opened(sys.argv[2])
    print("ready", flush=True)
    relay(
        *ends,
        delay_s=float(sys.argv[3]) / 1e3,
        loss=float(sys.argv[4]) / 100,
        multicast=sys.argv[5] == "multicast",
    )
