"""Common parts of HLS and DASH answers: finds the packager, copies the query, waits for the first playlist.

The § numbers refer to HLS (RFC 8216bis).
"""

import math
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from gateway.formats.hls import media_playlist
from gateway.http.request import Request, parameters
from gateway.http.response import Response, service_unavailable, text
from gateway.lib.gate import Gate
from gateway.lib.numbers import read_integer
from gateway.live.stream import Stream, StreamState
from gateway.packaging.packager import Packager
from gateway.packaging.segment_window import Segment

EventualResponse: TypeAlias = "Response | Coroutine[Any, Any, Response]"

M3U8: Final = "application/vnd.apple.mpegurl"
SEGMENT_CACHE: Final = "public, max-age=600, immutable"  # a name is never used for another segment
PLAYLIST_CACHE: Final = "no-cache"
HOLD: Final = 3  # Target Durations for which a request for the next item is held (HLS §6.2.5.2)
MAX_LINGER: Final = 60.0  # additional seconds for which a request is held while no publisher is connected
FIRST_WAIT: Final = 12.0  # seconds that a request waits for the first playlist of a new stream (segmenter.FIRST_CUT)

REWIND: Final = "rewind="  # the parameter with the length of a playlist that reaches back
CMCD: Final = "CMCD="  # the parameter with data of the player itself (CTA-5004)
_REWIND: Final = re.compile(rf"(?:^|&){REWIND}([^&]*)")
_MAX_REWIND: Final = 10**9 - 1  # seconds
MAX_NUMBER: Final = 10**12 - 1  # of a segment or a part, in the directives of a request
_TOO_LONG: Final = text(414, "the query is too long")
_BAD_REWIND: Final = text(400, "rewind is a whole number of seconds")
# `rewind` is rounded up to these seconds, so that viewers share playlists; from _COARSE_FROM on, to _COARSE_STEP.
_FINE_STEP, _COARSE_STEP, _COARSE_FROM = 10, 60, 600
MAX_QUERY = 2048  # characters; the query is copied to every URI of a playlist
_MAX_COPIES: Final = 16 << 20  # bytes of all copies in one playlist
_UNSAFE = re.compile(r"[^A-Za-z0-9\-._~!$&'()*+,;=:@/?%]")

P = TypeVar("P", bound=Packager)


def not_streaming(name: str) -> Response:
    return text(404, f"{name} is not streaming live now")


def not_enabled(output: str, name: str) -> Response:
    return text(404, f"{output} is not enabled for {name}")


def packager(stream: Stream, name: str, packager_type: type[P]) -> P | Response:
    """Returns the output `name` of a stream, or an answer with the reason if it is unavailable."""
    if not stream.has_output(name):
        return not_enabled(name, stream.name)
    output = stream.output(name)
    if not isinstance(output, packager_type):
        return service_unavailable(f"{name} of {stream.name} is starting", 1)
    output.catch_up()
    if output.refused is not None:
        return text(404, f"{name} cannot carry {stream.name}: {output.refused}")
    return output


def is_refused(output: object) -> bool:
    """Whether an output cannot carry the codecs of its stream."""
    return isinstance(output, Packager) and output.refused is not None


def start_output(stream: Stream, name: str) -> bool:
    """Starts the enabled output `name` if it waits for its first request. Returns whether a player can use it now."""
    output = stream.output(name)
    if not isinstance(output, Packager):
        return output is not None
    output.catch_up()
    return output.ready and output.refused is None


def segment_response(segment: Segment, content_type: str) -> Response:
    """Returns the response for a complete segment. All requests share it."""
    response = segment.served
    if not isinstance(response, Response):
        response = segment.served = Response(200, segment.body(), content_type, cache=SEGMENT_CACHE).kept()
    return response


def playlist(
    request: Request,
    stream: Stream,
    name: str,
    packager_type: type[P],
    render: Callable[[P, str], EventualResponse],
    is_ready: Callable[[P], bool] = lambda output: output.ready,
) -> EventualResponse:
    """Answers with a playlist or manifest of the output `name`: `render(output, suffix)`, as soon as `is_ready`.

    suffix: the query to add to every URI in it, see `copied_query`. For a new stream, the answer waits.
    """
    output = packager(stream, name, packager_type)
    if isinstance(output, Response):
        return output
    suffix = copied_query(request)
    if isinstance(suffix, Response):
        return suffix
    if is_ready(output):
        return render(output, suffix)
    return _first_playlist(output, stream, name, lambda: is_ready(output), lambda: render(output, suffix))


async def _first_playlist(
    output: Packager, stream: Stream, name: str, is_ready: Callable[[], bool], render: Callable[[], EventualResponse]
) -> Response:
    if await output.changed.until(lambda: is_ready() or output.stopped, FIRST_WAIT) and is_ready():
        answer = render()
        return answer if isinstance(answer, Response) else await answer
    if output.refused is not None:
        return text(404, f"{name} cannot carry {stream.name}: {output.refused}")
    if output.stopped:
        return not_streaming(stream.name)
    return service_unavailable(f"{name} of {stream.name} has no segment yet", 1)


