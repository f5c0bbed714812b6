"""The output `motion`: stores a picture and a clip for each motion, including the time before it.

Each second of media, a worker compares the newest picture with the one a second earlier, scaled down and in gray. All
streams share the worker. `MotionRule` decides. A clip contains the unchanged media from a key frame on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import structlog

from gateway.channels.channel import Channel
from gateway.formats.mp4.finish import finish
from gateway.lib.tasks import Tasks
from gateway.live.stream import Stream
from gateway.live.track_changes import IntervalLimiter
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind, Tracks
from gateway.outputs.recording.cutter import Cutter, PieceStart
from gateway.outputs.recording.mp4_piece import Mp4Piece
from gateway.outputs.recording.recording_output import RecordingCounts, RecordingOutput
from gateway.outputs.snapshot.snapshot_output import store_picture
from gateway.outputs.storage.archive import Archive
from gateway.outputs.storage.locked_file import LockedFile, disk_errors
from gateway.ports import media_keys
from gateway.ports.errors import OutputError, OutputUnsupported
from gateway.workers.jpeg_protocol import PictureDifference
from gateway.workers.jpeg_service import JpegService, JpegSession, JpegUnavailable

log = structlog.get_logger(__name__)

SCRATCH_FOLDER: Final = "motion"
_COMPARE_SECONDS: Final = 1.0  # of media between two comparisons
_MAX_PRE_ROLL_BYTES: Final = 32_000_000
_MAX_COMPARED_BYTES: Final = 16_000_000  # that wait for a comparison; above this it starts at a key frame
_MAX_PICTURES: Final = 4  # pictures waiting for storage; clips above this have no picture
_MAX_BURST: Final = 5  # clips that may begin at once, then one a second
_NO_CUT_SECONDS: Final = 1e9  # larger than any clip, so that no clip is cut


@dataclass(frozen=True, slots=True)
class Trigger:
    """The cause of a clip. wall_clock: time of its picture, seconds since 1970.

    region: the region with the most changed pixels, 1 to 9. percent: of the pixels that have changed.
    """

    wall_clock: float
    region: int
    percent: int

    def key(self, channel: str, folder: str, suffix: str) -> str:
        """Returns the key of one of its two files: `images` and `.jpeg`, or `mp4` and `.mp4`."""
        at = datetime.fromtimestamp(self.wall_clock, UTC)
        name = f"{at:%Y-%m-%d_%H-%M-%S}-{at.microsecond // 1000:03d}_{self.region}-{self.percent}_{suffix}"
        return f"{channel}/motion/{folder}/{media_keys.day_folder(at)}/{name}"


class _MotionClip:
    """A clip that is being written, as fragments in a scratch file. Its end converts them to an MP4."""

    def __init__(self, trigger: Trigger, tracks: Tracks) -> None:
        self.trigger = trigger
        self.file: LockedFile | None = None
        self.piece: Mp4Piece | None = None  # the first one; a later one is not used, because it has another timeline
        self.cutter = Cutter(tracks, _NO_CUT_SECONDS, self._begin_piece)

    def _begin_piece(self, start: PieceStart) -> Mp4Piece:
        piece = Mp4Piece(start)
        self.piece = self.piece or piece
        return piece


class MotionOutput(RecordingOutput):
    """The output `motion`; see RecordingOutput for its life cycle.

    Memory is bounded: 32 MB of pre-roll, and the data of one comparison.
    pre_roll: minimum seconds before the motion in a clip.
    """

    def __init__(
        self, stream: Stream, archive: Archive, jpegs: JpegService, counts: RecordingCounts, pre_roll: float
    ) -> None:
        super().__init__(stream, archive, counts)
        self._jpegs = jpegs
        self._session: JpegSession | None = None
        self._rule = MotionRule(_limits(self._channel))
        self._clip_limiter = IntervalLimiter(_MAX_BURST)  # by wall-clock time
        self._pre_roll = PreRoll(pre_roll, _MAX_PRE_ROLL_BYTES)
        self._tracks: Tracks | None = None  # None while the stream has no video
        self._clip: _MotionClip | None = None
        self._finished: list[_MotionClip] = []
        self._ended_at = float("-inf")  # decode time of the last clip's end, seconds
        self._uncompared: list[AccessUnit] = []  # for the next comparison; from a key frame on if `_from_key_frame`
        self._uncompared_bytes = 0
        self._from_key_frame = True
        self._compared = float("-inf")  # decode time of the last comparison, seconds
        self._comparison: asyncio.Task[Any] | None = None
        self._comparing = 0.0  # decode time of the picture being compared
        self._compared_until = float("-inf")  # … and of the last compared picture
        self._tasks: Tasks | None = None
        self._pictures: Tasks | None = None
        self._clips = 0
        self._changed_percent = 0.0
        self._error: str | None = None

    async def run(self, stream: Stream) -> None:
        name = f"motion of {stream.name}"
        async with Tasks(name) as tasks, Tasks(name) as pictures:
            self._tasks, self._pictures = tasks, pictures
            self._session = self._jpegs.open_session(stream)
            try:
                await super().run(stream)
            finally:
                self._session.close()
                self._tasks = self._pictures = None

    def report(self) -> dict[str, Any]:
        return {
            **super().report(),
            "clips": self._clips,
            "recording": self._clip is not None,
            "changed": self._changed_percent,
            "error": self._error,
        }

    # ---- RecordingOutput ----

    def read_channel(self, channel: Channel) -> None:
        self._rule.limits = _limits(channel)

    def on_tracks(self, tracks: Tracks) -> None:
        if self._tracks is not None and tracks.epoch == self._tracks.epoch:
            return
        self._tracks = tracks if tracks.video is not None else None
        self._reset_rule()
        self._pre_roll.clear()
        self._discard_collected()

    def on_unit(self, unit: AccessUnit) -> None:
        if self._tracks is None:
            return
        comparing_at = self._comparing if self._comparison is not None and not self._comparison.done() else None
        self._pre_roll.add(unit, comparing_at)
        clip = self._clip
        if clip is not None:
            clip.cutter.add(unit)
            if clip.piece is not None:
                self.has_data_to_store = self.has_data_to_store or clip.piece.has_data
                if clip.piece.unsupported is not None:
                    raise OutputUnsupported(clip.piece.unsupported)
        if unit.track.kind is Kind.VIDEO:
            at = unit.dts / unit.track.timescale
            self._collect(unit, at)
            if self._rule.check_end(at, self._compared_until):
                self._end_clip()
                self._ended_at = at

    def flush_pieces(self) -> None:
        """Does nothing: `ClipService` does not read motion clips."""

    async def store(self) -> None:
        self.has_data_to_store = False
        if self._clip is not None:
            await self._write(self._clip)
        while self._finished:
            clip = self._finished.pop(0)
            try:
                await self._write(clip)
                await self._store_clip(clip)
            finally:
                await self._archive.threads.run(partial(_remove, clip))

    async def finish(self, failed: bool) -> None:
        if self._comparison is not None:
            self._comparison.cancel()
            await asyncio.wait([self._comparison])
        if self._pictures is not None:
            await self._pictures.idle()
        self._end_clip()
        if not failed:
            await self.store()
        for clip in self._finished:
            await self._archive.threads.run(partial(_remove, clip))
        self._finished = []
        self._tracks = None
        self._pre_roll.clear()

    # ---- comparisons ----

    def _collect(self, unit: AccessUnit, at: float) -> None:
        """Collects units for the next comparison, and starts it when it is due."""
        if unit.key:
            # A key frame alone is cheaper than the units since the last comparison.
            self._discard_collected()
        elif self._from_key_frame and not self._uncompared:
            return  # wait for a key frame
        self._uncompared.append(unit)
        self._uncompared_bytes += len(unit.payload)
        if self._uncompared_bytes > _MAX_COMPARED_BYTES:
            self._discard_collected()
        elif at < self._compared:
            self._compared = at
            self._reset_rule()
        elif (
            at - self._compared >= _COMPARE_SECONDS
            and (self._comparison is None or self._comparison.done())
            and self._tasks is not None
        ):
            units, from_key_frame = self._uncompared, self._from_key_frame
            self._uncompared, self._uncompared_bytes, self._from_key_frame = [], 0, False
            # Based on the planned time, so that the GOP length does not shift the interval.
            self._compared = self._compared + _COMPARE_SECONDS if at - self._compared < 2 * _COMPARE_SECONDS else at
            self._comparing = at
            self._comparison = self._tasks.start(self._compare(units, from_key_frame, at), "compare")

    def _discard_collected(self) -> None:
        """Drops the collected units. The next comparison starts at a key frame."""
        self._uncompared, self._uncompared_bytes, self._from_key_frame = [], 0, True

    async def _compare(self, units: list[AccessUnit], from_key_frame: bool, at: float) -> None:
        session = self._session
        assert session is not None, "the session exists before the first unit"
        last = units[-1]
        try:
            difference = await session.compare(units, from_key_frame, int(self._channel.number("motion_diff")))
        except JpegUnavailable as error:
            self._report_error(str(error))
            self._discard_collected()
            return
        finally:
            self._compared_until = at
        self._error = None
        if difference.lost:
            self._discard_collected()
            return
        self._changed_percent = difference.changed
        if not difference.first and self._tracks is not None and self._rule.add_comparison(at, difference.changed):
            self._begin_clip(difference, last.wall, session)

    def _begin_clip(self, difference: PictureDifference, wall_clock: float, session: JpegSession) -> None:
        assert self._tracks is not None, "tracks arrive before units"
        if not self._clip_limiter.take(wall_clock):
            self._rule.clip_from = None  # too many clips: the timeline runs faster than the clock
            return
        trigger = Trigger(wall_clock, difference.region, min(100, round(difference.changed)))
        clip = self._clip = _MotionClip(trigger, self._tracks)
        for unit in self._pre_roll.units(after=self._ended_at):
            clip.cutter.add(unit)
        log.info("motion", stream=self._stream.name, changed=difference.changed, region=difference.region)
        # The next comparison does not wait for the disk.
        if self._pictures is not None and len(self._pictures) < _MAX_PICTURES:
            self._pictures.start(self._store_clip_picture(trigger, session), "picture")

    async def _store_clip_picture(self, trigger: Trigger, session: JpegSession) -> None:
        key = trigger.key(self._stream.channel.id, "images", ".jpeg")
        try:
            picture = await session.last_picture()
            await store_picture(
                self._archive, SCRATCH_FOLDER, key, picture, {"kind": "motion", "start": trigger.wall_clock}
            )
        except OutputError as error:
            self._report_error(str(error))

    def _report_error(self, reason: str) -> None:
        if self._error is None:
            log.warning("motion detection failed", stream=self._stream.name, reason=reason)
        self._error = reason

    # ---- clips ----

    def _reset_rule(self) -> None:
        """Resets the rule, because earlier pictures have another timeline."""
        self._end_clip()
        self._rule = MotionRule(self._rule.limits)
        self._ended_at = float("-inf")

    def _end_clip(self) -> None:
        clip, self._clip = self._clip, None
        self._rule.clip_from = None
        if clip is not None:
            clip.cutter.finish()
            self._finished.append(clip)
            self.has_data_to_store = True

    async def _write(self, clip: _MotionClip) -> None:
        if clip.piece is not None and (data := clip.piece.pop_data()):
            await self._archive.threads.run(partial(self._append, clip, data))

    def _append(self, clip: _MotionClip, data: list[bytes]) -> None:
        """Appends to the clip's file. Runs in a thread."""
        self._archive.check_free_space()
        if clip.file is None:
            clip.file = LockedFile(self._archive.scratch(SCRATCH_FOLDER) / f"{uuid4().hex}.part")
        clip.file.append(data)

    async def _store_clip(self, clip: _MotionClip) -> None:
        if clip.file is None:
            return
        result = await self._archive.threads.run(partial(_make_mp4, clip.file, clip.trigger.wall_clock))
        if result is None:
            return
        path, seconds = result
        key = clip.trigger.key(self._stream.channel.id, "mp4", ".mp4")
        event = {"kind": "motion", "start": clip.trigger.wall_clock, "seconds": seconds}
        key = await self._archive.keep(key, path, ready=event)
        self._clips += 1
        self._counts.finished["motion"] += 1
        log.info("motion clip finished", stream=self._stream.name, object=key, seconds=seconds)


