"""The output `ondemand`: a session as MPEG-TS segments, with a playlist that is updated after each segment."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from gateway.channels.channel import Channel
from gateway.formats.hls import media_playlist
from gateway.formats.ts.muxer import TsMuxer
from gateway.live.stream import Stream
from gateway.media import codecs
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.open_gops import OpenGops
from gateway.media.silent_frames import silent_frame
from gateway.media.timed_data import AdCue, CueType
from gateway.media.track import MediaTrack, TimedData, Tracks
from gateway.outputs.recording.cutter import PieceStart
from gateway.outputs.recording.mp4_finalizer import Mp4Finalizer
from gateway.outputs.recording.on_demand_session import (
    SCRATCH_FOLDER,
    OnDemandSession,
    RecordedSegment,
    playlist,
    ready_event,
    recording_name,
)
from gateway.outputs.recording.recorded_pieces import POINT_TICKS, RecordedPoints, Span
from gateway.outputs.recording.recording_output import RecordingCounts, SegmentedRecording
from gateway.outputs.recording.session_captions import MAX_CAPTIONS, SessionCaptions
from gateway.outputs.storage.archive import Archive
from gateway.packaging.date_ranges import DateRanges
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchObject, OutputUnsupported

_FRAMES_PER_PES: Final = 5  # about 100 ms of AAC, to avoid most padding of packets
_STOPPED: Final = 3 * VIDEO_CLOCK // 2  # ticks without sound at the end of a piece, after which it has stopped
_LATE: Final = VIDEO_CLOCK // 2  # ticks before a piece, in which its sound may begin
_MAX_BYTES: Final = 2_000_000  # of packets that wait for the disk; at high bitrates less than a second
_LARGE: Final = 4_000  # segments of a large playlist, about 200 kB
_LARGE_INTERVAL: Final = 60.0  # seconds between two writes of a large playlist
# Seconds for which segments stay stored after they are too old for rewinding, because players may know them.
REWIND_MARGIN: Final = 600.0
_TRIM_SECONDS: Final = 60.0  # of segments that are deleted at once


class TsPiece:
    """A RecordingPiece as transport packets: one segment. The caller appends the packets of `pop_data` to a file.

    `seconds`: its duration so far. `dropped` counts frames that MPEG-TS does not support.
    `begin`: presentation time of its first frame, ticks of 90 kHz. `length`: ticks so far.
    `points`: the times and offsets at which players may begin, see RecordedPoints. `pop_data` returns them too.
    `sound_end`: end of the sound so far, ticks of 90 kHz. If the sound stops, silence follows it to the end of the
    piece, because players halt where one of two tracks has no media.

    before: the piece that this one continues, which may get late sound.
    """

    def __init__(self, muxer: TsMuxer, start: PieceStart, before: "TsPiece | None" = None) -> None:
        self.wall_clock = start.wall_clock
        self.discontinuity = not start.continues
        self.closed = False
        self.dropped = 0
        self._muxer = muxer
        self._audio: MediaTrack | None = start.audio
        self._rate = VIDEO_CLOCK
        self._has_picture = start.first_video is not None
        self._gops = OpenGops(start.video) if start.video is not None else None
        self.begin = 0
        self._start: int | None = None  # ticks of 90 kHz
        self._end = 0
        self._last = 0  # decode time of the last picture
        self._step = VIDEO_CLOCK // 30
        self._frames: list[bytes] = []  # audio frames of the open PES packet
        self._frames_at = 0
        self._frames_end = 0  # ticks of the audio rate
        self._before = before
        self._last_sound: bytes = b"" if before is None else before._last_sound
        self.sound_end = 0
        self._is_silent = False  # it ends with silence
        self._is_late: bool = before is not None and before._is_late  # sound comes after its piece was closed
        self.points: list[tuple[int, int]] = []
        self._point = 0  # time of the last point
        self._data: list[bytes] = [muxer.write_tables()]
        self._size = 0
        self._offset = len(self._data[0])  # bytes so far
        self._popped_until = 0  # end of the data that was popped, at first the start; ticks of 90 kHz

    def add_picture(self, dts: int, cts: int, key: bool, payload: bytes) -> None:
        """Adds one picture. Hot path."""
        if self._gops is not None and (key or self._gops.is_open):
            prepared = self._gops.add(payload, dts + cts, key)
            if prepared is None:
                return
            payload = prepared
        if self._start is None:
            self._start = self._popped_until = dts
            self.begin = dts + cts
        else:
            self._step = max(dts - self._last, 1)
        self._last = dts
        self._end = dts + self._step
        if key or dts - self._point >= POINT_TICKS:
            self.flush()  # earlier sound is written before this picture
            self._add_point(dts)
        try:
            self._put(self._muxer.write_video(dts, cts, key, payload).render())
        except InvalidData:
            self.dropped += 1

    def add_sound(self, ticks: int, samples: int, payload: bytes) -> None:
        """Adds one audio frame. Hot path."""
        if not self._frames_end and self._audio is not None:
            self._rate = codecs.audio_rate(self._audio, payload)
        time = ticks * VIDEO_CLOCK // self._rate
        if self._before is not None and time < (self._start or 0) - _LATE:
            self._is_late = True
        if self._frames and ticks != self._frames_end:
            self.flush()  # a gap
        if not self._frames:
            self._frames_at = time
        self._frames.append(payload)
        self._last_sound = payload
        self._frames_end = ticks + samples
        if not self._has_picture and self._start is None:
            self._start = self._popped_until = self.begin = time
        self._end = max(self._end, self._frames_end * VIDEO_CLOCK // self._rate)  # sound continues if pictures pause
        if len(self._frames) >= _FRAMES_PER_PES:
            self.flush()

    def close(self, end: int | None) -> None:
        self.flush()
        if end is not None:
            self._end = end
        before, self._before = self._before, None
        self.sound_end, continues = (self.begin, False) if before is None else (before.sound_end, before._is_silent)
        if self._frames_end:
            self.sound_end, continues = self._frames_end * VIDEO_CLOCK // self._rate, False
        stopped = self._end - self.sound_end >= _STOPPED // (3 if continues else 1)
        if stopped and self._has_picture and self._last_sound and self._audio is not None and not self._is_late:
            self._add_silence(self._audio)
        self.closed = True

    def _add_silence(self, audio: MediaTrack) -> None:
        """Adds silence up to the end of the piece, if it is known for this codec."""
        silence = silent_frame(audio, self._last_sound)
        if silence is None:
            return
        length, at = silence.seconds * VIDEO_CLOCK, self.sound_end
        count = int((self._end - at) / length)
        for number in range(0, count, _FRAMES_PER_PES):
            self._frames = [silence.payload] * min(_FRAMES_PER_PES, count - number)
            self._frames_at = at + round(number * length)
            self.flush()
        self.sound_end, self._is_silent = at + round(count * length), True

    @property
    def seconds(self) -> float:
        return media_playlist.as_printed(self.length / VIDEO_CLOCK)

    @property
    def length(self) -> int:
        return max(self._end - self._start, 1) if self._start is not None else 1

    @property
    def has_data(self) -> bool:
        """Whether at least a second of media, or more than _MAX_BYTES, waits for the disk."""
        return self._end - self._popped_until >= VIDEO_CLOCK or self._size > _MAX_BYTES

    def pop_data(self) -> tuple[list[bytes], list[tuple[int, int]]]:
        """Returns the packets since the last call, and their points."""
        data, points = self._data, self.points
        self._data, self.points = [], []
        self._size = 0
        self._popped_until = self._end
        return data, points

    def flush(self) -> None:
        """Writes the audio frames that wait for more frames."""
        frames, self._frames = self._frames, []
        if frames:
            if not self._has_picture and (not self.points or self._frames_at - self._point >= POINT_TICKS):
                self._add_point(self._frames_at)
            try:
                for packets in self._muxer.write_audio(frames, self._frames_at):
                    self._put(packets.render())
            except InvalidData:
                self.dropped += len(frames)

    def _add_point(self, time: int) -> None:
        self._point = time
        self.points.append((time, self._offset))

    def _put(self, packets: bytes) -> None:
        self._data.append(packets)
        self._size += len(packets)
        self._offset += len(packets)


@dataclass(slots=True)
class _OpenSegment:
    """A segment that is being written. started: whether its file exists."""

    piece: TsPiece
    number: int
    started: bool = False

    def as_entry(self, size: int = 0) -> RecordedSegment:
        """Returns the segment as an entry of its session's list. size: bytes; 0 while it grows."""
        piece = self.piece
        return RecordedSegment(self.number, piece.seconds, size, piece.discontinuity, piece.wall_clock)


