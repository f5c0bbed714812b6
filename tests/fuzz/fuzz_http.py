"""Request heads, their queries, ranges and forwarded addresses: BadRequest only, and paths that mean one thing."""

import ipaddress
from contextlib import suppress

from gateway.http import websocket
from gateway.http.forwarded import Forwarded
from gateway.http.request import HeadParser, HeadReader, Request, RequestError
from gateway.http.response import byte_range
from gateway.playback.protection import embeddable

SEEDS = [
    b"GET /c1/live.m3u8?_HLS_msn=3&sign=1-a HTTP/1.1\r\nHost: a:8080\r\nRange: bytes=0-99\r\n\r\n",
    b"GET http://a/b%20c HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n",
    b"GET /c1/live.flv HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nReferer: https://[::1]:80/x\r\n"
    b"X-Forwarded-For: 1.1.1.1, [::1]:2, ::ffff:192.0.2.7\r\nX-Forwarded-Proto: https\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nhost: [2001:db8::1]:8080\r\ncookie: a=b\r\nCookie: c=d\r\nrange: bytes=-5\r\n\r\n",
    b"POST /x?%41=+&%zz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /a//b%2f%252e HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a//b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /%e4%b8%ad/%2e%2e/a//b HTTP/1.1\r\nHost: a\r\nReferer: http://user@example.com\r\n\r\n",
]

_parser = HeadParser(8192)
_reader = HeadReader(HeadParser(8192))
_everyone = Forwarded((ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))


def _same(request: Request, again: Request) -> None:
    for name in ("method", "raw_path", "raw_query", "path", "headers", "keep_alive", "has_body", "peer", "http11"):
        assert getattr(again, name) == getattr(request, name)


def fuzz(data: bytes) -> None:
    try:
        request = _parser.parse(data, "192.0.2.1")
    except RequestError as error:
        assert error.status in (400, 414, 501, 505)
        return
    if data.find(b"\r\n\r\n") + 4 == len(data):
        _same(request, _reader.parse(data, "192.0.2.1"))
    assert request.path.startswith("/")
    assert not {".", ".."} & set(request.path.split("/"))
    assert "//" not in request.path
    assert len(request.query) <= len(data)
    span = byte_range(request.headers.get("range", ""), 1000)
    assert span is None or (span[0] >= 0 and span[1] <= 1000)
    said = _everyone.client("192.0.2.1", request.headers)
    assert str(ipaddress.ip_address(said)) == said
    assert _everyone.scheme(said, request.headers, "http") in ("http", "https")
    embeddable(request, ["example.com"])
    if websocket.wants_upgrade(request):
        with suppress(websocket.WebSocketError):
            websocket.accept_key(request)
