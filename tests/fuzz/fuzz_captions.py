"""Target: closed captions of pictures in a row, found, ordered and decoded. Names are those of HLS, and times rise."""

from __future__ import annotations

import re

from gateway.formats.captions.decoder import ClosedCaptionDecoder
from gateway.formats.captions.reorder import PictureOrder
from gateway.formats.captions.source import CaptionChange
from gateway.media.closed_captions import ClosedCaptions
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from tests.support.caption_writer import code, packet, painted_on, popped_on, rolled_up, sei, user_data

_TRACKS = [MediaTrack(Kind.VIDEO, codec, 1000, b"") for codec in (Codec.H264, Codec.H265, Codec.AV1)]
_NAME = re.compile(r"CC[1-4]|SERVICE([1-9]|[1-5]\d|6[0-3])")
_SHOWN = b"\x98\x20\x80\x32\x71\x1f\x11text\x0d\x89\x01"  # of CEA-708: a window with text
_PACKET = packet(9, _SHOWN)

SEEDS = [
    b"\x00" + sei(user_data([(0, pair) for pair in rolled_up(1, "TEXT")])),
    b"\x01" + sei(user_data([(3, _PACKET[0]), *((2, pair) for pair in _PACKET[1:])]), h265=True),
    b"\x02\x2a\x20\x04" + user_data([(1, pair) for pair in popped_on(4, "TEXT", "MORE")]),
    b"\x00" + sei(user_data([(0, pair) for pair in painted_on(2, 3, "TEXT") + code(2, 0x2C)])),
]


def fuzz(data: bytes) -> None:
    captions, order, decoder = ClosedCaptions(), PictureOrder(), ClosedCaptionDecoder()
    track = _TRACKS[(data[0] if data else 0) % len(_TRACKS)]
    middle = len(data) // 2
    changes: list[CaptionChange] = []
    for time, part in enumerate((data[1:], data[middle:], data[:middle])):
        pairs = captions.look(AccessUnit(track, 0, 0, True, 0.0, part))
        for shown, content in order.add(pairs, time * 27_000, time * 27_000):
            captions.find(content)
            changes += decoder.take(content, shown)
    changes += decoder.take(data, 200_000)
    for wait in range(1, 70):  # a delay of CEA-708 keeps at most 128 bytes, and each of 25.5 s may hold another
        changes += decoder.take(b"", wait * 2_400_000)
    assert all(_NAME.fullmatch(name) for name in captions.names), captions.names
    assert captions.has_room or not captions.names
    last: dict[str, CaptionChange] = {}
    for change in changes:
        assert _NAME.fullmatch(change.source), change
        if before := last.get(change.source):
            assert before.start < change.start, change
            assert before.text != change.text, change
        last[change.source] = change
    assert all(change.text == "" for change in last.values())  # all are erased
