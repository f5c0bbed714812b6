"""Request: one HTTP/1.x request head, parsed strictly, its path decoded and judged before any policy sees it."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

import httptools

from gateway.protocols.errors import RemoteProtocolError

# RFC 9110 §7.2 with RFC 3986 §3.2.2: nothing in a Host may reach into the path of an address built from it.
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)
# Paths that are their own decoding: no escape, no empty and no dot segment.
_PLAIN = re.compile(r"(?=/)(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~@!$'()*+,:;=&-]+)*/?", re.ASCII)
_ESCAPES = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")
_STILL_ESCAPED = re.compile(r"%(?:2[ef]|5c|00)", re.IGNORECASE)
_ONCE: Final = frozenset({"host", "content-length", "transfer-encoding"})


class BadRequest(RemoteProtocolError):
    """What the peer sent cannot be served; `status` (400, 408, 413, 414, 431, 505) and the message are its answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Request:
    """One request. Header names are lower case; the values of a repeated header are joined by ", " (Cookie by "; ").

    path: decoded once, starts with "/", free of control characters, "\\", "//" and dot segments. raw_path and
    raw_query: as sent, without the "?". peer: the client's address, behind trusted proxies too. exempt: that address is
    a listed proxy's own, to which no limit applies. scheme: http or https, as the client sees it.
    """

    __slots__ = (
        "_query",
        "exempt",
        "has_body",
        "headers",
        "http11",
        "keep_alive",
        "method",
        "path",
        "peer",
        "raw_path",
        "raw_query",
        "scheme",
    )

    def __init__(
        self,
        method: str,
        raw_path: str,
        raw_query: str,
        headers: dict[str, str],
        http11: bool = True,
        peer: str = "",
        scheme: str = "http",
    ) -> None:
        self.method = method
        self.raw_path = raw_path
        self.raw_query = raw_query
        self.path = decode_path(raw_path)
        self.headers = headers
        self.http11 = http11
        self.keep_alive = http11
        self.has_body = False
        self.peer = peer
        self.scheme = scheme
        self.exempt = False
        self._query: dict[str, str] | None = None

    @property
    def host(self) -> str:
        """The Host header, a valid `name`, `name:port` or `[address]:port`; "" where an HTTP/1.0 client sent none."""
        return self.headers.get("host", "")

    @property
    def query(self) -> dict[str, str]:
        """The query's parameters, decoded; of a repeated one the first counts (`parameters` gives all)."""
        if self._query is None:
            query: dict[str, str] = {}
            for name, value in parameters(self.raw_query):
                query.setdefault(name, value)
            self._query = query
        return self._query


def parameters(raw_query: str) -> list[tuple[str, str]]:
    """All parameters of a query in order, decoded ("+" is a space); bytes that are no UTF-8 become U+FFFD."""
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


@lru_cache(maxsize=4096)  # players of one stream ask for the same few paths
def decode_path(raw: str) -> str:
    """A raw path decoded once. BadRequest for everything that could mean another path to somebody else:

    dot segments, empty segments, encoded slashes, backslashes, control characters, escapes that are malformed, are no
    UTF-8, or decode to further escapes of such characters.
    """
    if _PLAIN.fullmatch(raw):
        return raw
    if not raw.startswith("/") or _ESCAPES.search(raw):
        raise BadRequest(400, "malformed path")
    if re.search(r"%2f|%5c|\\", raw, re.IGNORECASE):
        raise BadRequest(400, "encoded slash or backslash in the path")
    try:
        path = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeError:
        raise BadRequest(400, "the path is not UTF-8") from None
    if _CONTROL.search(path) or _STILL_ESCAPED.search(path):
        raise BadRequest(400, "character in the path that is not allowed")
    if "//" in path or any(segment in (".", "..") for segment in path.split("/")):
        raise BadRequest(400, "empty or dot segment in the path")
    return path


class HeadParser:
    """Parses whole request heads (up to and including the empty line), one after the other; shared by all connections.

    llhttp does the parsing; what it lets through for the sake of other protocols and old peers is refused here.
    """

    def __init__(self, target_bytes: int) -> None:
        self._most = target_bytes
        self._url = b""
        self._headers: dict[str, str] = {}
        self._host = "localhost"  # the last valid one: nearly all requests name the same
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
            headers[key] = text
        elif key in _ONCE:
            raise BadRequest(400, f"repeated {key}")
        else:
            headers[key] = f"{old}{'; ' if key == 'cookie' else ', '}{text}"

    # ---- the server's side ----

    def parse(self, head: bytes, peer: str = "", scheme: str = "http") -> Request:
        """The request of `head`. Raises BadRequest."""
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
            raise cause if isinstance(cause, BadRequest) else BadRequest(400, "malformed header") from None
        except httptools.HttpParserInvalidMethodError:
            raise BadRequest(400, "unknown method") from None
        except httptools.HttpParserError:
            raise BadRequest(400, "malformed request") from None
        finally:
            if not reusable:
                self._parser = httptools.HttpRequestParser(self)
        method, url = parser.get_method(), self._url
        start = b"%b %b HTTP/1." % (method, url)
        version = head[len(start) : len(start) + 3]
        http11 = version == b"1\r\n"
        if not head.startswith(start) or (not http11 and version != b"0\r\n"):
            self._parser = httptools.HttpRequestParser(self)
            raise BadRequest(505 if head.startswith(start[:-2]) else 400, "HTTP/1.1 is spoken here")
        if len(url) > self._most:
            raise BadRequest(414, "the address is too long")
        connection = headers.get("connection")
        has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
        if not http11 or connection is not None or has_body:
            # llhttp takes nothing more after a message that ends its connection, or whose body it waits for.
            self._parser = httptools.HttpRequestParser(self)
        host = headers.get("host")
        target = url.decode("latin-1")
        if not target.startswith("/"):
            target, host = self._absolute(method, target, host)
            headers["host"] = host or ""
        if host is None:
            if http11:
                raise BadRequest(400, "no Host")
        elif host != self._host:
            if _HOST.fullmatch(host):
                self._host = host
            elif host or http11:
                raise BadRequest(400, "malformed Host")
        raw_path, _, raw_query = target.partition("?")
        if "#" in target:
            raise BadRequest(400, "fragment in the address")
        request = Request(method.decode("ascii"), raw_path, raw_query, headers, http11, peer, scheme)
        if connection is not None:
            options = connection.lower()
            request.keep_alive = "close" not in options and (http11 or "keep-alive" in options)
        if has_body:
            request.has_body = True
        return request

    def _absolute(self, method: bytes, target: str, host: str | None) -> tuple[str, str | None]:
        """RFC 9112 §3.2: the path and host of an absolute-form target; of `OPTIONS *` the root."""
        if target == "*" and method == b"OPTIONS":
            return "/", host
        scheme, separator, rest = target.partition("://")
        if not separator or scheme.lower() not in ("http", "https"):
            raise BadRequest(400, "malformed address")
        end = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
        path = rest[end:]
        # RFC 9112 §3.2.2: "a server MUST ignore the received Host header field … and instead use the host information"
        return (path if path.startswith("/") else f"/{path}"), rest[:end]


def too_large(head: bytes, target_bytes: int) -> BadRequest:
    """Why the beginning of a head that is larger than allowed is refused. target_bytes: bound of the request line."""
    if len(head.partition(b"\r\n")[0]) > target_bytes:
        return BadRequest(414, "the address is too long")
    return BadRequest(431, "the request's head is too large")
