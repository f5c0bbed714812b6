"""H.264 (RFC 6184, packetization mode 1) and H.265 (RFC 7798) in RTP."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from gateway.media import h264, h265, nal

_Unit: TypeAlias = bytes | memoryview

_STAP_A: Final = 24  # RFC 6184 §5.2
_FU_A: Final = 28
_AGGREGATION: Final = 48  # RFC 7798 §4.4
_FRAGMENTATION: Final = 49
_START: Final = 0x80
_END: Final = 0x40

# Receivers need no delimiters and no filler data. Type 0 and the types above 23 or 47 mean packets of RTP itself.
_H264_SENT: Final = frozenset(range(1, 24)) - {h264.AUD, 12}
_H265_SENT: Final = frozenset(range(48)) - {h265.AUD, 38}


class H264Packetizer:
    """Puts the parameter sets of the configuration before key frames without them.

    Consecutive small units share a packet (STAP-A). A unit above the limit becomes as few fragments (FU-A) as
    possible, of equal length except the last. They take the length of the packet before them if that costs no more
    packets: then one `sendmsg` sends all. There is no RTP padding. It would save a sixth of the calls for pictures of
    several slices, and no call for pictures of one slice.

    config: the avcC record. Raises InvalidData.
    """

    __slots__ = ("_length_size", "_sets")

    def __init__(self, config: bytes) -> None:
        record = h264.parse_avcc(config)
        self._length_size = record.length_size
        self._sets = (*record.sps, *record.pps)

    def for_burst(self, pictures: int) -> H264Packetizer:
        return self

    def split(self, unit_payload: bytes, limit: int, key: bool) -> list[bytes]:
        units: list[_Unit] = [u for u in nal.views(unit_payload, self._length_size) if u[0] & 0x1F in _H264_SENT]
        if key and not {h264.SPS, h264.PPS} <= {u[0] & 0x1F for u in units}:
            units = [*self._sets, *units]
        payloads: list[bytes] = []
        for group in _groups(units, limit, 1):
            unit = group[0]
            if len(group) > 1:
                # §5.7.1: F is set if one unit has it, NRI is the highest.
                reference = max(u[0] & 0x60 for u in group)
                forbidden = 0x80 if any(u[0] & 0x80 for u in group) else 0
                payloads.append(_aggregate(bytes((forbidden | reference | _STAP_A,)), group))
            elif len(unit) <= limit:
                payloads.append(bytes(unit))
            else:
                first = unit[0]
                _fragment(unit[1:], bytes((first & 0xE0 | _FU_A,)), first & 0x1F, limit, payloads)
        return payloads


class H265Packetizer:
    """Like H264Packetizer, with aggregation packets and fragmentation units, without decoding order numbers.

    config: the hvcC record. Raises InvalidData.
    """

    __slots__ = ("_length_size", "_sets")

    def __init__(self, config: bytes) -> None:
        record = h265.parse_hvcc(config)
        self._length_size = record.length_size
        self._sets = (*record.vps, *record.sps, *record.pps)

    def for_burst(self, pictures: int) -> H265Packetizer:
        return self

    def split(self, unit_payload: bytes, limit: int, key: bool) -> list[bytes]:
        units: list[_Unit] = [
            u for u in nal.views(unit_payload, self._length_size) if len(u) > 1 and u[0] >> 1 & 0x3F in _H265_SENT
        ]
        if key and not {h265.VPS, h265.SPS, h265.PPS} <= {u[0] >> 1 & 0x3F for u in units}:
            units = [*self._sets, *units]
        payloads: list[bytes] = []
        for group in _groups(units, limit, 2):
            unit = group[0]
            if len(group) > 1:
                # §4.4.2: F is set if one unit has it; layer and temporal id are the lowest.
                forbidden = max(u[0] & 0x80 for u in group)
                layer = min((u[0] & 1) << 5 | u[1] >> 3 for u in group)
                temporal = min(u[1] & 7 for u in group)
                head = bytes((forbidden | _AGGREGATION << 1 | layer >> 5, (layer & 31) << 3 | temporal))
                payloads.append(_aggregate(head, group))
            elif len(unit) <= limit:
                payloads.append(bytes(unit))
            else:
                first, second = unit[0], unit[1]
                head = bytes((first & 0x81 | _FRAGMENTATION << 1, second))
                _fragment(unit[2:], head, first >> 1 & 0x3F, limit, payloads)
        return payloads


def _groups(units: Iterable[_Unit], limit: int, header: int) -> Iterable[Sequence[_Unit]]:
    """Yields units that share a packet. A unit above the limit is alone. header: bytes of the aggregation header."""
    group: list[_Unit] = []
    size = header
    for unit in units:
        more = 2 + len(unit)
        if group and size + more > limit:
            yield group
            group, size = [], header
        group.append(unit)
        size += more
    if group:
        yield group


def _aggregate(head: bytes, units: Sequence[_Unit]) -> bytes:
    parts: list[_Unit] = [head]
    for unit in units:
        parts += (len(unit).to_bytes(2, "big"), unit)
    return b"".join(parts)


def _fragment(data: _Unit, head: bytes, kind: int, limit: int, payloads: list[bytes]) -> None:
    """Adds the fragments of a unit to `payloads`. data: the unit without its header. kind: its type."""
    overhead = len(head) + 1
    end = len(data)
    count = -(-end // (limit - overhead))
    step = -(-end // count)
    if payloads:
        previous = len(payloads[-1]) - overhead
        if step < previous and -(-end // previous) == count:
            step = previous
    middle = head + bytes((kind,))
    last = (count - 1) * step
    payloads.append(head + bytes((_START | kind,)) + data[:step])
    payloads += [middle + data[at : at + step] for at in range(step, last, step)]
    payloads.append(head + bytes((_END | kind,)) + data[last:])
