"""Media that ffmpeg writes as private data without a name."""

import pytest

from gateway.formats.ts.data_units import DataUnit
from gateway.formats.ts.program_tables import UNNAMED
from gateway.live.program_intake import lost_streams
from gateway.media.track import ForeignSound, Kind
from tests.support.media import made_once
from tests.support.tools import need
from tests.unit.formats.ts.test_program_reader import (
    FILLING,
    counters_after,
    data_pes,
    packets_of,
    pat,
    pes_packets,
    pid_at,
    pmt,
    read,
    section_packet,
    table,
    tracks_of,
    units_of,
)

BOTH = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25", "-f", "lavfi", "-i", "anoisesrc=sample_rate=48000"]


@pytest.mark.parametrize(
    ("encoder", "codec", "use"),
    [
        (["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"], "Motion JPEG", "lost video"),
        (["-c:v", "jpeg2000"], "JPEG 2000", "lost video"),
        (["-c:v", "libvpx"], "VP8", "lost video"),
        (["-c:v", "libvpx-vp9", "-cpu-used", "8"], "VP9", "lost video"),
        (["-c:v", "libsvtav1", "-preset", "12"], "AV1", "lost video"),
        (["-c:v", "prores"], "ProRes", "lost video"),
        (["-map", "1", "-c:a", "flac"], "FLAC", "lost audio"),
        (["-map", "1", "-c:a", "aac", "-mpegts_m2ts_mode", "1"], "aac", "audio"),
    ],
)
def test_media_without_a_name_are_recognized(encoder: list[str], codec: str, use: str) -> None:
    need("ffmpeg")
    film = made_once("unnamed", ["ffmpeg", *BOTH, *encoder, "-t", "1", "-f", "mpegts"]).read_bytes()
    events = read(film)
    before, *_, after = [next(s for s in e.streams if s.stream_type == 6) for e in tracks_of(events)]
    assert (before.use, before.codec) == ("private", "private")
    assert (after.use, after.codec) == (use, codec)
    assert (after.lost is not None) == use.startswith("lost")
    assert not [e for e in events if isinstance(e, DataUnit)]
    assert use == "lost audio" or len(units_of(events, Kind.AUDIO)) > 30


def _with_stream_types(name: str, pictures: int, sound: int) -> bytes:
    """Returns a film with another program map."""
    packets = packets_of(name)
    number = tracks_of(read(b"".join(packets)))[0].program
    map_pid = next(pid_at(p, 0) for p in packets if pid_at(p, 0) not in (0, 0x11, 0x100, 0x101))
    section = pmt(number, [(pictures, 0x100, b""), (sound, 0x101, b"")])
    return b"".join(section_packet(map_pid, section, p[3] & 15) if pid_at(p, 0) == map_pid else p for p in packets)


@pytest.mark.parametrize(
    ("name", "wrong", "codec"),
    [
        *(("h264", 0x03, "aac"), ("h264", 0x04, "aac"), ("h264", 0x11, "aac"), ("mp2", 0x0F, "mp2")),
        *(("mp2", 0x11, "mp2"), ("latm", 0x0F, "aac"), ("latm", 0x03, "aac")),
    ],
)
def test_sound_with_the_stream_type_of_another_codec_is_recognized(name: str, wrong: int, codec: str) -> None:
    reader, events = counters_after(_with_stream_types(name, 0x1B, wrong))
    wanted = units_of(read(b"".join(packets_of(name))), Kind.AUDIO)
    got = units_of(events, Kind.AUDIO)
    assert tracks_of(events)[-1].streams[-1].codec == codec
    assert [(e.unit.dts, e.unit.payload, e.foreign) for e in got] == [
        (e.unit.dts, e.unit.payload, e.foreign) for e in wanted[len(wanted) - len(got) :]]  # fmt: skip
    most = 21 if name == "latm" else 10
    assert len(wanted) - len(got) <= most, "of the first PES packet, and those of LATM before its next configuration"
    assert not reader.counters.damaged


@pytest.mark.parametrize(("name", "wrong", "codec"), [("h264", 0x24, "h264"), ("h265", 0x1B, "h265")])
def test_pictures_with_the_stream_type_of_the_other_codec_play(name: str, wrong: int, codec: str) -> None:
    events = read(_with_stream_types(name, wrong, 0x0F))
    wanted = units_of(read(b"".join(packets_of(name))), Kind.VIDEO)
    got = units_of(events, Kind.VIDEO)
    assert tracks_of(events)[-1].streams[0].codec == codec
    second = [n for n, e in enumerate(wanted) if e.unit.key][1]
    assert [(e.unit.dts, e.unit.payload) for e in got] == [(e.unit.dts, e.unit.payload) for e in wanted[second:]]


@pytest.mark.parametrize(("kind", "codec"), [(0x90, "pcm_alaw"), (0x91, "pcm_mulaw")])
def test_sound_of_cameras_is_read_as_g711(kind: int, codec: str) -> None:
    """ICSee and Tapo: AlexxIT/go2rtc #2159."""
    head = section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, [(0x1B, 0x100, b""), (kind, 0x101, b"")]))
    sound = [bytes((n,)) * 80 for n in range(3)]
    events = read(head + b"".join(data_pes(0x101, s, 900 * n, 0xC0) for n, s in enumerate(sound)))
    got = units_of(events, Kind.AUDIO)
    assert [(e.unit.dts, e.unit.payload) for e in got] == [(900 * n, s) for n, s in enumerate(sound)]
    assert [e.foreign for e in got] == [ForeignSound(codec, 8_000, 1)] * 3


