"""Transport streams of ffmpeg, GStreamer and of our muxer give the same units as ffmpeg finds in them."""

from __future__ import annotations

import contextlib
import hashlib
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.formats.ts import psi
from gateway.formats.ts.data_units import DataUnit
from gateway.formats.ts.packets import PACKET
from gateway.formats.ts.program_reader import ClockJump, Event, ProgramReader, ProgramTracks, ProgramUnit
from gateway.formats.ts.program_tables import StreamUse
from gateway.media import h264, h265, nal
from gateway.media.errors import InvalidData
from gateway.media.nal_codec import NAL_CODECS
from gateway.media.track import Codec, ForeignSound, Kind
from tests.support.elementary import elementary
from tests.support.examples import examples
from tests.support.media import made_once, quick_ffmpeg
from tests.support.time_outs import at_most
from tests.support.tools import need
from tests.unit.formats.ts.test_muxer import DELAY, ticks, written

MASK33 = (1 << 33) - 1
_PICTURE = ["-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25"]
_NOISE = ["-f", "lavfi", "-i", "anoisesrc=amplitude=0.2:sample_rate=48000:seed=7"]
_X264 = ["-c:v", "libx264", "-preset", "veryfast", "-g", "25", "-threads", "1", "-pix_fmt", "yuv420p"]
_X265 = ["-c:v", "libx265", "-preset", "ultrafast", "-g", "25", "-pix_fmt", "yuv420p"]
_X265 += ["-x265-params", "log-level=error:pools=1:bframes=3"]
_AAC = ["-c:a", "aac", "-b:a", "96k"]

# name → ffmpeg arguments
RECIPES: dict[str, list[str]] = {
    "h264": [*_PICTURE, *_NOISE, *_X264, *_AAC],
    "h264-slices": [*_PICTURE, *_X264, "-x264-params", "slices=4:bframes=2"],
    "h264-long": [*_PICTURE, *_X264, "-pes_payload_size", "0", "-mpegts_flags", "+pat_pmt_at_frames"],
    "bounded": [*_PICTURE, *_NOISE, *_X264, *_AAC, "-omit_video_pes_length", "0"],
    "h265": [*_PICTURE, *_NOISE, *_X265, *_AAC],
    "two": [*_PICTURE, *_NOISE, *_NOISE, *_X264, *_AAC, "-map", "0", "-map", "1", "-map", "2",
            "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu"],
    "latm": [*_PICTURE, *_NOISE, *_X264, *_AAC, "-mpegts_flags", "latm"],
    "opus": [*_PICTURE, *_NOISE, *_X264, "-c:a", "libopus"],
    "mp2": [*_PICTURE, *_NOISE, *_X264, "-c:a", "mp2"],
    "aac": [*_NOISE, *_AAC],
    "mp3": [*_NOISE, "-c:a", "libmp3lame"],
    "h264-mp3": [*_PICTURE, *_NOISE, *_X264, "-c:a", "libmp3lame"],
    "ac3": [*_PICTURE, *_NOISE, *_X264, "-c:a", "ac3"],
    "eac3": [*_PICTURE, *_NOISE, *_X264, "-c:a", "eac3"],
    "s302m": [*_PICTURE, *_NOISE, *_X264, "-c:a", "s302m", "-strict", "-2", "-ac", "2"],
    "later": [*_PICTURE, *_NOISE, *_X264, *_AAC, "-output_ts_offset", "5000"],
    "still": ["-f", "lavfi", "-i", "color=size=160x120:rate=25", "-f", "lavfi", "-i", "anullsrc=r=48000:cl=stereo",
              *_X264, "-bf", "0", *_AAC, "-pes_payload_size", "0"],
    "wrap": [*_PICTURE, *_NOISE, *_X264, *_AAC, "-output_ts_offset", "95442.2"],
}  # fmt: skip


def made(name: str) -> Path:
    """The stream of this recipe, made once; 3 seconds."""
    need("ffmpeg")
    recipe = RECIPES[name]
    return made_once("ts", ["ffmpeg", *recipe, "-t", "3", "-f", "mpegts"])


def read(data: bytes, step: int = 0) -> list[Event]:
    """Reads a stream as a whole or in steps."""
    reader = ProgramReader()
    step = step or max(len(data), 1)
    events = [event for at in range(0, len(data), step) for event in reader.receive(data[at : at + step])]
    return events + reader.finish()


def units_of(events: list[Event], kind: Kind) -> list[ProgramUnit]:
    return [e for e in events if isinstance(e, ProgramUnit) and e.unit.track.kind is kind]


def tracks_of(events: list[Event]) -> list[ProgramTracks]:
    return [e for e in events if isinstance(e, ProgramTracks)]


