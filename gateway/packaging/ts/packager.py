"""The output `hls`: HLS with MPEG-TS segments."""

from __future__ import annotations

from collections import deque

from gateway.formats.hls import media_playlist
from gateway.formats.hls.multivariant_playlist import Variant
from gateway.formats.ts.muxer import TsMuxer
from gateway.lib.metrics import Metrics
from gateway.media import codecs
from gateway.media.clock import AudioClock
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.packaging.alignment import Alignment, Boundary, CutCandidate, EpochOrigin
from gateway.packaging.lazy_bytes import LazyBytes
from gateway.packaging.packager import Packager
from gateway.packaging.segment_plan import SegmentPlan
from gateway.packaging.segment_window import MAX_SEGMENT_BYTES, Segment, SegmentWindow
from gateway.packaging.segmenter import Segmenter, target_duration
from gateway.packaging.timing import VIDEO_CLOCK, VideoTiming
from gateway.packaging.ts.segment_draft import SegmentDraft
from gateway.packaging.ts.sequence_start import sequence_start
from gateway.packaging.wall_clock import WallClock

_VERSION = 3  # EXTINF with fractions; nothing here needs more
_FRAMES_PER_PES = 5  # about 100 ms of AAC: saves most of the packets' padding
_MAX_CLOCKLESS = 8_100  # ticks, 90 ms: audio without video carries the PCR, and a PES packet has one PCR
_SILENT = VIDEO_CLOCK  # after so long without pictures, video no longer decides where segments end


_PES_COST = 150  # bytes of a PES packet beside its media: headers, and half a packet of stuffing


