"""CMAF: one set of fragments as LL-HLS and DASH; the output `cmaf`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import structlog

from gateway.formats.dash import mpd
from gateway.formats.hls import media
from gateway.formats.hls.multivariant import Rendition, Variant, multivariant
from gateway.formats.mp4.init import init_segment
from gateway.lib.metrics import Metrics
from gateway.media import codecs
from gateway.media.clock import AudioClock
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.track import Codec, Kind, Track, Tracks
from gateway.media.unit import AccessUnit
from gateway.packagers.gate import Gate
from gateway.packagers.lane import Header, Lane
from gateway.packagers.manifest import Epoch, manifest
from gateway.packagers.pictures import Pictures
from gateway.packagers.run import Packager
from gateway.packagers.segmenter import Segmenter, target_duration
from gateway.packagers.sounds import Sounds
from gateway.packagers.timing import VIDEO_CLOCK, VideoTiming
from gateway.packagers.wall import WallClock

if TYPE_CHECKING:
    from gateway.hub.stream import Stream

log = structlog.get_logger(__name__)

LEAST_WINDOW = 10  # segments
_WAIT_FOR_AUDIO = 2  # segments of the picture, after which a playlist does without announced audio that never came
_GROUP = "audio"


@dataclass(frozen=True, slots=True)
class Numbers:
    """Where a packager takes over from another on the same stream: by lane the next segment and part; the epoch."""

    video: tuple[int, int] = (1, 1)
    audio: tuple[int, int] = (1, 1)
    epoch: int = 0


class CmafPackager(Packager):
    """Makes parts and segments of each track, and prints `master.m3u8`, each track's playlist and `manifest.mpd`.

    The picture leads: a segment begins at its first key frame after `seconds`, audio follows. Target Durations are
    fixed when the first segments are complete. A new epoch (other parameters, a returning publisher) is a discontinuity
    and a Period, with initialization segments of its own. Memory: window.MAX_BYTES per track.
    """

    def __init__(
        self,
        name: str,
        seconds: float,
        size: int,
        part: float,
        started: float,
        now: float,
        numbers: Numbers,
        metrics: Metrics | None = None,
    ) -> None:
        """name: of the stream, for logs; seconds, size: the channel's hls_time and hls_list_size; part: seconds wanted;
        started: when the stream did, in all names; now: seconds since the epoch; metrics: where parts are counted."""
        super().__init__()
        self._name = name
        self._metrics = metrics
        self._seconds = seconds
        size = max(size, LEAST_WINDOW)
        prefix = str(int(started))
        self._video = Lane("video", prefix, part, size, numbers.video, self.waiters)
        self._audio = Lane("audio", prefix, part, size, numbers.audio, self.waiters)
        self.lanes: tuple[Lane, ...] = ()  # those that have media, the leading one first
        self.changed = Gate(self.waiters)  # opens when playlists begin to exist
        self.cache: dict[object, object] = {}  # what servers made of the present state; emptied when it changes
        self.target: int | None = None
        self.broken = 0  # units that could not be read
        self._forced = 0
        self._epoch = numbers.epoch - 1
        self._epochs: dict[int, Epoch] = {}
        self._noted: dict[str, int] = {}
        self._start: float | None = None
        self._now = now  # the arrival of the last unit
        self._tracks: Tracks | None = None
        self._fresh = True  # nothing of this epoch was packaged yet
        self._pictures: Pictures | None = None
        self._sounds: Sounds | None = None
        self._sound_header: Callable[[], None] | None = None
        self._samples = 0
        self._rate = 1
        self._segmenters: list[Segmenter] = []

    @property
    def numbers(self) -> Numbers:
        """For a packager that comes after this one."""
        video, audio = self._video, self._audio
        return Numbers(
            (video.number + 1, video.part_number + 1), (audio.number + 1, audio.part_number + 1), self._epoch + 1
        )

    @property
    def forced_cuts(self) -> int:
        """Segments that began without a key frame because the GOP was longer than the Target Duration."""
        return self._forced

    def lane(self, kind: str) -> Lane | None:
        """The track of this folder name, where it has media."""
        return next((lane for lane in self.lanes if lane.kind == kind), None)

    # ---- manifests ----

    def variant(self, uri: str = "video/index.m3u8", audio: str | None = _GROUP) -> Variant:
        """This stream as one variant; only when `ready`. audio: the group of its audio, where it has both."""
        lead = self.lanes[0]
        names = [h.codec for lane in self.lanes if (h := lane.header or self._last_header(lane)) is not None]
        header = lead.header
        rate = self._pictures.timing.frame_rate if self._pictures is not None else None
        return Variant(
            uri=uri if lead.kind == "video" else f"{lead.kind}/index.m3u8",
            bandwidth=max(1, int(sum(lane.window.peak for lane in self.lanes)) + 1),
            average=max(1, int(sum(lane.window.average for lane in self.lanes)) + 1),
            codecs=tuple(names),
            size=header.size if header is not None else None,
            frame_rate=float(rate) if rate is not None else None,
            audio=audio if len(self.lanes) > 1 else None,
        )

    def master(self, variants: Sequence[Variant] = ()) -> str:
        """`master.m3u8` with media.MARK behind its URIs: this stream, then `variants` (rungs of a ladder)."""
        renditions = []
        if len(self.lanes) > 1:
            header = self._audio.header
            renditions.append(Rendition(_GROUP, "audio", "audio/index.m3u8", header.channels if header else 0))
        return multivariant([self.variant(), *variants], renditions)

    def playlist(self, lane: Lane, *, skip: bool = False) -> str:
        """A track's playlist with media.MARK behind its URIs."""
        report = "".join(
            media.rendition_report(f"../{other.kind}/index.m3u8", *other.last)
            for other in self.lanes
            if other is not lane
        )
        return lane.playlist(ended=self.ended, report=report, skip=skip)

    def manifest(self) -> str:
        """`manifest.mpd` with mpd.MARK and mpd.NOW in it."""
        rate = self._pictures.timing.frame_rate if self._pictures is not None else None
        part = self.lanes[0].target_part
        assert part is not None and self._start is not None
        return mpd.mpd(
            manifest(
                self.lanes, self._epochs, start=self._start, now=self._now, part=part, ended=self.ended, frame_rate=rate
            )
        )

    # ---- what comes ----

    def take_tracks(self, tracks: Tracks) -> None:
        if self._tracks is not None and tracks.epoch == self._tracks.epoch:
            self._tracks = tracks
            return
        self._end_epoch()
        self._tracks = tracks
        self._fresh = True
        self._pictures = self._sounds = self._sound_header = None
        self._segmenters = []
        for track in tracks:
            _check(track)

    def take(self, unit: AccessUnit) -> None:
        """Hot."""
        self._now = unit.wall
        try:
            if unit.track.kind is Kind.VIDEO:
                pictures = self._pictures
                if pictures is None:
                    if not unit.key:
                        return
                    pictures = self._pictures = self._begin_video(unit)
                if not pictures.add(unit.dts, unit.cts, unit.key, unit.payload):
                    self._warn_forced()
            else:
                sounds = self._sounds
                if sounds is None:
                    sounds = self._sounds = self._begin_audio(unit)
                length = self._samples or codecs.samples_per_frame(unit.track, unit.payload)
                sounds.add(unit.dts, length, unit.payload)
        except UnsupportedCodec:
            raise
        except InvalidData as error:
            self._note_broken(error)
        if self._video.dirty or self._audio.dirty:
            self._publish()

    def finish(self) -> None:
        self._end_epoch()
        self.cache.clear()
        self.release()

    def release(self) -> None:
        self.changed.open()
        self._video.changed.open()
        self._audio.changed.open()

    # ---- epochs ----

    def _begin_video(self, unit: AccessUnit) -> Pictures:
        track, tracks = unit.track, self._tracks
        assert tracks is not None
        told = tracks.metadata.get("framerate")
        hint = codecs.frame_rate(track) or (float(told) if isinstance(told, int | float) else None)
        timing = VideoTiming(track.timescale, hint)
        size = codecs.video_size(track, unit.payload)
        lane = self._video
        uri = lane.init_uri()
        init = init_segment(track, timescale=VIDEO_CLOCK, size=size, payload=unit.payload)
        codec = codecs.codec_string(track)
        segmenter = self._segmenter(VIDEO_CLOCK)

        def cut(shown: int) -> None:
            if self._fresh:
                epoch = self._begin_epoch(shown, unit.wall)
                lane.begin(Header(epoch.number, uri, VIDEO_CLOCK, codec, epoch.wall, size), init)
            if self._sounds is not None:
                if self._sound_header is not None:
                    self._sound_header()
                    self._sound_header = None
                self._sounds.cut(shown * self._rate // VIDEO_CLOCK)

        return Pictures(lane, segmenter, timing, cut)

    def _begin_audio(self, unit: AccessUnit) -> Sounds:
        track, tracks = unit.track, self._tracks
        assert tracks is not None
        payload = unit.payload
        rate = self._rate = codecs.audio_rate(track, payload)
        channels = codecs.audio_channels(track, payload)
        codec = codecs.codec_string(track)
        self._samples = codecs.samples_per_frame(track, payload) if track.codec is Codec.AAC else 0
        lane = self._audio
        init = init_segment(track, timescale=rate, payload=payload)
        clock = AudioClock(rate, track.timescale)
        alone = tracks.video is None
        sounds = Sounds(lane, self._segmenter(rate), clock, alone=alone)

        def header() -> None:
            epoch = self._epochs[self._epoch]
            if not len(lane.window):
                # Late audio: nothing was numbered yet, so its numbers can be the picture's.
                lane.number = max(lane.number, self._video.number)
            h = Header(epoch.number, lane.init_uri(), rate, codec, epoch.wall, None, rate, channels)
            lane.begin(h, init)

        if alone:
            self._begin_epoch(unit.dts * VIDEO_CLOCK // track.timescale, unit.wall)
            header()
        elif self._fresh:
            self._sound_header = header
        else:
            header()
            sounds.cut(self._epochs[self._epoch].origin * rate // VIDEO_CLOCK)
        return sounds

    def _begin_epoch(self, origin: int, wall: float) -> Epoch:
        self._fresh = False
        self._epoch += 1
        clock = WallClock(origin / VIDEO_CLOCK, wall)
        epoch = self._epochs[self._epoch] = Epoch(self._epoch, origin, clock)
        if self._start is None:
            self._start = wall
        return epoch

    def _end_epoch(self) -> None:
        if self._pictures is not None:
            self._pictures.finish()
        if self._sounds is not None:
            self._sounds.finish()
        if self._video.dirty or self._audio.dirty:
            self._publish()

    def _segmenter(self, clock: int) -> Segmenter:
        segmenter = Segmenter(clock, self._seconds)
        if self.target is not None:
            segmenter.fix(self.target)
        self._segmenters.append(segmenter)
        return segmenter

    # ---- what changed ----

    def _publish(self) -> None:
        video, audio = self._video, self._audio
        for lane in (video, audio):
            if lane.dirty and lane.number != self._noted.get(lane.kind):
                self._noted[lane.kind] = lane.number
                self._note_segment(lane)
        if not self.ready or len(self.lanes) < 2:
            self._settle_lanes()
        if self.ready:
            self.cache.clear()
            for lane in (video, audio):
                if lane.dirty:
                    lane.changed.open()
        if self._metrics is not None:
            self._measure(self._metrics)
        video.dirty = audio.dirty = False
        video.news.clear()
        audio.news.clear()

    def _measure(self, metrics: Metrics) -> None:
        # Nobody waits: what was packaged a little later than it came was late for nobody.
        delay = time.time() - self._now if self.waiters.count else 0.0
        for lane in (self._video, self._audio):
            for seconds in lane.news:
                metrics.part_seconds.observe(seconds)
                metrics.part_delay.observe(delay)

    def _note_segment(self, lane: Lane) -> None:
        if not len(lane.window):
            return
        segment = lane.window[-1]
        leads = lane is self._video or self._tracks is None or self._tracks.video is None
        epoch = self._epochs.get(segment.epoch)
        if self._metrics is not None:
            self._metrics.segment_seconds.observe(segment.duration, "cmaf")
        if epoch is not None:
            epoch.note(lane.kind, leads, segment, self._now)
        oldest = min(lane.window[0].epoch for lane in (self._video, self._audio) if len(lane.window))
        for number in [n for n in self._epochs if n < oldest]:
            del self._epochs[number]

    def _settle_lanes(self) -> None:
        """The tracks' playlists begin to exist with their first segments, and with them what they promise."""
        tracks = self._tracks
        if tracks is None:
            return
        video, audio = self._video, self._audio
        have = tuple(lane for lane in (video, audio) if len(lane.window))
        if not self.ready:
            wanted = (tracks.video is not None) + (tracks.audio is not None)
            late = len(have) < wanted and len(video.window) < _WAIT_FOR_AUDIO and not self.ended
            if not have or late or (tracks.video is not None and not len(video.window)):
                return
            self.target = target_duration(self._seconds, max(lane.window.longest for lane in have))
            for segmenter in self._segmenters:
                segmenter.fix(self.target)
        assert self.target is not None
        for lane in have:
            lane.promise(self.target)
        self.lanes = have
        self.ready = True
        self.changed.open()

    def _last_header(self, lane: Lane) -> Header | None:
        return next(reversed(lane.headers.values()), None)

    # ---- what operators should know ----

    def _warn_forced(self) -> None:
        self._forced += 1
        if self._forced & (self._forced - 1) == 0:  # 1, 2, 4, 8 …: one line an order of magnitude
            log.warning("segment cut without a key frame", stream=self._name, output="cmaf", times=self._forced,
                        target=self.target)  # fmt: skip

    def _note_broken(self, error: InvalidData) -> None:
        self.broken += 1
        if self.broken & (self.broken - 1) == 0:
            log.info("unit dropped", stream=self._name, output="cmaf", reason=str(error), times=self.broken)


class CmafPackagers:
    """Makes the packager of a stream; one that follows another on the same stream goes on with its numbers.

    Numbers must not go back while a stream lives, also where its output was switched off and on or had to be restarted.
    """

    def __init__(self, part: float, metrics: Metrics | None = None) -> None:
        self._part = part
        self._metrics = metrics
        self._last: WeakKeyDictionary[Stream, CmafPackager] = WeakKeyDictionary()

    def make(self, stream: Stream, seconds: float, size: int, now: float) -> CmafPackager:
        before = self._last.get(stream)
        numbers = before.numbers if before is not None else Numbers()
        packager = CmafPackager(stream.name, seconds, size, self._part, stream.started, now, numbers, self._metrics)
        self._last[stream] = packager
        return packager


def _check(track: Track) -> None:
    """UnsupportedCodec at once, not with the first frame, for what ISO-BMFF players do not take."""
    if track.codec is Codec.VP8:
        raise UnsupportedCodec(f"HLS and DASH players read no {track.codec} from CMAF")
