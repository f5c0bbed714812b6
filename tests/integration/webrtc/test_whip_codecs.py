"""The codecs of WHIP: RTP packets become published units, with real workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from gateway.ingest.webrtc.intake import OPUS_TRACK, WhipIntake
from gateway.ingest.webrtc.received_track import TrackParameters
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.live.publisher import StreamPublisher
from gateway.media import codecs
from gateway.media.track import AccessUnit, Codec, Kind
from gateway.protocols.rtp.packetizers.packetizer import MAX_PAYLOAD, packetizer_of
from gateway.protocols.rtp.sender import rtp_packet
from gateway.protocols.sdp.offer import OfferedCodec
from gateway.settings.layers import load
from gateway.workers.programs.codec import VideoDecoder
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support.at_night import at_night
from tests.support.media import VP8, VP9
from tests.support.sources import Source, source
from tests.support.time_outs import at_most
from tests.support.waiting import until

PICTURES = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=15")
SOUND = ("-f", "lavfi", "-i", "sine=f=440:r=48000")
ENCODERS = {
    "VP8": VP8,
    "VP9": VP9,
    "AV1": ("-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-threads", "1"),
    "H265": ("-c:v", "libx265", "-x265-params", "log-level=none:bframes=0:repeat-headers=1", "-preset", "ultrafast"),
}
VIDEO, AUDIO = 96, 111


class Peer:
    """The connection of a client, which stores the reports."""

    round_trip: float | None = None

    def __init__(self) -> None:
        self.reports: list[bytes] = []

    def send_rtcp(self, packet: bytes) -> None:
        self.reports.append(packet)


@dataclass
class Push:
    """A WHIP push whose packets the test makes."""

    intake: WhipIntake
    publisher: StreamPublisher
    seen: builders.Recorder
    errors: list[str]

    async def play(self, film: Source) -> None:
        """Sends a film at its speed."""
        began = time.monotonic()
        for at, packet in packets(film):
            await asyncio.sleep(max(0.0, at - (time.monotonic() - began)))
            self.intake.receive_rtp([packet], [time.monotonic()])

    def of(self, kind: Kind) -> list[AccessUnit]:
        return [unit for unit in self.seen.units if unit.track.kind is kind]


def packets(film: Source) -> Iterator[tuple[float, bytes]]:
    """Yields the RTP packets of a film with their times in seconds."""
    assert film.tracks.video is not None
    packetizer = packetizer_of(film.tracks.video)
    assert packetizer is not None
    numbers = {Kind.VIDEO: 65_500, Kind.AUDIO: 7}
    for unit in film.units:
        at, kind = unit.dts / unit.track.timescale, unit.track.kind
        if kind is Kind.VIDEO:
            parts = packetizer.split(unit.payload, MAX_PAYLOAD, unit.key)
        else:
            parts = [unit.payload]
        rate, type = (90_000, VIDEO) if kind is Kind.VIDEO else (48_000, AUDIO)
        for n, part in enumerate(parts):
            number = numbers[kind] = (numbers[kind] + 1) & 0xFFFF
            marker = kind is Kind.VIDEO and n == len(parts) - 1
            yield at, rtp_packet(type, marker, number, round(at * rate) & 0xFFFFFFFF, type, part)


@asynccontextmanager
async def pushing(name: str, *, sound: bool) -> AsyncIterator[Push]:
    """Yields a running push. `name` is the video codec."""
    settings = load(environ={}, overrides=["workers.most=4"])
    workers = WorkerPool(settings.workers, Counter(WORKER_RESTARTS))
    publisher, errors = builders.publish(builders.hub(gop_bytes=64_000_000)), list[str]()
    parameters = [TrackParameters(Kind.VIDEO, OfferedCodec(VIDEO, name, 90_000, 1, {}, frozenset({"nack"}), None), 0)]
    if sound:
        parameters.append(TrackParameters(Kind.AUDIO, OfferedCodec(AUDIO, "OPUS", 48_000, 2, {}, frozenset(), None), 0))
    intake = WhipIntake(publisher, workers, parameters, errors.append, settings)
    seen = builders.Recorder()
    publisher.stream.attach(seen)
    intake.begin(Peer())
    running = asyncio.create_task(intake.run())
    try:
        yield Push(intake, publisher, seen, errors)
    finally:
        intake.close()
        async with asyncio.timeout(at_most(20)):
            await running
    assert workers.running == 0
    assert not errors


@pytest.mark.parametrize("name", [*at_night("VP9"), "AV1", "H265"])
async def test_pictures_are_published_unchanged(name: str) -> None:
    film = source(*PICTURES, "-t", "2", "-g", "15", *ENCODERS[name], container="matroska")
    async with pushing(name, sound=False) as push:
        await push.play(film)
    sent, got = film.of(Kind.VIDEO), push.of(Kind.VIDEO)
    assert [unit.key for unit in got] == [unit.key for unit in sent]
    track = push.seen.tracks[-1].video
    assert track is not None and film.tracks.video is not None
    assert codecs.codec_string(track) == codecs.codec_string(film.tracks.video, sent[0].payload)
    assert codecs.video_size(track, got[0].payload) == (320, 180)
    decoder = VideoDecoder(track, 1)
    assert sum(len(decoder.decode(unit)) for unit in got) + len(decoder.flush()) == len(sent)


async def test_vp8_becomes_h264_with_aac() -> None:
    film = source(*PICTURES, *SOUND, "-t", "4", "-g", "1000", *ENCODERS["VP8"], "-c:a", "libopus", container="matroska")
    async with pushing("VP8", sound=True) as push:
        assert not push.intake.has_media
        await push.play(film)
        assert push.intake.has_media
        await until(lambda: len(push.of(Kind.VIDEO)) > 40)
    tracks = push.seen.tracks[-1]
    assert tracks.video is not None and tracks.audio is not None
    assert (tracks.video.codec, tracks.audio.codec) == (Codec.H264, Codec.AAC)
    assert codecs.video_size(tracks.video) == (320, 180)
    pictures, sound = push.of(Kind.VIDEO), push.of(Kind.AUDIO)
    assert sum(unit.key for unit in pictures) > 1, "the worker makes key frames"
    assert abs(pictures[-1].dts - pictures[0].dts - 3_900) < 1_000
    assert abs(sound[0].dts / sound[0].track.timescale - pictures[0].dts / pictures[0].track.timescale) < 0.3


async def test_opus_is_forwarded_beside_the_aac_of_the_stream() -> None:
    film = source(*PICTURES, *SOUND, "-t", "3", "-g", "15", *ENCODERS["VP9"], "-c:a", "libopus", container="matroska")
    listener = builders.Recorder()
    async with pushing("VP9", sound=True) as push:
        push.publisher.stream.pushed_sound.opus.attach(listener)
        await push.play(film)
        await until(lambda: len(push.of(Kind.AUDIO)) > 60)
    assert listener.tracks[-1].audio is OPUS_TRACK
    sent = [unit.payload for unit in film.of(Kind.AUDIO)]
    got = [unit.payload for unit in listener.units]
    assert len(got) > 100 and got == sent[-len(got) :]
    assert {b.dts - a.dts for a, b in zip(listener.units, listener.units[1:], strict=False)} == {960}
    aac = push.of(Kind.AUDIO)[30]
    assert aac.track.codec is Codec.AAC
    nearest = min(abs(unit.dts / 48 - aac.dts / 90) for unit in listener.units)
    assert nearest <= 20, "both have the times of the stream"
