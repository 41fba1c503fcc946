"""Whether pictures of an H.264 video are missing, by the numbers in the stream itself.

A decoder bridges a gap with copies of other pictures, and says nothing. ``frame_num`` of a slice
header (ITU-T H.264, 7.4.3) grows by one from one reference picture to the next. Decoders of other
codecs mostly fail where a picture that others refer to is missing (docs/cameras.md).
"""

from collections.abc import Iterator
from typing import NamedTuple

_SLICE, _IDR, _SPS, _PPS = 1, 5, 7, 8
_START_CODE = b"\0\0\1"
_MOST_UNITS = 64  # of a packet, that are looked at: the first slice comes early
_MOST_BYTES = 512  # of a unit: its head
# Profiles whose SPS says more of colours.
_HIGH_PROFILES = {100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135}
_MOST_SETS = 32  # SPS or PPS that a stream may have, by the standard 32 and 256


class _Sps(NamedTuple):
    frame_num_bits: int
    gaps_allowed: bool
    separate_planes: bool


class _Bits:
    """Reads the bits of a unit from the first one on."""

    def __init__(self, unit: bytes):
        # 00 00 03 stands for 00 00 inside a unit.
        raw = unit[:_MOST_BYTES].replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(raw, "big")
        self._left = 8 * len(raw)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("the unit ends in its head")
        return (self._value >> self._left) & ((1 << count) - 1)

    def exp_golomb(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 31:
                raise ValueError("a number of more than 32 bits")
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        value = self.exp_golomb()
        return (value + 1) // 2 if value % 2 else -(value // 2)


class FrameNumbers:
    """Follows the numbers of one stream. What it cannot read it leaves to the decoder."""

    def __init__(self) -> None:
        self._sps: dict[int, _Sps] = {}
        self._sps_of: dict[int, int] = {}  # by PPS
        self._reference: int | None = None  # the number of the latest reference picture

    def forget(self) -> None:
        """The next picture may have any number."""
        self._reference = None

    def gap(self, data: bytes) -> str:
        """Return what is missing before the picture in ``data``; "" if nothing is."""
        try:
            return self._gap(data)
        except ValueError:
            return ""

    def _gap(self, data: bytes) -> str:
        for unit in _units(data):
            kind, is_reference = unit[0] & 31, bool(unit[0] & 0x60)
            if kind == _SPS:
                self._take_sps(unit)
            elif kind == _PPS:
                bits = _Bits(unit[1:])
                pps = bits.exp_golomb()
                if len(self._sps_of) < _MOST_SETS * 8 or pps in self._sps_of:
                    self._sps_of[pps] = bits.exp_golomb()
            elif kind in (_SLICE, _IDR):
                return self._slice(unit, kind == _IDR, is_reference)
        return ""

    def _slice(self, unit: bytes, is_idr: bool, is_reference: bool) -> str:
        bits = _Bits(unit[1:])
        bits.exp_golomb()  # first macroblock
        bits.exp_golomb()  # type
        sps = self._sps.get(self._sps_of.get(bits.exp_golomb(), -1))
        if sps is None:
            return ""
        if sps.separate_planes:
            bits.take(2)
        number = bits.take(sps.frame_num_bits)
        before, count = self._reference, 1 << sps.frame_num_bits
        if is_reference:
            self._reference = number
        if before is None or is_idr or sps.gaps_allowed:
            return ""
        if number not in (before, (before + 1) % count):
            return f"frame_num goes from {before} to {number}"
        return ""

    def _take_sps(self, unit: bytes) -> None:
        profile = unit[1] if len(unit) > 3 else 0
        bits = _Bits(unit[4:])
        name = bits.exp_golomb()
        separate = False
        if profile in _HIGH_PROFILES:
            chroma = bits.exp_golomb()
            separate = chroma == 3 and bool(bits.take(1))
            bits.exp_golomb()
            bits.exp_golomb()
            bits.take(1)
            if bits.take(1):
                for index in range(12 if chroma == 3 else 8):
                    if bits.take(1):
                        _skip_scaling_list(bits, 16 if index < 6 else 64)
        frame_num_bits = bits.exp_golomb() + 4
        order = bits.exp_golomb()  # kind of picture order count
        if order == 0:
            bits.exp_golomb()
        elif order == 1:
            bits.take(1)
            bits.signed()
            bits.signed()
            for _ in range(min(255, bits.exp_golomb())):
                bits.signed()
        bits.exp_golomb()  # number of reference pictures
        gaps = bool(bits.take(1))
        if frame_num_bits <= 16 and (len(self._sps) < _MOST_SETS or name in self._sps):
            self._sps[name] = _Sps(frame_num_bits, gaps, separate)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _units(data: bytes) -> Iterator[bytes]:
    """Yield the heads of the units behind start codes (ITU-T H.264, annex B), without those."""
    at = data.find(_START_CODE)
    for _ in range(_MOST_UNITS):
        if at < 0:
            return
        begin = at + len(_START_CODE)
        end = data.find(_START_CODE, begin, begin + _MOST_BYTES)
        if unit := data[begin : begin + _MOST_BYTES if end < 0 else end]:
            yield unit
        at = data.find(_START_CODE, begin)
