"""CameraOutput: sound and pictures of a camera stay together, and begin with a key frame, even a late one."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.inputs.pull import camera_output
from gateway.inputs.pull.camera_output import CameraOutput
from gateway.media import h264
from gateway.media.track import AccessUnit, ForeignSound, Kind, MediaTrack
from gateway.ports.errors import OutputError
from gateway.protocols.rtsp.received_track import RtspTrack
from gateway.protocols.rtsp.session_description import RtspMedia
from gateway.workers.sound_protocol import SoundSetup, aac_track
from tests.support.builders import AVCC
from tests.support.inputs import FakeInput
from tests.unit.ingest.test_rtsp_intake import LAYER_2, LAYER_3


def sender_report(ntp: int, timestamp: int) -> bytes:
    return struct.pack(">BBHIIIIII", 0x80, 200, 6, 1, ntp, 0, timestamp, 0, 0)


async def test_a_camera_that_sets_its_clock_between_two_reports_keeps_its_sound_in_time() -> None:
    video = RtspTrack(RtspMedia(96, "H264", 90_000, 1, {}, "video", ""))
    sound = RtspTrack(RtspMedia(97, "OPUS", 48_000, 2, {}, "audio", ""))
    workers: Any = SimpleNamespace()
    async with CameraOutput(workers, FakeInput(), "camera") as output:
        await output.begin([video, sound])
        for track in (video, sound):
            track.clock.stamp(0, 0)
        clock, early = 3_900_000_000, []
        for at in range(5, 60, 5):
            for track, rate in ((video, 90_000), (sound, 48_000)):
                if (track, at) in ((sound, 20), (video, 40)):
                    clock += 4 if track is sound else -4
                output.take_report(track, sender_report(clock + at, at * rate))
                head = struct.pack(">BBHII", 0x80, 97, at, at * 48_000, 1)
                output.take_packet(sound, head + b"sound")
                shown, heard = video.clock.time_of(at * 90_000), sound.clock.time_of(at * 48_000)
                assert shown is not None and heard is not None
                early.append(heard - shown)
    assert early == [0] * len(early)


async def test_packets_of_padding_cost_no_picture_and_are_no_media(monkeypatch: pytest.MonkeyPatch) -> None:
    context, sets, now = FakeInput(), h264.parse_avcc(AVCC), 1_000
    monkeypatch.setattr(camera_output, "time", SimpleNamespace(monotonic=lambda: now))
    video = RtspTrack(RtspMedia(96, "H264", 90_000, 1, {}, "video", ""))
    key = b"\x18" + b"".join(b"%c%c%b" % (0, len(unit), unit) for unit in (*sets.sps, *sets.pps, b"\x65\x88key"))
    workers: Any = SimpleNamespace()
    async with CameraOutput(workers, context, "camera") as output:
        await output.begin([video])
        for n in range(5):
            head = struct.pack(">BBHII", 0x80, 0xE0, 2 * n, n * 3_600, 1)
            output.take_packet(video, head + (b"\x41\x88picture" if n else key))
            padding = struct.pack(">BBHII", 0xA0, 0x60, 2 * n + 1, n * 3_600, 1)
            output.take_packet(video, padding + bytes(7) + b"\x08")
        now += 11
        output.take_packet(video, struct.pack(">BBHII", 0x80, 0x60, 10, 0, 1))
        with pytest.raises(OutputError, match="no media for 10 s"):
            output.check(now)
    assert [unit.key for unit in context.recorder.units] == [True, *[False] * 4]


class Encoder:
    """A double of `SoundWorkerClient`, which makes a frame of each."""

    def __init__(self, workers: Any, stream: str, deliver: Callable[[AccessUnit], None], setup: SoundSetup) -> None:
        self.deliver, self.foreign, self.output = deliver, setup.foreign, aac_track(2, 90_000)

    def change(self, track: MediaTrack, output: MediaTrack) -> None:
        self.output = output

    async def open(self, track: MediaTrack, output: MediaTrack) -> None:
        self.change(track, output)

    async def run(self) -> None:
        await asyncio.Event().wait()

    def give(self, unit: AccessUnit) -> None:
        self.deliver(replace(unit, track=self.output, payload=b"made by %s" % str(self.foreign).encode()))


@pytest.mark.parametrize("sound_first", [True, False])
@pytest.mark.parametrize(
    ("frame", "only_aac", "made"),
    [
        (LAYER_2, "false", b"made by %s" % str(ForeignSound("mp2", 48_000, 2)).encode()),
        (LAYER_3, "true", b"made by None"),
        (LAYER_3, "false", LAYER_3),
    ],
)
async def test_mpeg_audio_that_browsers_do_not_play_is_converted(
    frame: bytes, only_aac: str, made: bytes, sound_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(camera_output, "SoundWorkerClient", Encoder)
    context, sets = FakeInput({"isCMAF": only_aac}), h264.parse_avcc(AVCC)
    video = RtspTrack(RtspMedia(96, "H264", 90_000, 1, {}, "video", ""))
    sound = RtspTrack(RtspMedia(14, "MPA", 90_000, 1, {}, "audio", ""))
    key = b"\x18" + b"".join(b"%c%c%b" % (0, len(unit), unit) for unit in (*sets.sps, *sets.pps, b"\x65\x88key"))
    workers: Any = SimpleNamespace()
    async with CameraOutput(workers, context, "camera") as output:
        await output.begin([video, sound])
        for n in range(8):
            packets = [(video, 0x80 | 96, b"\x41\x88picture" if n else key), (sound, 0x80 | 14, bytes(4) + frame)]
            for track, kind, payload in reversed(packets) if sound_first else packets:
                output.take_packet(track, struct.pack(">BBHII", 0x80, kind, n, n * 3_600, 1) + payload)
    tracks, heard = context.recorder.tracks, context.recorder.of(Kind.AUDIO)
    assert {unit.payload for unit in heard} == {made} and len(heard) >= 6
    assert tracks[-1].audio == heard[-1].track
    assert len(tracks) == 1 or (made != frame and not sound_first)


async def test_a_microphone_whose_sound_is_converted_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_output, "SoundWorkerClient", Encoder)
    context, sound = FakeInput(), RtspTrack(RtspMedia(8, "PCMA", 8_000, 1, {}, "audio", ""))
    workers: Any = SimpleNamespace()
    async with CameraOutput(workers, context, "microphone") as output:
        await output.begin([sound])
        for n in range(5):
            output.take_packet(sound, struct.pack(">BBHII", 0x80, 8, n, n * 160, 1) + bytes(160))
    assert len(context.recorder.of(Kind.AUDIO)) == 5


@pytest.mark.parametrize("key_at", [15, None])
async def test_a_late_key_frame_is_waited_for_while_pictures_come(
    key_at: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, context = 1_000, FakeInput()
    monkeypatch.setattr(camera_output, "time", SimpleNamespace(monotonic=lambda: now))
    video = RtspTrack(RtspMedia(96, "H264", 90_000, 1, {}, "video", ""))
    sets = h264.parse_avcc(AVCC)
    key = b"".join(b"%c%c%b" % (0, len(unit), unit) for unit in (*sets.sps, *sets.pps, b"\x65\x88key"))
    workers: Any = SimpleNamespace()
    async with CameraOutput(workers, context, "camera") as output:
        await output.begin([video])
        for second in range(91):
            now = 1_000 + second
            payload = b"\x18" + key if second == key_at else b"\x41\x88picture"
            output.take_packet(video, struct.pack(">BBHII", 0x80, 0xE0, second, second * 90_000, 1) + payload)
            output.check(now)
        if key_at is None:
            with pytest.raises(OutputError, match="no key frame for 91 s"):
                output.check(now + 1)
        else:
            assert [unit.key for unit in context.recorder.units] == [True] + [False] * 75
            assert context.problems == [f"no key frame for {second} s" for second in range(11, key_at)]
