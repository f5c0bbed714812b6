"""RtspIntake: sound whose codec the description does not tell, and why pictures are missing."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

import pytest

from gateway.ingest.rtsp.intake import RtspIntake
from gateway.media import h264
from gateway.media.framed_units import NO_START, NONE_CAME
from gateway.media.track import AccessUnit, Codec, ForeignSound, Kind, MediaTrack
from gateway.protocols.rtsp.received_track import RtspTrack
from gateway.protocols.rtsp.session_description import RtspMedia
from tests.support import builders
from tests.support.builders import AVCC, Recorder
from tests.unit.live.test_unusual_bodies import Converter


class Kept(Converter):
    """Keeps the formats of its sources."""

    def __init__(self, deliver: Callable[[AccessUnit], None]) -> None:
        super().__init__(deliver)
        self.sources: list[ForeignSound | None] = []

    def change(self, track: MediaTrack, foreign: ForeignSound | None) -> None:
        super().change(track, foreign)
        self.sources.append(foreign)


LAYER_2, LAYER_3 = b"\xff\xfd\xa4\x04" + bytes(572), b"\xff\xfb\x94\x04" + bytes(380)  # 48 kHz, stereo


@pytest.mark.parametrize(
    ("frame", "only_aac", "foreign"),
    [
        (LAYER_2, False, ForeignSound("mp2", 48_000, 2)),
        (LAYER_2, True, ForeignSound("mp2", 48_000, 2)),
        (LAYER_3, False, None),
        (LAYER_3, True, None),
    ],
)
async def test_the_first_frame_of_mpeg_audio_tells_whether_it_is_converted(
    frame: bytes, only_aac: bool, foreign: ForeignSound | None
) -> None:
    hub, converters = builders.hub(), list[Kept]()
    publisher, sink = builders.publish(hub, isCMAF=only_aac), Recorder()
    publisher.stream.attach(sink)

    def make(deliver: Callable[[AccessUnit], None]) -> Kept:
        converters.append(Kept(deliver))
        return converters[-1]

    video = RtspTrack(RtspMedia(96, "H264", 90_000, 1, {}, "video", ""))
    sound = RtspTrack(RtspMedia(14, "MPA", 90_000, 1, {}, "audio", ""))
    intake = RtspIntake(publisher, [video, sound], make)
    sets = h264.parse_avcc(AVCC)
    units = (*sets.sps, *sets.pps, b"\x65\x88key")
    key = b"\x18" + b"".join(b"%c%c%b" % (0, len(unit), unit) for unit in units)
    for n in range(10):
        head = struct.pack(">BBHII", 0x80, 0x80 | 96, n, n * 3_600, 1)
        intake.take_packet(video, head + (b"\x41\x88picture" if n else key), time.monotonic())
        head = struct.pack(">BBHII", 0x80, 0x80 | 14, n, n * 3_600, 2)
        intake.take_packet(sound, head + bytes(4) + frame, time.monotonic())
    intake.finish(time.monotonic())
    heard = [unit for unit in sink.units if unit.track.kind is Kind.AUDIO]
    assert len(sink.tracks) == 1 and sink.tracks[0].audio is not None
    assert [converter.sources for converter in converters] == ([[foreign]] if only_aac or foreign else [])
    assert {unit.track.codec for unit in heard} == {Codec.AAC if converters else Codec.MP3}
    assert len(heard) == 10 and sound.damaged == 0
    hub.drain()
    await hub.drained()


async def test_a_push_of_sound_alone_promises_no_pictures() -> None:
    hub = builders.hub()
    publisher = builders.publish(hub)
    video = RtspTrack(RtspMedia(96, "H264", 90_000, 1, {}, "video", ""))
    sound = RtspTrack(RtspMedia(97, "OPUS", 48_000, 2, {}, "audio", ""))
    reasons = []
    for tracks in ([sound], [video, sound]):
        RtspIntake(publisher, tracks, Kept)
        reasons.append(publisher.unusable.explain())
    assert reasons == ["", NONE_CAME]
    hub.drain()
    await hub.drained()


async def test_packets_with_another_payload_type_than_described_are_named() -> None:
    hub = builders.hub()
    publisher = builders.publish(hub)
    video = RtspTrack(RtspMedia(96, "H264", 90_000, 1, {}, "video", ""))
    intake = RtspIntake(publisher, [video], Kept)
    reasons = []
    for payload_type in (97, 96):
        head = struct.pack(">BBHII", 0x80, 0x80 | payload_type, 1, 0, 1)
        intake.take_packet(video, head + b"\x41\x88picture", time.monotonic())
        reasons.append(publisher.unusable.explain())
    assert reasons == ["their packets have the payload type 97, and the description says 96", NO_START]
    hub.drain()
    await hub.drained()
