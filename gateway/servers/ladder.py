"""A ladder by HTTP: `index.m3u8`, its rungs in folders of their own, and the source's manifests with all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary, WeakSet

from gateway.formats.dash import mpd
from gateway.formats.hls import media
from gateway.hub.errors import AtCapacity, NoSuchStream
from gateway.hub.names import is_stream_name
from gateway.hub.stream import Stream
from gateway.packagers import ladder
from gateway.packagers.cmaf import CmafPackager
from gateway.packagers.ladder import CmafStep
from gateway.packagers.lane import Lane
from gateway.packagers.ts import TsPackager
from gateway.servers import cmaf, hls
from gateway.servers.audience import Audience
from gateway.servers.dash import MPD
from gateway.servers.request import Request
from gateway.servers.response import Response, text, try_later
from gateway.servers.rungs import CMAF, OUTPUT, TS, Form, Streams, View, failure, form_of, look, nearer
from gateway.servers.segmented import FIRST_WAIT, LIVE, M3U8, Answering, copied_query, playlist

_PATIENCE: Final = 8.0  # seconds for which all rungs are waited for; after that, those there are are shown


@dataclass(frozen=True, slots=True)
class _Manifest:
    """One of the source's manifests that show its ladder.

    there: whether a player can begin with what `text` would say; finish: its bytes, with a query in every URI; timely:
    they tell the present time.
    """

    there: Callable[[CmafPackager, list[CmafStep]], bool]
    text: Callable[[CmafPackager, list[CmafStep]], str]
    finish: Callable[[str, str], bytes]
    type: str
    timely: bool = False


_MANIFESTS: Final = {
    "master.m3u8": _Manifest(lambda source, steps: source.ready, ladder.master, media.with_suffix, M3U8),
    "manifest.mpd": _Manifest(
        ladder.joinable, ladder.manifest, lambda text, suffix: mpd.finish(text, suffix, time.time()), MPD, timely=True
    ),
}


class Ladders:
    """Answers for source streams with the output `codec`; for others `cmaf` does what it does without a ladder.

    The first answers wait until all rungs are there, so that a player that looks once sees all of them. Texts are made
    once per change of the packager beside which they are kept.
    """

    def __init__(self, hub: Streams, audience: Audience, clock: Callable[[], float] = time.monotonic) -> None:
        self._hub = hub
        self._audience = audience
        self._clock = clock
        self._since: WeakKeyDictionary[Stream, float] = WeakKeyDictionary()  # when a rung was missed first
        self._settled: WeakSet[Stream] = WeakSet()  # sources whose manifests wait no more

    # ---- responders: (request, a source stream, the path below it) ----

    def index(self, request: Request, stream: Stream, rest: str) -> Answering:
        """`index.m3u8`."""
        suffix = copied_query(request)
        if isinstance(suffix, Response):
            return suffix
        form = form_of(stream)
        view = look(self._hub, stream, form)
        if view.steps and self._enough(stream, view):
            return _index(view, suffix)
        return self._first_index(stream, form, suffix)

    def rung(self, request: Request, stream: Stream, rest: str) -> Answering:
        """What lies in a rung's folder: `index.m3u8`, and whatever its stream has of segments and tracks."""
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
            view = look(self._hub, stream, form_of(stream))
            if name in view.waits or not (view.known or failure(stream)):
                return self._first_rung(request, stream, full, path)
        return text(404, f"there is no {name} of {stream.name}")

    def cmaf(self, request: Request, stream: Stream, rest: str) -> Answering:
        """The source's CMAF, its rungs in `master.m3u8` and `manifest.mpd`."""
        manifest = _MANIFESTS.get(rest)
        if manifest is None or stream.outputs is None or not stream.outputs.enabled(OUTPUT):
            return cmaf.cmaf(request, stream, rest)
        key = ("ladder", rest)

        def there(output: CmafPackager) -> bool:
            return key in output.cache or self._showable(stream, output, manifest)

        def render(output: CmafPackager, suffix: str) -> Response:
            def make() -> str:
                return manifest.text(output, look(self._hub, stream, CMAF).cmaf)

            return _kept(output.cache, key, make, manifest.type, manifest.finish, suffix, timely=manifest.timely)

        return playlist(request, stream, "cmaf", CmafPackager, render, there)

    # ---- rungs ----

    def _rung(self, request: Request, stream: Stream, rendition: Stream, path: str) -> Answering:
        index = path == "index.m3u8"
        ts = path.endswith(".ts") or (index and form_of(stream) is TS)
        if stream.ended is None:
            self._audience.saw(request, stream, "hls" if ts else "cmaf")
        if ts:
            return hls.hls(request, rendition, "live.m3u8" if index else path)
        if index:
            return hls.media_playlist(request, rendition, "video", above=True)
        return cmaf.cmaf(request, rendition, path if "/" in path else f"video/{path}", _source(stream))

    async def _first_rung(self, request: Request, stream: Stream, name: str, path: str) -> Response:
        try:
            rendition = await self._hub.wait(name, FIRST_WAIT)
        except NoSuchStream:
            return try_later(f"{name} has not begun yet", 1)
        except AtCapacity as error:
            return try_later(str(error), 5)
        answer = self._rung(request, stream, rendition, path)
        return answer if isinstance(answer, Response) else await answer

    # ---- waiting for all rungs ----

    def _showable(self, stream: Stream, output: CmafPackager, manifest: _Manifest) -> bool:
        if not manifest.there(output, []):
            return False
        if stream in self._settled:
            return True
        view = look(self._hub, stream, CMAF)
        if not (manifest.there(output, view.cmaf) and view.whole) and not self._impatient(stream):
            return False
        self._settled.add(stream)
        return True

    def _enough(self, stream: Stream, view: View) -> bool:
        """Whether the ladder is to be shown as it is."""
        if view.whole:
            self._since.pop(stream, None)
        return view.whole or self._impatient(stream)

    def _impatient(self, stream: Stream) -> bool:
        """Whether missing rungs were waited for long enough, or for nothing."""
        if stream.ended is not None or failure(stream) is not None:
            return True
        now = self._clock()
        return now - self._since.setdefault(stream, now) >= _PATIENCE

    async def _first_index(self, stream: Stream, form: Form, suffix: str) -> Response:
        end = self._clock() + FIRST_WAIT
        while True:
            view = look(self._hub, stream, form)
            left = end - self._clock()
            if view.steps and (self._enough(stream, view) or left <= 0):
                return _index(view, suffix)
            if stream.ended is not None:
                return text(404, f"{stream.name} is not streaming live now")
            if (reason := failure(stream)) is not None:
                return text(404, f"{OUTPUT} cannot carry {stream.name}: {reason}")
            if left <= 0:
                return try_later(f"the ladder of {stream.name} has no segment yet", 1)
            try:
                await nearer(self._hub, stream, form, view, min(left, 1.0))
            except AtCapacity as error:
                return try_later(str(error), 5)


