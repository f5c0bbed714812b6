"""A ladder over HTTP: `index.m3u8`, a folder for each rendition, and the source's manifests with all renditions."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

from gateway.channels.names import is_stream_name
from gateway.http.request import Request
from gateway.http.response import Answer, Response, Takeover, service_unavailable, text
from gateway.live.stream import Stream, StreamKind
from gateway.media.caption_track import CAPTIONS_FOLDER
from gateway.packaging import ladder_manifests
from gateway.packaging.cmaf.packager import CmafPackager
from gateway.packaging.cmaf.track import CmafTrack
from gateway.packaging.ladder_manifests import CmafRendition
from gateway.packaging.ts.packager import TsPackager
from gateway.playback import cmaf, formats, hls
from gateway.playback.captions import captions
from gateway.playback.dash import cached_manifest
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.ladder_view import (
    CMAF,
    OUTPUT,
    TS,
    LadderFormat,
    LadderView,
    current_ladder,
    has_ladder,
    ladder_format,
    transcoder_failure,
    wait_for_rendition,
)
from gateway.playback.play_format import LIVE_M3U8, MANIFEST, MASTER, AnswerOrAwaitable, PlayFormat, Responder
from gateway.playback.playable_streams import PlayableStreams
from gateway.playback.playlist_response import (
    FIRST_WAIT,
    EventualResponse,
    cached_playlist,
    copied_query,
    not_enabled,
    not_streaming,
    playlist,
)
from gateway.playback.rewind import Rewind
from gateway.ports.errors import AtCapacity, NoSuchStream

_TIMEOUT: Final = 8.0  # seconds to wait for all renditions; afterwards, the existing ones are listed


@dataclass(frozen=True, slots=True)
class _LadderManifest:
    """One of the source's manifests that list its ladder.

    is_ready: whether a player can start with the current `text`. answer: returns the cached answer with this text.
    """

    is_ready: Callable[[CmafPackager, Sequence[CmafRendition]], bool]
    text: Callable[[CmafPackager, Sequence[CmafRendition]], str]
    answer: Callable[[dict[object, object], object, str, Callable[[], str]], Response]


_MANIFESTS: Final = {
    MASTER: _LadderManifest(lambda source, steps: source.ready, ladder_manifests.master, cached_playlist),
    MANIFEST: _LadderManifest(ladder_manifests.is_playable, ladder_manifests.manifest, cached_manifest),
}


@dataclass(eq=False, slots=True)
class LadderPlayback:
    """Answers for source streams with the output `codec`. For other streams, `cmaf` answers without a ladder.

    The first answers wait for all renditions, so that a player that fetches only once knows all of them.
    Texts are cached in a packager. They are written once per change of this packager.

    rewind: answers for playlists that reach back; None: this node records nothing.
    """

    hub: PlayableStreams
    viewers: HttpViewers
    clock: Callable[[], float] = time.monotonic
    rewind: Rewind | None = None
    # When a rendition was first missing, seconds of `clock`.
    _waiting_since: WeakKeyDictionary[Stream, float] = field(default_factory=WeakKeyDictionary, init=False)
    # Sources whose manifests do not wait any more.
    _complete: WeakSet[Stream] = field(default_factory=WeakSet, init=False)

    # ---- responders: (request, a source stream, the path below it) ----

    def responder(self, format: PlayFormat) -> Responder | None:
        """Returns the responder of a format. For CMAF, it lists the source's ladder."""
        if format is formats.HLS and self.rewind is not None:
            return self.rewind.hls
        return self.cmaf if format is formats.CMAF else format.load().respond

    def index(self, request: Request, stream: Stream, rest: str) -> EventualResponse:
        """Answers `index.m3u8`."""
        if self.rewind is not None and request.raw_query:
            answer = self.rewind.master(request, stream)
            if answer is not None:
                return answer
        suffix = copied_query(request)
        if isinstance(suffix, Response):
            return suffix
        if not has_ladder(stream):
            return self._captions_index(request, stream)
        format = ladder_format(stream)
        if not stream.has_output(OUTPUT) and not stream.has_output(format[0]):
            return not_enabled(format[0], stream.name)
        if format is CMAF and stream.pushed_tracks:
            return self.cmaf(request, stream, MASTER)
        ladder = current_ladder(self.hub, stream, format)
        if ladder.is_listable and self._check_complete(stream, ladder):
            return _index(ladder, suffix)
        return self._first_index(stream, format, suffix)

    def _captions_index(self, request: Request, stream: Stream) -> EventualResponse:
        """Answers `index.m3u8` of a stream without a ladder: it only adds the captions to `live.m3u8`."""
        if not stream.captions.texts or not stream.has_output(TS[0]):
            return not_enabled(OUTPUT, stream.name)

        def render(output: TsPackager, suffix: str) -> Response:
            return cached_playlist(output.cache, "index", suffix, lambda: ladder_manifests.ts_index([], output))

        return playlist(request, stream, *TS, render)

    def rendition(self, request: Request, stream: Stream, rest: str) -> AnswerOrAwaitable:
        """Answers for the folder of a rendition: `index.m3u8`, and the segments and tracks of its stream."""
        name, _, path = rest.partition("/")
        full = f"{stream.name}@{name}"
        if not stream.is_source or not is_stream_name(full):
            return text(404, "not found")
        if not has_ladder(stream):
            return not_enabled(OUTPUT, stream.name)
        rendition = self.hub.find_recent(full)
        if rendition is not None:
            if path.endswith("index.m3u8") and _is_lost(stream, rendition, path):
                return text(404, f"{name} of {stream.name} is not available now")
            return self._rendition(request, stream, rendition, path)
        if stream.ended is None and path.endswith("index.m3u8"):
            ladder = current_ladder(self.hub, stream, ladder_format(stream))
            if name in ladder.missing or not (ladder.is_known or transcoder_failure(stream)):
                return self._first_rendition(request, stream, full, path)
        return text(404, f"there is no {name} of {stream.name}")

    def cmaf(self, request: Request, stream: Stream, rest: str) -> EventualResponse:
        """Answers for the source's CMAF, with the renditions in `master.m3u8` and `manifest.mpd`."""
        manifest = _MANIFESTS.get(rest)
        if rest == MASTER and self.rewind is not None and request.raw_query:
            answer = self.rewind.master(request, stream)
            if answer is not None:
                return answer
        if not has_ladder(stream):
            return cmaf.cmaf(request, stream, rest)
        if manifest is None:
            return cmaf.cmaf(request, stream, rest, reports=self._reports(stream, "../"))
        key = ("ladder", rest)

        def is_ready(output: CmafPackager) -> bool:
            return key in output.cache or self._check_ready(stream, output, manifest)

        def render(output: CmafPackager, suffix: str) -> Response:
            def make() -> str:
                return manifest.text(output, current_ladder(self.hub, stream, CMAF).renditions)

            return manifest.answer(output.cache, key, suffix, make)

        return playlist(request, stream, "cmaf", CmafPackager, render, is_ready)

    # ---- renditions ----

    def _rendition(self, request: Request, stream: Stream, rendition: Stream, path: str) -> AnswerOrAwaitable:
        if path.startswith(f"{CAPTIONS_FOLDER}/"):
            return captions(request, rendition, path)
        index = path == "index.m3u8"
        ts = path.endswith(".ts") or (index and ladder_format(stream) is TS)
        if rendition.spec.kind is StreamKind.PUSHED_TRACK and not stream.has_output(TS[0] if ts else CMAF[0]):
            return not_enabled(TS[0] if ts else CMAF[0], stream.name)
        answering: AnswerOrAwaitable
        if ts:
            answering = hls.hls(request, rendition, LIVE_M3U8 if index else path)
        elif index:
            answering = hls.low_latency_playlist(
                request, rendition, "video", above=True, reports=lambda track: self._index_reports(stream, track, "../")
            )
        else:
            reports = self._reports(stream, "../../")
            if path == "audio/index.m3u8" and ladder_format(stream) is CMAF:
                reports = lambda track: self._index_reports(stream, track, "../../")  # noqa: E731
            full = path if "/" in path else f"video/{path}"
            answering = cmaf.cmaf(request, rendition, full, _source_track(stream), reports)
        if stream.ended is not None:
            return answering
        return self.viewers.follow(request, stream, "hls" if ts else "cmaf", path, answering)

    def _reports(self, stream: Stream, path_prefix: str) -> hls.Reports | None:
        """Returns the rendition reports of the tracks in `master.m3u8`.

        path_prefix: path from a track's folder to the source's folder.
        """
        source = stream.output("cmaf")
        if not isinstance(source, CmafPackager):
            return None
        return lambda track: ladder_manifests.master_reports(
            track, source, current_ladder(self.hub, stream, CMAF).renditions, path_prefix
        )

    def _index_reports(self, stream: Stream, track: CmafTrack, path_prefix: str) -> str:
        """Returns the rendition reports of the tracks in `index.m3u8`."""
        return ladder_manifests.index_reports(track, current_ladder(self.hub, stream, CMAF).renditions, path_prefix)

    async def _first_rendition(self, request: Request, stream: Stream, name: str, path: str) -> Answer:
        try:
            rendition = await self.hub.wait(name, FIRST_WAIT)
        except NoSuchStream:
            return service_unavailable(f"{name} has not begun yet", 1)
        except AtCapacity as error:
            return service_unavailable(str(error), 5)
        answer = self._rendition(request, stream, rendition, path)
        return answer if isinstance(answer, Response | Takeover) else await answer

    # ---- waiting for all renditions ----

    def _check_ready(self, stream: Stream, output: CmafPackager, manifest: _LadderManifest) -> bool:
        """Returns whether to send a manifest now. Remembers the sources whose manifests need not wait any more."""
        if not manifest.is_ready(output, []):
            return False
        if stream in self._complete:
            return True
        ladder = current_ladder(self.hub, stream, CMAF)
        if not (manifest.is_ready(output, ladder.renditions) and ladder.is_complete) and not self._check_wait(stream):
            return False
        self._complete.add(stream)
        return True

    def _check_complete(self, stream: Stream, ladder: LadderView[Any]) -> bool:
        """Returns whether to send the ladder in its current state. Ends the wait if no rendition is missing."""
        if ladder.is_complete:
            self._waiting_since.pop(stream, None)
        return ladder.is_complete or self._check_wait(stream)

    def _check_wait(self, stream: Stream) -> bool:
        """Returns whether the wait for missing renditions was long enough, or is useless. The first call begins it."""
        if stream.ended is not None or transcoder_failure(stream) is not None:
            return True
        now = self.clock()
        return now - self._waiting_since.setdefault(stream, now) >= _TIMEOUT

    async def _first_index(self, stream: Stream, format: LadderFormat, suffix: str) -> Response:
        end = self.clock() + FIRST_WAIT
        while True:
            ladder = current_ladder(self.hub, stream, format)
            remaining = end - self.clock()
            if ladder.is_listable and (self._check_complete(stream, ladder) or remaining <= 0):
                return _index(ladder, suffix)
            if stream.ended is not None:
                return not_streaming(stream.name)
            if (reason := transcoder_failure(stream)) is not None:
                return text(404, f"{OUTPUT} cannot carry {stream.name}: {reason}")
            if remaining <= 0:
                return service_unavailable(f"the ladder of {stream.name} has no segment yet", 1)
            try:
                await wait_for_rendition(self.hub, stream, format, ladder, min(remaining, 1.0))
            except AtCapacity as error:
                return service_unavailable(str(error), 5)


