"""What viewers are told of a CMAF stream: which tracks there are, what their playlists promise, and the manifests."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from gateway.formats.dash import mpd
from gateway.formats.hls import media
from gateway.formats.hls.multivariant import Rendition, Variant, multivariant
from gateway.lib.metrics import Metrics
from gateway.media.track import Tracks
from gateway.packagers.alignment import Alignment, Origin
from gateway.packagers.lane import Lane
from gateway.packagers.manifest import Beside, Epoch, joinable, manifest
from gateway.packagers.segmenter import target_duration
from gateway.packagers.timing import VIDEO_CLOCK, VideoTiming
from gateway.packagers.wall import WallClock

AUDIO_GROUP = "audio"
# Segments of the picture, after which a playlist does without announced audio: none of it came, or only a beginning.
_WAIT_FOR_AUDIO, _WAIT_FOR_MORE_AUDIO = 2, 3


class Presentation:
    """Watches the lanes of one packager and prints `master.m3u8`, each track's playlist and `manifest.mpd`.

    The tracks' playlists begin to exist with their first complete segments, and with them what they promise: Target
    Durations never change. Presentation time is zero at the first decode time of the alignment's first epoch.
    """

    def __init__(
        self, video: Lane, audio: Lane, seconds: float, alignment: Alignment, metrics: Metrics | None = None
    ) -> None:
        """seconds: the channel's hls_time; alignment: numbers the epochs; metrics: where segments count."""
        self.lanes: tuple[Lane, ...] = ()  # those that have media, the leading one first
        self.target: int | None = None
        self.epoch: Epoch | None = None  # the present one, once one has begun
        self._alignment = alignment
        self.tracks: Tracks | None = None  # what the publisher sends at present …
        self.timing: VideoTiming | None = None  # … and how regular its picture is
        self._video, self._audio = video, audio
        self._seconds = seconds
        self._metrics = metrics
        self._epochs: dict[int, Epoch] = {}
        self._noted: dict[str, int] = {}

    def lane(self, kind: str) -> Lane | None:
        """The track of this folder name, where it has media."""
        return next((lane for lane in self.lanes if lane.kind == kind), None)

    # ---- manifests; only when there are lanes ----

    def variant(self, uri: str = "video/index.m3u8", sound: Lane | None = None, least: int = 0) -> Variant:
        """This stream as one variant. sound: of another stream, instead of its own; least: bits a second of its peak,
        if more than was measured."""
        lanes = self._present()
        if sound is not None:
            lanes = [lanes[0], sound]
        lead = lanes[0]
        header = lead.header
        rate = self.frame_rate
        return Variant(
            uri=uri if lead.kind == "video" else f"{lead.kind}/index.m3u8",
            bandwidth=max(least, int(sum(lane.window.peak for lane in lanes)) + 1),
            average=max(1, int(sum(lane.window.average for lane in lanes)) + 1),
            codecs=tuple(h.codec for lane in lanes if (h := lane.header) is not None),
            size=header.size if header is not None else None,
            frame_rate=float(rate) if rate is not None else None,
            audio=AUDIO_GROUP if len(lanes) > 1 else None,
        )

    def master(self, variants: Sequence[Variant] = ()) -> str:
        """`master.m3u8` with media.MARK behind its URIs: this stream, then `variants` (rungs of a ladder)."""
        renditions = []
        if len(self._present()) > 1:
            header = self._audio.header
            renditions.append(Rendition(AUDIO_GROUP, "audio", "audio/index.m3u8", header.channels if header else 0))
        return multivariant([self.variant(), *variants], renditions)

    def playlist(self, lane: Lane, *, ended: bool, skip: bool = False, above: bool = False) -> str:
        """A track's playlist with media.MARK behind its URIs. above: the picture's, for the folder above its own."""
        report = "".join(
            media.rendition_report(f"{'' if above else '../'}{other.kind}/index.m3u8", *other.last)
            for other in self.lanes
            if other is not lane
        )
        return lane.playlist(ended=ended, report=report, skip=skip)

    def manifest(self, besides: Sequence[Beside] = (), *, now: float, ended: bool) -> str:
        """`manifest.mpd` with mpd.MARK and mpd.NOW in it. besides: renditions; now: when the last unit came."""
        return mpd.mpd(
            manifest(
                self.lanes, self._epochs, besides, start=self._alignment.start, now=now, part=self._part(), ended=ended,
                frame_rate=self.frame_rate,
            )
        )  # fmt: skip

    def joinable(self, now: float, besides: Sequence[Beside] = ()) -> bool:
        """Whether every DASH player can begin with what `manifest` says now, and that has all of `besides`."""
        start = self._alignment.start
        return bool(self.lanes) and joinable(self.lanes, self._epochs, besides, start=start, now=now, part=self._part())

    @property
    def frame_rate(self) -> Fraction | None:
        """Frames a second, where they are regular."""
        return self.timing.frame_rate if self.timing is not None else None

    def _present(self) -> Sequence[Lane]:
        """Lanes without those of a track that the publisher no longer sends: a player would wait for it."""
        tracks = self.tracks
        return [lane for lane in self.lanes if tracks is None or getattr(tracks, lane.kind) is not None] or self.lanes

    def _part(self) -> float:
        part = self.lanes[0].target_part
        assert part is not None
        return part

    # ---- what happens ----

    def begin_epoch(self, origin: Origin) -> Epoch:
        """Another publisher's media, or other tracks."""
        time = origin.time - (self._alignment.base or 0)
        self.epoch = Epoch(origin.number, time, WallClock(time / VIDEO_CLOCK, origin.wall))
        self._epochs[origin.number] = self.epoch
        return self.epoch

    def note(self, now: float) -> None:
        """Looks at lanes that have another part or segment. now: when the last unit came."""
        for lane in (self._video, self._audio):
            if lane.dirty and lane.number != self._noted.get(lane.kind) and len(lane.window):
                self._noted[lane.kind] = lane.number
                leads = lane is self._video or self.tracks is None or self.tracks.video is None
                self._note_segment(lane, leads, now)

    def _note_segment(self, lane: Lane, leads: bool, now: float) -> None:
        segment = lane.window[-1]
        epoch = self._epochs.get(segment.epoch)
        if self._metrics is not None:
            self._metrics.segment_seconds.observe(segment.duration, "cmaf")
        if epoch is not None:
            epoch.note(lane.kind, leads, segment, now)
        oldest = min(lane.window[0].epoch for lane in (self._video, self._audio) if len(lane.window))
        for number in [n for n in self._epochs if n < oldest]:
            del self._epochs[number]

    def settle(self, *, ended: bool, leads: bool) -> bool:
        """Lists the lanes that have segments, once there is enough to promise something; whether any are listed. leads:
        of a source."""
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
            least = target_duration(self._seconds, max(lane.window.longest for lane in have))
            self.target = self._alignment.fix_target(least)
        assert self.target is not None
        for lane in have:
            lane.promise(self.target)
        self.lanes = have
        return True

    def base_of(self, clock: int) -> int:
        """Where on the stream's clock presentation time is zero, in ticks of `clock`."""
        return (self._alignment.base or 0) * clock // VIDEO_CLOCK
