"""The outputs `video` and `ondemand` write correct files to a folder for all kinds of streams."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.adapters.local.objects import LocalObjects
from gateway.channels.schedule import Schedule
from gateway.formats.captions.caption_file import read_caption_file
from gateway.formats.ts.muxer import TsMuxer
from gateway.formats.ts.reader import TsReader
from gateway.live.sink import EndReason
from gateway.media.colors import Colors, VideoSignal
from gateway.media.timed_data import CaptionText
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, TimedData
from gateway.outputs.recording import mp4_finalizer, on_demand_recording, on_demand_session, recording_output
from gateway.outputs.recording.cutter import PieceStart
from gateway.outputs.recording.on_demand_recording import TsPiece
from gateway.outputs.recording.on_demand_session import OnDemandSession, RecordedSegment, playlist, read_journal
from gateway.outputs.storage import archive, locked_file
from gateway.outputs.storage.recording_index import movie_seconds
from gateway.outputs.storage.stored_pieces import read_playlist
from gateway.ports.errors import OutputError, OutputUnsupported
from tests.support.builders import AUDIO, VIDEO
from tests.support.recording import RunningArchive, push, record, settled, stream_of
from tests.support.segmented import Timetable
from tests.support.time_outs import at_most
from tests.support.waiting import until
from tests.unit.formats.mp4.test_finish import samples
from tests.unit.outputs.storage.test_archive import Remote

OPUS = MediaTrack(Kind.AUDIO, Codec.OPUS, 1000, b"")


def frames(files: list[Path]) -> tuple[list[bytes], list[bytes]]:
    """The payloads of MP4 files, one after another."""
    video: list[bytes] = []
    audio: list[bytes] = []
    for file in files:
        tracks = samples(file.read_bytes())
        video += [s.data for s in tracks.get(b"vide", [])]
        audio += [s.data for s in tracks.get(b"soun", [])]
    return video, audio


def sent(*tables: Timetable) -> tuple[list[bytes], list[bytes]]:
    units = [u for t in tables for u in t.units()]
    kinds = [[u.payload for u in units if u.track.kind is kind] for kind in (Kind.VIDEO, Kind.AUDIO)]
    return kinds[0], kinds[1]


# ---- video ----


async def test_pieces_hold_every_frame_and_are_named_after_their_first(tmp_path: Path) -> None:
    table = Timetable(seconds=21, shifts=(2, 4, 1, 1))
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(video_time=4)
        recorder = studio.recorder(stream)
        await record(recorder, stream, table)
        await studio.finisher.flush()
        files = studio.files()
        assert [f.relative_to(studio.media).as_posix() for f in files] == [
            f"c1/mp4/2023/11/14/capture-2023-11-14_22-13-{20 + n:02}-17000000{n:02}000.mp4" for n in range(0, 21, 4)
        ]
        assert frames(files) == sent(table)
        assert [movie_seconds(f.read_bytes()) for f in files] == pytest.approx([4, 4, 4, 4, 4, 1], abs=0.15)
        assert studio.scratch() == []
        assert recorder.report() == {"dropped": 0, "pieces": 6, "bytes": recorder.report()["bytes"]}
        assert [e.data["start"] for e in studio.events] == [1.7e9 + n for n in range(0, 21, 4)]


async def test_a_new_epoch_begins_a_new_piece(tmp_path: Path) -> None:
    tables = (
        Timetable(seconds=3),
        Timetable(seconds=3, start=3.2, audio=None),
        Timetable(seconds=3, start=6.5, video=None),
    )
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(video_time=60)
        await record(studio.recorder(stream), stream, *tables)
        await studio.finisher.flush()
        assert [set(samples(f.read_bytes())) for f in studio.files()] == [{b"vide", b"soun"}, {b"vide"}, {b"soun"}]
        assert frames(studio.files()) == sent(*tables)


async def test_two_pieces_with_the_same_start_have_different_names(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of()
        await record(studio.recorder(stream), stream, Timetable(seconds=3), Timetable(seconds=3))
        await studio.finisher.flush()
        assert len(studio.files()) == 2


async def test_an_output_that_is_switched_off_finishes_its_piece(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(video_time=60)
        recorder = studio.recorder(stream)
        recorder.begin(stream)
        running = asyncio.ensure_future(recorder.run(stream))
        stream.set_tracks(VIDEO, AUDIO, {}, False)
        table = Timetable(seconds=5)
        await push(stream, table.units())
        await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await studio.finisher.flush()
        assert frames(studio.files()) == sent(table)


async def test_tracks_that_mp4_cannot_carry_are_refused(tmp_path: Path) -> None:
    broken = MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"\x01")
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of()
        with pytest.raises(OutputUnsupported):
            await record(studio.recorder(stream), stream, Timetable(seconds=5, video=broken))
    assert studio.files() == []


async def test_frames_before_tracks_that_mp4_cannot_carry_are_kept(tmp_path: Path) -> None:
    good = Timetable(seconds=5)
    broken = Timetable(seconds=5, start=5.2, video=MediaTrack(Kind.VIDEO, Codec.H264, 1000, b"\x01"))
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(video_time=60)
        with pytest.raises(OutputUnsupported):
            await record(studio.recorder(stream), stream, good, broken)
        await studio.finisher.flush()
        assert frames(studio.files()) == sent(good)


async def test_a_full_disk_is_an_error_and_recorded_frames_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.write, [3]

    def write(descriptor: int, data: object) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)  # type: ignore[arg-type]

    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(video_time=60)
        with monkeypatch.context() as patch:
            patch.setattr(locked_file.os, "write", write)
            with pytest.raises(OutputError, match="no space left"):
                await record(studio.recorder(stream), stream, Timetable(seconds=8))
        await studio.finisher.flush()
        video, audio = frames(studio.files())
        assert 60 <= len(video) < 150
        assert (video, audio) == (
            sent(Timetable(seconds=8))[0][: len(video)],
            sent(Timetable(seconds=8))[1][: len(audio)],
        )


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "no space left"), (errno.EDQUOT, "no space left"), (errno.EMFILE, "Too many open files")],
    ids=["no inode", "no quota", "no descriptor"],
)
async def test_a_failure_to_create_a_file_is_an_error_and_later_recordings_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    real = os.open

    def refuse(path: str | Path, flags: int, *rest: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(number, os.strerror(number))
        return real(path, flags, *rest)

    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of()
        with monkeypatch.context() as patch:
            patch.setattr(locked_file.os, "open", refuse)
            with pytest.raises(OutputError, match=words):
                await record(studio.recorder(stream), stream, Timetable(seconds=5))
        again = stream_of("c2")
        await record(studio.recorder(again), again, Timetable(seconds=3))
        await studio.finisher.flush()
        assert len(studio.files()) == 1


async def test_a_removed_folder_is_an_error_and_is_created_again(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(video_time=60)
        recorder = studio.recorder(stream)
        recorder.begin(stream)
        running = asyncio.ensure_future(recorder.run(stream))
        stream.set_tracks(VIDEO, AUDIO, {}, False)
        units = list(Timetable(seconds=10).units())
        await push(stream, units[: len(units) // 2])
        await asyncio.sleep(0.1)
        shutil.rmtree(studio.media)
        await push(stream, units[len(units) // 2 :])
        with pytest.raises(OutputError, match="was removed"):
            await asyncio.wait_for(running, at_most(10))
        await studio.finisher.flush()
        again = stream_of("c2")
        await record(studio.recorder(again), again, Timetable(seconds=3))
        await studio.finisher.flush()
        assert len(studio.files()) == 1


async def test_a_slow_disk_drops_whole_gops_and_counts_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(video_time=60)
        recorder = studio.recorder(stream)
        stream.set_tracks(VIDEO, AUDIO, {}, False)
        recorder.begin(stream)
        units = list(Timetable(seconds=40).units())
        for unit in units:  # nobody takes them meanwhile
            stream.push(unit)
        stream.end(EndReason.PUBLISHER_GONE)
        await recorder.run(stream)
        await studio.finisher.flush()
        assert recorder.report()["dropped"] > 300
        assert studio.counts.dropped == recorder.report()["dropped"]
        video = samples(studio.files()[0].read_bytes())[b"vide"]
        assert video[0].key


@pytest.mark.parametrize("days", [300, -300])
async def test_a_jump_of_the_clock_loses_no_frames(tmp_path: Path, days: int) -> None:
    table = Timetable(seconds=12, clock_jump=days * 86_400.0)
    async with RunningArchive(tmp_path).open() as studio:
        movie, on_demand = stream_of(video_time=60), stream_of("c2", ondemand_time=4)
        await record(studio.recorder(movie), movie, table)
        await record(studio.on_demand(on_demand), on_demand, table)
        await studio.finisher.flush()
        assert frames(studio.files("c1/**/*.mp4")) == sent(table)
        (index,) = studio.files("c2/*.m3u8")
        assert sum(duration for duration, _ in segments(index.read_text())) == pytest.approx(12, abs=0.5)


# ---- recovery ----


async def test_a_recording_that_ends_during_its_recovery_check_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, over = threading.Event(), threading.Event()

    def look_for_long(path: Path) -> int | None:
        found = locked_file.take_abandoned(path)
        looked.set()
        assert over.wait(at_most(30))
        return found

    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(video_time=60)
        recorder = studio.recorder(stream)
        await record(recorder, stream, Timetable(seconds=3), end=False)
        monkeypatch.setattr(mp4_finalizer, "take_abandoned", look_for_long)
        studio.finisher.finish(studio.scratch()[0])  # as recovery does with whatever lies there
        await asyncio.to_thread(looked.wait, 30)
        stream.end(EndReason.PUBLISHER_GONE)
        async with asyncio.timeout(at_most(30)):
            while not recorder.report()["pieces"]:
                await asyncio.sleep(0.01)
        over.set()
        await studio.finisher.flush()
        assert len(studio.files()) == 1


async def test_a_recording_of_a_killed_gateway_is_finished_at_the_next_start(tmp_path: Path) -> None:
    table = Timetable(seconds=9)
    dead = RunningArchive(tmp_path)
    async with dead.open():
        stream = stream_of(video_time=60)
        await record(dead.recorder(stream), stream, table, end=False)
        scrap = next(p for p in dead.scratch() if p.suffix == ".fmp4")
        left = scrap.read_bytes()
        stream.end(EndReason.PUBLISHER_GONE)
        await asyncio.sleep(0.1)
        await dead.finisher.flush()
    for file in dead.files():
        file.unlink()
    scrap.write_bytes(left[:-100])  # torn, as by a power cut
    async with RunningArchive(tmp_path).open() as studio:
        async with asyncio.timeout(at_most(10)):
            while not studio.events:
                await asyncio.sleep(0.01)
        video, audio = frames(studio.files())
        assert len(video) >= 200
        assert video == sent(table)[0][: len(video)]
        assert audio == sent(table)[1][: len(audio)]
        await studio.finisher.flush()
        assert studio.scratch() == []


async def test_another_gateway_does_not_touch_a_recording_in_progress(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(video_time=60)
        recorder = studio.recorder(stream)
        recorder.begin(stream)
        running = asyncio.ensure_future(recorder.run(stream))
        stream.set_tracks(VIDEO, AUDIO, {}, False)
        await push(stream, list(Timetable(seconds=5).units()))
        await asyncio.sleep(0.05)
        async with RunningArchive(tmp_path).open() as other:  # another gateway on this disk starts
            await asyncio.sleep(0.1)
            assert (other.files(), len(other.scratch())) == ([], 1)
        stream.end(EndReason.PUBLISHER_GONE)
        await running
        await studio.finisher.flush()
        assert frames(studio.files()) == sent(Timetable(seconds=5))


async def test_a_finished_movie_in_the_scratch_folder_is_stored_at_start(tmp_path: Path) -> None:
    folder = tmp_path / "media/.unfinished/video"
    folder.mkdir(parents=True)
    (folder / "c1~1700000000000~4000.done.mp4").write_bytes(b"movie")
    (folder / "c1~1700000000000.fmp4").write_bytes(b"fragments")
    (folder / "stray").write_bytes(b"?")
    async with RunningArchive(tmp_path).open() as studio:
        async with asyncio.timeout(at_most(10)):
            while not studio.events:
                await asyncio.sleep(0.01)
        assert [f.read_bytes() for f in studio.files()] == [b"movie"]
        assert studio.events[0].data["seconds"] == 4.0
        assert [f.name for f in studio.scratch()] == ["stray"]


async def test_an_unfinished_file_without_a_whole_fragment_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "media/.unfinished/video"
    folder.mkdir(parents=True)
    (folder / "c1~1700000000000.fmp4").write_bytes(b"\0" * 5000)
    async with RunningArchive(tmp_path).open() as studio:
        await until(lambda: not studio.scratch())
        await studio.finisher.flush()
        assert studio.files() == []


# ---- hours ----


async def test_outside_its_schedule_a_recorder_waits_and_reports_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [Schedule.parse("mon 08:00-09:00").next_change(time.time()) - 3600]
    monkeypatch.setattr(recording_output.time, "time", lambda: now[0])
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(video_time=60, recordSchedule="mon 08:00-09:00")
        recorder = studio.recorder(stream)
        recorder.begin(stream)
        running = asyncio.ensure_future(recorder.run(stream))
        stream.set_tracks(VIDEO, AUDIO, {}, False)
        units = list(Timetable(seconds=6).units())
        await push(stream, units[:100])
        assert await until(lambda: recorder.report().get("waiting")) == now[0] + 3600
        now[0] += 3700
        for unit in units:
            unit.wall = now[0]
        recorder.channel_changed(stream.channel)  # wakes it
        await asyncio.sleep(0.05)
        await push(stream, units[100:300])
        assert "waiting" not in recorder.report()
        for unit in units[300:]:
            unit.wall = now[0] + 3600
        now[0] += 3600
        await push(stream, units[300:])
        await asyncio.sleep(0.05)
        assert recorder.report()["waiting"] > now[0]
        stream.end(EndReason.PUBLISHER_GONE)
        await asyncio.wait_for(running, at_most(5))
        await studio.finisher.flush()
        (file,) = studio.files()
        assert 0 < len(frames([file])[0]) < 180


# ---- on demand ----


def segments(text: str) -> list[tuple[float, str]]:
    return [(float(d), uri) for d, uri in re.findall(r"#EXTINF:([0-9.]+),\n(\S+)", text)]


async def test_a_session_is_segments_and_a_playlist_that_names_them(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(ondemand_time=4)
        output = studio.on_demand(stream)
        await record(output, stream, Timetable(seconds=22))
        (index,) = studio.files("**/*.m3u8")
        text = index.read_text()
        assert index.relative_to(studio.media).as_posix() == "c1/vod-1700000000000.m3u8"
        assert [uri for _, uri in segments(text)] == [f"720p/{1700000000000 + n}.ts" for n in range(6)]
        assert [round(d, 1) for d, _ in segments(text)] == [4, 4, 4, 4, 4, 2]
        assert text.startswith(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:1700000000000\n"
        )
        assert text.endswith("#EXT-X-ENDLIST\n")
        sizes = [(studio.media / "c1" / uri).stat().st_size for _, uri in segments(text)]
        assert all(size and size % 188 == 0 for size in sizes)
        assert studio.scratch() == []
        (event,) = studio.events
        assert event.data == {"kind": "ondemand", "start": 1.7e9, "seconds": 22.0, "bytes": sum(sizes),
                              "key": "c1/vod-1700000000000.m3u8"}  # fmt: skip


async def test_silence_follows_sound_that_stops_because_players_halt_without_it(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(ondemand_time=4)
        await record(studio.on_demand(stream), stream, Timetable(seconds=32, audio_until=9))
        heard = [sound_of(file) for file in studio.files("**/*.ts")]
    times = [time for times in heard for time in times]
    assert len(heard) == 8 and all(heard)
    assert max(b - a for a, b in itertools.pairwise(times)) < 0.05
    assert times[-1] - times[0] == pytest.approx(32, abs=0.1)


@pytest.mark.parametrize("late", [0.0, 4.0])
async def test_no_silence_is_recorded_where_sound_comes(late: float, tmp_path: Path) -> None:
    table = Timetable(seconds=24, audio_late=late)
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(ondemand_time=2)
        await record(studio.on_demand(stream), stream, table)
        heard = sorted(time for file in studio.files("**/*.ts") for time in sound_of(file))
    assert len(heard) == len(sent(table)[1])


def sound_of(segment: Path) -> list[float]:
    """The times of the sound in a segment, in seconds."""
    reader = TsReader()
    units = reader.receive(segment.read_bytes()) + reader.finish()
    return sorted(unit.dts / unit.track.timescale for unit in units if unit.track.kind is Kind.AUDIO)


async def test_the_playlist_grows_with_each_segment_and_is_always_whole(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(ondemand_time=2)
        output = studio.on_demand(stream)
        output.begin(stream)
        running = asyncio.ensure_future(output.run(stream))
        stream.set_tracks(VIDEO, AUDIO, {}, False)
        seen = set()
        for n, unit in enumerate(Timetable(seconds=13).units()):
            stream.push(unit)
            if n % 140 == 139:
                await settled(output)
                for index in studio.files("**/*.m3u8"):
                    text = index.read_text()
                    assert text.endswith("#EXT-X-ENDLIST\n")
                    assert all((studio.media / "c1" / uri).exists() for _, uri in segments(text))
                    seen.add(len(segments(text)))
        assert output.report()["playlist"] == "c1/vod-1700000000000.m3u8"
        stream.end(EndReason.PUBLISHER_GONE)
        await running
        assert len(seen) >= 4


async def test_segments_of_a_returning_publisher_follow_a_discontinuity(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(ondemand_time=4)
        await record(studio.on_demand(stream), stream, Timetable(seconds=6), Timetable(seconds=6, start=7.0))
        text = studio.files("**/*.m3u8")[0].read_text()
        assert [round(d) for d, _ in segments(text)] == [4, 2, 4, 2]
        assert text.count("#EXT-X-DISCONTINUITY\n") == 1
        assert text.index("#EXT-X-DISCONTINUITY\n") > text.index("1700000000001.ts")


async def test_a_second_session_does_not_change_files_of_the_first(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        for start in (0.0, 60.0):
            stream = stream_of(ondemand_time=4)
            await record(studio.on_demand(stream), stream, Timetable(seconds=9, start=start))
            if not start:
                before = {f: f.stat().st_mtime_ns for f in studio.files()}
        assert all(f.stat().st_mtime_ns == t for f, t in before.items())
        assert len(studio.files("**/*.m3u8")) == 2
        uris = [uri for f in studio.files("**/*.m3u8") for _, uri in segments(f.read_text())]
        assert len(uris) == len(set(uris)) == 6


async def test_a_codec_that_transport_streams_cannot_carry_is_refused(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of()
        with pytest.raises(OutputUnsupported, match="opus"):
            await record(studio.on_demand(stream), stream, Timetable(seconds=3, audio=OPUS))
        assert (studio.files(), studio.scratch()) == ([], [])


async def test_a_killed_session_is_recovered_with_its_open_segment(tmp_path: Path) -> None:
    dead = RunningArchive(tmp_path)
    async with dead.open():
        stream = stream_of(ondemand_time=4)
        await record(dead.on_demand(stream), stream, Timetable(seconds=11), end=False)
        (folder,) = (dead.media / ".unfinished/ondemand").iterdir()
        shutil.copytree(folder, tmp_path / "left")
        stream.end(EndReason.PUBLISHER_GONE)
        async with asyncio.timeout(at_most(10)):
            while folder.exists():
                await asyncio.sleep(0.01)
    shutil.copytree(tmp_path / "left", folder)
    last = max(folder.glob("*.ts"))
    with last.open("ab") as torn:
        torn.write(b"\x47 half a packet")
    for file in (dead.media / "c1").glob("vod-*"):
        file.unlink()
    async with RunningArchive(tmp_path).open() as studio:
        async with asyncio.timeout(at_most(10)):
            while not studio.events:
                await asyncio.sleep(0.01)
        text = studio.files("**/*.m3u8")[0].read_text()
        assert [round(d) for d, _ in segments(text)][:2] == [4, 4]
        assert 10 <= sum(d for d, _ in segments(text)) <= 11
        assert all((studio.media / "c1" / uri).stat().st_size % 188 == 0 for _, uri in segments(text))
        await studio.finisher.flush()
        assert studio.scratch() == []


async def whole_session(studio: RunningArchive) -> list[int]:
    """The rounded durations of the one session's segments, all of which are stored."""
    await studio.finisher.flush()
    (index,) = studio.files("**/*.m3u8")
    assert studio.scratch() == []
    assert all((studio.media / "c1" / uri).exists() for _, uri in segments(index.read_text()))
    return [round(duration) for duration, _ in segments(index.read_text())]


