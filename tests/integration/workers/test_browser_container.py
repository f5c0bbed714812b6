"""Browser pushes of byte streams through a real worker: viewers get what was recorded."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import signal
import subprocess
from itertools import pairwise
from pathlib import Path

import av
import pytest

from gateway.ingest.websocket import container_intake
from gateway.live.sink import EndReason
from gateway.media import aac, codecs
from gateway.media.track import AccessUnit, Codec, Kind
from gateway.workers.programs.audio_codec import AudioDecoder
from gateway.workers.programs.codec import VideoDecoder
from tests.support import media
from tests.support.at_night import at_night
from tests.support.browser_push import BrowserPush, browser_push, cut, seconds
from tests.support.recorded import (
    CAPTURES,
    GOLDEN,
    audio,
    capture,
    cluster,
    head,
    info,
    segment,
    simple,
    slices,
    tracks,
    video,
)
from tests.support.time_outs import at_most
from tests.support.tools import need

X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-sc_threshold", "0")
VP8 = (*media.VP8, "-g", "50", "-b:v", "600k")
VP9 = (*media.VP9, "-g", "50", "-b:v", "500k")
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-svtav1-params", "pred-struct=1", "-g", "50")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-tag:v", "hvc1", "-x265-params", "log-level=none:bframes=0")
OPUS = ("-c:a", "libopus", "-b:a", "64k")
AAC = ("-c:a", "aac", "-b:a", "96k", "-ar", "44100", "-ac", "2")
FRAGMENTED = ("-movflags", "frag_keyframe+empty_moov", "-f", "mp4")
LIVE = ("-f", "matroska", "-live", "1", "-cluster_time_limit", "250")
FRAMES, RATE = 55, 25
SOME_CAPTURES = ("h264.webm", "vp8.webm", "h264.mp4", "opus.webm", "turn-avc3.mp4")


@functools.cache
def film(*arguments: str, size: str = "160x90", seconds: float = 2.2, sound: bool = True) -> bytes:
    """Returns the output of ffmpeg to a pipe, which cannot seek back, like a browser."""
    need("ffmpeg")
    command = [media.quick_ffmpeg(), "-nostdin", "-v", "error"]
    command += ["-f", "lavfi", "-i", f"testsrc2=size={size}:rate={RATE}"]
    if sound:
        command += ["-f", "lavfi", "-i", "anoisesrc=amplitude=0.2:sample_rate=48000:seed=7"]
    command += ["-t", str(seconds), "-pix_fmt", "yuv420p", *arguments, "pipe:1"]
    return subprocess.run(command, check=True, capture_output=True, timeout=at_most(120)).stdout


async def pushed(data: bytes, seed: int = 1) -> BrowserPush:
    """Pushes a whole recording in pieces of random size."""
    async with browser_push() as push:
        await push.feed(cut(data, seed))
        await push.end()
        assert push.failure is None, push.failure
        return push


def demuxed(data: bytes, tmp_path: Path) -> dict[str, list[tuple[float, float, bytes]]]:
    """Returns (presentation time, decode time, bytes) of every sample by kind, as libav reads the file."""
    path = tmp_path / "film"
    path.write_bytes(data)
    found: dict[str, list[tuple[float, float, bytes]]] = {"video": [], "audio": []}
    with av.open(str(path)) as opened:
        for packet in opened.demux():
            if packet.size and packet.pts is not None and packet.time_base is not None:
                dts = packet.pts if packet.dts is None else packet.dts
                times = float(packet.pts * packet.time_base), float(dts * packet.time_base)
                found[packet.stream.type].append((*times, bytes(packet)))
    return found


def moment(unit: AccessUnit) -> float:
    """Returns the time in seconds at which the unit is shown or heard."""
    return (unit.dts + unit.cts) / unit.track.timescale


def grow(units: list[AccessUnit]) -> bool:
    return all(a.dts < b.dts for a, b in pairwise(units))


def decoded(units: list[AccessUnit]) -> int:
    """Returns the number of decoded pictures, and checks that none is damaged."""
    count = 0
    for config in dict.fromkeys(u.track.config for u in units):
        part = [u for u in units if u.track.config == config]
        decoder = VideoDecoder(part[0].track)
        count += sum(len(decoder.decode(u)) for u in part) + len(decoder.flush())
        assert decoder.damaged == 0
    return count


# ---- copies ----


@pytest.mark.parametrize(
    "arguments",
    [
        (*X264, "-bf", "0", "-profile:v", "baseline", *AAC, *FRAGMENTED),
        (*X264, "-bf", "2", *AAC, *FRAGMENTED),
        (*X264, "-bf", "2", *AAC, "-movflags", "frag_keyframe+empty_moov+default_base_moof", "-f", "mp4"),
        (*X264, "-bf", "3", *AAC, "-movflags", "frag_keyframe+delay_moov+default_base_moof", "-f", "mp4"),
        (*X264, "-bf", "2", *AAC, "-movflags", "cmaf+frag_keyframe", "-f", "mp4"),
        (*X264, "-bf", "0", *AAC, *LIVE),
        (*X264, "-bf", "2", *AAC, *LIVE),
    ],
    ids=["plain", "b-frames", "base-moof", "edit list", "cmaf", "matroska", "matroska b-frames"],
)
async def test_h264_and_aac_are_forwarded_unchanged(arguments: tuple[str, ...], tmp_path: Path) -> None:
    data = film(*arguments)
    wanted = demuxed(data, tmp_path)
    push = await pushed(data)
    assert [u.payload for u in push.pictures] == [p for _, _, p in wanted["video"]]
    assert [u.payload for u in push.sounds] == [p for _, _, p in wanted["audio"]]
    firsts = {}
    for units, kind in ((push.pictures, "video"), (push.sounds, "audio")):
        first = firsts[kind] = wanted[kind][0][0] - moment(units[0])
        assert max(abs(t - first - moment(u)) for u, (t, _, _) in zip(units, wanted[kind], strict=True)) < 0.0021
        assert grow(units)
    # libav moves pictures with negative offsets, and not their sound.
    assert abs(firsts["video"] - firsts["audio"]) <= (0.041 if "cmaf+frag_keyframe" in arguments else 0.0011)
    assert all(u.cts >= 0 for u in push.pictures)
    assert push.epochs == 1
    assert (push.intake.stats.video, push.intake.stats.audio) == ("copy", "copy")
    assert decoded(push.pictures) == FRAMES


async def test_annex_b_in_matroska_is_converted_to_decodable_h264() -> None:
    # What Chromium does: no CodecPrivate, start codes, parameter sets in the key frames.
    push = await pushed(capture("h264.webm"))
    assert decoded(push.pictures) == len(push.pictures) == push.intake.stats.frames
    assert codecs.video_size(push.pictures[0].track) == (320, 240)
    assert sum(u.key for u in push.pictures) == 3


@pytest.mark.parametrize("name", ["turn-h264.webm", "turn-avc3.mp4", "turn-vp8.webm"])
async def test_a_rotated_camera_causes_one_discontinuity(name: str) -> None:
    push = await pushed(capture(name))
    sizes = [codecs.video_size(t.video) for t in push.tracks if t.video is not None]
    assert sizes == [(320, 192), (192, 320)]
    assert push.epochs == 2
    assert grow(push.pictures)
    turned = next(u for u in push.pictures if u.track == push.tracks[-1].video)
    assert turned.key
    assert decoded(push.pictures) == len(push.pictures)


# ---- what Chromium sent ----


@pytest.mark.parametrize("name", [*SOME_CAPTURES, *at_night(*(n for n in CAPTURES if n not in SOME_CAPTURES))])
async def test_a_capture_gives_the_same_output_for_any_division_into_pieces(name: str) -> None:
    async with browser_push() as push:
        await push.feed(slices(name))
        await push.end()
        assert push.failure is None
    again = await pushed(capture(name), seed=len(name))
    for one, other in ((push.pictures, again.pictures), (push.sounds, again.sounds)):
        assert [(u.dts, u.cts, u.key) for u in one] == [(u.dts, u.cts, u.key) for u in other]
        assert grow(one)
    if "h264" in name or "avc3" in name:
        assert [u.payload for u in push.pictures] == [u.payload for u in again.pictures]
    for track in push.tracks:
        assert track.video is None or track.video.codec is Codec.H264
        assert track.audio is None or track.audio.codec is Codec.AAC


@pytest.mark.parametrize("name", [n for n in CAPTURES if not n.startswith("turn") and n != "pcm.webm"])
async def test_sound_and_pictures_of_a_capture_keep_their_duration_and_offset(name: str, tmp_path: Path) -> None:
    wanted = demuxed(capture(name), tmp_path)
    push = await pushed(capture(name))
    if wanted["video"]:
        assert decoded(push.pictures) == len(wanted["video"])
        assert abs(seconds(push.pictures) - (wanted["video"][-1][0] - wanted["video"][0][0])) < 0.002
        apart = wanted["audio"][0][0] - wanted["video"][0][0]
        assert abs((moment(push.sounds[0]) - moment(push.pictures[0])) - apart) < 0.025
    decoder = AudioDecoder(push.sounds[0].track, 1)
    heard = [s for u in push.sounds for s in decoder.decode(u)]
    assert decoder.damaged == 0
    assert sum(s.discontinuity for s in heard) == 1
    assert abs(seconds(push.sounds) - (wanted["audio"][-1][0] - wanted["audio"][0][0])) < 0.1


# ---- transcodes ----


@pytest.mark.parametrize(
    "arguments",
    [
        (*VP8, *OPUS, "-f", "webm", "-live", "1"),
        (*VP8, "-c:a", "libvorbis", "-f", "webm"),
        (*VP9, *OPUS, "-f", "webm"),
        (*VP9, *OPUS, *FRAGMENTED),
        (*AV1, *OPUS, "-f", "webm"),
        (*AV1, *OPUS, *FRAGMENTED),
        (*X265, *AAC, *FRAGMENTED),
        (*X265, "-c:a", "flac", *LIVE),
        (*VP8, "-c:a", "pcm_s16le", *LIVE),
        (*VP8, "-c:a", "libmp3lame", *LIVE),
    ],
    ids=["vp8", "vorbis", "vp9", "vp9 mp4", "av1", "av1 mp4", "h265 mp4", "h265 flac", "pcm", "mp3"],
)
async def test_other_codecs_become_h264_and_aac_without_losing_pictures(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    data = film(*arguments)
    wanted = demuxed(data, tmp_path)
    push = await pushed(data)
    assert len(push.pictures) == FRAMES
    assert decoded(push.pictures) == FRAMES
    (tracks,) = push.tracks
    assert tracks.video is not None
    assert tracks.audio is not None
    assert codecs.video_size(tracks.video) == (160, 90)
    assert all(u.cts == 0 for u in push.pictures)
    assert grow(push.pictures)
    assert grow(push.sounds)
    first = wanted["video"][0][0] - moment(push.pictures[0])
    assert max(abs(t - first - moment(u)) for u, (t, _, _) in zip(push.pictures, wanted["video"], strict=True)) < 0.002
    keys = [moment(u) for u in push.pictures if u.key]
    assert push.pictures[0].key
    assert all(b - a < 2.05 for a, b in pairwise([*keys, keys[0] + 2.2]))
    assert aac.parse_asc(tracks.audio.config).object_type == 2
    assert abs(seconds(push.sounds) - seconds(push.pictures)) < 0.15
    assert abs(moment(push.sounds[0]) - (wanted["audio"][0][0] - first)) < 0.06
    assert push.intake.stats.video == "transcode"
    assert push.intake.stats.frames == FRAMES
    assert push.intake.stats.dropped == 0


async def test_pictures_larger_than_1080p_are_scaled_down_to_even_sizes() -> None:
    wide = await pushed(film(*VP8, "-f", "webm", size="2560x1440", seconds=0.4, sound=False))
    odd = await pushed(film(*VP8, "-f", "webm", size="321x181", seconds=0.4, sound=False))
    sizes = [codecs.video_size(p.pictures[0].track) for p in (wide, odd)]
    assert sizes == [(1920, 1080), (320, 180)]


async def test_frames_at_any_rate_keep_their_timestamps(tmp_path: Path) -> None:
    # A screen without motion: a burst, a second without pictures, a burst.
    data = film(*VP8, "-vf", "select='lt(mod(t,1.5),0.5)'", "-fps_mode", "vfr", "-f", "webm", sound=False)
    wanted = [t for t, _, _ in demuxed(data, tmp_path)["video"]]
    push = await pushed(data)
    assert len(push.pictures) == len(wanted)
    first = moment(push.pictures[0])
    assert max(abs(t - wanted[0] - moment(u) + first) for u, t in zip(push.pictures, wanted, strict=True)) < 0.002


# ---- incomplete recordings ----


@pytest.mark.parametrize("kept", [Kind.VIDEO, Kind.AUDIO])
@pytest.mark.parametrize("form", [(*X264, *AAC, *FRAGMENTED), (*VP8, *OPUS, "-f", "webm")], ids=["mp4", "webm"])
async def test_a_recording_with_only_video_or_only_audio_works(kept: Kind, form: tuple[str, ...]) -> None:
    push = await pushed(film("-map", "0:v" if kept is Kind.VIDEO else "1:a", *form))
    assert bool(push.pictures) is (kept is Kind.VIDEO)
    assert bool(push.sounds) is (kept is Kind.AUDIO)
    assert seconds(push.units) > 2


async def test_an_incomplete_recording_gives_all_complete_frames(tmp_path: Path) -> None:
    whole = await pushed(capture("vp8.webm"))
    part = await pushed(capture("vp8.webm")[:-5001])
    assert 0 < len(part.pictures) < len(whole.pictures)
    assert [u.dts for u in part.pictures] == [u.dts for u in whole.pictures][: len(part.pictures)]


@pytest.mark.parametrize("first", ["h264.webm", "vp8.webm"])
async def test_a_page_that_restarts_its_recorder_can_continue(first: str) -> None:
    once = await pushed(capture(first))
    twice = await pushed(capture(first) + capture("vp8.webm"))
    assert twice.epochs == 2
    assert grow(twice.pictures)
    assert grow(twice.sounds)
    assert len(twice.pictures) > len(once.pictures) + 50
    assert decoded(twice.pictures) == len(twice.pictures)
    second = next(u for u in twice.pictures if u.track == twice.tracks[-1].video)
    assert second.key


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (capture("vp8.webm")[3861:], "the recording's beginning is missing"),
        (capture("h264.mp4")[1220:], "the recording's beginning is missing"),
        (random.Random(5).randbytes(100_000), "the recording's beginning is missing"),
        (capture("vp8.webm")[:20_000] + random.Random(6).randbytes(50_000), "Matroska"),
        (capture("h264.mp4")[:1220] + b"\xff" * 50_000, "MP4: box"),
        (b'{"hello": "world"}' * 10, "the recording's beginning is missing"),
    ],
    ids=["late webm", "late mp4", "noise", "noise in webm", "noise in mp4", "json"],
)
async def test_unreadable_data_end_the_push_with_a_reason(data: bytes, says: str) -> None:
    async with browser_push() as push:
        for piece in cut(data, 3):
            await push.intake.feed(piece)  # also after the end
        await push.over()
        assert push.failure is not None
        assert says in str(push.failure)
        assert not push.failure.again


async def test_a_recording_with_only_unsupported_codecs_names_them() -> None:
    theora = film("-c:v", "libtheora", "-f", "matroska", sound=False, seconds=0.2)
    async with browser_push() as push:
        await push.feed([theora])
        await push.end()
        assert push.failure is not None
        assert "V_THEORA" in str(push.failure)


async def test_unsupported_sound_is_dropped() -> None:
    data = film(*X264, "-c:a", "wmav2", *LIVE)
    push = await pushed(data)
    assert len(push.pictures) == FRAMES
    assert push.sounds == []


async def test_a_damaged_picture_does_not_end_the_push(tmp_path: Path) -> None:
    data = bytearray(film(*VP8, "-f", "webm", sound=False))
    pictures = [picture for _, _, picture in demuxed(bytes(data), tmp_path)["video"]]
    longest = max(pictures[1:-1], key=len)  # the encoder divides its work by time, so sizes differ from run to run
    damaged = data.index(longest) + len(longest) // 2
    data[damaged : damaged + 20] = bytes(20)
    push = await pushed(bytes(data))
    assert len(push.pictures) >= FRAMES - 3


@pytest.mark.parametrize("jump", [-60_000, 3_600_000])
async def test_timestamps_that_jump_are_repaired(jump: int) -> None:
    picture = h264_picture()
    clusters = []
    for n in range(60):
        time = 100_000 + n * 40 + (jump if n >= 30 else 0)
        clusters.append(cluster(time, simple(1, 0, picture, key=True), simple(2, 1, b"\xfc\xff\xfe")))
    entries = tracks(video(1, "V_MPEG4/ISO/AVC"), audio())
    push = await pushed(head() + segment(info(), entries, *clusters))
    assert len(push.pictures) == 60
    assert grow(push.pictures)
    assert 2.2 < seconds(push.pictures) < 2.6
    assert abs(moment(push.pictures[-1]) - moment(push.sounds[-1])) < 0.2


def h264_picture() -> bytes:
    """Returns an independent access unit of Annex B."""
    with av.open(str(GOLDEN / "h264.webm")) as opened:
        return bytes(next(p for p in opened.demux(video=0) if p.size))


# ---- the worker ----


async def test_a_killed_worker_ends_the_push_at_once() -> None:
    async with browser_push() as push:
        await push.feed(slices("vp8.webm")[:4])
        worker = await asyncio.shield(push.intake._worker)
        os.kill(worker.pid, signal.SIGKILL)
        await push.over(within=5)
        assert push.failure is not None
        assert push.failure.again
        assert "SIGKILL" in str(push.failure)
        await push.feed(slices("vp8.webm")[4:])


async def test_without_a_free_worker_the_page_may_try_again() -> None:
    async with browser_push(workers=1) as push, push.workers.start("tests.support.echo_worker", "other"):
        late = container_intake.ContainerIntake(push.publisher, push.workers, push.settings)
        with pytest.raises(container_intake.IntakeFailed) as failed:
            await late.run()
        assert failed.value.again
        await late.feed(b"whatever")


async def test_a_worker_that_reads_nothing_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_intake, "_HANG_SECONDS", 0.5)
    async with browser_push() as push:
        await push.feed(slices("vp8.webm")[:2])
        worker = await asyncio.shield(push.intake._worker)
        os.kill(worker.pid, signal.SIGSTOP)
        await push.feed([bytes(200_000)] * 20)
        await push.over(within=10)
        assert push.failure is not None
        assert "read nothing" in str(push.failure)


async def test_cancelling_ends_the_worker() -> None:
    async with browser_push() as push:
        await push.feed(slices("vp8.webm")[:2])
        worker = await asyncio.shield(push.intake._worker)
        await push.close()
        with pytest.raises(ProcessLookupError):
            os.kill(worker.pid, 0)
        assert push.workers.running == 0


async def test_a_push_without_data_ends_without_an_error() -> None:
    async with browser_push() as push:
        await push.end()
        assert push.failure is None
        assert push.units == []


async def test_nothing_is_published_after_the_push_was_kicked() -> None:
    async with browser_push() as push:
        await push.feed(slices("h264.webm")[:5])
        while not push.units:
            await asyncio.sleep(0.01)
        push.hub.end("c1", EndReason.KICKED)
        count = len(push.units)
        await push.feed(slices("h264.webm")[5:])
        await push.end()
        assert push.failure is None
        assert len(push.units) == count
