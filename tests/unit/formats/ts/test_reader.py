"""Segments of our muxer are read back with all units; other data is refused."""

from __future__ import annotations

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.formats.ts.muxer import TsMuxer
from gateway.formats.ts.packets import PACKET, unwrapped
from gateway.formats.ts.psi import PAT_PID, PMT_PID
from gateway.formats.ts.reader import TsReader
from gateway.media import h264, h265, nal
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind
from tests.support.elementary import Elementary, elementary
from tests.support.examples import examples
from tests.unit.formats.ts.test_muxer import AUDIO, DELAY, VIDEO, slice_unit, written

MASK33 = (1 << 33) - 1


def read(data: bytes, step: int = 0, near: int | None = None) -> list[AccessUnit]:
    """Reads a segment as a whole or in steps."""
    reader = TsReader(near)
    step = step or max(len(data), 1)
    units = [unit for at in range(0, len(data), step) for unit in reader.receive(data[at : at + step])]
    return units + reader.finish()


@functools.cache
def segment(video: str, audio: str) -> bytes:
    """Both streams as a recorded segment that starts with the tables."""
    data = written(elementary(video) if video else None, elementary(audio) if audio else None)
    packets = [data[at : at + PACKET] for at in range(0, len(data), PACKET)]
    tables = [p for p in packets if int.from_bytes(p[1:3], "big") & 0x1FFF in (PAT_PID, PMT_PID)]
    return b"".join([*tables[:2], *[p for p in packets if p not in tables]])


def slices(elementary: Elementary, payload: bytes) -> list[bytes]:
    """The NAL units of a sample without parameter sets and delimiters."""
    is_h264 = elementary.track.codec == "h264"
    left_out = (h264.SPS, h264.PPS, h264.AUD) if is_h264 else (h265.VPS, h265.SPS, h265.PPS, h265.AUD)
    kinds = [(u[0] & 0x1F if is_h264 else u[0] >> 1 & 0x3F, u) for u in nal.split(payload)]
    return [u for kind, u in kinds if kind not in left_out]


@pytest.mark.parametrize("video", ["h264", "h264-b", "h264-aud", "h265"])
def test_pictures_are_read_back_with_times_and_configuration(video: str) -> None:
    film = elementary(video)
    units = [u for u in read(segment(video, "aac")) if u.track.kind is Kind.VIDEO]
    scale = 90_000 // film.track.timescale if 90_000 % film.track.timescale == 0 else None
    assert [slices(film, u.payload) for u in units] == [slices(film, t.payload) for t in film.takes]
    assert [u.key for u in units] == [t.key for t in film.takes]
    if scale:
        assert [(u.dts - DELAY, u.cts) for u in units] == [(t.dts * scale, t.cts * scale) for t in film.takes]
    (track,) = {id(u.track): u.track for u in units}.values()
    if track.codec == "h264":
        ours, theirs = h264.parse_avcc(track.config), h264.parse_avcc(film.track.config)
        assert (ours.sps, ours.pps, ours.length_size) == (theirs.sps, theirs.pps, 4)
    else:
        got, wanted = h265.parse_hvcc(track.config), h265.parse_hvcc(film.track.config)
        assert track.config[:21] == film.track.config[:21], "profile, chroma format and bit depths"
        assert (got.vps, got.sps, got.pps, got.profile, got.level) == (
            wanted.vps, wanted.sps, wanted.pps, wanted.profile, wanted.level)  # fmt: skip


@pytest.mark.parametrize("audio", ["aac", "aac-mono", "mp3", "mp3-low", "ac3", "eac3"])
@pytest.mark.parametrize("video", ["", "h264"])
def test_sound_frames_are_read_back_with_their_times(video: str, audio: str) -> None:
    tone = elementary(audio)
    units = [u for u in read(segment(video, audio)) if u.track.kind is Kind.AUDIO]
    assert [u.payload for u in units] == [t.payload for t in tone.takes]
    for unit, take in zip(units, tone.takes, strict=True):
        assert abs(unit.dts - DELAY - take.dts * 90_000 / tone.track.timescale) < 2
    if audio.startswith("aac"):
        assert units[0].track.config == tone.track.config[:2]


