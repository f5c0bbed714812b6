"""Captions as text over HTTP: `captions/<track>/`, below a stream or one of its renditions.

`index.m3u8` has the segments and parts of the output `cmaf`, `live.m3u8` those of `hls`. DASH gets WebVTT in MP4.
"""

import re
from typing import Final

from gateway.formats.mp4.webvtt_track import wvtt_init
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.live.stream import Stream
from gateway.media.caption_track import CAPTIONS_FOLDER
from gateway.media.clock import VIDEO_CLOCK
from gateway.packaging.caption_files import (
    TS_DELAY,
    VTT,
    caption_playlist,
    dash_segment,
    segment_captions,
    vtt_file,
)
from gateway.packaging.caption_pieces import CaptionPieces
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.ts.packager import TsPackager
from gateway.playback import hls
from gateway.playback.play_format import LIVE_M3U8
from gateway.playback.playlist_response import (
    HOLD,
    SEGMENT_CACHE,
    EventualResponse,
    cached_playlist,
    packager,
    playlist,
    wait_until,
)

_MP4: Final = "application/mp4"
_PATH: Final = re.compile(r"captions/([a-z0-9-]{1,64})/([A-Za-z0-9.-]{1,64})", re.ASCII)
_CMAF_FILE: Final = re.compile(r"([0-9]{1,12}-(?:init-|part-)?[0-9]{1,12})\.(vtt|m4s|mp4)", re.ASCII)
_TS_FILE: Final = re.compile(r"([0-9]{1,15})\.vtt", re.ASCII)


def captions(request: Request, stream: Stream, rest: str) -> EventualResponse:
    """Answers `/<stream>/<rest>`. The stream is live or has just ended."""
    match = _PATH.fullmatch(rest)
    if match is None:
        return text(404, "not found")
    track, name = match[1], match[2]
    if all(offered.id != track for offered in stream.captions.texts):
        return text(404, f"there are no captions {track}")
    if name == "index.m3u8":
        return hls.low_latency_playlist(request, stream, CAPTIONS_FOLDER)
    if name == LIVE_M3U8:
        return playlist(request, stream, "hls", TsPackager, _render_live)
    if (file := _CMAF_FILE.fullmatch(name)) is not None:
        return _cmaf_file(stream, track, file[1], file[2])
    if _TS_FILE.fullmatch(name):
        return ts_file(stream, track, name.removesuffix(".vtt"))
    return text(404, "not found")


def _render_live(output: TsPackager, suffix: str) -> Response:
    return cached_playlist(output.cache, "captions", suffix, lambda: caption_playlist(output.playlist()))


def ts_file(stream: Stream, track: str, name: str, output_name: str = "hls") -> Response:
    """Answers with the captions of a segment that is in the memory of its output."""
    output = packager(stream, output_name, TsPackager)
    if isinstance(output, Response):
        return output
    segment = output.window.find(f"{name}.ts")
    if segment is None:
        return text(404, f"{name}.vtt is not here (any more)")
    key = "captions", track, name
    answer = output.cache.get(key)
    if not isinstance(answer, Response):
        cues = (segment.captions or {}).get(track, ())
        answer = output.cache[key] = _answer(vtt_file(cues, 0, TS_DELAY), VTT)
    return answer


def _cmaf_file(stream: Stream, track: str, name: str, suffix: str) -> EventualResponse:
    output = packager(stream, "cmaf", CmafPackager)
    if isinstance(output, Response):
        return output
    if not output.manifests.tracks:
        return _not_found(name)
    if suffix == "mp4":
        language = next((t.language for t in stream.captions.texts if t.id == track), "")
        return _answer(wvtt_init(1, language=language), _MP4)
    return _find(output, track, name, suffix) or _wait(stream, output, track, name, suffix)


def _find(output: CmafPackager, track: str, name: str, suffix: str) -> Response | None:
    """Returns the answer with a segment or a part; None if it does not exist."""
    key = "captions", track, name, suffix
    answer = output.cache.get(key)
    if isinstance(answer, Response):
        return answer
    main = output.manifests.main
    uri, base = f"{name}.m4s", output.manifests.base_of(VIDEO_CLOCK)
    pieces: CaptionPieces | None
    if "-part-" in name:
        part = main.find_part(uri)
        if part is None or suffix != "vtt":
            return None
        pieces = part.captions
    else:
        segment = main.window.find(uri)
        if segment is None:
            return None
        if suffix == "m4s":
            answer = output.cache[key] = _answer(dash_segment(segment, track, base), _MP4)
            return answer
        pieces = segment_captions(segment)
    answer = output.cache[key] = _answer(vtt_file((pieces or {}).get(track, ()), base), VTT)
    return answer


def _wait(stream: Stream, output: CmafPackager, track: str, name: str, suffix: str) -> EventualResponse:
    """Answers for a part that playlists have announced, or for the open segment or the next one, once they exist."""
    main = output.manifests.main
    uri = f"{name}.m4s"
    expected = (main.part_uri(main.part_number), main.segment_uri(main.number), main.segment_uri(main.number + 1))
    if output.over or uri not in expected:
        return _not_found(name)

    async def answer() -> Response:
        def exists() -> bool:
            return _find(output, track, name, suffix) is not None

        if not await wait_until(output, main.changed, HOLD * main.window.target, stream, exists):
            return _not_found(name) if output.over else service_unavailable(f"{name} is not there yet", 1)
        return _find(output, track, name, suffix) or _not_found(name)

    return answer()


def _answer(body: bytes, content_type: str) -> Response:
    return Response(200, body, content_type, cache=SEGMENT_CACHE).kept()


def _not_found(name: str) -> Response:
    return text(404, f"{name} is not here (any more)")
