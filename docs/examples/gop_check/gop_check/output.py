"""The output of one stream: it measures, reports in the API, and warns once in the log."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, Kind, TimedData, Tracks

log = structlog.get_logger(__name__)


class GopCheck:
    """A StreamOutput, a Sink and ReportsStatus. It keeps four numbers, whatever the stream's length."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._ended = asyncio.Event()
        self._error: Exception | None = None
        self._epoch: int | None = None
        self._last: float | None = None  # time of the last key frame, seconds
        self._longest = 0.0
        self._key_frames = 0
        self._warned = False

    async def run(self, stream: Stream) -> None:
        """Returns when the stream has ended. It is cancelled if the output is switched off."""
        stream.attach(self)
        try:
            await self._ended.wait()
        finally:
            stream.detach(self)
        if self._error is not None:
            raise self._error  # the session shows it, and the output starts again

    def report(self) -> dict[str, Any]:
        """Returns values for the output's entry in `GET /videostream/{id}/session`."""
        return {"keyFrames": self._key_frames, "longestGop": round(self._longest, 3)}

    def on_tracks(self, tracks: Tracks) -> None:
        if tracks.epoch != self._epoch:  # times begin anew
            self._epoch, self._last = tracks.epoch, None

    def on_unit(self, unit: AccessUnit) -> None:
        if unit.track.kind is not Kind.VIDEO or not unit.key:
            return
        time = unit.dts / unit.track.timescale
        self._key_frames += 1
        if self._last is not None:
            self._longest = max(self._longest, time - self._last)
        self._last = time
        limit = self._stream.channel.number("gop_limit")
        if self._longest > limit and not self._warned:
            self._warned = True
            log.warning("key frames are rare", stream=self._stream.name, seconds=round(self._longest, 1), limit=limit)

    def on_timed(self, timed: TimedData) -> None:
        """Captions and data do not matter here."""

    def on_end(self, reason: EndReason) -> None:
        self._ended.set()

    def on_failed(self, error: Exception) -> None:
        """Gets what another method has raised. The stream has detached this sink before."""
        self._error = error
        self._ended.set()