async def test_a_segment_is_not_lost_if_its_output_is_switched_off_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, over = threading.Event(), threading.Event()
    real = OnDemandSession.complete

    def complete(session: OnDemandSession, number: int, seconds: float) -> tuple[Path, int]:
        began.set()
        assert over.wait(at_most(30))
        return real(session, number, seconds)

    monkeypatch.setattr(OnDemandSession, "complete", complete)
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(ondemand_time=4)
        output = studio.on_demand(stream)
        output.begin(stream)
        running = asyncio.ensure_future(output.run(stream))
        stream.set_tracks(VIDEO, AUDIO, {}, False)
        for unit in Timetable(seconds=6).units():
            stream.push(unit)
        await asyncio.to_thread(began.wait, 30)
        running.cancel()
        over.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await whole_session(studio))[0] == 4


@pytest.mark.parametrize("step", [(OnDemandSession, "complete"), (LocalObjects, "_put")], ids=["complete", "store"])
async def test_the_last_segment_of_an_epoch_is_stored_later_if_the_disk_fails_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[type, str]
) -> None:
    fails, real = [1], getattr(*step)

    def fail_once(*arguments: object) -> object:
        if fails:
            fails.clear()
            raise OutputError("no space left")
        return real(*arguments)

    monkeypatch.setattr(*step, fail_once)
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(ondemand_time=4)
        with pytest.raises(OutputError):
            await record(studio.on_demand(stream), stream, Timetable(seconds=3), Timetable(seconds=3, start=4))
        assert await whole_session(studio) == [3]


