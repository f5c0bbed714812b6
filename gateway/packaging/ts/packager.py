"""The output `hls`: HLS with MPEG-TS segments."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from gateway.formats.hls import media_playlist
from gateway.formats.hls.multivariant_playlist import Variant
from gateway.formats.ts.data_streams import DataStream, SectionPackets
from gateway.formats.ts.muxer import Packets, TsMuxer
from gateway.lib.metrics import Metrics
from gateway.media import codecs
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.open_gops import OpenGops
from gateway.media.picture_colors import colors_of
from gateway.media.random_access import RandomAccess
from gateway.media.timed_data import AdCue
from gateway.media.track import AccessUnit, Kind, MediaTrack, Tracks
from gateway.packaging.alignment import Alignment, Boundary, CutCandidate, EpochOrigin
from gateway.packaging.date_ranges import CueTags, DateRanges
from gateway.packaging.media_holes import MediaHoles
from gateway.packaging.packager import Packager, SegmentPlan
from gateway.packaging.segment_window import MAX_SEGMENT_BYTES, LazyBytes, Segment, SegmentWindow
from gateway.packaging.segmenter import Segmenter, target_duration
from gateway.packaging.timed_events import TimedEvent, begins_segment
from gateway.packaging.timing import AudioTiming, DateCorrection, VideoTiming, WallClock
from gateway.packaging.ts.data_packets import data_stream, write_event
from gateway.packaging.ts.segment_history import PastSegment, SegmentHistory

_VERSION = 3  # EXTINF with fractions; nothing here needs more
_FRAMES_PER_PES = 5  # about 100 ms of AAC: avoids most of the packets' padding
_MAX_PES_WITH_PCR = 8_100  # ticks, 90 ms: audio without video carries the PCR, and a PES packet has one PCR
_MAX_VIDEO_GAP = VIDEO_CLOCK  # ticks without pictures, after which video no longer decides where segments end
# The next picture ends a segment with too many bytes, and counts the cut. So sound waits for it, up to this limit.
_MAX_BYTES_WITH_SOUND = MAX_SEGMENT_BYTES + 1_000_000
_PES_COST = 150  # bytes of a PES packet in addition to its media: headers, and half a packet of stuffing

# Players read 31 bits of a Media Sequence Number (MediaMTX's gohlslib), so milliseconds since 1970 are too large.
# Seconds fit. Segments of at least a second never count faster than the clock. So a later start, after a restart or on
# another node, never has a lower number.
_NUMBER_ORIGIN: Final = 1_577_836_800  # 2020-01-01, seconds since 1970: 31 bits are enough until 2088
# Seconds by which the clocks of two nodes may differ if one continues a stream that the other one packaged.
CLOCKS_APART: Final = 60
# A segment's first picture, pictures that may be shown before it (H.264 §A.3.1: at most 16), and audio between them.
_MAX_REORDERED: Final = 32
_MAX_EVENTS: Final = 32  # that wait for the first segment, and splices that are known


def sequence_start(now: float) -> int:
    """Returns the first Media Sequence Number of a playlist that begins at `now`, in seconds since 1970."""
    return max(1, int(now) - _NUMBER_ORIGIN)


@dataclass(slots=True, eq=False, repr=False)
class UnmuxedSegment:
    """The media of one segment. It is muxed on the first request, because most segments are never requested.

    items: pictures (dts, cts, key, sample), groups of audio frames (time, frames), and events.
    streams: of the events.
    packets: tables and muxed packets; None until this or a later segment is requested.
    """

    number: int
    muxer: TsMuxer
    items: list[tuple[int, int, bool, bytes] | tuple[int, list[bytes]] | tuple[TimedEvent]] = field(
        default_factory=list
    )
    streams: list[DataStream] = field(default_factory=list)
    packets: tuple[bytes, list[Packets | SectionPackets]] | None = None

    def earliest(self, default: int) -> int:
        """Returns the presentation time of its earliest picture, in ticks of 90 kHz; `default` without pictures."""
        return min([i[0] + i[1] for i in self.items[:_MAX_REORDERED] if len(i) == 4], default=default)

    def mux(self, on_error: Callable[[InvalidData], None]) -> None:
        """Muxes the media. Call it for the segments of one muxer in order.

        on_error: called with the error of each unreadable unit, which is left out.
        """
        muxer = self.muxer
        for stream in self.streams:
            muxer.announce(stream)
        tables = muxer.write_tables()
        packets: list[Packets | SectionPackets] = []
        for item in self.items:
            try:
                if len(item) == 4:
                    packets.append(muxer.write_video(*item))
                elif len(item) == 1:
                    packets.append(write_event(muxer, item[0]))
                else:
                    packets += muxer.write_audio(item[1], item[0])
            except InvalidData as error:
                on_error(error)
        self.items = []
        self.packets = (tables, packets)


class TsPackager(Packager):
    """Makes the segments and the playlist of `live.m3u8`.

    Segments begin at the first video key frame after `seconds`. Without video, or while none arrives, they begin by
    time. Audio is put into the segment that is open when it arrives, except audio after a key frame that arrived later.
    The Target Duration is fixed with the first segment. If a later GOP would exceed it, the segment is cut before a
    picture that is not a key frame (`note_forced_cut`). Memory: segment_window.MAX_BYTES, and `_MAX_BYTES_WITH_SOUND`
    and one unit for the open segment.

    name: of the stream, for logs.
    started: now, seconds since 1970. File names begin with it in milliseconds and numbers in seconds, so that
    both grow across restarts.
    first: minimum numbers of the first segment, epoch and file name.
    metrics: counts segments.
    alignment: shared by the renditions of one ladder.
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
        super().__init__(name, "hls", plan.captions)
        self._metrics = metrics
        self._alignment = alignment
        self._seconds = plan.seconds
        self.window = SegmentWindow(plan.size, budget=plan.budget)
        self.history: SegmentHistory | None = None  # see `begin_history`
        self.ranges = DateRanges()
        self._cue_tags = CueTags(self.ranges) if plan.cue_tags else None
        self._splices: deque[int] = deque(maxlen=_MAX_EVENTS)  # ticks of 90 kHz
        self._early: deque[TimedEvent] = deque(maxlen=_MAX_EVENTS)  # events that wait for the first segment
        self.segmenter = Segmenter(VIDEO_CLOCK, plan.seconds, self._splices)
        # hls.js needs time for each past discontinuity. So epochs do not begin with the clock, in contrast to numbers.
        number, epoch = first[0] if plan.continues and first[0] else max(sequence_start(started), first[0]), first[1]
        file_number = max(int(started * 1000), first[2])
        # _name_offset is added to a segment's number to get its file name.
        if alignment is not None:
            self._number, self._epoch = first[0], first[1] - 1
            self._name_offset = alignment.count_from(number, epoch, file_number)
            if alignment.target is not None:
                self.window.target = alignment.target
                self.segmenter.fix(alignment.target)
        else:
            self._number, self._epoch = number, epoch - 1
            self._name_offset = file_number - number
        self._holes = MediaHoles(in_pictures=False)  # sound fills segments of its own
        self._tracks_epoch: int | None = None
        self._is_new_epoch = True  # no segment has begun in this epoch
        self._independent = True  # each segment so far can be decoded alone
        self._muxer: TsMuxer | None = None
        self._muxed_by: TsMuxer | None = None  # the muxer of the last muxed segment
        self._boundary: Boundary | None = None  # where the next segment begins, if it is aligned
        self._tracks: Tracks | None = None
        self._video: MediaTrack | None = None
        self._timing = VideoTiming(1000, None)
        self._gops: OpenGops | None = None
        self._sound: AudioTiming | None = None
        self._frames_per_pes = _FRAMES_PER_PES
        self._wall = WallClock(0.0, started)
        self._dates = DateCorrection() if alignment is None else alignment.dates
        self._slew = 0  # correction of the open segment's date
        self._open = False
        self._unmuxed: deque[UnmuxedSegment] = deque()  # complete segments, oldest first
        self._current: UnmuxedSegment | None = None  # the open segment
        self._bytes = 0  # estimated size of the open segment
        self._start = 0  # ticks of 90 kHz: decode time at which the open segment began
        self._last_video = 0  # ticks of 90 kHz: decode time of the last picture
        self._step = 0  # ticks of 90 kHz: duration of the last picture
        self._audio_end = 0  # ticks of 90 kHz: end of the last audio frame
        self._frames: list[bytes] = []  # audio of the open PES packet
        self._times: list[int] = []  # times of `_frames`, ticks of 90 kHz
        self._date: int | None = None  # media time of the open segment's date; None until it is computed
        self._first_presentation = 0  # presentation time of the first picture or audio frame of the open segment

    @property
    def numbers(self) -> tuple[int, int, int]:
        """The first segment, epoch and file name for the packager that continues after this one."""
        return self._number + 1, self._epoch + 1, self._number + 1 + self._name_offset

    @property
    def next_numbers(self) -> tuple[int, ...]:
        """The first segment, epoch and file name. The open segment was in no playlist, so its number is free."""
        return self._number, self._epoch + 1, self._number + self._name_offset

    def variant(self, uri: str, declared_bitrate: int = 0) -> Variant:
        """Returns this stream as one variant of a ladder. Requires `ready`.

        declared_bitrate: bits a second that the encoder may reach; the playlist announces at least this.
        """
        tracks, window = self._tracks, self.window
        video = tracks.video if tracks is not None else None
        range = colors_of(video).signal.range if video is not None else "SDR"
        return Variant(
            uri=uri,
            bandwidth=max(declared_bitrate, int(window.peak) + 1),
            average=int(window.average) + 1,
            codecs=tuple(codecs.codec_string(track) for track in tracks or ()),
            size=codecs.display_size(video) if video is not None else None,
            frame_rate=self._timing.variant_rate(range),
            captions=self.captions.closed,
            range=range,
        )

    def begin_history(self, reach: float) -> None:
        """Remembers segments from now on, for viewers who go back; at most those of `reach` seconds."""
        self.history = history = SegmentHistory(reach)
        for segment in self.window:  # their places in recordings are not known
            name = segment.number + self._name_offset
            history.add(segment.number, PastSegment(name, segment.duration, segment.wall, segment.epoch))

    def number_of(self, name: int) -> int:
        """Returns the Media Sequence Number of the segment with this number in its file name."""
        return name - self._name_offset

    def playlist(self) -> str:
        """Returns `live.m3u8` with media_playlist.MARK after its URIs. Requires `ready`."""
        window = self.window
        window.show()
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
            independent=self._independent,
        )
        head += self.ranges.lines(window[0].wall)
        return media_playlist.playlist(head, body, ended=self.ended and not self.moved)

    # ---- input ----

    def take_tracks(self, tracks: Tracks) -> None:
        if tracks.epoch == self._tracks_epoch:
            return
        alignment = self._alignment
        if alignment is not None and self._open and alignment.withdraw(self, self._number):
            self._open, self._current = False, None
        self._begin_again()
        self._holes.begin()
        self._tracks_epoch = tracks.epoch
        self._tracks = tracks
        self._video = tracks.video
        self._muxer = TsMuxer(tracks.video, tracks.audio) if (tracks.video or tracks.audio) else None
        self._sound = None
        if tracks.video is not None:
            hint = codecs.frame_rate(tracks.video)
            self._timing = VideoTiming(tracks.video.timescale, hint, earlier=self._timing)
            self._gops = OpenGops(tracks.video)

    def _begin_again(self) -> None:
        """Ends the epoch. The next one begins with the next key frame, or sound of media without pictures."""
        self._finish_segment(None)
        self._is_new_epoch = True
        self._frames, self._times = [], []

    def take(self, unit: AccessUnit) -> None:
        """Packages one unit. Hot path."""
        if self._muxer is None:
            return
        if self._holes.is_before(unit):
            self._begin_again()
        try:
            if unit.track.kind is Kind.VIDEO:
                self._video_frame(unit)
            else:
                self._audio_frame(unit)
        except InvalidData as error:
            self.note_broken(error)

    def take_event(self, event: TimedEvent) -> None:
        if begins_segment(event):
            self._splices.append(event.at)
        if self._open:
            self._add_event(event)
        else:
            self._early.append(event)

    def finish(self) -> None:
        self._finish_segment(None)
        self._publish()

    def release(self) -> None:
        self.changed.open()

    # ---- units ----

    def _video_frame(self, unit: AccessUnit) -> None:
        gops = self._gops
        assert self._muxer is not None and gops is not None
        timing = self._timing
        dts, cts = timing.stamp(unit.dts, unit.cts)
        key, payload, shown_after = unit.key, unit.payload, cts
        if key or gops.is_open:
            prepared = gops.add(payload, dts + cts, key)
            if prepared is None:
                return
            payload = prepared
            if key and gops.is_open and self._open:
                shown_after = self._first_shown(dts, dts + cts) - dts  # in place of the pictures that are left out
        step = timing.step or (dts - self._last_video if not self._is_new_epoch else 0)
        if not self._open:
            if (not key and self._is_new_epoch) or not self._decide_begin(dts, dts + cts, unit.wall, True):
                return
            self._begin(dts, dts + cts, unit.wall)
            self._note_start(key, gops)
        else:
            # In presentation time: in an open GOP a key frame is decoded before pictures that are shown before it.
            elapsed = dts + cts - self._first_presentation if key else dts - self._start
            cuts = self.segmenter.take_frame(elapsed, step, key, dts + cts, self._bytes > MAX_SEGMENT_BYTES)
            if (cuts or key) and self._decide_begin(dts, dts + cts, unit.wall, cuts):
                date = None
                if not key:
                    self.note_forced_cut(self.segmenter.target)
                    date = dts + self._date_time() - self._start
                self._finish_segment(dts, self._first_shown(dts, dts + cts))
                self._begin(dts, dts + cts, unit.wall)
                self._note_start(key, gops)
                self._date = date
        self._last_video = dts
        self._step = step
        assert self._current is not None
        self._current.items.append((dts, shown_after, key, payload))
        size = len(payload)
        self._bytes += size + size // 46 + _PES_COST

    def _audio_frame(self, unit: AccessUnit) -> None:
        sound = self._sound
        payload = unit.payload
        if sound is None:
            sound = self._sound = AudioTiming(unit.track, payload)
            self._frames_per_pes = _FRAMES_PER_PES
            if self._video is None:
                length = sound.length(unit) * VIDEO_CLOCK // sound.rate
                self._frames_per_pes = max(1, min(_FRAMES_PER_PES, _MAX_PES_WITH_PCR // max(length, 1)))
        samples, rate, clock = sound.length(unit), sound.rate, sound.clock
        ticks = clock.stamp(unit.dts, samples)
        time = ticks * VIDEO_CLOCK // rate
        end = (ticks + samples) * VIDEO_CLOCK // rate
        if self._video is None:
            if not self._open:
                self._begin(time, time, unit.wall)
            elif self.segmenter.enough(time - self._start) or self._bytes > MAX_SEGMENT_BYTES:
                self._is_new_epoch = self._is_new_epoch or self._dates.follow(time, unit.wall)
                self._finish_segment(time)
                self._begin(time, time, unit.wall)
        elif self._is_new_epoch:
            return  # before the first picture
        elif (
            (self.segmenter.exceeds(end - self._start) and time - self._last_video > _MAX_VIDEO_GAP)
            or self._bytes > _MAX_BYTES_WITH_SOUND
        ) and self._decide_begin(time, time, unit.wall, True):
            # The pictures of a segment may come later than its first sound. So its date is that of the sound.
            start = time - (self._date_time() - self._start if self._open else 0)
            self._finish_segment(start, time)
            self._begin(start, time, unit.wall)
            self._date = time
            self._independent = False  # pictures may follow before the next key frame
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

    def _decide_begin(self, dts: int, pts: int, wall: float, wants_cut: bool) -> bool:
        """Returns whether a segment begins here, and sets `_boundary`.

        wants_cut: whether this rendition alone would begin a segment.
        """
        alignment = self._alignment
        if alignment is None:
            if wants_cut:
                self._is_new_epoch = self._is_new_epoch or self._dates.follow(pts, wall)
            return wants_cut
        candidate = CutCandidate(dts, pts, wall, self._is_new_epoch, self._open, self._number + self._open)
        self._boundary = alignment.decide_boundary(self, candidate, wants_cut, self.segmenter)
        return self._boundary is not None

    def _note_start(self, key: bool, gops: OpenGops) -> None:
        self._independent = self._independent and key and gops.access is RandomAccess.CLOSED

    def _begin(self, dts: int, pts: int, wall: float) -> None:
        boundary = self._boundary
        if boundary is not None:
            self._number = boundary.number
            if self._is_new_epoch or boundary.origin.number != self._epoch:
                self._begin_epoch(boundary.origin)
        elif self._is_new_epoch:
            date = self._dates.begin(pts, wall)
            self._begin_epoch(EpochOrigin(self._epoch + 1, pts - self._dates.slew, date))
        self._open = True
        self._slew = self._dates.slew if boundary is None else boundary.slew
        self._date = None
        self._start = dts
        self._first_presentation = pts
        assert self._muxer is not None
        self._current = UnmuxedSegment(self._number, self._muxer)
        self._bytes = 2 * 188
        while self._early:
            self._add_event(self._early.popleft())

    def _add_event(self, event: TimedEvent) -> None:
        """Puts an event into the open segment, and a cue into the playlist."""
        segment, stream = self._current, data_stream(event)
        assert segment is not None
        if isinstance(event, AdCue):
            self.ranges.add(event, self._wall.at(event.at / VIDEO_CLOCK - self._slew / VIDEO_CLOCK))
            self.cache.clear()
        if stream is not None:
            if stream not in segment.streams:
                segment.streams.append(stream)
            segment.items.append((event,))
            self._bytes += _PES_COST + len(event.section if isinstance(event, AdCue) else event.tag)

    def _first_shown(self, dts: int, pts: int) -> int:
        """Returns the first presentation time of a segment that begins with this picture.

        It is `pts`, or earlier: in an open GOP, pictures are shown before the key frame. Then it is the end of the
        open segment's pictures.
        """
        delay = self._date_time() - self._start
        return dts + delay if 2 * (pts - dts - delay) > self._step else pts

    def _date_time(self) -> int:
        """Returns the media time of the open segment's date: the presentation time of its earliest picture.

        A segment without a key frame may begin between reordered pictures. Then its date was set before, as a
        continuation of the last segment's date.
        """
        if self._date is None:
            assert self._current is not None
            self._date = self._current.earliest(self._first_presentation)
        return self._date

    def _begin_epoch(self, origin: EpochOrigin) -> None:
        self._is_new_epoch = False
        self._epoch = origin.number
        self._wall = WallClock(origin.time / VIDEO_CLOCK, origin.wall)
        self.on_numbered()

    def _finish_segment(self, end: int | None, presentation: int | None = None) -> None:
        """Completes the open segment at decode time `end` (None: at the end of its media).

        Audio at or after presentation time `presentation` waits for the next segment.
        """
        if not self._open:
            return
        self._flush_audio(presentation)
        self._open = False
        media_end = self._last_video + self._step if self._video is not None else self._audio_end
        if end is None:
            end = max(media_end, self._audio_end)
        if self.segmenter.exceeds(end - self._start):
            # No media arrived for some time: this gap belongs to no segment.
            end = max(min(media_end, end), self._start + 1)
        slew = self._dates.slew if self._boundary is None else self._boundary.slew  # of the next segment
        duration = max(end - self._start + self._slew - slew, 1) / VIDEO_CLOCK
        window = self.window
        if self.segmenter.target is None:
            target = target_duration(self._seconds, duration, forced=self.segmenter.forced_cuts > 0)
            window.target = self._alignment.fix_target(target) if self._alignment is not None else target
            self.segmenter.fix(window.target)
        duration = media_playlist.as_printed(min(duration, window.target + 0.49))
        uri = f"{self._number + self._name_offset}.ts"
        wall = self._wall.at((self._date_time() - self._slew) / VIDEO_CLOCK)
        cues = self._cue_tags.before(wall) if self._cue_tags is not None else ""
        lines = media_playlist.program_date_time(wall) + cues + media_playlist.segment(duration, uri)
        segment = self._current
        assert segment is not None
        self._unmuxed.append(segment)
        body = LazyBytes(lambda: self._render(segment), self._bytes)
        if self.history is not None:
            name = self._number + self._name_offset
            self.history.add(self._number, PastSegment(name, duration, wall, self._epoch, self._start))
            window.show()  # a playlist with `rewind` lists more than the window
        start = self._date_time()
        captions = self._cutter.cut(start, start + end - self._start, VIDEO_CLOCK)
        if removed := window.add(
            Segment(self._number, uri, duration, body, lines, self._epoch, wall, captions=captions)
        ):
            # The removed segments can no longer be fetched.
            unmuxed = self._unmuxed
            while unmuxed and unmuxed[0].number <= removed[-1].number:
                unmuxed.popleft()
        if self._metrics is not None:
            self._metrics.segment_seconds.observe(duration, "ts")
        self._number += 1
        self.on_numbered()
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
        assert self._current is not None
        frames = frames[:count]
        self._current.items.append((times[0], frames))
        size = sum(map(len, frames)) + 7 * count
        self._bytes += size + size // 46 + _PES_COST

    def _render(self, segment: UnmuxedSegment) -> bytes:
        """Returns a segment's bytes.

        Continuity counters continue from segment to segment, also over a publisher's return. So earlier segments,
        which may be requested later, are muxed first.
        """
        while segment.packets is None:
            following = self._unmuxed.popleft()
            if self._muxed_by is not None and following.muxer is not self._muxed_by:
                following.muxer.continue_counters(self._muxed_by)
            self._muxed_by = following.muxer
            following.mux(self.note_broken)
        tables, packets = segment.packets
        return b"".join([tables, *[p.render() for p in packets]])

    def _publish(self) -> None:
        self.cache.clear()
        self.changed.open()
