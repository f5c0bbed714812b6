"""A WHIP push announces its tracks by the rules of all pushes: promised pictures are awaited."""

from __future__ import annotations

import base64
import itertools
import time
from collections.abc import Callable
from itertools import count

from gateway.ingest.webrtc.intake import WhipIntake
from gateway.ingest.webrtc.received_track import TrackParameters
from gateway.ingest.webrtc.sound_on_demand import AAC_TRACK
from gateway.ingest.webrtc.whip_units import OPUS_TRACK
from gateway.lib.metric_table import WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.media import h264, nal
from gateway.media.track import AccessUnit, Codec, ForeignSound, Kind
from gateway.protocols.rtp.packetizers.nal_units import H264Packetizer
from gateway.protocols.rtp.packetizers.packetizer import MAX_PAYLOAD
from gateway.protocols.rtp.sender import rtp_packet
from gateway.protocols.sdp.offer import OfferedCodec, parse_offer
from gateway.settings.layers import load
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders, sdp
from tests.support.builders import Recorder
from tests.support.rtp_viewers import coded
from tests.unit.ingest.test_rtsp_intake import Kept

VIDEO, AUDIO = 96, 111
SETTINGS = load(environ={})
PACKETIZER = H264Packetizer(builders.VIDEO.config)
OPUS = b"\xf8\xff\xfe"  # 20 ms of silence
OPUS_CODEC = OfferedCodec(AUDIO, "OPUS", 48_000, 2, {}, frozenset(), None)
PCMU = OfferedCodec(AUDIO, "PCMU", 8_000, 1, {}, frozenset(), None)
H264 = OfferedCodec(VIDEO, "H264", 90_000, 1, {}, frozenset(), None)


class Push:
    """An intake of pictures and sound without a connection, and what it publishes."""

    def __init__(self, *, video: bool = True, codec: OfferedCodec = H264, sound: OfferedCodec = OPUS_CODEC) -> None:
        parameters = [TrackParameters(Kind.VIDEO, codec, 0), TrackParameters(Kind.AUDIO, sound, 0)]
        self._rate = sound.clock // 1000
        self.converters: list[Kept] = []
        self.publisher, errors = builders.publish(builders.hub()), list[str]()
        workers = WorkerPool(SETTINGS.workers, Counter(WORKER_RESTARTS))
        self.intake = WhipIntake(
            self.publisher, workers, parameters[not video :], errors.append, SETTINGS, self._make_converter
        )
        self.seen, self.heard = Recorder(), Recorder()
        self.publisher.stream.attach(self.seen)
        self.publisher.stream.pushed_sound.opus.attach(self.heard)
        self._numbers, self._began = (count(), count()), time.monotonic()

    def _make_converter(self, deliver: Callable[[AccessUnit], None]) -> Kept:
        self.converters.append(Kept(deliver))
        return self.converters[-1]

    def picture(self, ms: int, *, key: bool = False, late: int = 0) -> None:
        """Sends a picture. late: ticks of 90 kHz after `ms`."""
        self.payloads(ms, PACKETIZER.split(coded(ms, key, 300).payload, MAX_PAYLOAD, key), late=late)

    def payloads(self, ms: int, parts: list[bytes], *, late: int = 0) -> None:
        """Sends the packets of a picture."""
        for part in parts:
            self._send(ms, rtp_packet(VIDEO, part is parts[-1], next(self._numbers[0]), ms * 90 + late, 1, part))

    def sound(self, ms: int) -> None:
        self._send(ms, rtp_packet(AUDIO, False, next(self._numbers[1]), ms * self._rate, 2, OPUS))

    def _send(self, ms: int, packet: bytes) -> None:
        self.intake.receive_rtp([packet], [self._began + ms / 1000])

    @property
    def tracks(self) -> list[tuple[bool, bool]]:
        """Whether each announcement has pictures and sound."""
        return [(tracks.video is not None, tracks.audio is not None) for tracks in self.seen.tracks]


