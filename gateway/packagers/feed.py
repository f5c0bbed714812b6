"""Feeds: rendered bytes shared by many viewers.

A feed renders each unit once, batches what came in the last few tens of milliseconds and gives the same bytes to every
viewer. The transport's buffer is the only queue: a viewer too far behind is *late* and gets nothing more until it has
drained and the feed reaches a key frame.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from gateway.hub.gop import AUDIO_ONLY_SECONDS
from gateway.hub.stream import EndReason
from gateway.media.track import Kind, Tracks
from gateway.media.unit import AccessUnit, Timed

if TYPE_CHECKING:
    from gateway.hub.stream import Stream

SHARE = 0.05  # of the loop's time that one feed's writes may take before they are batched


class Transport(Protocol):
    """What a viewer writes to (asyncio's transport)."""

    def write(self, data: bytes) -> None: ...

    def is_closing(self) -> bool: ...

    def get_write_buffer_size(self) -> int: ...

    def get_extra_info(self, name: str) -> Any: ...

    def abort(self) -> None: ...


class Rendering(Protocol):
    """How units become bytes on one kind of connection: the only part that knows the format."""

    def head(self, tracks: Tracks, dts_ms: int) -> bytes:
        """What a viewer needs before its first unit: headers, metadata, sequence headers."""

    def change(self, tracks: Tracks, dts_ms: int) -> bytes:
        """The same for a viewer already playing: new sequence headers."""

    def unit(self, unit: AccessUnit) -> bytes: ...

    def timed(self, timed: Timed) -> bytes: ...


def _plain_socket(transport: Transport) -> int:
    """The descriptor behind a transport that adds nothing to the bytes; -1 for TLS and whatever is no socket."""
    if transport.get_extra_info("sslcontext") is not None:
        return -1
    sock = transport.get_extra_info("socket")
    return sock.fileno() if sock is not None else -1


class Framing(Protocol):
    """The envelope of a batch: an HTTP chunk, a WebSocket message, nothing. kind: what its viewers count as."""

    @property
    def kind(self) -> str: ...

    def wrap(self, data: bytes) -> bytes: ...

    def last(self, reason: EndReason) -> bytes:
        """What is sent before the connection closes."""


class Viewer:
    """One connection on a feed. `limit`: bytes that may wait in its transport before it is late.

    fd: the socket's descriptor where bytes may be written past an idle transport (plain TCP), else -1.
    `ended` is called when the feed is over, after the last bytes were written: the owner closes the connection.
    """

    __slots__ = (
        "ended",
        "epoch",
        "fd",
        "framing",
        "grace",
        "greeted",
        "late",
        "late_since",
        "limit",
        "peer",
        "transport",
        "waiting",
    )

    def __init__(
        self, transport: Transport, framing: Framing, limit: int, peer: str, ended: Callable[[EndReason], None]
    ) -> None:
        self.transport = transport
        self.fd = _plain_socket(transport)
        self.framing = framing
        self.limit = limit
        self.peer = peer
        self.ended = ended
        self.late = False
        self.late_since = 0.0
        self.epoch = -1  # the feed's head version that this viewer has
        self.waiting = 0  # bytes in the transport when last looked at while late
        self.grace = 0  # what may wait besides: the first burst, until it is taken
        self.greeted = False  # something was written


def _reset_on_close(fd: int) -> None:
    """Makes the close of a connection whose peer takes nothing a reset: a FIN would wait behind what cannot be sent,
    and the kernel would keep all of that for minutes."""
    with socket.socket(fileno=os.dup(fd)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class FeedCounts:
    """What the feeds of one process did: bytes given to viewers by kind, batches that late ones missed, viewers cut."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        self.dropped = 0
        self.stalled = 0


class Feed:
    """A sink that renders, batches and writes. Attached to its stream only while somebody watches.

    Flushes on the video frame while writing to everyone costs less than SHARE of the time, else as rarely as that
    needs, never more rarely than `flush_seconds`. A late viewer that has taken nothing for `stall_seconds` is cut (0:
    never). Everything runs on the stream's loop.
    """

    def __init__(
        self,
        stream: Stream,
        rendering: Rendering,
        flush_seconds: float,
        stall_seconds: float,
        counts: FeedCounts | None = None,
    ) -> None:
        self.stream = stream
        self._counts = counts or FeedCounts()
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
        self._gop_joined: dict[Framing, bytes] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._last_flush = 0.0
        self._cost = 0.0
        self._dts_ms = 0
        self._gop_dts_ms = 0

    def __len__(self) -> int:
        return len(self._viewers)

    # ---- viewers ----

    def join(self, viewer: Viewer, *, burst: bool = True) -> None:
        """Gives a viewer headers and the GOP so far, then all that comes. On an ended stream it is ended at once.

        burst False: nothing until the next key frame, for a viewer that has seen the GOP before.
        """
        if not self._attached:
            self._attached = True
            self.stream.attach(self)
            self.flush()  # the replayed GOP: nobody watches yet, it becomes the first viewer's burst
        if not self._attached or self._tracks is None:
            self._reset()
            viewer.ended(self.stream.ended or EndReason.OUTPUT_OFF)
            return
        self._viewers[viewer] = None
        self._framings.setdefault(viewer.framing, {})[viewer] = None
        self.stream.viewers[viewer.framing.kind] += 1
        if burst:
            self._greet(viewer)
        else:
            viewer.late, viewer.late_since = True, time.monotonic()

    def leave(self, viewer: Viewer) -> None:
        """The connection is gone. Idempotent."""
        if viewer not in self._viewers:
            return
        self._forget(viewer)
        if not self._viewers:
            self._reset()

    def viewers(self) -> Sequence[Viewer]:
        return list(self._viewers)

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        old, self._tracks = self._tracks, tracks
        self._version += 1
        if old is None:
            return
        self.flush()
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
            if video or not self._gop or dts_ms - self._gop_dts_ms >= AUDIO_ONLY_SECONDS * 1000:
                self._gop, self._gop_bytes, self._gop_joined = [], 0, {}
                self._gop_dts_ms = dts_ms
                self._startable = True
        self._dts_ms = dts_ms
        self._pending.append(self._rendering.unit(unit))
        self._schedule(video or tracks.video is None)

    def on_timed(self, timed: Timed) -> None:
        self._pending.append(self._rendering.timed(timed))
        self._schedule(False)

    def on_end(self, reason: EndReason) -> None:
        self.close(reason)

    def close(self, reason: EndReason) -> None:
        """Ends every viewer with what its protocol says last. Idempotent."""
        self.flush()
        for viewer in list(self._viewers):
            if not viewer.transport.is_closing():
                viewer.transport.write(viewer.framing.last(reason))
            self._forget(viewer)
            viewer.ended(reason)
        self._reset()

    def on_failed(self, error: Exception) -> None:
        """A bug of ours: the viewers of this feed are cut (they reconnect), the stream goes on."""
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
            # Audio alone waits for the next picture, but never longer than the bound.
            wait = self._bound if now >= due else due - now
            self._timer = asyncio.get_running_loop().call_later(min(wait, self._bound), self.flush)

    def flush(self) -> None:
        """Writes what is pending to everyone."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if not self._pending:
            return
        began = self._last_flush = time.monotonic()
        data = b"".join(self._pending)
        starts, self._pending_key = self._pending_key, False
        self._pending = []
        if self._startable:
            self._gop.append(data)
            self._gop_bytes += len(data)
            self._gop_joined = {}
            if self._gop_bytes > self.stream.gop.max_bytes:
                self._drop_gop()
        write = os.write
        for framing, viewers in self._framings.items():
            framed = framing.wrap(data)
            size = len(framed)
            written = 0
            for viewer in tuple(viewers):
                transport = viewer.transport
                if transport.is_closing():
                    continue
                waiting = transport.get_write_buffer_size()
                if viewer.late:
                    self._retry(viewer, waiting, starts, framed, began)
                    continue
                if not waiting:
                    viewer.grace = 0
                    if viewer.fd >= 0:
                        # The kernel takes it at once, the transport only what is left: a sixth cheaper than its queue.
                        written += 1
                        try:
                            taken = write(viewer.fd, framed)
                        except BlockingIOError:
                            taken = 0
                        except OSError:
                            continue  # the peer is gone; the transport notices by itself
                        if taken < size:
                            transport.write(framed[taken:])
                        continue
                elif waiting > viewer.limit + viewer.grace:
                    viewer.late = True
                    viewer.late_since = began
                    viewer.waiting = waiting
                    self._counts.dropped += 1
                    continue
                written += 1
                transport.write(framed)
            self._counts.sent[framing.kind] += size * written
        self._cost = 0.8 * self._cost + 0.2 * (time.monotonic() - began)

    def _retry(self, viewer: Viewer, waiting: int, starts: bool, framed: bytes, now: float) -> None:
        if starts and waiting == 0:
            viewer.late = False
            if viewer.epoch != self._version and self._tracks is not None:
                viewer.epoch = self._version
                self._write(viewer, viewer.framing.wrap(self._rendering.change(self._tracks, self._dts_ms)))
            self._write(viewer, framed)
        else:
            self._counts.dropped += 1
            if waiting < viewer.waiting:
                viewer.late_since = now  # slow, but taking
            elif waiting and self._stall and now - viewer.late_since > self._stall:
                self._counts.stalled += 1
                if viewer.fd >= 0:
                    _reset_on_close(viewer.fd)
                viewer.transport.abort()
            viewer.waiting = waiting

    def _greet(self, viewer: Viewer) -> None:
        assert self._tracks is not None  # a feed has viewers only on a playable stream
        viewer.epoch = self._version
        framing = viewer.framing
        burst = self._gop_joined.get(framing)
        if burst is None:
            head = self._rendering.head(self._tracks, self._gop_dts_ms)
            burst = self._gop_joined[framing] = framing.wrap(head + b"".join(self._gop))
        # The first burst may exceed the limit of a slow link; what counts as late is what comes on top of it.
        viewer.grace = len(burst)
        self._write(viewer, burst)
        # Without a beginning (a GOP beyond its bounds, the first key frame still to come) it starts at a key frame.
        viewer.late = not self._startable

    def _drop_gop(self) -> None:
        self._gop, self._gop_bytes, self._gop_joined = [], 0, {}
        self._startable = False

    def _write(self, viewer: Viewer, data: bytes) -> None:
        if not viewer.transport.is_closing():
            viewer.transport.write(data)
            viewer.greeted = True
            self._counts.sent[viewer.framing.kind] += len(data)

    def _forget(self, viewer: Viewer) -> None:
        self._viewers.pop(viewer, None)
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
        self._tracks = None
        self._pending = []
        self._drop_gop()
        self._pending_key = False
        self._cost = 0.0
