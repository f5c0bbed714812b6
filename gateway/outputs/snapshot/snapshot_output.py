"""The output `image`: saves one JPEG of the stream every `image_time` seconds."""

import asyncio
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import structlog

from gateway.channels.channel import Channel
from gateway.lib.waiting import wait_at_most
from gateway.live.sink import EndReason, SinkNeeds
from gateway.live.stream import Stream
from gateway.media.track import AccessUnit, Kind, TimedData, Tracks
from gateway.outputs.recording.recording_output import RecordingCounts
from gateway.outputs.storage.archive import Archive
from gateway.outputs.storage.locked_file import disk_errors
from gateway.ports import media_keys
from gateway.ports.errors import OutputError
from gateway.workers.jpeg_service import JpegService

log = structlog.get_logger(__name__)

SCRATCH_FOLDER: Final = "image"
_RETRY_SECONDS: Final = 1.0  # until a failed snapshot is tried again
_MAX_WAIT_SECONDS: Final = 3600.0  # maximum wait; then the clock is read again, because it may have been changed


class SnapshotOutput:
    """Implements StreamOutput, ReportsStatus, ChannelAware, and Sink (only to detect new pictures).

    The first snapshot is the stream's first key frame; others follow at regular times.
    If the last key frame was already used, the GOP is decoded up to its newest picture.
    So every snapshot shows a new picture, and no snapshot is made while no picture arrives.
    Snapshots are made only in the windows of the channel's `recordSchedule`; always, if there is no schedule.
    """

    def __init__(self, stream: Stream, archive: Archive, jpegs: JpegService, counts: RecordingCounts) -> None:
        self._stream = stream
        self._archive = archive
        self._jpegs = jpegs
        self._counts = counts
        self._channel: Channel = stream.channel
        self._wake = asyncio.Event()
        self._waits_for_picture = False  # the next picture ends the wait
        self._ended = False
        self._failure: Exception | None = None
        self._last_used = -1  # decode time of the last decoded picture
        self._epoch = -1
        self._snapshots = 0
        self._error: str | None = None

    # ---- Output ----

    async def run(self, stream: Stream) -> None:
        """Makes snapshots until the stream has ended."""
        stream.attach(self, SinkNeeds(audio=False))
        try:
            due = time.monotonic()
            while not self._ended:
                if self._failure is not None:
                    raise self._failure
                now, interval = time.monotonic(), self._channel.number("image_time")
                due = min(due, now + interval)  # a shorter interval takes effect at once
                wait = max(due - now, self._seconds_to_window())
                if wait > 0:
                    await self._sleep(min(wait, _MAX_WAIT_SECONDS))
                    continue
                units = self._units()
                if not units:
                    await self._sleep(_MAX_WAIT_SECONDS, for_picture=True)
                    continue
                due = due + interval if due + interval > now else now + interval
                if not await self._store_snapshot(units):
                    due = now + min(_RETRY_SECONDS, interval)
        finally:
            stream.detach(self)

    def report(self) -> dict[str, Any]:
        return {"made": self._snapshots, "error": self._error}

    def channel_changed(self, channel: Channel) -> None:
        self._channel = channel
        self._wake.set()

    # ---- one snapshot ----

    def _units(self) -> list[AccessUnit]:
        """Returns the units to decode for a new picture; empty if there is none."""
        units = [u for u in self._stream.gop.units() if u.track.kind is Kind.VIDEO]
        if not units or units[-1].dts <= self._last_used:
            return []
        return units[:1] if units[0].dts > self._last_used else units

    async def _store_snapshot(self, units: list[AccessUnit]) -> bool:
        """Encodes and stores the picture. Returns False if encoding failed."""
        self._last_used = units[-1].dts
        try:
            picture = await self._jpegs.make_picture(units, self._stream)
        except OutputError as error:
            if self._error is None:
                log.warning("a snapshot could not be made", stream=self._stream.name, reason=str(error))
            self._error = str(error)
            return False
        key = media_keys.image_key(self._stream.channel.id, datetime.fromtimestamp(units[-1].wall, UTC))
        await store_picture(self._archive, SCRATCH_FOLDER, key, picture, {"kind": "image", "start": units[-1].wall})
        self._error = None
        self._snapshots += 1
        self._counts.finished["image"] += 1
        return True

    def _seconds_to_window(self) -> float:
        """Returns the seconds until the schedule's next window; 0 within a window."""
        schedule, now = self._channel.record_schedule, time.time()
        return 0.0 if schedule is None or schedule.active(now) else max(schedule.next_change(now) - now, 0.01)

    async def _sleep(self, seconds: float, *, for_picture: bool = False) -> None:
        """Waits at most `seconds` for a change. for_picture: a new picture ends the wait too."""
        self._wake.clear()
        self._waits_for_picture = for_picture
        await wait_at_most(seconds, self._wake)

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        if tracks.epoch != self._epoch:
            self._epoch = tracks.epoch
            self._last_used = -1

    def on_unit(self, unit: AccessUnit) -> None:
        if self._waits_for_picture and unit.track.kind is Kind.VIDEO:
            self._waits_for_picture = False
            self._wake.set()

    def on_timed(self, timed: TimedData) -> None:
        """Does nothing."""

    def on_end(self, reason: EndReason) -> None:
        self._ended = True
        self._wake.set()

    def on_failed(self, error: Exception) -> None:
        self._failure = error
        self._wake.set()


async def store_picture(archive: Archive, folder: str, key: str, data: bytes, ready: dict[str, Any]) -> str:
    """Writes a picture to a file, stores it, and returns its key. Raises OutputError.

    folder: name of the scratch folder of the output. ready: data of the `recording.ready` event.
    """
    path = await archive.threads.run(partial(_write, archive, folder, data))
    try:
        return await archive.keep(key, path, ready=ready)
    finally:
        await archive.threads.run(partial(path.unlink, missing_ok=True))


def _write(archive: Archive, folder: str, data: bytes) -> Path:
    """Writes the file and returns its path. Runs in a thread."""
    archive.check_free_space()
    path = archive.scratch(folder) / f"{uuid4().hex}.part"
    with disk_errors(path.parent):
        try:
            path.write_bytes(data)
        except OSError:
            path.unlink(missing_ok=True)
            raise
    return path
