"""CameraOutput: sound and pictures of a camera stay together."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

from gateway.inputs.pull.camera_output import CameraOutput
from gateway.inputs.pull.camera_tracks import CameraTrack
from gateway.protocols.rtsp.session_description import RtspMedia
from tests.support.inputs import FakeInput


def sender_report(ntp: int, timestamp: int) -> bytes:
    return struct.pack(">BBHIIIIII", 0x80, 200, 6, 1, ntp, 0, timestamp, 0, 0)


async def test_a_camera_that_sets_its_clock_between_two_reports_keeps_its_sound_in_time() -> None:
    video = CameraTrack(RtspMedia(96, "H264", 90_000, 1, {}, "video", ""))
    sound = CameraTrack(RtspMedia(97, "OPUS", 48_000, 2, {}, "audio", ""))
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