def _limits(channel: Channel) -> MotionLimits:
    return MotionLimits(
        channel.number("motion_percent"), channel.number("motion_duration"), channel.number("motion_timeout")
    )


def _make_mp4(file: LockedFile, created: float) -> tuple[Path, float] | None:
    """Writes the MP4 next to the fragments. Runs in a thread.

    Returns its path and seconds; None if there are no samples.
    """
    file.close()
    path = file.path.with_suffix(".done")
    with disk_errors(path.parent):
        try:
            with file.path.open("rb") as source, path.open("wb") as target:
                return path, round(finish(source, target, created=created).seconds, 3)
        except InvalidData as error:
            path.unlink(missing_ok=True)
            log.warning("a motion clip could not be saved", reason=str(error))
            return None


def _remove(clip: _MotionClip) -> None:
    """Removes a clip's files. Runs in a thread."""
    if clip.file is not None:
        clip.file.close()
        clip.file.path.unlink(missing_ok=True)
        clip.file.path.with_suffix(".done").unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class MotionLimits:
    """The limits that decide about motion and its clips.

    percent: minimum changed area of the picture, in percent.
    duration: seconds that a clip continues after the last motion.
    timeout: maximum seconds of a clip after its trigger.
    """

    percent: float
    duration: float
    timeout: float


