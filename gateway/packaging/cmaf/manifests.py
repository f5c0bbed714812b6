"""Writes the playlists and manifests of a CMAF stream."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TypeAlias

from gateway.formats.dash import mpd
from gateway.formats.hls.multivariant_playlist import AudioRendition, Variant, multivariant
from gateway.lib.metrics import Metrics
from gateway.live.pushed_tracks import NO_INFO, PushedTrack, TrackInfo, labels
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.pixel_aspect import SQUARE, displayed
from gateway.media.timed_data import AdCue
from gateway.media.track import Tracks
from gateway.packaging.alignment import Alignment, EpochOrigin
from gateway.packaging.caption_files import caption_playlist, subtitle_renditions
from gateway.packaging.cmaf.dash_manifest import AlternateRendition, AudioLabel, Contents, Epoch, MpdSnapshot
from gateway.packaging.cmaf.track import CmafTrack, rendition_reports
from gateway.packaging.date_ranges import DateRanges
from gateway.packaging.packager import SegmentPlan
from gateway.packaging.segmenter import target_duration
from gateway.packaging.timing import VideoTiming, WallClock

_Pushed: TypeAlias = list[tuple[CmafTrack, PushedTrack]]  # additional audio tracks: as packaged, and as pushed

AUDIO_GROUP = "audio"
# Number of video segments after which a playlist is served without audio. The first applies if no audio arrived, the
# second if audio arrived, but no whole segment.
_WAIT_FOR_AUDIO, _WAIT_FOR_MORE_AUDIO = 2, 3
_MAX_BEHIND = 3.0  # seconds besides a segment by which an additional audio track may be late and still be listed


@dataclass(eq=False, slots=True)
class CmafManifests:
    """Writes `master.m3u8`, the media playlists and `manifest.mpd` from the tracks of one packager.

    Playlists exist after the first complete segments. Then their Target Durations are fixed. Presentation time is zero
    at the first decode time of the alignment's first epoch.

    alignment: numbers the epochs. metrics: counts segments.
    now: arrival time of the last unit, seconds since 1970.
    """

    video: CmafTrack
    audio: CmafTrack
    plan: SegmentPlan
    alignment: Alignment
    now: float
    metrics: Metrics | None = None
    tracks: tuple[CmafTrack, ...] = ()  # the tracks with media: video, audio, additional audio
    target: int | None = None  # Target Duration, seconds; None until it is fixed
    epoch: Epoch | None = None  # the current epoch
    ended: bool = False  # the stream has ended
    publisher_tracks: Tracks | None = None  # the publisher's current tracks
    timing: VideoTiming = field(default_factory=lambda: VideoTiming(VIDEO_CLOCK, None))  # timing of the current video
    ranges: DateRanges = field(default_factory=DateRanges, init=False)
    _epochs: list[Epoch] = field(default_factory=list, init=False)  # with media in a list: a Period each, by time
    _last_noted: dict[str, int] = field(default_factory=dict, init=False)  # number of the last evaluated segment
    _late: float = field(default=0.0, init=False)  # seconds from the date of the last pictures to their arrival
    # Additional audio tracks of the publisher, and what it says about its default audio track.
    _additional: _Pushed = field(default_factory=list, init=False)
    _default_info: TrackInfo = field(default=NO_INFO, init=False)

    def set_additional(self, additional: _Pushed, default: TrackInfo) -> None:
        """Sets the publisher's additional audio tracks, and what it says about its default audio track."""
        self._additional, self._default_info = additional, default
        known = [self.video, self.audio, *(track for track, _ in additional)]
        self.tracks = tuple(track for track in self.tracks if track in known)

    def track(self, kind: str) -> CmafTrack | None:
        """Returns the track with this folder name; None if it has no media."""
        return next((track for track in self.tracks if track.kind == kind), None)

    @property
    def main(self) -> CmafTrack:
        """The track that captions follow: the first one that the publisher still sends. Requires `tracks`."""
        return self._current_tracks()[0]

    @property
    def frame_rate(self) -> Fraction | None:
        """Frames a second; None if they are not regular."""
        return self.timing.frame_rate

    # ---- playlists and manifests; they require `tracks` ----

    def variant(
        self,
        uri: str = "video/index.m3u8",
        audio: CmafTrack | None = None,
        declared_bitrate: int = 0,
        additional: Sequence[CmafTrack] = (),
    ) -> Variant:
        """Returns this stream as one variant of a multivariant playlist.

        audio: the audio track of another stream, to use instead of its own.
        declared_bitrate: bits a second that the encoder may reach; the playlist announces at least this.
        additional: additional audio tracks of another stream, instead of its own.
        """
        tracks = self._current_tracks()
        if audio is not None:
            tracks = [tracks[0], audio]
        also = additional or [track for track, _ in self._listed_additional()]
        main_track = tracks[0]
        header = main_track.header
        range = header.signal.range if header is not None else "SDR"
        return Variant(
            uri=uri if main_track.kind == "video" else f"{main_track.kind}/index.m3u8",
            bandwidth=max(declared_bitrate, int(sum(track.peak for track in tracks)) + 1),
            average=max(1, int(sum(track.window.average for track in tracks)) + 1),
            codecs=tuple(dict.fromkeys(h.codec for track in [*tracks, *also] if (h := track.header) is not None)),
            size=displayed(header.size, header.aspect or SQUARE) if header is not None and header.size else None,
            frame_rate=self.timing.variant_rate(range),
            audio=AUDIO_GROUP if len(tracks) > 1 or also else None,
            captions=self.plan.captions.closed,
            range=range,
        )

    def master(self, variants: Sequence[Variant] = ()) -> str:
        """Returns `master.m3u8` with media_playlist.MARK after its URIs: this stream, then `variants` (renditions)."""
        subtitles = subtitle_renditions(self.plan.captions.texts, "index.m3u8")
        return multivariant([self.variant(), *variants], self._audio_renditions(), subtitles)

    def _audio_renditions(self) -> list[AudioRendition]:
        """Returns the audio of a multivariant playlist: the default track first."""
        main, additional = self._current_tracks(), self._listed_additional()
        has_default = len(main) > 1 or (additional and main and main[0] is self.audio)
        audio: list[AudioRendition] = []
        for track, info, name in self._named_audio(additional)[0 if has_default else 1 :]:
            channels = track.header.channels if track.header else 0
            uri = f"{track.kind}/index.m3u8"
            name = name if additional else "audio"
            audio.append(AudioRendition(AUDIO_GROUP, name, uri, channels, not audio, info.language))
        return audio

    def _named_audio(self, additional: _Pushed) -> list[tuple[CmafTrack, TrackInfo, str]]:
        """Returns the audio tracks with the publisher's information and their names: the default track first."""
        names = labels(self._default_info, [pushed for _, pushed in additional])
        tracks = [(self.audio, self._default_info), *((track, pushed.info) for track, pushed in additional)]
        return [(track, info, name) for (track, info), name in zip(tracks, names, strict=True)]

    def _listed_additional(self) -> _Pushed:
        """Returns the additional audio tracks that can be played now: not far behind the main track."""
        if not self._additional or not self.tracks:
            return []
        window = self.main.window
        return [
            (track, pushed)
            for track, pushed in self._additional
            if track in self.tracks and window.lead(track.window) <= window.longest + _MAX_BEHIND
        ]

    def playlist(self, track: CmafTrack, *, skip: bool = False, report: str | None = None) -> str:
        """Returns a track's playlist with media_playlist.MARK after its URIs.

        skip: whether to make a delta update, if it is shorter.
        report: rendition reports of the other renditions of its ladder; None: only the other track of this stream.
        """
        if report is None:
            report = rendition_reports(track, [(f"{t.kind}/index.m3u8", t) for t in self.tracks], "../")
            report += self.text_reports("../")
        return track.playlist(self.alignment.hold_back, ended=self.ended, report=report, skip=skip, ranges=self.ranges)

    def caption_playlist(self, *, skip: bool = False) -> str:
        """Returns the playlist of each caption track, in its folder; see `playlist`."""
        report = rendition_reports(None, [(f"{t.kind}/index.m3u8", t) for t in self.tracks], "../../")
        return caption_playlist(self.playlist(self.main, skip=skip, report=report))

    def text_reports(self, path: str) -> str:
        """Returns the rendition reports of the caption tracks. path: to the stream's folder."""
        texts = self.plan.captions.texts
        return rendition_reports(None, [(f"{text.folder}/index.m3u8", self.main) for text in texts], path)

    def manifest(self, alternates: Sequence[AlternateRendition] = ()) -> str:
        """Returns `manifest.mpd` with mpd.MARK and mpd.NOW in it.

        alternates: additional renditions; listed if they cover this stream.
        """
        snapshot = self._snapshot(alternates)
        if not self.ended and snapshot.renditions_changed:
            self._begin_other_renditions()
        return mpd.mpd(snapshot.manifest(ended=self.ended, frame_rate=self.frame_rate))

    def is_playable(self, alternates: Sequence[AlternateRendition] = ()) -> bool:
        """Whether every DASH player can start with the current manifest, and it lists all of `alternates`.

        This becomes true a little later than the packager's `ready`.
        """
        return bool(self.tracks) and (self.ended or self._snapshot(alternates).is_playable())

    def _snapshot(self, alternates: Sequence[AlternateRendition]) -> MpdSnapshot:
        # The longest duration of a part of any track, in seconds.
        part = max(track.part_target for track in self.tracks if track.part_target is not None)
        listed = {track.kind for track in (*self._current_tracks(), *(track for track, _ in self._listed_additional()))}
        named = self._named_audio(self._additional) if self._additional else []
        audio = {track.kind: AudioLabel(info.language, name) for track, info, name in named}
        captions = self.plan.captions
        contents = Contents(frozenset(listed), audio, captions.closed or (), captions.texts)
        return MpdSnapshot(self.tracks, self._epochs, alternates, self.alignment.start_wall, self.now, part, contents)

    def _current_tracks(self) -> Sequence[CmafTrack]:
        """Returns the tracks that the publisher still sends. Players would wait for other tracks."""
        sent = self.publisher_tracks
        main = [track for track in self.tracks if track in (self.video, self.audio)]
        return [track for track in main if sent is None or getattr(sent, track.kind) is not None] or main or self.tracks

    # ---- events ----

    def begin_epoch(self, origin: EpochOrigin, prefix: str) -> Epoch:
        """Begins an epoch: media of another publisher, or other tracks. prefix: the start of its file names."""
        time = origin.time - self.base_of(VIDEO_CLOCK)
        self.epoch = Epoch(origin.number, time, WallClock(time / VIDEO_CLOCK, origin.wall), prefix)
        self._epochs.append(self.epoch)
        return self.epoch

    def begins_period(self, shown: int, number: int) -> bool:
        """Whether segment `number` of the main track, which begins at `shown` (not corrected), needs another Period."""
        time = shown - self.alignment.dates.slew - self.base_of(VIDEO_CLOCK)
        return self.epoch is not None and self.epoch.ends_at(time, number)

    def begin_period(self, origin: EpochOrigin, number: int) -> None:
        """Begins another Period of the epoch with segment `number` of the main track."""
        assert self.epoch is not None
        self.epoch = self.epoch.next_period(origin.time - self.base_of(VIDEO_CLOCK), origin.period, number)
        self._epochs.append(self.epoch)

    def _begin_other_renditions(self) -> None:
        """Begins another Period with the newest segment that all tracks have complete, if the Period is not new."""
        epoch, tracks = self._epochs[-1], self._current_tracks()
        own = [s for s in tracks[0].window if s.epoch == epoch.number and s.number > next(iter(epoch.first.values()))]
        for following in map(epoch.next_change, reversed(own[-2:])):
            if all(following.has(track.window[-1]) for track in tracks):
                for track in self.tracks:
                    for segment in filter(following.has, track.window):
                        following.note(track.kind, False, segment)
                self.epoch = following
                self._epochs.append(following)
                return

    def add_cue(self, cue: AdCue) -> bool:
        """Adds an ad cue, in ticks of 90 kHz. Returns False before the first epoch, which has the dates."""
        if self.epoch is not None:
            media = cue.at - self.alignment.dates.slew - self.base_of(VIDEO_CLOCK)
            self.ranges.add(cue, self.epoch.wall.at(media / VIDEO_CLOCK))
        return self.epoch is not None

    def update(self) -> None:
        """Evaluates the tracks after a new part or segment."""
        epoch, video = self.epoch, self.video
        if epoch is not None and video.open and video.parts:
            epoch.note_start(video.parts[0].independent)
        if video.new_part_seconds:
            self._late = self.now - video.end_date
        if self.audio.new_part_seconds and video.open:
            self.alignment.note_lag(self.now - self.audio.end_date - self._late)
        for track in self._all():
            if track.dirty and track.number != self._last_noted.get(track.kind) and len(track.window):
                self._last_noted[track.kind] = track.number
                alone = self.publisher_tracks is None or self.publisher_tracks.video is None
                is_main = track is video or (track is self.audio and alone)
                self._note_segment(track, is_main)

    def _note_segment(self, track: CmafTrack, is_main: bool) -> None:
        segment = track.window[-1]
        epoch = next((epoch for epoch in reversed(self._epochs) if epoch.has(segment)), None)
        if self.metrics is not None:
            self.metrics.segment_seconds.observe(segment.duration, "cmaf")
        if epoch is not None:
            epoch.note(track.kind, is_main, segment)
        # The last segments of a track that the publisher no longer sends stay listed, so they do not decide.
        first = [track.window[0] for track in self._current_tracks() or self._all() if len(track.window)]
        while len(self._epochs) > 1 and not any(self._epochs[1].is_after(segment) for segment in first):
            self._epochs.pop(0)

    def _all(self) -> list[CmafTrack]:
        return [self.video, self.audio, *(track for track, _ in self._additional)]

    def list_tracks(self, *, is_source: bool, forced: bool) -> bool:
        """Lists the tracks with segments when the durations can be fixed. Returns whether any track is listed.

        is_source: whether this is the source of a ladder.
        forced: whether a segment had to begin without a key frame.
        """
        tracks = self.publisher_tracks
        if tracks is None:
            return False
        video, audio = self.video, self.audio
        complete = tuple(track for track in self._all() if len(track.window))
        if not self.tracks:
            expected = (tracks.video is not None) + (tracks.audio is not None) + len(self._additional)
            max_segments = _WAIT_FOR_MORE_AUDIO if audio.open else _WAIT_FOR_AUDIO
            waits = len(complete) < expected and len(video.window) < max_segments and not self.ended
            first = video if tracks.video is not None else audio
            if not complete or waits or (tracks.video is not None and not len(video.window)) or first not in complete:
                return False
            if not is_source and self.alignment.is_target_undecided:
                return False
            longest = max(track.window.longest for track in complete)
            decided = self.alignment.target is not None
            target = int(longest + 0.5) if decided else target_duration(self.plan.seconds, longest, forced)
            self.target = self.alignment.fix_target(target)
        assert self.target is not None
        for track in complete:
            part_target = track.fix_durations(self.target)
            self.alignment.part_target = max(self.alignment.part_target, part_target)
        self.tracks = complete
        return True

    def base_of(self, clock: int) -> int:
        """Returns the stream time of presentation time zero, in ticks of `clock`."""
        return (self.alignment.start_time or 0) * clock // VIDEO_CLOCK
