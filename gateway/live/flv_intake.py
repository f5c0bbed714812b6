"""FlvIntake: turns a peer's FLV bodies (RTMP messages) into a publisher's tracks and units."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

import structlog

from gateway.formats.flv.demuxer import MediaDemuxer, track_number
from gateway.formats.flv.tag import MAX_TRACKS, ScriptTag, TrackMedia, TrackStart, Unsupported
from gateway.formats.script_data import first_object, read_timed
from gateway.live.cue_intake import CueIntake
from gateway.live.presentation_stamps import PresentationStamps
from gateway.live.publisher import StreamPublisher
from gateway.live.pushed_tracks import TrackInfo, track_info
from gateway.live.sound_to_aac import MakeConverter, SoundToAac, becomes_aac
from gateway.live.track_changes import MAX_BURST, IntervalLimiter, KeepsChanging
from gateway.live.unit_intake import AUDIO_INDEX, CONVERTED_SOUND_MS, VIDEO_INDEX, UnitIntake
from gateway.live.unusable_media import HEADLESS, NOT_READABLE
from gateway.media.aac import parse_asc, raw_frames
from gateway.media.clock import MILLISECONDS
from gateway.media.errors import InvalidData
from gateway.media.nal_codec import NAL_CODECS
from gateway.media.track import AccessUnit, AmfValue, Codec, Kind, MediaTrack
from gateway.media.whole_pictures import WholePictures

log = structlog.get_logger(__name__)

METADATA_BYTES: Final = 65_536
_MOST_OFFSET: Final = 4_000  # milliseconds from the decode time of a picture: three B-frames at one picture a second


class FlvIntake(UnitIntake):
    """Demuxes bodies. The tracks that onMetaData names are expected.

    make_converter: for sound that browsers do not play; None: it stays as it is, or is left out. AAC without a number
    for its channels is such sound.

    Additional tracks (Enhanced RTMP multitrack) go to `set_additional` and `push_additional` of the publisher, with the
    same clock. Their sound is converted like the default one.
    """

    def __init__(self, publisher: StreamPublisher, make_converter: MakeConverter | None = None) -> None:
        super().__init__(publisher)
        self._make_converter = make_converter
        self._converters: dict[int, SoundToAac] = {}  # by `track_number`
        self._converted: dict[int, MediaTrack] = {}  # what they make
        self._demux = MediaDemuxer(converts=make_converter is not None)
        self._demuxers = (self._demux.read_video, self._demux.read_audio)  # by index
        self._push_additional = publisher.push_additional
        self._infos: tuple[TrackInfo, ...] = ()
        self._info_limiter = IntervalLimiter()
        self._sound_limiter = IntervalLimiter(MAX_BURST + MAX_TRACKS)  # for conversions that begin: all sound at once
        self._cues = CueIntake(publisher)
        self._pictures: WholePictures | None = None  # of the default track, if its codec has NAL units
        self._header: MediaTrack | None = None  # the last that the encoder sent for the default pictures
        self._times = [-1, -1]  # of the last units of the default tracks, as the encoder sent them, by index
        self._stamps: PresentationStamps | None = None  # once the encoder has stamped a B-frame so
        self._are_whole: list[Callable[[AccessUnit], bool]] = [_is_whole, _is_whole]  # by index

    @property
    def tracks(self) -> tuple[MediaTrack | None, MediaTrack | None]:
        is_converted = AUDIO_INDEX in self._converters
        video = self._demux.video_track if self._pictures is None or self._pictures.has_sets else None
        return video, self._converted.get(AUDIO_INDEX) if is_converted else self._demux.audio_track

    # ---- hot ----

    def take_media(self, index: int, timestamp: int, body: bytes, wall_clock: float, now: float) -> None:
        """Processes one RTMP audio or video message. Raises InvalidData.

        index: VIDEO_INDEX or AUDIO_INDEX. timestamp: milliseconds, 32 bits.
        wall_clock, now: arrival time in seconds since 1970 and monotonic seconds.
        """
        try:
            item = self._demuxers[index](0, body, wall_clock)
        except InvalidData as error:
            if self.unusable.add_broken(index, str(error)):
                raise
            return
        if isinstance(item, AccessUnit):
            self._take_default(item, index, timestamp, now)
        elif isinstance(item, list):
            self._take_multitrack(item, index, timestamp, now)
        elif item is not None:
            self._on_change(0, item, index, timestamp, now)

    def _take_default(self, item: AccessUnit, index: int, timestamp: int, now: float) -> None:
        """Publishes the unit of a default track, or lets it wait. Hot path."""
        before, self._times[index] = self._times[index], timestamp
        time = timestamp
        if index == VIDEO_INDEX:
            if not -_MOST_OFFSET <= item.cts <= _MOST_OFFSET:
                item.cts = 0  # some relays read negative ones as 2**24 more, and some apps write other numbers
            if self._stamps is not None or timestamp < before:
                time = self._decode_time(item, timestamp, before)
        item.dts = self._stamp(index, time)
        if index == AUDIO_INDEX and AUDIO_INDEX in self._converters:
            self._converters[AUDIO_INDEX].give(item)
        elif not self._are_whole[index](item):
            self._repair(item, timestamp == before, now)
        elif self.is_announced:
            self.read[index] += 1
            self._publish(item, now)
        else:
            self.take(0, item, now)

    def _take_multitrack(self, items: list[tuple[int, TrackMedia]], index: int, timestamp: int, now: float) -> None:
        """Processes the media of a multitrack message. Hot path."""
        for track_id, item in items:
            if isinstance(item, AccessUnit) and not track_id:
                self._take_default(item, index, timestamp, now)
            elif isinstance(item, AccessUnit):
                number = index + 2 * track_id
                item.dts = self._stamp(number, timestamp)
                if number in self._converters:
                    self._converters[number].give(item)
                elif self.is_announced:
                    self._push_additional(number, item, now)
                else:
                    self.take(track_id, item, now)
            else:
                self._on_change(track_id, item, index, timestamp, now)

    def _push_track(self, track_id: int, unit: AccessUnit, now: float) -> None:
        if track_id:
            self._push_additional(track_number(unit.track.kind, track_id), unit, now)
        else:
            self._publish(unit, now)

    # ---- cold ----

    def _decode_time(self, picture: AccessUnit, timestamp: int, before: int) -> int:
        """Returns the decode time of a picture whose timestamp may be its presentation time. See PresentationStamps."""
        if self._stamps is None and PresentationStamps.begins(picture, timestamp, before):
            log.info("the timestamps are presentation times", stream=self.publisher.stream.name)
            self._stamps = PresentationStamps(self._pictures.reorder if self._pictures is not None else 0, before)
        time = self._stamps.decode_time(picture, timestamp, before) if self._stamps is not None else timestamp
        if time is None:
            self._stamps, time = None, timestamp
        return time

    def _has_expected(self) -> bool:
        """Whether all tracks are known, and the colors of pictures: ffmpeg sends them just before the first one."""
        video, _ = self.tracks
        declared = video is None or video.codec is Codec.H264
        return super()._has_expected() and (declared or any(u.track.kind is Kind.VIDEO for _, u in self._preroll))

    def explain(self) -> str:
        is_unread = self._demux.video_track is None and bool(self._demux.dropped[Kind.VIDEO])
        if is_unread or (self._pictures is not None and not self._pictures.has_sets):
            return "their parameter sets (the sequence header) did not come"
        return ""

    def finish(self, now: float) -> None:
        if self._pictures is not None and self.publisher.active:
            with suppress(KeepsChanging):  # the push ends anyway
                self._publish_repaired(self._pictures.finish(), now)
        for converter in self._converters.values():
            converter.close()
        super().finish(now)

    def _convert(self, track: MediaTrack, number: int) -> bool:
        """Begins or ends the conversion of sound. Returns whether it is converted. Raises KeepsChanging."""
        foreign = self._demux.foreign if number == AUDIO_INDEX else None
        if self._make_converter is None or not becomes_aac(track, foreign, self.publisher.stream.channel):
            if number in self._converters:
                self._converters.pop(number).close()
            self._converted.pop(number, None)
            return False
        if not self._sound_limiter.take(time.monotonic()):
            raise KeepsChanging  # each other codec starts another worker
        if number not in self._converters:
            codec = str(track.codec) if foreign is None else foreign.codec
            log.info("the sound is converted", stream=self.publisher.stream.name, codec=codec, track=number // 2)
            self._converters[number] = self._make_converter(partial(self._take_converted, number))
            if number == AUDIO_INDEX:
                self._sound_ms = CONVERTED_SOUND_MS
                self.expected = {*(self.expected or ()), Kind.AUDIO}
        self._converters[number].change(track, foreign)
        return True

    def _take_converted(self, number: int, unit: AccessUnit) -> None:
        """Publishes a unit of a converter, whose times are repaired already. Hot path."""
        if number not in self._converters or not self.publisher.active:
            return
        now = time.monotonic()
        if unit.track != self._converted.get(number):
            self._converted[number] = unit.track
            self.change_track(number // 2, unit.track, now)
        unit.wall = time.time()
        self.take(number // 2, unit, now)

    def _repair(self, item: AccessUnit, has_same_time: bool, now: float) -> None:
        """Publishes what becomes whole by a unit of a default track. Raises InvalidData.

        has_same_time: whether the time of the unit before was the same.
        """
        try:
            if item.track.kind is Kind.AUDIO:
                units = _raw_units(item)
            else:
                assert self._pictures is not None, "it has said that the unit is not whole"
                units = self._pictures.repair(item, has_same_time)
        except InvalidData as error:
            is_video = item.track.kind is Kind.VIDEO
            index, reason = (VIDEO_INDEX, f"{NOT_READABLE} ({error})") if is_video else (AUDIO_INDEX, str(error))
            if self.unusable.add_broken(index, reason):
                raise
            return
        self._publish_repaired(units, now)

    def _publish_repaired(self, units: list[AccessUnit], now: float) -> None:
        for unit in units:
            if unit.track.kind is Kind.VIDEO and unit.track is not self._demux.video_track:
                self._demux.video_track = unit.track
                self.set_track(unit.track, now)  # the pictures brought other parameter sets
            self.take(0, unit, now)

    def _begin_default(self, track: MediaTrack) -> MediaTrack | None:
        """Prepares the repair of a default track that the encoder announces. Returns the track to publish, if any."""
        if track.kind is Kind.VIDEO:
            if track == self._header and self._pictures is not None:  # the pictures have brought other sets since
                self._demux.video_track = self._pictures.track
                return None
            self._header = track
        self._prepare_repair(track)
        self.unusable.begin(track.kind)
        if track.kind is Kind.AUDIO:
            return None if self._convert(track, AUDIO_INDEX) else track
        if self._pictures is not None:
            self._demux.video_track = track = self._pictures.track
            return track if self._pictures.has_sets else None
        return track

    def _prepare_repair(self, track: MediaTrack) -> None:
        index = VIDEO_INDEX if track.kind is Kind.VIDEO else AUDIO_INDEX
        self._are_whole[index] = _is_whole
        if track.codec is Codec.AAC:
            self._are_whole[index] = _is_raw
        elif track.kind is Kind.VIDEO:
            self._pictures, self.unusable.record = None, ""
            if track.codec in NAL_CODECS:
                try:
                    self._pictures = WholePictures(track)
                    self._are_whole[index] = self._pictures.is_whole
                except InvalidData as error:
                    self.unusable.record = f"their parameter sets cannot be read ({error})"

    def take_script(self, script: ScriptTag, now: float) -> None:
        """Processes onMetaData (without its @setDataFrame) or timed script data."""
        time = self.timeline.near(script.timestamp) if self.units else 0
        if script.name == "onMetaData":
            values = first_object(script.values)
            if len(script.amf) > METADATA_BYTES:
                log.info("metadata too large, ignored", stream=self.publisher.stream.name, size=len(script.amf))
                return
            self.metadata = values
            self.expected = _announced_kinds(values) or self.expected
            if self.is_announced:
                self._set_tracks(now)
                self._describe_tracks(now)
        elif self.is_announced and not self._cues.take_script(script.name, first_object(script.values), time, now):
            self.publisher.push_timed(read_timed(time, script.name, script.amf))

    def _on_change(
        self, track_id: int, item: MediaTrack | TrackStart | Unsupported, index: int, timestamp: int, now: float
    ) -> None:
        if isinstance(item, Unsupported):
            self.unusable.leave_out(item.kind, item.what)
            if not track_id:
                self.expected = {*(Kind if self.expected is None else self.expected)} - {item.kind}
            return
        track = item.track if isinstance(item, TrackStart) else item
        if not track_id:
            if (published := self._begin_default(track)) is not None:
                self.set_track(published, now)
            if isinstance(item, TrackStart):
                self._take_default(item.unit, index, timestamp, now)
            return
        number = index + 2 * track_id
        if track.kind is Kind.VIDEO or not self._convert(track, number):
            self.change_track(track_id, track, now)
        if isinstance(item, TrackStart):
            self._take_multitrack([(track_id, item.unit)], index, timestamp, now)

    def _set_additional(self, track_id: int, track: MediaTrack, now: float) -> None:
        self.publisher.set_additional(track_id, track, track_info(self.metadata, track.kind, track_id), now)
        self._describe_tracks(now)

    def _on_announced(self, now: float) -> None:
        if self.tracks[AUDIO_INDEX] is None and self._demux.headless is not None:
            self.unusable.leave_out(Kind.AUDIO, HEADLESS[self._demux.headless])
        waiting = {track_number(unit.track.kind, track_id): unit.track for track_id, unit in self._preroll}
        for number, demux in self._demux.others.items():
            own = self._converted.get(number) if number in self._converters else demux.video_track or demux.audio_track
            track = waiting.get(number) or own
            if track is not None:
                self._set_additional(number // 2, track, now)
        self._describe_tracks(now)

    def _describe_tracks(self, now: float) -> None:
        """Applies what onMetaData says about each track. A change that comes too soon is applied at the next call."""
        additional, metadata = self.publisher.additional, self.metadata
        if additional is None or not self._demux.others:
            return
        numbers = [*self._demux.others, AUDIO_INDEX]
        infos = tuple(track_info(metadata, (Kind.VIDEO, Kind.AUDIO)[n % 2], n // 2) for n in numbers)
        if infos != self._infos and self._info_limiter.take(now):
            self._infos = infos
            additional.describe(lambda kind, track_id: track_info(metadata, kind, track_id))


def _is_whole(unit: AccessUnit) -> bool:
    """Whether a unit needs no repair, for codecs of which no encoder is known that sends others."""
    return True


def _is_raw(unit: AccessUnit) -> bool:
    """Whether a frame of AAC has no ADTS header. Hot path."""
    return unit.payload[:1] != b"\xff"


def _raw_units(unit: AccessUnit) -> list[AccessUnit]:
    """Returns a unit for each frame of AAC in a unit, without the ADTS header that an encoder may put before it."""
    frames = raw_frames(unit.payload)
    rate = parse_asc(unit.track.config).core_rate
    units = []
    for number, frame in enumerate(frames):
        dts = unit.dts + number * 1024 * MILLISECONDS // rate
        units.append(replace(unit, dts=dts, payload=frame))
    return units


def _announced_kinds(metadata: dict[str, AmfValue]) -> set[Kind] | None:
    """Returns the kinds of track that onMetaData announces; None if it names no codec."""
    kinds = {kind for kind, key in ((Kind.VIDEO, "videocodecid"), (Kind.AUDIO, "audiocodecid")) if metadata.get(key)}
    return kinds or None
