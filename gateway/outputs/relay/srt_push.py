"""One publishing connection to an SRT listener: a transport stream from a key frame on."""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from gateway.formats.ts.muxer import AUDIO_TYPES, VIDEO_TYPES
from gateway.lib.egress import Address
from gateway.live.subscription import End, Item
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind, TimedData, Tracks
from gateway.outputs.relay.left_out_sound import check_sound
from gateway.packaging.ts.continuous import TsRendering
from gateway.ports.errors import OutputError, OutputUnsupported
from gateway.protocols.srt.connection import TICK_SECONDS
from gateway.protocols.srt.packets import PAYLOAD
from gateway.protocols.srt.send_buffer import split
from gateway.protocols.srt.url import LatencyRange, SrtUrl
from gateway.srt.link import SrtLink
from gateway.srt.outgoing import open_link

# Packets in one tick of 10 ms, which is 135 Mbit/s. The pictures since the last key frame would overflow the buffer of
# the server's socket if they came at once.
_BURST: Final = 128
_HIGH_WATER: Final = _BURST * PAYLOAD  # waiting bytes above which the caller must wait
# Haivision, SRT Deployment Guide, "Round Trip Time Multiplier": with some loss, the latency must be 3 round trips, and
# with up to 3 percent, 4.
_FEW_TRIPS: Final = 3
_ENOUGH_TRIPS: Final = 4
_SOME_LOSS: Final = 0.001  # share of the packets of _LOSS_SECONDS that were sent again
_LOSS_SECONDS: Final = 5
_DELIVER_SECONDS: Final = 5.0  # for what waits at the end of the stream


def check_tracks(tracks: Tracks) -> list[str]:
    """Returns a warning for sound that is left out. Raises OutputUnsupported for pictures that cannot be carried."""
    video = tracks.video
    if video is not None and video.codec not in VIDEO_TYPES:
        raise OutputUnsupported(f"SRT carries H.264 and H.265 video in a transport stream, and this is {video.codec}")
    return check_sound(tracks, AUDIO_TYPES, "a transport stream")


