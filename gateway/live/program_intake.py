"""ProgramIntake: turns a transport stream into a publisher's tracks and units."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import structlog

from gateway.channels.channel import Channel
from gateway.formats.ts.data_units import DataUnit
from gateway.formats.ts.packets import unwrapped
from gateway.formats.ts.program_reader import ProgramReader, ProgramTracks, ProgramUnit
from gateway.formats.ts.program_tables import SCRAMBLED, UNNAMED, StreamEntry, StreamUse
from gateway.live.cue_intake import LONGEST_MS, CueIntake
from gateway.live.private_intake import PRIVATE_USES, PrivateIntake
from gateway.live.publisher import StreamPublisher
from gateway.live.pushed_tracks import MAX_PUSHED, TrackInfo
from gateway.live.sound_to_aac import MakeConverter, SoundToAac, becomes_aac
from gateway.live.track_changes import MAX_BURST, IntervalLimiter, KeepsChanging
from gateway.live.unit_intake import AUDIO_INDEX, CONVERTED_SOUND_MS, VIDEO_INDEX, UnitIntake
from gateway.live.unusable_media import NOT_READABLE
from gateway.media.clock import MILLISECONDS, VIDEO_CLOCK
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack

log = structlog.get_logger(__name__)

_MAX_SOUNDS: Final = MAX_PUSHED // 2  # additional tracks of one kind
# After so long without pictures in the program, its sound is announced alone: they may return with another map.
_SOUND_ALONE_SECONDS: Final = 2.0
# Codecs of broadcasting that FLV, RTMP and browsers do not play. A worker converts them to AAC.
_CONVERTED: Final = frozenset((Codec.AC3, Codec.EAC3))


def must_be_converted(event: ProgramUnit, channel: Channel) -> bool:
    """Whether a unit is sound that only a worker can make into a track that players of the channel play."""
    track = event.unit.track
    return track.codec in _CONVERTED or becomes_aac(track, event.foreign, channel)


def lost_streams(program: ProgramTracks) -> dict[str, Kind]:
    """Returns the kinds of a program's streams that cannot be used, by the names of their codecs."""
    lost = [(f"{e.codec} {e.lost}" if e.codec == SCRAMBLED else e.codec, e.lost) for e in program.streams]
    found = {name: kind for name, kind in lost if kind is not None}
    kinds = {Kind(entry.use) for entry in program.streams if entry.use in (StreamUse.VIDEO, StreamUse.AUDIO)}
    present = {*kinds, *found.values()}
    if present == {Kind.VIDEO} and any(entry.codec == UNNAMED for entry in program.streams):
        found[UNNAMED] = Kind.AUDIO  # it may be the missing sound
    if len(present) < len(Kind):
        missing = Kind.AUDIO if Kind.VIDEO in present else Kind.VIDEO
        found |= {entry.codec: missing for entry in program.streams if entry.is_unknown}
    return found


@dataclass(slots=True, eq=False)
class _Source:
    """An elementary stream that is published. track_id: 0: a default track.

    read: the track of the last unit of the reader. track: what is published; None: what its converter makes.
    """

    track_id: int
    index: int  # of the timeline
    language: str
    read: MediaTrack | None = None
    track: MediaTrack | None = None
    converter: SoundToAac | None = None

    @property
    def use(self) -> StreamUse:
        return StreamUse.AUDIO if self.index % 2 else StreamUse.VIDEO

    def end_conversion(self) -> None:
        """Closes its converter, if it has one."""
        converter, self.converter = self.converter, None
        if converter is not None:
            converter.close()


