"""Frames of RFC 4571: read in pieces of any size, with bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.listeners.framing import MAX_FRAME, FrameReader, framed
from gateway.protocols.errors import RemoteProtocolError


@given(packets=st.lists(st.binary(min_size=1, max_size=300), max_size=8), cuts=st.lists(st.integers(1, 400)))
def test_packets_arrive_whole_in_pieces_of_any_size(packets: list[bytes], cuts: list[int]) -> None:
    data, reader, found = framed(packets), FrameReader(), []
    for cut in (*cuts, len(data)):
        found += reader.receive(data[:cut])
        data = data[cut:]
    assert found == packets


def test_empty_frames_are_skipped() -> None:
    assert FrameReader().receive(b"\0\0\0\1a\0\0\0\1b\0") == [b"a", b"b"]


def test_a_frame_above_the_limit_is_refused_before_its_bytes() -> None:
    reader = FrameReader()
    assert reader.receive(MAX_FRAME.to_bytes(2, "big") + bytes(MAX_FRAME)) == [bytes(MAX_FRAME)]
    with pytest.raises(RemoteProtocolError):
        reader.receive((MAX_FRAME + 1).to_bytes(2, "big"))
