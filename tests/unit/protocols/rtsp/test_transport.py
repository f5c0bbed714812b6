"""The Transport header of SETUP."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.rtsp.transport import TransportOffer, read_transport


@pytest.mark.parametrize(
    ("header", "offers"),
    [
        ("RTP/AVP/TCP;unicast;interleaved=2-3", [TransportOffer(2)]),
        ("RTP/AVP/TCP;unicast;interleaved=0-1;mode=record", [TransportOffer(0, records=True)]),
        ("RTP/AVP/TCP", [TransportOffer(4)]),
        ("RTP/AVP;unicast;client_port=5000-5001", [TransportOffer(-1, (5000, 5001))]),
        ("RTP/AVP/UDP;unicast;client_port=5000", [TransportOffer(-1, (5000, 5001))]),
        ("RTP/AVP;multicast, RTP/AVP/TCP;interleaved=6-7", [TransportOffer(6)]),
        ("RTP/AVP;unicast;client_port=0-1", []),
        ("RTP/AVP;unicast;client_port=65535", []),
        ("RTP/AVP;unicast;client_port=5000-70000", []),
        ("RTP/AVP;unicast;destination=192.0.2.1", []),
        ("RTP/AVP/TCP;interleaved=255-256", []),
        ("RTP/SAVP;unicast;client_port=5000-5001", []),
        ("", []),
    ],
)
def test_the_offers_that_can_be_used_are_read_in_order(header: str, offers: list[TransportOffer]) -> None:
    assert read_transport(header, 4) == offers


@given(st.text(alphabet="RTPAVUDC/;,=-0123456789interlavdchok_ ", max_size=200))
def test_any_header_has_only_valid_numbers(header: str) -> None:
    for offer in read_transport(header, 0):
        assert -1 <= offer.channel <= 254 and all(0 <= port <= 65_535 for port in offer.ports)
