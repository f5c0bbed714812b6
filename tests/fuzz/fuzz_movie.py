"""Indexes of finished recordings: any bytes are read or refused with InvalidData."""

from __future__ import annotations

import io

from gateway.formats.mp4.finish import finish
from gateway.formats.mp4.movie_reader import MovieReader
from gateway.formats.mp4.reader import boxes
from gateway.media.errors import InvalidData
from tests.fuzz import fuzz_finish


def seeds() -> list[bytes]:
    """The index of each movie that we make of the seeds of fuzz_finish."""
    found = []
    for seed in fuzz_finish.seeds():
        target = io.BytesIO()
        try:
            finish(io.BytesIO(seed), target)
        except InvalidData:
            continue
        movie = target.getvalue()
        found += [movie[box.start : box.end] for box in boxes(movie) if box.kind == b"moov"]
    return found


def fuzz(data: bytes) -> None:
    """Oracle: InvalidData, or a range of bytes whose samples are not larger than it."""
    try:
        reader = MovieReader(data)
        first, last = reader.select(0, 1000)
        assert 0 <= first <= last
        units = reader.receive(bytes(min(last - first, 10_000)))
    except InvalidData:
        return
    assert sum(len(unit.payload) for unit in units) <= 10_000