def _is_lost(stream: Stream, rendition: Stream, path: str) -> bool:
    """Whether to refuse a rendition's playlist, so that players change to another rendition at once.

    True if the rendition has ended and the source has not. Players would treat this as the end of the stream.
    Also true if the rendition is so late that its worker must have died.
    """
    if stream.ended is not None:
        return False
    if rendition.ended is not None:
        return True
    if path == "index.m3u8":
        return False  # this ladder does not list the source
    source, output = stream.output("cmaf"), rendition.output("cmaf")
    if not isinstance(source, CmafPackager) or not isinstance(output, CmafPackager):
        return False
    return ladder_manifests.lags_too_far(source, output)


def _source_track(stream: Stream) -> CmafTrack | None:
    """Returns the video track of a source that is still running."""
    output = stream.output("cmaf")
    if not isinstance(output, CmafPackager) or output.over:
        return None
    output.catch_up()
    return output.manifests.track("video")


def _index(ladder: LadderView[Any], suffix: str) -> Response:
    """Returns the index. It is cached in the packager of the first rendition, for these renditions."""
    output = ladder.renditions[0].packager if ladder.renditions else ladder.source
    assert isinstance(output, TsPackager | CmafPackager)  # the only two formats

    def make() -> str:
        if isinstance(output, CmafPackager):
            return ladder_manifests.cmaf_index(ladder.renditions)
        return ladder_manifests.ts_index(ladder.renditions, ladder.source, ladder.audio)

    key = ("index", ladder.names, ladder.source is not None, tuple(ladder.audio))
    return cached_playlist(output.cache, key, suffix, make)
