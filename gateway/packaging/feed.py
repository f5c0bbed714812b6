"""Feeds: rendered bytes shared by many viewers.

A feed renders each unit once, batches the output of the last tens of milliseconds and gives the same bytes to every
viewer. The transport's buffer is the only queue. A viewer too far behind is *late*: it gets nothing more until its
buffer is empty and the feed reaches a key frame. The limit follows the stream (`PeakRate`), within one memory bound for
all viewers of the process (`Backlogs`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gateway.live.gop_cache import AUDIO_ONLY_SECONDS
from gateway.live.sink import EndReason
from gateway.media.track import Kind, Tracks
from gateway.media.unit import AccessUnit, Timed
from gateway.packaging.backlog import Backlogs, Burst, PeakRate
from gateway.packaging.rendering import Rendering, render_beginning
from gateway.packaging.viewer import Framing, Viewer, reset_on_close

if TYPE_CHECKING:
    from gateway.live.sink import Item
    from gateway.live.start_buffer import StartBuffer
    from gateway.live.stream import Stream

SHARE = 0.05  # share of the event loop's time that one feed's writes may take before they are batched
SLICE_SECONDS = 0.002  # of writing a batch, after which other tasks on the loop run
SLICE_VIEWERS = 32  # viewers written to between two checks of the time


class FeedCounts:
    """Counts what the feeds of one process did: bytes given to viewers by kind, batches that late viewers missed,
    viewers cut.
    """

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.dropped = 0
        self.stalled = 0


class Feed:
    """A sink that renders, batches and writes. It is attached to its stream only while it has viewers.

    It flushes with every video frame while writing to all viewers costs less than SHARE of the time. Otherwise it
    flushes as rarely as that needs, but at least every `flush_seconds`. A batch for many viewers is written in slices,
    so that a new viewer does not wait for all of them. A late viewer that has taken nothing for `stall_seconds` is cut
    (0: never). Everything runs on the stream's loop.
    """

    def __init__(
        self,
        stream: Stream,
        rendering: Rendering,
        flush_seconds: float,
        stall_seconds: float,
        counts: FeedCounts | None = None,
        backlogs: Backlogs | None = None,
    ) -> None:
        """backlogs: shared by all viewers of the process; None: no common bound for this feed's viewers."""
        self.stream = stream
        self._counts = counts or FeedCounts()
        self._backlogs = backlogs or Backlogs(0)
        self._pace = PeakRate()
        self._rendering = rendering
        self._bound = flush_seconds
        self._stall = stall_seconds
        self._viewers: dict[Viewer, None] = {}
        self._framings: dict[Framing, dict[Viewer, None]] = {}
        self._attached = False
        self._tracks: Tracks | None = None
        self._version = 0
        self._pending: list[bytes] = []
        self._pending_key = False
        self._gop: list[bytes] = []
        self._gop_bytes = 0
        self._startable = False  # _gop begins with a key frame and is complete
        self._gop_joined: dict[Framing, Burst] = {}
        self._beginning: tuple[Item | None, dict[Framing, Burst]] = (
            None,
            {},
        )  # the last item included, and the bytes by framing
        self._timer: asyncio.TimerHandle | None = None
        self._writing: Iterator[None] | None = None  # a batch that some viewers have not been given yet
        self._turn: asyncio.Handle | None = None  # the loop call that writes the next slice
        self._spent = 0.0  # seconds that its slices took so far
        self._last_flush = 0.0
        self._cost = 0.0
        self._dts_ms = 0
        self._gop_dts_ms = 0

    def __len__(self) -> int:
        return len(self._viewers)

    # ---- viewers ----

    def join(self, viewer: Viewer, *, burst: bool = True) -> None:
        """Gives a viewer headers and the GOP so far, then all that follows. On an ended stream it ends the viewer at
        once.

        An early viewer gets everything since the stream's first unit instead, while that is kept.
        burst: False sends nothing until the next key frame, for a viewer that has seen the GOP before.
        """
        if not self._attached:
            self._attached = True
            self.stream.attach(self)
            self.flush()  # attach replayed the GOP; without viewers it only becomes the first viewer's burst
        if not self._attached or self._tracks is None:
            self._reset()
            viewer.ended(self.stream.ended or EndReason.OUTPUT_OFF)
            return
        if self._pending and (not self._gop or (viewer.early and self.stream.beginning is not None)):
            # The burst has to contain it: it is the GOP's first batch, or part of the stream's beginning.
            self.flush()
        self._viewers[viewer] = None
        self._framings.setdefault(viewer.framing, {})[viewer] = None
        self.stream.viewers[viewer.framing.kind] += 1
        if burst:
            self._greet(viewer)
        else:
            viewer.late, viewer.late_since = True, time.monotonic()

    def leave(self, viewer: Viewer) -> None:
        """Removes a viewer whose connection is closed. Idempotent."""
        if viewer not in self._viewers:
            return
        self._forget(viewer)
        if not self._viewers:
            self._reset()

    def backlog(self, least: int) -> int:
        """Returns how many bytes may wait for a viewer now, at least `least`."""
        return max(least, self._pace.backlog(self._dts_ms))

    def viewers(self) -> Sequence[Viewer]:
        return list(self._viewers)

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        old, self._tracks = self._tracks, tracks
        self._version += 1
        if old is None:
            return
        self.flush()
        self._finish()
        if tracks.epoch != old.epoch:
            self._drop_gop()
        change = self._rendering.change(tracks, self._dts_ms)
        for viewer in self._viewers:
            if not viewer.late:
                viewer.epoch = self._version
                self._write(viewer, viewer.framing.wrap(change))

    def on_unit(self, unit: AccessUnit) -> None:
        tracks = self._tracks
        assert tracks is not None  # Stream calls on_tracks first
        track = unit.track
        video = track.kind is Kind.VIDEO
        dts_ms = unit.dts if track.timescale == 1000 else unit.dts * 1000 // track.timescale
        if unit.key and (video or (tracks.video is None and not self._pending)):
            # A key frame always begins a batch, so that joining and late viewers can start with it.
            if self._pending:
                self.flush()
            self._pending_key = True
            if self.stream.beginning is None:
                self._beginning = (None, {})
            if video or not self._gop or dts_ms - self._gop_dts_ms >= AUDIO_ONLY_SECONDS * 1000:
                self._gop, self._gop_bytes, self._gop_joined = [], 0, {}
                self._gop_dts_ms = dts_ms
                self._startable = True
            rendered = self._rendering.unit(unit)
            if video:
                self._pace.key_frame(len(rendered), dts_ms)
        else:
            rendered = self._rendering.unit(unit)
        self._dts_ms = dts_ms
        self._pending.append(rendered)
        self._schedule(video or tracks.video is None)

    def on_timed(self, timed: Timed) -> None:
        self._pending.append(self._rendering.timed(timed))
        self._schedule(False)

    def on_end(self, reason: EndReason) -> None:
        self.close(reason)

    def close(self, reason: EndReason) -> None:
        """Ends every viewer with the last bytes of its protocol. Idempotent."""
        self.flush()
        self._finish()
        for viewer in list(self._viewers):
            if not viewer.transport.is_closing():
                viewer.transport.write(viewer.framing.last(reason))
            self._forget(viewer)
            viewer.ended(reason)
        self._reset()

    def on_failed(self, error: Exception) -> None:
        """Cuts all viewers of this feed after a bug in it: they reconnect, and the stream goes on."""
        for viewer in list(self._viewers):
            self._forget(viewer)
            viewer.ended(EndReason.OUTPUT_OFF)
        self._reset()
        asyncio.get_running_loop().call_exception_handler({"message": "a feed failed", "exception": error})

    # ---- batching ----

    def _schedule(self, frame: bool) -> None:
        if self._timer is not None:
            return
        interval = min(self._bound, self._cost / SHARE)
        now = time.monotonic()
        due = self._last_flush + interval
        if now >= due and frame:
            self.flush()
        else:
            # Audio waits for the next picture, but never longer than the bound.
            wait = self._bound if now >= due else due - now
            self._timer = asyncio.get_running_loop().call_later(min(wait, self._bound), self.flush)

    def flush(self) -> None:
        """Writes the pending bytes to all viewers: the first slice now, the others in the next turns of the loop."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if not self._pending:
            return
        self._finish()
        began = self._last_flush = time.monotonic()
        data = b"".join(self._pending)
        self._pace.bytes += len(data)
        starts, self._pending_key = self._pending_key, False
        self._pending = []
        if self._startable:
            self._gop.append(data)
            self._gop_bytes += len(data)
            self._gop_joined = {}
            if self._gop_bytes > self.stream.gop.max_bytes:
                self._drop_gop()
        self._spent = 0.0
        self._writing = self._give(data, starts, began)
        self._write_slice(began)

    def _write_slice(self, began: float | None = None) -> None:
        """Writes for SLICE_SECONDS; schedules the rest for the loop's next turn."""
        if self._writing is None:
            return
        self._turn = None
        began = time.monotonic() if began is None else began
        for _ in self._writing:
            if time.monotonic() - began >= SLICE_SECONDS:
                self._spent += time.monotonic() - began
                self._turn = asyncio.get_running_loop().call_soon(self._write_slice)
                return
        self._written(began)

    def _finish(self) -> None:
        """Writes the rest of a batch at once, because later bytes must come after it."""
        if self._writing is not None:
            began = time.monotonic()
            for _ in self._writing:
                pass
            self._written(began)

    def _written(self, began: float) -> None:
        self._stop_writing()
        self._cost = 0.8 * self._cost + 0.2 * (self._spent + time.monotonic() - began)

    def _stop_writing(self) -> None:
        self._writing = None
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _give(self, data: bytes, starts: bool, began: float) -> Iterator[None]:
        """Gives one batch to all present viewers; yields after every SLICE_VIEWERS of them.

        starts: the batch begins with a key frame.
        began: when the batch was made, monotonic.
        """
        write = os.write
        # A copy of the viewers: one that joins from now on has the batch in its burst already.
        for framing, viewers, here in [(framing, same, tuple(same)) for framing, same in self._framings.items()]:
            framed = framing.wrap(data)
            size = len(framed)
            written = 0
            for index, viewer in enumerate(here):
                if index and not index % SLICE_VIEWERS:
                    self._counts.sent[framing.kind] += size * written
                    written = 0
                    yield
                transport = viewer.transport
                if transport.is_closing() or viewer not in viewers:  # it left while others were written to
                    continue
                waiting = transport.get_write_buffer_size()
                if viewer.late:
                    self._retry(viewer, waiting, starts, framed, began)
                    continue
                if not waiting:
                    if viewer.lagging:
                        viewer.caught_up(self._backlogs)
                    if viewer.fd >= 0:
                        # Writes to the socket directly, and the rest to the transport: costs a sixth less.
                        written += 1
                        try:
                            taken = write(viewer.fd, framed)
                        except BlockingIOError:
                            taken = 0
                        except OSError:
                            continue  # the peer is gone; the transport notices by itself
                        if taken < size:
                            # A view, so that all viewers that are behind share the bytes.
                            transport.write(memoryview(framed)[taken:])
                            viewer.lagging = True
                            viewer.held = size - taken
                            self._backlogs.bytes += size - taken
                        continue
                elif self._falls_behind(viewer, waiting, size, began):
                    continue
                written += 1
                transport.write(framed)
            self._counts.sent[framing.kind] += size * written

    def _falls_behind(self, viewer: Viewer, waiting: int, size: int, now: float) -> bool:
        """Tells whether a viewer for which bytes wait becomes late; updates the counts, with the next `size` bytes if
        not.
        """
        backlogs = self._backlogs
        # It shares its first burst: only the bytes after the burst count for this viewer.
        held = waiting if viewer.burst is None else min(waiting, viewer.since)
        backlogs.bytes += held - viewer.held
        viewer.held = held
        viewer.lagging = True
        room = viewer.limit + viewer.grace
        if waiting > room:
            # Reads the rate only when needed: this is a hot path.
            room = self.backlog(viewer.limit) + viewer.grace
            if waiting > room and viewer.early and self.stream.beginning is not None:
                viewer.grace = room = waiting  # an encoder's first burst is no sign of a slow link
        if waiting > room or held > backlogs.left:
            viewer.late = True
            viewer.late_since = now
            viewer.waiting = waiting
            viewer.grace = 0
            self._counts.dropped += 1
            return True
        viewer.held += size
        viewer.since += size
        backlogs.bytes += size
        return False

    def _retry(self, viewer: Viewer, waiting: int, starts: bool, framed: bytes, now: float) -> None:
        if viewer.lagging and not waiting:
            viewer.caught_up(self._backlogs)
        # A viewer that has not begun has at most its headers waiting: it misses nothing of the stream yet.
        if starts and waiting <= viewer.grace:
            viewer.late = False
            if viewer.epoch != self._version and self._tracks is not None:
                viewer.epoch = self._version
                self._write(viewer, viewer.framing.wrap(self._rendering.change(self._tracks, self._dts_ms)))
            self._write(viewer, framed)
        else:
            self._counts.dropped += 1
            if waiting < viewer.held:
                self._backlogs.bytes -= viewer.held - waiting
                viewer.held = waiting
            if waiting < viewer.waiting:
                viewer.late_since = now  # slow, but taking
            elif waiting and (stall := self._backlogs.stall(self._stall)) and now - viewer.late_since > stall:
                self._counts.stalled += 1
                if viewer.fd >= 0:
                    reset_on_close(viewer.fd)
                viewer.transport.abort()
            viewer.waiting = waiting

    def _greet(self, viewer: Viewer) -> None:
        assert self._tracks is not None  # a feed has viewers only on a playable stream
        viewer.epoch = self._version
        framing = viewer.framing
        beginning = self.stream.beginning if viewer.early else None
        if beginning is not None:
            burst, viewer.late = self._from_beginning(framing, beginning), beginning.torn
        else:
            # Without a complete GOP (too large, or no key frame yet) the viewer starts at the next key frame.
            burst, viewer.late = self._from_gop(framing), not self._startable
        backlogs, size = self._backlogs, len(burst.data)
        shared = viewer.fd >= 0  # TLS encrypts into separate bytes for each viewer
        cost = 0 if shared and burst.users else size
        if cost > backlogs.left:
            burst = Burst(framing.wrap(self._rendering.head(self._tracks, self._dts_ms)))
            size = cost = len(burst.data)
            viewer.late = True
            self._counts.dropped += 1
        backlogs.bytes += cost
        viewer.lagging = True
        if shared:
            viewer.burst = burst
            burst.users += 1
        else:
            viewer.held = size
        # The first burst may exceed the limit: only bytes on top of it make the viewer late.
        viewer.grace = size
        viewer.late_since = time.monotonic()
        self._write(viewer, burst.data)

    def _from_gop(self, framing: Framing) -> Burst:
        """Returns the headers and the GOP so far."""
        assert self._tracks is not None  # as `_greet`
        burst = self._gop_joined.get(framing)
        if burst is None:
            head = self._rendering.head(self._tracks, self._gop_dts_ms)
            burst = self._gop_joined[framing] = Burst(framing.wrap(head + b"".join(self._gop)))
        return burst

    def _from_beginning(self, framing: Framing, beginning: StartBuffer) -> Burst:
        """Returns the headers and everything since the stream's first unit."""
        last, bursts = self._beginning
        if last is not beginning.items[-1]:
            last, bursts = self._beginning = (beginning.items[-1], {})
        burst = bursts.get(framing)
        if burst is None:
            burst = bursts[framing] = Burst(framing.wrap(render_beginning(self._rendering, beginning)))
        return burst

    def _drop_gop(self) -> None:
        self._gop, self._gop_bytes, self._gop_joined = [], 0, {}
        self._startable = False

    def _write(self, viewer: Viewer, data: bytes) -> None:
        if not viewer.transport.is_closing():
            viewer.transport.write(data)
            viewer.has_written = True
            self._counts.sent[viewer.framing.kind] += len(data)

    def _forget(self, viewer: Viewer) -> None:
        self._viewers.pop(viewer, None)
        viewer.caught_up(self._backlogs)
        same = self._framings.get(viewer.framing, {})
        if viewer in same:
            del same[viewer]
            if not same:
                del self._framings[viewer.framing]
            self.stream.viewers[viewer.framing.kind] -= 1

    def _reset(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._attached:
            self._attached = False
            self.stream.detach(self)
        self._stop_writing()
        self._tracks = None
        self._pending = []
        self._beginning = (None, {})
        self._pace = PeakRate()
        self._drop_gop()
        self._pending_key = False
        self._cost = 0.0
