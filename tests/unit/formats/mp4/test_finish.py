"""A fragmented recording becomes a movie with its index at the front, also after a crash."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.formats.mp4 import movie as movies
from gateway.formats.mp4.finish import Finished, finish
from gateway.formats.mp4.fragment import Mp4Sample, fragment
from gateway.formats.mp4.init import TrackInit, movie_init
from gateway.formats.mp4.reader import boxes, find
from gateway.media.errors import InvalidData
from tests.support.builders import AUDIO, VIDEO

HEAD = movie_init([TrackInit(VIDEO, 1, 90_000), TrackInit(AUDIO, 2, 44_100)])


@dataclass
class Shown:
    """One sample from the index. time: presentation time in seconds; data: the bytes at its position."""

    time: float
    decoded: float
    key: bool
    data: bytes


def recording(seconds: int = 3, *, shifts: Sequence[int] = (0,), start: float = 5.0, late: float = 0.0) -> list[bytes]:
    """The header and a fragment of each track for each second."""
    pieces = [HEAD]
    for second in range(seconds):
        pictures = [
            Mp4Sample(3000, shifts[n % len(shifts)] * 3000, n == 0, bytes([second, n, 1]) * (n + 10)) for n in range(30)
        ]
        pieces.append(fragment(2 * second, 1, int(90_000 * (start + second)), pictures))
        sounds = [Mp4Sample(1024, 0, True, bytes([second, n, 2]) * (n + 3)) for n in range(43)]
        at = int(44_100 * (start + late)) + second * 43 * 1024
        pieces.append(fragment(2 * second + 1, 2, at, sounds))
    return pieces


def finished(data: bytes, created: float = 0.0) -> tuple[bytes, Finished]:
    target = io.BytesIO()
    result = finish(io.BytesIO(data), target, created=created)
    return target.getvalue(), result


def samples(movie: bytes) -> dict[bytes, list[Shown]]:
    """The samples by handler, read independently from the tables of ISO/IEC 14496-12 §8.6 and §8.7."""
    moov = find(movie, b"moov")
    assert moov is not None
    mvhd = find(movie, b"mvhd", start=moov.payload, end=moov.end)
    assert mvhd is not None
    movie_scale = struct.unpack_from(">I", movie, mvhd.payload + 12)[0]
    tracks: dict[bytes, list[Shown]] = {}
    for trak in boxes(movie, moov.payload, moov.end):
        if trak.kind != b"trak":
            continue

        def table(*path: bytes, form: str, start: int = 4) -> list[tuple[int, ...]]:
            there = find(movie, *path, start=trak.payload, end=trak.end)  # noqa: B023
            if there is None:
                return []
            count = struct.unpack_from(">I", movie, there.payload + start)[0]
            return [
                struct.unpack_from(form, movie, there.payload + start + 4 + n * struct.calcsize(form))
                for n in range(count)
            ]

        stbl = (b"mdia", b"minf", b"stbl")
        mdhd, hdlr = (find(movie, b"mdia", k, start=trak.payload, end=trak.end) for k in (b"mdhd", b"hdlr"))
        assert mdhd is not None and hdlr is not None
        scale = struct.unpack_from(">I", movie, mdhd.payload + 12)[0]
        times = [0]
        for count, delta in table(*stbl, b"stts", form=">II"):
            times += [times[-1] + delta * (n + 1) for n in range(count)]
        total = len(times) - 1
        offsets = [v for count, v in table(*stbl, b"ctts", form=">Ii") for _ in range(count)] or [0] * total
        keys = {n for (n,) in table(*stbl, b"stss", form=">I")} or set(range(1, total + 1))
        stsz = find(movie, *stbl, b"stsz", start=trak.payload, end=trak.end)
        assert stsz is not None
        size, number = struct.unpack_from(">II", movie, stsz.payload + 4)
        sizes = [size] * number if size else [s for (s,) in table(*stbl, b"stsz", form=">I", start=8)]
        places = table(*stbl, b"stco", form=">I") or table(*stbl, b"co64", form=">Q")
        runs = table(*stbl, b"stsc", form=">III")
        late, shift = 0.0, 0
        for duration, media, _ in table(b"edts", b"elst", form=">IiI"):
            if media == -1:
                late = duration / movie_scale
            else:
                shift = media
        shown = []
        sample = 0
        for chunk, (place,) in enumerate(places, 1):
            at = place
            for _ in range(next(count for first, count, _ in reversed(runs) if first <= chunk)):
                time = late + (times[sample] + offsets[sample] - shift) / scale
                decoded = late + (times[sample] - shift) / scale
                shown.append(Shown(time, decoded, sample + 1 in keys, movie[at : at + sizes[sample]]))
                at += sizes[sample]
                sample += 1
        assert sample == total == len(sizes)
        tracks[movie[hdlr.payload + 8 : hdlr.payload + 12]] = shown
    return tracks


def payloads(pieces: Sequence[bytes]) -> Iterator[bytes]:
    """The media bytes of complete fragments."""
    for piece in pieces[1:]:
        moof, mdat = boxes(piece)
        assert (moof.kind, mdat.kind) == (b"moof", b"mdat")
        yield piece[mdat.payload : mdat.end]


def test_the_index_is_at_the_front_and_the_boxes_fill_the_file() -> None:
    movie, result = finished(b"".join(recording()))
    assert [b.kind for b in boxes(movie)] == [b"ftyp", b"moov", b"mdat"]
    assert (result.bytes, result.torn) == (len(movie), False)
    assert find(movie, b"moov", b"mvex") is None


def test_the_index_has_the_right_position_of_every_sample() -> None:
    pieces = recording()
    tracks = samples(finished(b"".join(pieces))[0])
    assert b"".join(s.data for s in tracks[b"vide"]) == b"".join(list(payloads(pieces))[0::2])
    assert b"".join(s.data for s in tracks[b"soun"]) == b"".join(list(payloads(pieces))[1::2])
    assert [n for n, s in enumerate(tracks[b"vide"]) if s.key] == [0, 30, 60]
    assert all(s.key for s in tracks[b"soun"])


@pytest.mark.parametrize("shifts", [(0,), (2, 4, 1, 1), (1,), (-1, 1, 0)], ids=str)
def test_presentation_times_start_at_zero_and_follow_the_recording(shifts: tuple[int, ...]) -> None:
    tracks = samples(finished(b"".join(recording(shifts=shifts, late=shifts[0] / 30)))[0])
    wanted = [(n + shifts[n % 30 % len(shifts)] - shifts[0]) / 30 for n in range(90)]
    assert [s.time for s in tracks[b"vide"]] == pytest.approx(wanted, abs=1e-4)


def test_sound_that_starts_later_stays_in_sync() -> None:
    tracks = samples(finished(b"".join(recording(late=0.25)))[0])
    assert tracks[b"vide"][0].time == 0
    assert tracks[b"soun"][0].time == pytest.approx(0.25, abs=1e-4)


def test_sound_that_starts_earlier_delays_the_picture() -> None:
    tracks = samples(finished(b"".join(recording(late=-0.25)))[0])
    assert tracks[b"soun"][0].time == 0
    assert tracks[b"vide"][0].time == pytest.approx(0.25, abs=1e-4)


def test_a_gap_between_fragments_extends_the_previous_sample() -> None:
    pieces = [HEAD, fragment(1, 2, 0, [Mp4Sample(1024, 0, True, b"a"), Mp4Sample(1024, 0, True, b"b")])]
    pieces.append(fragment(2, 2, 44_100, [Mp4Sample(1024, 0, True, b"c")]))
    tracks = samples(finished(b"".join(pieces))[0])
    assert [round(s.time * 44_100) for s in tracks[b"soun"]] == [0, 1024, 44_100]


def test_a_track_without_samples_is_left_out() -> None:
    pieces = recording()
    tracks = samples(finished(b"".join([pieces[0], *pieces[1::2]]))[0])
    assert set(tracks) == {b"vide"}


def test_the_movie_has_the_right_duration_and_creation_time() -> None:
    movie, result = finished(b"".join(recording(seconds=3)), created=1.7e9)
    mvhd = find(movie, b"moov", b"mvhd")
    assert mvhd is not None
    created, _, scale, duration = struct.unpack_from(">4I", movie, mvhd.payload + 4)
    assert created == 1_700_000_000 + 2_082_844_800
    assert duration / scale == pytest.approx(result.seconds) == pytest.approx(3.0, abs=0.03)


def test_movies_above_4_gb_use_64_bit_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = recording()
    plain, _ = finished(b"".join(pieces))
    real = movies._moov
    monkeypatch.setattr(movies, "_moov", lambda traks, at, wide, *more: real(traks, at, True, *more))
    monkeypatch.setattr(movies, "_MAX_NARROW", 0)
    wide, _ = finished(b"".join(pieces))
    assert find(wide, b"moov", b"trak", b"mdia", b"minf", b"stbl", b"co64") is not None
    assert samples(wide) == samples(plain)


def test_all_fragments_before_a_truncated_one_are_saved() -> None:
    pieces = recording(seconds=2)
    whole = b"".join(pieces[:-1])
    want, _ = finished(whole)
    last = len(pieces[-1])
    # Each length of its headers, and many that end in its samples.
    for length in (len(whole) + rest for rest in (*range(min(300, last)), *range(300, last, 23), last - 1)):
        movie, result = finished(b"".join(pieces)[:length])
        assert movie == want
        assert (result.whole, result.torn) == (len(whole), length > len(whole))


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_a_truncated_or_zero_filled_recording_gives_a_prefix(data: st.DataObject) -> None:
    pieces = recording(seconds=2)
    intact = b"".join(pieces)
    at = data.draw(st.integers(0, len(intact)))
    # What file systems leave behind a power cut: nothing, or zeros.
    torn = intact[:at] + bytes(data.draw(st.sampled_from((0, 1, 7, 8, 9, 5000))))
    try:
        movie, _ = finished(torn)
    except InvalidData:
        assert at < len(pieces[0]) + len(pieces[1])
        return
    want = samples(finished(intact)[0])
    for handler, got in samples(movie).items():
        # Zeros may fill the fragment that was being written; everything in front of it is as it was.
        sure = [s.data for s in got if 0 not in s.data[-1:]]
        assert sure == [s.data for s in want[handler]][: len(sure)]


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 100, HEAD[:50], HEAD, HEAD + b"\0" * 50, b"not a movie at all" * 10], ids=range(6)
)
def test_a_recording_without_complete_fragments_raises_invalid_data(data: bytes) -> None:
    with pytest.raises(InvalidData):
        finished(data)


def test_a_recording_truncated_while_being_read_raises_an_error() -> None:
    class Shrinking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            return b"" if size is not None and size > 5_000 else data

    pieces = [HEAD, fragment(1, 1, 0, [Mp4Sample(3000, 0, True, bytes(10_000))])]
    with pytest.raises(OSError, match="shorter"):
        finish(Shrinking(b"".join(pieces)), io.BytesIO())
