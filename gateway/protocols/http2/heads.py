"""The heads of HTTP/2 (RFC 9113 §8) as those of HTTP/1, which the rest of the server reads and writes.

Requests are those of HTTP/1.0: such an answer has no chunks and ends with its connection, as a stream of HTTP/2 ends.
The players of a stream send the same few requests and get the same answers, so both ways remember what they made.
"""

import re
from functools import lru_cache
from typing import Final

from hpack.table import HeaderTable

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.http2.header_decoder import Field

_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")  # RFC 9110 §5.6.2, without upper case (§8.2)
# §8.2.1: no NUL, CR and LF, and no white space at both ends.
_VALUE: Final = re.compile(rb"(?:[^\x00\r\n \t](?:[^\x00\r\n]*[^\x00\r\n \t])?)?")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_TARGET: Final = re.compile(rb"(?:/[\x21-\x7e\x80-\xff]*|\*)")
_PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path"))
# §8.2.2: "An endpoint MUST NOT generate an HTTP/2 message containing connection-specific header fields."
_OF_CONNECTION: Final = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
_REMEMBERED_BYTES: Final = 2048  # of the fields of a request that is remembered; those of browsers have a few hundred
_DROPPED: Final = frozenset((b"connection", b"keep-alive", b"transfer-encoding"))
# Indexes of the static table (RFC 7541, Appendix A), of fields and of names.
_FIELDS: Final = {field: index for index, field in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))}
_NAMES: Final = {field[0]: index for field, index in reversed(_FIELDS.items())}


class MalformedRequest(RemoteProtocolError):
    """The head of a stream is not a request (RFC 9113 §8.1.1). The stream ends with PROTOCOL_ERROR."""


def request_head(fields: tuple[Field, ...], has_body: bool) -> tuple[bytes, bool]:
    """Returns the head of a request for a parser of HTTP/1, and whether its body must be sent in chunks.

    A body without Content-Length is sent in chunks, which need HTTP/1.1. Raises MalformedRequest.
    """
    size = sum(len(name) + len(value) for name, value in fields)
    return (_request_head_remembered if size <= _REMEMBERED_BYTES else _request_head)(fields, has_body)


def _request_head(fields: tuple[Field, ...], has_body: bool) -> tuple[bytes, bool]:
    pseudo: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    host: bytes | None = None
    has_length = False
    for name, value in fields:
        if not _VALUE.fullmatch(value):
            raise MalformedRequest("malformed value of a header")
        if name[:1] == b":":
            if name not in _PSEUDO or name in pseudo or lines or host is not None:
                raise MalformedRequest("unknown, repeated or late pseudo-header")
            pseudo[name] = value
            continue
        if not _NAME.fullmatch(name) or name in _OF_CONNECTION or (name == b"te" and value.lower() != b"trailers"):
            raise MalformedRequest("malformed header, or one of a connection")
        if name == b"host":
            if host is not None:
                raise MalformedRequest("repeated host")
            host = value
        elif name != b"te" and name != b"expect":  # a client of HTTP/2 sends the body without our answer
            has_length = has_length or name == b"content-length"
            lines.append(b"%b: %b\r\n" % (name, value))
    method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if method == b"CONNECT":  # §8.5: it has no path; the server knows no such method
        target = b"/"
    elif b":scheme" not in pseudo:
        raise MalformedRequest("no scheme")
    if not _TOKEN.fullmatch(method) or not _TARGET.fullmatch(target):
        raise MalformedRequest("malformed method or path")
    authority = pseudo.get(b":authority", host)
    if authority is not None:
        if host is not None and host != authority:  # §8.3.1: a server treats them as malformed if they differ
            raise MalformedRequest("host differs from the authority")
        lines.append(b"host: %b\r\n" % authority)
    chunked = has_body and not has_length
    version = b"1.1\r\nconnection: close\r\ntransfer-encoding: chunked" if chunked else b"1.0"
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, target, version, b"".join(lines)), chunked


_request_head_remembered = lru_cache(maxsize=1024)(_request_head)


@lru_cache(maxsize=512)
def encoded_head(head: bytes) -> bytes:
    """Returns the headers of a response as HPACK encodes them without a table. head: as HTTP/1 has it."""
    lines = head.split(b"\r\n")
    block = bytearray(_encoded(b":status", lines[0][9:12]))
    for line in lines[1:]:
        name, separator, value = line.partition(b":")
        name = name.lower()
        if separator and name not in _DROPPED:
            block += _encoded(name, value.strip(b" \t"))
    return bytes(block)


def _encoded(name: bytes, value: bytes) -> bytes:
    """Returns an indexed field, or a literal one without indexing (RFC 7541 §6.1, §6.2.2)."""
    if (index := _FIELDS.get((name, value))) is not None:
        return _integer(index, 7, 0x80)
    index = _NAMES.get(name, 0)
    start = _integer(index, 4, 0)
    return start + (b"" if index else _integer(len(name), 7, 0) + name) + _integer(len(value), 7, 0) + value


def _integer(value: int, bits: int, flags: int) -> bytes:
    """Returns an integer with a prefix of some bits (RFC 7541 §5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((flags | value,))
    encoded = bytearray((flags | most,))
    value -= most
    while value >= 128:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
