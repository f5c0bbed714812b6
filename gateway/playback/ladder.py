"""A ladder over HTTP: `index.m3u8`, its rungs in their own folders, and the source's manifests with all rungs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from gateway.channels.names import is_stream_name
from gateway.formats.dash import mpd
from gateway.formats.hls import media_playlist
from gateway.http.request import Request
from gateway.http.response import Response, service_unavailable, text
from gateway.live.stream import Stream
from gateway.packaging import ladder_manifests
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.cmaf.track import CmafTrack
from gateway.packaging.ladder_manifests import CmafRendition
from gateway.packaging.ts.packager import TsPackager
from gateway.playback import cmaf, hls
from gateway.playback.dash import MPD
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.ladder_view import (
    CMAF,
    OUTPUT,
    TS,
    LadderFormat,
    LadderStreams,
    LadderView,
    current_ladder,
    failure,
    form_of,
    wait_for_rendition,
)
from gateway.playback.play_format import PlayFormat, Responder
from gateway.playback.playlist_response import (
    FIRST_WAIT,
    M3U8,
    PLAYLIST_CACHE,
    EventualResponse,
    copied_query,
    playlist,
)
from gateway.ports.errors import AtCapacity, NoSuchStream

_TIMEOUT: Final = 8.0  # seconds to wait for all rungs; after that, the existing rungs are shown


@dataclass(frozen=True, slots=True)
class _Manifest:
    """One of the source's manifests that show its ladder.

    there: whether a player can start with the present `text`. finish: returns its bytes, with a query in every URI.
    timely: the bytes contain the present time.
    """

    there: Callable[[CmafPackager, list[CmafRendition]], bool]
    text: Callable[[CmafPackager, list[CmafRendition]], str]
    finish: Callable[[str, str], bytes]
    type: str
    timely: bool = False


_MANIFESTS: Final = {
    cmaf.MASTER: _Manifest(
        lambda source, steps: source.ready, ladder_manifests.master, media_playlist.with_suffix, M3U8
    ),
    cmaf.MANIFEST: _Manifest(
        ladder_manifests.is_playable,
        ladder_manifests.manifest,
        lambda text, suffix: mpd.finish(text, suffix, time.time()),
        MPD,
        timely=True,
    ),
}


class LadderPlayback:
    """Answers for source streams with the output `codec`; for other streams, `cmaf` answers as without a ladder.

    The first answers wait until all rungs are there, so that a player that fetches only once sees all of them.
    Texts are made once per change of the packager in whose cache they are stored.
    """

    def __init__(self, hub: LadderStreams, audience: HttpViewers, clock: Callable[[], float] = time.monotonic) -> None:
        self._hub = hub
        self._audience = audience
        self._clock = clock
        self._since: WeakKeyDictionary[Stream, float] = WeakKeyDictionary()  # when a rung was first missing
        self._settled: WeakSet[Stream] = WeakSet()  # sources whose manifests do not wait any more

    # ---- responders: (request, a source stream, the path below it) ----

    def responder(self, format: PlayFormat) -> Responder | None:
        """Returns the responder of a format. That of CMAF shows the source's ladder."""
        return self.cmaf if format is cmaf.FORMAT else format.respond

    def index(self, request: Request, stream: Stream, rest: str) -> EventualResponse:
        """Answers `index.m3u8`."""
        suffix = copied_query(request)
        if isinstance(suffix, Response):
            return suffix
        form = form_of(stream)
        view = current_ladder(self._hub, stream, form)
        if view.steps and self._enough(stream, view):
            return _index(view, suffix)
        return self._first_index(stream, form, suffix)

    def rung(self, request: Request, stream: Stream, rest: str) -> EventualResponse:
        """Answers for a rung's folder: `index.m3u8`, and the segments and tracks of its stream."""
        name, _, path = rest.partition("/")
        full = f"{stream.name}@{name}"
        if not stream.is_source or not is_stream_name(full):
            return text(404, "not found")
        rendition = self._hub.find_recent(full)
        if rendition is not None:
            if path.endswith("index.m3u8") and _lost(stream, rendition, path):
                return text(404, f"{name} of {stream.name} is away")
            return self._rung(request, stream, rendition, path)
        if stream.ended is None and path.endswith("index.m3u8"):
            view = current_ladder(self._hub, stream, form_of(stream))
            if name in view.waits or not (view.known or failure(stream)):
                return self._first_rung(request, stream, full, path)
        return text(404, f"there is no {name} of {stream.name}")

    def cmaf(self, request: Request, stream: Stream, rest: str) -> EventualResponse:
        """Answers for the source's CMAF, with the rungs in `master.m3u8` and `manifest.mpd`."""
        manifest = _MANIFESTS.get(rest)
        if stream.outputs is None or not stream.outputs.enabled(OUTPUT):
            return cmaf.cmaf(request, stream, rest)
        if manifest is None:
            return cmaf.cmaf(request, stream, rest, reports=self._reports(stream, "../"))
        key = ("ladder", rest)

        def there(output: CmafPackager) -> bool:
            return key in output.cache or self._showable(stream, output, manifest)

        def render(output: CmafPackager, suffix: str) -> Response:
            def make() -> str:
                return manifest.text(output, current_ladder(self._hub, stream, CMAF).cmaf)

            return _cached_response(
                output.cache, key, make, manifest.type, manifest.finish, suffix, timely=manifest.timely
            )

        return playlist(request, stream, "cmaf", CmafPackager, render, there)

    # ---- rungs ----

    def _rung(self, request: Request, stream: Stream, rendition: Stream, path: str) -> EventualResponse:
        index = path == "index.m3u8"
        ts = path.endswith(".ts") or (index and form_of(stream) is TS)
        if stream.ended is None:
            self._audience.saw(request, stream, "hls" if ts else "cmaf")
        if ts:
            return hls.hls(request, rendition, hls.LIVE_M3U8 if index else path)
        if index:
            return hls.low_latency_playlist(
                request, rendition, "video", above=True, reports=lambda lane: self._index_reports(stream, lane, "../")
            )
        reports = self._reports(stream, "../../")
        if path == "audio/index.m3u8" and form_of(stream) is CMAF:
            reports = lambda lane: self._index_reports(stream, lane, "../../")  # noqa: E731
        return cmaf.cmaf(request, rendition, path if "/" in path else f"video/{path}", _source(stream), reports)

    def _reports(self, stream: Stream, up: str) -> hls.Reports | None:
        """Returns the reports of the tracks that `master.m3u8` lists.

        up: path from a track's folder to the source's folder.
        """
        source = stream.outputs.get("cmaf") if stream.outputs is not None else None
        if not isinstance(source, CmafPackager):
            return None
        return lambda lane: ladder_manifests.master_reports(
            lane, source, current_ladder(self._hub, stream, CMAF).cmaf, up
        )

    def _index_reports(self, stream: Stream, lane: CmafTrack, up: str) -> str:
        """Returns the reports of the tracks that `index.m3u8` lists."""
        return ladder_manifests.index_reports(lane, current_ladder(self._hub, stream, CMAF).cmaf, up)

    async def _first_rung(self, request: Request, stream: Stream, name: str, path: str) -> Response:
        try:
            rendition = await self._hub.wait(name, FIRST_WAIT)
        except NoSuchStream:
            return service_unavailable(f"{name} has not begun yet", 1)
        except AtCapacity as error:
            return service_unavailable(str(error), 5)
        answer = self._rung(request, stream, rendition, path)
        return answer if isinstance(answer, Response) else await answer

    # ---- waiting for all rungs ----

    def _showable(self, stream: Stream, output: CmafPackager, manifest: _Manifest) -> bool:
        if not manifest.there(output, []):
            return False
        if stream in self._settled:
            return True
        view = current_ladder(self._hub, stream, CMAF)
        if not (manifest.there(output, view.cmaf) and view.whole) and not self._impatient(stream):
            return False
        self._settled.add(stream)
        return True

    def _enough(self, stream: Stream, view: LadderView) -> bool:
        """Whether to show the ladder in its present state."""
        if view.whole:
            self._since.pop(stream, None)
        return view.whole or self._impatient(stream)

    def _impatient(self, stream: Stream) -> bool:
        """Whether missing rungs were waited for long enough, or waiting is useless."""
        if stream.ended is not None or failure(stream) is not None:
            return True
        now = self._clock()
        return now - self._since.setdefault(stream, now) >= _TIMEOUT

    async def _first_index(self, stream: Stream, form: LadderFormat, suffix: str) -> Response:
        end = self._clock() + FIRST_WAIT
        while True:
            view = current_ladder(self._hub, stream, form)
            left = end - self._clock()
            if view.steps and (self._enough(stream, view) or left <= 0):
                return _index(view, suffix)
            if stream.ended is not None:
                return text(404, f"{stream.name} is not streaming live now")
            if (reason := failure(stream)) is not None:
                return text(404, f"{OUTPUT} cannot carry {stream.name}: {reason}")
            if left <= 0:
                return service_unavailable(f"the ladder of {stream.name} has no segment yet", 1)
            try:
                await wait_for_rendition(self._hub, stream, form, view, min(left, 1.0))
            except AtCapacity as error:
                return service_unavailable(str(error), 5)