def test_subtitles_of_blu_ray_discs_are_no_sound() -> None:
    section = pmt(1, [(0x1B, 0x100, b""), (0x90, 0x101, b"")])
    body = section[8:10] + b"\xf0\x06\x05\x04HDMV" + section[12:-4]
    (tracks,) = tracks_of(read(section_packet(0, pat({1: 0x20})) + section_packet(0x20, table(2, 1, body)) + FILLING))
    assert [s.codec for s in tracks.streams] == ["h264"]


@pytest.mark.parametrize(("name", "codec"), [("h264", "h264"), ("h265", "h265")])
def test_pictures_in_private_data_without_a_name_play_from_the_second_key_frame_on(name: str, codec: str) -> None:
    reader, events = counters_after(_with_stream_types(name, 0x06, 0x0F))
    wanted = units_of(read(b"".join(packets_of(name))), Kind.VIDEO)
    got = units_of(events, Kind.VIDEO)
    assert [s.codec for s in tracks_of(events)[-1].streams] == [codec, "aac"]
    second = [n for n, e in enumerate(wanted) if e.unit.key][1]
    assert [(e.unit.dts, e.unit.payload) for e in got] == [(e.unit.dts, e.unit.payload) for e in wanted[second:]]
    assert not reader.counters.damaged


@pytest.mark.parametrize("encoder", ["pcm_s16le", "vorbis", "alac"])
def test_sound_that_cannot_be_recognized_is_named_so(encoder: str) -> None:
    need("ffmpeg")
    sound = ["-strict", "-2", "-ac", "2", "-c:a", encoder]
    film = made_once("unnamed", ["ffmpeg", *BOTH, "-c:v", "libx264", *sound, "-t", "11", "-f", "mpegts"]).read_bytes()
    events = read(film)
    first, *_, last = tracks_of(events)
    assert [s.codec for s in first.streams] == ["h264", "private"] and not lost_streams(first)
    assert lost_streams(last) == {UNNAMED: Kind.AUDIO}
    assert [s.use for s in last.streams] == ["video", "private"]
    assert len([e for e in events if isinstance(e, DataUnit)]) > 99, "data are passed on as before"


@pytest.mark.parametrize(
    ("others", "lost"),
    [
        ([(0x1B, 0x101, b"")], {UNNAMED: Kind.AUDIO}),
        ([(0x1B, 0x101, b""), (0x0F, 0x102, b"")], {}),
        ([(0x1B, 0x101, b""), (0x82, 0x102, b"")], {"DTS": Kind.AUDIO}),
        ([(0x0F, 0x102, b"")], {}),
        ([(0x0F, 0x102, b""), (0xA0, 0x103, b"")], {"unknown stream type 0xa0": Kind.VIDEO}),
        ([(0x1B, 0x101, b""), (0x92, 0x102, b"")], {UNNAMED: Kind.AUDIO, "unknown stream type 0x92": Kind.AUDIO}),
        ([(0x1B, 0x101, b""), (0x0F, 0x102, b""), (0xA0, 0x103, b"")], {}),
    ],
)
def test_data_without_a_name_are_taken_for_sound_where_it_is_missing(
    others: list[tuple[int, int, bytes]], lost: dict[str, Kind]
) -> None:
    head = section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, [(0x06, 0x100, b""), *others]))
    events = read(head + b"".join(data_pes(0x100, b"telemetry %d" % n, 900 * n) for n in range(300)))
    assert lost_streams(tracks_of(events)[-1]) == lost


def test_data_with_a_name_are_not_taken_for_media() -> None:
    jpeg = b"\xff\xd8\xff\xe0 a still"
    streams = [(0x0F, 0x100, b""), (0x06, 0x101, b"\x05\x04ABCD"), (0x15, 0x102, b"")]
    head = section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, streams))
    events = read(head + data_pes(0x101, jpeg, 900) + data_pes(0x102, jpeg, 900))
    (tracks,) = tracks_of(events)
    assert [s.codec for s in tracks.streams] == ["aac", "private", "metadata"]
    assert [e.payload for e in events if isinstance(e, DataUnit)] == [jpeg, jpeg]


def test_a_program_of_unknown_types_is_named() -> None:
    head = section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, [(0xA0, 0x100, b"")]))
    reader, events = counters_after(head + FILLING)
    assert lost_streams(tracks_of(events)[-1]) == {"unknown stream type 0xa0": Kind.VIDEO}
    assert reader.explain() == ""


def test_a_program_of_private_data_is_explained() -> None:
    head = section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, [(0x06, 0x100, b"")]))
    reader, _ = counters_after(head + data_pes(0x100, b"?", 900) + FILLING)
    assert reader.explain() == "the program has neither pictures nor sound, only private data"


def test_wrong_checksums_and_missing_times_are_explained() -> None:
    """VideoCast-Swift wrote tables with wrong checksums (its issue 47)."""
    tables = section_packet(0, pat({1: 0x20})[:-1] + b"?") + section_packet(0x20, pmt(1, [(0x1B, 0x100, b"")]))
    assert counters_after(tables + FILLING)[0].explain() == "the tables of the programs (PAT, PMT) have wrong checksums"
    tables = section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, [(0x1B, 0x100, b"")]))
    marked = b"".join(p[:1] + bytes((p[1] | 0x80,)) + p[2:] for p in (tables[:188], tables[188:]))
    assert "marked as damaged" in counters_after(marked + FILLING)[0].explain()
    packets, _ = pes_packets(0x100, b"\0\0\0\1\x65\x88key", None, 0)
    assert counters_after(tables + packets * 2)[0].explain() == "they have no presentation times (PTS)"
