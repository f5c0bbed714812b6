"""Packages the audio tracks of a stream: the default one, and additional ones that the publisher sends beside it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from gateway.formats.mp4.init import init_segment
from gateway.live.pushed_tracks import PushedTrack
from gateway.live.sink import EndReason
from gateway.media import codecs
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.silent_frames import silent_frame
from gateway.media.track import AccessUnit, MediaTrack, TimedData, Tracks
from gateway.packaging.cmaf.audio_track_builder import AudioTrackBuilder
from gateway.packaging.cmaf.dash_manifest import Epoch
from gateway.packaging.cmaf.manifests import CmafManifests
from gateway.packaging.cmaf.track import CmafHeader, CmafTrack
from gateway.packaging.segmenter import Segmenter
from gateway.packaging.timing import AudioTiming

log = structlog.get_logger(__name__)

_BATCH: Final = 32  # units of an additional track that may wait to be packaged


@dataclass(eq=False, slots=True)
class AudioPackaging:
    """Fills one audio track. Its segments begin together with the video's.

    segmenter(clock): returns a new segmenter for this stream. clock: ticks a second.
    """

    track: CmafTrack
    video: CmafTrack
    manifests: CmafManifests
    segmenter: Callable[[int], Segmenter]
    builder: AudioTrackBuilder | None = None
    waits: bool = False  # its epoch waits for that of the video
    _begin_epoch: Callable[..., None] | None = field(default=None, init=False)
    _timing: AudioTiming | None = field(default=None, init=False)
    _last: AccessUnit | None = field(default=None, init=False)  # the last unit

    def begin(self, unit: AccessUnit, *, alone: bool, is_source: bool) -> Callable[[], None]:
        """Begins with a track's first unit. Returns a function that begins the epoch of this track.

        alone: whether the stream has no video. is_source: whether it is the source of a ladder.
        """
        manifests, track, media_track, payload = self.manifests, self.track, unit.track, unit.payload
        timing = self._timing = AudioTiming(media_track, payload)
        rate = timing.rate
        channels = codecs.audio_channels(media_track, payload)
        codec = codecs.codec_string(media_track)
        init = init_segment(media_track, timescale=rate, payload=payload)

        def begin_epoch(epoch: Epoch | None = None, number: int = 0) -> None:
            epoch = epoch or manifests.epoch
            assert epoch is not None
            if not number and (not len(track.window) or not is_source):
                number = self.video.number  # late audio has no segment yet, so it can use the numbers of the video
            track.number = max(track.number, number)
            uri, base = track.init_uri(epoch.prefix), manifests.base_of(rate)
            header = CmafHeader(epoch.number, uri, rate, codec, epoch.wall, epoch.prefix, base, None, rate, channels)
            track.begin(header, init, manifests.now)

        slew = manifests.alignment.dates.slew * rate // VIDEO_CLOCK
        self.builder = AudioTrackBuilder(track, self.segmenter(rate), timing.clock, alone, slew)
        self._begin_epoch, self.waits = begin_epoch, False
        return begin_epoch

    def join(self) -> None:
        """Begins within the epoch of the video, which has begun."""
        manifests = self.manifests
        assert manifests.epoch is not None and self._begin_epoch is not None
        assert self.builder is not None and self._timing is not None
        self._begin_epoch()
        rate = self._timing.rate
        self.builder.cut(manifests.epoch.origin * rate // VIDEO_CLOCK + manifests.base_of(rate))

    def add(self, unit: AccessUnit) -> None:
        """Adds a unit, after `begin`. Hot path."""
        assert self.builder is not None and self._timing is not None
        self._last = unit
        self.builder.add(unit.dts, self._timing.length(unit), unit.payload)

    def set_slew(self, slew: int) -> None:
        """Sets the correction of the following times, in ticks of 90 kHz."""
        if self.builder is not None and self._timing is not None:
            self.builder.slew = slew * self._timing.rate // VIDEO_CLOCK

    def cut(self, first: int, slew: int, *, begins: bool, follows: bool) -> None:
        """Notes that a video segment begins at `first`, in ticks of 90 kHz. slew: its correction.

        begins: whether it begins an epoch. follows: whether its number follows that of the last segment.
        """
        audio, timing = self.builder, self._timing
        if audio is None or timing is None:
            return
        time = first * timing.rate // VIDEO_CLOCK
        self.set_slew(slew)
        assert self._begin_epoch is not None
        begin_epoch = None
        if self.waits:
            self.waits = False
            self._begin_epoch()
        elif begins:
            begin_epoch = partial(self._begin_epoch, self.manifests.epoch, self.video.number)
        elif not follows:
            audio.restart(time, last=False)
            self.track.number = max(self.track.number, self.video.number)
        audio.cut(time, begin_epoch)

    def fill(self, end: int) -> None:
        """Adds silence up to `end`, that of the pictures, in ticks of 90 kHz.

        Otherwise hls.js (1.7.4) may find no sound where the next epoch begins, and stops for nine seconds.
        """
        unit, timing = self._last, self._timing
        if self.builder is None or unit is None or timing is None:
            return
        silence = silent_frame(unit.track, unit.payload)
        if silence is not None:
            length = round(silence.seconds * timing.rate)
            self.builder.fill(end * timing.rate // VIDEO_CLOCK, length, silence.payload)

    def end_epoch(self) -> None:
        """Completes the open segment. The next unit begins the track again."""
        if self.builder is not None:
            self.builder.finish()
        self.builder = self._begin_epoch = None


@dataclass(eq=False, repr=False, slots=True)
class AdditionalAudio:
    """A Sink: packages an additional audio track of the publisher, in the folder `audio-<id>` of its source.

    Units are packaged in batches, and before each read. A track that cannot be packaged is left out.

    begin(packaging, unit): begins the track. Returns False while the stream has not begun.
    """

    pushed: PushedTrack
    packaging: AudioPackaging
    begin: Callable[[AudioPackaging, AccessUnit], bool]
    failed: bool = False
    _media: MediaTrack | None = field(default=None, init=False)
    _backlog: list[AccessUnit] = field(default_factory=list, init=False)

    @property
    def track(self) -> CmafTrack:
        return self.packaging.track

    def catch_up(self) -> None:
        """Packages the waiting units."""
        units, self._backlog = self._backlog, []
        if self.failed:
            return
        try:
            for unit in units:
                if unit.track is not self._media:
                    if unit.track != self._media:
                        self.packaging.end_epoch()
                    self._media = unit.track
                if self.packaging.builder is not None or self.begin(self.packaging, unit):
                    self.packaging.add(unit)
        except InvalidData as error:
            self.on_failed(error)

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        """Does nothing: each unit has its track."""

    def on_unit(self, unit: AccessUnit) -> None:
        self._backlog.append(unit)
        if len(self._backlog) >= _BATCH:
            self.catch_up()

    def on_timed(self, timed: TimedData) -> None:
        """Does nothing, because segments contain no script data."""

    def on_end(self, reason: EndReason) -> None:
        self.catch_up()

    def on_failed(self, error: Exception) -> None:
        self.failed = True
        self._backlog = []
        self.packaging.end_epoch()
        log.warning("an audio track cannot be packaged", rendition=self.pushed.name, reason=str(error)[:200])
