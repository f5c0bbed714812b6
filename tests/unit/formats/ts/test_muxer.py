"""Transport streams of our muxer, checked with ffmpeg, PyAV and a strict packet reader."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.formats.ts import psi
from gateway.formats.ts.muxer import AUDIO_PID, VIDEO_PID, TsMuxer
from gateway.media import h264, nal
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.track import Codec, Kind, MediaTrack
from tests.support.elementary import Elementary, assert_same, elementary, played
from tests.support.examples import examples
from tests.support.packets import assert_counters, packets, pes

SPS = bytes.fromhex("6764000bacd942847e5c0440000003004000000f03c50a6580")
AVCC = b"\x01\x64\x00\x0b\xff\xe1" + len(SPS).to_bytes(2, "big") + SPS + b"\x01\x00\x04\x68\xeb\xe3\xcb"
VIDEO = MediaTrack(Kind.VIDEO, Codec.H264, 1000, AVCC)
AUDIO = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x11\x90")
DELAY = 63_000


def shown(muxer: TsMuxer, dts: int, cts: int, key: bool, payload: bytes) -> bytes:
    """The rendered packets of one picture."""
    planned = muxer.write_video(dts, cts, key, payload)
    data = planned.render()
    assert planned.size == len(data)
    return data


def heard_as(muxer: TsMuxer, frames: Sequence[bytes], pts: int) -> bytes:
    planned = muxer.write_audio(frames, pts)
    data = b"".join(p.render() for p in planned)
    assert sum(p.size for p in planned) == len(data)
    return data


def ticks(value: int, track: MediaTrack) -> int:
    return value * 90_000 // track.timescale


def written(video: Elementary | None, audio: Elementary | None, *, frames: int = 4, segment: int = 15) -> bytes:
    """Writes both streams interleaved by time, with tables at the start of each segment."""
    muxer = TsMuxer(video and video.track, audio and audio.track)
    out = []
    heard = [
        (ticks(audio.takes[n].dts, audio.track), [t.payload for t in audio.takes[n : n + frames]])
        for n in range(0, len(audio.takes), frames)
    ] if audio else []  # fmt: skip
    for n, take in enumerate(video.takes if video else []):
        assert video is not None
        dts = ticks(take.dts, video.track)
        while heard and heard[0][0] <= dts:
            time, group = heard.pop(0)
            out.append(heard_as(muxer, group, time))
        if n % segment == 0:
            out.append(muxer.write_tables())
        out.append(shown(muxer, dts, ticks(take.cts, video.track), take.key, take.payload))
    if not video:
        out.append(muxer.write_tables())
    out += [heard_as(muxer, group, time) for time, group in heard]
    return b"".join(out)


def slice_unit(size: int, key: bool = False) -> bytes:
    return nal.join([(b"\x65" if key else b"\x41") + b"\xab" * (size - 1)])


@pytest.mark.parametrize("video", ["h264", "h264-b", "h264-aud", "h265"])
@pytest.mark.parametrize("audio", ["aac", "mp3"])
def test_ffmpeg_decodes_the_same_frames_as_from_the_source(video: str, audio: str, tmp_path: Path) -> None:
    film, tone = elementary(video), elementary(audio)
    path = tmp_path / "o.ts"
    path.write_bytes(written(film, tone))
    got = played(path)
    wanted = played(film.path)
    assert_same(got.pictures, wanted.pictures, within=0.000_1)
    assert len(got.sounds) >= len(tone.takes) - 2
    # A/V sync: what was first in the sources is as far apart here; a decoder drops no more than its priming.
    first_shown = film.takes[0].cts / film.track.timescale
    assert abs((got.first_picture - got.first_sound) - first_shown) < 0.03


@pytest.mark.parametrize("audio", ["aac", "aac-mono", "mp3", "mp3-low", "ac3", "eac3"])
def test_audio_packets_keep_their_data_and_times(audio: str, tmp_path: Path) -> None:
    tone = elementary(audio)
    path = tmp_path / "o.ts"
    path.write_bytes(written(None, tone))
    with av.open(str(path)) as film:
        stream = film.streams.audio[0]
        got = [p for p in film.demux(stream) if p.size]
        payloads = [bytes(p)[7:] if tone.track.codec is Codec.AAC else bytes(p) for p in got]
        assert payloads == [t.payload for t in tone.takes]
        times = [p.pts - got[0].pts for p in got]
        assert all(abs(a - ticks(t.dts, tone.track)) <= 2 for a, t in zip(times, tone.takes, strict=True))


@pytest.mark.parametrize("video", ["h264", "h264-b", "h264-aud", "h265"])
def test_picture_packets_keep_their_times_and_nal_units(video: str) -> None:
    film = elementary(video)
    data = packets(written(film, None))
    assert_counters(data)
    found = pes(data, VIDEO_PID)
    assert [p.dts for p in found] == [ticks(t.dts, film.track) + DELAY for t in film.takes]
    assert [p.pts - p.dts for p in found] == [ticks(t.cts, film.track) for t in film.takes]
    size = h264.parse_avcc(film.track.config).length_size if film.track.codec is Codec.H264 else 4
    for packet, take in zip(found, film.takes, strict=True):
        units = nal.split_annexb(packet.payload)
        theirs = [u for u in nal.split(take.payload, size) if u[:1] != b"\x09"]
        assert units[-len(theirs) :] == theirs


def test_each_picture_starts_with_one_delimiter_and_key_frames_with_parameter_sets() -> None:
    for name in ("h264", "h264-aud"):
        film = elementary(name)
        for packet, take in zip(pes(packets(written(film, None)), VIDEO_PID), film.takes, strict=True):
            kinds = [u[0] & 0x1F for u in nal.split_annexb(packet.payload)]
            assert kinds[0] == h264.AUD
            assert kinds.count(h264.AUD) == 1
            assert kinds[1:3] == [h264.SPS, h264.PPS] if take.key else h264.SPS not in kinds


def test_hevc_key_frames_carry_vps_sps_pps() -> None:
    film = elementary("h265")
    found = pes(packets(written(film, None)), VIDEO_PID)
    kinds = [u[0] >> 1 & 0x3F for u in nal.split_annexb(found[0].payload)]
    assert kinds[:4] == [35, 32, 33, 34]


def test_parameter_sets_in_a_sample_are_not_written_twice() -> None:
    muxer = TsMuxer(VIDEO, None)
    sample = nal.join([b"\x09\x10", SPS, b"\x68\xff", b"\x06\x05\x01\x80", b"\x65\x88"])
    (packet,) = pes(packets(shown(muxer, 0, 0, True, sample)), VIDEO_PID)
    assert nal.split_annexb(packet.payload) == [b"\x09\xf0", SPS, b"\x68\xff", b"\x06\x05\x01\x80", b"\x65\x88"]


def test_continuity_counters_continue_over_segments() -> None:
    data = packets(written(elementary("h264"), elementary("aac"), segment=5))
    assert_counters(data)
    assert {p.pid for p in data} == {0, psi.PMT_PID, VIDEO_PID, AUDIO_PID}


def test_the_pcr_precedes_the_pictures_and_is_sent_often_enough() -> None:
    for name in ("h264-b", "h264-5fps"):
        found = packets(written(elementary(name), None))
        clocks = [p.pcr for p in found if p.pcr is not None]
        assert all(0 < b - a <= 9_000 for a, b in pairwise(clocks))
        assert all(p.pid == VIDEO_PID for p in found if p.pcr is not None)
        latest = 0
        for packet in found:
            latest = packet.pcr if packet.pcr is not None else latest
            if packet.start and packet.pid == VIDEO_PID:
                assert latest + DELAY <= pes([packet], VIDEO_PID)[0].dts


def test_the_pcr_continues_with_audio_while_pictures_are_missing() -> None:
    muxer = TsMuxer(VIDEO, AUDIO)
    data = muxer.write_tables() + shown(muxer, 0, 0, True, slice_unit(50, key=True))
    data += b"".join(heard_as(muxer, [b"\x21" * 200] * 5, n * 9_600) for n in range(10))
    data += shown(muxer, 90_000, 0, False, slice_unit(50))
    found = packets(data)
    assert_counters(found)
    clocks = [p.pcr for p in found if p.pcr is not None]
    assert all(0 < b - a <= 9_000 for a, b in pairwise(clocks))


def test_a_gap_in_the_stream_is_not_filled_with_pcr_packets() -> None:
    muxer = TsMuxer(VIDEO, None)
    shown(muxer, 0, 0, True, slice_unit(50, key=True))
    assert len(shown(muxer, 90_000 * 60, 0, False, slice_unit(50))) == 188


def test_a_stream_of_sound_only_carries_the_pcr() -> None:
    found = packets(written(None, elementary("aac")))
    assert_counters(found)
    assert all(p.pcr is not None and p.random_access for p in found if p.pid == AUDIO_PID and p.start)


def test_pcr_packets_are_inserted_between_rare_sound_packets() -> None:
    muxer = TsMuxer(None, elementary("aac-mono").track)
    out = [p.render() for n in range(6) for p in muxer.write_audio([b"\x21" * 20], n * 11_520)]  # AAC at 8 kHz: 128 ms
    found = packets(b"".join(out))
    assert_counters(found)
    clocks = [p.pcr for p in found if p.pcr is not None]
    assert clocks == sorted(clocks) and all(b - a <= 9_000 for a, b in pairwise(clocks))
    assert len(b"".join(p.render() for p in muxer.write_audio([b"\x21" * 20], 90_000 * 60))) == 188  # a hole


def test_key_frames_are_random_access_points() -> None:
    film = elementary("h264")
    starts = [p for p in packets(written(film, None)) if p.pid == VIDEO_PID and p.start]
    assert [p.random_access for p in starts] == [t.key for t in film.takes]


@given(st.integers(1, 14_000), st.integers(0, 40), st.booleans())
@settings(max_examples=examples(100, 300), deadline=None)
def test_pictures_of_any_size_are_packetized_completely(size: int, cts: int, key: bool) -> None:
    muxer = TsMuxer(VIDEO, None)
    data = shown(muxer, 900, cts * 90, key, slice_unit(size, key)) + shown(muxer, 4_000, 0, False, slice_unit(1))
    found = packets(data)
    assert_counters(found)
    first, second = pes(found, VIDEO_PID)
    assert nal.split_annexb(first.payload)[-1] == slice_unit(size, key)[4:]
    assert (first.pts - first.dts, second.dts) == (cts * 90, 4_000 + DELAY)


@pytest.mark.parametrize("size", range(120, 420))
def test_stuffing_is_correct_for_every_packet_size(size: int) -> None:
    muxer = TsMuxer(None, AUDIO)
    found = packets(heard_as(muxer, [b"\x21" * size], 0) + heard_as(muxer, [b"\x22" * 9], 1_920))
    assert_counters(found)
    assert pes(found, AUDIO_PID)[0].payload[7:] == b"\x21" * size


def test_times_wrap_at_33_bits() -> None:
    muxer = TsMuxer(VIDEO, None, delay=0)
    found = packets(shown(muxer, (1 << 33) + 5, 3_000, True, slice_unit(9, key=True)))
    assert found[0].pcr == 5
    (packet,) = pes(found, VIDEO_PID)
    assert (packet.dts, packet.pts) == (5, 3_005)


def test_ffmpeg_plays_over_the_timestamp_wrap(tmp_path: Path) -> None:
    film = elementary("h264")
    muxer = TsMuxer(film.track, None)
    start = (1 << 33) - 90_000
    out = [muxer.write_tables()]
    out += [shown(muxer, start + ticks(t.dts, film.track), 0, t.key, t.payload) for t in film.takes]
    path = tmp_path / "o.ts"
    path.write_bytes(b"".join(out))
    assert_same(played(path).pictures, played(film.path).pictures, within=0.000_1)


def test_too_much_audio_for_one_pes_packet_is_split() -> None:
    frames = [bytes([n]) * 8_000 for n in range(20)]
    muxer = TsMuxer(None, AUDIO)
    found = pes(packets(heard_as(muxer, frames, 0)), AUDIO_PID)
    assert [p.pts - DELAY for p in found] == [0, 8 * 1_920, 16 * 1_920]
    assert b"".join(p.payload for p in found).count(b"\xff\xf1") == 20
    with pytest.raises(InvalidData, match="for one PES packet"):
        TsMuxer(None, MediaTrack(Kind.AUDIO, Codec.MP3, 1000, b"")).write_audio([b"x" * 70_000], 0)


def test_an_empty_list_of_frames_gives_no_packets() -> None:
    assert TsMuxer(None, AUDIO).write_audio([], 0) == []


def test_a_refused_picture_does_not_change_the_muxer() -> None:
    one, other = TsMuxer(VIDEO, None), TsMuxer(VIDEO, None)
    for bad in (b"", b"\x00\x00", b"\x00\x00\x00\x09\x41", b"\x00\x00\x00\x00"):
        with pytest.raises(InvalidData):
            one.write_video(0, 0, True, bad)
    assert shown(one, 0, 0, True, slice_unit(500)) == shown(other, 0, 0, True, slice_unit(500))


def test_a_frame_too_long_for_adts_is_refused() -> None:
    with pytest.raises(InvalidData, match="8185"):
        TsMuxer(None, AUDIO).write_audio([b"x" * 8_185], 0)


@pytest.mark.parametrize("codec", [Codec.AV1, Codec.VP9, Codec.VP8])
def test_video_codecs_without_ts_support_are_refused(codec: Codec) -> None:
    with pytest.raises(UnsupportedCodec, match=str(codec)):
        TsMuxer(MediaTrack(Kind.VIDEO, codec, 1000, b""), None)


@pytest.mark.parametrize("codec", [Codec.OPUS, Codec.FLAC])
def test_audio_codecs_without_ts_support_are_refused(codec: Codec) -> None:
    with pytest.raises(UnsupportedCodec, match=str(codec)):
        TsMuxer(None, MediaTrack(Kind.AUDIO, codec, 1000, b""))


def test_a_stream_needs_a_track() -> None:
    with pytest.raises(ValueError, match="without a track"):
        TsMuxer(None, None)


def test_psi_sections_have_correct_checksums() -> None:
    # A CRC over a section and its CRC is 0: ISO/IEC 13818-1 Annex A.
    for body in (psi.pat(), psi.pmt(VIDEO_PID, [(0x1B, VIDEO_PID, b""), (0x87, AUDIO_PID, psi.registration(b"EAC3"))])):
        length = (int.from_bytes(body[2:4], "big") & 0xFFF) + 3
        assert psi.crc32(body[1 : 1 + length]) == 0
        assert set(body[1 + length :]) == {0xFF}
    assert psi.crc32(b"123456789") == 0x0376E6E7
