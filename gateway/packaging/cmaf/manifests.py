"""Prints the playlists and manifests of a CMAF stream, and decides which tracks they list and what they promise."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from gateway.formats.dash import mpd
from gateway.formats.hls import media_playlist
from gateway.formats.hls.multivariant_playlist import AudioRendition, Variant, multivariant
from gateway.lib.metrics import Metrics
from gateway.media.track import Tracks
from gateway.packaging.alignment import Alignment, EpochOrigin
from gateway.packaging.cmaf.dash_manifest import AlternateRendition, Epoch, MpdSnapshot
from gateway.packaging.cmaf.track import CmafTrack
from gateway.packaging.segmenter import target_duration
from gateway.packaging.timing import VIDEO_CLOCK, VideoTiming
from gateway.packaging.wall_clock import WallClock

AUDIO_GROUP = "audio"
# Video segments after which a playlist is served without the announced audio: if none came, or no whole segment.
_WAIT_FOR_AUDIO, _WAIT_FOR_MORE_AUDIO = 2, 3


class CmafManifests:
    """Watches the tracks of one packager and prints `master.m3u8`, each track's playlist and `manifest.mpd`.

    The playlists of the tracks exist from their first complete segments on. What they promise is fixed then: Target
    Durations never change. Presentation time is zero at the first decode time of the alignment's first epoch.
    """

    def __init__(
        self, video: CmafTrack, audio: CmafTrack, seconds: float, alignment: Alignment, metrics: Metrics | None = None
    ) -> None:
        """seconds: the channel's hls_time.
        alignment: numbers the epochs.
        metrics: where segments are counted.
        """
        self.lanes: tuple[CmafTrack, ...] = ()  # the tracks that have media, the leading one first
        self.target: int | None = None
        self.epoch: Epoch | None = None  # the current one, once one has begun
        self._alignment = alignment
        self.tracks: Tracks | None = None  # what the publisher sends now …
        self.timing: VideoTiming | None = None  # … and how regular its video is
        self._video, self._audio = video, audio
        self._seconds = seconds
        self._metrics = metrics
        self._epochs: dict[int, Epoch] = {}
        self._noted: dict[str, int] = {}

    def lane(self, kind: str) -> CmafTrack | None:
        """Returns the track with this folder name, None if it has no media."""
        return next((lane for lane in self.lanes if lane.kind == kind), None)

    # ---- manifests; only when `lanes` is not empty ----

    def variant(self, uri: str = "video/index.m3u8", sound: CmafTrack | None = None, least: int = 0) -> Variant:
        """Returns this stream as one variant of a multivariant playlist.

        sound: audio track of another stream, instead of its own.
        least: lower bound of its peak bitrate, bits a second.
        """
        lanes = self._present()
        if sound is not None:
            lanes = [lanes[0], sound]
        lead = lanes[0]
        header = lead.header
        rate = self.frame_rate
        return Variant(
            uri=uri if lead.kind == "video" else f"{lead.kind}/index.m3u8",
            bandwidth=max(least, int(sum(lane.peak for lane in lanes)) + 1),
            average=max(1, int(sum(lane.window.average for lane in lanes)) + 1),
            codecs=tuple(h.codec for lane in lanes if (h := lane.header) is not None),
            size=header.size if header is not None else None,
            frame_rate=float(rate) if rate is not None else None,
            audio=AUDIO_GROUP if len(lanes) > 1 else None,
        )

    def master(self, variants: Sequence[Variant] = ()) -> str:
        """Returns `master.m3u8` with media_playlist.MARK after its URIs: this stream, then `variants` (the rungs of a
        ladder).
        """
        renditions = []
        if len(self._present()) > 1:
            header = self._audio.header
            renditions.append(
                AudioRendition(AUDIO_GROUP, "audio", "audio/index.m3u8", header.channels if header else 0)
            )
        return multivariant([self.variant(), *variants], renditions)

    def playlist(self, lane: CmafTrack, *, ended: bool, skip: bool = False, report: str | None = None) -> str:
        """Returns a track's playlist with media_playlist.MARK after its URIs.

        report: rendition reports of the other renditions of its ladder; None: only the other track of this stream.
        """
        if report is None:
            report = "".join(
                media_playlist.rendition_report(f"../{other.kind}/index.m3u8", *other.last)
                for other in self.lanes
                if other is not lane
            )
        return lane.playlist(ended=ended, report=report, skip=skip)

    def manifest(self, besides: Sequence[AlternateRendition] = (), *, now: float, ended: bool) -> str:
        """Returns `manifest.mpd` with mpd.MARK and mpd.NOW in it.

        besides: further renditions.
        now: when the last unit came, seconds since the epoch.
        """
        return mpd.mpd(self._snapshot(now, besides).manifest(ended=ended, frame_rate=self.frame_rate))

    def joinable(self, now: float, besides: Sequence[AlternateRendition] = ()) -> bool:
        """Tells whether every DASH player can start with the present `manifest`, and it lists all of `besides`."""
        return bool(self.lanes) and self._snapshot(now, besides).joinable()

    def _snapshot(self, now: float, besides: Sequence[AlternateRendition]) -> MpdSnapshot:
        # The longest duration of a part of any track, in seconds.
        part = max(lane.target_part for lane in self.lanes if lane.target_part is not None)
        return MpdSnapshot(self.lanes, self._epochs, besides, self._alignment.start, now, part)

    @property
    def frame_rate(self) -> Fraction | None:
        """Frames a second, None if they are not regular."""
        return self.timing.frame_rate if self.timing is not None else None

    def _present(self) -> Sequence[CmafTrack]:
        """Returns the tracks that the publisher still sends: a player would wait for the others."""
        tracks = self.tracks
        return [lane for lane in self.lanes if tracks is None or getattr(tracks, lane.kind) is not None] or self.lanes

    # ---- what happens ----

    def begin_epoch(self, origin: EpochOrigin, prefix: str) -> Epoch:
        """Begins an epoch: media of another publisher, or other tracks. prefix: the start of its file names."""
        time = origin.time - (self._alignment.base or 0)
        self.epoch = Epoch(origin.number, time, WallClock(time / VIDEO_CLOCK, origin.wall), prefix)
        self._epochs[origin.number] = self.epoch
        return self.epoch

    def note(self, now: float) -> None:
        """Evaluates tracks that have a new part or segment. now: when the last unit came, seconds since the epoch."""
        epoch, video = self.epoch, self._video
        if epoch is not None and video.open and video.parts:
            epoch.note_start(video.parts[0].independent)
        for lane in (video, self._audio):
            if lane.dirty and lane.number != self._noted.get(lane.kind) and len(lane.window):
                self._noted[lane.kind] = lane.number
                leads = lane is video or self.tracks is None or self.tracks.video is None
                self._note_segment(lane, leads, now)

    def _note_segment(self, lane: CmafTrack, leads: bool, now: float) -> None:
        segment = lane.window[-1]
        epoch = self._epochs.get(segment.epoch)
        if self._metrics is not None:
            self._metrics.segment_seconds.observe(segment.duration, "cmaf")
        if epoch is not None:
            epoch.note(lane.kind, leads, segment, now)
        oldest = min(lane.window[0].epoch for lane in (self._video, self._audio) if len(lane.window))
        for number in [n for n in self._epochs if n < oldest]:
            del self._epochs[number]

    def settle(self, *, ended: bool, leads: bool, forced: bool) -> bool:
        """Lists the tracks that have segments, once the promised values can be fixed. Returns whether any are listed.

        leads: this is the source of a ladder.
        forced: a segment had to begin without a key frame.
        """
        tracks = self.tracks
        if tracks is None:
            return False
        video, audio = self._video, self._audio
        have = tuple(lane for lane in (video, audio) if len(lane.window))
        if not self.lanes:
            wanted = (tracks.video is not None) + (tracks.audio is not None)
            patience = _WAIT_FOR_MORE_AUDIO if audio.open else _WAIT_FOR_AUDIO
            late = len(have) < wanted and len(video.window) < patience and not ended
            if not have or late or (tracks.video is not None and not len(video.window)):
                return False
            if not leads and self._alignment.undecided:
                return False
            least = target_duration(self._seconds, max(lane.window.longest for lane in have), forced)
            self.target = self._alignment.fix_target(least)
        assert self.target is not None
        for lane in have:
            lane.promise(self.target)
        self.lanes = have
        return True

    def base_of(self, clock: int) -> int:
        """Returns the time on the stream's clock at which presentation time is zero, in ticks of `clock`."""
        return (self._alignment.base or 0) * clock // VIDEO_CLOCK
