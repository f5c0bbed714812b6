"""One HTTP/1.x request head. The parser is strict; it decodes and checks the path before any policy uses it."""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

import httptools

from gateway.lib.traffic import Tally
from gateway.protocols.errors import RemoteProtocolError

# RFC 9110 §7.2 with RFC 3986 §3.2.2. Only these characters: a "/" or "?" in Host would change the
# path of an address that we build from it.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)
# Paths that decoding does not change: no escape, no empty segment and no dot segment.
_UNCHANGED_PATH = re.compile(r"(?=/)(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~@!$'()*+,:;=&-]+)*/?", re.ASCII)
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64} ")  # RFC 9110 §5.6.2: a token
_METHOD_START = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}(?: |\Z)")
_ESCAPES = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_STILL_ESCAPED = re.compile(r"%(?:2[ef]|5c|00)", re.IGNORECASE)
# Request lines before a repeated header block. They contain nothing that llhttp or `HeadParser.parse` would refuse.
_PLAIN_LINE = re.compile(
    rb"(GET|HEAD) (/[A-Za-z0-9/._~!$&'()*+,;=:@%-]*)(?:\?([A-Za-z0-9/._~!$&'()*+,;=:@%?-]*))? HTTP/1\.([01])", re.ASCII
)
_MAX_REMEMBERED_BLOCK: Final = 1024  # limit of the header block that a connection remembers, in bytes
_SINGLE_HEADERS: Final = frozenset({"host", "content-length", "transfer-encoding"})
_MAX_HEADERS: Final = 128  # names; one of two bytes uses a hundred in memory, for as long as the answer takes
UNCOUNTED: Final = Tally()
_MAX_CACHED_PATH: Final = 200  # characters; longer paths are decoded each time, because players do not use them


