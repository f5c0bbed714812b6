"""Answers `live.m3u8?rewind=<seconds>` and `master.m3u8?rewind=<seconds>`, and the segments that left the memory.

A rewind playlist lists segments from three places, from the newest to the oldest:

1. Segments in the memory of the TS packager: those of `live.m3u8`. They are answered from there.
2. Segments of this packager that left its memory. They keep their names and numbers. Their bytes are in the pieces of
   the on-demand recording, which runs beside the packager.
3. Stored pieces of earlier publishes, before the packager began. Each is one segment, with its address below `vod/`.

The packager's `history` knows number, date and length of all of them. Numbers of the packager's own segments begin at
`history.own`. Stored pieces have the numbers before it, counted back.

A playlist must list no segment that cannot be fetched, and a listed segment must not change. This has four
consequences:

- Stored pieces are read before the first answer, once for each packager. If the store does not answer, viewers get 503.
  Otherwise, the playlist would later grow at its beginning.
- Each segment that leaves the memory is checked: the recording must have it. `checked` is the number of the next
  segment to check. If a segment is missing, `floor` goes above it, and no playlist lists earlier ones. The oldest
  listed segment is checked again for each playlist, because the recording forgets the places of old segments.
- All playlists of a packager have the same numbers, dates and discontinuities, whatever their length.
- The first listed number of a length never decreases.

A channel may get `rewind` while it is live. Then the history begins with the segments in memory.

The state of a packager (`_State`) lives as long as the packager. Only `Rewind` changes it. Rendered playlists are in
`TsPackager.cache`, which the packager empties with every new segment.

The § numbers refer to HLS (RFC 8216bis).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

import structlog

from gateway.formats.hls import media_playlist
from gateway.formats.hls.multivariant_playlist import multivariant
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.http.validators import file_response
from gateway.lib.tasks import Tasks
from gateway.live.stream import Stream
from gateway.outputs.recording.on_demand_recording import OnDemandRecording
from gateway.outputs.recording.recorded_pieces import Span
from gateway.outputs.storage.stored_pieces import StoredPiece, StoredPieces
from gateway.packaging.caption_files import caption_playlist, subtitle_renditions
from gateway.packaging.ts.packager import TsPackager
from gateway.packaging.ts.rewind_playlist import RewindPlaylist
from gateway.packaging.ts.segment_history import MAX_SEGMENTS, PastSegment, SegmentHistory
from gateway.playback import format_outputs, hls
from gateway.playback.formats import HLS
from gateway.playback.play_format import LIVE_M3U8
from gateway.playback.playlist_response import (
    HOLD,
    M3U8,
    PLAYLIST_CACHE,
    REWIND,
    SEGMENT_CACHE,
    EventualResponse,
    is_refused,
    packager,
    playlist,
    read_directives,
    refuse_copies,
    rewind_seconds,
    segment_response,
    wait_until,
)
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchObject, StoreUnavailable
from gateway.ports.stores import ObjectStore

log = structlog.get_logger(__name__)

# Identifies a playlist: its seconds, whether it is a delta update, whether the request was blocking, and whether it
# lists captions.
_PlaylistKey: TypeAlias = tuple[int, bool, bool, bool]

STORED_CAPTIONS: Final = "stored-"  # before the number of a stored piece, in the name of its captions
_STORED: Final = f"\nvod/{media_keys.segment_uri(0).rpartition('/')[0]}/"  # before that number, in a playlist
_NAME: Final = re.compile(r"([0-9]{1,15})\.ts", re.ASCII)
_MAX_SEGMENTS_AHEAD: Final = 2  # segments after the last one for which a request is held (§6.2.5.2)
_MAX_CACHED: Final = 4  # whole playlists that are cached until the next segment
_MAX_QUERIES: Final = 200  # entries in the cache up to which delta updates are cached by their query
_PER_TURN: Final = 500  # segments that are checked in one turn of the event loop
_OVERLAP: Final = 0.5  # seconds by which the dates of two pieces may overlap


class _State:
    """The rewind playlist of one packager, and how far its segments are checked.

    loaded: whether the stored pieces are in the playlist. loading: the task that reads them; a failed one is replaced.
    checked: the recording was searched for all segments before this number.
    """

    def __init__(self, rewind: RewindPlaylist) -> None:
        self.rewind = rewind
        self.loaded = False
        self.loading: asyncio.Task[None] | None = None
        self.checked = 0


class Rewind:
    """Answers for source streams whose channel has `rewind` or `isOnDemand`. Other streams get the answers of `hls`.

    The segments come from the output `hls`. If it is off, they come from the output `rewind`, and `live.m3u8` exists
    only with the parameter.
    """

    def __init__(self, objects: ObjectStore, tasks: Tasks) -> None:
        self.objects = objects
        self._pieces = StoredPieces(objects)
        self._tasks = tasks
        self._states: WeakKeyDictionary[TsPackager, _State] = WeakKeyDictionary()

    def hls(self, request: Request, stream: Stream, rest: str) -> EventualResponse:
        """Answers `/<stream>/<rest>` of the output `hls`."""
        if rest == LIVE_M3U8 and REWIND not in request.raw_query:
            return hls.hls(request, stream, rest)
        name = output_name(stream)
        if rest == LIVE_M3U8:
            output = stream.output(name)
            if isinstance(output, TsPackager):
                # Hot path: players ask again and again for the same delta update.
                output.catch_up()
                cached = output.cache.get(("query", request.raw_query))
                if isinstance(cached, Response):
                    return cached
            seconds = rewind_seconds(request)
            if isinstance(seconds, Response):
                return seconds
            if seconds and name:
                return self._playlist(request, stream, name, seconds)
        elif name:
            return self._segment(request, stream, name, rest)
        return hls.hls(request, stream, rest)

    def master(self, request: Request, stream: Stream) -> EventualResponse | None:
        """Answers `master.m3u8` if the request has the parameter `rewind`; None: the caller answers.

        The playlist has one variant, the rewind playlist of MPEG-TS, and its captions.
        None also for codecs that MPEG-TS cannot carry.
        """
        seconds = rewind_seconds(request)
        if isinstance(seconds, Response):
            return seconds
        name = output_name(stream)
        output = stream.output(name)
        if not seconds or not name or is_refused(output):
            return None

        def render(output: TsPackager, suffix: str) -> Response:
            variant = output.variant(f"{LIVE_M3U8}?{REWIND}{seconds}")
            subtitles = subtitle_renditions(stream.captions.texts, variant.uri)
            text = multivariant([variant], (), subtitles)
            body = media_playlist.with_suffix(text, suffix.replace("?", "&", 1))
            return Response(200, body, M3U8, cache=PLAYLIST_CACHE, compress=True)

        return playlist(request, stream, name, TsPackager, render)

    def captions(self, request: Request, stream: Stream) -> EventualResponse | None:
        """Answers the `live.m3u8` of captions if the request has the parameter `rewind`; None: the caller answers.

        The playlist has the segments of the rewind playlist, with the suffix "vtt". Stored pieces have other names.
        """
        seconds = rewind_seconds(request)
        if isinstance(seconds, Response):
            return seconds
        name = output_name(stream)
        return self._playlist(request, stream, name, seconds, captions=True) if seconds and name else None

    def past(self, stream: Stream, number: int) -> tuple[OnDemandRecording, PastSegment, Sequence[Span]] | None:
        """Returns a segment that left the memory, and its bytes in the recording; None if they are not there.

        number: in its file name.
        """
        output, recording = stream.output(output_name(stream)), _recording(stream)
        if recording is None or not isinstance(output, TsPackager) or output.history is None:
            return None
        history, at = output.history, output.number_of(number)
        if not max(history.first, history.own) <= at < history.end:
            return None
        past = history[at]
        spans = recording.points.spans(past.start, history[at + 1].start if at + 1 < history.end else None)
        return (recording, past, spans) if spans else None

    def status(self, stream: Stream) -> tuple[float, float | None]:
        """Returns how many seconds viewers may go back, and the date of the oldest picture; None: not known yet.

        0 seconds: viewers cannot go back. The first call for a stream starts to read the stored pieces.
        """
        name = output_name(stream)
        output = stream.output(name)
        if not name or is_refused(output):
            return 0.0, None
        return stream.channel.rewind_reach, self._oldest(stream)

    def _oldest(self, stream: Stream) -> float | None:
        output = stream.output(output_name(stream))
        if not isinstance(output, TsPackager) or not output.ready:
            return None
        state = self._state(stream, output)
        if not state.loaded:
            self._load(stream, output, state)
            return None
        self._check_some(stream, output, state, MAX_SEGMENTS)
        first = state.rewind.first(round(stream.channel.rewind_reach), output.window)
        return state.rewind.history[first].wall

    def segment_at(self, stream: Stream, wall: float) -> tuple[int, Callable[[], AsyncIterator[bytes]]] | None:
        """Returns the number in the file name of the segment with this date, and a reader of its bytes.

        wall: seconds since 1970. Returns None if viewers cannot go back to it.
        """
        oldest, output = self._oldest(stream), stream.output(output_name(stream))
        if oldest is None or not isinstance(output, TsPackager) or output.history is None:
            return None
        history = output.history
        if not oldest - 1 <= wall <= history.end_wall:
            return None
        number = max(history.since(wall), self._states[output].rewind.floor)
        past = history[number]
        if number < history.own:
            return past.name, lambda: self.objects.read(media_keys.segment_key(stream.channel.id, past.name))
        segment, recording = output.window.find(f"{past.name}.ts"), _recording(stream)
        if segment is not None:
            return past.name, lambda: _whole(segment.body())
        if recording is None or number + 1 >= history.end:
            return None
        spans = recording.points.spans(past.start, history[number + 1].start)
        return (past.name, lambda: _bytes(recording, spans, 0, sum(s.size for s in spans))) if spans else None

    # ---- playlists ----

    def _playlist(
        self, request: Request, stream: Stream, name: str, seconds: int, *, captions: bool = False
    ) -> EventualResponse:
        seconds = min(seconds, round(stream.channel.rewind_reach))

        def render(output: TsPackager, suffix: str) -> EventualResponse:
            state = self._state(stream, output)
            answer = partial(self._render, request, stream, output, state, seconds, suffix, captions)
            return answer() if state.loaded else self._first(stream, output, state, answer)

        return playlist(request, stream, name, TsPackager, render)

    async def _first(
        self, stream: Stream, output: TsPackager, state: _State, render: Callable[[], EventualResponse]
    ) -> Response:
        await asyncio.shield(self._load(stream, output, state))
        if not state.loaded:
            return service_unavailable("recordings cannot be read now", 1)
        answer = render()
        return answer if isinstance(answer, Response) else await answer

    def _render(
        self,
        request: Request,
        stream: Stream,
        output: TsPackager,
        state: _State,
        seconds: int,
        suffix: str,
        captions: bool,
    ) -> EventualResponse:
        wanted = read_directives(request)
        if isinstance(wanted, Response):
            return wanted
        number, delta, last = wanted.segment, wanted.skip, output.window[-1].number
        key = seconds, delta, number is not None, captions
        render = partial(self._current_playlist, stream, output, state, key, suffix)
        if number is None or output.over or number <= last:
            answer = render()
            if (
                delta and not captions and len(output.cache) < _MAX_QUERIES
            ):  # for requests with the same query until the next segment
                output.cache["query", request.raw_query] = answer
            return answer
        if number > last + _MAX_SEGMENTS_AHEAD:
            return text(400, f"_HLS_msn {number} is too far ahead of {last}")
        return _when_complete(stream, output, number, render)

    def _current_playlist(
        self, stream: Stream, output: TsPackager, state: _State, key: _PlaylistKey, suffix: str
    ) -> Response:
        """Returns the answer with the current playlist."""
        seconds, delta, blocking, captions = key
        cache = output.cache
        cached = cache.get(("rewind", key)) if not suffix else None
        if isinstance(cached, Response):
            return cached
        template = cache.get(("rewind", seconds, delta, captions))
        if not isinstance(template, str):
            self._check_some(stream, output, state, MAX_SEGMENTS)
            rewind, window = state.rewind, output.window
            template = rewind.text(seconds, window, ended=output.ended and not output.moved, delta=delta)
            if captions:
                template = caption_playlist(template).replace(_STORED, f"\n{STORED_CAPTIONS}")
            if delta or suffix:  # otherwise only the answer is cached: with the text, it would need 350 kB
                self._keep(cache, ("rewind", seconds, delta, captions), template, delta)
        if suffix and (refusal := refuse_copies(suffix, template.count(media_playlist.MARK))) is not None:
            return refusal
        control = f"max-age={output.window.target}" if blocking and not output.over else PLAYLIST_CACHE
        answer = Response(200, media_playlist.with_suffix(template, suffix), M3U8, cache=control, compress=True)
        if not suffix:
            self._keep(cache, ("rewind", key), answer, delta)
        return answer

    @staticmethod
    def _keep(cache: dict[object, object], key: object, value: object, delta: bool) -> None:
        """Caches a playlist until the next segment. Whole playlists are large, so only some are cached.

        A playlist has up to two entries: its text and its answer.
        """
        if not delta:
            count = cache.get("rewinds", 0)
            assert isinstance(count, int)
            if count >= 2 * _MAX_CACHED:
                return
            cache["rewinds"] = count + 1
        cache[key] = value

    # ---- segments ----

    def _segment(self, request: Request, stream: Stream, name: str, rest: str) -> EventualResponse:
        output = packager(stream, name, TsPackager)
        if isinstance(output, Response):
            return output
        segment = output.window.find(rest)
        if segment is not None:
            return segment_response(segment, "video/mp2t")
        match = _NAME.fullmatch(rest)
        found = self.past(stream, int(match[1])) if match is not None else None
        if found is not None:
            recording, past, spans = found
            return _answer(request, recording, spans, past)
        return text(404, f"{rest} is not here (any more)")

    # ---- what can be listed ----

    def _state(self, stream: Stream, output: TsPackager) -> _State:
        """Returns the state of a packager that has segments."""
        reach = stream.channel.rewind_reach
        state = self._states.get(output)
        if state is None:
            if output.history is None:  # the channel got `rewind` after the packager had begun
                output.begin_history(reach)
            assert output.history is not None
            state = self._states[output] = _State(RewindPlaylist(output.history))
        state.rewind.history.reach = reach
        return state

    def _load(self, stream: Stream, output: TsPackager, state: _State) -> asyncio.Task[None]:
        """Reads the stored pieces of earlier publishes, once for all viewers, and again after a failure."""
        if state.loading is None or state.loading.done():
            state.loading = self._tasks.start(self._read(stream, output, state), stream.name)
        return state.loading

    async def _read(self, stream: Stream, output: TsPackager, state: _State) -> None:
        history = state.rewind.history
        end = history[max(history.own, history.first)].wall
        try:
            found = SegmentHistory()  # needs 32 bytes for each piece, and is bounded, unlike a list

            def add(piece: StoredPiece) -> None:
                found.add(found.end, _past(piece))

            if history.first <= history.own:  # otherwise this packager's segments already fill the history
                await self._pieces.for_each(stream.channel.id, history.end_wall - history.reach, end, add)
            for _ in range(0, MAX_SEGMENTS, _PER_TURN):
                if self._check_some(stream, output, state, _PER_TURN):
                    break
                await asyncio.sleep(0)
        except (StoreUnavailable, OSError) as error:
            log.warning("stored pieces cannot be read now", stream=stream.name, reason=str(error))
            return
        if max(state.rewind.floor, history.first) <= history.own:  # both may have grown meanwhile
            state.rewind.prepend(_newest_first(found, end))
        state.loaded = True

    def _check_some(self, stream: Stream, output: TsPackager, state: _State, count: int) -> bool:
        """Checks whether the recording has the next segments that left the memory. Returns whether all are checked.

        A playlist must list no segment that cannot be fetched, so it begins after a missing one.
        """
        history, rewind = state.rewind.history, state.rewind
        in_memory = next(output.window.unlisted(), output.window[0]).number
        recording = _recording(stream)

        def is_recorded(number: int) -> bool:
            return recording is not None and recording.points.has(history[number].start, history[number + 1].start)

        oldest = max(rewind.floor, history.own, history.first)
        while oldest < state.checked and not is_recorded(oldest):  # the recording forgets its oldest pieces
            oldest = rewind.floor = oldest + 1
        begin = max(state.checked, history.own, history.first)
        end = min(begin + count, in_memory)
        for number in range(begin, end):
            if not is_recorded(number):
                rewind.floor = number + 1
        state.checked = max(state.checked, end)
        return state.checked >= in_memory


async def _when_complete(stream: Stream, output: TsPackager, number: int, render: Callable[[], Response]) -> Response:
    """Answers when segment `number` is complete (§6.2.5.2), or with the old playlist while no publisher sends."""
    hold = HOLD * output.window.target
    await wait_until(output, output.changed, hold, stream, lambda: output.window[-1].number >= number)
    if output.window[-1].number < number and not output.over:
        return service_unavailable("the segment is not there yet", 1)
    return render()


def output_name(stream: Stream) -> str:
    """Returns the output whose segments viewers can go back in; "" if there is none."""
    if stream.is_source and stream.channel.rewind_reach:
        for name in (HLS.output, format_outputs.REWIND):
            if stream.has_output(name):
                return name
    return ""


def _recording(stream: Stream) -> OnDemandRecording | None:
    output = stream.output("ondemand")
    return output if isinstance(output, OnDemandRecording) else None


def _past(piece: StoredPiece) -> PastSegment:
    parsed = media_keys.parse(piece.key)
    assert parsed is not None  # only such keys are read from playlists
    return PastSegment(round(parsed.start * 1000), piece.seconds, piece.start, int(piece.discontinuity))


def _newest_first(pieces: SegmentHistory, end: float) -> Iterator[PastSegment]:
    """Yields the pieces that end before `end`, without those that overlap a later one."""
    for number in reversed(range(pieces.first, pieces.end)):
        piece = pieces[number]
        if piece.wall + piece.seconds <= end + _OVERLAP:
            end = piece.wall
            yield piece


async def _whole(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _bytes(recording: OnDemandRecording, spans: Sequence[Span], first: int, end: int) -> AsyncIterator[bytes]:
    """Yields the bytes from `first` to `end` of a segment in the pieces of the recording."""
    at = 0
    for span in spans:
        start, stop = max(first - at, 0), min(end - at, span.size)
        at += span.size
        if start < stop:
            part = Span(span.piece, span.start + start, span.start + stop)
            try:
                async for data in recording.read(part):
                    yield data
            except NoSuchObject:
                log.info("a recorded piece does not exist any more", piece=span.piece)
                return  # the server notices the wrong length


def _answer(request: Request, recording: OnDemandRecording, spans: Sequence[Span], past: PastSegment) -> Response:
    """Answers with the bytes of a segment from the pieces of the recording."""
    size = sum(span.size for span in spans)

    def body(first: int, end: int) -> AsyncIterator[bytes]:
        return _bytes(recording, spans, first, end)

    tag = f'"{past.name:x}-{size:x}"'
    return file_response(request, body, size, tag=tag, modified=past.wall, kind="video/mp2t", cache=SEGMENT_CACHE)
