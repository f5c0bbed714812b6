"""The response of a handler. Its head is rendered once, even if the response is sent many times."""

from __future__ import annotations

import asyncio
import gzip
import http
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

from gateway.http.connection_slot import ConnectionSlot
from gateway.http.request import Request

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
NO_SNIFF: Final = "X-Content-Type-Options: nosniff"  # media of publishers are never read as pages
IMMUTABLE: Final = "public, max-age=31536000, immutable"
# RFC 9110 §15.3.7, §15.4.5: 206 and 304 have it if the 200 has it.
VARY: Final = {"Vary": "Accept-Encoding"}
_PHRASES: Final = {s.value: s.phrase for s in http.HTTPStatus}
_EXPOSED: Final = "Age, Content-Length, Content-Range, Content-Type, Date, ETag, Retry-After"
_ALSO_EXPOSED: Final = ("Link", "Location")  # in the answers that have them
# "*" does not include Authorization (Fetch standard, "CORS non-wildcard request-header name").
_ALLOWED_HEADERS: Final = "*, Authorization, Content-Type, If-Match, Range"
_PREFLIGHT_SECONDS: Final = 86_400
_MIN_COMPRESSED: Final = 860  # bytes; a smaller body fits into one packet
_PLAYLIST: Final = "application/vnd.apple.mpegurl"  # Apple's rules for HLS want them compressed, whatever their size
_MAX_COMPRESSED_ON_LOOP: Final = 32 * 1024  # bytes; compression needs less than a millisecond
_RANGE = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})", re.ASCII)
_LINE = re.compile(r"[\t -~\x80-\xff]*")


class Response:
    """One response. It is treated as immutable, so that one object can answer any number of requests.

    body: bytes, an async iterator of bytes, or None.
        An iterator answers only one request. Each piece is sent immediately, chunked if `length` is None.
        None: no body (204, 304, answers to HEAD). Content-Length is sent only after `sized`.
    compress: whether to use gzip for clients that accept it.
    steady: whether all requests of its path without a query get it, until the packager of its media changes.
        Requests for media get it with any query.
    `sized`, `kept` and `precompressed` complete a new Response before its first use.
    """

    # fmt: off
    __slots__ = (
        "_date", "_end", "_gzipped", "_head", "_whole_head", "body", "cache", "compress", "content_type", "headers",
        "length", "status", "steady",
    )
    # fmt: on

    def __init__(
        self,
        status: int,
        body: bytes | AsyncIterator[bytes] | None = b"",
        content_type: str = TEXT,
        *,
        cache: str = "no-store",
        headers: Mapping[str, str] | None = None,
        compress: bool = False,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.cache = cache
        self.headers: Mapping[str, str] = headers or {}
        least = 1 if content_type == _PLAYLIST else _MIN_COMPRESSED
        self.compress = compress and isinstance(body, bytes) and len(body) >= least
        self.length = len(body) if isinstance(body, bytes) else None
        self.steady = False
        self._head: bytes | None = None
        self._date = self._end = self._whole_head = b""
        self._gzipped: Response | None = None

    def kept(self, steady: bool = True) -> Self:
        """Sets `steady`, and returns self."""
        self.steady = steady
        return self

    def sized(self, length: int | None) -> Self:
        """Sets the length of a body in pieces, or of the missing body of an answer to HEAD."""
        self.length = length
        return self

    def precompressed(self, compressed: bytes) -> Self:
        """Sets a gzip body that was compressed before, for clients that accept it."""
        self.compress, self._gzipped = True, self._with_body(compressed)
        return self

    def head(self) -> bytes:
        """Returns the status line and the headers, without Date, Connection, Transfer-Encoding and the empty line."""
        if self._head is None:
            lines = [f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, 'Unknown')}", "Server: Millrace"]
            if self.body is not None or self.length is not None:
                lines.append(f"Content-Type: {self.content_type}")
            if self.length is not None:
                lines.append(f"Content-Length: {self.length}")
            if isinstance(self.body, bytes) and self.status == 200:
                lines.append("Accept-Ranges: bytes")
            if self.compress or self.headers.get("Content-Encoding"):
                lines.append("Vary: Accept-Encoding")
            lines.append(f"Cache-Control: {self.cache}")
            lines.append(NO_SNIFF)
            lines.append("Access-Control-Allow-Origin: *")
            exposed = ", ".join((_EXPOSED, *(name for name in _ALSO_EXPOSED if name in self.headers)))
            lines.append(f"Access-Control-Expose-Headers: {exposed}")
            lines.extend(f"{name}: {value}" for name, value in self.headers.items())
            for line in lines:
                if not _LINE.fullmatch(line):
                    raise ValueError("a header must be one line of Latin-1 text")
            self._head = "\r\n".join(lines).encode("latin-1") + b"\r\n"
        return self._head

    def whole_head(self, date: bytes, end: bytes) -> bytes:
        """Returns the complete head. date: the Date header. end: the Connection header, and the empty line. Hot path.

        It is remembered while both are the same objects.
        """
        if self._date is not date or self._end is not end:
            self._whole_head, self._date, self._end = self.head() + date + end, date, end
        return self._whole_head

    @property
    def slow_to_compress(self) -> bool:
        """Whether `gzipped` would block the loop. Then it must be called in a thread first."""
        return self.compress and self._gzipped is None and (self.length or 0) > _MAX_COMPRESSED_ON_LOOP

    def gzipped(self) -> Response:
        """Returns this response with a compressed body; self if that is not smaller. Compresses only once."""
        if self._gzipped is None:
            assert isinstance(self.body, bytes)  # compress is set only for bytes
            body = gzip.compress(self.body, 6 if len(self.body) < 100_000 else 4, mtime=0)
            self._gzipped = self if len(body) >= len(self.body) else self._with_body(body)
        return self._gzipped

    def _with_body(self, compressed: bytes) -> Response:
        headers = {**self.headers, "Content-Encoding": "gzip"}
        if "ETag" in headers:  # RFC 9110 §8.8.3.3: a weak ETag, because the bytes differ
            headers["ETag"] = "W/" + headers["ETag"].removeprefix("W/")
        return Response(self.status, compressed, self.content_type, cache=self.cache, headers=headers)

    def ranged(self, value: str) -> Response:
        """Returns the answer to a request with `Range: value`: 206, 416, or self if the header must be ignored."""
        body = self.body
        if not isinstance(body, bytes) or self.status != 200:
            return self
        span = byte_range(value, len(body))
        if span is None:
            return self
        first, end = span
        if first >= end:
            return unsatisfiable(len(body))
        headers = {**self.headers, "Content-Range": f"bytes {first}-{end - 1}/{len(body)}"}
        if self.compress:
            headers |= VARY
        return Response(206, body[first:end], self.content_type, cache=self.cache, headers=headers)