def framehash(path: Path) -> dict[int, list[tuple[int, int, str]]]:
    """What ffmpeg demuxes: DTS, PTS in ticks of 90 kHz and MD5, by stream."""
    done = subprocess.run(
        [quick_ffmpeg(), "-nostdin", "-v", "error", "-copyts", "-i", str(path), "-map", "0", "-c", "copy",
         "-f", "framehash", "-hash", "md5", "-"],
        capture_output=True, timeout=at_most(60), check=True, text=True,
    )  # fmt: skip
    scales: dict[int, Fraction] = {}
    frames: dict[int, list[tuple[int, int, str]]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("#tb "):
            index, scale = line.removeprefix("#tb ").split(": ")
            scales[int(index)] = Fraction(scale) * 90_000
        elif not line.startswith("#"):
            fields = [f.strip() for f in line.split(",")]
            scale_of = scales[int(fields[0])]
            dts, pts = (round(int(f) * scale_of) for f in fields[1:3])
            frames.setdefault(int(fields[0]), []).append((dts, pts, fields[5]))
    return frames


def annexb_units(data: bytes, codec: Codec) -> list[bytes]:
    """The NAL units of a picture without delimiters and parameter sets."""
    table = NAL_CODECS[codec]
    return [u for u in nal.split_annexb(data) if table.type_of(u) not in (table.delimiter, *table.sets)]


def pictures_in(path: Path, codec: Codec) -> list[tuple[int, int, list[bytes]]]:
    """What PyAV demuxes of the pictures: DTS, PTS and NAL units."""
    import av

    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        packets = [p for p in film.demux(stream) if p.dts is not None and p.pts is not None and p.size]
        return [(p.dts or 0, p.pts or 0, annexb_units(bytes(p), codec)) for p in packets]


@pytest.mark.parametrize("name", ["h264", "h264-slices", "h264-long", "bounded", "h265", "wrap"])
def test_pictures_are_those_that_ffmpeg_finds(name: str) -> None:
    path = made(name)
    codec = Codec.H265 if name == "h265" else Codec.H264
    events = read(path.read_bytes())
    wanted = pictures_in(path, codec)
    table = NAL_CODECS[codec]
    got = units_of(events, Kind.VIDEO)
    assert len(got) == 75
    for event, (dts, pts, units) in zip(got, wanted, strict=True):
        unit = event.unit
        ours = [u for u in nal.split(unit.payload) if table.type_of(u) not in (table.delimiter, *table.sets)]
        assert ours == units
        assert (unit.dts & MASK33, unit.dts + unit.cts & MASK33) == (dts & MASK33, pts & MASK33)
        assert unit.track.timescale == 90_000
    assert [e.unit.key for e in got[:51]] == [n % 25 == 0 for n in range(51)]
    decode_times = [e.unit.dts for e in got]
    assert decode_times == sorted(decode_times), "also over the end of the 33 bits"
    if name == "wrap":
        assert decode_times[-1] > MASK33
    record = got[0].unit.track.config
    assert h265.parse_hvcc(record).sps if name == "h265" else h264.parse_avcc(record).sps


@pytest.mark.parametrize(
    ("name", "codec"), [("h264", "aac"), ("latm", "aac"), ("opus", "opus"), ("mp3", "mp3"), ("mp2", "mp2"),
                        ("ac3", "ac3"), ("eac3", "eac3"), ("s302m", "s302m")],
)  # fmt: skip
def test_sound_is_what_ffmpeg_finds(name: str, codec: str) -> None:
    path = made(name)
    events = read(path.read_bytes())
    got = units_of(events, Kind.AUDIO)
    wanted = framehash(path)[0 if name == "mp3" else 1]
    assert tracks_of(events)[-1].streams[-1].codec == codec
    if name == "h264":
        # ffmpeg leaves the ADTS header on the frame.
        hashes = [hashlib.md5(_with_adts(path, e.unit.payload)).hexdigest() for e in got]
    elif name == "latm":
        hashes = [h for _, _, h in wanted]  # ffmpeg leaves the LATM frame as it is: see the test of both forms
    else:
        hashes = [hashlib.md5(e.unit.payload).hexdigest() for e in got]
    assert hashes == [h for _, _, h in wanted]
    for event, (_, pts, _) in zip(got, wanted, strict=True):
        assert abs(event.unit.dts - pts) <= 1, "ffmpeg rounds the times of frames within a PES packet"
        assert (event.foreign is not None) == (name in ("mp2", "s302m"))
    first = next(n for n, e in enumerate(events) if isinstance(e, ProgramUnit) and e.unit.track.kind is Kind.AUDIO)
    assert tracks_of(events[:first])[-1].streams[-1].codec == codec, "the name comes before the first frame"
    if name == "s302m":
        assert got[0].foreign == ForeignSound("s302m", 48_000, 2)
    if name == "mp2":
        assert got[0].foreign == ForeignSound("mp2", 48_000, 1)


def _with_adts(path: Path, payload: bytes) -> bytes:
    from gateway.media import aac

    track = units_of(read(path.read_bytes()[: 188 * 400]), Kind.AUDIO)[0].unit.track
    return aac.Adts(aac.parse_asc(track.config)).make_header(len(payload)) + payload


def test_aac_in_latm_has_the_frames_of_aac_in_adts() -> None:
    adts, latm = (units_of(read(made(name).read_bytes()), Kind.AUDIO) for name in ("h264", "latm"))
    assert [e.unit.payload for e in latm] == [e.unit.payload for e in adts]
    assert [e.unit.dts for e in latm] == [e.unit.dts for e in adts]
    assert latm[0].unit.track.config[:2] == adts[0].unit.track.config


def test_several_sound_tracks_have_their_languages() -> None:
    events = read(made("two").read_bytes())
    (tracks,) = tracks_of(events)
    assert [(s.use, s.codec, s.language) for s in tracks.streams] == [
        ("video", "h264", ""), ("audio", "aac", "eng"), ("audio", "aac", "deu")]  # fmt: skip
    counts = Counter(e.pid for e in units_of(events, Kind.AUDIO))
    assert set(counts) == {s.pid for s in tracks.streams[1:]}
    assert len(set(counts.values())) == 1


@pytest.mark.parametrize("name", ["h264", "latm", "opus", "mp2", "ac3", "h265"])
def test_all_cuts_give_the_same_events(name: str) -> None:
    data = made(name).read_bytes()[: 188 * 300]
    whole = read(data)
    assert whole == read(data, 1) == read(data, 1316) == read(data, 187)
    rng = random.Random(5)
    reader, events, at = ProgramReader(), [], 0
    while at < len(data):
        size = rng.randint(1, 2000)
        events += reader.receive(data[at : at + size])
        at += size
    assert events + reader.finish() == whole


def test_the_delay_of_a_picture_ends_when_the_form_of_pes_packets_is_known() -> None:
    """After 30 PES packets with stuffing at the end, a unit comes with its own last packet."""
    reader = ProgramReader()
    data = made("h264").read_bytes()
    late = 0
    shown = []
    started = -1  # pictures whose first packet came
    for at in range(0, len(data), PACKET):
        packet = data[at : at + PACKET]
        if packet[1] & 0x40 and (packet[1] & 0x1F, packet[2]) == (1, 0):
            late = started - len(shown) + 1
            started += 1
            if started > 62:
                # At most the pictures that fit their packets exactly.
                assert late <= 1
        shown += units_of(reader.receive(packet), Kind.VIDEO)
    assert sum(1 for _ in shown) >= 74


def gst(pipeline: list[str], tmp_path: Path) -> Path:
    need("gst-launch-1.0")
    path = tmp_path / "g.ts"
    subprocess.run(
        ["gst-launch-1.0", "-q", *pipeline, "mpegtsmux", "name=m", "!", "filesink", f"location={path}"],
        check=True, timeout=at_most(60), capture_output=True,
    )  # fmt: skip
    return path


def test_a_stream_of_gstreamer_is_read_as_ffmpeg_does(tmp_path: Path) -> None:
    path = gst(
        ["videotestsrc", "num-buffers=75", "!", "video/x-raw,width=160,height=120,framerate=25/1", "!", "x264enc",
         "key-int-max=25", "!", "m.", "audiotestsrc", "num-buffers=140", "!", "audioconvert", "!", "avenc_aac", "!",
         "m."], tmp_path,
    )  # fmt: skip
    events = read(path.read_bytes())
    got, wanted = units_of(events, Kind.VIDEO), pictures_in(path, Codec.H264)
    assert [(e.unit.dts, e.unit.dts + e.unit.cts) for e in got] == [(dts, pts) for dts, pts, _ in wanted]
    table = NAL_CODECS[Codec.H264]
    for event, (_, _, units) in zip(got, wanted, strict=True):
        ours = [u for u in nal.split(event.unit.payload) if table.type_of(u) not in (table.delimiter, *table.sets)]
        assert ours == units
    sounds = units_of(events, Kind.AUDIO)
    assert len(sounds) == len(next(f for n, f in framehash(path).items() if len(f) != 75))


@pytest.mark.parametrize("video", ["h264", "h264-b", "h264-aud", "h265"])
@pytest.mark.parametrize("audio", ["aac", "mp3", "ac3", "eac3"])
def test_the_units_of_our_muxer_come_back(video: str, audio: str) -> None:
    film, tone = elementary(video), elementary(audio)
    data = written(film, tone)
    # The tables come first in a segment.
    tables = [data[at : at + PACKET] for at in range(0, len(data), PACKET) if pid_at(data, at) in (0, psi.PMT_PID)]
    events = read(b"".join(tables[:2]) + data)
    table = NAL_CODECS[Codec.H265 if video == "h265" else Codec.H264]
    left_out = (table.delimiter, *table.sets)
    pictures = [e.unit for e in units_of(events, Kind.VIDEO)]
    assert [[u for u in nal.split(p.payload) if table.type_of(u) not in left_out] for p in pictures] == [
        [u for u in nal.split(t.payload) if table.type_of(u) not in left_out] for t in film.takes]  # fmt: skip
    assert [(p.dts - DELAY, p.cts, p.key) for p in pictures] == [
        (ticks(t.dts, film.track), ticks(t.dts + t.cts, film.track) - ticks(t.dts, film.track), t.key)
        for t in film.takes
    ]
    assert [e.unit.payload for e in units_of(events, Kind.AUDIO)] == [t.payload for t in tone.takes]


def pid_at(data: bytes, at: int) -> int:
    return int.from_bytes(data[at + 1 : at + 3], "big") & 0x1FFF


# --- faults ---


def packets_of(name: str) -> list[bytes]:
    data = made(name).read_bytes()
    return [data[at : at + PACKET] for at in range(0, len(data), PACKET)]


def counters_after(data: bytes) -> tuple[ProgramReader, list[Event]]:
    reader = ProgramReader()
    return reader, reader.receive(data) + reader.finish()


@pytest.mark.parametrize("seed", range(4))
def test_lost_packets_cost_pictures_until_the_next_key_frame_only(seed: int) -> None:
    rng = random.Random(seed)
    packets = packets_of("h264")
    kept = [p for n, p in enumerate(packets) if n < 3 or rng.random() > 0.01]
    reader, events = counters_after(b"".join(kept))
    whole = {e.unit.dts: e.unit for e in units_of(read(b"".join(packets)), Kind.VIDEO)}
    got = [e.unit for e in units_of(events, Kind.VIDEO)]
    assert 0 < len(got) < 75
    assert reader.counters.continuity_errors > 0
    for before, unit in zip([None, *got], got, strict=False):
        assert unit.payload == whole[unit.dts].payload, "no damaged picture"
        consecutive = before is not None and unit.dts - before.dts == 3600
        assert unit.key or consecutive, "after a gap comes a key frame"


@pytest.mark.parametrize("name", ["h264", "bounded", "h265"])
def test_a_picture_that_the_end_of_the_data_cuts_is_left_out(name: str) -> None:
    """A cable that is pulled, or an encoder that is switched off, ends a push anywhere."""
    packets = packets_of(name)
    starts = [n for n, p in enumerate(packets) if pid_at(p, 0) == 0x100 and p[1] & 0x40]
    cut = next(n for n in range(starts[50] + 1, starts[51]) if pid_at(packets[n], 0) == 0x100) + 1
    assert any(pid_at(p, 0) == 0x100 for p in packets[cut : starts[51]]), "more of this picture follows"
    whole, got = (units_of(read(b"".join(data)), Kind.VIDEO) for data in (packets, packets[:cut]))
    assert [e.unit.payload for e in got] == [e.unit.payload for e in whole[:50]]


def test_a_duplicate_is_dropped_and_counted() -> None:
    packets = packets_of("h264")
    doubled = [p for n, p in enumerate(packets) for _ in range(1 + (n % 7 == 0 and bool(p[3] & 0x10)))]
    reader, events = counters_after(b"".join(doubled))
    media = [p for p in packets[::7] if p[3] & 0x10 and pid_at(p, 0) in (0, 0x100, 0x101, 0x1000)]
    assert reader.counters.duplicates == len(media)
    assert reader.counters.continuity_errors == 0
    assert events_only(events) == events_only(read(b"".join(packets)))


def counting_empty(packets: list[bytes]) -> list[bytes]:
    """The same packets, of which those without payload count, too: lars18th in tsduck #256 wants them so."""
    more, found = dict[int, int](), []
    for packet in packets:
        pid = pid_at(packet, 0)
        more[pid] = more.get(pid, 0) + (not packet[3] & 0x10)
        found.append(packet[:3] + bytes((packet[3] & 0xF0 | packet[3] + more[pid] & 15,)) + packet[4:])
    return found


def with_clock_packets(packets: list[bytes]) -> list[bytes]:
    """The same packets, and one with a clock only before each picture."""
    found, last = list[bytes](), 0
    for packet in packets:
        if pid_at(packet, 0) == 0x100:
            if packet[1] & 0x40:
                found.append(b"\x47\x01\x00" + bytes((0x20 | last, 183, 0)) + b"\xff" * 182)
            last = packet[3] & 15
        found.append(packet)
    return found


def test_packets_without_payload_may_be_counted() -> None:
    """Each of them was a loss: no picture came, and the link was blamed."""
    wanted = [e.unit for e in units_of(read(b"".join(packets_of("h264"))), Kind.VIDEO)]
    reader, events = counters_after(b"".join(counting_empty(with_clock_packets(packets_of("h264")))))
    got = [e.unit for e in units_of(events, Kind.VIDEO)]
    assert reader.counters.continuity_errors <= 4
    keys = [unit.dts for unit in wanted if unit.key]
    assert [u.dts for u in got][-50:] == [u.dts for u in wanted][-50:] and got[0].dts in keys


def test_a_counter_that_never_grows_is_no_loss() -> None:
    standing = [p[:3] + bytes((p[3] & 0xF0,)) + p[4:] for p in packets_of("h264")]
    wanted = [e.unit for e in units_of(read(b"".join(packets_of("h264"))), Kind.VIDEO)]
    reader, events = counters_after(b"".join(standing))
    got = [e.unit for e in units_of(events, Kind.VIDEO)]
    assert [(u.dts, u.payload) for u in got] == [(u.dts, u.payload) for u in wanted[-len(got) :]] and len(got) >= 50
    assert reader.counters.continuity_errors < 50


def test_lost_packets_between_those_without_payload_are_found() -> None:
    packets = with_clock_packets(packets_of("h264"))
    empty = [n for n, p in enumerate(packets) if not p[3] & 0x10 and pid_at(p, 0) == 0x100]
    lost = {n - 1 - next(k for k in range(9) if pid_at(packets[n - 1 - k], 0) == 0x100) for n in empty[10:60:6]}
    reader, _ = counters_after(b"".join(p for n, p in enumerate(packets) if n not in lost))
    assert reader.counters.continuity_errors == len(lost)


def events_only(events: list[Event]) -> list[Event]:
    return [e for e in events if isinstance(e, ProgramUnit)]


def test_garbage_between_packets_is_one_loss_of_synchronisation() -> None:
    packets = packets_of("h264")
    half = len(packets) // 2
    data = b"".join(packets[:half]) + b"garbage\x47" * 9 + b"".join(packets[half:])
    reader, events = counters_after(b"in front" + data)
    assert reader.counters.sync_losses == 1
    assert reader.counters.continuity_errors == 0
    assert len(units_of(events, Kind.VIDEO)) >= 74


@pytest.mark.parametrize(("before", "behind"), [(4, 0), (0, 16)])
@pytest.mark.parametrize("step", [0, 1, 1316])
def test_packets_with_a_time_or_with_parity_have_the_same_units(before: int, behind: int, step: int) -> None:
    packets = packets_of("h264")
    extra = random.Random(1)
    sent = b"".join(extra.randbytes(before) + packet + extra.randbytes(behind) for packet in packets)
    assert read(sent, step) == read(b"".join(packets))


def test_a_damaged_packet_is_not_used() -> None:
    packets = packets_of("h264")
    at = next(n for n, p in enumerate(packets) if n > 100 and pid_at(p, 0) == 0x100 and not p[1] & 0x40)
    packets[at] = packets[at][:1] + bytes((packets[at][1] | 0x80,)) + packets[at][2:]
    reader, events = counters_after(b"".join(packets))
    assert reader.counters.transport_errors == reader.counters.continuity_errors == 1
    assert 25 <= len(units_of(events, Kind.VIDEO)) < 75


def test_a_scrambled_stream_is_ignored_by_name() -> None:
    packets = [p[:3] + bytes((p[3] | 0x80,)) + p[4:] if pid_at(p, 0) == 0x101 else p for p in packets_of("h264")]
    reader, events = counters_after(b"".join(packets))
    assert tracks_of(events)[-1].streams[1].codec == "scrambled"
    assert not units_of(events, Kind.AUDIO)
    assert len(units_of(events, Kind.VIDEO)) == 75
    assert reader.counters.scrambled == sum(pid_at(p, 0) == 0x101 for p in packets)


def test_a_jump_of_the_clock_is_told_before_the_first_unit_after_it() -> None:
    first, second = made("h264").read_bytes(), made("later").read_bytes()
    _, events = counters_after(first + second)
    jumps = [n for n, e in enumerate(events) if isinstance(e, ClockJump)]
    assert len(jumps) == 1
    before = [e.unit.dts for e in events[: jumps[0]] if isinstance(e, ProgramUnit)]
    after = [e.unit.dts for e in events[jumps[0] :] if isinstance(e, ProgramUnit)]
    assert max(before) < 90_000 * 10
    assert min(after) > 90_000 * 1000
    assert len(units_of(events, Kind.VIDEO)) == 150


def test_data_on_another_clock_are_no_jump_of_the_pictures() -> None:
    """KLV has its times in microseconds, and teletext begins at 0."""
    streams = [(0x1B, 0x100, b""), (0x06, 0x103, b"\x05\x04KLVA"), (0x06, 0x104, b"\x56\x05deu\x09\x00")]
    data, counter = section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, streams)), 0
    pictures = access_units("h264")
    for n, (pts, dts, annexb) in enumerate(pictures):
        packets, counter = pes_packets(0x100, annexb, (pts, dts), counter)
        data += packets
        if n % 25 == 0:
            data += data_pes(0x103, b"klv", 1_700_000_000 + n * 40_000) + data_pes(0x104, b"\x10text", n * 3_600)
    events = read(data)
    assert not [e for e in events if isinstance(e, ClockJump)]
    assert [u.unit.dts for u in units_of(events, Kind.VIDEO)] == [dts for _, dts, _ in pictures]
    assert len([e for e in events if isinstance(e, DataUnit)]) == 6


