"""Reads finished recordings again: the samples of a time range, and refusals of damaged files."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.formats.mp4.finish import finish
from gateway.formats.mp4.fragment import Mp4Sample, fragment
from gateway.formats.mp4.init import TrackInit, movie_init
from gateway.formats.mp4.movie_reader import MovieReader
from gateway.formats.mp4.reader import find
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind
from tests.support.builders import AUDIO, VIDEO
from tests.support.examples import examples

FRAMES = 30


def movie(seconds: int = 4, additional: int = 0) -> bytes:
    """A recording with sound; each second has a key frame and reordered pictures. additional: more audio tracks."""
    more = range(3, 3 + additional)
    data = movie_init([TrackInit(VIDEO, 1, 90_000), *(TrackInit(AUDIO, n, 44_100) for n in (2, *more))])
    for n in range(seconds):
        pictures = [Mp4Sample(3000, 6000 if k % 3 else 3000, k == 0, bytes((n, k)) * (k + 2)) for k in range(FRAMES)]
        sounds = [Mp4Sample(1024, 0, True, bytes((n, k)) * 9) for k in range(43)]
        data += fragment(2 * n + 1, 1, 90_000 * n, pictures) + fragment(2 * n + 2, 2, 43 * 1024 * n, sounds)
        other = [Mp4Sample(1024, 0, True, b"another track")] * 43
        data += b"".join(fragment(2 * n + 2, number, 43 * 1024 * n, other) for number in more)
    target = io.BytesIO()
    finish(io.BytesIO(data), target)
    return target.getvalue()


MOVIE = movie()


def moov(data: bytes = MOVIE) -> bytes:
    box = find(data, b"moov")
    assert box is not None
    return data[box.start : box.end]


def units(start: float, end: float, step: int = 1000, data: bytes = MOVIE) -> list[AccessUnit]:
    reader = MovieReader(moov(data))
    first, last = reader.select(start, end)
    found = [u for at in range(first, last, step) for u in reader.receive(data[at : min(at + step, last)])]
    assert first <= last <= len(data)
    return found


def test_all_samples_are_read_with_their_times() -> None:
    found = units(0, 100)
    pictures = [u for u in found if u.track.kind is Kind.VIDEO]
    sounds = [u for u in found if u.track.kind is Kind.AUDIO]
    assert len(pictures) == 4 * FRAMES
    assert len(sounds) == 4 * 43
    assert [u.payload for u in pictures[:2]] == [b"\0\0" * 2, b"\0\1" * 3]
    assert [u.key for u in pictures] == [k % FRAMES == 0 for k in range(4 * FRAMES)]
    first = pictures[0].dts
    assert [(u.dts - first, u.cts) for u in pictures[:3]] == [(0, 3000), (3000, 6000), (6000, 6000)]
    assert (pictures[0].track.codec, pictures[0].track.config) == (VIDEO.codec, VIDEO.config)
    assert [round((u.dts - sounds[0].dts) * 44_100 / 90_000) for u in sounds[:3]] == [0, 1024, 2048]


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_a_time_range_starts_with_a_key_frame_at_or_before_it(step: int) -> None:
    found = units(2.5, 2.9, step)
    pictures = [u for u in found if u.track.kind is Kind.VIDEO]
    assert pictures[0].key
    shown = [u.dts + u.cts - 90_000 for u in pictures]
    assert min(shown) <= 2.5 * 90_000
    assert max(shown) >= 2.85 * 90_000
    assert len(pictures) <= 2 * FRAMES
    assert found == units(2.5, 2.9)
    assert units(50, 60) == [] or units(50, 60)[0].key


def test_the_first_track_of_each_kind_is_read_from_a_movie_with_additional_tracks() -> None:
    assert units(0.5, 3, data=movie(additional=2)) == units(0.5, 3)


@settings(max_examples=examples(100, 300), deadline=None)
@given(st.integers(0, len(moov()) - 5), st.integers(0, 0xFFFF_FFFF))
def test_damaged_tables_are_read_or_refused(at: int, value: int) -> None:
    data = moov()
    damaged = data[:at] + struct.pack(">I", value) + data[at + 4 :]
    try:
        reader = MovieReader(damaged)
        first, last = reader.select(0, 100)
        taken = reader.receive(MOVIE[first : min(last, len(MOVIE))])
    except InvalidData:
        return
    assert sum(len(u.payload) for u in taken) <= 2 * len(MOVIE)
