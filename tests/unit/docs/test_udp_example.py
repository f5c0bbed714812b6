"""The parser of the example protocol of docs/extending.md."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.examples.udp_push.protocols import units
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.protocols.errors import RemoteProtocolError

AUDIO = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x11\x90")
VIDEO = MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"avcC")


@given(st.sampled_from([b"", units.OPEN, units.TRACK, units.PART]), st.binary(max_size=80))
def test_any_datagram_is_a_message_or_is_refused(name: bytes, body: bytes) -> None:
    try:
        message = units.parse(name + body)
    except RemoteProtocolError:
        return
    joiner = units.UnitJoiner()
    joiner.set_track(AUDIO)
    if isinstance(message, units.Part):
        joiner.add(message, 0.0)


def parts(unit: AccessUnit) -> list[units.Part]:
    found = [units.parse(datagram) for datagram in units.write_unit(unit, 100)]
    return [part for part in found if isinstance(part, units.Part)]


def test_the_parts_of_a_unit_are_joined() -> None:
    unit = AccessUnit(AUDIO, 40, 0, True, 2.0, random.Random(1).randbytes(250))
    joiner = units.UnitJoiner()
    joiner.set_track(AUDIO)
    assert [joiner.add(part, 2.0) for part in parts(unit)] == [None, None, unit]


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_lost_part_drops_the_pictures_up_to_the_next_key_frame(lost: int) -> None:
    joiner = units.UnitJoiner()
    joiner.set_track(VIDEO)
    pictures = [AccessUnit(VIDEO, n * 40, 0, n in (0, 4), 0.0, bytes([n]) * 250) for n in range(6)]
    sent = [(n, part) for n, picture in enumerate(pictures) for part in parts(picture)]
    found = [joiner.add(part, 0.0) for n, part in sent if (n, part.number) != (2, lost)]
    assert [unit.dts // 40 for unit in found if unit is not None] == [0, 1, 4, 5]