def _lost(stream: Stream, rendition: Stream, path: str) -> bool:
    """Whether to refuse a rung's playlist, so that players of the source's ladder change to another rung at once.

    True if the rung has ended and the source has not: players would take that for the end of everything.
    Also true if the rung is as far behind as one whose worker died.
    """
    if stream.ended is not None:
        return False
    if rendition.ended is not None:
        return True
    if path == "index.m3u8" or stream.outputs is None or rendition.outputs is None:
        return False  # `index.m3u8` has no source to change to
    source, rung = stream.outputs.get("cmaf"), rendition.outputs.get("cmaf")
    return (
        isinstance(source, CmafPackager)
        and isinstance(rung, CmafPackager)
        and ladder_manifests.lags_too_far(source, rung)
    )


def _source(stream: Stream) -> CmafTrack | None:
    """Returns the picture track of a source that is still running."""
    output = stream.outputs.get("cmaf") if stream.outputs is not None else None
    if not isinstance(output, CmafPackager) or output.over:
        return None
    output.catch_up()
    return output.manifests.track("video")


def _index(view: LadderView, suffix: str) -> Response:
    """Returns the index; it is cached with the first rung, for these rungs."""
    output = view.steps[0][1]
    assert isinstance(output, TsPackager | CmafPackager)  # the only two formats
    ts = isinstance(output, TsPackager)

    def make() -> str:
        return ladder_manifests.ts_index(view.ts) if ts else ladder_manifests.cmaf_index(view.cmaf)

    return _cached_response(output.cache, ("index", view.names), make, M3U8, media_playlist.with_suffix, suffix)


def _cached_response(
    cache: dict[object, object],
    key: tuple[object, ...],
    make: Callable[[], str],
    kind: str,
    finish: Callable[[str, str], bytes],
    suffix: str,
    *,
    timely: bool = False,
) -> Response:
    """Returns the cached response for `key`, or makes it; made again only if a query, or the time, is inserted."""
    plain = (*key, "answer")
    answer = cache.get(plain) if not suffix else None
    if isinstance(answer, Response):
        return answer
    template = cache.get(key)
    if not isinstance(template, str):
        template = cache[key] = make()
    answer = Response(200, finish(template, suffix), kind, cache=PLAYLIST_CACHE, compress=True)
    if not suffix and not timely:
        cache[plain] = answer
    return answer
