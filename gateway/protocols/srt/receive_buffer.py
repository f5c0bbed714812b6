"""ReceiveBuffer: orders the data packets of a peer, knows what is missing, and delivers each packet at its time.

A packet has one of these states:

- *expected*: its number is greater than all numbers that came (`_highest`).
- *missing*: a later one came. It is in `_missing` with the time at which it is requested again.
- *waiting*: it came and its time has not. It is in `_packets`.
- *passed*: its number is smaller than `_next`. It was delivered, or left out because it did not come in time.

The time of a packet is its time stamp plus `base` plus the latency (§4.5). `base` is our clock minus the clock of the
peer. When the time of a packet has come, all missing ones before it are left out (§4.6).
"""

from typing import Final

from gateway.protocols.srt.packets import HEAD, HEAD_SIZE, KEY_SHIFT, RETRANSMITTED, unwrap_sequence, unwrap_stamp

WINDOW: Final = 8192  # packets from the next one to the greatest number, as libsrt offers by default
_MAX_AHEAD: Final = 10.0  # seconds by which a time stamp may be ahead of its latency; else it is damaged
_LONGEST_TOLERANCE: Final = 0.2  # seconds for which a missing packet may only be out of order
_TOLERANCE_DECAY: Final = 0.998  # per acknowledgement without such a packet: a quarter remains after seven seconds


