"""Motion: the output `motion`: a picture and a clip of what moves, from before it began until it has ended.

Once a second of media the newest picture is compared, small and gray, with that of the second before (in a worker that
all streams share); `motion_rule` decides. A clip holds the original bits, from a key frame on.
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
from gateway.hub.errors import OutputTrouble, OutputUnsupported
from gateway.lib.aio import Tasks
from gateway.media.errors import InvalidData
from gateway.media.track import Kind, Tracks
from gateway.media.unit import AccessUnit
from gateway.sinks import naming
from gateway.sinks.capture import Capture
from gateway.sinks.cutter import Cutter, Opening
from gateway.sinks.growing import Growing, trouble
from gateway.sinks.motion_rule import Limits, Rule
from gateway.sinks.movie import Movie
from gateway.sinks.preroll import PreRoll
from gateway.sinks.snapshot import keep
from gateway.transcode.stills import NoStill

if TYPE_CHECKING:
    from gateway.hub.channel import Channel
    from gateway.hub.stream import Stream
    from gateway.sinks.archive import Archive
    from gateway.sinks.capture import RecordingCounts
    from gateway.transcode.still import Look
    from gateway.transcode.stills import Session, Stills

log = structlog.get_logger(__name__)

SCRATCH: Final = "motion"
_EVERY: Final = 1.0  # seconds of media between two looks
_MOST_PRE_ROLL: Final = 32_000_000  # bytes
_MOST_LOOKED_AT: Final = 16_000_000  # bytes that wait for a look; beyond it the next begins at a key frame
_MOST_PICTURES: Final = 4  # that wait to be stored; of a clip beyond them there is none
_ENDLESS: Final = 1e9  # seconds: the cutter is not to cut


@dataclass(frozen=True, slots=True)
class Trigger:
    """What began a clip. wall: seconds since the epoch, when it was seen."""

    wall: float
    region: int
    percent: int

    def key(self, channel: str, folder: str, suffix: str) -> str:
        """Of one of its two files: `images` and `.jpeg`, or `mp4` and `.mp4`."""
        at = datetime.fromtimestamp(self.wall, UTC)
        name = f"{at:%Y-%m-%d_%H-%M-%S}-{at.microsecond // 1000:03d}_{self.region}-{self.percent}_{suffix}"
        return f"{channel}/motion/{folder}/{naming.day_folder(at)}/{name}"


class _Clip:
    """A clip that is being written: fragments in a scratch file, a movie in the end."""

    def __init__(self, trigger: Trigger, tracks: Tracks) -> None:
        self.trigger = trigger
        self.file: Growing | None = None
        self._movies: list[Movie] = []
        self.cutter = Cutter(tracks, _ENDLESS, self._begin)

    def _begin(self, opening: Opening) -> Movie:
        movie = Movie(opening)
        self._movies.append(movie)
        return movie

    @property
    def waits(self) -> bool:
        return any(movie.waits for movie in self._movies[:1])

    @property
    def refused(self) -> str | None:
        return self._movies[0].refused if self._movies else None

    def take(self) -> list[bytes]:
        """What is to be written now; a second movie would be of another timeline and is left out."""
        return self._movies[0].take() if self._movies else []


class Motion(Capture):
    """See Capture for its life. Bounded: 32 MB of pre-roll, and what one look takes.

    pre_roll: seconds that a clip shows of what was before, at least.
    """

    def __init__(
        self, stream: Stream, archive: Archive, stills: Stills, counts: RecordingCounts, pre_roll: float
    ) -> None:
        super().__init__(stream, counts)
        self._archive = archive
        self._stills = stills
        self._session: Session | None = None
        self._rule = Rule(_limits(self._channel))
        self._ring = PreRoll(pre_roll, _MOST_PRE_ROLL)
        self._tracks: Tracks | None = None
        self._clip: _Clip | None = None
        self._finished: list[_Clip] = []
        self._ended_at = float("-inf")  # decode time of the last clip's end, seconds
        self._unseen: list[AccessUnit] = []  # for the next look, from a key frame on where `_fresh`
        self._unseen_bytes = 0
        self._fresh = True
        self._looked = float("-inf")  # decode time of the last look, seconds
        self._look: asyncio.Task[Any] | None = None
        self._looking = 0.0  # decode time of the picture that it is about
        self._judged = float("-inf")  # … and of the one that the last finished look was about
        self._tasks: Tasks | None = None
        self._pictures: Tasks | None = None
        self._clips = 0
        self._changed_percent = 0.0
        self._trouble: str | None = None

    async def run(self, stream: Stream) -> None:
        name = f"motion of {stream.name}"
        async with Tasks(name, self._crashed) as tasks, Tasks(name, self._crashed) as pictures:
            self._tasks, self._pictures = tasks, pictures
            self._session = self._stills.session()
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

    # ---- Capture ----

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
        awaited = self._looking if self._look is not None and not self._look.done() else None
        self._ring.add(unit, awaited)
        clip = self._clip
        if clip is not None:
            clip.cutter.add(unit)
            if clip.refused is not None:
                raise OutputUnsupported(clip.refused)
        if unit.track.kind is Kind.VIDEO:
            at = unit.dts / unit.track.timescale
            self._see(unit, at)
            if self._rule.over(at, self._judged):
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
        if self._look is not None:
            self._look.cancel()
            await asyncio.wait([self._look])
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

    # ---- looking ----

    def _see(self, unit: AccessUnit, at: float) -> None:
        """Gathers what the next look needs, and starts it when it is time."""
        if unit.key:
            # A key frame alone is cheaper than what came since the last look.
            self._unseen, self._unseen_bytes, self._fresh = [], 0, True
        elif self._fresh and not self._unseen:
            return  # nothing to begin with
        self._unseen.append(unit)
        self._unseen_bytes += len(unit.payload)
        if self._unseen_bytes > _MOST_LOOKED_AT:
            self._unseen, self._unseen_bytes, self._fresh = [], 0, True
        elif at < self._looked:
            self._looked = at
            self._begin_timeline()
        elif at - self._looked >= _EVERY and (self._look is None or self._look.done()) and self._tasks is not None:
            units, fresh = self._unseen, self._fresh
            self._unseen, self._unseen_bytes, self._fresh = [], 0, False
            # From look to look, not from the last one: the pace does not drift with the length of a group.
            self._looked = self._looked + _EVERY if at - self._looked < 2 * _EVERY else at
            self._looking = at
            self._look = self._tasks.start(self._compare(units, fresh, at), "look")

    async def _compare(self, units: list[AccessUnit], fresh: bool, at: float) -> None:
        session = self._session
        assert session is not None, "made before the first unit"
        last = units[-1]
        try:
            look = await session.look(last.track, units, fresh, int(self._channel.number("motion_diff")))
        except NoStill as error:
            self._tell(str(error))
            self._fresh, self._unseen, self._unseen_bytes = True, [], 0
            return
        finally:
            self._judged = at
        self._trouble = None
        if look.lost:
            self._fresh, self._unseen, self._unseen_bytes = True, [], 0
            return
        self._changed_percent = look.changed
        if not look.first and self._rule.seen(at, look.changed):
            self._begin_clip(look, last.wall, session)

    def _begin_clip(self, look: Look, wall: float, session: Session) -> None:
        assert self._tracks is not None, "there are units"
        trigger = Trigger(wall, look.region, min(100, round(look.changed)))
        clip = self._clip = _Clip(trigger, self._tracks)
        for unit in self._ring.units(after=self._ended_at):
            clip.cutter.add(unit)
        log.info("motion", stream=self._stream.name, changed=look.changed, region=look.region)
        # The next look does not wait for the disk.
        if self._pictures is not None and len(self._pictures) < _MOST_PICTURES:
            self._pictures.start(self._keep_picture(trigger, session), "picture")

    async def _keep_picture(self, trigger: Trigger, session: Session) -> None:
        key = trigger.key(self._stream.channel.id, "images", ".jpeg")
        try:
            picture = await session.shot()
            await keep(self._archive, SCRATCH, key, picture, {"kind": "motion", "start": trigger.wall})
        except OutputTrouble as error:
            self._tell(str(error))

    def _tell(self, reason: str) -> None:
        if self._trouble is None:
            log.warning("motion is not looked for", stream=self._stream.name, reason=reason)
        self._trouble = reason

    # ---- clips ----

    def _begin_timeline(self) -> None:
        """What was seen until now says nothing about what comes."""
        self._end_clip()
        self._rule = Rule(self._rule.limits)
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
        """In a thread."""
        self._archive.check_room()
        if clip.file is None:
            clip.file = Growing(self._archive.scratch(SCRATCH) / f"{uuid4().hex}.part")
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


def _limits(channel: Channel) -> Limits:
    return Limits(channel.number("motion_percent"), channel.number("motion_duration"), channel.number("motion_timeout"))


def _make_movie(file: Growing, created: float) -> tuple[Path, float] | None:
    """In a thread: the finished movie beside the fragments, and its seconds; None where there is nothing in them."""
    file.close()
    path = file.path.with_suffix(".done")
    with trouble(path.parent):
        try:
            with file.path.open("rb") as source, path.open("wb") as target:
                return path, round(finish(source, target, created=created).seconds, 3)
        except InvalidData as error:
            path.unlink(missing_ok=True)
            log.warning("nothing of a motion clip could be saved", reason=str(error))
            return None


def _remove(clip: _Clip) -> None:
    """In a thread."""
    if clip.file is not None:
        clip.file.close()
        clip.file.path.unlink(missing_ok=True)
        clip.file.path.with_suffix(".done").unlink(missing_ok=True)
