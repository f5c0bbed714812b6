"""One WebRTC viewer as the feeds see it: its payload types, its numbers, and the packets that it may request again."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from gateway.live.sink import EndReason
from gateway.packaging.rtp.burst import RtpBurst, Run

PACE_SECONDS: Final = 0.005
_PACE_RATE: Final = 1_250_000.0  # bytes a second at least; less would delay the first picture
_PACE_FACTOR: Final = 8  # times the bytes a second of the stream
_KEPT_SECONDS: Final = 3.0  # seconds in which the packets of a burst can be repeated
_REPAIR_SHARE: Final = 0.5  # of the stream's bytes a second, for repeated packets
_REPAIR_BYTES: Final = 64_000.0  # bytes that may be repeated at once, and at least in each second
_REMEMBERED: Final = 64  # packets that were repeated


def first_shift(sequence: int) -> int:
    """Returns the shift of a viewer whose first packet has this number in the feed.

    Receivers of SRTP assume that no wrap of the numbers was before their first packet (RFC 3711 §3.3.1). So each viewer
    begins in the lower half: a wrap is then never among the packets that are lost at the beginning.
    """
    return sequence & 0x8000


class PacketSender(Protocol):
    """The transport of one viewer; implemented by `gateway.webrtc.peer.Peer`."""

    def send(self, packets: Sequence[bytes]) -> None:
        """Encrypts and sends RTP packets of equal length; the last one may be shorter."""

    def send_rtcp(self, packet: bytes) -> None: ...


@dataclass(frozen=True, slots=True)
class PayloadTypes:
    """The payload types that the viewer has offered and this side has chosen; -1: none."""

    video: int = -1
    video_rtx: int = -1
    audio: int = -1


@dataclass(slots=True, eq=False, repr=False)
class RtpViewer:
    """One viewer. on_end: called when the stream or its output has ended.

    shift, sound_shift: added to the sequence numbers of the feeds. Each repeated burst increases `shift`.
    offset: added to the timestamps of its pictures, so that they never go back. Repeated bursts increase it. Moves
    between renditions increase it, too, because renditions arrive later than their source.
    waiting: whether the viewer gets no pictures until the next key frame.
    live_from: number of packets that the feed made before the viewer's first live packet.
    burst_seconds: seconds in which the stream has as many bytes as the last burst.
    lacks: kinds of tracks that the viewer would receive, but that the stream did not have in its session description.
    """

    sender: PacketSender
    types: PayloadTypes
    on_end: Callable[[EndReason], None]
    lacks: frozenset[str] = frozenset()
    shift: int = 0
    sound_shift: int = 0
    offset: int = 0
    waiting: bool = True
    live_from: int = 0
    burst_seconds: float = 0.0
    started: float = -1e9  # monotonic time of the last burst
    _burst: RtpBurst | None = field(default=None, init=False)
    _queue: deque[Iterable[Run]] | None = field(default=None, init=False)  # the rest of the burst, and later frames
    _runs: Iterator[Run] = field(default=iter(()), init=False)  # the runs of the queue
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _rate: float = field(default=_PACE_RATE, init=False)
    _repair_left: float = field(default=_REPAIR_BYTES, init=False)  # bytes that may be repeated now
    _repair_at: float = field(default=0.0, init=False)  # monotonic time of `_repair_left`
    _rtx_sequence: int = field(default=0, init=False)
    _repeated: dict[int, None] | None = field(default=None, init=False)  # numbers of the last repeated packets

    def start(self, burst: RtpBurst, bytes_per_second: float) -> None:
        """Sends a burst at a limited rate; later packets follow it."""
        self.waiting, self.started = False, time.monotonic()
        self._burst = burst
        self._rate = max(_PACE_RATE, _PACE_FACTOR * bytes_per_second)
        self._queue = deque((burst.make_runs(),))
        self._runs = _runs_of(self._queue)
        if self._timer is not None:
            self._timer.cancel()
        self._send_queue()

    def send(self, runs: Sequence[Run]) -> None:
        """Sends the runs of one frame. Hot path."""
        if self._queue is not None:
            self._queue.append(runs)
            return
        send = self.sender.send
        for run in runs:
            send(run)

    def _send_queue(self) -> None:
        """Sends as much of the queue as the rate allows in one interval."""
        loop = asyncio.get_running_loop()
        left = self._rate * PACE_SECONDS
        for run in self._runs:
            self.sender.send(run)
            left -= sum(map(len, run))
            if left <= 0:
                self._timer = loop.call_later(PACE_SECONDS, self._send_queue)
                return
        self._queue = None
        self._timer = loop.call_later(_KEPT_SECONDS, self._forget_burst)

    def _forget_burst(self) -> None:
        self._burst = self._timer = None

    @property
    def is_starting(self) -> bool:
        """Whether a burst is being sent."""
        return self._queue is not None

    def make_burst_packet(self, sequence: int) -> bytes | None:
        """Returns a packet of the last burst; None for other packets, and some seconds after the burst."""
        return None if self._burst is None else self._burst.make_packet(sequence)

    def take_repair_bytes(self, size: int, bytes_per_second: float, now: float) -> bool:
        """Takes the bytes of one repeated packet from the viewer's share. Returns False if too few are left.

        bytes_per_second: of the stream; the share is half of it.
        """
        rate = max(_REPAIR_BYTES, _REPAIR_SHARE * bytes_per_second)
        self._repair_left = min(rate, self._repair_left + (now - self._repair_at) * rate)
        self._repair_at = now
        if self._repair_left < size:
            return False
        self._repair_left -= size
        return True

    def count_copies(self, sequence: int) -> int:
        """Returns how often a requested packet is repeated, and remembers its number.

        The packet is sent twice if it was repeated before, because it was lost again.
        """
        repeated = self._repeated
        if repeated is None:
            repeated = self._repeated = {}
        if sequence in repeated:
            return 2
        repeated[sequence] = None
        if len(repeated) > _REMEMBERED:
            del repeated[next(iter(repeated))]
        return 1

    def next_rtx_sequence(self) -> int:
        self._rtx_sequence = (self._rtx_sequence + 1) & 0xFFFF
        return self._rtx_sequence

    def close(self) -> None:
        """Ends the burst. Nothing is sent afterwards."""
        self._queue, self._burst, self._runs, self.waiting = None, None, iter(()), True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _runs_of(queue: deque[Iterable[Run]]) -> Iterator[Run]:
    """Yields the runs of a queue in order, including those added meanwhile."""
    while queue:
        yield from queue.popleft()