def test_a_segment_waits_for_a_second_of_media_before_it_is_written() -> None:
    piece = TsPiece(TsMuxer(VIDEO, None), PieceStart(VIDEO, None, b"", None, 0.0, True))
    piece.add_picture(900_000, 0, True, b"\0\0\0\1\x65")
    assert not piece.has_data
    piece.add_picture(990_000, 0, False, b"\0\0\0\1\x41")
    assert piece.has_data


async def test_old_segments_of_an_endless_session_are_removed_from_its_playlist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording_output.time, "time", lambda: 1.7e9 + 86_400 + 9)
    async with RunningArchive(tmp_path, retention_days=1).open() as studio:
        stream = stream_of(ondemand_time=4)
        output = studio.on_demand(stream)
        await record(output, stream, Timetable(seconds=20))
        text = studio.files("**/*.m3u8")[0].read_text()
        assert [uri for _, uri in segments(text)] == [f"720p/{1700000000000 + n}.ts" for n in range(2, 5)]
        assert [output.points.has(n * 4 * 90_000, (n + 1) * 4 * 90_000) for n in range(4)] == [False, False, True, True]
        assert "MEDIA-SEQUENCE:1700000000002\n" in text


@pytest.mark.parametrize(("on_demand", "left"), [(False, range(14, 20)), (True, range(20))])
async def test_segments_that_are_only_for_rewinding_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_demand: bool, left: range
) -> None:
    monkeypatch.setattr(on_demand_recording, "_TRIM_SECONDS", 0)
    # Half a minute is kept for rewinding, and ten minutes more for players that know the segments.
    monkeypatch.setattr(recording_output.time, "time", lambda: 1.7e9 + 60 + 600)
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(ondemand_time=60, hls_time=2, rewind=30 / 3600, isOnDemand=on_demand)
        await record(studio.on_demand(stream), stream, Timetable(seconds=40))
        (index,) = studio.files("**/*.m3u8")
        expected = [f"720p/{1700000000000 + n}.ts" for n in left]
        assert [uri for _, uri in segments(index.read_text())] == expected
        assert [f"720p/{path.name}" for path in studio.files("**/*.ts")] == expected
        assert ("# for rewinding only" in index.read_text()) is not on_demand


