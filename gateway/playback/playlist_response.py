"""Common parts of HLS and DASH answers: finding the packager, copying the query, waiting for the first playlist."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias, TypeVar

from gateway.http.request import Request, parameters
from gateway.http.response import Response, service_unavailable, text
from gateway.lib.gate import Gate
from gateway.live.stream import Stream, StreamState
from gateway.packaging.packager import Packager

EventualResponse: TypeAlias = "Response | Coroutine[Any, Any, Response]"

M3U8: Final = "application/vnd.apple.mpegurl"
SEGMENT_CACHE: Final = "public, max-age=600, immutable"  # names are never used twice
PLAYLIST_CACHE: Final = "no-cache"
HOLD: Final = 3  # Target Durations for which a request for the next item is held (HLS §6.2.5.2)
MAX_LINGER: Final = 60.0  # additional seconds for which a request is held while there is no publisher
FIRST_WAIT: Final = 12.0  # seconds until a new stream has its first playlist (segmenter.FIRST_CUT)

_MAX_QUERY = 2048  # it is copied to every URI of a playlist
_UNSAFE = re.compile(r"[^A-Za-z0-9\-._~!$&'()*+,;=:@/?%]")

P = TypeVar("P", bound=Packager)


def packager(stream: Stream, name: str, kind: type[P]) -> P | Response:
    """Returns the output `name` of a stream, or the answer that says why there is none."""
    outputs = stream.outputs
    if outputs is None or not outputs.enabled(name):
        return text(404, f"{name} is not enabled for {stream.name}")
    output = outputs.get(name)
    if not isinstance(output, kind):
        return service_unavailable(f"{name} of {stream.name} is starting", 1)
    output.catch_up()
    if output.refused is not None:
        return text(404, f"{name} cannot carry {stream.name}: {output.refused}")
    return output


def ready(stream: Stream, name: str) -> bool:
    """Whether the enabled output `name` has what a player needs to start; starts an output that waits for demand."""
    output = stream.outputs.get(name) if stream.outputs is not None else None
    if not isinstance(output, Packager):
        return output is not None
    output.catch_up()
    return output.ready and output.refused is None


def playlist(
    request: Request,
    stream: Stream,
    name: str,
    kind: type[P],
    render: Callable[[P, str], EventualResponse],
    there: Callable[[P], bool] = lambda output: output.ready,
) -> EventualResponse:
    """Answers for a playlist or manifest of the output `name`: `render(output, suffix)`, as soon as `there`.

    suffix: the query to add to every URI in it, see `copied_query`. For a new stream, the answer waits.
    """
    output = packager(stream, name, kind)
    if isinstance(output, Response):
        return output
    suffix = copied_query(request)
    if isinstance(suffix, Response):
        return suffix
    if there(output):
        return render(output, suffix)
    return _first_playlist(output, stream, name, lambda: there(output), lambda: render(output, suffix))


async def _first_playlist(
    output: Packager, stream: Stream, name: str, there: Callable[[], bool], render: Callable[[], EventualResponse]
) -> Response:
    if await output.changed.until(lambda: there() or output.stopped, FIRST_WAIT) and there():
        answer = render()
        return answer if isinstance(answer, Response) else await answer
    if output.refused is not None:
        return text(404, f"{name} cannot carry {stream.name}: {output.refused}")
    if output.stopped:
        return text(404, f"{stream.name} is not streaming live now")
    return service_unavailable(f"{name} of {stream.name} has no segment yet", 1)


async def wait_until(output: Packager, gate: Gate, seconds: float, stream: Stream, there: Callable[[], bool]) -> bool:
    """Waits until `there()`, at most `seconds`; while the stream lingers without a publisher, as long as it lingers.

    For requests that players make by the clock: a player takes an error for a broken stream, and asks again at once.
    """
    rounds = math.ceil(MAX_LINGER / max(seconds, 0.1))
    lingering = True
    while lingering and rounds:
        rounds -= 1
        lingering = stream.state is StreamState.LINGERING
        if await gate.until(lambda: there() or output.over, seconds):
            return there()
        lingering = lingering or stream.state is StreamState.LINGERING
    return False


def copied_query(request: Request) -> str | Response:
    """Returns the query to add to every URI of a playlist: its own query without delivery directives, or "".

    So a protected playlist's signature reaches its segments.
    Characters that could end a URI, an attribute or a line are escaped.
    """
    raw = request.raw_query
    if not raw:
        return ""
    kept = "&".join([p for p in raw.split("&") if p and not p.startswith("_HLS_")])
    if len(kept) > _MAX_QUERY:
        return text(414, "the query is too long")
    return "?" + _UNSAFE.sub(lambda m: "".join(f"%{b:02X}" for b in m[0].encode()), kept) if kept else ""


def directives(request: Request) -> dict[str, str]:
    """Returns the `_HLS_` parameters of a request (§6.2.5)."""
    if "_HLS_" not in request.raw_query:
        return {}
    return {name: value for name, value in parameters(request.raw_query) if name.startswith("_HLS_")}