def cached_text(cache: dict[object, object], key: object, make: Callable[[], str]) -> str:
    """Returns the text with this key. It is written once per change. cache: of its packager."""
    found = cache.get(key)
    if not isinstance(found, str):
        found = cache[key] = make()
    return found


def cached_playlist(
    cache: dict[object, object], key: object, suffix: str, make: Callable[[], str], control: str = PLAYLIST_CACHE
) -> Response:
    """Returns the answer with a playlist. It is made once per change, and again only if a query is copied into it.

    cache, key: see `cached_text`. make: writes the playlist, with media_playlist.MARK after its URIs.
    control: its Cache-Control.
    """
    answer = cache.get((key, control)) if not suffix else None
    if isinstance(answer, Response):
        return answer
    made = cached_text(cache, key, make)
    if suffix and (refusal := refuse_copies(suffix, made.count(media_playlist.MARK))) is not None:
        return refusal
    body = media_playlist.with_suffix(made, suffix)
    answer = Response(200, body, M3U8, cache=control, compress=True).kept(not suffix)
    if not suffix:
        cache[key, control] = answer
    return answer


async def wait_until(
    output: Packager, changed: Gate, seconds: float, stream: Stream, is_ready: Callable[[], bool]
) -> bool:
    """Waits for `is_ready()`, at most `seconds`, or until the end of the linger time while no publisher is connected.

    For requests that players send by the clock. A player treats an error as a broken stream, and asks again at once.
    """
    # A round waits `seconds`. Another round follows only if no publisher was connected at its begin or end.
    rounds = math.ceil(MAX_LINGER / max(seconds, 0.1))
    lingering = True
    while lingering and rounds:
        rounds -= 1
        lingering = stream.state is StreamState.LINGERING
        if await changed.until(lambda: is_ready() or output.over, seconds):
            return is_ready()
        lingering = lingering or stream.state is StreamState.LINGERING
    return False


def own_query(request: Request) -> str:
    """Returns the parameters that identify a viewer: without the player's directives, its data (CMCD) and REWIND."""
    raw = request.raw_query
    if not raw:
        return ""
    return "&".join([p for p in raw.split("&") if p and not p.startswith(("_HLS_", CMCD, REWIND))])


def copied_query(request: Request) -> str | Response:
    """Returns the query to add to every URI of a playlist: the request's query without delivery directives, or "".

    So the signature of a protected playlist is also sent with its segments. The player's own data (CMCD) are left out,
    because it sends new ones with each request. REWIND is left out too, because segments do not depend on it.
    Characters that could end a URI, an attribute or a line are escaped.
    """
    query = own_query(request)
    if len(query) > MAX_QUERY:
        return _TOO_LONG
    return "?" + _UNSAFE.sub(lambda m: "".join(f"%{b:02X}" for b in m[0].encode()), query) if query else ""


def refuse_copies(suffix: str, uris: int) -> Response | None:
    """Returns the refusal of a query that would make a long playlist too large, see `copied_query`; None: it may."""
    return _TOO_LONG if len(suffix) * uris > _MAX_COPIES else None


def rewind_seconds(request: Request) -> int | Response:
    """Returns the seconds of the parameter `rewind`, rounded up so that many viewers share one playlist; 0 without it.

    Returns 400 for a bad value.
    """
    if REWIND not in request.raw_query:
        return 0
    match = _REWIND.search(request.raw_query)
    if match is None:
        return 0
    seconds = read_integer(match[1], _MAX_REWIND)
    if seconds is None:
        return _BAD_REWIND
    step = _FINE_STEP if seconds < _COARSE_FROM else _COARSE_STEP
    return -(-seconds // step) * step


def directives(request: Request) -> dict[str, str]:
    """Returns the `_HLS_` parameters of a request (§6.2.5)."""
    if "_HLS_" not in request.raw_query:
        return {}
    return {name: value for name, value in parameters(request.raw_query) if name.startswith("_HLS_")}


@dataclass(frozen=True, slots=True)
class Directives:
    """The delivery directives of a request. segment, part: what it waits for; None: nothing. skip: a delta update."""

    segment: int | None
    part: int | None
    skip: bool


def read_directives(request: Request) -> Directives | Response:
    """Returns the delivery directives of a request; 400 for bad ones."""
    values = directives(request)
    skip, msn, index = values.get("_HLS_skip") in ("YES", "v2"), values.get("_HLS_msn"), values.get("_HLS_part")
    if msn is None:
        if index is not None:
            # §6.2.5.2: "_HLS_part … REQUIRES" _HLS_msn.
            return text(400, "_HLS_part without _HLS_msn")
        return Directives(None, None, skip)
    segment = read_integer(msn, MAX_NUMBER)
    part = None if index is None else read_integer(index, MAX_NUMBER)
    if segment is None or (index is not None and part is None):
        return text(400, "_HLS_msn and _HLS_part are whole numbers")
    return Directives(segment, part, skip)