def section_packet(pid: int, section: bytes, counter: int = 0) -> bytes:
    assert len(section) < 184
    return bytes((0x47, 0x40 | pid >> 8, pid & 0xFF, 0x10 | counter)) + (b"\0" + section).ljust(184, b"\xff")


def table(table_id: int, number: int, payload: bytes, version: int = 0) -> bytes:
    head = bytes((table_id, 0xB0 | len(payload) + 9 >> 8, len(payload) + 9 & 0xFF)) + number.to_bytes(2, "big")
    section = head + bytes((0xC1 | version << 1, 0, 0)) + payload
    return section + psi.crc32(section).to_bytes(4, "big")


def pat(programs: dict[int, int], version: int = 0) -> bytes:
    body = b"".join(n.to_bytes(2, "big") + (0xE000 | pid).to_bytes(2, "big") for n, pid in programs.items())
    return table(0, 1, body, version)


def pmt(number: int, streams: list[tuple[int, int, bytes]], version: int = 0, pcr: int = 0x100) -> bytes:
    body = (0xE000 | pcr).to_bytes(2, "big") + b"\xf0\0"
    for kind, pid, extra in streams:
        body += bytes((kind,)) + (0xE000 | pid).to_bytes(2, "big") + (0xF000 | len(extra)).to_bytes(2, "big") + extra
    return table(2, number, body, version)


