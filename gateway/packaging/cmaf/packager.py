"""The output `cmaf`: one set of fragments, served as LL-HLS and DASH."""

import time
from collections import deque
from dataclasses import dataclass, replace

from gateway.channels.names import channel_of
from gateway.formats.mp4.init import init_segment
from gateway.lib.metrics import Metrics
from gateway.live.stream import Stream
from gateway.media import codecs
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.open_gops import OpenGops
from gateway.media.picture_colors import colors_of
from gateway.media.pixel_aspect import SQUARE
from gateway.media.timed_data import AdCue
from gateway.media.track import AccessUnit, Codec, Kind, Tracks
from gateway.packaging.alignment import Alignment, Boundary, CutCandidate, EpochOrigin
from gateway.packaging.cmaf.audio_packaging import AdditionalAudio, AudioPackaging
from gateway.packaging.cmaf.dash_manifest import Epoch
from gateway.packaging.cmaf.manifests import CmafManifests
from gateway.packaging.cmaf.track import CmafHeader, CmafTrack
from gateway.packaging.cmaf.video_track_builder import VideoTrackBuilder
from gateway.packaging.date_ranges import CueTags
from gateway.packaging.media_holes import MediaHoles
from gateway.packaging.packager import Packager, SegmentPlan
from gateway.packaging.segmenter import Segmenter
from gateway.packaging.timed_events import TimedEvent, begins_segment, event_message
from gateway.packaging.timing import VideoTiming

_MAX_CUES = 32
_MAX_RATE = 1_000_000  # thousands of bits a second
_BREAK_SECONDS = 0.5  # between the media of two epochs, if the publisher was away
# The least duration of the last segment before such a break, in ticks of 90 kHz: hls.js (1.7.4) does not find a shorter
# one after it has aligned the sound with the pictures, and stops for nine seconds.
_LEAST_LAST = 3 * VIDEO_CLOCK // 10


@dataclass(frozen=True, slots=True)
class SequenceNumbers:
    """The numbers with which a packager continues after another one on the same stream.

    video, audio: the first segment and the first part of each track.
    epoch: the next epoch.
    prefix: the minimum prefix of file names, seconds since 1970.
    """

    video: tuple[int, int] = (1, 1)
    audio: tuple[int, int] = (1, 1)
    epoch: int = 0
    prefix: int = 0


