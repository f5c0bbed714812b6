"""Writes the units of a stream as frames to another node. Drops whole GOPs if that node is too slow."""

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from typing import Final

from gateway.lib.metrics import Counter
from gateway.live.pushed_tracks import TrackInfo
from gateway.live.sink import EndReason
from gateway.media.track import AccessUnit, Kind, MediaTrack, TimedData, Tracks
from gateway.protocols import nodes, wire
from gateway.protocols.nodes import LinkMessage
from gateway.protocols.wire import StreamMessage

BACKLOG: Final = 8_000_000  # unsent bytes; beyond that, whole GOPs are dropped
_LATE_SECONDS: Final = 10.0  # of unsent media; more than a link may be silent. Beyond that, whole GOPs are dropped
_MARK_SECONDS: Final = 1.0
STALL_SECONDS: Final = 15.0  # a connection that accepts no data for this time is closed


def write_last(transport: asyncio.Transport, kind: LinkMessage, reason: EndReason) -> asyncio.TimerHandle:
    """Writes OVER or EVICT, the last frame of a link, after which the other node closes the connection.

    If this side closed it with unread data, TCP would reset it, and the other node could lose the frame (RFC 1122,
    section 4.2.2.13). Returns the timer that ends the connection if the other node does not; cancel it when it is lost.
    """
    transport.write(wire.frame(kind, wire.write_json({"reason": str(reason)})))
    return asyncio.get_running_loop().call_later(nodes.SILENT_SECONDS, transport.abort)


class RemoteSink:
    """A Sink that writes to another node, and an AdditionalTaker for the additional tracks of a push.

    dropped: counts the units that are dropped because the node is too slow, as "node".

    on_tick: called every PING_SECONDS, before the ping.
    map_tracks: called before tracks are written; returns the tracks to write.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        dropped: Counter,
        on_tick: Callable[[], None] = lambda: None,
        map_tracks: Callable[[Tracks], Tracks] = lambda tracks: tracks,
    ) -> None:
        self._transport = transport
        self._dropped = dropped
        self._on_tick = on_tick
        self._map_tracks = map_tracks
        self._has_video = False
        self._max_bytes = BACKLOG  # unsent bytes above which units are dropped
        self._dropping = False
        self._incomplete: set[int] = set()  # numbers of additional tracks that can continue only with a key frame
        self._written = 0  # bytes given to the transport
        self._sent = 0  # those of them that the transport had sent at the last tick
        # Of units that wait, one for each second: the bytes written before it, and its time in seconds.
        self._marks: deque[tuple[int, float]] = deque()
        self._stalled_seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Starts the pings, which continue until `stop`. Data written before `end_replay` is exempt from the bound."""
        self._tick()
        self._max_bytes = sys.maxsize

    def end_replay(self) -> None:
        """Ends the replay of the cache. The unsent bytes of the replay are not counted in the backlog."""
        self._max_bytes = BACKLOG + self._transport.get_write_buffer_size()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        self._marks.clear()  # times may jump
        self._has_video = tracks.video is not None
        self._write(wire.frame(StreamMessage.TRACKS, wire.encode_tracks(self._map_tracks(tracks))))

    def on_unit(self, unit: AccessUnit) -> None:
        """Writes a unit. Hot path. Bytes in the kernel's buffers do not count as unsent."""
        unsent = self._transport.get_write_buffer_size()
        late = self._seconds_late(unit, unsent)
        if self._dropping:
            can_resume = unit.key and (unit.track.kind is Kind.VIDEO or not self._has_video)
            if not can_resume or unsent > BACKLOG // 2 or late > _LATE_SECONDS / 2:
                self._dropped.add("node")
                return
            self._dropping = False
        elif unsent > self._max_bytes or late > _LATE_SECONDS:
            self._dropping = True
            self._dropped.add("node")
            return
        self._write(wire.unit_head(unit), unit.payload)

    def _seconds_late(self, unit: AccessUnit, unsent: int) -> float:
        """Returns by how much the oldest unsent media are older than this unit. Media of the replay have no age."""
        if not unsent or self._max_bytes == sys.maxsize:
            self._marks.clear()
            return 0.0
        marks, sent, seconds = self._marks, self._written - unsent, unit.dts / unit.track.timescale
        while len(marks) > 1 and marks[1][0] <= sent:
            marks.popleft()
        if not marks or seconds - marks[-1][1] >= _MARK_SECONDS:
            marks.append((self._written, seconds))
        return seconds - marks[0][1]

    def on_timed(self, timed: TimedData) -> None:
        if not self._dropping:
            self._write(wire.timed_frame(timed))

    def _write(self, head: bytes, payload: bytes = b"") -> None:
        """Writes a frame in one or two pieces, and counts its bytes. Hot path."""
        transport = self._transport
        if not transport.is_closing():  # asyncio of Python 3.12 would register the closed socket as a writer
            self._written += len(head) + len(payload)
            transport.writelines((head, payload))

    # ---- AdditionalTaker ----

    def set_additional(self, track_id: int, track: MediaTrack, info: TrackInfo, now: float) -> None:
        """Announces an additional track. The other node finds its info in the metadata."""
        is_video = track.kind is Kind.VIDEO
        tracks = Tracks(track if is_video else None, None if is_video else track)
        body = wire.encode_tracks(tracks, 2 * track_id + (not is_video))
        self._write(wire.frame(LinkMessage.ADDITIONAL_TRACK, body))

    def describe_additional(self, info: Callable[[Kind, int], TrackInfo]) -> None:
        """Does nothing: the infos are in the metadata."""

    def push_additional(self, number: int, unit: AccessUnit, now: float) -> None:
        """Writes a unit of an additional track. Hot path."""
        if self._dropping or self._transport.get_write_buffer_size() > self._max_bytes:
            self._incomplete.add(number)
        elif unit.key:
            self._incomplete.discard(number)
        if number in self._incomplete:
            self._dropped.add("node")
            return
        self._write(wire.unit_head(unit, number, LinkMessage.ADDITIONAL_UNIT), unit.payload)

    # ---- the end ----

    def on_end(self, reason: EndReason) -> None:
        """Writes the reason. The other node closes the connection then."""
        self.stop()
        self._timer = write_last(self._transport, LinkMessage.OVER, reason)

    def on_failed(self, error: Exception) -> None:
        self._transport.abort()  # the other node connects again

    def _tick(self) -> None:
        transport = self._transport
        self._timer = asyncio.get_running_loop().call_later(nodes.PING_SECONDS, self._tick)
        unsent = transport.get_write_buffer_size()
        sent = self._written - unsent  # the unsent bytes of a link that is only too slow may grow
        self._stalled_seconds = self._stalled_seconds + nodes.PING_SECONDS if unsent and sent <= self._sent else 0.0
        self._sent = sent
        if self._stalled_seconds >= STALL_SECONDS:
            transport.abort()
            return
        self._on_tick()
        if unsent < BACKLOG:
            self._max_bytes = min(self._max_bytes, BACKLOG)
        if not unsent:
            transport.write(nodes.PING)