FILLING = (b"\x47\x1f\xff\x10" + b"\xff" * 184) * 3

STREAMS = [
    (0x1B, 0x100, b""),
    (0x44, 0x101, b""),
    (0x86, 0x102, b""),
    (0x06, 0x103, b"\x05\x04KLVA"),
    (0x06, 0x104, b"\x56\x05deu\x09\x00"),
    (0x06, 0x105, b"\x59\x08fra\x10\0\0\0\0"),
    (0x06, 0x106, b"\x6a\x01\x00\x0a\x04spa\x00"),
    (0x06, 0x107, b"\x05\x04AV01"),
    (0x06, 0x108, b""),
    (0x15, 0x109, b"\x26\x09\x01\x00\xffKLVA\x00\x0f"),
]


def test_streams_have_names_uses_and_languages() -> None:
    events = read(section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, STREAMS)) + FILLING)
    (tracks,) = tracks_of(events)
    assert [(s.codec, s.use, s.language) for s in tracks.streams] == [
        ("h264", "video", ""),
        ("unknown stream type 0x44", "ignored", ""),
        ("scte35", "scte35", ""),
        ("klv", "klv", ""),
        ("teletext", "teletext", "deu"),
        ("dvb subtitles", "ignored", "fra"),
        ("ac3", "audio", "spa"),
        ("AV1", "lost video", ""),
        ("private", "private", ""),
        ("klv", "klv", ""),
    ]