class ReceiveBuffer:
    """The packets of one connection that are not delivered yet, at most WINDOW.

    first: number of the first packet. base: see above, monotonic seconds. latency: seconds.
    stamp: a time stamp of the peer from before.
    Counters: `received` (packets that were expected or missing), `lost` (missing ones that were requested, came again,
    or were left out), `reordered` (of these: came after all, out of order), `retransmitted`, `dropped` (left out),
    `duplicates`, `refused` (beyond the window, or an impossible time stamp).
    Numbers and time stamps never wrap here.
    """

    __slots__ = (
        "_beyond", "_complete", "_earliest", "_highest", "_last_stamp", "_missing", "_next", "_packets", "base",
        "dropped", "duplicates", "latency", "lost", "received", "refused", "reordered", "retransmitted", "tolerance",
    )  # fmt: skip

    def __init__(self, first: int, base: float, latency: float, stamp: int = 0) -> None:
        self.base = base
        self.latency = latency
        self.tolerance = 0.0  # seconds before a missing packet is requested: the link brings packets out of order
        self._next = self._complete = first
        self._highest = first - 1
        self._beyond = first  # the last number that was beyond the window
        self._last_stamp = stamp
        # By number: time stamp, flags and payload.
        self._packets: dict[int, tuple[int, int, bytes]] = {}
        # By number: when it was missed, when to request it, and whether it is counted as lost.
        self._missing: dict[int, tuple[float, float, bool]] = {}
        self._earliest = float("inf")  # no missing number is to be requested before this time
        self.received = self.lost = self.reordered = self.retransmitted = 0
        self.dropped = self.duplicates = self.refused = 0

    def add(self, datagram: bytes, arrival: float) -> bool:
        """Takes a data packet. Returns whether packets are missing since it came. Hot path.

        arrival: monotonic seconds.
        """
        number, flags, stamp, _ = HEAD.unpack_from(datagram)
        number = unwrap_sequence(number, self._highest)
        stamp = unwrap_stamp(stamp, self._last_stamp)
        if number < self._next or number in self._packets:
            self.duplicates += 1
            return False
        is_ahead = stamp * 1e-6 + self.base - arrival > _MAX_AHEAD
        if is_ahead or (number >= self._next + WINDOW and not self._move_to(number)):
            self.refused += 1
            return False
        gap = number - self._highest - 1
        if gap >= 0:
            self._highest = number
            self._last_stamp = stamp
            if gap:
                request_at = arrival + self.tolerance
                self._earliest = min(self._earliest, request_at)
                for lost in range(number - gap, number):
                    self._missing[lost] = (arrival, request_at, False)
        elif (missed := self._missing.pop(number, None)) is not None:
            if not flags & RETRANSMITTED:  # it was only out of order
                self.reordered += missed[2]
                self.tolerance = min(_LONGEST_TOLERANCE, max(self.tolerance, 1.5 * (arrival - missed[0])))
            elif not missed[2]:
                self.lost += 1
        if flags & RETRANSMITTED:
            self.retransmitted += 1
        self.received += 1
        self._packets[number] = (stamp, flags, datagram[HEAD_SIZE:])
        return gap > 0

    def _move_to(self, number: int) -> bool:
        """Moves the window to a number beyond it, and returns whether it did.

        The numbers of a sender go on during an outage, because it drops what is too late. A damaged packet must move
        nothing. So the packet before must be beyond the window too, less than a window earlier: the new one begins with
        it. While packets wait, the window does not move. Without them, none is missing.
        """
        before, self._beyond = self._beyond, number
        if self._packets or not 0 < number - before < WINDOW:
            return False
        self.dropped += before - self._next
        self.lost += before - self._next
        self._next, self._highest = before, before - 1
        return True

    def due(self, now: float, most: int = WINDOW) -> list[tuple[int, int, bytes]]:
        """Returns the first packets whose time has come: number, key (0: plain) and payload. Hot path."""
        packets, number = self._packets, self._next
        if not packets:
            return []
        last_stamp = (now - self.base - self.latency) * 1e6
        ready: list[tuple[int, int, bytes]] = []
        while len(ready) < most:
            packet = packets.get(number)
            if packet is None:
                if number > self._highest:
                    break
                following = number + 1
                while following not in packets:
                    following += 1
                if packets[following][0] > last_stamp:
                    break
                self._leave_out(number, following)
                number = following
                continue
            if packet[0] > last_stamp:
                break
            ready.append((number, packet[1] >> KEY_SHIFT & 3, packet[2]))
            del packets[number]
            number += 1
        self._next = number
        return ready

    def is_due(self, now: float) -> bool:
        """Whether the time of the next packet has come. False if it is missing."""
        packet = self._packets.get(self._next)
        return packet is not None and packet[0] <= (now - self.base - self.latency) * 1e6

    def leave_out(self, first: int, last: int) -> None:
        """Notes that the sender no longer has these packets (§3.2.9). They are not requested again."""
        for number in range(max(first, self._next), min(last, self._highest) + 1):
            if number in self._missing:
                missed, _, is_counted = self._missing[number]
                self._missing[number] = (missed, float("inf"), is_counted)

    def _leave_out(self, first: int, end: int) -> None:
        self.dropped += end - first
        for number in range(first, end):
            missed = self._missing.pop(number, None)
            if missed is not None and not missed[2]:
                self.lost += 1

    # ---- answers ----

    @property
    def complete(self) -> int:
        """The number of the first packet that is neither here nor passed: what an acknowledgement says (§3.2.4)."""
        number = max(self._complete, self._next)
        packets = self._packets
        while number in packets:
            number += 1
        self._complete = number
        return number

    @property
    def highest(self) -> int:
        """The greatest number that came."""
        return self._highest

    def unwrapped_stamp(self, stamp: int) -> int:
        """Returns a time stamp of 32 bits, near the last data packet."""
        return unwrap_stamp(stamp, self._last_stamp)

    def requests(self, now: float, repeat_after: float) -> list[int]:
        """Returns the missing numbers to request now, in order. Each is due again after `repeat_after` seconds."""
        if self._earliest > now:
            return []
        missing = self._missing
        due = [number for number, (_, at, _) in missing.items() if at <= now]
        for number in due:
            missed, _, is_counted = missing[number]
            self.lost += not is_counted
            missing[number] = (missed, now + repeat_after, True)
        self._earliest = min((at for _, at, _ in missing.values()), default=float("inf"))
        due.sort()
        return due

    @property
    def missing(self) -> int:
        """Number of packets that are missing."""
        return len(self._missing)

    def settle(self) -> None:
        """Lowers the tolerance a little. Called at each acknowledgement."""
        self.tolerance *= _TOLERANCE_DECAY

    @property
    def is_empty(self) -> bool:
        """Whether no packet waits."""
        return not self._packets

    @property
    def free(self) -> int:
        """Packets for which there is room."""
        return WINDOW - (self._highest + 1 - self._next)

    @property
    def waiting_seconds(self) -> float:
        """Seconds of media from the oldest waiting packet to the newest one."""
        if not self._packets:
            return 0.0
        first = self._packets.get(self._next)
        oldest = first[0] if first is not None else min(stamp for stamp, _, _ in self._packets.values())
        return max(0.0, (self._last_stamp - oldest) * 1e-6)