class TsPackager(Packager):
    """Makes the segments and the playlist of `live.m3u8`.

    Segments begin at the first video key frame after `seconds`; without video, or while none comes, by time. Audio goes
    into the segment that is open when it comes, except audio after a key frame that came later.
    The Target Duration is fixed with the first segment. If a later GOP would exceed it, the segment is cut before a
    picture that is no key frame. `forced_cuts` counts those cuts, and a warning is logged. Memory:
    segment_window.MAX_BYTES, and MAX_SEGMENT_BYTES for the open segment.
    """

    def __init__(
        self,
        name: str,
        plan: SegmentPlan,
        started: float,
        first: tuple[int, int, int] = (0, 0, 0),
        metrics: Metrics | None = None,
        alignment: Alignment | None = None,
    ) -> None:
        """name: of the stream, for logs;
        started: now, seconds since the epoch: names begin there in milliseconds, numbers in seconds, so that both grow
        over restarts; first: least numbers of the first segment, epoch and name; metrics: where segments are
        counted; alignment: of a rendition with its siblings."""
        super().__init__(name, "hls")
        self._metrics = metrics
        self._alignment = alignment
        self._seconds = plan.seconds
        self.window = SegmentWindow(plan.size)
        self.segmenter = Segmenter(VIDEO_CLOCK, plan.seconds)
        # hls.js needs time for each past discontinuity, so epochs do not begin at the clock as numbers do.
        number, epoch = max(sequence_start(started), first[0]), first[1]
        named = max(int(started * 1000), first[2])
        # _to_name is added to a segment's number to get its file name.
        if alignment is not None:
            self._number, self._epoch = first[0], first[1] - 1
            self._to_name = alignment.count_from(number, epoch, named)
        else:
            self._number, self._epoch = number, epoch - 1
            self._to_name = named - number
        self._tracks_epoch: int | None = None
        self._fresh = True  # no segment has begun in this epoch
        self._muxer: TsMuxer | None = None
        self._boundary: Boundary | None = None  # where the next segment begins, when it is aligned
        self._tracks: Tracks | None = None
        self._video: MediaTrack | None = None
        self._audio: MediaTrack | None = None
        self._timing = VideoTiming(1000, None)
        self._clock: AudioClock | None = None
        self._rate = VIDEO_CLOCK
        self._frame_samples = 0  # 0: differs from frame to frame
        self._frames_per_pes = _FRAMES_PER_PES
        self._wall = WallClock(0.0, started)
        self._open = False
        self._drafts: deque[SegmentDraft] = (
            deque()
        )  # segments whose packets have no place in the stream yet, oldest first
        self._draft: SegmentDraft | None = None  # of the open segment
        self._bytes = 0
        self._start = 0  # ticks of 90 kHz: decode time at which the open segment began
        self._last_video = 0
        self._step = 0
        self._audio_end = 0
        self._frames: list[bytes] = []  # audio of the open PES packet …
        self._times: list[int] = []  # … and their times, ticks of 90 kHz
        self._date: int | None = None  # media time of the open segment's date, if it has no key frame
        self._begun_with = 0  # presentation time of the first picture or audio frame of the open segment

    @property
    def forced_cuts(self) -> int:
        return self.segmenter.forced_cuts

    @property
    def numbers(self) -> tuple[int, int, int]:
        """The first segment, the first epoch and the first file name of the packager that continues after this one."""
        return self._number + 1, self._epoch + 1, self._number + 1 + self._to_name

    def variant(self, uri: str, least: int = 0) -> Variant:
        """Returns this stream as one variant of a ladder; only when `ready`. least: lower bound of its peak, bits a
        second.
        """
        tracks, window, rate = self._tracks, self.window, self._timing.frame_rate
        video = tracks.video if tracks is not None else None
        return Variant(
            uri=uri,
            bandwidth=max(least, int(window.peak) + 1),
            average=int(window.average) + 1,
            codecs=tuple(codecs.codec_string(track) for track in tracks or ()),
            size=codecs.video_size(video) if video is not None else None,
            frame_rate=float(rate) if rate is not None else None,
        )

    def playlist(self) -> str:
        """Returns `live.m3u8` with media_playlist.MARK after its URIs; only when `ready`."""
        window = self.window
        body: list[str] = []
        epoch = window[0].epoch
        for segment in window:
            if segment.epoch != epoch:
                body.append(media_playlist.DISCONTINUITY * (segment.epoch - epoch))
                epoch = segment.epoch
            body.append(segment.lines)
        head = media_playlist.head(
            target=window.target,
            sequence=window[0].number,
            discontinuity_sequence=window.discontinuity_sequence,
            version=_VERSION,
        )
        return media_playlist.playlist(head, body, ended=self.ended)

    # ---- input ----

    def take_tracks(self, tracks: Tracks) -> None:
        if tracks.epoch == self._tracks_epoch:
            return
        alignment = self._alignment
        if alignment is not None and self._open and alignment.abandons(self, self._number):
            self._open, self._draft = False, None
        self._finish_segment(None)
        self._tracks_epoch = tracks.epoch
        self._fresh = True
        self._tracks = tracks
        self._video, self._audio = tracks.video, tracks.audio
        self._frames, self._times = [], []
        self._muxer = TsMuxer(tracks.video, tracks.audio) if (tracks.video or tracks.audio) else None
        self._clock = None
        self._frame_samples = 0
        if tracks.video is not None:
            self._timing = VideoTiming(tracks.video.timescale, codecs.frame_rate(tracks.video))

    def take(self, unit: AccessUnit) -> None:
        """Packages one unit. Hot path."""
        if self._muxer is None:
            return
        try:
            if unit.track.kind is Kind.VIDEO:
                self._picture(unit)
            else:
                self._sound(unit)
        except InvalidData as error:
            self.note_broken(error)

    def finish(self) -> None:
        self._finish_segment(None)
        self._publish()

    def release(self) -> None:
        self.changed.open()

    # ---- units ----

    def _picture(self, unit: AccessUnit) -> None:
        assert self._muxer is not None
        timing = self._timing
        dts, cts = timing.stamp(unit.dts, unit.cts)
        key = unit.key
        step = timing.step or (dts - self._last_video if not self._fresh else 0)
        if not self._open:
            if (not key and self._fresh) or not self._may_begin(dts, dts + cts, unit.wall, True):
                return
            self._begin(dts, dts + cts, unit.wall)
        else:
            # Measured in presentation time: in an open GOP a key frame is decoded before pictures shown before it.
            elapsed = dts + cts - self._begun_with if key else dts - self._start
            cuts = self.segmenter.cuts(elapsed, step, key) or self._bytes > MAX_SEGMENT_BYTES
            if (cuts or key) and self._may_begin(dts, dts + cts, unit.wall, cuts):
                date = None
                if not key:
                    self.warn_forced(self.segmenter.forced_cuts, self.window.target)
                    date = dts + self._dated() - self._start
                self._finish_segment(dts, self._first_shown(dts, dts + cts))
                self._begin(dts, dts + cts, unit.wall)
                self._date = date
        self._last_video = dts
        self._step = step
        payload = unit.payload
        assert self._draft is not None
        self._draft.items.append((dts, cts, key, payload))
        size = len(payload)
        self._bytes += size + size // 46 + _PES_COST

    def _sound(self, unit: AccessUnit) -> None:
        track = unit.track
        clock = self._clock
        payload = unit.payload
        if clock is None:
            rate = codecs.audio_rate(track, payload)
            clock = self._clock = AudioClock(rate, track.timescale)
            self._rate = rate
            self._frame_samples = codecs.samples_per_frame(track, payload) if track.codec is Codec.AAC else 0
            self._frames_per_pes = _FRAMES_PER_PES
            if self._video is None:
                length = codecs.samples_per_frame(track, payload) * VIDEO_CLOCK // rate
                self._frames_per_pes = max(1, min(_FRAMES_PER_PES, _MAX_CLOCKLESS // max(length, 1)))
        samples = self._frame_samples or codecs.samples_per_frame(track, payload)
        rate = self._rate
        ticks = clock.stamp(unit.dts, samples)
        time = ticks * VIDEO_CLOCK // rate
        end = (ticks + samples) * VIDEO_CLOCK // rate
        if self._video is None:
            if not self._open:
                self._begin(time, time, unit.wall)
            elif self.segmenter.enough(time - self._start) or self._bytes > MAX_SEGMENT_BYTES:
                self._finish_segment(time)
                self._begin(time, time, unit.wall)
        elif self._fresh:
            return  # before the first picture
        elif (
            (self.segmenter.exceeds(end - self._start) and time - self._last_video > _SILENT)
            or self._bytes > MAX_SEGMENT_BYTES
        ) and self._may_begin(time, time, unit.wall, True):
            self._finish_segment(time, time)
            self._begin(time, time, unit.wall)
        times = self._times
        if times and clock.resynced:
            self._flush_audio()
            times = self._times
        times.append(time)
        self._frames.append(payload)
        self._audio_end = end
        if len(times) >= self._frames_per_pes:
            self._flush_audio()

    # ---- segments ----

    def _may_begin(self, dts: int, pts: int, wall: float, own: bool) -> bool:
        """Tells whether a segment begins here. own: whether this rendition alone would begin one."""
        alignment = self._alignment
        if alignment is None:
            return own
        at = CutCandidate(dts, pts, wall, self._fresh, self._open, self._number + self._open)
        self._boundary = alignment.boundary(self, at, own, self.segmenter)
        return self._boundary is not None

    def _begin(self, dts: int, pts: int, wall: float) -> None:
        boundary = self._boundary
        if boundary is not None:
            self._number = boundary.number
            if self._fresh or boundary.origin.number != self._epoch:
                self._begin_epoch(boundary.origin)
        elif self._fresh:
            self._begin_epoch(EpochOrigin(self._epoch + 1, pts, wall))
        self._open = True
        self._date = None
        self._start = dts
        self._begun_with = pts
        assert self._muxer is not None
        self._draft = SegmentDraft(self._number, self._muxer)
        self._bytes = 2 * 188

    def _first_shown(self, dts: int, pts: int) -> int:
        """Returns when a segment that begins with this picture is first shown: where the open one's pictures end, or
        `pts`.
        """
        delay = self._dated() - self._start
        return dts + delay if pts - dts - delay >= max(self._step, 1) else pts

    def _dated(self) -> int:
        """Returns the media time of the date of the segment to complete: when its earliest picture is shown.

        A segment without a key frame may begin among reordered pictures. Its date was then set before, as a
        continuation of the last segment's.
        """
        if self._date is None:
            assert self._draft is not None
            self._date = self._draft.earliest(self._begun_with)
        return self._date

    def _begin_epoch(self, origin: EpochOrigin) -> None:
        self._fresh = False
        self._epoch = origin.number
        self._wall = WallClock(origin.time / VIDEO_CLOCK, origin.wall)

    def _finish_segment(self, end: int | None, shown: int | None = None) -> None:
        """Completes the open segment at decode time `end` (None: at the end of its media).

        Audio at or after presentation time `shown` waits for the next segment.
        """
        if not self._open:
            return
        self._flush_audio(shown)
        self._open = False
        media_end = self._last_video + self._step if self._video is not None else self._audio_end
        if end is None:
            end = max(media_end, self._audio_end)
        if self.segmenter.exceeds(end - self._start):
            # No media came for a while: the hole belongs to no segment.
            end = max(min(media_end, end), self._start + 1)
        duration = max(end - self._start, 1) / VIDEO_CLOCK
        window = self.window
        if self.segmenter.target is None:
            target = target_duration(self._seconds, duration, forced=self.segmenter.forced_cuts > 0)
            window.target = self._alignment.fix_target(target) if self._alignment is not None else target
            self.segmenter.fix(window.target)
        duration = media_playlist.as_printed(min(duration, window.target + 0.49))
        uri = f"{self._number + self._to_name}.ts"
        wall = self._wall.at(self._dated() / VIDEO_CLOCK)
        lines = media_playlist.program_date_time(wall) + media_playlist.segment(duration, uri)
        draft = self._draft
        assert draft is not None
        self._drafts.append(draft)
        body = LazyBytes(lambda: self._render(draft), self._bytes)
        if gone := window.add(Segment(self._number, uri, duration, body, lines, self._epoch, wall)):
            self._drop_drafts(gone[-1].number)
        if self._metrics is not None:
            self._metrics.segment_seconds.observe(duration, "ts")
        self._number += 1
        self.ready = True
        self._publish()

    def _flush_audio(self, before: int | None = None) -> None:
        times, frames = self._times, self._frames
        count = len(times)
        if before is not None:
            count = next((n for n, time in enumerate(times) if time >= before), count)
        if not count:
            return
        self._times, self._frames = times[count:], frames[count:]
        assert self._draft is not None
        frames = frames[:count]
        self._draft.items.append((times[0], frames))
        size = sum(map(len, frames)) + 7 * count
        self._bytes += size + size // 46 + _PES_COST

    def _drop_drafts(self, last: int) -> None:
        """Forgets the drafts of segments up to number `last`, which can no longer be fetched."""
        drafts = self._drafts
        while drafts and drafts[0].number <= last:
            drafts.popleft()

    def _render(self, draft: SegmentDraft) -> bytes:
        """Returns a segment's bytes.

        Continuity counters continue from segment to segment. So earlier drafts, which may be requested later, get their
        places first.
        """
        drafts = self._drafts
        while draft.packets is None:
            drafts.popleft().plan(self.note_broken)
        tables, packets = draft.packets
        return b"".join([tables, *[p.render() for p in packets]])

    def _publish(self) -> None:
        self.cache.clear()
        self.changed.open()