@dataclass(slots=True, eq=False)
class Takeover:
    """The handler takes over the connection. `begin(transport, rest, slot)` returns the protocol that then owns it.

    rest: bytes after the request.
    slot: the owner calls its `release` when the connection is lost.
    abandoned: called instead of `begin` if the client has already disconnected.
    """

    begin: Callable[[asyncio.Transport, bytes, ConnectionSlot], asyncio.BaseProtocol]
    abandoned: Callable[[], None] = lambda: None


Answer: TypeAlias = Response | Takeover
Handler: TypeAlias = Callable[[Request], "Answer | Coroutine[Any, Any, Answer]"]


def text(status: int, message: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """Returns a short text response that is never cached."""
    return Response(status, message.encode("utf-8", "replace") + b"\n", headers=headers)


def not_allowed(methods: str) -> Response:
    """Returns 405. methods: those of the path, for example "GET, HEAD, OPTIONS"."""
    return text(405, "this method is not served here", headers={"Allow": methods})


def preflight(methods: str, more: Mapping[str, str] | None = None) -> Response:
    """Returns the answer to OPTIONS, also to the CORS preflight of a page.

    methods: those of the path. more: additional headers.
    """
    return Response(
        204,
        None,
        headers={
            "Allow": methods,
            "Access-Control-Allow-Methods": methods,
            "Access-Control-Allow-Headers": _ALLOWED_HEADERS,
            "Access-Control-Max-Age": str(_PREFLIGHT_SECONDS),
            **(more or {}),
        },
    )


def moved(request: Request, location: str, *, status: int = 302) -> Response:
    """Returns a redirect to another address with the request's query."""
    query = f"?{request.raw_query}" if request.raw_query else ""
    return text(status, f"it is at {location}", headers={"Location": location + query})


def service_unavailable(message: str, seconds: int, status: int = 503) -> Response:
    """Returns 503 (or 429) with Retry-After."""
    return text(status, message, headers={"Retry-After": str(seconds)})


def unsatisfiable(size: int) -> Response:
    """Returns 416 for a range outside `size` bytes."""
    return text(
        416, f"the range is outside the {size} bytes of this file", headers={"Content-Range": f"bytes */{size}"}
    )


def byte_range(value: str, size: int) -> tuple[int, int] | None:
    """Returns first and end (exclusive) of a single byte range, RFC 9110 §14.2.

    If the range cannot be satisfied, first >= end. Returns None if the header must be ignored: another unit, several
    ranges, or malformed.
    """
    match = _RANGE.fullmatch(value.strip())
    if match is None or match[0] == "bytes=-":
        return None
    if not match[1]:  # the last n bytes
        count = int(match[2])
        return (max(0, size - count), size) if count else (size, size)
    first = int(match[1])
    if not match[2]:
        return first, size
    last = int(match[2])
    return None if last < first else (first, min(last + 1, size))


_WITHOUT_GZIP: Final = re.compile(r"gzip\s*;\s*q=0(?:\.0*)?\s*(?:,|$)")


def accepts_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding header allows gzip."""
    return "gzip" in accepted and not _WITHOUT_GZIP.search(accepted)