class ProgramIntake(UnitIntake):
    """Publishes the first pictures and the first sound of a program as default tracks.

    More sound becomes additional tracks, with their languages. Private data becomes timed data. Everything else is
    named in the log, and left out. If a new map leaves out the pictures, the sound is announced alone; if it leaves out
    the sound, that goes on as silence (`SoundGaps`).
    """

    def __init__(self, publisher: StreamPublisher, make_converter: MakeConverter) -> None:
        super().__init__(publisher, rate=VIDEO_CLOCK)
        self.reader = ProgramReader()
        self._cues = CueIntake(publisher, VIDEO_CLOCK)
        self._make_converter = make_converter
        self._sound_limiter = IntervalLimiter(MAX_BURST + _MAX_SOUNDS)  # for conversions that begin: all sound at once
        self._sources: dict[int, _Source] = {}  # by PID
        self._entries: dict[int, StreamEntry] = {}  # by PID: all streams of the program
        self._private = PrivateIntake()
        self._pictures_ended: float | None = None  # when its map left out the pictures, monotonic seconds
        self._bad = self._broken = 0  # errors of the reader that were counted, and those of pictures

    def receive(self, data: bytes, now: float) -> None:
        """Takes bytes of the transport stream, cut anywhere. Raises KeepsChanging. Hot path. now: monotonic seconds."""
        self._take_events(self.reader.receive(data), now)

    def explain(self) -> str:
        return "" if self.read[VIDEO_INDEX] else self.reader.explain()

    def finish(self, now: float, *, is_whole: bool = True) -> None:
        """Ends the push. is_whole: whether the data end with a whole picture; otherwise the last one is dropped."""
        if is_whole and self.publisher.active:
            with suppress(KeepsChanging):  # the push ends anyway
                self._take_events(self.reader.finish(), now)
        for source in self._sources.values():
            source.end_conversion()
        super().finish(now)

    def _take_events(self, events: Sequence[object], now: float) -> None:
        wall = time.time()
        for event in events:
            if isinstance(event, ProgramUnit):
                source = self._sources.get(event.pid)
                if source is not None:
                    self._take_unit(source, event, wall, now)
            elif isinstance(event, ProgramTracks):
                self._select(event, now)
            elif isinstance(event, DataUnit) and self.is_announced:
                if event.kind is StreamUse.SCTE35:
                    self._take_cue(event, now)
                else:
                    self._take_data(event)
        ended = self._pictures_ended
        if ended is not None and now - ended >= _SOUND_ALONE_SECONDS and self.is_announced:
            self._pictures_ended = None
            self.set_all(None, self.tracks[AUDIO_INDEX], now)
        counters = self.reader.counters
        if counters.damaged != self._bad:
            self._bad = counters.damaged
            if counters.broken_pictures != self._broken:
                self._broken = counters.broken_pictures
                self.unusable.add_broken(VIDEO_INDEX, NOT_READABLE)
            self.publisher.on_air.dropped["ingest"] = self._bad

    def _take_cue(self, unit: DataUnit, now: float) -> None:
        """Publishes an ad cue. Its times are on the clock of the units, of 33 bits."""
        begin = unit.pts or 0
        self._cues.take_section(unit.payload, self._moment(begin), lambda pts: self._moment(unwrapped(pts, begin)), now)

    def _moment(self, ticks: int) -> int:
        """Returns the time of the stream at a time of the sender."""
        return self.timeline.near(ticks, LONGEST_MS * VIDEO_CLOCK // MILLISECONDS)

    def _take_data(self, unit: DataUnit) -> None:
        """Publishes private data. The first units of a push have none, because the tracks come first."""
        entry = self._entries.get(unit.pid)
        if entry is None:
            return
        now, at = self.timeline.latest, None
        if unit.pts is not None:
            now = at = self.timeline.near(unit.pts)
        timed = self._private.take(unit, entry, now, at)
        if timed is not None:
            self.publisher.push_timed(timed)
        elif self._private.dropped:
            self.publisher.on_air.dropped["data"] = self._private.dropped

    def _take_unit(self, source: _Source, event: ProgramUnit, wall: float, now: float) -> None:
        """Publishes a unit. Hot path."""
        unit = event.unit
        if unit.track is not source.read:
            self._change(source, event, now)
        unit.wall = wall
        if source.converter is not None:
            source.converter.give(unit)
        elif source.track is not None:
            unit.track = source.track
            self._publish_unit(source, unit, now)

    def _publish_unit(self, source: _Source, unit: AccessUnit, now: float) -> None:
        unit.dts = self._stamp(source.index, unit.dts)
        self.take(source.track_id, unit, now)

    def _push_track(self, track_id: int, unit: AccessUnit, now: float) -> None:
        if track_id:
            self.publisher.push_additional(2 * track_id + 1, unit, now)
        else:
            self._publish(unit, now)

    # ---- tracks ----

    def _change(self, source: _Source, event: ProgramUnit, now: float) -> None:
        """Begins a track, or another configuration of it. Raises KeepsChanging."""
        read = source.read = event.unit.track
        if must_be_converted(event, self.publisher.stream.channel):
            if not self._sound_limiter.take(now):
                raise KeepsChanging  # each other codec starts another worker
            source.track = None
            if source.converter is None:
                self._sound_ms = CONVERTED_SOUND_MS
                source.converter = self._make_converter(lambda unit: self._converted(source, unit))
            source.converter.change(read, event.foreign)
            return
        source.end_conversion()
        self._set_source_track(source, read, now)

    def _set_source_track(self, source: _Source, track: MediaTrack, now: float) -> None:
        if track == source.track:
            return
        source.track = track
        self.change_track(source.track_id, track, now)

    def _converted(self, source: _Source, unit: AccessUnit) -> None:
        """Publishes a unit of a converter, which may come after the end of the conversion. Hot path."""
        if source.converter is None or not self.publisher.active:
            return
        now = time.monotonic()
        self._set_source_track(source, unit.track, now)
        unit.wall = time.time()
        self._publish_unit(source, unit, now)

    def _on_announced(self, now: float) -> None:
        for source in self._sources.values():
            if source.track_id and source.track is not None:
                self._set_additional(source.track_id, source.track, now)

    def _set_additional(self, track_id: int, track: MediaTrack, now: float) -> None:
        self.publisher.set_additional(track_id, track, self._info(track.kind, track_id), now)
        self.publisher.describe_additional(self._info)

    def _info(self, kind: Kind, track_id: int) -> TrackInfo:
        found = (s for s in self._sources.values() if s.track_id == track_id and s.index % 2 == (kind is Kind.AUDIO))
        source = next(found, None)
        return TrackInfo(language=source.language if source is not None else "")

    def _select(self, program: ProgramTracks, now: float) -> None:
        """Chooses the streams to publish. Those that are published already stay."""
        self._entries = {entry.pid: entry for entry in program.streams}
        uses, before = {entry.pid: entry.use for entry in program.streams}, set(self._sources.values())
        for pid in [pid for pid, source in self._sources.items() if uses.get(pid) is not source.use]:
            self._sources.pop(pid).end_conversion()
        for entry in program.streams:
            if entry.pid not in self._sources:
                self._add(entry)
        self.unusable.leave_out_only(lost_streams(program))
        self.expected = {Kind(source.use) for source in self._sources.values()}
        if self.is_announced and len(self.expected) == len(Kind) and before.isdisjoint(self._sources.values()):
            self.begin_again()
        is_sound_alone = all(self.tracks) and self.expected == {Kind.AUDIO}
        self._pictures_ended = (self._pictures_ended or now) if is_sound_alone else None

    def _add(self, entry: StreamEntry) -> None:
        used = {(source.index % 2, source.track_id) for source in self._sources.values()}
        if entry.use is StreamUse.VIDEO and (VIDEO_INDEX, 0) not in used:
            self._sources[entry.pid] = _Source(0, VIDEO_INDEX, entry.language)
            return
        if entry.use is StreamUse.AUDIO:
            track_id = next((n for n in range(_MAX_SOUNDS + 1) if (AUDIO_INDEX, n) not in used), None)
            if track_id is not None:
                self._sources[entry.pid] = _Source(track_id, AUDIO_INDEX + 2 * track_id, entry.language)
                return
        if entry.use not in PRIVATE_USES and entry.lost is None:
            log.info(
                "a stream is not published", stream=self.publisher.stream.name, pid=entry.pid, kind=str(entry.codec)
            )
