"""Feeds: rendered bytes that many viewers share.

A feed renders each unit once, batches the output of the last tens of milliseconds, and writes these bytes to all
viewers. The transport's buffer is the only queue. A viewer with too many waiting bytes is *late*: it gets no more bytes
until its buffer is empty and the feed reaches a key frame. The limit depends on the stream's bitrate (`PeakRate`),
within one memory limit for all viewers of the process (`ViewerMemory`).

While pictures have stopped for longer than a GOP may last, new and late viewers begin with sound. They are *listeners*
until the next key frame. If a picture comes before it, they are late, because they lack what it refers to.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gateway.lib.viewer_memory import ViewerMemory
from gateway.live.gop_cache import AUDIO_ONLY_SECONDS
from gateway.live.sink import EndReason, Item
from gateway.live.start_buffer import StartBuffer
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, Kind, TimedData, Tracks
from gateway.packaging.backlog import SECONDS, Burst, PeakRate
from gateway.packaging.sliced_writes import SLICE_VIEWERS, SlicedWrites
from gateway.packaging.viewer import Framing, Viewer, reset_on_close

MAX_LOOP_SHARE = 0.05  # part of the event loop's time that one feed's writes may use before they are batched
_PICTURE_GAP_MS = 2000  # without pictures, after which they have stopped
_HOLE_MS = 100  # between the pictures of two epochs, at which browsers stand still


class Rendering(Protocol):
    """Turns units into bytes for one kind of connection. Only the rendering knows the format."""

    def render_head(self, tracks: Tracks, dts_ms: int, later: Sequence[Tracks] = ()) -> bytes:
        """Returns the bytes that a viewer needs before its first unit: headers, metadata, sequence headers.

        later: tracks that follow in the same bytes.
        """

    def render_change(self, tracks: Tracks, dts_ms: int) -> bytes:
        """Returns the new headers for a viewer that plays already: metadata and sequence headers."""

    def render_unit(self, unit: AccessUnit) -> bytes:
        """Returns the bytes of a unit. Empty for a picture that is left out, never a key frame."""

    def render_still(self, unit: AccessUnit, dts_ms: int) -> bytes:
        """Returns the picture after a hole with the time at which the hole begins; empty if viewers do not need it."""

    def render_timed(self, timed: TimedData) -> bytes: ...


def render_beginning(rendering: Rendering, beginning: StartBuffer) -> bytes:
    """Returns the headers and everything since the stream's first unit."""
    pieces: list[bytes] = []
    first = next((item for item in beginning if isinstance(item, AccessUnit)), None)
    dts_ms = first.dts * 1000 // first.track.timescale if first is not None else 0
    changes = [item for item in beginning if isinstance(item, Tracks)]
    for item in beginning:
        if isinstance(item, AccessUnit):
            dts_ms = item.dts * 1000 // item.track.timescale
            pieces.append(rendering.render_unit(item))
        elif isinstance(item, TimedData):
            pieces.append(rendering.render_timed(item))
        elif pieces:
            pieces.append(rendering.render_change(item, dts_ms))
        else:
            pieces.append(rendering.render_head(item, dts_ms, changes))
    return b"".join(pieces)


class FeedCounts:
    """The counters of all feeds of one process.

    sent: bytes sent to viewers, by kind. dropped: batches that late viewers missed. stalled: disconnected viewers.
    """

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.dropped = 0
        self.stalled = 0