class MotionRule:
    """The rule for one stream. Times are media seconds, so drift of the system clock has no effect.

    `clip_from`: start of the current clip; None if there is none.
    """

    def __init__(self, limits: MotionLimits) -> None:
        self.limits = limits
        self.clip_from: float | None = None
        self._last_motion = 0.0  # time of the last motion
        self._clip_ended_at = float("-inf")  # end of the previous clip

    def add_comparison(self, at: float, changed: float) -> bool:
        """Records the changed percentage of the picture at `at`. Returns whether a clip begins.

        0 % change is never motion, even if `percent` is 0.
        Pictures before the end of the previous clip start no clip. The next comparison detects continuing motion.
        """
        if not changed or changed < self.limits.percent or at <= self._clip_ended_at:
            return False
        self._last_motion = at
        if self.clip_from is None:
            self.clip_from = at
            return True
        return False

    def check_end(self, at: float, compared_until: float | None = None) -> bool:
        """Ends the clip if it is due at the stream's time `at`. Returns whether it has ended now.

        compared_until: time of the last compared picture; None: `at`.
        Results may arrive late on a busy machine. A result from before the end can still extend the clip.
        """
        began, limits = self.clip_from, self.limits
        if began is None:
            return False
        compared_until = at if compared_until is None else compared_until
        if at - began < limits.timeout and compared_until - self._last_motion < limits.duration:
            return False
        self.clip_from, self._clip_ended_at = None, at
        return True


