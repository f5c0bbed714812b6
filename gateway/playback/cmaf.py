"""CMAF over HTTP, for LL-HLS and DASH: the output `cmaf`, its manifests and its media files."""

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.formats.mp4.fragment import STYP
from gateway.http.request import Request, RequestError
from gateway.http.response import Response, service_unavailable, text
from gateway.live.stream import Stream, StreamState
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.cmaf.track import CmafTrack
from gateway.packaging.packager_sequence import CmafPackagerFactory
from gateway.packaging.services import PackagingServices
from gateway.playback import dash, hls
from gateway.playback.play_format import ADDITIONAL_AUDIO, MANIFEST, MASTER, FormatCode
from gateway.playback.playlist_response import (
    HOLD,
    MAX_LINGER,
    SEGMENT_CACHE,
    EventualResponse,
    packager,
    segment_response,
    wait_until,
)

_PATH: Final = re.compile(
    r"(video|audio(?:-[0-9]{1,3})?)/([0-9]{1,12})-(init-|part-)?([0-9]{1,12})\.(m4s|mp4)", re.ASCII
)
MANIFEST_LOAD_SECONDS: Final = 1.0  # after the update period; then every player has loaded the last manifest
_MEDIA_PLAYLISTS: Final = {f"{folder}/index.m3u8": folder for folder in ("video", "audio", *ADDITIONAL_AUDIO)}


def cmaf(
    request: Request, stream: Stream, rest: str, source: CmafTrack | None = None, reports: hls.Reports | None = None
) -> EventualResponse:
    """Answers `/<stream>/<rest>` of a stream that is live or has just ended.

    source: for a rendition, the video track of its source, which may continue longer; None for other streams.
    reports: see hls.low_latency_playlist.
    """
    match = _PATH.fullmatch(rest)
    if match is not None:
        output = packager(stream, "cmaf", CmafPackager)
        if isinstance(output, Response):
            return output
        track = output.manifests.track(match[1])
        return _not_found(rest) if track is None else _TrackFiles(stream, output, track).respond(rest, match, source)
    if rest in _MEDIA_PLAYLISTS:
        return hls.low_latency_playlist(request, stream, _MEDIA_PLAYLISTS[rest], reports=reports)
    if rest == MASTER:
        return hls.master(request, stream)
    if rest == MANIFEST:
        return dash.manifest(request, stream)
    return text(404, "not found")


