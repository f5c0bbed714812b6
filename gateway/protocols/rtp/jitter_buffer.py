"""JitterBuffer: puts the packets of one source in order, and waits for missing ones until they are given up."""

from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.protocols.rtp.nack_list import MAX_MISSING, NackList
from gateway.protocols.rtp.packets import RtpPacket

# Packets behind a missing one: a second at 40 Mbit/s. Beyond these bounds, the oldest missing packet is given up.
MAX_PACKETS: Final = 4_096
MAX_BYTES: Final = 6_000_000
_CYCLE: Final = 1 << 16  # sequence numbers


@dataclass(frozen=True, slots=True)
class Lost:
    """A gap in the packets.

    packets: how many are missing here and were given up.
    """

    packets: int


Ordered: TypeAlias = "RtpPacket | Lost"


class JitterBuffer:
    """Numbers are extended sequence numbers. A packet is returned at once if no packet before it is missing.

    If the gap before a packet is larger than the list of missing packets allows, everything before it is given up.

    next: the number of the packet that is returned next; -1 before the first packet.
    """

    __slots__ = ("_bytes", "_held", "_highest", "_missing", "late", "next")

    def __init__(self, missing: NackList) -> None:
        self._missing = missing
        self.next = -1  # every number from here to the highest is missing or held
        self._highest = -1  # the highest number that has come; -1: none
        self._held: dict[int, RtpPacket] = {}
        self._bytes = 0
        self.late = 0  # packets that came twice, or after they were given up

    def push(self, number: int, packet: RtpPacket, now: float) -> list[Ordered]:
        """Returns the packets and gaps that are in order now. Hot path."""
        following = self.next
        if number == following:
            self.next = number + 1
            if number > self._highest:  # nothing is missing
                self._highest = number
                return [packet]
            self._missing.arrived(number, now)
            ready: list[Ordered] = [packet]
            self._release(ready)
            return ready
        if following < 0:
            self.next, self._highest = number + 1, number
            return [packet]
        if number < following or number in self._held:
            self.late += 1
            return []
        ready = []
        if number > self._highest:
            if number - self._highest - 1 + len(self._missing) > MAX_MISSING:
                self._give_up(number, ready)
                self.next, self._highest = number + 1, number
                ready.append(packet)
                return ready
            self._missing.add(self._highest + 1, number, now)
            self._highest = number
        else:
            self._missing.arrived(number, now)
        self._held[number] = packet
        self._bytes += len(packet.payload)
        while len(self._held) > MAX_PACKETS or self._bytes > MAX_BYTES:
            self._give_up(self.next + 1, ready)
        return ready

    def advance(self, count: int) -> None:
        """Moves the position past packets that came in order; the caller used them without `push`, which is faster.

        No packet may be missing.
        """
        self.next += count
        self._highest += count

    def expire(self, now: float) -> list[Ordered]:
        """Gives up packets that have been missing for too long. Returns the packets and gaps that are then in order."""
        ready: list[Ordered] = []
        while self._missing.expired(now):
            self._give_up(self.next + 1, ready)
        return ready

    def skip_to(self, number: int) -> int:
        """Drops all packets before `number`. Returns how many dropped packets were missing.

        Does nothing if the packet `number` is held already: then the new one is a duplicate.
        """
        if number in self._held:
            return 0
        dropped: list[Ordered] = []
        self._give_up(number, dropped)
        return sum(item.packets for item in dropped if isinstance(item, Lost))

    def _give_up(self, until: int, ready: list[Ordered]) -> None:
        """Appends the packets before `until`, with `Lost` for missing ones, and the packets that follow in order.

        Costs one step for each packet that is held or missing, not for each number.
        """
        lost = 0
        if ready and isinstance(ready[-1], Lost):
            lost = ready.pop().packets  # type: ignore[union-attr]
        number = self.next
        while number < until:
            packet = self._held.pop(number, None)
            if packet is not None:
                self._bytes -= len(packet.payload)
                if lost:
                    ready.append(Lost(lost))
                    lost = 0
                ready.append(packet)
            elif self._missing.give_up(number):
                lost += 1
            else:  # no packet from here on has come
                gap = until - number
                lost += gap if gap < _CYCLE else 1  # the sender began with new numbers, so the count is unknown
                break
            number += 1
        if lost:
            ready.append(Lost(lost))
        self.next = until
        self._highest = max(self._highest, until - 1)
        self._release(ready)

    def _release(self, ready: list[Ordered]) -> None:
        """Appends the packets that are in order now."""
        held, number = self._held, self.next
        while (packet := held.pop(number, None)) is not None:
            self._bytes -= len(packet.payload)
            ready.append(packet)
            number += 1
        self.next = number
