"""Divides a transport stream of any sender into packets, and checks the continuity of each PID (§2.4.3.2)."""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.media.clock import VIDEO_CLOCK

PACKET: Final = 188
HALF33: Final = 1 << 32
MASK33: Final = (1 << 33) - 1

_SYNC: Final = b"\x47"
# From one packet to the next: 188 bytes; 192 with a time before each packet (ITU-T H.222.0 §2.4.3.2 has no such form,
# Blu-ray and some cameras have); 204 with 16 bytes of parity behind it (ETSI EN 300 429).
_STRIDES: Final = (PACKET, 192, 204)
# Three sync bytes in the distance of packets: one alone is often a byte of the media.
_ALIGNED: Final = re.compile(b"|".join(rb"(\x47)(?=.{%d}\x47.{%d}\x47)" % (s - 1, s - 1) for s in _STRIDES), re.DOTALL)
_HEAD: Final = 12
_ALIGNED_SIZE: Final = 2 * _STRIDES[-1] + 1
_UNPACK: Final = struct.Struct(">I184s").iter_unpack
# Packets in a row that show that the counter of a PID does not obey §2.4.3.3: it stands still, or it counts packets
# without payload, too.
_SAME, _COUNTED = 8, 3
# Bits of the four bytes before a packet's body, read as one number.
_ERROR, _START, _SCRAMBLED, _ADAPTATION, _PAYLOAD = 0x80_0000, 0x40_0000, 0xC0, 0x20, 0x10
# Bits of the adaptation field (§2.4.3.4).
_DISCONTINUITY, _PCR, _OPCR, _SPLICE, _VARIABLE = 0x80, 0x10, 0x08, 0x04, 0x03


@dataclass(slots=True)
class TsCounters:
    """Counts the errors in the selected program and its tables.

    continuity_errors: gaps in the counters of a PID. transport_errors: packets that are marked as damaged or whose
    adaptation field exceeds them. scrambled: packets. duplicates: packets that came twice, which is allowed.
    sync_losses: places without sync byte. crc_errors: sections. damaged: PES packets or frames that were dropped.
    broken_pictures: those of pictures, whose content could not be read.
    """

    continuity_errors: int = 0
    transport_errors: int = 0
    scrambled: int = 0
    duplicates: int = 0
    sync_losses: int = 0
    crc_errors: int = 0
    damaged: int = 0
    broken_pictures: int = 0


class PidReader:
    """Takes the payloads of one PID. This class ignores them: it is used for a PID that has only the clock.

    expected: the head of the next packet if it has payload only and starts nothing; -1 before the first packet.
    append: called with the payload of such a packet. repeated: the last payload that came twice; b"": none did.
    same, counted: packets in a row whose counter is that of the packet before, and without payload but counted.
    """

    __slots__ = ("append", "counted", "expected", "repeated", "same")

    def __init__(self) -> None:
        self.expected = -1
        self.repeated = b""
        self.same = self.counted = 0
        self.append: Callable[[bytes], object] = ignore

    def take(self, payload: bytes, start: bool, stuffed: bool) -> None:
        """Takes a payload that may start something. stuffed: whether its packet is filled up with stuffing."""

    def settle(self) -> None:
        """Finishes what the payloads given to `append` have completed. It is called before any other packet."""

    def last_payload(self) -> bytes | None:
        """Returns the payload before; None if it is not known."""
        return None

    def lose(self) -> None:
        """Drops what has begun: packets are missing."""

    def scramble(self) -> None:
        """Learns that the PID is scrambled."""


class ProgramClock:
    """Finds jumps of a program's clock. pid: of the PCR. generation: grows with each jump."""

    __slots__ = ("_last", "generation", "pid")

    _AHEAD: Final = 10 * VIDEO_CLOCK  # a gap of lost packets may be as long
    _BEHIND: Final = VIDEO_CLOCK

    def __init__(self) -> None:
        self.pid = -1
        self.generation = 0
        self._last: int | None = None

    def read_pcr(self, base: int, marked: bool) -> None:
        """Reads `program_clock_reference_base` (§2.4.3.5). marked: `discontinuity_indicator`."""
        ahead = 0 if self._last is None else wrapped_distance(base, self._last)
        if marked or not -self._BEHIND <= ahead <= self._AHEAD:
            self.generation += 1
        self._last = base