@dataclass(frozen=True, slots=True)
class _TrackFiles:
    """The media files of one track. Answers may wait for the next part or segment."""

    stream: Stream
    output: CmafPackager
    track: CmafTrack

    def respond(self, rest: str, match: re.Match[str], source: CmafTrack | None) -> EventualResponse:
        """Answers with an init segment, a part or a segment."""
        output, track = self.output, self.track
        uri = rest.partition("/")[2]
        if match[3] == "init-":
            init = track.inits.get(uri)
            return _not_found(rest) if init is None else self._media(init)
        if match[3] == "part-":
            # All players fetch the newest part at once. They share one response until a newer part exists.
            cached = output.cache.get(rest)
            if isinstance(cached, Response):
                return cached
            part = track.part(uri)
            if part is not None:
                answer = output.cache[rest] = self._media(part)
                return answer
            if uri == track.part_uri(track.part_number) and not output.over:
                return self._hinted(uri)
            return _not_found(rest)
        segment = track.window.find(uri)
        if segment is not None:
            return segment_response(segment, f"{track.media}/mp4")
        number = int(match[4])
        if uri == track.segment_uri(number):
            if source is not None and source.window[0].number <= number <= max(track.number, source.number) + 1:
                return self._rendition_segment(number)
            if self._is_expected(number):
                return self._unfinished(number)
        return self._missing_segment(rest, uri)

    def _media(self, body: bytes | AsyncIterator[bytes]) -> Response:
        return Response(200, body, f"{self.track.media}/mp4", cache=SEGMENT_CACHE).kept()

    def _empty(self) -> Response:
        """Returns an answer with a segment without media."""
        return Response(200, STYP, f"{self.track.media}/mp4", cache="no-store")

    async def _wait(self, is_ready: Callable[[], bool]) -> bool:
        return await wait_until(self.output, self.track.changed, HOLD * self.track.window.target, self.stream, is_ready)

    def _missing_segment(self, rest: str, uri: str) -> Response:
        """Answers for a segment that does not exist because its epoch ended before it.

        Until all players have loaded the new manifest, they request the segments that follow from the old manifest's
        clock. The answers are empty segments: after a 404, shaka-player repeats the request forever and dash.js reports
        an error. The next epoch's media is never sent, because it needs another initialization segment.
        """
        return self._empty() if self.track.may_be_requested(uri) else _not_found(rest)

    async def _hinted(self, uri: str) -> Response:
        """Answers with the part of the playlist's preload hint, as soon as the part is complete."""
        track, header = self.track, self.track.header
        await self._wait(lambda: track.part(uri) is not None or track.header is not header)
        part = track.part(uri)
        if part is not None:
            return self._media(part)
        if self.output.over or track.header is not header:
            return _not_found(uri)
        return service_unavailable("the part is not there yet", 1)

    async def _unfinished(self, number: int) -> Response:
        """Answers with an open or future segment. Sends each part when it is complete.

        DASH: availabilityTimeComplete="false". If the stream ends before the segment, an empty segment is sent.
        Players that follow the clock notice the end with their next manifest. After a 404 they would repeat the request
        ten times a second. If the epoch ends before the segment, see `_missing_segment`.
        """
        output, track, header = self.output, self.track, self.track.header
        uri = track.segment_uri(number)
        await self._wait(lambda: track.part_at(number, 0) is not None or track.header is not header)
        if output.ended and track.number <= number:
            await asyncio.sleep(track.window.longest + MANIFEST_LOAD_SECONDS)
        segment = track.window.find(uri)
        if segment is not None:
            return self._media(segment.body())
        if track.header is not header:
            return self._missing_segment(uri, uri)
        first = track.part_at(number, 0)
        if first is not None:
            return self._media(self._read_parts(number, first))
        if output.ended:
            return self._empty()
        return _not_found(uri) if output.stopped else service_unavailable("the segment has not begun yet", 1)

    async def _rendition_segment(self, number: int) -> Response:
        """Answers with an open or future segment of a rendition. If its worker has died, an empty segment is sent soon.

        Then players can change to another rendition early.
        """
        track, header, uri = self.track, self.track.header, self.track.segment_uri(number)

        def has_begun() -> bool:
            return track.part_at(number, 0) is not None

        def is_decided() -> bool:
            return has_begun() or track.header is not header or track.number > number or self.output.over

        await track.changed.until(is_decided, track.window.longest + MANIFEST_LOAD_SECONDS)
        if has_begun() and track.header is header:
            return await self._unfinished(number)
        segment = track.window.find(uri)  # the last segment of its epoch
        return self._empty() if segment is None else self._media(segment.body())

    def _is_expected(self, number: int) -> bool:
        """Whether a player may request segment `number`, which has not begun.

        It may request the open segment or the next one, because its clock may be a little ahead. It may also request
        the segments that follow from the manifest's clock: media may be late, or their publisher gone.
        """
        output, track, ahead = self.output, self.track, 1
        if output.ended or self.stream.state is StreamState.LINGERING:
            ahead += math.ceil(MAX_LINGER / max(track.window.longest, 0.1))
        is_near = track.number <= number <= track.number + ahead or number in track.numbers_players_expect(time.time())
        return is_near and not (output.stopped and not output.ended)

    async def _read_parts(self, number: int, first: bytes) -> AsyncIterator[bytes]:
        """Yields the parts of an open segment.

        Raises RequestError if the segment is not finished in time. The connection is then aborted, so that the client
        notices that the segment is incomplete.
        """
        track, part, index = self.track, first, 0
        while True:
            yield part
            index += 1
            while (found := track.part_at(number, index)) is None:
                if track.number > number:
                    return
                if self.output.over or not await self._wait(partial(self._has_part, number, index)):
                    raise RequestError(503, f"segment {number} of {track.kind} stays unfinished")
            part = found

    def _has_part(self, number: int, index: int) -> bool:
        """Whether an open segment has this part, or is complete."""
        return self.track.number > number or self.track.part_at(number, index) is not None


def _not_found(rest: str) -> Response:
    return text(404, f"{rest} is not here (any more)")


def _packagers(services: PackagingServices) -> CmafPackagerFactory:
    settings = services.settings
    return CmafPackagerFactory(settings.cmaf.part, services.metrics, cue_tags=settings.hls.cue_tags)


CODE: Final = FormatCode(_packagers, respond=cmaf)