@pytest.mark.parametrize("step", [1, 187, 188, 189, 1000])
def test_a_segment_is_read_from_pieces_of_any_size(step: int) -> None:
    data = segment("h264", "aac")[: 188 * 120]
    assert read(data, step) == read(data)


def test_new_parameter_sets_start_a_new_track() -> None:
    film, other = elementary("h264"), elementary("h264-b")
    muxer = TsMuxer(film.track, None)
    data = muxer.write_tables()
    for n, part in enumerate((film, other)):
        avcc = h264.parse_avcc(part.track.config)
        data += muxer.write_video(n * 9000, 0, True, nal.join([*avcc.sps, *avcc.pps]) + part.takes[0].payload).render()
    first, second = read(data)
    assert h264.parse_avcc(first.track.config).sps == h264.parse_avcc(film.track.config).sps
    assert h264.parse_avcc(second.track.config).sps == h264.parse_avcc(other.track.config).sps


def test_times_continue_after_the_wrap_of_33_bits() -> None:
    muxer = TsMuxer(VIDEO, None)
    start = (1 << 33) - DELAY - 3000
    data = muxer.write_tables() + b"".join(
        muxer.write_video(start + 3000 * n, 3000, n == 0, slice_unit(20, n == 0)).render() for n in range(4)
    )
    assert [(u.dts - start - DELAY, u.cts) for u in read(data)] == [(3000 * n, 3000) for n in range(4)]
    after = read(data, near=start + DELAY + 5 * (1 << 33))
    assert after[0].dts == start + DELAY + 5 * (1 << 33)


@given(st.integers(0, 1 << 60), st.integers(-(1 << 32) + 1, (1 << 32) - 1))
def test_timestamps_are_unwrapped_to_the_value_nearest_the_previous_one(near: int, step: int) -> None:
    assert unwrapped((near + step) & MASK33, near) == near + step


def test_pictures_before_the_first_key_frame_are_ignored() -> None:
    muxer = TsMuxer(VIDEO, AUDIO)
    data = muxer.write_tables() + muxer.write_video(0, 0, False, slice_unit(20)).render()
    data += muxer.write_video(3000, 0, True, slice_unit(20, True)).render()
    assert [u.dts - DELAY for u in read(data)] == [3000]


def test_damaged_transport_streams_are_refused_with_a_reason() -> None:
    data = segment("h264", "")[: 188 * 60]
    damaged = {
        "no sync byte": data[:188] + b"\0" + data[189:],
        "missing": data[: 188 * 4] + data[188 * 5 :],
        "cut short": data[:-7],
        "does not have": data[:188] + data[188 * 2 :],
        "checksum": data[: 188 + 20] + bytes((data[188 + 20] ^ 1,)) + data[188 + 21 :],
        "scrambled": data[: 188 * 2 + 3] + bytes((data[188 * 2 + 3] | 0xC0,)) + data[188 * 2 + 4 :],
    }
    for reason, broken in damaged.items():
        with pytest.raises(InvalidData, match=reason):
            read(broken)


@settings(max_examples=examples(60, 150), deadline=None)
@given(st.integers(0, 188 * 60 - 1), st.binary(min_size=1, max_size=6))
def test_damaged_segments_are_read_or_refused(at: int, noise: bytes) -> None:
    data = segment("h264", "aac")[: 188 * 60]
    broken = data[:at] + noise + data[at + len(noise) :]
    try:
        units = read(broken)
    except InvalidData:
        return
    assert sum(len(u.payload) for u in units) <= 2 * len(broken)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40_000), st.integers(0, 4), st.booleans()), min_size=1, max_size=12))
def test_pictures_of_any_size_are_read_back(pictures: list[tuple[int, int, bool]]) -> None:
    muxer = TsMuxer(VIDEO, None)
    data, wanted = muxer.write_tables(), []
    for n, (size, delay, key) in enumerate(pictures):
        payload = slice_unit(size, key or n == 0)
        data += muxer.write_video(3000 * n, 3000 * delay, key or n == 0, payload).render()
        wanted.append((3000 * n + DELAY, 3000 * delay, key or n == 0, payload))
    assert len(data) % PACKET == 0
    assert [(u.dts, u.cts, u.key, u.payload) for u in read(data)] == wanted