def _lost(stream: Stream, rendition: Stream, path: str) -> bool:
    """Whether a rung's playlist is to be refused so that players of the source's ladder change over at once: it has
    ended and the source has not (players would take that for the end of all), or is behind as one whose worker died."""
    if stream.ended is not None:
        return False
    if rendition.ended is not None:
        return True
    if path == "index.m3u8" or stream.outputs is None or rendition.outputs is None:
        return False  # of `index.m3u8`, which has no source to change to
    source, rung = stream.outputs.get("cmaf"), rendition.outputs.get("cmaf")
    return isinstance(source, CmafPackager) and isinstance(rung, CmafPackager) and ladder.behind(source, rung)


def _source(stream: Stream) -> Lane | None:
    """The picture of a source that goes on."""
    output = stream.outputs.get("cmaf") if stream.outputs is not None else None
    if not isinstance(output, CmafPackager) or output.over:
        return None
    output.catch_up()
    return output.lane("video")


def _index(view: View, suffix: str) -> Response:
    """Kept beside the first rung, for these rungs."""
    output = view.steps[0][1]
    assert isinstance(output, TsPackager | CmafPackager)  # the forms there are
    ts = isinstance(output, TsPackager)

    def make() -> str:
        return ladder.ts_index(view.ts) if ts else ladder.cmaf_index(view.cmaf)

    return _kept(output.cache, ("index", view.names), make, M3U8, media.with_suffix, suffix)


def _kept(
    cache: dict[object, object],
    key: tuple[object, ...],
    make: Callable[[], str],
    kind: str,
    finish: Callable[[str, str], bytes],
    suffix: str,
    *,
    timely: bool = False,
) -> Response:
    """What was made for `key` since the cache was emptied; made anew only where a query, or the time, is put in."""
    plain = (*key, "answer")
    answer = cache.get(plain) if not suffix else None
    if isinstance(answer, Response):
        return answer
    template = cache.get(key)
    if not isinstance(template, str):
        template = cache[key] = make()
    answer = Response(200, finish(template, suffix), kind, cache=LIVE, compress=True)
    if not suffix and not timely:
        cache[plain] = answer
    return answer
