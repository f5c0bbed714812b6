"""SendBuffer: numbers payloads, and keeps them until the peer has them or they are too late."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from gateway.protocols.srt.packets import (
    HEAD,
    KEY_SHIFT,
    MASK31,
    MASK32,
    MESSAGE_MASK,
    RETRANSMITTED,
    WHOLE,
    unwrap_sequence,
)

KEEP: Final = 1.25  # times the latency for which payloads are kept, §4.6
_SHORTEST_KEEP: Final = 1.0  # seconds
_MAX_BURST: Final = 64  # packets that one turn sends again: a burst would only cause more loss
_MAX_LOST: Final = 1_024  # numbers of one loss list that are looked at: a peer may ask for everything
_STEP: Final = 10_000  # microseconds: a burst is sent in steps, so that it does not overrun the buffers on its way
_STEP_PACKETS: Final = 64  # 67 Mbit/s
_LONGEST_BURST: Final = 1_000_000  # microseconds; the rest of a longer one is sent at once
_HURRY: Final = 2  # times that a packet was sent again, after which it is sent more often
_NEVER: Final = (float("-inf"), 0)
_TAIL: Final = 8  # packets that are sent again if the peer says nothing

# encrypt(sequence of 31 bits, payload): returns the key's number and the encrypted payload.
Encrypt = Callable[[int, bytes], tuple[int, bytes]]


class SendBuffer:
    """The payloads of one direction of a connection.

    first: number of the first packet. socket: id of the peer's socket. latency: seconds. window: the most packets in
    flight that the peer allows. Memory: at most `latency` times 1.25, or one second, of payloads. They are shared, not
    copied. Older ones are dropped, and so are payloads for which the window has no room in this time.
    unanswered_since: monotonic time of the first packet after the last acknowledgement; None: all are acknowledged.
    Counters: `sent` (packets, the first time), `retransmitted`, `dropped` (payloads that the peer did not get in time).
    """

    __slots__ = (
        "_again", "_encrypt", "_first", "_keep", "_kept", "_last_progress", "_message", "_next", "_sent_again",
        "_step", "_step_packets", "_waiting", "_window", "dropped", "retransmitted", "sent", "socket",
        "unanswered_since",
    )  # fmt: skip

    def __init__(self, first: int, socket: int, latency: float, window: int, encrypt: Encrypt | None = None) -> None:
        self.socket = socket
        self._encrypt = encrypt
        self._keep = max(KEEP * latency, _SHORTEST_KEEP) * 1e6
        self._window = window
        self._first = self._next = first  # numbers of the oldest packet in flight, and of the next one
        self._message = 1
        self._kept: deque[tuple[bytes, int, int]] = deque()  # payload, time stamp and message of those in flight
        self._waiting: deque[tuple[bytes, int]] = deque()  # payload and time stamp
        self._again: dict[int, None] = {}  # numbers to send again, in order
        self._sent_again: dict[int, tuple[float, int]] = {}  # by number: when it was last sent again, and how often
        self._step = 0  # time stamp of the last step, which has so many packets:
        self._step_packets = 0
        self._last_progress = 0.0
        self.unanswered_since: float | None = None
        self.sent = self.retransmitted = self.dropped = 0

    def push(self, payloads: Iterable[bytes], stamp: int) -> None:
        """Adds payloads. stamp: microseconds since the connection began, without wrap.

        Of a burst, each step of 64 payloads gets a later time stamp, and is not sent before.
        """
        for payload in payloads:
            if stamp >= self._step + _STEP:
                self._step, self._step_packets = stamp, 0
            elif self._step_packets == _STEP_PACKETS:
                self._step_packets = 0
                self._step = min(self._step + _STEP, stamp + _LONGEST_BURST)
            self._step_packets += 1
            self._waiting.append((payload, max(stamp, self._step)))

    def take(self, now: float, stamp: int) -> list[bytes]:
        """Returns the datagrams to send now: missing ones first. Hot path.

        now: monotonic seconds. stamp: the time of `now` on the clock of the time stamps.
        """
        self._drop_late(stamp)
        datagrams: list[bytes] = []
        if self._again:
            self._take_again(datagrams, now)
        waiting, kept = self._waiting, self._kept
        if waiting:
            if not kept:
                self._last_progress = now
            for _ in range(min(len(waiting), self._window - len(kept))):
                if waiting[0][1] > stamp:
                    break  # a later step
                if self.unanswered_since is None:
                    self.unanswered_since = now
                payload, pushed = waiting.popleft()
                message = self._message
                self._message = message % MESSAGE_MASK + 1
                kept.append((payload, pushed, message))
                datagrams.append(self._datagram(self._next, payload, pushed, message))
                self._next += 1
                self.sent += 1
        return datagrams

    def acknowledged(self, word: int, now: float) -> None:
        """Forgets the packets before the number of an ACK, of 31 bits. A number that was not sent is ignored."""
        number = unwrap_sequence(word & MASK31, self._first)
        if not self._first < number <= self._next:
            return
        for passed in range(self._first, number):
            self._kept.popleft()
            self._again.pop(passed, None)
            self._sent_again.pop(passed, None)
        self._first = number
        self._last_progress = now
        self.unanswered_since = now if self._kept else None

    def lost(self, ranges: Iterable[tuple[int, int]], now: float, round_trip: float) -> list[tuple[int, int]]:
        """Notes what the peer misses. Returns the ranges that no longer exist here.

        ranges: first and last numbers without wrap. A packet that was sent again within the round trip is not sent
        once more, because it is still on its way. A packet that was lost again and again is: its time runs out, and few
        packets are lost so often.
        """
        gone: list[tuple[int, int]] = []
        left = _MAX_LOST
        self._last_progress = now  # a peer that knows what it misses is not silent
        for first, last in ranges:
            if first < self._first:
                # Only numbers that the peer did not acknowledge can be missing, and these were dropped.
                gone.append((first, min(last, self._first - 1)))
            first = max(first, self._first)
            for number in range(first, min(last + 1, self._next, first + left)):
                left -= 1
                at, times = self._sent_again.get(number, _NEVER)
                if now - at > (round_trip if times < _HURRY else round_trip / 4):
                    self._again[number] = None
        return gone

    @property
    def next(self) -> int:
        return self._next

    def repeat_tail(self, now: float, after: float) -> None:
        """Sends the last packets again if the peer has been silent for `after` seconds: it may not know them."""
        if self._kept and now - self._last_progress > after:
            self._last_progress = now
            for number in range(max(self._first, self._next - _TAIL), self._next):
                self._again[number] = None

    @property
    def is_empty(self) -> bool:
        return not self._kept and not self._waiting

    @property
    def unsent(self) -> int:
        """Number of payloads that are not sent yet."""
        return len(self._waiting)

    @property
    def held(self) -> int:
        """Number of payloads in memory: not sent, or not acknowledged."""
        return len(self._waiting) + len(self._kept)

    # ---- details ----

    def _take_again(self, datagrams: list[bytes], now: float) -> None:
        for number in list(self._again)[:_MAX_BURST]:
            del self._again[number]
            if number < self._first:
                continue
            payload, pushed, message = self._kept[number - self._first]
            datagrams.append(self._datagram(number, payload, pushed, message | RETRANSMITTED))
            self._sent_again[number] = now, self._sent_again.get(number, _NEVER)[1] + 1
            self.retransmitted += 1

    def _datagram(self, number: int, payload: bytes, stamp: int, flags: int) -> bytes:
        number &= MASK31
        if self._encrypt is not None:
            key, payload = self._encrypt(number, payload)
            flags |= key << KEY_SHIFT
        return HEAD.pack(number, WHOLE | flags, stamp & MASK32, self.socket) + payload

    def _drop_late(self, stamp: int) -> None:
        """Drops payloads that are too old. Those that were never sent leave no gap in the numbers."""
        oldest = stamp - self._keep
        kept, waiting = self._kept, self._waiting
        while kept and kept[0][1] < oldest:
            kept.popleft()
            self._again.pop(self._first, None)
            self._sent_again.pop(self._first, None)
            self._first += 1
            self.dropped += 1
        while waiting and waiting[0][1] < oldest:
            waiting.popleft()
            self.dropped += 1


def split(data: bytes, size: int) -> Sequence[bytes]:
    """Returns payloads of `size` bytes, the last one maybe shorter."""
    return [data[at : at + size] for at in range(0, len(data), size)]
