"""The output `image`: saves one JPEG of the stream every `image_time` seconds."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import structlog

from gateway.media.track import Kind, Tracks
from gateway.media.unit import AccessUnit, Timed
from gateway.outputs.storage.locked_file import disk_errors
from gateway.ports import media_keys
from gateway.ports.errors import OutputError, OutputUnsupported

if TYPE_CHECKING:
    from gateway.channels.channel import Channel
    from gateway.live.sink import EndReason
    from gateway.live.stream import Stream
    from gateway.outputs.recording.recording_output import RecordingCounts
    from gateway.outputs.storage.archive import Archive
    from gateway.workers.jpeg_service import JpegService

log = structlog.get_logger(__name__)

IMAGE_TIME: Final = "image_time"
SCRATCH: Final = "image"
_AGAIN: Final = 1.0  # seconds until a failed snapshot is tried again
_LONGEST_WAIT: Final = 3600.0  # seconds; then the clock is read again, because somebody may have set it


class SnapshotOutput:
    """Implements StreamOutput, ReportsStatus, ChannelAware, and Sink (which only listens for pictures).

    The first snapshot is made at the stream's first key frame, the others at regular times after it.
    If the key frame was already used, everything up to the newest picture is decoded.
    So two snapshots never show the same picture, and none is made while no picture arrives.
    Snapshots are made only within the hours of the channel's `recordSchedule`, or always if it has none.
    """

    def __init__(self, stream: Stream, archive: Archive, jpegs: JpegService, counts: RecordingCounts) -> None:
        self._stream = stream
        self._archive = archive
        self._jpegs = jpegs
        self._counts = counts
        self._channel: Channel = stream.channel
        self._wake = asyncio.Event()
        self._listens = False  # for the next picture
        self._ended = False
        self._failure: Exception | None = None
        self._used = -1  # decode time of the latest picture of the last snapshot
        self._epoch = -1
        self._made = 0
        self._trouble: str | None = None

    # ---- Output ----

    async def run(self, stream: Stream) -> None:
        """Makes snapshots until the stream has ended."""
        stream.attach(self)
        try:
            due = time.monotonic()
            while not self._ended:
                if self._failure is not None:
                    raise self._failure
                now, every = time.monotonic(), self._channel.number(IMAGE_TIME)
                due = min(due, now + every)  # a shorter interval takes effect at once
                rest = max(due - now, self._closed_for())
                if rest > 0:
                    await self._sleep(min(rest, _LONGEST_WAIT))
                    continue
                units = self._units()
                if not units:
                    await self._sleep(_LONGEST_WAIT, for_picture=True)
                    continue
                due = due + every if due + every > now else now + every
                if not await self._take(units):
                    due = now + min(_AGAIN, every)
        finally:
            stream.detach(self)

    def report(self) -> dict[str, Any]:
        return {"made": self._made, "error": self._trouble}

    def channel_changed(self, channel: Channel) -> None:
        self._channel = channel
        self._wake.set()

    # ---- one snapshot ----

    def _units(self) -> list[AccessUnit]:
        """Returns the units to decode for a picture that was not used yet; empty if there is no new picture."""
        units = [u for u in self._stream.gop.units() if u.track.kind is Kind.VIDEO]
        if not units or units[-1].dts <= self._used:
            return []
        return units[:1] if units[0].dts > self._used else units

    async def _take(self, units: list[AccessUnit]) -> bool:
        """Makes and stores the picture. Returns False if that failed this time."""
        self._used = units[-1].dts
        try:
            picture = await self._jpegs.picture(units)
        except OutputError as error:
            if self._trouble is None:
                log.warning("a snapshot could not be made", stream=self._stream.name, reason=str(error))
            self._trouble = str(error)
            return False
        key = media_keys.image_key(self._stream.channel.id, datetime.fromtimestamp(units[-1].wall, UTC))
        await store_picture(self._archive, SCRATCH, key, picture, {"kind": "image", "start": units[-1].wall})
        self._trouble = None
        self._made += 1
        self._counts.finished["image"] = self._counts.finished.get("image", 0) + 1
        return True

    def _closed_for(self) -> float:
        """Seconds until the hours of the schedule begin; 0 within them."""
        schedule, now = self._channel.record_schedule, time.time()
        return 0.0 if schedule is None or schedule.active(now) else max(schedule.next_change(now) - now, 0.01)

    async def _sleep(self, seconds: float, *, for_picture: bool = False) -> None:
        """Waits `seconds`, or until something has changed, or (for_picture) until a picture has arrived."""
        self._wake.clear()
        self._listens = for_picture
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        if tracks.video is None:
            self._failure = OutputUnsupported("a stream without a picture has no snapshots")
            self._wake.set()
        elif tracks.epoch != self._epoch:
            self._epoch = tracks.epoch
            self._used = -1

    def on_unit(self, unit: AccessUnit) -> None:
        if self._listens and unit.track.kind is Kind.VIDEO:
            self._listens = False
            self._wake.set()

    def on_timed(self, timed: Timed) -> None:
        """Does nothing: timed data is no picture."""

    def on_end(self, reason: EndReason) -> None:
        self._ended = True
        self._wake.set()

    def on_failed(self, error: Exception) -> None:
        self._failure = error
        self._wake.set()


async def store_picture(archive: Archive, kind: str, key: str, data: bytes, ready: dict[str, Any]) -> str:
    """Writes a small file, gives it to the archive, and returns the key it got. Raises OutputError."""
    path = await archive.threads.run(partial(_write, archive, kind, data))
    try:
        return await archive.keep(key, path, ready=ready)
    finally:
        await archive.threads.run(partial(path.unlink, missing_ok=True))


def _write(archive: Archive, kind: str, data: bytes) -> Path:
    """Writes the file and returns its path. Runs in a thread."""
    archive.check_free_space()
    path = archive.scratch(kind) / f"{uuid4().hex}.part"
    with disk_errors(path.parent):
        try:
            path.write_bytes(data)
        except OSError:
            path.unlink(missing_ok=True)
            raise
    return path
