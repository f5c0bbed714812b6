"""Request heads, queries, ranges and WebSocket frames: documented errors only, bounded memory."""

from contextlib import suppress

from gateway.protocols.errors import RemoteProtocolError
from gateway.servers import websocket
from gateway.servers.forwarded import Forwarded
from gateway.servers.protection import embeddable
from gateway.servers.request import BadRequest, HeadParser
from gateway.servers.response import byte_range

SEEDS = [
    b"GET /c1/live.m3u8?_HLS_msn=3&sign=1-a HTTP/1.1\r\nHost: a:8080\r\nRange: bytes=0-99\r\n\r\n",
    b"GET http://a/b%20c HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n",
    b"GET /c1/live.flv HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nReferer: https://[::1]:80/x\r\n"
    b"X-Forwarded-For: 1.1.1.1, [::1]:2\r\n\r\n",
    b"\x81\x85\x01\x02\x03\x04hello\x88\x82\x01\x02\x03\x04ab\x89\xfe\x00\x80",
]

_parser = HeadParser(8192)


def fuzz(data: bytes) -> None:
    _request(data)
    frames = websocket.ClientFrames()
    try:
        for start in range(0, len(data), 7):
            for control in frames.receive(data[start : start + 7]):
                assert len(control.payload) <= 125
            assert len(frames._buffer) < 132  # a control frame and its head
    except RemoteProtocolError:
        pass


def _request(data: bytes) -> None:
    try:
        request = _parser.parse(data, "192.0.2.1")
    except BadRequest as error:
        assert error.status in (400, 414, 505)
        return
    assert request.path.startswith("/")
    assert not {".", ".."} & set(request.path.split("/"))
    assert "//" not in request.path
    assert len(request.query) <= len(data)
    span = byte_range(request.headers.get("range", ""), 1000)
    assert span is None or (span[0] >= 0 and span[1] <= 1000)
    Forwarded(()).client("192.0.2.1", request.headers)
    embeddable(request, ["example.com"])
    if websocket.wants_upgrade(request):
        with suppress(websocket.WebSocketError):
            websocket.accept_key(request)