def test_stuffing_packets_have_no_continuity_even_if_a_program_has_no_clock() -> None:
    data = section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, STREAMS, pcr=0x1FFF)) + FILLING * 3
    reader, events = counters_after(data)
    assert len(tracks_of(events)) == 1
    assert reader.counters.continuity_errors == reader.counters.duplicates == 0


def test_a_search_for_frames_in_noise_is_limited_and_the_next_pes_packet_is_read() -> None:
    frame = b"\xff\xf1\x4c\x80\x01\xbf\xfcframe!"
    data = section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, [(0x0F, 0x100, b"")]))
    data += data_pes(0x100, b"\xff" * 100 + frame, 900, 0xC0)
    second = data_pes(0x100, b"\xff\x00" * 9 + frame + frame, 1800, 0xC0)
    (unit, other) = units_of(read(data + second[:3] + b"\x31" + second[4:]), Kind.AUDIO)
    assert (unit.unit.dts, unit.unit.payload, other.unit.dts) == (1800, b"frame!", 1800 + 1920)


def cue(size: int) -> bytes:
    section = b"\xfc\x30" + bytes((size - 3,)) + b"\x00" * (size - 7)
    return section + psi.crc32(section).to_bytes(4, "big")


def data_pes(pid: int, payload: bytes, pts: int, stream_id: int = 0xBD) -> bytes:
    stamp = ((pts >> 30) << 33 | (pts & 0x3FFF_8000) << 2 | (pts & 0x7FFF) << 1 | 0x21_0001_0001).to_bytes(5, "big")
    pes = b"\0\0\1" + bytes((stream_id,)) + (8 + len(payload)).to_bytes(2, "big") + b"\x84\x80\x05" + stamp + payload
    fill = 184 - len(pes)
    field = bytes((fill - 1,)) + (b"\0" + b"\xff" * (fill - 2) if fill > 1 else b"")
    return bytes((0x47, 0x40 | pid >> 8, pid & 0xFF, 0x30)) + field + pes


def test_cues_and_data_are_units() -> None:
    head = section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, STREAMS))
    bad = bytearray(cue(40))
    bad[20] ^= 1
    data = section_packet(0x102, cue(30)) + section_packet(0x102, bytes(bad), 1)
    data += data_pes(0x103, b"klv", 900) + data_pes(0x104, b"\x10text", 1800) + data_pes(0x108, b"?", 2700)
    data += data_pes(0x109, b"\0\0\x0f\0\x04\x06\x0e\x2b\x34", 3600, 0xFC)
    reader, events = counters_after(head + data)
    assert [e for e in events if isinstance(e, DataUnit)] == [
        DataUnit(0x102, StreamUse.SCTE35, None, cue(30)),
        DataUnit(0x103, StreamUse.KLV, 900, b"klv"),
        DataUnit(0x104, StreamUse.TELETEXT, 1800, b"\x10text"),
        DataUnit(0x108, StreamUse.PRIVATE, 2700, b"?"),
        DataUnit(0x109, StreamUse.KLV, 3600, b"\x06\x0e\x2b\x34"),
    ]
    assert reader.counters.crc_errors == 1


