"""Response: what a handler answers, with a head that is rendered once however often the answer is sent."""

from __future__ import annotations

import asyncio
import gzip
import http
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from gateway.servers.request import Request

if TYPE_CHECKING:
    from gateway.servers.http import Lease

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
IMMUTABLE: Final = "public, max-age=31536000, immutable"
_PHRASES: Final = {s.value: s.phrase for s in http.HTTPStatus}
_EXPOSED: Final = "Content-Length, Content-Range, Content-Type, Date, ETag, Retry-After"
_LEAST_TO_COMPRESS: Final = 860  # a shorter body travels in one packet anyway
_RANGE = re.compile(r"bytes=([0-9]{0,15})-([0-9]{0,15})", re.ASCII)
_LINE = re.compile(r"[\t -~\x80-\xff]*")


class Response:
    """One answer; treated as immutable, so that one object may answer any number of requests.

    body: bytes; an async iterator of bytes (sent as it comes, chunked where `length` is None; such a Response answers
    one request only); or None (no Content-Length: 204, 304 and answers to HEAD). compress: gzip it for clients that
    accept it; packed: it is compressed already.
    """

    __slots__ = ("_gzipped", "_head", "body", "cache", "compress", "content_type", "headers", "length", "status")

    def __init__(
        self,
        status: int,
        body: bytes | AsyncIterator[bytes] | None = b"",
        content_type: str = TEXT,
        *,
        cache: str = "no-store",
        headers: Mapping[str, str] | None = None,
        compress: bool = False,
        packed: bytes | None = None,
        length: int | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.cache = cache
        self.headers: Mapping[str, str] = headers or {}
        self.compress = packed is not None or (compress and isinstance(body, bytes) and len(body) >= _LEAST_TO_COMPRESS)
        self.length = len(body) if isinstance(body, bytes) else length
        self._head: bytes | None = None
        self._gzipped: Response | None = None if packed is None else self._with(packed)

    def head(self) -> bytes:
        """Status line and headers but for Date, Connection, Transfer-Encoding and the empty line."""
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
            lines.append("Access-Control-Allow-Origin: *")
            lines.append(f"Access-Control-Expose-Headers: {_EXPOSED}")
            lines.extend(f"{name}: {value}" for name, value in self.headers.items())
            for line in lines:
                if not _LINE.fullmatch(line):
                    raise ValueError("a header must be one line of Latin-1 text")
            self._head = "\r\n".join(lines).encode("latin-1") + b"\r\n"
        return self._head

    def gzipped(self) -> Response:
        """The same with a compressed body, made once; self where that is no gain."""
        if self._gzipped is None:
            assert isinstance(self.body, bytes)  # compress is set for those alone
            body = gzip.compress(self.body, 6 if len(self.body) < 100_000 else 4, mtime=0)
            self._gzipped = self if len(body) >= len(self.body) else self._with(body)
        return self._gzipped

    def _with(self, packed: bytes) -> Response:
        headers = {**self.headers, "Content-Encoding": "gzip"}
        if "ETag" in headers:  # RFC 9110 §8.8.3.3: other bytes, the same thing
            headers["ETag"] = "W/" + headers["ETag"].removeprefix("W/")
        return Response(self.status, packed, self.content_type, cache=self.cache, headers=headers)

    def ranged(self, value: str) -> Response:
        """What answers a request with `Range: value`: 206, 416, or self where the header is to be ignored."""
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
        return Response(206, body[first:end], self.content_type, cache=self.cache, headers=headers)


class Takeover:
    """The handler takes the connection: `begin(transport, rest, lease)` returns the protocol that owns it from now on.

    rest: bytes that came behind the request. The owner calls `lease.release()` when the connection is lost.
    abandoned: called instead of `begin` where the client has gone already.
    """

    __slots__ = ("abandoned", "begin")

    def __init__(
        self,
        begin: Callable[[asyncio.Transport, bytes, Lease], asyncio.Protocol],
        abandoned: Callable[[], None] = lambda: None,
    ) -> None:
        self.begin = begin
        self.abandoned = abandoned


Answer: TypeAlias = Response | Takeover
Handler: TypeAlias = Callable[[Request], "Answer | Coroutine[Any, Any, Answer]"]


def text(status: int, message: str, *, headers: Mapping[str, str] | None = None) -> Response:
    """A short answer in words; never cached."""
    return Response(status, message.encode("utf-8", "replace") + b"\n", headers=headers)


def try_later(message: str, seconds: int, status: int = 503) -> Response:
    """503 (or 429) with Retry-After."""
    return text(status, message, headers={"Retry-After": str(seconds)})


def unsatisfiable(size: int) -> Response:
    """416 for a range that lies outside `size` bytes."""
    return text(416, "the range lies outside", headers={"Content-Range": f"bytes */{size}"})


def byte_range(value: str, size: int) -> tuple[int, int] | None:
    """RFC 9110 §14.2: first and end (exclusive) of a single byte range; first >= end where it cannot be satisfied.

    None where the header is to be ignored: another unit, several ranges, malformed.
    """
    form = _RANGE.fullmatch(value.strip())
    if form is None or form[0] == "bytes=-":
        return None
    if not form[1]:  # the last n bytes
        count = int(form[2])
        return (max(0, size - count), size) if count else (size, size)
    first = int(form[1])
    if not form[2]:
        return first, size
    last = int(form[2])
    return None if last < first else (first, min(last + 1, size))


def accepts_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding allows it."""
    return "gzip" in accepted and "gzip;q=0" not in accepted.replace(" ", "")