async def test_outdated_segments_that_wait_for_the_store_do_not_arrive_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_demand_recording, "_TRIM_SECONDS", 0)
    monkeypatch.setattr(recording_output.time, "time", lambda: 1.7e9 + 60 + 600)
    monkeypatch.setattr(archive.Backoff, "next", lambda self: 0.01)
    remote = Remote()
    remote.away = True
    async with RunningArchive(tmp_path, remote).open() as studio:
        stream = stream_of(ondemand_time=60, hls_time=2, rewind=30 / 3600)
        await record(studio.on_demand(stream), stream, Timetable(seconds=40))
        remote.away = False
        await studio.archive.flush()
        await studio.archive.delete([])  # what was being sent
        listed = segments(remote.objects["c1/vod-1700000000000.m3u8"].decode())
        assert sorted(key for key in remote.objects if key.endswith(".ts")) == [f"c1/{uri}" for _, uri in listed]


async def test_a_recovered_session_for_rewinding_keeps_its_mark(tmp_path: Path) -> None:
    session = OnDemandSession(tmp_path / "session")
    session.set_kept(False)
    session.begin(5, True, 1.0)
    session.append(5, [b"x" * 188], 1.0)
    session.complete(5, 1.0)
    session.close()
    told = read_journal(tmp_path / "session" / "journal")
    assert not told.kept and "# for rewinding only" in playlist(told.entries, told.kept)