def test_a_section_may_continue_in_later_packets() -> None:
    section = pmt(1, STREAMS + [(0x06, 0x200 + n, b"\x05\x04KLVA") for n in range(15)])
    assert 184 < len(section) < 360
    first = b"\x47\x40\x20\x10\0" + section[:183]
    # The rest stands before the pointer to the next section.
    rest = section[183:]
    second = (b"\x47\x40\x20\x11" + bytes((len(rest),)) + rest).ljust(188, b"\xff")
    events = read(section_packet(0, pat({1: 0x20})) + first + second + FILLING)
    assert len(tracks_of(events)[0].streams) == 25


def test_the_first_program_with_media_is_used_in_the_order_of_the_table() -> None:
    data = section_packet(0, pat({5: 0x20, 6: 0x21, 7: 0x22}))
    data += section_packet(0x22, pmt(7, [(0x1B, 0x300, b"")]))
    data += section_packet(0x20, pmt(5, [(0x42, 0x100, b"")]))
    data += section_packet(0x21, pmt(6, [(0x1B, 0x200, b"")]))
    (tracks,) = tracks_of(read(data + FILLING))
    assert tracks.program == 6


@pytest.mark.parametrize("order", [(0x20, 0x21), (0x21, 0x20)])
def test_pictures_come_before_a_program_of_radio(order: tuple[int, int]) -> None:
    """Of a multiplex whose first service is radio, only that was published."""
    maps = {0x20: pmt(5, [(0x0F, 0x100, b"")]), 0x21: pmt(6, [(0x1B, 0x200, b""), (0x0F, 0x201, b"")])}
    data = section_packet(0, pat({5: 0x20, 6: 0x21})) + b"".join(section_packet(pid, maps[pid]) for pid in order)
    (tracks,) = tracks_of(read(data + FILLING))
    assert tracks.program == 6


def test_a_program_of_radio_is_used_if_none_has_pictures() -> None:
    data = section_packet(0, pat({5: 0x20, 6: 0x21}))
    data += section_packet(0x21, pmt(6, [(0x0F, 0x200, b"")])) + section_packet(0x20, pmt(5, [(0x0F, 0x100, b"")]))
    (tracks,) = tracks_of(read(data + FILLING))
    assert tracks.program == 5


def test_a_program_without_map_is_not_awaited_for_ever() -> None:
    data = section_packet(0, pat({5: 0x20, 6: 0x21}))
    data += b"".join(section_packet(0x21, pmt(6, [(0x1B, 0x200, b"")]), n) for n in range(3))
    (tracks,) = tracks_of(read(data + FILLING))
    assert tracks.program == 6


def test_a_changed_map_keeps_streams_and_adds_others() -> None:
    packets = packets_of("h264")
    pmt_pid = next(pid_at(p, 0) for p in packets if pid_at(p, 0) not in (0, 0x11, 0x100, 0x101))
    (tracks,) = tracks_of(read(b"".join(packets)))
    streams = [(0x1B, 0x100, b""), (0x0F, 0x101, b"\x0a\x04fra\0"), (0x86, 0x1FF, b"")]
    half = len(packets) // 2
    changed = [
        section_packet(pmt_pid, pmt(tracks.program, streams, 1), p[3] & 15)
        if n >= half and pid_at(p, 0) == pmt_pid else p
        for n, p in enumerate(packets)
    ]  # fmt: skip
    reader, events = counters_after(b"".join(changed))
    _, second = tracks_of(events)
    assert [s.language for s in second.streams] == ["", "fra", ""]
    assert len(units_of(events, Kind.VIDEO)) == 75, "its entry is unchanged"
    assert reader.counters.continuity_errors == 0


def test_tables_that_change_with_each_packet_are_limited() -> None:
    data = section_packet(0, pat({1: 0x20}))
    for n in range(2000):
        streams = [(0x1B, 0x100 + (n * 7 + k) % 4000, b"") for k in range(30)]
        data += section_packet(0x20, pmt(1, streams, n & 31), n & 15)
    assert 1 <= len(tracks_of(read(data))) <= 2000 // 64 + 1


def test_many_streams_and_programs_are_limited() -> None:
    data = section_packet(0, pat({n: 0x20 + n for n in range(1, 40)}))
    section = pmt(1, [(0x06, 0x200 + n, b"") for n in range(40)] + [(0x1B, 0x400, b"")] * 2)
    data += b"\x47\x40\x21\x10\0" + section[:183]
    data += (b"\x47\x00\x21\x11" + section[183:]).ljust(188, b"\xff")
    events = read(data + FILLING)
    assert not tracks_of(events), "the first 32 streams are no media"
    section = pmt(1, [(0x1B, 0x400, b"")] + [(0x06, 0x200 + n, b"") for n in range(40)])
    data = section_packet(0, pat({1: 0x21})) + b"\x47\x40\x21\x10\0" + section[:183]
    data += (b"\x47\x00\x21\x11" + section[183:]).ljust(188, b"\xff")
    (tracks,) = tracks_of(read(data + FILLING))
    assert len(tracks.streams) == 32


def test_a_pes_packet_without_end_is_dropped() -> None:
    data = section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, [(0x03, 0x100, b"")]))
    start = b"\x47\x41\x00\x10" + b"\0\0\1\xc0\0\0\x80\x80\x05\x21\0\1\0\1".ljust(184, b"\xaa")
    rest = [b"\x47\x01\x00" + bytes((0x10 | n & 15,)) + b"\xaa" * 184 for n in range(1, 7000)]
    reader, events = counters_after(data + start + b"".join(rest))
    assert reader.counters.damaged == 1
    assert len(events) == 1


# --- access units and PES packets ---

SLICE = b"\x00\x00\x01"


