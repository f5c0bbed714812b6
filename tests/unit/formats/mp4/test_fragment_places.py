"""Fragments of a growing recording are located without reading their media."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.formats.mp4.box import box
from gateway.formats.mp4.fragment import Mp4Sample, fragment
from gateway.formats.mp4.init import TrackInit, movie_init
from gateway.formats.mp4.stream import fragment_places
from gateway.media.errors import InvalidData
from tests.support.builders import AUDIO, VIDEO

HEAD = movie_init([TrackInit(VIDEO, 1, 90_000), TrackInit(AUDIO, 2, 44_100)])
PIECES = [
    HEAD,
    fragment(1, 1, 0, [Mp4Sample(3000, 0, True, b"x" * 5000)]),
    fragment(2, 2, 0, [Mp4Sample(1024, 0, True, b"y" * 300)]),
    fragment(3, 1, 90_000 << 20, [Mp4Sample(3000, 0, True, b"z" * 5000)]),
]
FILE = b"".join(PIECES)


def places(data: bytes) -> tuple[list[tuple[int, float]], int]:
    """The positions of the fragments, and the number of bytes read."""
    read = [0]

    def pread(size: int, at: int) -> bytes:
        read[0] += len(data[at : at + size])
        return data[at : at + size]

    return list(fragment_places(pread)), read[0]


def test_each_fragment_has_its_position_and_time() -> None:
    found, read = places(FILE)
    starts = [sum(map(len, PIECES[:n])) for n in range(1, 4)]
    assert found == [(starts[0], 0.0), (starts[1], 0.0), (starts[2], float(1 << 20))]
    assert read < len(HEAD) + 10 * 256


def test_an_incomplete_last_fragment_is_ignored() -> None:
    for end in range(len(FILE) - 5400, len(FILE), 97):
        assert len(places(FILE[:end])[0]) in (2, 3)
    assert places(b"") == ([], 0)


@pytest.mark.parametrize(
    "data",
    [
        HEAD + bytes(32),
        FILE[len(HEAD) :],
        HEAD + fragment(1, 3, 0, [Mp4Sample(3000, 0, True, b"x")]),
        HEAD + box(b"moof", bytes(40)),
        HEAD + (1 << 31).to_bytes(4, "big") + b"mdat" + bytes(20),
        box(b"moov", bytes(40)),
    ],
)
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidData):
        places(data)


@given(st.integers(0, len(FILE) - 1), st.binary(max_size=64))
def test_reading_a_damaged_file_terminates(at: int, noise: bytes) -> None:
    with contextlib.suppress(InvalidData):
        assert len(places(FILE[:at] + noise + FILE[at + len(noise) :])[0]) <= len(FILE) // 8