class RequestError(RemoteProtocolError):
    """The request cannot be served. The answer has `status` (400, 408, 413, 414, 431, 501, 505) and the message."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Request:
    """One request.

    headers: names are lower case. The values of a repeated header are joined by ", " (Cookie by "; ").
    path: decoded once. It starts with "/" and has no control characters, "\\", "//" and dot segments.
    raw_path, raw_query: as sent, without the "?".
    peer: the address of the client, also behind trusted proxies.
    exempt: whether this address belongs to a trusted proxy, which has no limits.
    proxied: whether a trusted proxy named this address. The proxy may be a cache that answers other requests itself.
    scheme: http or https, as the client uses it.
    tally: counts the bytes of the answer for a channel; UNCOUNTED: for none.
    """

    # fmt: off
    __slots__ = (
        "_query", "exempt", "has_body", "headers", "http11", "keep_alive", "method", "path", "peer", "proxied",
        "raw_path", "raw_query", "scheme", "tally",
    )
    # fmt: on

    def __init__(
        self, method: str, raw_path: str, raw_query: str, headers: dict[str, str], peer: str = "", scheme: str = "http"
    ) -> None:
        self.method = method
        self.raw_path = raw_path
        self.raw_query = raw_query
        self.path = decode_path(raw_path)
        self.headers = headers
        self.http11 = True
        self.keep_alive = True
        self.has_body = False
        self.peer = peer
        self.scheme = scheme
        self.exempt = False
        self.proxied = False
        self.tally = UNCOUNTED
        self._query: dict[str, str] | None = None

    def reset(self) -> None:
        """Prepares the request for its repetition by the same connection."""
        self.exempt, self.tally = False, UNCOUNTED

    @property
    def host(self) -> str:
        """The Host header: a valid `name`, `name:port` or `[address]:port`; "" if it is missing in HTTP/1.0."""
        return self.headers.get("host", "")

    @property
    def query(self) -> dict[str, str]:
        """The decoded parameters of the query. If one is repeated, its first value counts; `parameters` returns all."""
        if self._query is None:
            query: dict[str, str] = {}
            for name, value in parameters(self.raw_query):
                query.setdefault(name, value)
            self._query = query
        return self._query


def parameters(raw_query: str) -> list[tuple[str, str]]:
    """Returns all decoded parameters of a query in order. "+" is a space; bytes other than UTF-8 become U+FFFD."""
    pairs = []
    for part in raw_query.split("&"):
        if part:
            name, _, value = part.partition("=")
            pairs.append((_decode(name), _decode(value)))
    return pairs


def _decode(text: str) -> str:
    if "+" in text:
        text = text.replace("+", " ")
    return unquote_to_bytes(text).decode("utf-8", "replace") if "%" in text else text


def decode_path(raw: str) -> str:
    """Decodes a raw path once. Raises RequestError for paths that another program could understand differently.

    Such paths have dot segments, empty segments, encoded slashes, backslashes or control characters. Or they have
    escapes that are malformed, are not UTF-8, or decode to other escapes.
    """
    return _decode_cached(raw) if len(raw) <= _MAX_CACHED_PATH else _decode_path(raw)


def _decode_path(raw: str) -> str:
    if _UNCHANGED_PATH.fullmatch(raw):
        return raw
    if not raw.startswith("/") or _ESCAPES.search(raw):
        raise RequestError(400, "malformed path")
    if re.search(r"%2f|%5c|\\", raw, re.IGNORECASE):
        raise RequestError(400, "encoded slash or backslash in the path")
    try:
        path = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeError:
        raise RequestError(400, "the path is not UTF-8") from None
    if _CONTROL.search(path) or _STILL_ESCAPED.search(path):
        raise RequestError(400, "character in the path that is not allowed")
    if "//" in path or any(segment in (".", "..") for segment in path.split("/")):
        raise RequestError(400, "empty or dot segment in the path")
    return path


_decode_cached = lru_cache(maxsize=4096)(_decode_path)  # players of one stream request the same few paths


class HeadParser:
    """Parses complete request heads, including the empty line. All connections share it.

    llhttp parses. This class refuses input that llhttp accepts only for other protocols and old peers.
    """

    def __init__(self, target_bytes: int) -> None:
        self.target_bytes = target_bytes
        self._url = b""
        self._headers: dict[str, str] = {}
        self._host = "localhost"  # the last valid Host: nearly all requests have this one
        self._parser = httptools.HttpRequestParser(self)

    # ---- llhttp's callbacks ----

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = name.decode("ascii").lower()
        text = value.decode("latin-1").rstrip(" \t")
        headers = self._headers
        old = headers.get(key)
        if old is None:
            if len(headers) >= _MAX_HEADERS:
                raise RequestError(431, "too many headers")
            headers[key] = text
        elif key in _SINGLE_HEADERS:
            raise RequestError(400, f"repeated {key}")
        else:
            headers[key] = f"{old}{'; ' if key == 'cookie' else ', '}{text}"

    # ---- the server's side ----

    def parse(self, head: bytes, peer: str = "", scheme: str = "http") -> Request:
        """Returns the request of `head`. Raises RequestError."""
        self._url = b""
        headers = self._headers = {}
        reusable = False
        parser = self._parser
        try:
            parser.feed_data(head)
            reusable = True
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            raise cause if isinstance(cause, RequestError) else RequestError(400, "malformed header") from None
        except httptools.HttpParserInvalidMethodError:
            # RFC 9110 §9.1: 501 for a method that the server does not know; 405 for one that it knows.
            raise RequestError(501 if _METHOD.match(head) else 400, "unknown method") from None
        except httptools.HttpParserError:
            raise RequestError(400, "malformed request") from None
        finally:
            if not reusable:
                self._parser = httptools.HttpRequestParser(self)
        method, url = parser.get_method(), self._url
        start = b"%b %b HTTP/1." % (method, url)
        version = head[len(start) : len(start) + 3]
        http11 = version == b"1\r\n"
        if not head.startswith(start) or (not http11 and version != b"0\r\n"):
            self._parser = httptools.HttpRequestParser(self)
            raise RequestError(505 if head.startswith(start[:-2]) else 400, "only HTTP/1.1 is supported")
        connection = headers.get("connection")
        has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        if not http11 or connection is not None or has_body:
            # llhttp accepts nothing after a message that ends its connection, and waits for the body of a message. This
            # is done before every refusal below, because the next head belongs to another connection.
            self._parser = httptools.HttpRequestParser(self)
        if len(url) > self.target_bytes:
            raise RequestError(414, "the address is too long")
        host = headers.get("host")
        target = url.decode("latin-1")
        if not target.startswith("/"):
            target, host = self._absolute(method, target, host)
            headers["host"] = host or ""
        if host is None:
            if http11:
                raise RequestError(400, "no Host")
        elif host != self._host:
            if _HOST.fullmatch(host):
                self._host = host
            elif host or http11:
                raise RequestError(400, "malformed Host")
        raw_path, _, raw_query = target.partition("?")
        if "#" in target:
            raise RequestError(400, "fragment in the address")
        request = Request(method.decode("ascii"), raw_path, raw_query, headers, peer, scheme)
        if not http11:
            request.http11 = request.keep_alive = False
        if connection is not None:
            options = connection.lower()
            request.keep_alive = "close" not in options and (http11 or "keep-alive" in options)
        if has_body:
            request.has_body = True
        return request

    def _absolute(self, method: bytes, target: str, host: str | None) -> tuple[str, str | None]:
        """Returns the path and host of an absolute-form target (RFC 9112 §3.2), or the root for `OPTIONS *`."""
        if target == "*" and method == b"OPTIONS":
            return "/", host
        scheme, separator, rest = target.partition("://")
        if not separator or scheme.lower() not in ("http", "https"):
            raise RequestError(400, "malformed address")
        end = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
        path = rest[end:]
        # RFC 9112 §3.2.2: "a server MUST ignore the received Host header field … and instead use the host information"
        return (path if path.startswith("/") else f"/{path}"), rest[:end]


def is_malformed_start(data: bytes) -> bool:
    """Whether a request cannot begin with these bytes. Then it is useless to wait for its end."""
    return _METHOD_START.match(data) is None


def host_is_valid(host: str) -> bool:
    """Whether a Host header is only a host with an optional port."""
    return _HOST.fullmatch(host) is not None


class HeadReader:
    """Parses the heads of one connection, like `HeadParser.parse`.

    Players send the same headers with each request of a connection. The bytes are compared, not parsed again. This
    saves a third of the cost of a small answer, and half with the headers of a browser. The players of a stream send
    the same request lines too, and a player that waits for a new playlist sends the same head.

    head, request: the last head that may be repeated, and its request; not with `http11` False.

    http11: whether heads of HTTP/1.1 are remembered, or those of HTTP/1.0, as the streams of HTTP/2 have them.
    """

    __slots__ = ("_block", "_headers", "_http11", "_parser", "head", "request")

    def __init__(self, parser: HeadParser, *, http11: bool = True) -> None:
        self._parser = parser
        self._http11 = http11
        self._block = b""  # from the end of the request line to the end of the head
        self._headers: dict[str, str] = {}
        self.head = b""
        self.request: Request | None = None

    def parse(self, head: bytes, peer: str = "", scheme: str = "http") -> Request:
        """Returns the request of `head`. Raises RequestError."""
        line_end = head.find(b"\r\n")
        block = head[line_end:]
        if block == self._block and line_end <= self._parser.target_bytes:
            line = head[:line_end]
            parts = _read_line_cached(line) if line_end <= _MAX_CACHED_PATH else _read_line(line)
            if parts is not None and parts[3] is self._http11:
                request = Request(*parts[:3], self._headers, peer, scheme)
                if self._http11:
                    self.head, self.request = head, request
                else:
                    request.http11 = request.keep_alive = False
                return request
        request = self._parser.parse(head, peer, scheme)
        repeatable = request.http11 is request.keep_alive is self._http11 and not request.has_body
        # An address in absolute form replaces the header Host, so these headers are not those of the block.
        if repeatable and len(block) <= _MAX_REMEMBERED_BLOCK and head.startswith((b"GET /", b"HEAD /")):
            self._block, self._headers = block, request.headers
        return request


def _read_line(line: bytes) -> tuple[str, str, str, bool] | None:
    """Returns method, raw path, raw query and whether it is HTTP/1.1 of a plain request line; None for others."""
    match = _PLAIN_LINE.fullmatch(line)
    if match is None:
        return None
    return match[1].decode(), match[2].decode(), (match[3] or b"").decode(), match[4] == b"1"


_read_line_cached = lru_cache(maxsize=4096)(_read_line)  # players of one stream send the same few lines


def too_large(head: bytes, target_bytes: int) -> RequestError:
    """Returns the refusal of a too large head. target_bytes: limit of the request line."""
    if len(head.partition(b"\r\n")[0]) > target_bytes:
        return RequestError(414, "the address is too long")
    return RequestError(431, "the request's head is too large")