def pes_packets(
    pid: int, payload: bytes, times: tuple[int, int] | None, counter: int, excess: int | None = None
) -> tuple[bytes, int]:
    """The packets of one video PES packet, and the next counter.

    excess: bytes by which 16 bits of its length are too many; None: without length.
    """
    body = b"\x80" + (b"\xc0\x0a" + _stamps(*times) if times else b"\0\0") + payload
    length = 0 if excess is None else len(body) + excess & 0xFFFF
    pes = b"\0\0\1\xe0" + length.to_bytes(2, "big") + body
    out = []
    for at in range(0, len(pes), 184):
        piece = pes[at : at + 184]
        fill = 184 - len(piece)
        field = bytes((fill - 1,)) + (b"\0" + b"\xff" * (fill - 2) if fill > 1 else b"") if fill else b""
        flags = 0x40 if at == 0 else 0
        out.append(bytes((0x47, flags | pid >> 8, pid & 0xFF, (0x30 if fill else 0x10) | counter)) + field + piece)
        counter = counter + 1 & 15
    return b"".join(out), counter


def _stamps(pts: int, dts: int) -> bytes:
    shown = (pts >> 30) << 33 | (pts & 0x3FFF_8000) << 2 | (pts & 0x7FFF) << 1 | 0x31_0001_0001
    decoded = (dts >> 30) << 33 | (dts & 0x3FFF_8000) << 2 | (dts & 0x7FFF) << 1 | 0x11_0001_0001
    return (shown << 40 | decoded).to_bytes(10, "big")


def access_units(codec: str) -> list[tuple[int, int, bytes]]:
    """PTS, DTS and Annex B of the pictures of a film, without delimiters. Each has its parameter sets and slices."""
    name = "h265" if codec == "h265" else "h264-slices"
    found = []
    for dts, pts, units in pictures_in(made(name), Codec(codec)):
        found.append((pts, dts, nal.join_annexb(units)))
    sets = nal.join_annexb(
        [u for u in nal.split_annexb(_first_packet(made(name))) if NAL_CODECS[Codec(codec)].type_of(u)
         in NAL_CODECS[Codec(codec)].sets])  # fmt: skip
    return [(found[0][0], found[0][1], sets + found[0][2]), *found[1:]]


def _first_packet(path: Path) -> bytes:
    import av

    with av.open(str(path)) as film:
        return next(bytes(p) for p in film.demux(film.streams.video[0]) if p.size)