async def test_sound_that_comes_first_waits_for_the_pictures() -> None:
    push = Push()
    for ms in range(0, 6000, 20):
        push.sound(ms)
    assert push.tracks == [] and push.heard.units == []
    push.picture(6000, key=True)
    push.sound(6000)
    assert push.tracks == [(True, True)]
    assert len(push.heard.units) == 1, "sound before the first picture would delay all later sound"


async def test_pictures_do_not_wait_for_sound() -> None:
    push = Push()
    push.picture(0, key=True)
    assert push.tracks == [(True, True)]
    assert len(push.seen.units) == 1


async def test_a_promised_camera_that_sends_nothing_is_left_out_and_its_owner_reads_why() -> None:
    push = Push()
    for ms in range(0, 10_000, 20):
        push.sound(ms)
    assert push.tracks == [] and push.intake.has_media
    push.sound(10_000)
    push.sound(10_020)
    assert push.tracks == [(False, True)]
    assert len(push.heard.units) == 2
    assert push.publisher.unusable.explain() == "they are announced, but none came"


async def test_a_camera_that_begins_late_is_announced() -> None:
    push = Push()
    for ms in range(0, 10_020, 20):
        push.sound(ms)
    push.picture(10_100, key=True)
    assert push.tracks == [(False, True), (True, True)]
    assert push.publisher.unusable.explain() == ""


async def test_sound_alone_waits_for_nothing() -> None:
    push = Push(video=False)
    push.sound(0)
    assert push.seen.tracks[0].audio == AAC_TRACK
    assert [unit.track for unit in push.heard.units] == [OPUS_TRACK]


async def test_g711_becomes_aac() -> None:
    """MediaMTX forwards the sound of cameras so, and devices with libpeer or an ESP32 send it."""
    push = Push(sound=PCMU)
    for ms in range(0, 200, 20):
        push.sound(ms)
        push.picture(ms, key=not ms)
    (tracks,) = push.seen.tracks
    assert tracks.video is not None and tracks.audio is not None and tracks.audio.codec is Codec.AAC
    assert [converter.sources for converter in push.converters] == [[ForeignSound("pcm_mulaw", 8_000, 1)]]
    times = [unit.dts for unit in push.seen.units if unit.track.kind is Kind.AUDIO]
    assert [later - time for time, later in itertools.pairwise(times)] == [1_800] * 9 and push.heard.units == []
    push.intake.close()
    assert push.converters[0].closed == 1


async def test_pictures_wait_a_limited_time_for_g711_that_never_comes() -> None:
    """MediaMTX 1.20 offers PCMU where its stream has no sound for WebRTC, such as AAC, and sends none."""
    push = Push(sound=PCMU)
    for ms in range(0, 6_000, 100):
        push.picture(ms, key=not ms)
    assert push.tracks == [(True, False)] and len(push.seen.units) == 60
    assert push.converters == []


async def test_pictures_keep_their_times_to_the_tick() -> None:
    push, lateness = Push(), (0, 7, 45, 89, 1)
    for number, late in enumerate(lateness):
        push.picture(33 * number, key=not number, late=late)
    times = [unit.dts + unit.cts for unit in push.seen.units]
    assert [time - times[0] for time in times] == [33 * 90 * number + late for number, late in enumerate(lateness)]
    assert push.seen.units[0].track.timescale == 90_000


async def test_parameter_sets_may_stand_in_the_offer_only() -> None:
    """`x264enc ! rtph264pay` of GStreamer sends pictures without them."""
    record = h264.parse_avcc(builders.VIDEO.config)
    sets = ",".join(base64.b64encode(unit).decode() for unit in (*record.sps, *record.pps))
    offer = sdp.offer(sdp.VIDEO.replace("42e01f", f"64001f;sprop-parameter-sets={sets}"))
    push = Push(codec=parse_offer(offer).media[0].codecs[0])
    for ms in (0, 40):  # a receiver cannot know that the first picture is whole
        units = [bytes(unit) for unit in nal.views(coded(ms, True, 300).payload, 4)]
        push.payloads(ms, [unit for unit in units if unit[0] & 0x1F == h264.SLICE_IDR])
    (track,) = [tracks.video for tracks in push.seen.tracks]
    assert track is not None and h264.parse_avcc(track.config).sps == record.sps
    assert len(push.seen.units) == 1