class SrtRelayPush:
    """An open push, made by `open_push`. Implements SrtUser.

    Memory: one unit above the high-water mark, and the send buffer of the connection.
    sent: bytes of payloads. warnings: one line for each problem of the current tracks.
    lost_at: monotonic seconds when packets were last found to come too late, and `loss` what to do; -inf: never.
    on_lost: called once when the connection is lost.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.warnings: list[str] = []
        self.lost_at = -math.inf
        self.loss = ""
        # Each second: packets that were sent, sent again, and dropped.
        self._counts: deque[tuple[int, int, int]] = deque(maxlen=_LOSS_SECONDS + 1)
        self.lost: OutputError | None = None
        self.on_lost: Callable[[Exception], None] | None = None
        self._link: SrtLink | None = None
        self._opened = contextlib.AsyncExitStack()
        self._waiting = bytearray()
        self._flushing: asyncio.Handle | None = None
        self._changed = asyncio.Event()  # fewer bytes wait, or the connection is lost

    async def open(self, url: SrtUrl, addresses: Sequence[Address], latency: LatencyRange, seconds: float) -> None:
        """Connects. Raises OutputError, OSError. latency, seconds: as for `open_link`."""
        opening = open_link(url, addresses, latency, seconds, lambda link: self)
        self._link = await self._opened.enter_async_context(opening)

    @property
    def dropped(self) -> int:
        """Packets that the server did not get in time."""
        return self._link.connection.sent.dropped if self._link is not None else 0

    async def send_stream(self, tracks: Tracks, items: AsyncIterator[Item]) -> None:
        """Sends all items until the stream's end. Raises OutputError, OutputUnsupported. Hot path."""
        rendering, key_due = TsRendering(), tracks.video is not None
        self._begin(tracks, lambda: rendering.render_head(tracks, 0))
        async for item in items:
            if isinstance(item, AccessUnit):
                if key_due and not (item.key and item.track.kind is Kind.VIDEO):
                    continue
                key_due = False
                self._send(rendering.render_unit(item))
                if len(self._waiting) > _HIGH_WATER:
                    await self._drain(_HIGH_WATER)
            elif isinstance(item, TimedData):
                if not key_due:
                    self._send(rendering.render_timed(item))
            elif isinstance(item, Tracks):
                if item.epoch != tracks.epoch:
                    key_due = item.video is not None
                    self._begin(item, lambda item=item: rendering.render_change(item, 0))  # type: ignore[misc]
                tracks = item
            elif isinstance(item, End):
                await self._deliver()
                return

    async def finish(self) -> None:
        """Closes the connection. May be called in any state."""
        self.on_lost = None
        if self._flushing is not None:
            self._flushing.cancel()
        await self._opened.aclose()

    # ---- SrtUser ----

    def receive(self, payloads: list[bytes], now: float) -> None:
        """Ignores the payloads: a listener that takes a push sends none."""

    def tick(self, now: float) -> None:
        """Finds losses that the latency does not cover. A server skips them, so few are known as dropped."""
        assert self._link is not None, "the link calls"
        connection = self._link.connection
        sent, trip = connection.sent, connection.round_trip.seconds if connection.round_trip.is_measured else 0.0
        self._counts.append((sent.sent, sent.retransmitted, sent.dropped))
        packets, again, dropped = (last - first for first, last in zip(self._counts[0], self._counts[-1], strict=True))
        latency = connection.agreement.send_latency
        if again > _SOME_LOSS * packets and latency < _FEW_TRIPS * trip:
            self.lost_at, needed = now, math.ceil(_ENOUGH_TRIPS * trip * 100) * 10
            self.loss = (
                f"lost packets come too late: the latency is {latency * 1000:.0f} ms, and this link needs {needed} ms"
            )
        elif dropped:
            self.lost_at, self.loss = now, "packets are lost: the link to the server is too thin"

    def closed(self, reason: str) -> None:
        self.lost = OutputError(reason)
        self._changed.set()
        if self.on_lost is not None:
            self.on_lost(self.lost)

    # ---- details ----

    def _begin(self, tracks: Tracks, render: Callable[[], bytes]) -> None:
        """Begins with these tracks. Raises OutputUnsupported."""
        self.warnings = check_tracks(tracks)
        try:
            self._send(render())
        except InvalidData as error:  # a broken configuration, or an unusual profile
            raise OutputUnsupported(str(error)) from None

    def _send(self, data: bytes) -> None:
        """Sends what was collected in one turn of the event loop together."""
        self._waiting += data
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        """Sends at most one burst. The rest follows in the next tick."""
        self._flushing, link = None, self._link
        if link is None or self.lost is not None:
            return
        if link.connection.sent.unsent < _BURST:  # otherwise the server acknowledges too slowly
            data = bytes(self._waiting[:_HIGH_WATER])
            del self._waiting[:_HIGH_WATER]
            self.sent += len(data)
            link.push(split(data, PAYLOAD))
            self._changed.set()
        if self._waiting:
            self._flushing = asyncio.get_running_loop().call_later(TICK_SECONDS, self._flush)

    async def _drain(self, most: int) -> None:
        """Waits until at most `most` bytes wait. Raises OutputError."""
        while len(self._waiting) > most:
            if self.lost is not None:
                raise self.lost
            self._changed.clear()
            await self._changed.wait()

    async def _deliver(self) -> None:
        """Waits until all is sent, and until the server has delivered it: some drop the rest at the close."""
        link = self._link
        assert link is not None, "it is open"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DELIVER_SECONDS):
                await self._drain(0)
                await asyncio.sleep(link.connection.agreement.send_latency)


async def open_push(url: SrtUrl, addresses: Sequence[Address], latency: LatencyRange, seconds: float) -> SrtRelayPush:
    """Opens a connection to the first address that answers. Raises OutputError, OSError.

    latency, seconds: as for `open_link`.
    """
    push = SrtRelayPush()
    await push.open(url, addresses, latency, seconds)
    return push