def test_a_journal_gives_only_confirmed_sizes_and_durations(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.write_bytes(
        b'{"begin": 5, "fresh": true, "wall": 1.0}\n{"at": 188, "seconds": 1.0, "of": 5}\n'
        b'{"done": 5, "seconds": 4.0, "bytes": 999}\n{"begin": 6, "fresh": false, "wall": 5.0}\n'
        b'{"at": 376, "seconds": 1.0, "of": 6}\n{"at": 752, "seconds": 2.0, "of": 6}\n{"at": 9'
    )
    told = read_journal(journal)
    assert [(e.number, e.seconds, e.bytes) for e in told.entries] == [(5, 4.0, 999)]
    for size, saved in ((10_000, (752, 2.0)), (752, (752, 2.0)), (751, (376, 1.0)), (100, None)):
        entry = told.confirmed(size)
        assert (entry and (entry.bytes, entry.seconds)) == saved
    assert "#EXTINF:4.00000,\n720p/5.ts" in playlist(told.entries)


def segments_that_arrive(walls: Iterator[float]) -> list[RecordedSegment]:
    """Segments of 60 s of one epoch, with these arrivals."""
    return [RecordedSegment(1_700_000_000_000 + n, 60.0, 188, not n, wall) for n, wall in enumerate(walls)]


@pytest.mark.parametrize("drift", [0.003, -0.003, 0.012])
def test_dates_of_a_long_session_follow_the_arrival_of_its_segments(drift: float) -> None:
    entries = segments_that_arrive(1.7e9 + n * (60 + drift) for n in range(5000))
    found = on_demand_session.pieces("c1", entries)
    assert max(abs(piece.start - entry.wall_clock) for piece, entry in zip(found, entries, strict=True)) < 1
    assert all(abs(before.end - after.start) < 0.5 for before, after in itertools.pairwise(found))
    assert [piece.discontinuity for piece in found] == [not n for n in range(5000)]
    stored = list(read_playlist("c1", playlist(entries).encode()))
    assert [piece.key for piece in stored] == [piece.key for piece in found]
    assert [piece.start for piece in stored] == pytest.approx([piece.start for piece in found], abs=0.001, rel=0)
    assert playlist(entries).count("PROGRAM-DATE-TIME") < 200


def test_a_segment_that_comes_late_hardly_moves_the_dates() -> None:
    entries = segments_that_arrive(1.7e9 + n * 60 + (9.0 if n % 40 == 39 else 0.0) for n in range(200))
    found = on_demand_session.pieces("c1", entries)
    assert max(abs(piece.start - 1.7e9 - n * 60) for n, piece in enumerate(found)) < 0.5


@pytest.mark.parametrize(("seconds", "late"), [(60.0, 30.0), (60.0, 4000.0), (2.0, 30.0), (2.0, 1.5)])
def test_dates_of_a_session_are_right_after_a_pause_of_the_push(seconds: float, late: float) -> None:
    """The times of a push continue after a pause. So do they if this machine's clock is set."""
    arrivals = [1.7e9 + n * seconds + (late if n >= 50 else 0.0) for n in range(100)]
    entries = [replace(e, seconds=seconds) for e in segments_that_arrive(iter(arrivals))]
    assert [piece.start for piece in on_demand_session.pieces("c1", entries)] == pytest.approx(arrivals)
    assert playlist(entries).count("PROGRAM-DATE-TIME") == 2


@pytest.mark.parametrize("seconds", [60.0, 2.0, 0.2])
def test_dates_of_a_session_come_back_after_a_jump_of_the_publisher_and_grow(seconds: float) -> None:
    arrivals = [1.7e9 + n * seconds - (5.0 if n >= 50 else 0.0) for n in range(200)]
    entries = [replace(e, seconds=seconds) for e in segments_that_arrive(iter(arrivals))]
    found = on_demand_session.pieces("c1", entries)
    assert all(one.start < two.start and one.end - two.start < 0.5 for one, two in itertools.pairwise(found))
    assert abs(found[140].start - arrivals[140]) <= 1


async def test_captions_of_a_session_leave_with_its_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_demand_recording, "_TRIM_SECONDS", 0)
    monkeypatch.setattr(recording_output.time, "time", lambda: 1.7e9 + 60 + 600)
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(ondemand_time=60, hls_time=2, rewind=30 / 3600)
        stream.captions.take(TimedData(500, CaptionText("x", 500, 39_500)))
        await record(studio.on_demand(stream), stream, Timetable(seconds=40))
        kept = [path.name for path in studio.files("**/*.ts")]
        assert [path.name for path in studio.files("**/*.vtt")] == [n.replace(".ts", ".text.vtt") for n in kept]
        assert len(kept) == 6
        listed = {path.name: path.read_text() for path in studio.files("**/*.m3u8")}
        assert listed.keys() == {"vod-1700000000000.m3u8", "vod-1700000000000.master.m3u8"}
        assert "SUBTITLES" not in listed["vod-1700000000000.m3u8"]
        assert 'URI="vod-1700000000000.text.m3u8"' in listed["vod-1700000000000.master.m3u8"]
        assert studio.scratch() == []


