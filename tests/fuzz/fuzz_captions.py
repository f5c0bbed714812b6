"""Target: closed captions of two pictures in a row. A picture costs bounded work, and names are those of HLS."""

from __future__ import annotations

import re

from gateway.media.closed_captions import ClosedCaptions
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from tests.support.caption_writer import packet, rolled_up, sei, user_data

_TRACKS = [MediaTrack(Kind.VIDEO, codec, 1000, b"") for codec in (Codec.H264, Codec.H265, Codec.AV1)]
_NAME = re.compile(r"CC[1-4]|SERVICE([1-9]|[1-5]\d|6[0-3])")
_PACKET = packet(9, b"\x00\x00\x01text")

SEEDS = [
    b"\x00" + sei(user_data([(0, pair) for pair in rolled_up(1, "TEXT")])),
    b"\x01" + sei(user_data([(3, _PACKET[0]), *((2, pair) for pair in _PACKET[1:])]), h265=True),
    b"\x02\x2a\x20\x04" + user_data([(1, pair) for pair in rolled_up(4, "TEXT")]),
]


def fuzz(data: bytes) -> None:
    captions = ClosedCaptions()
    track = _TRACKS[(data[0] if data else 0) % len(_TRACKS)]
    middle = len(data) // 2
    for part in (data[1:], data[middle:], data[:middle]):
        captions.look(AccessUnit(track, 0, 0, True, 0.0, part))
    assert all(_NAME.fullmatch(name) for name in captions.names), captions.names
    assert captions.has_room or not captions.names
