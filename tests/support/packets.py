"""A simple reader of transport stream packets that checks details which ffmpeg tolerates."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Packet:
    """One packet of 188 bytes."""

    pid: int
    start: bool
    counter: int
    has_payload: bool
    pcr: int | None
    random_access: bool
    payload: bytes


def packets(data: bytes) -> list[Packet]:
    """Reads the packets of `data` and asserts the rules of §2.4.3 of ISO/IEC 13818-1."""
    assert len(data) % 188 == 0
    found = []
    for at in range(0, len(data), 188):
        packet = data[at : at + 188]
        assert packet[0] == 0x47, f"no sync byte at {at}"
        assert not packet[1] & 0x80
        control = packet[3] >> 4
        assert control in (1, 2, 3), f"scrambled or reserved at {at}"
        payload, pcr, random_access = 4, None, False
        if control & 2:
            length = packet[4]
            assert length == 183 if control == 2 else length <= 182
            payload = 5 + length
            if length:
                flags = packet[5]
                random_access = bool(flags & 0x40)
                used = 6
                if flags & 0x10:
                    clock = int.from_bytes(packet[6:12], "big")
                    assert clock >> 9 & 0x3F == 0x3F
                    assert clock & 0x1FF == 0
                    pcr, used = clock >> 15, 12
                assert not flags & 0x2F
                assert set(packet[used:payload]) <= {0xFF}, "stuffing is 0xFF"
        pid = int.from_bytes(packet[1:3], "big") & 0x1FFF
        start = bool(packet[1] & 0x40)
        found.append(Packet(pid, start, packet[3] & 15, bool(control & 1), pcr, random_access, packet[payload:]))
    return found


def assert_counters(found: list[Packet]) -> None:
    """Asserts that the counter of each PID increases only with packets that have payload."""
    last: dict[int, int] = {}
    for n, packet in enumerate(found):
        before = last.get(packet.pid)
        if before is not None:
            wanted = before + 1 & 15 if packet.has_payload else before
            assert packet.counter == wanted, f"packet {n} of PID {packet.pid:#x}: {packet.counter} after {before}"
        last[packet.pid] = packet.counter


@dataclass(frozen=True)
class Pes:
    """One reassembled PES packet. Times are in ticks of 90 kHz."""

    stream_id: int
    pts: int
    dts: int
    payload: bytes


def pes(found: list[Packet], pid: int) -> list[Pes]:
    """The PES packets of one PID."""
    whole: list[bytearray] = []
    for packet in found:
        if packet.pid == pid and packet.has_payload:
            if packet.start:
                whole.append(bytearray())
            whole[-1] += packet.payload
    return [_pes(bytes(data)) for data in whole]


def _pes(data: bytes) -> Pes:
    assert data[:3] == b"\x00\x00\x01"
    length = int.from_bytes(data[4:6], "big")
    assert length in (0, len(data) - 6)
    assert data[6] >> 6 == 2
    size = data[8]
    stamps = [_stamp(data[at : at + 5]) for at in range(9, 9 + size, 5)]
    assert data[7] >> 6 == {1: 2, 2: 3}[len(stamps)]
    assert data[9] >> 4 == data[7] >> 6
    return Pes(data[3], stamps[0], stamps[-1], data[9 + size :])


def _stamp(data: bytes) -> int:
    assert data[0] & data[2] & data[4] & 1, "marker bits"
    return (
        (data[0] >> 1 & 7) << 30 | int.from_bytes(data[1:3], "big") >> 1 << 15 | int.from_bytes(data[3:5], "big") >> 1
    )
