"""Captions for viewers who go back: those of the segments of `live.m3u8?rewind=…`.

A segment in memory has its captions there. Those of a segment that left the memory are beside the pieces of the
on-demand recording which has its bytes, or in the stream's memory while such a piece is not complete. Stored pieces of
earlier publishes have their captions beside them.
"""

import re
from collections.abc import Sequence
from typing import Final

from gateway.formats.captions.webvtt import join_webvtt
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable
from gateway.live.stream import Stream
from gateway.media.clock import VIDEO_CLOCK
from gateway.outputs.recording.on_demand_recording import OnDemandRecording
from gateway.outputs.recording.recorded_pieces import Span
from gateway.outputs.recording.session_captions import MAX_CAPTIONS
from gateway.packaging.caption_files import TS_DELAY, VTT, vtt_file
from gateway.packaging.ts.segment_history import PastSegment
from gateway.playback.captions import captions, ts_file
from gateway.playback.play_format import LIVE_M3U8
from gateway.playback.playlist_response import SEGMENT_CACHE, EventualResponse
from gateway.playback.rewind import STORED_CAPTIONS, Rewind, output_name
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchObject, StoreUnavailable

_PATH: Final = re.compile(
    r"captions/(?P<track>[a-z0-9-]{1,64})/(?:live\.m3u8|(?P<number>[0-9]{1,15})\.vtt|"
    rf"{STORED_CAPTIONS}(?P<piece>[0-9]{{13}})\.vtt)",
    re.ASCII,
)


class RewindCaptions:
    """Answers for captions: those of `rewind` here, all others as `captions` does."""

    def __init__(self, rewind: Rewind) -> None:
        self._rewind = rewind

    def __call__(self, request: Request, stream: Stream, rest: str) -> EventualResponse:
        """Answers `/<stream>/<rest>`."""
        match, name = _PATH.fullmatch(rest), output_name(stream)
        if match is None or not name or all(offered.id != match["track"] for offered in stream.captions.texts):
            return captions(request, stream, rest)
        track = match["track"]
        if match["piece"]:
            return self._stored(media_keys.segment_key(stream.channel.id, int(match["piece"])), track)
        if rest.endswith(LIVE_M3U8):
            return self._rewind.captions(request, stream) or captions(request, stream, rest)
        answer = ts_file(stream, track, match["number"], name)
        past = self._rewind.past(stream, int(match["number"])) if answer.status == 404 else None
        return _past(stream, track, *past) if past is not None else answer

    async def _stored(self, segment: str, track: str) -> Response:
        """Answers with the captions beside a stored segment."""
        key = media_keys.segment_captions_key(segment, track)
        try:
            return _answer(b"".join([data async for data in self._rewind.objects.read(key, 0, MAX_CAPTIONS)]))
        except NoSuchObject:
            return _answer(b"")
        except StoreUnavailable as error:
            return service_unavailable("captions cannot be read now", error.retry_after)


async def _past(
    stream: Stream, track: str, recording: OnDemandRecording, segment: PastSegment, spans: Sequence[Span]
) -> Response:
    """Answers with the captions of a segment in pieces of the recording. They may contain more than its own."""
    pieces = dict.fromkeys(span.piece for span in spans)
    if not all(recording.points.is_complete(piece) for piece in pieces):
        log, end = stream.captions.logs.get(track), segment.start + round(segment.seconds * VIDEO_CLOCK)
        return _answer(vtt_file(log.between(segment.start, end) if log is not None else (), 0, TS_DELAY))
    try:
        files = [await recording.read_captions(piece, track) for piece in pieces]
    except StoreUnavailable as error:
        return service_unavailable("captions cannot be read now", error.retry_after)
    return _answer(join_webvtt(file for file in files if file))


def _answer(body: bytes) -> Response:
    return Response(200, body or vtt_file((), 0, TS_DELAY), VTT, cache=SEGMENT_CACHE)