async def test_a_session_in_hdr_has_a_frame_rate(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(ondemand_time=4)
        stream.captions.take(TimedData(500, CaptionText("x", 500, 3_500)))
        hlg = replace(VIDEO, colors=Colors(VideoSignal(False, 9, 18, 9)))
        await record(studio.on_demand(stream), stream, Timetable(video=hlg))
        [listed] = studio.files("**/*.master.m3u8")
        assert "FRAME-RATE=30.000,VIDEO-RANGE=HLG" in listed.read_text()


async def test_captions_of_complete_segments_are_stored_while_a_session_goes_on(tmp_path: Path) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(ondemand_time=4)
        output = studio.on_demand(stream)
        stream.captions.take(TimedData(500, CaptionText("x", 500, 9_500)))
        output.begin(stream)
        running = asyncio.ensure_future(output.run(stream))
        stream.set_tracks(VIDEO, AUDIO, {}, False)
        await push(stream, Timetable(seconds=9).units())
        await settled(output)
        found = [path.name for path in studio.files("**/*") if "text" in path.name or "master" in path.name]
        assert found == ["1700000000000.text.vtt", "1700000000001.text.vtt", "vod-1700000000000.master.m3u8"]
        stream.end(EndReason.PUBLISHER_GONE)
        await running


@pytest.mark.parametrize("kind", ["video", "on_demand"])
async def test_a_long_piece_has_more_captions_than_the_stream_remembers(tmp_path: Path, kind: str) -> None:
    async with RunningArchive(tmp_path).open() as studio:
        stream = stream_of(ondemand_time=600, video_time=600)
        output = studio.on_demand(stream) if kind == "on_demand" else studio.recorder(stream)

        def units() -> Iterator[AccessUnit]:
            for n, unit in enumerate(Timetable(seconds=40, audio=None).units()):
                if not n % 6:
                    stream.captions.take(TimedData(unit.dts, CaptionText(f"n{n}", unit.dts, unit.dts + 100)))
                yield unit

        output.begin(stream)
        running = asyncio.ensure_future(output.run(stream))
        stream.set_tracks(VIDEO, None, {}, False)
        await push(stream, units())
        stream.end(EndReason.PUBLISHER_GONE)
        await running
        [stored] = studio.files("**/*.vtt")
        assert [cue.text for cue in read_caption_file(stored.read_bytes())] == [f"n{n}" for n in range(0, 1200, 6)]
