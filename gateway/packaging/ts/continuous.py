"""A transport stream without end, for players that join at any time: all get the same bytes."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from gateway.formats.ts.data_streams import DataStream
from gateway.formats.ts.muxer import AUDIO_TYPES, VIDEO_TYPES, Packets, TsMuxer
from gateway.live.stream import Stream
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.timed_data import PrivateData
from gateway.media.track import AccessUnit, Kind, MediaTrack, TimedData, Tracks
from gateway.packaging.feed import Feed, Rendering, close_at_end
from gateway.packaging.timed_events import EventReader
from gateway.packaging.ts.data_packets import PrivateStreams, data_stream, write_event, write_private
from gateway.protocols.srt.packets import PAYLOAD
from gateway.protocols.srt.send_buffer import split

log = structlog.get_logger(__name__)

_DELAY: Final = 9_000  # ticks from the clock to the time stamps: 100 ms in which sound and pictures may be apart
_TABLES_EVERY: Final = 36_000  # ticks between two tables, 400 ms; ETSI TR 101 290 allows 500 ms
_MAX_TABLES: Final = 256
_MILLISECOND: Final = VIDEO_CLOCK // 1000


class TsRendering:
    """Renders units as packets of one program. Sound that a transport stream cannot carry is left out.

    Tables come before each key frame, and at least every 400 ms. Raises UnsupportedCodec for such pictures.

    earlier: returns script data that the stream has had; the first tables list its streams, because many receivers
    find no stream later.
    """

    def __init__(self, earlier: Callable[[], Iterable[TimedData]] = tuple) -> None:
        self._earlier = earlier
        self._muxer: TsMuxer | None = None
        self._tracks: tuple[MediaTrack | None, MediaTrack | None] = (None, None)
        self._tables_at = 0  # ticks: decode time at which the next tables are due
        # Milliseconds at which tables were written, and their counters; longer than a GOP in a cache.
        self._written: deque[tuple[int, int]] = deque(maxlen=_MAX_TABLES)
        self._last: dict[Kind, int] = {}  # by kind: ticks, the last decode time
        self._bad = False  # the last unit could not be rendered
        self._events = EventReader()
        self._private = PrivateStreams()

    def render_head(self, tracks: Tracks, dts_ms: int, later: Sequence[Tracks] = ()) -> bytes:
        muxer = self._set(tracks)
        for timed in self._earlier():
            value = timed.value
            stream = self._private.find(value) if isinstance(value, PrivateData) else self._event_stream(timed)
            if stream is not None:
                muxer.announce(stream)
        first = next((counter for at, counter in self._written if at >= dts_ms - 1), muxer.table_counter)
        return muxer.repeat_tables(first)

    @staticmethod
    def _event_stream(timed: TimedData) -> DataStream | None:
        event = EventReader().read(timed)
        return data_stream(event) if event is not None else None

    def render_change(self, tracks: Tracks, dts_ms: int) -> bytes:
        return self._tables(self._set(tracks), dts_ms)

    def render_still(self, unit: AccessUnit, dts_ms: int) -> bytes:
        return b""

    def _tables(self, muxer: TsMuxer, dts_ms: int) -> bytes:
        self._written.append((dts_ms, muxer.table_counter))
        return muxer.write_tables()

    def render_unit(self, unit: AccessUnit) -> bytes:
        """Returns the packets of a unit, perhaps with tables before them. Hot path."""
        muxer, track = self._muxer, unit.track
        if muxer is None or track.codec not in (VIDEO_TYPES if track.kind is Kind.VIDEO else AUDIO_TYPES):
            return b""
        dts, cts = unit.dts * VIDEO_CLOCK // track.timescale, unit.cts * VIDEO_CLOCK // track.timescale
        dts = self._last[track.kind] = max(dts, self._last.get(track.kind, -1) + 1)
        try:
            if track.kind is Kind.VIDEO:
                packets = [muxer.write_video(dts, cts, unit.key, unit.payload)]
            else:
                packets = muxer.write_audio([unit.payload], dts)
        except InvalidData as error:
            return self._skip(error)
        self._bad = False
        data = b"".join(map(Packets.render, packets))
        is_key = unit.key and track.kind is Kind.VIDEO
        if is_key or not 0 <= self._tables_at - dts <= _TABLES_EVERY:
            self._tables_at = dts + _TABLES_EVERY
            return self._tables(muxer, dts // _MILLISECOND) + data
        return data

    def render_timed(self, timed: TimedData) -> bytes:
        """Returns the packets of a cue, metadata or private data. New tables come before the first of its kind."""
        muxer = self._muxer
        if muxer is None:
            return b""
        timed = timed.counted(VIDEO_CLOCK)
        if isinstance(timed.value, PrivateData):
            return self._render_private(muxer, timed.value)
        event = self._events.read(timed)
        stream = data_stream(event) if event is not None else None
        if event is None or stream is None:
            return b""
        return self._announce(muxer, stream) + write_event(muxer, event).render()

    def _render_private(self, muxer: TsMuxer, data: PrivateData) -> bytes:
        stream = self._private.find(data)
        return b"" if stream is None else self._announce(muxer, stream) + write_private(muxer, stream, data).render()

    def _announce(self, muxer: TsMuxer, stream: DataStream) -> bytes:
        if not muxer.announce(stream):
            return b""
        return self._tables(muxer, max(self._last.values(), default=0) // _MILLISECOND)

    def _set(self, tracks: Tracks) -> TsMuxer:
        """Returns the muxer for these tracks. Raises UnsupportedCodec."""
        audio = tracks.audio if tracks.audio is not None and tracks.audio.codec in AUDIO_TYPES else None
        if tracks.video is None and audio is None:
            raise UnsupportedCodec("a transport stream cannot carry this sound")
        if self._muxer is None or self._tracks != (tracks.video, audio):
            muxer = TsMuxer(tracks.video, audio, delay=_DELAY)
            if self._muxer is not None:
                muxer.continue_counters(self._muxer)
            self._muxer, self._tracks = muxer, (tracks.video, audio)
        return self._muxer

    def _skip(self, error: InvalidData) -> bytes:
        if not self._bad:
            self._bad = True
            log.info("a unit is left out of a transport stream", reason=str(error))
        return b""


def can_carry(tracks: Tracks) -> bool:
    """Whether a transport stream can carry the pictures; without pictures, the sound."""
    video, audio = tracks.video, tracks.audio
    return video.codec in VIDEO_TYPES if video is not None else audio is not None and audio.codec in AUDIO_TYPES


class SrtOutput:
    """The output `srt`: the feed of the players over SRT. It is always on; without players it costs nothing.

    All players share the payloads of a batch.
    """

    def __init__(
        self, make_feed: Callable[[Rendering], Feed], earlier: Callable[[], Iterable[TimedData]] = tuple
    ) -> None:
        self.feed = make_feed(TsRendering(earlier))
        self._batch = b""
        self._payloads: Sequence[bytes] = ()

    def payloads(self, batch: bytes) -> Sequence[bytes]:
        """Returns the payloads of a batch, which the feed writes to one player after the other. Hot path."""
        if batch is not self._batch:
            self._batch, self._payloads = batch, split(batch, PAYLOAD)
        return self._payloads

    async def run(self, stream: Stream) -> None:
        await close_at_end(stream, lambda: [self.feed])
