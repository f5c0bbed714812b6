"""CMAF: one set of fragments as LL-HLS and DASH; the output `cmaf`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import structlog

from gateway.formats.hls.multivariant import Variant
from gateway.formats.mp4.init import init_segment
from gateway.lib.metrics import Metrics
from gateway.media import codecs
from gateway.media.clock import AudioClock
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.track import Codec, Kind, Track, Tracks
from gateway.media.unit import AccessUnit
from gateway.packagers.alignment import Alignment, Boundary, Moment
from gateway.packagers.lane import Header, Lane
from gateway.packagers.manifest import Beside
from gateway.packagers.pictures import Pictures
from gateway.packagers.presentation import Presentation
from gateway.packagers.run import Packager
from gateway.packagers.segmenter import Segmenter
from gateway.packagers.sounds import Sounds
from gateway.packagers.timing import VIDEO_CLOCK, VideoTiming

log = structlog.get_logger(__name__)

LEAST_WINDOW = 10  # segments


@dataclass(frozen=True, slots=True)
class Numbers:
    """Where a packager takes over from another on the same stream: by lane the next segment and part; the epoch."""

    video: tuple[int, int] = (1, 1)
    audio: tuple[int, int] = (1, 1)
    epoch: int = 0


class CmafPackager(Packager):
    """Makes parts and segments of each track; what is told of them is a Presentation's.

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
        alignment: Alignment | None = None,
        leads: bool = True,
    ) -> None:
        """name: of the stream, for logs; seconds, size: the channel's hls_time and hls_list_size; part: seconds wanted;
        started: when the stream did, in all names; now: seconds since the epoch; metrics: where parts are counted;
        alignment: of a source with its renditions; leads: this is the source."""
        super().__init__()
        alignment = alignment or Alignment()
        alignment.next_epoch = max(alignment.next_epoch, numbers.epoch)
        self._alignment = alignment
        self._leads = leads
        if leads:
            alignment.source = self
        self._boundary: Boundary | None = None  # where the next segment of the picture begins
        self._name = name
        self._metrics = metrics
        self._seconds = seconds
        size = max(size, LEAST_WINDOW)
        prefix = str(int(started))
        self._video = Lane("video", prefix, part, size, numbers.video, self.waiters)
        self._audio = Lane("audio", prefix, part, size, numbers.audio, self.waiters)
        self._shown = Presentation(self._video, self._audio, seconds, alignment, metrics)
        self.cache: dict[object, object] = {}  # what servers made of the present state; emptied when it changes
        self.broken = 0  # units that could not be read
        self._forced = 0
        self._now = now  # the arrival of the last unit
        self._fresh = True  # nothing of this epoch was packaged yet
        self._pictures: Pictures | None = None
        self._sounds: Sounds | None = None
        self._sound_header: Callable[[], None] | None = None  # begins an epoch of the sound …
        self._sound_pending = False  # … which waits for the picture's
        self._samples = 0
        self._rate = 1
        self._segmenters: list[Segmenter] = []

    @property
    def numbers(self) -> Numbers:
        """For a packager that comes after this one."""
        video, audio = self._video, self._audio
        return Numbers(
            (video.number + 1, video.part_number + 1),
            (audio.number + 1, audio.part_number + 1),
            self._alignment.next_epoch,
        )

    @property
    def forced_cuts(self) -> int:
        """Segments that began without a key frame because the GOP was longer than the Target Duration."""
        return self._forced

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Those that have media, the leading one first."""
        return self._shown.lanes

    def lane(self, kind: str) -> Lane | None:
        """The track of this folder name, where it has media."""
        return self._shown.lane(kind)

    # ---- what is told; only when `ready` ----

    @property
    def joinable(self) -> bool:
        """Whether there is an MPD with which every DASH player can begin: a little later than `ready`."""
        return self.joinable_beside(())

    def joinable_beside(self, besides: Sequence[Beside]) -> bool:
        """The same for an MPD with all these renditions."""
        return self.ready and (self.ended or self._shown.joinable(self._now, besides))

    @property
    def frame_rate(self) -> Fraction | None:
        """Frames a second, where they are regular."""
        return self._shown.frame_rate

    def variant(self, uri: str = "video/index.m3u8", sound: Lane | None = None, least: int = 0) -> Variant:
        """This stream as one variant of a multivariant playlist. sound: the audio beside it, if not its own; least:
        bits a second of its peak, if more than was measured."""
        return self._shown.variant(uri, sound, least)

    def master(self, variants: Sequence[Variant] = ()) -> str:
        """`master.m3u8` with media.MARK behind its URIs: this stream, then `variants` (rungs of a ladder)."""
        return self._shown.master(variants)

    def playlist(self, lane: Lane, *, skip: bool = False, above: bool = False) -> str:
        """A track's playlist with media.MARK behind its URIs; `skip`: as a delta update where that saves anything;
        above: the picture's, for the folder above its own."""
        return self._shown.playlist(lane, ended=self.ended, skip=skip, above=above)

    def manifest(self, besides: Sequence[Beside] = ()) -> str:
        """`manifest.mpd` with mpd.MARK and mpd.NOW in it; besides: renditions, listed where they cover this stream."""
        return self._shown.manifest(besides, now=self._now, ended=self.ended)

    # ---- what comes ----

    def take_tracks(self, tracks: Tracks) -> None:
        shown = self._shown
        before, shown.tracks = shown.tracks, tracks
        if before is not None and tracks.epoch == before.epoch:
            return
        self._end_epoch()
        self._fresh = True
        self._pictures = self._sounds = self._sound_header = shown.timing = None
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
        self._publish()
        self.cache.clear()
        self.release()

    def release(self) -> None:
        self.changed.open()
        self._video.changed.open()
        self._audio.changed.open()

    # ---- epochs ----

    def _begin_video(self, unit: AccessUnit) -> Pictures:
        shown, lane, track = self._shown, self._video, unit.track
        assert shown.tracks is not None
        told = shown.tracks.metadata.get("framerate")
        hint = codecs.frame_rate(track) or (float(told) if isinstance(told, int | float) else None)
        alignment, leads = self._alignment, self._leads
        timing = shown.timing = VideoTiming(track.timescale, hint, None if leads else alignment.timing)
        if leads:
            alignment.timing = timing
        size = codecs.video_size(track, unit.payload)
        init = init_segment(track, timescale=VIDEO_CLOCK, size=size, payload=unit.payload)
        codec = codecs.codec_string(track, unit.payload)
        segmenter = self._segmenter(VIDEO_CLOCK)

        def may_begin(decoded: int, first: int, own: bool) -> bool:
            since = None if leads or lane.open else alignment.since(first)
            if since is not None:
                own = segmenter.cuts(since, 0, True)
            at = Moment(decoded, first, self._now, self._fresh, lane.open, lane.number + lane.open)
            self._boundary = alignment.boundary(self, at, own)
            return self._boundary is not None

        def cut(decoded: int, first: int) -> None:
            boundary = self._boundary
            assert boundary is not None  # may_begin found it
            follows, lane.number = lane.number == boundary.number, boundary.number
            sounds, origin = self._sounds, boundary.origin
            begins = self._fresh or shown.epoch is None or origin.number != shown.epoch.number
            if begins:
                self._fresh = False
                epoch = shown.begin_epoch(origin)
                base = shown.base_of(VIDEO_CLOCK)
                lane.begin(Header(epoch.number, lane.init_uri(), VIDEO_CLOCK, codec, epoch.wall, base, size), init)
            if sounds is not None:
                time = first * self._rate // VIDEO_CLOCK
                if not self._sound_pending and (begins or not follows):
                    sounds.begin_anew(time)
                    self._sound_pending = begins
                    self._audio.number = max(self._audio.number, lane.number)
                if self._sound_pending and self._sound_header is not None:
                    self._sound_pending = False
                    self._sound_header()
                sounds.cut(time)

        return Pictures(lane, segmenter, timing, may_begin, cut)

    def _begin_audio(self, unit: AccessUnit) -> Sounds:
        shown, lane, track, payload = self._shown, self._audio, unit.track, unit.payload
        assert shown.tracks is not None
        rate = self._rate = codecs.audio_rate(track, payload)
        channels = codecs.audio_channels(track, payload)
        codec = codecs.codec_string(track)
        self._samples = codecs.samples_per_frame(track, payload) if track.codec is Codec.AAC else 0
        init = init_segment(track, timescale=rate, payload=payload)
        clock = AudioClock(rate, track.timescale)
        alone = shown.tracks.video is None
        sounds = Sounds(lane, self._segmenter(rate), clock, alone=alone)

        def header() -> None:
            epoch = shown.epoch
            assert epoch is not None
            if not len(lane.window) or not self._leads:
                # Late audio: nothing was numbered yet, so its numbers can be the picture's.
                lane.number = max(lane.number, self._video.number)
            base = shown.base_of(rate)
            h = Header(epoch.number, lane.init_uri(), rate, codec, epoch.wall, base, None, rate, channels)
            lane.begin(h, init)

        self._sound_header, self._sound_pending = header, False
        if alone:
            self._fresh = False
            first = unit.dts * VIDEO_CLOCK // track.timescale
            shown.begin_epoch(self._alignment.begin_epoch(first, first, unit.wall))
            header()
        elif self._fresh:
            self._sound_pending = True
        else:
            assert shown.epoch is not None
            header()
            sounds.cut(shown.epoch.origin * rate // VIDEO_CLOCK + shown.base_of(rate))
        return sounds

    def _end_epoch(self) -> None:
        if self._pictures is not None:
            self._pictures.finish()
        if self._sounds is not None:
            self._sounds.finish()
        if self._video.dirty or self._audio.dirty:
            self._publish()

    def _segmenter(self, clock: int) -> Segmenter:
        segmenter = Segmenter(clock, self._seconds)
        if self._shown.target is not None:
            segmenter.fix(self._shown.target)
        self._segmenters.append(segmenter)
        return segmenter

    # ---- what changed ----

    def _publish(self) -> None:
        video, audio, shown = self._video, self._audio, self._shown
        shown.note(self._now)
        if len(self.lanes) < 2:
            self._list_lanes()
        if self.ready:
            self.cache.clear()
            self.changed.open()
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

    def _list_lanes(self) -> None:
        shown = self._shown
        if shown.settle(ended=self.ended, leads=self._leads) and not self.ready:
            assert shown.target is not None
            for segmenter in self._segmenters:
                segmenter.fix(shown.target)
            self.ready = True

    # ---- what operators should know ----

    def _warn_forced(self) -> None:
        self._forced += 1
        if self._forced & (self._forced - 1) == 0:  # 1, 2, 4, 8 …: one line an order of magnitude
            log.warning("segment cut without a key frame", stream=self._name, output="cmaf", times=self._forced,
                        target=self._shown.target)  # fmt: skip

    def _note_broken(self, error: InvalidData) -> None:
        self.broken += 1
        if self.broken & (self.broken - 1) == 0:
            log.info("unit dropped", stream=self._name, output="cmaf", reason=str(error), times=self.broken)


def _check(track: Track) -> None:
    """UnsupportedCodec at once, not with the first frame, for what ISO-BMFF players do not take."""
    if track.codec is Codec.VP8:
        raise UnsupportedCodec(f"HLS and DASH players read no {track.codec} from CMAF")