def muxed(codec: str, pieces: Iterator[tuple[bytes, tuple[int, int] | None]]) -> bytes:
    kind = 0x24 if codec == "h265" else 0x1B
    data, counter = section_packet(0, pat({1: 0x20})) + section_packet(0x20, pmt(1, [(kind, 0x100, b"")])), 0
    for payload, times in pieces:
        packets, counter = pes_packets(0x100, payload, times, counter)
        data += packets
    return data


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("group", [1, 3, 70])
def test_several_access_units_in_a_pes_packet_are_divided(codec: str, group: int) -> None:
    pictures = access_units(codec)
    pieces = [
        (b"".join(annexb for _, _, annexb in pictures[n : n + group]), pictures[n][:2])
        for n in range(0, len(pictures), group)
    ]
    events = read(muxed(codec, iter(pieces)))
    got = [e.unit for e in units_of(events, Kind.VIDEO)]
    wanted = pictures if group < 70 else pictures[:65]  # more than 64 in a PES packet are not read
    assert len(got) == len(wanted)
    for n, (unit, (pts, dts, annexb)) in enumerate(zip(got, wanted, strict=True)):
        table = NAL_CODECS[Codec(codec)]
        units = [u for u in nal.split_annexb(annexb) if table.type_of(u) not in table.sets]
        assert nal.split(unit.payload) == units
        if n % group == 0:
            assert (unit.dts, unit.dts + unit.cts) == (dts, pts)
        else:
            assert unit.dts == got[n - 1].dts + 3600, "the frame rate of the parameter sets"


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("size", [61, 500])
def test_an_access_unit_in_several_pes_packets_is_joined(codec: str, size: int) -> None:
    pictures = access_units(codec)
    pieces = []
    for pts, dts, annexb in pictures:
        cut = max(size, len(annexb) // 40)
        pieces += [(annexb[at : at + cut], (pts, dts) if at == 0 else None) for at in range(0, len(annexb), cut)]
    _, events = counters_after(muxed(codec, iter(pieces)))
    got = [e.unit for e in units_of(events, Kind.VIDEO)]
    assert [(u.dts, u.dts + u.cts) for u in got] == [(dts, pts) for pts, dts, _ in pictures]
    table = NAL_CODECS[Codec(codec)]
    assert [nal.split(u.payload) for u in got] == [
        [x for x in nal.split_annexb(p) if table.type_of(x) not in table.sets] for _, _, p in pictures]  # fmt: skip


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_pes_packets_that_stop_to_begin_with_access_units_lose_no_picture(codec: str) -> None:
    """Segmenters of files write pictures that end in the next PES packet, so that no packet has stuffing."""
    pictures = access_units(codec)
    pieces, rest = [], b""
    for n, (pts, dts, annexb) in enumerate(pictures):
        payload = rest + annexb
        full = (len(payload) + 19) // 184 * 184 - 19  # with the header, the packets are full
        is_cut = 40 <= n < len(pictures) - 1 and full > len(rest) + 40
        payload, rest = (payload[:full], payload[full:]) if is_cut else (payload, b"")
        pieces.append((payload, (pts, dts)))
    reader, events = counters_after(muxed(codec, iter(pieces)))
    assert [u.unit.dts for u in units_of(events, Kind.VIDEO)] == [dts for _, dts, _ in pictures]
    assert reader.counters.damaged == 0


@pytest.mark.parametrize("step", [0, 1_316])
@pytest.mark.parametrize(("excess", "padding"), [(0, 70_000), (0, 140_000), (3, 0), (3, 40_000)])
def test_wrong_lengths_of_pes_packets_cost_the_first_pictures_only(excess: int, padding: int, step: int) -> None:
    """MistServer wrote three bytes too many (its issue 25), PeerCastStation 16 bits of any length (its PR 551)."""
    data = right = muxed("h264", iter(()))
    pictures, counter = access_units("h264"), 0
    sets = nal.join_annexb(nal.split_annexb(pictures[0][2])[:2])
    for n, (pts, dts, annexb) in enumerate(pictures):
        picture = sets + annexb if n % 25 == 0 else annexb
        if n % 25 == 0 and padding:
            picture += b"\0\0\1\x0c" + b"\xff" * (padding + n) + b"\x80"
        data += pes_packets(0x100, picture, (pts, dts), counter, excess)[0]
        packets, counter = pes_packets(0x100, picture, (pts, dts), counter)
        right += packets
    wanted, got = ([e.unit for e in units_of(events, Kind.VIDEO)] for events in (read(right), read(data, step)))
    assert len(wanted) == 75 and got[-50].key
    for ours, unit in zip(got[-50:], wanted[-50:], strict=True):
        assert (ours.dts, ours.payload) == (unit.dts, unit.payload)


def as_streampack(packets: list[bytes]) -> bytes:
    """A stream as StreamPack 3.2 writes it: a unit that fits into one packet has stuffing over its PES header."""
    written, starts = list[bytes](), dict.fromkeys((0x100, 0x101), 0x40)  # of the next packet of each stream
    first = {pid_at(packet, 0): packet for packet in reversed(packets)}  # with a key frame
    for packet in reversed(packets):
        pid = pid_at(packet, 0)
        is_whole = packet is not first[pid] and packet[1] & starts.get(pid, 0)
        if pid in starts:
            starts[pid] = packet[1] & 0x40
        if is_whole:
            begin = 5 + packet[4]
            unit = packet[begin + 9 + packet[begin + 8] :]
            heads = 4 + (8 if pid == 0x100 else 2) + 14  # of the packet, the adaptation field and the PES packet
            size = 188 - len(unit) - heads - 1
            packet = (packet[:4] + bytes((size, 0)) + b"\xff" * (size - 1) + unit).ljust(188, b"\xff")
        written.append(packet)
    return b"".join(reversed(written))


def test_units_with_stuffing_over_their_pes_header_are_read() -> None:
    """ThibaultBee/StreamPack #224."""
    packets = packets_of("still")
    reader, events = counters_after(as_streampack(packets))
    wanted = read(b"".join(packets))
    for kind, count in ((Kind.VIDEO, 75), (Kind.AUDIO, 142)):
        assert units_of(events, kind) == units_of(wanted, kind)
        assert len(units_of(events, kind)) == count
    assert reader.counters.damaged == 0


def test_pictures_without_decode_times_get_growing_ones() -> None:
    pictures = access_units("h264")
    _, events = counters_after(muxed("h264", ((annexb, (pts, pts)) for pts, _, annexb in pictures)))
    got = [e.unit for e in units_of(events, Kind.VIDEO)]
    assert [u.dts + u.cts for u in got] == [pts for pts, _, _ in pictures]
    times = [u.dts for u in got[5:]]
    assert times == sorted(set(times))
    assert all(u.cts >= 0 for u in got[5:])


def test_pictures_with_rare_times_get_the_rate_of_the_times_they_have() -> None:
    """Without a rate in the parameter sets, those between were 40 ms apart, and hls.js stood still."""
    pictures = access_units("h264")
    sets, rest = nal.split_annexb(pictures[0][2])[:2], pictures[0][2]
    plain = nal.join_annexb([_without_timing(sets[0]), sets[1]]) + rest[len(nal.join_annexb(sets)) :]
    pieces = [(plain if n == 0 else annexb, (9_000 * n, 9_000 * n) if n % 25 == 0 else None)
              for n, (_, _, annexb) in enumerate(pictures)]  # fmt: skip
    got = [e.unit for e in units_of(read(muxed("h264", iter(pieces))), Kind.VIDEO)]
    assert [u.dts for u in got[26:]] == [9_000 * n for n in range(26, 75)]


def _without_timing(sps: bytes) -> bytes:
    """A sequence parameter set without VUI: no rate, and no order."""
    end = h264.parse_sps(sps)
    assert end.frame_rate == 25
    raw = nal.unescape(sps)
    bits = "".join(f"{byte:08b}" for byte in raw)
    for size in range(len(bits) - 1, 40, -1):  # the flag of the VUI is the last bit that can be 0
        cut = bits[:size] + "01"
        unit = int(cut.ljust(-(-len(cut) // 8) * 8, "0"), 2).to_bytes(-(-len(cut) // 8), "big")
        with contextlib.suppress(InvalidData):
            found = h264.parse_sps(unit)
            if found.frame_rate is None and found.reorder is None and (found.width, found.height) == (160, 120):
                return unit
    raise AssertionError("no VUI")


def test_intra_pictures_with_parameter_sets_begin_decoding_without_sei() -> None:
    """Broadcasting has no IDR pictures, and not always recovery points: videojs/mux.js #237."""
    pictures = [(pts, dts, annexb) for pts, dts, annexb in access_units("h264")]
    sets = nal.join_annexb(nal.split_annexb(pictures[0][2])[:2])
    intra = nal.join_annexb([b"\x09\xf0"]) + sets + nal.join_annexb([b"\x61\x88\x84\x00\x11", b"\x61\x42\x08\x84"])
    inter = nal.join_annexb([b"\x09\xf0"]) + sets + nal.join_annexb([b"\x61\x88\x84\x00\x11", b"\x41\x46\x9a\x02"])
    pieces = [(inter if n < 3 else intra, (3_600 * n, 3_600 * n)) for n in range(6)]
    got = [e.unit for e in units_of(read(muxed("h264", iter(pieces))), Kind.VIDEO)]
    assert [(u.dts, u.key) for u in got] == [(3_600 * n, True) for n in range(3, 6)]


@settings(max_examples=examples(30, 60), deadline=None)
@given(st.data())
def test_damaged_streams_raise_nothing_and_do_not_depend_on_cuts(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["h264", "latm", "opus", "mp2", "ac3"]))
    stream = bytearray(made(name).read_bytes()[: 188 * 60])
    for _ in range(data.draw(st.integers(0, 12))):
        at = data.draw(st.integers(0, len(stream) - 1))
        stream[at] = data.draw(st.integers(0, 255))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(stream) - 1))
        del stream[at : at + data.draw(st.sampled_from([1, 187, 188, 1316]))]
    whole = read(bytes(stream))
    assert whole == read(bytes(stream), data.draw(st.integers(1, 3000)))