class PacketReader:
    """Gives the payloads of known PIDs to their readers. Other PIDs are ignored. Raises nothing.

    A packet is 188 bytes. What some senders add to each packet is left out.
    unusual: packets so far that were not the plain continuation of the packet before. It serves as a clock for limits.
    """

    def __init__(self, counters: TsCounters, clock: ProgramClock) -> None:
        self.pids: dict[int, PidReader] = {}
        self.unusual = 0
        self._counters = counters
        self._clock = clock
        self.head = b""  # the first bytes of what is not divided into packets
        self._rest = b""
        self._synced = False
        self._stride = PACKET
        self._current = PidReader()

    def receive(self, data: bytes) -> None:
        """Reads bytes, cut anywhere. Hot path: a call costs as much as five packets."""
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while True:
            if not self._synced:
                self.head = self.head or data[:_HEAD]
                match = _ALIGNED.search(data, at)
                if match is None:
                    at = max(at, size - _ALIGNED_SIZE + 1)
                    break
                at, self._synced = match.start(), True
                self._stride = _STRIDES[(match.lastindex or 1) - 1]
            stride = self._stride
            syncs = data[at : at + (size - at) // stride * stride : stride]
            end = at + stride * (len(syncs) - len(syncs.lstrip(_SYNC)))
            if stride == PACKET:
                self._read_packets(data if end - at == size else data[at:end])
            else:
                self._read_packets(_packets(data[at:end], stride))
            at = end
            if at == size or (data[at : at + 1] == _SYNC and size - at < stride):
                break
            self._synced = False
            self._counters.sync_losses += 1
        self._rest = data[at:]

    def finish(self) -> None:
        """Reads the last packets, which are too few to be sure of their sync bytes."""
        start = 0 if self._synced else self._rest.find(_SYNC)
        packets = _packets(self._rest[start:], self._stride) if start >= 0 else b""
        packets = packets[: len(packets) // PACKET * PACKET]
        if packets[::PACKET] == _SYNC * (len(packets) // PACKET):
            self._read_packets(packets)
        self._rest, self._synced, self._stride = b"", False, PACKET

    def _read_packets(self, data: bytes) -> None:
        """Reads whole packets. Most of them continue the packet before, and their head is known. Hot path."""
        current = self._current
        expected, append = current.expected, current.append
        for head, body in _UNPACK(data):
            if head == expected:
                append(body)
                expected = head + 1 if head & 15 != 15 else head - 15
            else:
                current.expected = expected
                current.settle()
                current = self._read_packet(head, body, current)
                expected, append = current.expected, current.append
        current.expected = expected
        current.settle()
        self._current = current

    def _read_packet(self, head: int, body: bytes, current: PidReader) -> PidReader:
        """Reads any packet. Returns the reader of its PID, or `current` if nothing was given to it."""
        self.unusual += 1
        pid = head >> 8 & 0x1FFF
        reader = self.pids.get(pid)
        if reader is None:
            return current
        if head & _ERROR:
            self._counters.transport_errors += 1
            return current
        marked = stuffed = False
        payload = body
        if head & _ADAPTATION:
            size = body[0]
            if size >= PACKET - 4:
                self._counters.transport_errors += 1
                return current
            flags = body[1] if size else 0
            if flags & _PCR and pid == self._clock.pid and size >= 7:
                self._clock.read_pcr(int.from_bytes(body[2:7], "big") >> 7, bool(flags & _DISCONTINUITY))
            marked, stuffed = bool(flags & _DISCONTINUITY), _is_stuffed(flags, size)
            payload = body[size + 1 :]
        if head & _SCRAMBLED:
            self._counters.scrambled += 1
            reader.expected = -1
            reader.scramble()
            return current
        if not head & _PAYLOAD and reader.expected >= 0:
            _skip_counted(reader, head)
        if head & _PAYLOAD and payload and self._continues(reader, head, payload, marked):
            reader.expected = 0x4700_0010 | pid << 8 | head + 1 & 15
            reader.take(payload, bool(head & _START), stuffed)
            return reader
        return current

    def _continues(self, reader: PidReader, head: int, payload: bytes, marked: bool) -> bool:
        """Checks the continuity counter (§2.4.3.3). Returns False for a packet that came twice."""
        expected = reader.expected
        if expected < 0 or not (head ^ expected) & 15:
            reader.repeated, reader.same = b"", 0
            return True
        is_same = not (head + 1 ^ expected) & 15
        if is_same and reader.same >= _SAME:
            return True
        if is_same and payload == reader.last_payload() and payload != reader.repeated:
            reader.repeated = payload
            self._counters.duplicates += 1
            return False
        reader.same = reader.same + 1 if is_same else 0
        if not marked:
            self._counters.continuity_errors += 1
        reader.lose()
        return True


def _skip_counted(reader: PidReader, head: int) -> None:
    """Expects the number behind that of a packet without payload, if the sender counts such packets."""
    if not (head ^ reader.expected) & 15:  # or one packet is lost
        reader.counted += 1
        if reader.counted > _COUNTED:
            reader.expected = reader.expected & ~15 | reader.expected + 1 & 15
    elif not (head + 1 ^ reader.expected) & 15:
        reader.counted = 0


def _packets(data: bytes, stride: int) -> bytes:
    """Returns the packets of data that have more than packets."""
    return b"".join([data[at : at + PACKET] for at in range(0, len(data), stride)])


def has_packets(data: bytes) -> bool:
    """Returns whether bytes are a transport stream, which may begin inside of a packet. They are 612 or more."""
    return _ALIGNED.search(data) is not None


def ignore(payload: bytes) -> None:
    """Ignores a payload."""


def wrapped_distance(value: int, near: int) -> int:
    """Returns how far a 33-bit value is ahead of another one, from -2**32 to 2**32 - 1."""
    return ((value - near + HALF33) & MASK33) - HALF33


def unwrapped(value: int, near: int) -> int:
    """Returns the time of a 33-bit value: the one that is nearest to the time `near`."""
    return near + wrapped_distance(value, near)


def _is_stuffed(flags: int, size: int) -> bool:
    """Whether an adaptation field has stuffing. False if it has parts of variable size, which may be the reason."""
    used = 1 + 6 * bool(flags & _PCR) + 6 * bool(flags & _OPCR) + bool(flags & _SPLICE)
    return not flags or (not flags & _VARIABLE and size > used)
