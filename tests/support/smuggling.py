"""Requests that two HTTP parsers may delimit differently (RFC 9112 §11.2), each with another request inside."""

from __future__ import annotations

from typing import Final

INNER: Final = "/smuggled"
_INNER: Final = f"GET {INNER} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
_CHUNKS: Final = b"0\r\n\r\n" + _INNER
_BYTES: Final = b"xxxxx" + _INNER


def _post(headers: bytes, body: bytes) -> bytes:
    return b"POST /ready HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n" + headers + b"\r\n\r\n" + body


REQUESTS: Final = {
    "length and chunks": _post(b"Content-Length: 6\r\nTransfer-Encoding: chunked", _CHUNKS),
    "chunks and length": _post(
        b"Transfer-Encoding: chunked\r\nContent-Length: 4", b"5c\r\n" + _INNER + b"\r\n0\r\n\r\n"
    ),
    "a space before the colon": _post(b"Transfer-Encoding : chunked\r\nContent-Length: 5", _CHUNKS),
    "a tab before the coding": _post(b"Transfer-Encoding:\tchunked\r\nContent-Length: 5", _CHUNKS),
    "an unknown coding": _post(b"Transfer-Encoding: xchunked\r\nContent-Length: 5", _CHUNKS),
    "two codings": _post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\nContent-Length: 5", _CHUNKS),
    "two lengths": _post(b"Content-Length: 0\r\nContent-Length: 60", _INNER),
    "a list of lengths": _post(b"Content-Length: 0, 60", _INNER),
    "a length with a sign": _post(b"Content-Length: +5", _BYTES),
    "a length in hex": _post(b"Content-Length: 0x5", _BYTES),
    "a folded length": _post(b"Content-Length:\r\n 5", _BYTES),
    "bare LF": b"POST /ready HTTP/1.1\nHost: a\nContent-Length: 5\n\n" + _BYTES,
    "CR inside a header": _post(b"X: a\rContent-Length: 5", _BYTES),
    "NUL inside a header": _post(b"X: a\0b\r\nContent-Length: 5", _BYTES),
    "GET with a body": b"GET /ready HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(_INNER) + _INNER,
    "a chunk with a long extension": _post(b"Transfer-Encoding: chunked", b"0;" + b"a" * 20_000 + b"\r\n\r\n" + _INNER),
    "a chunk size that overflows": _post(b"Transfer-Encoding: chunked", b"fffffffffffffffff1\r\n" + _INNER),
    "an upgrade to HTTP/2": _post(b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5", _BYTES),
    "a length that must be confirmed": _post(b"Content-Length: 5\r\nExpect: 100-continue", _BYTES),
}
