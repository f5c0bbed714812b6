"""The output `motion`: stores a picture and a clip of each motion, from before it began until it has ended.

Once a second of media, the newest picture is compared with that of the second before, small and gray. A worker that all
streams share does this, and `motion_rule` decides. A clip holds the unchanged media, from a key frame on.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import structlog

from gateway.formats.mp4.finish import finish
from gateway.lib.tasks import Tasks
from gateway.live.track_changes import IntervalLimiter
from gateway.media.errors import InvalidData
from gateway.media.track import Kind, Tracks
from gateway.media.unit import AccessUnit
from gateway.outputs.motion.motion_rule import MotionLimits, MotionRule
from gateway.outputs.motion.pre_roll import PreRoll
from gateway.outputs.recording.cutter import Cutter, PieceStart
from gateway.outputs.recording.mp4_piece import Mp4Piece
from gateway.outputs.recording.recording_output import RecordingOutput
from gateway.outputs.snapshot.snapshot_output import store_picture
from gateway.outputs.storage.locked_file import LockedFile, disk_errors
from gateway.ports import media_keys
from gateway.ports.errors import OutputError, OutputUnsupported
from gateway.workers.jpeg_service import JpegUnavailable

if TYPE_CHECKING:
    from gateway.channels.channel import Channel
    from gateway.live.stream import Stream
    from gateway.outputs.recording.recording_output import RecordingCounts
    from gateway.outputs.storage.archive import Archive
    from gateway.workers.jpeg_protocol import PictureDifference
    from gateway.workers.jpeg_service import JpegService, JpegSession

log = structlog.get_logger(__name__)

SCRATCH: Final = "motion"
_COMPARE_SECONDS: Final = 1.0  # seconds of media between two comparisons
_MAX_PRE_ROLL_BYTES: Final = 32_000_000  # bytes
_MAX_COMPARED_BYTES: Final = 16_000_000  # bytes that wait for a comparison; beyond it the next begins at a key frame
_MAX_PICTURES: Final = 4  # that wait to be stored; further clips get no picture
_MAX_BURST: Final = 5  # clips that may begin at once, and one a second
_ENDLESS: Final = 1e9  # seconds: the cutter must not cut


@dataclass(frozen=True, slots=True)
class Trigger:
    """The cause of a clip. wall: when it was seen, seconds since the epoch."""

    wall: float
    region: int
    percent: int

    def key(self, channel: str, folder: str, suffix: str) -> str:
        """Returns the key of one of its two files: `images` and `.jpeg`, or `mp4` and `.mp4`."""
        at = datetime.fromtimestamp(self.wall, UTC)
        name = f"{at:%Y-%m-%d_%H-%M-%S}-{at.microsecond // 1000:03d}_{self.region}-{self.percent}_{suffix}"
        return f"{channel}/motion/{folder}/{media_keys.day_folder(at)}/{name}"


class _Clip:
    """A clip that is being written: fragments in a scratch file, which become an MP4 at the end."""

    def __init__(self, trigger: Trigger, tracks: Tracks) -> None:
        self.trigger = trigger
        self.file: LockedFile | None = None
        self._movies: list[Mp4Piece] = []
        self.cutter = Cutter(tracks, _ENDLESS, self._begin)

    def _begin(self, opening: PieceStart) -> Mp4Piece:
        movie = Mp4Piece(opening)
        self._movies.append(movie)
        return movie

    @property
    def waits(self) -> bool:
        return any(movie.waits for movie in self._movies[:1])

    @property
    def refused(self) -> str | None:
        return self._movies[0].refused if self._movies else None

    def take(self) -> list[bytes]:
        """Returns the bytes to write now. A second piece would belong to another timeline and is left out."""
        return self._movies[0].take() if self._movies else []


class MotionOutput(RecordingOutput):
    """The output `motion`; see RecordingOutput for its life cycle.

    Memory is bounded: 32 MB of pre-roll, and the data of one comparison.
    pre_roll: seconds before the motion that a clip shows at least.
    """

    def __init__(
        self, stream: Stream, archive: Archive, jpegs: JpegService, counts: RecordingCounts, pre_roll: float
    ) -> None:
        super().__init__(stream, counts)
        self._archive = archive
        self._jpegs = jpegs
        self._session: JpegSession | None = None
        self._rule = MotionRule(_limits(self._channel))
        self._pace = IntervalLimiter(_MAX_BURST)  # of clips, by wall time
        self._ring = PreRoll(pre_roll, _MAX_PRE_ROLL_BYTES)
        self._tracks: Tracks | None = None
        self._clip: _Clip | None = None
        self._finished: list[_Clip] = []
        self._ended_at = float("-inf")  # decode time of the last clip's end, seconds
        self._unseen: list[AccessUnit] = []  # for the next comparison, from a key frame on if `_fresh`
        self._unseen_bytes = 0
        self._fresh = True
        self._compared = float("-inf")  # decode time of the last comparison, seconds
        self._comparison: asyncio.Task[Any] | None = None
        self._comparing = 0.0  # decode time of the picture that it compares
        self._judged_to = float("-inf")  # … and of the last picture that was compared
        self._tasks: Tasks | None = None
        self._pictures: Tasks | None = None
        self._clips = 0
        self._changed_percent = 0.0
        self._trouble: str | None = None

    async def run(self, stream: Stream) -> None:
        name = f"motion of {stream.name}"
        async with Tasks(name, self._crashed) as tasks, Tasks(name, self._crashed) as pictures:
            self._tasks, self._pictures = tasks, pictures
            self._session = self._jpegs.session()
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
            "error": self._trouble,
        }

    # ---- RecordingOutput ----

    def read_channel(self, channel: Channel) -> None:
        self._rule.limits = _limits(channel)

    def take_tracks(self, tracks: Tracks) -> None:
        if tracks.video is None:
            raise OutputUnsupported("a stream without a picture has no motion")
        if self._tracks is not None and tracks.epoch == self._tracks.epoch:
            return
        self._tracks = tracks
        self._begin_timeline()
        self._ring.clear()
        self._unseen, self._unseen_bytes, self._fresh = [], 0, True

    def take(self, unit: AccessUnit) -> None:
        if self._tracks is None:
            return
        awaited = self._comparing if self._comparison is not None and not self._comparison.done() else None
        self._ring.add(unit, awaited)
        clip = self._clip
        if clip is not None:
            clip.cutter.add(unit)
            if clip.refused is not None:
                raise OutputUnsupported(clip.refused)
        if unit.track.kind is Kind.VIDEO:
            at = unit.dts / unit.track.timescale
            self._see(unit, at)
            if self._rule.over(at, self._judged_to):
                self._end_clip()
                self._ended_at = at

    @property
    def due(self) -> bool:
        return bool(self._finished) or (self._clip is not None and self._clip.waits)

    async def store(self) -> None:
        if self._clip is not None:
            await self._write(self._clip)
        while self._finished:
            clip = self._finished.pop(0)
            try:
                await self._write(clip)
                await self._keep(clip)
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
        self._ring.clear()

    # ---- comparisons ----

    def _see(self, unit: AccessUnit, at: float) -> None:
        """Collects the units for the next comparison, and starts it when it is due."""
        if unit.key:
            # A key frame alone is cheaper than the units since the last comparison.
            self._unseen, self._unseen_bytes, self._fresh = [], 0, True
        elif self._fresh and not self._unseen:
            return  # nothing to begin with
        self._unseen.append(unit)
        self._unseen_bytes += len(unit.payload)
        if self._unseen_bytes > _MAX_COMPARED_BYTES:
            self._unseen, self._unseen_bytes, self._fresh = [], 0, True
        elif at < self._compared:
            self._compared = at
            self._begin_timeline()
        elif (
            at - self._compared >= _COMPARE_SECONDS
            and (self._comparison is None or self._comparison.done())
            and self._tasks is not None
        ):
            units, fresh = self._unseen, self._fresh
            self._unseen, self._unseen_bytes, self._fresh = [], 0, False
            # Counted from the planned time, so that the interval does not drift with the length of a GOP.
            self._compared = self._compared + _COMPARE_SECONDS if at - self._compared < 2 * _COMPARE_SECONDS else at
            self._comparing = at
            self._comparison = self._tasks.start(self._compare(units, fresh, at), "look")

    async def _compare(self, units: list[AccessUnit], fresh: bool, at: float) -> None:
        session = self._session
        assert session is not None, "made before the first unit"
        last = units[-1]
        try:
            look = await session.compare(last.track, units, fresh, int(self._channel.number("motion_diff")))
        except JpegUnavailable as error:
            self._tell(str(error))
            self._fresh, self._unseen, self._unseen_bytes = True, [], 0
            return
        finally:
            self._judged_to = at
        self._trouble = None
        if look.lost:
            self._fresh, self._unseen, self._unseen_bytes = True, [], 0
            return
        self._changed_percent = look.changed
        if not look.first and self._rule.seen(at, look.changed):
            self._begin_clip(look, last.wall, session)

    def _begin_clip(self, look: PictureDifference, wall: float, session: JpegSession) -> None:
        assert self._tracks is not None, "there are units"
        if not self._pace.take(wall):
            self._rule.clip_from = None  # a timeline that runs faster than the clock makes no more clips
            return
        trigger = Trigger(wall, look.region, min(100, round(look.changed)))
        clip = self._clip = _Clip(trigger, self._tracks)
        for unit in self._ring.units(after=self._ended_at):
            clip.cutter.add(unit)
        log.info("motion", stream=self._stream.name, changed=look.changed, region=look.region)
        # The next comparison does not wait for the disk.
        if self._pictures is not None and len(self._pictures) < _MAX_PICTURES:
            self._pictures.start(self._keep_picture(trigger, session), "picture")

    async def _keep_picture(self, trigger: Trigger, session: JpegSession) -> None:
        key = trigger.key(self._stream.channel.id, "images", ".jpeg")
        try:
            picture = await session.last_picture()
            await store_picture(self._archive, SCRATCH, key, picture, {"kind": "motion", "start": trigger.wall})
        except OutputError as error:
            self._tell(str(error))

    def _tell(self, reason: str) -> None:
        if self._trouble is None:
            log.warning("motion is not looked for", stream=self._stream.name, reason=reason)
        self._trouble = reason

    # ---- clips ----

    def _begin_timeline(self) -> None:
        """Resets the rule: earlier pictures say nothing about the new timeline."""
        self._end_clip()
        self._rule = MotionRule(self._rule.limits)
        self._ended_at = float("-inf")

    def _end_clip(self) -> None:
        clip, self._clip = self._clip, None
        self._rule.clip_from = None
        if clip is not None:
            clip.cutter.finish()
            self._finished.append(clip)

    async def _write(self, clip: _Clip) -> None:
        if data := clip.take():
            await self._archive.threads.run(partial(self._append, clip, data))

    def _append(self, clip: _Clip, data: list[bytes]) -> None:
        """Appends to the clip's file. Runs in a thread."""
        self._archive.check_free_space()
        if clip.file is None:
            clip.file = LockedFile(self._archive.scratch(SCRATCH) / f"{uuid4().hex}.part")
        clip.file.append(data)

    async def _keep(self, clip: _Clip) -> None:
        if clip.file is None:
            return
        made = await self._archive.threads.run(partial(_make_movie, clip.file, clip.trigger.wall))
        if made is None:
            return
        path, seconds = made
        key = clip.trigger.key(self._stream.channel.id, "mp4", ".mp4")
        ready = {"kind": "motion", "start": clip.trigger.wall, "seconds": seconds}
        key = await self._archive.keep(key, path, ready=ready)
        self._clips += 1
        self._counts.finished["motion"] = self._counts.finished.get("motion", 0) + 1
        log.info("motion clip finished", stream=self._stream.name, object=key, seconds=seconds)

    def _crashed(self, name: str, error: BaseException) -> None:
        log.error("looking for motion failed", stream=self._stream.name, exc_info=error)


def _limits(channel: Channel) -> MotionLimits:
    return MotionLimits(
        channel.number("motion_percent"), channel.number("motion_duration"), channel.number("motion_timeout")
    )


def _make_movie(file: LockedFile, created: float) -> tuple[Path, float] | None:
    """Makes the MP4 beside the fragments, and returns its path and seconds; None if they hold nothing. Runs in a
    thread.
    """
    file.close()
    path = file.path.with_suffix(".done")
    with disk_errors(path.parent):
        try:
            with file.path.open("rb") as source, path.open("wb") as target:
                return path, round(finish(source, target, created=created).seconds, 3)
        except InvalidData as error:
            path.unlink(missing_ok=True)
            log.warning("nothing of a motion clip could be saved", reason=str(error))
            return None


def _remove(clip: _Clip) -> None:
    """Removes a clip's files. Runs in a thread."""
    if clip.file is not None:
        clip.file.close()
        clip.file.path.unlink(missing_ok=True)
        clip.file.path.with_suffix(".done").unlink(missing_ok=True)
