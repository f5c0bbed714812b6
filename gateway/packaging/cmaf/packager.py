"""The output `cmaf`: one set of fragments, served as LL-HLS and DASH."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from gateway.channels.names import channel_of
from gateway.formats.hls.multivariant_playlist import Variant
from gateway.formats.mp4.init import init_segment
from gateway.lib.metrics import Metrics
from gateway.media import codecs
from gateway.media.clock import AudioClock
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.pixel_aspect import SQUARE
from gateway.media.random_access import random_access_of
from gateway.media.track import Codec, Kind, MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.packaging.alignment import Alignment, Boundary, CutCandidate, EpochOrigin
from gateway.packaging.cmaf.audio_track_builder import AudioTrackBuilder
from gateway.packaging.cmaf.dash_manifest import AlternateRendition, Epoch
from gateway.packaging.cmaf.manifests import CmafManifests
from gateway.packaging.cmaf.track import CmafTrack, TrackHeader
from gateway.packaging.cmaf.video_track_builder import VideoTrackBuilder
from gateway.packaging.packager import Packager
from gateway.packaging.segment_plan import SegmentPlan
from gateway.packaging.segmenter import Segmenter
from gateway.packaging.timing import VIDEO_CLOCK, VideoTiming

LEAST_WINDOW = 10  # segments
_MAX_RATE = 1_000_000  # thousands of bits a second


@dataclass(frozen=True, slots=True)
class SequenceNumbers:
    """The numbers with which a packager continues another one on the same stream.

    video, audio: the next segment and the next part of each track.
    epoch: the next epoch.
    prefix: the lowest prefix of file names, seconds since the epoch.
    """

    video: tuple[int, int] = (1, 1)
    audio: tuple[int, int] = (1, 1)
    epoch: int = 0
    prefix: int = 0


class CmafPackager(Packager):
    """Makes parts and segments of each track; `CmafManifests` prints their playlists and manifests.

    Video leads: a segment begins at its first key frame after `seconds`, and audio follows. Target Durations are fixed
    when the first segments are complete. A new epoch (other parameters, a returning publisher) is a discontinuity and a
    Period, with its own initialization segments. Memory: segment_window.MAX_BYTES per track.
    """

    def __init__(
        self,
        name: str,
        plan: SegmentPlan,
        now: float,
        numbers: SequenceNumbers,
        metrics: Metrics | None = None,
        alignment: Alignment | None = None,
    ) -> None:
        """name: of the stream; now: seconds since the epoch; metrics: where parts are counted; alignment: of a source
        with its renditions, which follow it."""
        super().__init__(name, "cmaf")
        alignment = alignment or Alignment()
        alignment.next_epoch = max(alignment.next_epoch, numbers.epoch)
        self._alignment = alignment
        self._leads = leads = name == channel_of(name)
        if leads:
            alignment.source = self
        self._boundary: Boundary | None = None  # where the next segment of the picture begins
        self._metrics = metrics
        self._seconds = plan.seconds
        size = max(plan.size, LEAST_WINDOW)
        self._prefix = numbers.prefix  # the least that the next epoch's names may have
        self._epochs = 0  # epochs begun by this packager
        self._video = CmafTrack("video", plan.part, size, numbers.video, self.waiters)
        self._audio = CmafTrack("audio", plan.part, size, numbers.audio, self.waiters)
        self._shown = CmafManifests(self._video, self._audio, plan.seconds, alignment, metrics)
        self._forced = 0
        self._now = now  # when the last unit came
        self._fresh = True  # nothing of this epoch was packaged yet
        self._pictures: VideoTrackBuilder | None = None
        self._sounds: AudioTrackBuilder | None = None
        self._sound_header: Callable[[], None] | None = None  # begins an audio epoch …
        self._sound_pending = False  # … which waits for the video epoch
        self._samples = 0
        self._rate = 1
        self._segmenters: list[Segmenter] = []

    @property
    def numbers(self) -> SequenceNumbers:
        """The numbers for the packager that continues after this one."""
        video, audio = self._video, self._audio
        return SequenceNumbers(
            (video.number + 1, video.part_number + 1),
            (audio.number + 1, audio.part_number + 1),
            self._alignment.next_epoch,
            self._prefix,
        )

    @property
    def forced_cuts(self) -> int:
        """Segments that began without a key frame because the GOP was longer than the Target Duration."""
        return self._forced

    @property
    def lanes(self) -> tuple[CmafTrack, ...]:
        """The tracks that have media, the leading one first."""
        return self._shown.lanes

    def lane(self, kind: str) -> CmafTrack | None:
        """Returns the track with this folder name, None if it has no media."""
        return self._shown.lane(kind)

    # ---- playlists and manifests; only when `ready` ----

    @property
    def joinable(self) -> bool:
        """There is an MPD with which every DASH player can start. True a little later than `ready`."""
        return self.joinable_beside(())

    def joinable_beside(self, besides: Sequence[AlternateRendition]) -> bool:
        """Tells whether every DASH player can start with an MPD that lists all of these renditions."""
        return self.ready and (self.ended or self._shown.joinable(self._now, besides))

    @property
    def frame_rate(self) -> Fraction | None:
        """Frames a second, None if they are not regular."""
        return self._shown.frame_rate

    def variant(self, uri: str = "video/index.m3u8", sound: CmafTrack | None = None, least: int = 0) -> Variant:
        """Returns this stream as one variant of a multivariant playlist.

        sound: audio track of another stream, instead of its own.
        least: lower bound of its peak bitrate, bits a second.
        """
        return self._shown.variant(uri, sound, least)

    def master(self, variants: Sequence[Variant] = ()) -> str:
        """Returns `master.m3u8` with media.MARK after its URIs: this stream, then `variants` (the rungs of a
        ladder).
        """
        return self._shown.master(variants)

    def playlist(self, lane: CmafTrack, *, skip: bool = False, report: str | None = None) -> str:
        """Returns a track's playlist with media.MARK after its URIs.

        skip: makes a delta update if that saves anything.
        report: rendition reports of the other renditions of its ladder; None: only the other track of this stream.
        """
        return self._shown.playlist(lane, ended=self.ended, skip=skip, report=report)

    def manifest(self, besides: Sequence[AlternateRendition] = ()) -> str:
        """Returns `manifest.mpd` with mpd.MARK and mpd.NOW in it. besides: renditions, listed if they cover this
        stream.
        """
        return self._shown.manifest(besides, now=self._now, ended=self.ended)

    # ---- input ----

    def take_tracks(self, tracks: Tracks) -> None:
        shown = self._shown
        before, shown.tracks = shown.tracks, tracks
        self._video.promised_rate = _promised_rate(tracks, "videodatarate")
        self._audio.promised_rate = _promised_rate(tracks, "audiodatarate")
        if before is not None and tracks.epoch == before.epoch:
            return
        self._end_epoch()
        self._fresh = True
        self._pictures = self._sounds = self._sound_header = shown.timing = None
        self._segmenters = []
        for track in tracks:
            _check(track)

    def take(self, unit: AccessUnit) -> None:
        """Packages one unit. Hot path."""
        self._now = unit.wall
        try:
            if unit.track.kind is Kind.VIDEO:
                pictures = self._pictures
                if pictures is None:
                    if not unit.key:
                        return
                    pictures = self._pictures = self._begin_video(unit)
                if not pictures.add(unit.dts, unit.cts, unit.key, unit.payload):
                    self._forced += 1
                    self.warn_forced(self._forced, self._shown.target)
            else:
                sounds = self._sounds
                if sounds is None:
                    sounds = self._sounds = self._begin_audio(unit)
                length = self._samples or codecs.samples_per_frame(unit.track, unit.payload)
                sounds.add(unit.dts, length, unit.payload)
        except UnsupportedCodec:
            raise
        except InvalidData as error:
            self.note_broken(error)
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

    def _begin_video(self, unit: AccessUnit) -> VideoTrackBuilder:
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
        codec, aspect = codecs.codec_string(track, unit.payload), codecs.pixel_aspect(track, unit.payload)
        segmenter = self._segmenter(VIDEO_CLOCK)

        def may_begin(decoded: int, first: int, own: bool) -> bool:
            at = CutCandidate(decoded, first, self._now, self._fresh, lane.open, lane.number + lane.open)
            self._boundary = alignment.boundary(self, at, own, segmenter)
            return self._boundary is not None

        def cut(decoded: int, first: int) -> None:
            boundary = self._boundary
            assert boundary is not None  # may_begin found it
            follows, lane.number = lane.number == boundary.number, boundary.number
            sounds, origin = self._sounds, boundary.origin
            begins = self._fresh or shown.epoch is None or origin.number != shown.epoch.number
            if begins:
                self._fresh = False
                epoch = self._begin_epoch(origin)
                uri, base = lane.init_uri(epoch.prefix), shown.base_of(VIDEO_CLOCK)
                header = TrackHeader(
                    epoch.number, uri, VIDEO_CLOCK, codec, epoch.wall, epoch.prefix, base, size,
                    aspect=aspect if aspect != SQUARE else None,
                )  # fmt: skip
                lane.begin(header, init, self._now)
            if sounds is not None:
                time = first * self._rate // VIDEO_CLOCK
                if not self._sound_pending and (begins or not follows):
                    sounds.begin_anew(time, begins)
                    self._sound_pending = begins
                    self._audio.number = max(self._audio.number, lane.number)
                if self._sound_pending and self._sound_header is not None:
                    self._sound_pending = False
                    self._sound_header()
                sounds.cut(time)

        return VideoTrackBuilder(lane, segmenter, timing, may_begin, cut, random_access_of(track))

    def _begin_audio(self, unit: AccessUnit) -> AudioTrackBuilder:
        shown, lane, track, payload = self._shown, self._audio, unit.track, unit.payload
        assert shown.tracks is not None
        rate = self._rate = codecs.audio_rate(track, payload)
        channels = codecs.audio_channels(track, payload)
        codec = codecs.codec_string(track)
        self._samples = codecs.samples_per_frame(track, payload) if track.codec is Codec.AAC else 0
        init = init_segment(track, timescale=rate, payload=payload)
        clock = AudioClock(rate, track.timescale)
        alone = shown.tracks.video is None
        sounds = AudioTrackBuilder(lane, self._segmenter(rate), clock, alone=alone)

        def header() -> None:
            epoch = shown.epoch
            assert epoch is not None
            if not len(lane.window) or not self._leads:
                # Late audio: nothing was numbered yet, so it can take the video's numbers.
                lane.number = max(lane.number, self._video.number)
            uri, base = lane.init_uri(epoch.prefix), shown.base_of(rate)
            h = TrackHeader(epoch.number, uri, rate, codec, epoch.wall, epoch.prefix, base, None, rate, channels)
            lane.begin(h, init, self._now)

        self._sound_header, self._sound_pending = header, False
        if alone:
            self._fresh = False
            first = unit.dts * VIDEO_CLOCK // track.timescale
            self._begin_epoch(self._alignment.begin_epoch(first, first, unit.wall))
            header()
        elif self._fresh:
            self._sound_pending = True
        else:
            assert shown.epoch is not None
            header()
            sounds.cut(shown.epoch.origin * rate // VIDEO_CLOCK + shown.base_of(rate))
        return sounds

    def _begin_epoch(self, origin: EpochOrigin) -> Epoch:
        """Begins an epoch and chooses the prefix of its file names.

        The first prefix is the second in which the stream started. Each later prefix is the epoch's own first second or
        a later one, so that no two are equal.
        """
        prefix = max(self._prefix, int(origin.wall)) if self._epochs else self._prefix
        self._epochs += 1
        self._prefix = prefix + 1
        return self._shown.begin_epoch(origin, str(prefix))

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

    # ---- publishing ----

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
        # Batches delay parts, but only while no client waits: that delay does not count.
        delay = time.time() - self._now if self.waiters.count else 0.0
        for lane in (self._video, self._audio):
            for seconds in lane.news:
                metrics.part_seconds.observe(seconds)
                metrics.part_delay.observe(delay)

    def _list_lanes(self) -> None:
        shown = self._shown
        forced = any(segmenter.forced_cuts for segmenter in self._segmenters)
        if shown.settle(ended=self.ended, leads=self._leads, forced=forced) and not self.ready:
            assert shown.target is not None
            for segmenter in self._segmenters:
                segmenter.fix(shown.target)
            self.ready = True


def _promised_rate(tracks: Tracks, name: str) -> float:
    """Returns the bitrate in the publisher's metadata, in bits a second; 0 if it has none.

    The metadata counts in thousands or in 1,024s; the larger unit is assumed.
    """
    told = tracks.metadata.get(name)
    return 1024.0 * told if isinstance(told, int | float) and 0 < told < _MAX_RATE else 0.0


def _check(track: MediaTrack) -> None:
    """Raises UnsupportedCodec at once, before the first frame, for codecs that ISO-BMFF players do not read."""
    if track.codec is Codec.VP8:
        raise UnsupportedCodec(f"HLS and DASH players read no {track.codec} from CMAF")