class CmafPackager(Packager):
    """Makes parts and segments of each track. `manifests` writes their playlists and manifests.

    Video decides: a segment begins at its first key frame after `seconds`, and audio follows. Target Durations are
    fixed when the first segments are complete. A new epoch (other parameters, a returning publisher) is a
    discontinuity and a Period, with its own initialization segments. Memory: segment_window.MAX_BYTES for each track.
    Additional audio tracks of the publisher are packaged too, each in a folder of its own.

    name: of the stream. now: seconds since 1970. metrics: counts parts and segments.
    alignment: shared by a source and its renditions.
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
        super().__init__(name, "cmaf", plan.captions)
        alignment = alignment or Alignment()
        alignment.next_epoch = max(alignment.next_epoch, numbers.epoch)
        self._alignment = alignment
        self._is_source = name == channel_of(name)
        if self._is_source:
            alignment.source = self
        self._boundary: Boundary | None = None  # where the next video segment begins
        self._next_origin: EpochOrigin | None = None  # of the next epoch of media without pictures
        self._metrics = metrics
        self._plan = plan = replace(plan, length=alignment.length)
        self._prefix = numbers.prefix  # the minimum prefix of the next epoch
        self._epochs = 0  # epochs that this packager has begun
        self._video = CmafTrack("video", plan, numbers.video, self.waiters)
        self._audio = CmafTrack("audio", plan, numbers.audio, self.waiters)
        self.manifests = CmafManifests(self._video, self._audio, plan, alignment, now, metrics)
        self._is_new_epoch = True  # whether nothing of this epoch was packaged yet
        self._holes = MediaHoles(in_pictures=True)
        self._video_builder: VideoTrackBuilder | None = None
        self._default = AudioPackaging(self._audio, self._video, self.manifests, self._segmenter)
        self._additional: list[AdditionalAudio] = []
        self._stream: Stream | None = None
        self._splices: deque[int] = deque(maxlen=_MAX_CUES)  # ticks of 90 kHz
        self._early: deque[AdCue] = deque(maxlen=_MAX_CUES)  # cues that wait for the first epoch
        if plan.cue_tags:
            for track in (self._video, self._audio):
                track.cue_tags = CueTags(self.manifests.ranges)
        self._segmenters: list[Segmenter] = []

    @property
    def numbers(self) -> SequenceNumbers:
        """The numbers for the packager that continues after this one."""
        video, audio = self._video, self._audio
        # Players may have requested the open segment and the announced part, so both numbers are left out.
        next_video, next_audio = (video.number + 1, video.part_number + 1), (audio.number + 1, audio.part_number + 1)
        return SequenceNumbers(next_video, next_audio, self._alignment.next_epoch, self._prefix)

    @property
    def next_numbers(self) -> tuple[int, ...]:
        numbers = self.numbers
        # Part numbers only name files, and another node has another prefix. So they need not be told for each part.
        return numbers.video[0], numbers.audio[0], numbers.epoch, numbers.prefix

    # ---- additional audio tracks ----

    def begin(self, stream: Stream) -> None:
        if stream.is_source:
            self.follow_tracks(stream)
        super().begin(stream)

    def follow_tracks(self, stream: Stream) -> None:
        """Packages the additional audio tracks of a source, also those that come later."""
        self._stream = stream
        stream.pushed_tracks.watch(self._find_tracks)
        self._find_tracks()

    async def run(self, stream: Stream) -> None:
        try:
            await super().run(stream)
        finally:
            stream.pushed_tracks.unwatch(self._find_tracks)
            for additional in self._additional:
                additional.pushed.stream.detach(additional)

    def catch_up(self) -> None:
        super().catch_up()
        for additional in self._additional:
            additional.catch_up()
            if additional.track.dirty:
                self._publish()

    def _find_tracks(self) -> None:
        """Adds new audio tracks of the publisher, and leaves out those that have ended."""
        assert self._stream is not None
        tracks = self._stream.pushed_tracks
        by_stream = {id(track.stream): track for track in tracks.audio}
        for additional in list(self._additional):
            now = by_stream.pop(id(additional.pushed.stream), None)
            if now is not None:
                additional.pushed = now  # the publisher has returned, or it is unchanged
            else:
                self._additional.remove(additional)
                additional.pushed.stream.detach(additional)
        for new in by_stream.values():
            if new.id not in [each.pushed.id for each in self._additional]:
                plan = replace(self._plan, budget=tracks.budget)
                track = CmafTrack(f"audio-{new.id}", plan, (1, 1), self.waiters)
                audio = AudioPackaging(track, self._video, self.manifests, self._segmenter)
                additional = AdditionalAudio(new, audio, self._begin_audio)
                self._additional.append(additional)
                new.stream.attach(additional)
        self._additional.sort(key=lambda each: each.pushed.id)
        self.manifests.set_additional([(each.track, each.pushed) for each in self._additional], tracks.default)
        self.cache.clear()

    # ---- input ----

    def take_tracks(self, tracks: Tracks) -> None:
        manifests = self.manifests
        previous, manifests.publisher_tracks = manifests.publisher_tracks, tracks
        cut = self._cutter.cut
        self._video.cut_captions, self._audio.cut_captions = (cut, None) if tracks.video is not None else (None, cut)
        self._video.announced_bitrate = _announced_bitrate(tracks, "videodatarate")
        self._audio.announced_bitrate = _announced_bitrate(tracks, "audiodatarate")
        if previous is not None and tracks.epoch == previous.epoch:
            return
        self._holes.begin()
        self._begin_again(_LEAST_LAST if time.time() - manifests.now > _BREAK_SECONDS else 0)
        # Raised at once, before the first frame: players of ISO-BMFF do not read this codec.
        if tracks.video is not None and tracks.video.codec is Codec.VP8:
            raise UnsupportedCodec("HLS and DASH players do not read vp8 from CMAF")

    def _begin_again(self, least: int) -> None:
        """Ends the epoch. The next one begins with the next key frame, or sound of media without pictures.

        least: duration of the last segment, in ticks of 90 kHz, to which its last picture is prolonged.
        """
        self._end_epoch(least)
        self._is_new_epoch = True
        self._video_builder = None
        self.manifests.timing = VideoTiming(VIDEO_CLOCK, None, earlier=self.manifests.timing)
        self._segmenters = []

    def take(self, unit: AccessUnit) -> None:
        """Packages one unit. Hot path."""
        self.manifests.now = unit.wall
        if self._holes.is_before(unit):
            self._begin_again(_LEAST_LAST)
        try:
            if unit.track.kind is Kind.VIDEO:
                video = self._video_builder
                if video is None:
                    if not unit.key:
                        return
                    video = self._video_builder = self._begin_video(unit)
                if not video.add(unit.dts, unit.cts, unit.key, unit.payload):
                    self.note_forced_cut(self.manifests.target)
            else:
                audio = self._default
                builder = audio.builder
                if builder is not None and builder.alone and not self._audio.open:
                    self._follow_audio(unit)
                    builder = audio.builder
                if builder is None:
                    self._begin_audio(audio, unit)
                audio.add(unit)
        except UnsupportedCodec:
            raise
        except InvalidData as error:
            self.note_broken(error)
        if self._video.dirty or self._audio.dirty:
            self._publish()

    def take_event(self, event: TimedEvent) -> None:
        tracks = self.manifests.publisher_tracks
        if begins_segment(event):
            self._splices.append(event.at)
        if isinstance(event, AdCue) and not self.manifests.add_cue(event):
            self._early.append(event)
        message = event_message(event)
        if message is not None:
            (self._video if tracks is not None and tracks.video is not None else self._audio).add_event(message)
        self.cache.clear()

    def finish(self) -> None:
        self.manifests.ended = not self.moved
        self._end_epoch()
        self._publish()
        self.cache.clear()
        self.release()

    def release(self) -> None:
        self.changed.open()
        for track in self._all_tracks():
            track.changed.open()

    # ---- epochs ----

    def _begin_video(self, unit: AccessUnit) -> VideoTrackBuilder:
        manifests, track, media_track = self.manifests, self._video, unit.track
        assert manifests.publisher_tracks is not None
        hint = codecs.declared_frame_rate(media_track, manifests.publisher_tracks.metadata)
        alignment = self._alignment
        reference = None if self._is_source else alignment.timing
        timing = manifests.timing = VideoTiming(media_track.timescale, hint, reference, manifests.timing)
        if self._is_source:
            alignment.timing = timing
        size = codecs.video_size(media_track, unit.payload)
        init = init_segment(media_track, timescale=VIDEO_CLOCK, size=size, payload=unit.payload)
        codec, aspect = codecs.codec_string(media_track, unit.payload), codecs.pixel_aspect(media_track, unit.payload)
        segmenter = self._segmenter(VIDEO_CLOCK)

        def may_begin(decoded: int, shown: int, wants_cut: bool, leaves_gap: bool) -> int | None:
            # An open segment has the number `track.number`, so a new one has at least the next number.
            number = track.number + track.open
            continues = self._is_source and wants_cut and not self._is_new_epoch
            begins_period = continues and manifests.begins_period(shown, number)
            candidate = CutCandidate(
                decoded, shown, manifests.now, self._is_new_epoch, track.open, number, begins_period, leaves_gap
            )
            boundary = self._boundary = alignment.decide_boundary(self, candidate, wants_cut, segmenter)
            return boundary.slew if boundary is not None else None

        def cut(first: int) -> None:
            boundary = self._boundary
            assert boundary is not None  # may_begin found it
            follows, track.number = track.number == boundary.number, boundary.number
            origin = boundary.origin
            begins = self._is_new_epoch or manifests.epoch is None or origin.number != manifests.epoch.number
            if begins or manifests.epoch is None:
                self._is_new_epoch = False
                epoch = self._begin_epoch(origin)
                uri, base = track.init_uri(epoch.prefix), manifests.base_of(VIDEO_CLOCK)
                header = CmafHeader(
                    epoch.number, uri, VIDEO_CLOCK, codec, epoch.wall, epoch.prefix, base, size,
                    aspect=aspect if aspect != SQUARE else None, signal=colors_of(media_track, unit.payload).signal,
                )  # fmt: skip
                track.begin(header, init, manifests.now)
            elif origin.period != manifests.epoch.period:
                manifests.begin_period(origin, track.number)
            for audio in (self._default, *[additional.packaging for additional in self._additional]):
                audio.cut(first, boundary.slew, begins=begins, follows=follows)

        return VideoTrackBuilder(track, segmenter, timing, may_begin, cut, OpenGops(media_track))

    def _begin_audio(self, audio: AudioPackaging, unit: AccessUnit) -> bool:
        """Begins an audio track. Returns False for an additional track that must wait for the default one."""
        tracks, is_default = self.manifests.publisher_tracks, audio is self._default
        assert tracks is not None or not is_default
        if tracks is None or (tracks.video is None and self._is_new_epoch and not is_default):
            return False
        begin_epoch = audio.begin(unit, alone=tracks.video is None, is_source=self._is_source)
        if tracks.video is None:
            if is_default:
                self._is_new_epoch = False
                first = unit.dts * VIDEO_CLOCK // unit.track.timescale
                origin, self._next_origin = self._next_origin, None
                self._begin_epoch(origin or self._alignment.begin_epoch(first, first, unit.wall))
            begin_epoch()
        elif self._is_new_epoch:
            audio.waits = True
        else:
            audio.join()
        return True

    def _follow_audio(self, unit: AccessUnit) -> None:
        """Begins another epoch or Period, if media without pictures need one for the segment that begins at `unit`."""
        manifests, time, number = self.manifests, unit.dts * VIDEO_CLOCK // unit.track.timescale, self._audio.number
        origin = self._alignment.follow(time, unit.wall, manifests.begins_period(time, number))
        assert origin is not None and manifests.epoch is not None
        if origin.number != manifests.epoch.number:
            self._end_epoch()
            self._next_origin = origin
        elif origin.period != manifests.epoch.period:
            manifests.begin_period(origin, number)
        self._default.set_slew(self._alignment.dates.slew)

    def _begin_epoch(self, origin: EpochOrigin) -> Epoch:
        """Begins an epoch and chooses the prefix of its file names.

        The first prefix is the second in which the stream started. Each later prefix is the first second of the epoch
        or a later one, so that each epoch has another prefix.
        """
        prefix = max(self._prefix, int(origin.wall)) if self._epochs else self._prefix
        self._epochs += 1
        self._prefix = prefix + 1
        epoch = self.manifests.begin_epoch(origin, str(prefix))
        while self._early:
            self.manifests.add_cue(self._early.popleft())
        return epoch

    def _end_epoch(self, least: int | None = None) -> None:
        """Completes the open segments. least: duration of the last one; None if players do not go on behind it."""
        audio = (self._default, *[additional.packaging for additional in self._additional])
        if self._video_builder is not None:
            end = self._video_builder.finish(least or 0)
            if least is not None and end is not None:
                for each in audio:
                    each.fill(end)
        for each in audio:
            each.end_epoch()
        if self._video.dirty or self._audio.dirty:
            self._publish()

    def _segmenter(self, clock: int) -> Segmenter:
        segmenter = Segmenter(clock, self._plan.seconds, self._splices)
        # One that begins late must be cut where the others had to be cut without a key frame.
        target = self.manifests.target or self._alignment.target
        if target is not None:
            segmenter.fix(target)
        if not self.ready:
            self._segmenters.append(segmenter)  # until the target duration is known
        return segmenter

    # ---- publishing ----

    def _publish(self) -> None:
        video, audio, manifests = self._video, self._audio, self.manifests
        self.on_numbered()
        manifests.update()
        tracks = (video, audio) if not self._additional else self._all_tracks()
        if len(manifests.tracks) < len(tracks):
            self._list_tracks()
        if self.ready:
            self.cache.clear()
            self.changed.open()
            for track in tracks:
                if track.dirty:
                    track.changed.open()
        if self._metrics is not None:
            self._measure(self._metrics)
        for track in tracks:
            track.dirty = False
            track.new_part_seconds.clear()

    def _all_tracks(self) -> tuple[CmafTrack, ...]:
        return (self._video, self._audio, *(each.track for each in self._additional))

    def _measure(self, metrics: Metrics) -> None:
        # Batches delay parts, but only while no client waits: then the delay counts as 0.
        delay = time.time() - self.manifests.now if self.waiters.count else 0.0
        for track in (self._video, self._audio):
            for seconds in track.new_part_seconds:
                metrics.part_seconds.observe(seconds)
                metrics.part_delay.observe(delay)

    def _list_tracks(self) -> None:
        manifests = self.manifests
        forced = any(segmenter.forced_cuts for segmenter in self._segmenters)
        if manifests.list_tracks(is_source=self._is_source, forced=forced) and not self.ready:
            assert manifests.target is not None
            for segmenter in self._segmenters:
                segmenter.fix(manifests.target)
            self.ready = True


def _announced_bitrate(tracks: Tracks, name: str) -> float:
    """Returns the bitrate in the publisher's metadata, in bits a second; 0 if it contains none.

    The unit in the metadata is 1,000 or 1,024 bits a second; the larger one is assumed.
    """
    value = tracks.metadata.get(name)
    return 1024.0 * value if isinstance(value, int | float) and 0 < value < _MAX_RATE else 0.0