class PreRoll:
    """Stores at least `seconds` before the newest picture, or before an older one (see `add`), from a key frame on.

    Above `max_bytes` bytes the oldest GOPs are removed.
    A single GOP that is too large is removed too.
    """

    def __init__(self, seconds: float, max_bytes: int) -> None:
        self._seconds = seconds
        self._max_bytes = max_bytes
        self._groups: deque[list[AccessUnit]] = deque()  # each begins with a key frame
        self._bytes = 0

    def add(self, unit: AccessUnit, comparing_at: float | None = None) -> None:
        """Adds the stream's next unit. Hot path.

        comparing_at: decode time, in seconds, of the picture being compared, which needs earlier units; None if none.
        """
        groups = self._groups
        if unit.track.kind is Kind.VIDEO:
            newest = _seconds(unit) if comparing_at is None else comparing_at
            # The second group is old enough, so the first is not needed.
            while len(groups) > 1 and newest - _seconds(groups[1][0]) >= self._seconds:
                self._remove_first()
            if unit.key:
                if len(groups) == 1 and not self._seconds:
                    self._remove_first()
                groups.append([])
        if not groups:
            return
        groups[-1].append(unit)
        self._bytes += len(unit.payload)
        while groups and self._bytes > self._max_bytes:
            self._remove_first()

    def units(self, after: float = float("-inf")) -> list[AccessUnit]:
        """Returns the units of all groups that end after `after` (decode time, seconds)."""
        return [unit for group in self._groups if _seconds(group[-1]) > after for unit in group]

    def clear(self) -> None:
        self._groups.clear()
        self._bytes = 0

    def _remove_first(self) -> None:
        self._bytes -= sum(len(unit.payload) for unit in self._groups.popleft())


def _seconds(unit: AccessUnit) -> float:
    return unit.dts / unit.track.timescale