@dataclass(eq=False, repr=False, slots=True)
class Feed:
    """A sink that renders, batches and writes. It is attached to its stream only while it has viewers.

    It flushes with every video frame while writing to all viewers uses less than MAX_LOOP_SHARE of the time. Otherwise
    it flushes less often, but no unit waits longer than `flush_seconds` for its batch. A batch for many viewers is
    written in slices, so that a new viewer does not wait for all of them. A late viewer that has read nothing for
    `stall_seconds` is disconnected (0: never). Everything runs on the stream's loop.

    backlogs: shared by all viewers of the process; by default, there is no common limit for this feed's viewers.
    """

    stream: Stream
    rendering: Rendering
    flush_seconds: float
    stall_seconds: float
    counts: FeedCounts = field(default_factory=FeedCounts)
    backlogs: ViewerMemory = field(default_factory=lambda: ViewerMemory(0))
    counts_viewers: bool = True  # false if its viewers also have another feed
    _peak_rate: PeakRate = field(default_factory=PeakRate, init=False)
    _viewers: dict[Viewer, None] = field(default_factory=dict, init=False)
    _framings: dict[Framing, dict[Viewer, None]] = field(default_factory=dict, init=False)
    _attached: bool = field(default=False, init=False)
    _tracks: Tracks | None = field(default=None, init=False)
    _version: int = field(default=0, init=False)  # counts changes of `_tracks`
    _pending: list[bytes] = field(default_factory=list, init=False)  # the batch that is not written yet
    _pending_key: bool = field(default=False, init=False)  # whether it begins with a key frame
    _gop: list[bytes] = field(default_factory=list, init=False)
    _gop_bytes: int = field(default=0, init=False)
    _startable: bool = field(default=False, init=False)  # whether `_gop` begins with a key frame and is complete
    _gop_bursts: dict[Framing, Burst] = field(default_factory=dict, init=False)
    # The first bursts of viewers that waited for the start: the last included item, and the bytes by framing.
    _start_bursts: tuple[Item | None, dict[Framing, Burst]] = field(default_factory=lambda: (None, {}), init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _last_flush: float = field(default=0.0, init=False)
    _cost: float = field(default=0.0, init=False)  # mean duration of writing a batch, seconds
    _dts_ms: int = field(default=0, init=False)
    _gop_dts_ms: int = field(default=0, init=False)
    _picture_ms: int = field(default=0, init=False)  # decode time of the last picture
    _has_changed: bool = field(default=False, init=False)  # whether a new epoch has begun since the last key frame
    _listeners: dict[Viewer, None] | None = field(default=None, init=False)  # None: pictures have not stopped
    _writes: SlicedWrites = field(init=False)

    def __post_init__(self) -> None:
        self._writes = SlicedWrites(self._note_cost)

    def __len__(self) -> int:
        return len(self._viewers)

    # ---- viewers ----

    def join(self, viewer: Viewer, *, burst: bool = True) -> None:
        """Writes headers and the GOP so far to a viewer, then all following units.

        If the stream has ended, this ends the viewer immediately. A viewer that waited for the start gets all units
        since the stream's first one, while they are stored.
        burst: if False, the viewer has received the GOP before, and gets nothing until the next key frame.
        """
        if not self._attached:
            self._attached = True
            self.stream.attach(self)
            self.flush()  # attach replayed the GOP; without other viewers it is only the first viewer's burst
        if not self._attached or self._tracks is None:
            self._reset()
            viewer.on_end(self.stream.ended or EndReason.OUTPUT_OFF)
            return
        if self._pending and (not self._gop or (viewer.waited_for_start and self.stream.start_buffer is not None)):
            # The burst must contain these bytes: they are the GOP's first batch, or part of the stream's beginning.
            self.flush()
        self._viewers[viewer] = None
        self._framings.setdefault(viewer.framing, {})[viewer] = None
        self.stream.viewers[viewer.framing.kind] += self.counts_viewers
        self.stream.playback.uses += 1
        if burst:
            self._write_first_burst(viewer)
        else:
            viewer.late, viewer.late_since = True, time.monotonic()

    def leave(self, viewer: Viewer) -> None:
        """Removes a viewer whose connection is closed. Idempotent."""
        if viewer not in self._viewers:
            return
        self._forget(viewer)
        if not self._viewers:
            self._reset()

    def backlog(self, minimum: int, seconds: float = SECONDS) -> int:
        """Returns how many bytes may wait for a viewer now; at least `minimum`. seconds: of the stream."""
        return max(minimum, self._peak_rate.backlog(self._dts_ms, seconds))

    def count_stalled(self, seconds: float) -> bool:
        """Whether a viewer that has read nothing for some seconds must be disconnected. Counts it then."""
        limit = self.backlogs.stall_limit(self.stall_seconds)
        is_stalled = 0 < limit < seconds
        self.counts.stalled += is_stalled
        return is_stalled

    def viewers(self) -> Sequence[Viewer]:
        return list(self._viewers)

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        old, self._tracks = self._tracks, tracks
        self._version += 1
        if old is None:
            self._picture_ms = self.stream.received.last_dts_ms
            self.rendering.render_head(tracks, self._dts_ms)  # a rendering may need the tracks before the first unit
            return
        self.flush()
        self._writes.write_rest()
        if tracks.epoch != old.epoch:
            self._drop_gop()
            self._has_changed = True
        self._write_once(self.rendering.render_change(tracks, self._dts_ms))

    def on_unit(self, unit: AccessUnit) -> None:
        tracks = self._tracks
        assert tracks is not None  # Stream calls on_tracks first
        track = unit.track
        video = track.kind is Kind.VIDEO
        dts_ms = unit.dts if track.timescale == 1000 else unit.dts * 1000 // track.timescale
        if video:
            if self._listeners is not None and not unit.key:
                self._stop_listeners()
            if unit.key and self._has_changed:
                self._bridge(unit, dts_ms)
            self._picture_ms = dts_ms
        if unit.key and (video or (not self._pending and (tracks.video is None or self._is_sound_alone(dts_ms)))):
            # A key frame always begins a batch, so that new and late viewers can start with it.
            if self._pending:
                self.flush()
            self._pending_key = True
            if self.stream.start_buffer is None:
                self._start_bursts = (None, {})
            if video or not self._gop or dts_ms - self._gop_dts_ms >= AUDIO_ONLY_SECONDS * 1000:
                self._gop, self._gop_bytes, self._gop_bursts = [], 0, {}
                self._gop_dts_ms = dts_ms
                self._startable = True
                self._listeners = None if video or tracks.video is None else self._listeners or {}
            rendered = self.rendering.render_unit(unit)
            if video:
                self._peak_rate.note_key_frame(len(rendered), dts_ms)
        elif not (rendered := self.rendering.render_unit(unit)):
            return
        self._dts_ms = dts_ms
        self._pending.append(rendered)
        self._schedule(video or tracks.video is None)

    def on_timed(self, timed: TimedData) -> None:
        self._pending.append(self.rendering.render_timed(timed))
        self._schedule(False)

    def on_end(self, reason: EndReason) -> None:
        self.close(reason)

    def close(self, reason: EndReason) -> None:
        """Ends all viewers with the last bytes of their protocols. Idempotent."""
        self.flush()
        self._writes.write_rest()
        for viewer in list(self._viewers):
            if not viewer.transport.is_closing():
                viewer.transport.write(viewer.framing.last(reason))
            self._forget(viewer)
            viewer.on_end(reason)
        self._reset()

    def on_failed(self, error: Exception) -> None:
        """Disconnects all viewers of this feed after a bug in it. They reconnect, and the stream continues."""
        for viewer in list(self._viewers):
            self._forget(viewer)
            viewer.on_end(EndReason.OUTPUT_OFF)
        self._reset()
        asyncio.get_running_loop().call_exception_handler({"message": "a feed failed", "exception": error})

    def _bridge(self, unit: AccessUnit, dts_ms: int) -> None:
        """Fills a hole before the first picture of a new epoch, for viewers that play already."""
        self._has_changed = False
        if dts_ms - self._picture_ms > _HOLE_MS:
            self.flush()
            self._writes.write_rest()
            self._write_once(self.rendering.render_still(unit, self._picture_ms + 1))

    def _write_once(self, data: bytes) -> None:
        """Writes bytes to the viewers that play already; those that join later do not get them."""
        now = time.monotonic()
        for viewer in self._viewers if data else ():
            if not viewer.late:
                framed = viewer.framing.wrap(data)
                waiting = viewer.transport.get_write_buffer_size()
                if not waiting or not self._check_limit(viewer, waiting, len(framed), now):
                    viewer.version = self._version
                    self._write(viewer, framed)

    # ---- batching ----

    def _schedule(self, frame: bool) -> None:
        """Flushes now or later. frame: whether the last item is a picture, or sound of a stream without pictures."""
        if self._timer is not None and not frame:
            return
        wait = min(self._last_flush + self._cost / MAX_LOOP_SHARE - time.monotonic(), self.flush_seconds)
        if wait <= 0 and frame:
            self.flush()  # also if audio has set the timer: a picture does not wait for it
        elif self._timer is None:
            # This is the batch's first unit. Audio waits for the next picture, but no unit longer than `flush_seconds`.
            wait = wait if wait > 0 else self.flush_seconds
            self._timer = asyncio.get_running_loop().call_later(wait, self.flush)

    def flush(self) -> None:
        """Writes the pending bytes to all viewers: the first slice now, the others in next iterations of the loop."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if not self._pending:
            return
        self._writes.write_rest()
        began = self._last_flush = time.monotonic()
        data = b"".join(self._pending)
        self._peak_rate.bytes += len(data)
        starts, self._pending_key = self._pending_key, False
        self._pending = []
        if self._startable:
            self._gop.append(data)
            self._gop_bytes += len(data)
            self._gop_bursts = {}
            limits = self.stream.gop
            if self._gop_bytes > limits.max_bytes or self._dts_ms - self._gop_dts_ms > limits.max_seconds * 1000:
                self._drop_gop()
        self._writes.start(self._write_batch(data, starts, began))

    def _note_cost(self, seconds: float) -> None:
        self._cost = 0.8 * self._cost + 0.2 * seconds

    def _write_batch(self, data: bytes, starts: bool, began: float) -> Iterator[None]:
        """Writes one batch to all viewers; yields after every SLICE_VIEWERS viewers.

        starts: whether the batch begins with a key frame.
        began: time at which the batch was made, monotonic.
        """
        write = os.write
        # Copies of the viewers: the burst of a viewer that joins later already contains the batch.
        copies = [(framing, viewers, tuple(viewers)) for framing, viewers in self._framings.items()]
        for framing, viewers, present in copies:
            framed = framing.wrap(data)
            size = len(framed)
            written = 0
            for index, viewer in enumerate(present):
                if index and not index % SLICE_VIEWERS:
                    self._count_sent(framing, size * written)
                    written = 0
                    yield
                transport = viewer.transport
                if transport.is_closing() or viewer not in viewers:  # it left while the batch was written
                    continue
                waiting = transport.get_write_buffer_size()
                if viewer.late:
                    self._retry(viewer, waiting, starts, framed, began)
                    continue
                if not waiting:
                    if viewer.has_pending_bytes:
                        viewer.clear_backlog(self.backlogs)
                    if viewer.fd >= 0:
                        # Writes to the socket directly, and the rest to the transport: a sixth faster.
                        written += 1
                        try:
                            accepted = write(viewer.fd, framed)
                        except BlockingIOError:
                            accepted = 0
                        except OSError:
                            continue  # the peer has disconnected; the transport detects it
                        if accepted < size:
                            # A view, so that all viewers with waiting bytes share them.
                            transport.write(memoryview(framed)[accepted:])
                            viewer.has_pending_bytes = True
                            viewer.counted_bytes = size - accepted
                            self.backlogs.bytes += size - accepted
                        continue
                elif self._check_limit(viewer, waiting, size, began):
                    continue
                written += 1
                transport.write(framed)
                if not waiting:
                    self._count_waiting(viewer)
            self._count_sent(framing, size * written)

    def _check_limit(self, viewer: Viewer, waiting: int, size: int, now: float) -> bool:
        """Makes a viewer with `waiting` bytes late if `size` more are too many; otherwise counts these.

        Returns whether the viewer is late now.
        """
        backlogs = self.backlogs
        self._count(viewer, waiting)
        needed, allowed = waiting + size, viewer.limit + viewer.burst_allowance
        if needed > allowed:
            # The rate is read only if needed, because this is a hot path.
            allowed = self.backlog(viewer.limit, viewer.seconds) + viewer.burst_allowance
            if needed > allowed and viewer.waited_for_start and self.stream.start_buffer is not None:
                viewer.burst_allowance = allowed = needed  # an encoder's first burst does not show a slow link
        if needed > allowed or viewer.counted_bytes + size > backlogs.left:
            viewer.late = True
            viewer.late_since = now
            viewer.waiting = waiting
            viewer.burst_allowance = 0
            self.counts.dropped += 1
            return True
        viewer.counted_bytes += size
        viewer.bytes_after_burst += size
        backlogs.bytes += size
        return False

    def _count(self, viewer: Viewer, waiting: int) -> None:
        """Counts the bytes that wait for a viewer, instead of those that were counted before."""
        # Viewers share their first burst: for one viewer, only the bytes after the burst are counted.
        counted = waiting if viewer.burst is None else min(waiting, viewer.bytes_after_burst)
        self.backlogs.bytes += counted - viewer.counted_bytes
        viewer.counted_bytes = counted
        viewer.has_pending_bytes = True

    def _count_waiting(self, viewer: Viewer) -> None:
        """Counts what the transport could not send at once."""
        if waiting := viewer.transport.get_write_buffer_size():
            self._count(viewer, waiting)

    def _retry(self, viewer: Viewer, waiting: int, starts: bool, framed: bytes, now: float) -> None:
        """Lets a late viewer continue with this batch if it can. Disconnects a viewer that does not read."""
        if viewer.has_pending_bytes and not waiting:
            viewer.clear_backlog(self.backlogs)
        # For a viewer that has not started, at most the headers wait: it has missed nothing of the stream yet.
        if starts and waiting <= viewer.burst_allowance:
            viewer.late = False
            if self._listeners is not None:
                self._listeners[viewer] = None
            viewer.bytes_after_burst += len(framed)
            if viewer.version != self._version and self._tracks is not None:
                viewer.version = self._version
                self._write(viewer, viewer.framing.wrap(self.rendering.render_change(self._tracks, self._dts_ms)))
            self._write(viewer, framed)
            self._count_waiting(viewer)
        else:
            self.counts.dropped += 1
            if waiting < viewer.counted_bytes:
                self._count(viewer, waiting)
            if waiting < viewer.waiting:
                viewer.late_since = now  # slow, but it reads
            elif waiting and self.count_stalled(now - viewer.late_since):
                if viewer.fd >= 0:
                    reset_on_close(viewer.fd)
                viewer.transport.abort()
            viewer.waiting = waiting

    def _write_first_burst(self, viewer: Viewer) -> None:
        assert self._tracks is not None  # a feed has viewers only on a playable stream
        viewer.version = self._version
        if self._listeners is not None:
            self._listeners[viewer] = None
        framing = viewer.framing
        beginning = self.stream.start_buffer if viewer.waited_for_start else None
        if beginning is not None:
            burst, viewer.late = self._start_burst(framing, beginning), beginning.lacks_key_frame
        else:
            # Without a complete GOP (too large, or no key frame yet) the viewer starts at the next key frame.
            burst, viewer.late = self._gop_burst(framing), not self._startable
        backlogs, size = self.backlogs, len(burst.data)
        shared = viewer.fd >= 0  # TLS encrypts into separate bytes for each viewer
        cost = 0 if shared and burst.users else size
        if cost > backlogs.left:
            burst = Burst(framing.wrap(self.rendering.render_head(self._tracks, self._dts_ms)))
            size = cost = len(burst.data)
            viewer.late = True
            self.counts.dropped += 1
        backlogs.bytes += cost
        viewer.has_pending_bytes = True
        if shared:
            viewer.burst = burst
            burst.users += 1
        else:
            viewer.counted_bytes = size
        # The first burst may exceed the limit: only more bytes than that make the viewer late.
        viewer.burst_allowance = size
        viewer.late_since = time.monotonic()
        self._write(viewer, burst.data)

    def _gop_burst(self, framing: Framing) -> Burst:
        """Returns the headers and the GOP so far."""
        assert self._tracks is not None  # see `_write_first_burst`
        burst = self._gop_bursts.get(framing)
        if burst is None:
            head = self.rendering.render_head(self._tracks, self._gop_dts_ms)
            burst = self._gop_bursts[framing] = Burst(framing.wrap(head + b"".join(self._gop)))
        return burst

    def _start_burst(self, framing: Framing, beginning: StartBuffer) -> Burst:
        """Returns the headers and everything since the stream's first unit."""
        last, bursts = self._start_bursts
        if last is not beginning.items[-1]:
            last, bursts = self._start_bursts = (beginning.items[-1], {})
        burst = bursts.get(framing)
        if burst is None:
            burst = bursts[framing] = Burst(framing.wrap(render_beginning(self.rendering, beginning)))
        return burst

    def _is_sound_alone(self, dts_ms: int) -> bool:
        """Whether the pictures have stopped, and no GOP can begin with one."""
        return (self._listeners is not None or not self._startable) and dts_ms - self._picture_ms > _PICTURE_GAP_MS

    def _stop_listeners(self) -> None:
        """Makes the listeners late, before a picture that is no key frame."""
        self.flush()
        self._writes.write_rest()
        for viewer in self._listeners or ():
            viewer.late, viewer.late_since = True, time.monotonic()
        self._listeners = None
        self._drop_gop()

    def _drop_gop(self) -> None:
        self._gop, self._gop_bytes, self._gop_bursts = [], 0, {}
        self._startable = False

    def _write(self, viewer: Viewer, data: bytes) -> None:
        if not viewer.transport.is_closing():
            viewer.transport.write(data)
            viewer.has_written = True
            self._count_sent(viewer.framing, len(data))

    def _count_sent(self, framing: Framing, size: int) -> None:
        self.counts.sent[framing.kind] += size
        self.stream.tally.sent += size

    def _forget(self, viewer: Viewer) -> None:
        self._viewers.pop(viewer, None)
        if self._listeners is not None:
            self._listeners.pop(viewer, None)
        viewer.clear_backlog(self.backlogs)
        members = self._framings.get(viewer.framing, {})
        if viewer in members:
            del members[viewer]
            if not members:
                del self._framings[viewer.framing]
            self.stream.viewers[viewer.framing.kind] -= self.counts_viewers
            self.stream.playback.uses -= 1

    def _reset(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._attached:
            self._attached = False
            self.stream.detach(self)
        self._writes.stop()
        self._tracks = None
        self._pending = []
        self._start_bursts = (None, {})
        self._peak_rate = PeakRate()
        self._drop_gop()
        self._pending_key = False
        self._listeners = None
        self._cost = 0.0
        self._has_changed = False


async def close_at_end(stream: Stream, feeds: Callable[[], Iterable[Feed]]) -> None:
    """Waits for the end of the stream, or until the output is cancelled. Then closes the feeds that the output has."""
    try:
        await stream.over()
    finally:
        for feed in feeds():
            feed.close(stream.ended or EndReason.OUTPUT_OFF)