class OnDemandRecording(SegmentedRecording):
    """Records a session as segments in the session's folder.

    A complete segment is stored before its playlist, so the playlist contains only stored segments.
    A session lasts as long as the stream, the schedule's window or the output.
    The name of a session is its start time.
    A publisher that reconnects continues the session, after a discontinuity.
    If the channel has `rewind`, segments are as short as those of the live playlist. Without isOnDemand they are only
    for rewinding: this recording deletes its old segments, and RewindDeletion deletes the rest of the session.
    The playlist of a session has its ad breaks as date ranges, which pages show as chapters. A crash loses them.
    points: finds the positions in segments at which players can begin.
    """

    def __init__(self, stream: Stream, archive: Archive, finalizer: Mp4Finalizer, counts: RecordingCounts) -> None:
        super().__init__(stream, archive, finalizer, counts, "ondemand_time")
        self._muxer: TsMuxer | None = None
        self._open: list[_OpenSegment] = []  # oldest first
        self._completing: list[_OpenSegment] = []  # closed, but not stored yet; recovery stores those that fail
        self._session: OnDemandSession | None = None
        self._start_ms = 0
        self._number = 0  # of the newest segment; 0 before the first one
        self._name = ""  # of the session's folder
        self._entries: list[RecordedSegment] = []
        self._outdated: list[int] = []  # segments that are to be deleted
        self._written = 0.0  # when the playlist was last written, by the monotonic clock
        self._segments = 0  # number of complete segments
        self._kept = _is_kept(stream.channel)
        self._captions = SessionCaptions(stream, archive)
        self._ranges = DateRanges()  # of the session
        self.points = RecordedPoints()

    async def read(self, span: Span) -> AsyncIterator[bytes]:
        """Yields bytes of a segment that this recording has written. Raises NoSuchObject, StoreUnavailable, OSError."""
        path = self._archive.scratch(SCRATCH_FOLDER) / self._name / f"{span.piece}.ts"
        key = media_keys.segment_key(self._stream.name, span.piece)
        async for data in self._archive.read(key, path, span.start, span.end):
            yield data

    async def read_captions(self, number: int, track: str) -> bytes:
        """Returns the captions beside a complete segment; b"" if it has none. Raises StoreUnavailable, OSError."""
        key = media_keys.segment_captions_key(media_keys.segment_key(self._stream.name, number), track)
        path = self._archive.scratch(SCRATCH_FOLDER) / self._name / f"{number}.{track}.vtt"
        try:
            return b"".join([data async for data in self._archive.read(key, path, 0, MAX_CAPTIONS)])
        except NoSuchObject:
            return b""

    def report(self) -> dict[str, Any]:
        status = {**super().report(), "segments": self._segments, "bytes": self._bytes}
        if self._number:
            status["openSince"] = self._start_ms / 1000
        if self._session is not None:
            status["playlist"] = media_keys.playlist_key(self._stream.name, self._start_ms)
        return status

    def piece_seconds(self, channel: Channel) -> float:
        seconds = super().piece_seconds(channel)
        return min(seconds, channel.hls_time) if channel.rewind_seconds else seconds

    def begin_epoch(self, tracks: Tracks) -> None:
        try:
            muxer = TsMuxer(tracks.video, tracks.audio)
            if self._muxer is not None:
                muxer.continue_counters(self._muxer)
            self._muxer = muxer
        except InvalidData as error:
            raise OutputUnsupported(str(error)) from None
        self._captions.add_tracks(tracks)

    def on_timed(self, timed: TimedData) -> None:
        cue = timed.counted(VIDEO_CLOCK).value
        if not isinstance(cue, AdCue) or cue.type is CueType.OTHER:
            return
        piece = next((segment.piece for segment in reversed(self._open) if segment.piece.length > 1), None)
        if piece is not None:  # otherwise the cue comes before the first picture
            self._ranges.add(cue, piece.wall_clock + (cue.at - piece.begin) / VIDEO_CLOCK)

    def check_pieces(self) -> None:
        for segment in self._open:
            if segment.piece.has_data or segment.piece.closed:
                self.has_data_to_store = True

    def flush_pieces(self) -> None:
        for segment in self._open:
            segment.piece.flush()

    def segments(self) -> tuple[Path, list[RecordedSegment]] | None:
        """Returns the folder of the open session, and its segments on disk or in the store; the last ones are open.

        None if there is no session.
        """
        if self._session is None:
            return None
        unfinished = [segment.as_entry() for segment in (*self._completing, *self._open) if segment.started]
        return self._session.folder, [*self._entries, *unfinished]

    async def store(self) -> None:
        self.has_data_to_store = False
        self._captions.collect()
        for segment in list(self._open):
            data, points = segment.piece.pop_data()
            if data or not segment.started:
                self._bytes += sum(map(len, data))
                await self._archive.threads.run(partial(self._write, segment, data, segment.piece.seconds))
                self.points.add(segment.number, points)
            if segment.piece.closed:
                self._open.remove(segment)
                self._completing.append(segment)
                await self._complete(segment)

    async def finish(self, failed: bool) -> None:
        self._end_cutter()
        try:
            if not failed:
                await self.store()
            if self._session is not None and not self._open and not self._completing:
                await self._publish(last=True)
                await self._archive.threads.run(self._session.remove)
                self._session = None
        finally:
            session, self._session = self._session, None
            self._open, self._completing, self._entries = [], [], []
            self._number = 0
            self._ranges = DateRanges()
            self._epoch = None  # the next session begins with its tracks
            self._captions.end()
            if session is not None:
                session.close()
                self._finalizer.finish(session.folder)

    def begin_piece(self, start: PieceStart) -> TsPiece:
        assert self._muxer is not None
        if not self._number:
            start_ms = int(start.wall_clock * 1000)
            self._number = self._start_ms = self._finalizer.claim(SCRATCH_FOLDER, self._stream.name, start_ms)
            self._name = recording_name(self._stream.name, self._start_ms)
            self._kept = _is_kept(self._channel)
        else:
            self._number = self._finalizer.claim(SCRATCH_FOLDER, self._stream.name, self._number + 1)
        before = self._open[-1].piece if self._open and start.continues else None
        piece = TsPiece(self._muxer, start, before)
        self._open.append(_OpenSegment(piece, self._number))
        return piece

    def _write(self, segment: _OpenSegment, data: list[bytes], seconds: float) -> None:
        """Writes to the session's files. Runs in a thread."""
        self._archive.check_free_space()
        if self._session is None:
            self._session = OnDemandSession(self._archive.scratch(SCRATCH_FOLDER) / self._name)
            self._session.set_kept(self._kept)
        if not segment.started:
            self._session.begin(segment.number, segment.piece.discontinuity, segment.piece.wall_clock)
            segment.started = True
        self._session.append(segment.number, data, seconds)

    async def _complete(self, segment: _OpenSegment) -> None:
        """Stores a complete segment, then the playlist."""
        session, piece = self._session, segment.piece
        assert session is not None  # created with the segment's first bytes
        self._count_dropped(piece.dropped)
        path, size = await self._archive.threads.run(lambda: session.complete(segment.number, piece.seconds))
        self._segments += 1
        # Before the segment: a complete segment without a file has no captions.
        await self._captions.store(session.folder, segment.number, piece.begin, piece.begin + piece.length)
        self.points.complete(segment.number, size)
        await self._archive.keep(media_keys.segment_key(self._stream.name, segment.number), path, replace=True)
        self._entries.append(segment.as_entry(size))
        self._completing.remove(segment)
        await self._publish()

    async def _remove_old(self, session: OnDemandSession) -> None:
        """Removes segments from the playlist before they are deleted. A session may last for months."""
        if not self._kept and _is_kept(self._channel):
            self._kept = True
            await self._archive.threads.run(lambda: session.set_kept(True))
        days = self._channel.retention_days
        days = self._archive.retention_days if days is None else days
        now, entries = time.time(), self._entries
        oldest = now - days * 86_400 if days else 0.0
        if not self._kept:
            rewind = now - self._channel.rewind_seconds - REWIND_MARGIN
            first = entries[0].wall_clock + entries[0].seconds
            oldest = max(oldest, rewind if first < rewind - _TRIM_SECONDS else 0.0)
        if entries[0].wall_clock + entries[0].seconds < oldest:
            self._entries = [entry for entry in entries if entry.wall_clock + entry.seconds >= oldest] or entries[-1:]
            if not self._kept:
                self._outdated += [entry.number for entry in entries[: len(entries) - len(self._entries)]]
            entries = self._entries
            self.points.trim(entries[0].number)
            await self._archive.threads.run(lambda: session.trim(entries))
        await self._archive.threads.run(lambda: session.compact(entries, self._kept))

    async def _delete_outdated(self) -> None:
        """Deletes the segments that left the playlist."""
        outdated, self._outdated = self._outdated, []
        keys = [media_keys.segment_key(self._stream.name, number) for number in outdated]
        if keys:
            await self._archive.delete([*keys, *self._captions.keys(keys)])

    async def _publish(self, last: bool = False) -> None:
        session = self._session
        if session is None or not self._entries or self._completing:
            return
        await self._remove_old(session)
        now, entries, kept = time.monotonic(), self._entries, self._kept
        if not last and len(entries) > _LARGE and now - self._written < _LARGE_INTERVAL:
            return
        self._written = now
        ranges = self._ranges.lines(entries[0].wall_clock)
        path = await self._archive.threads.run(lambda: session.write_playlist(playlist(entries, kept, ranges)))
        ready = None
        if last:
            ready = ready_event(self._start_ms, entries)
            self._counts.finished["ondemand"] += 1
        await self._archive.keep(
            media_keys.playlist_key(self._stream.name, self._start_ms), path, replace=True, ready=ready
        )
        await self._captions.publish(session.folder, self._start_ms, entries, last)
        await self._delete_outdated()


def _is_kept(channel: Channel) -> bool:
    """Whether a session stays stored when it is too old for rewinding."""
    return channel.flag("isOnDemand") or not channel.rewind_seconds
