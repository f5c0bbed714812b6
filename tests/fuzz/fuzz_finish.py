"""Recordings left by a crash: any bytes become a readable movie, or are refused with InvalidData."""

from __future__ import annotations

import io

from gateway.formats.mp4.finish import finish
from gateway.formats.mp4.fragment import Mp4Sample, fragment
from gateway.formats.mp4.init import TrackInit, movie_init
from gateway.formats.mp4.reader import boxes
from gateway.media.errors import InvalidData
from tests.support.builders import AUDIO, VIDEO


def seeds() -> list[bytes]:
    """Recordings as we write them: whole, torn, of one track."""
    head = movie_init([TrackInit(VIDEO, 1, 90_000), TrackInit(AUDIO, 2, 44_100)])
    pictures = [Mp4Sample(3000, 6000 - 3000 * (n % 3), n == 0, bytes((n,)) * (20 + n)) for n in range(6)]
    sounds = [Mp4Sample(1024, 0, True, bytes((n,)) * 12) for n in range(6)]
    first, second = fragment(1, 1, 90_000, pictures), fragment(2, 2, 44_100, sounds)
    return [head, head + first, head + first + second, head + second + first[:-7], head + first + bytes(40),
            movie_init([TrackInit(AUDIO, 2, 44_100)]) + second]  # fmt: skip


def fuzz(data: bytes) -> None:
    """Oracle: InvalidData or a movie whose boxes fill it, not larger than the input but for its index."""
    target = io.BytesIO()
    try:
        result = finish(io.BytesIO(data), target)
    except InvalidData:
        return
    movie = target.getvalue()
    kinds = [box.kind for box in boxes(movie)]
    assert kinds == [b"ftyp", b"moov", b"mdat"]
    assert (result.bytes, result.whole <= len(data), result.torn) == (len(movie), True, result.whole < len(data))
    assert len(movie) <= 20 * len(data) + 5_000
