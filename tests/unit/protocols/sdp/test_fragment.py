"""Fragments of trickle ICE."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.sdp.fragment import parse_fragment

PASSWORD = "P2uYro0UCOQ4zxjKXaWCBui1"
CANDIDATE = "1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1"
FRAGMENT = (  # RFC 9725 §4.3.2
    f"a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:{PASSWORD}\r\n"
    f"a=candidate:{CANDIDATE}\r\na=end-of-candidates\r\n"
).encode()


def test_credentials_and_candidates_are_read() -> None:
    found = parse_fragment(FRAGMENT)
    assert (found.ufrag, found.password, found.candidates) == ("EsAw", PASSWORD, (CANDIDATE,))
    session = parse_fragment(f"a=ice-ufrag:EsAw\r\na=ice-pwd:{PASSWORD}\r\nm=audio 9 RTP/AVP 0\r\na=mid:0".encode())
    assert (session.ufrag, session.password, session.candidates) == ("EsAw", PASSWORD, ())


@pytest.mark.parametrize(
    "body",
    [b"", b"m=audio 9 RTP/AVP 0\r\na=mid:0\r\n", b"a=ice-ufrag:EsAw", b"a=ice-pwd:" + PASSWORD.encode(),
     b"a=ice-ufrag:E\r\na=ice-pwd:" + PASSWORD.encode(), b"a=candidate:" + b"x" * 5000],
)  # fmt: skip
def test_a_broken_fragment_is_refused(body: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_fragment(body)


@given(st.integers(0, len(FRAGMENT)), st.binary(max_size=20))
def test_a_truncated_fragment_is_read_or_refused(end: int, tail: bytes) -> None:
    try:
        found = parse_fragment(FRAGMENT[:end] + tail)
    except RemoteProtocolError:
        return
    assert bool(found.ufrag) == bool(found.password)
