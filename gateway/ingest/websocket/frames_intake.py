"""Turns the encoded frames of a web page (`millrace.frames.v1`) into a publisher's tracks and units.

Pictures are published in the call that brings them. Sound that is not AAC goes through a worker, and follows some tens
of milliseconds later.
"""

from __future__ import annotations

import time
from typing import Final

import structlog

from gateway.ingest.browser_intake import IntakeFailed, IntakeStats
from gateway.live.publisher import StreamPublisher
from gateway.media import aac, codecs, h264, nal, opus
from gateway.media.clock import PublisherTimeline
from gateway.media.errors import InvalidData
from gateway.media.track import AmfValue, Codec, Kind, MediaTrack
from gateway.media.unit import AccessUnit
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.push import AudioConfig, Chunk, Configured, FramesConnection, VideoConfig
from gateway.workers.aac_client import AacWorkerClient, AacWorkerFailed
from gateway.workers.aac_protocol import aac_track
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

_SCALE: Final = 1000  # ticks per second of the units: milliseconds, as in FLV and RTMP
_VIDEO_LANE, _AUDIO_LANE = 0, 1
_START: Final = 1_000  # time of the first frame, milliseconds: the other track may have begun a little earlier
_REORDER: Final = 1_000  # how far pictures may be reordered, milliseconds
_MAX_MALFORMED: Final = 100
_MASK: Final = 0xFFFFFFFF


class FramesIntake:
    """One push of frames, an `Intake`; `feed` takes the text messages too.

    Malformed chunks are counted and dropped. A hundred in a row, or an unusable configuration, end the push.
    A changed configuration is a new epoch, whose pictures begin with a key frame.
    """

    def __init__(self, publisher: StreamPublisher, workers: WorkerPool) -> None:
        self._publisher = publisher
        self._connection = FramesConnection()
        self._speech = AacWorkerClient(workers, publisher.stream.name, self._publish_sound)
        self._timeline = PublisherTimeline(reorder=_REORDER)
        self._origin: int | None = None  # the page's time that corresponds to 0 here, milliseconds
        self._video: MediaTrack | None = None
        self._audio: MediaTrack | None = None  # the published audio track
        self._spoken: MediaTrack | None = None  # the received audio track, if a worker makes AAC of it
        self._pre_skip = 0
        self._length_size = 4
        self._key_due = True
        self._order = DecodeOrder()
        self._speaking = False  # the worker was requested
        self._over = False
        self._frames = 0
        self._dropped = 0
        self._malformed = 0

    # ---- Intake ----

    async def run(self) -> None:
        """Works until `finish`, or the message that ends the push, and the last sound is published.

        Raises IntakeFailed.
        """
        try:
            await self._speech.run()
        except AacWorkerFailed as error:
            raise IntakeFailed(str(error), again=error.again) from error
        finally:
            self._over = True

    async def feed(self, data: bytes | str) -> None:
        """Takes the next message. Raises RemoteProtocolError, InvalidData, IntakeFailed. Hot path."""
        if self._over:
            return
        event = self._connection.receive(data)
        if isinstance(event, Chunk):
            if event.kind is Kind.VIDEO:
                self._picture(event)
            else:
                self._sound(event)
        elif isinstance(event, Configured):
            await self._configure(event)
        else:
            self.finish()

    def finish(self) -> None:
        self._over = True
        self._speech.finish()

    @property
    def stats(self) -> IntakeStats:
        return IntakeStats(
            frames=self._frames,
            dropped=self._dropped,
            behind=self._speech.behind,
            video="copy" if self._video is not None else None,
            audio=None if self._audio is None else "copy" if self._spoken is None else "transcode",
        )

    # ---- frames ----

    def _picture(self, chunk: Chunk) -> None:
        track = self._video
        assert track is not None, "the connection lets no frame of an unknown kind through"
        if self._key_due and not chunk.key:
            self._dropped += 1
            return
        if not well_formed(chunk.payload, self._length_size):
            self._bad('pictures are not length-prefixed NAL units: encode with avc: {format: "avc"}')
            return
        self._malformed = 0
        self._key_due = False
        pts = self._timeline.stamp(_VIDEO_LANE, self._raw(chunk.pts))
        dts = self._order.dts(pts)
        self._frames += 1
        now = time.monotonic()
        self._publisher.push(AccessUnit(track, dts, pts - dts, chunk.key, time.time(), chunk.payload), now)

    def _sound(self, chunk: Chunk) -> None:
        track = self._audio
        assert track is not None, "the connection lets no frame of an unknown kind through"
        if self._spoken is None and chunk.payload[:1] == b"\xff":
            # A raw frame cannot begin with its end element, but the sync word of ADTS begins with these bits.
            self._bad('sound is not raw AAC frames: encode with aac: {format: "aac"}')
            return
        dts = self._timeline.stamp(_AUDIO_LANE, self._raw(chunk.pts) - self._pre_skip & _MASK)
        if self._spoken is not None:
            self._speech.give(AccessUnit(self._spoken, dts, 0, True, time.time(), chunk.payload))
        else:
            self._publisher.push(AccessUnit(track, dts, 0, True, time.time(), chunk.payload), time.monotonic())

    def _publish_sound(self, unit: AccessUnit) -> None:
        if self._publisher.active:
            self._publisher.push(unit, time.monotonic())

    def _raw(self, pts: int) -> int:
        ms = pts // 1000
        if self._origin is None:
            self._origin = ms - _START
        return ms - self._origin & _MASK

    def _bad(self, reason: str) -> None:
        self._dropped += 1
        self._malformed += 1
        self._publisher.dropped["ingest"] += 1
        if self._malformed == 1:
            log.info("malformed media dropped", stream=self._publisher.stream.name, reason=reason)
        if self._malformed >= _MAX_MALFORMED:
            raise InvalidData(reason)

    # ---- configuration ----

    async def _configure(self, said: Configured) -> None:
        try:
            video = None if said.video is None else _video_track(said.video)
            audio = None if said.audio is None else _audio_track(said.audio)
        except InvalidData as error:
            raise RemoteProtocolError(f"a configuration that cannot be used: {error}") from None
        if audio is None or audio.codec is Codec.AAC:
            spoken, published = None, audio
        else:
            assert said.audio is not None, "it has a track"
            spoken, published = audio, aac_track(said.audio.channels, _SCALE)
        if spoken is not None or self._speaking:
            await self._speak(spoken, published)
        if (video, published) == (self._video, self._audio) or not self._publisher.active:
            return
        if video != self._video:
            self._key_due = True
            self._order = DecodeOrder()
            self._length_size = 4 if video is None else h264.parse_avcc(video.config).length_size
        self._video, self._audio = video, published
        self._publisher.set_tracks(video, published, _metadata(said))

    async def _speak(self, spoken: MediaTrack | None, published: MediaTrack | None) -> None:
        if spoken == self._spoken:
            return
        self._speaking = True
        try:
            await self._speech.open(spoken, published)
        except AacWorkerFailed as error:
            raise IntakeFailed(str(error), again=error.again) from error
        self._spoken = spoken
        # Decoded sound is later than the packets' times by the pre-skip (RFC 7845 §4.2).
        skip = opus.parse_head(spoken.config).pre_skip if spoken is not None and spoken.codec is Codec.OPUS else 0
        self._pre_skip = skip * 1000 // opus.RATE


class DecodeOrder:
    """Computes the decode times of pictures from their order and their presentation times.

    Without reordering both are equal.
    If an encoder reorders, decode times are earlier from then on, by the largest difference seen; they always increase.
    """

    __slots__ = ("_last", "_lead")

    def __init__(self) -> None:
        self._last = -1
        self._lead = 0

    def dts(self, pts: int) -> int:
        """Returns the decode time in milliseconds. pts: of the next picture in decode order."""
        dts = pts - self._lead
        if dts <= self._last:
            self._lead = min(_REORDER, max(self._lead, self._last + 1 - pts))
            dts = self._last + 1
        self._last = dts
        return dts


def well_formed(payload: bytes, length_size: int) -> bool:
    """Whether the whole payload is NAL units, each after its length. Hot path."""
    at, end = 0, len(payload)
    from_bytes = int.from_bytes
    for _ in range(nal.MAX_UNITS):
        start = at + length_size
        size = from_bytes(payload[at:start], "big")
        at = start + size
        if at >= end or not size:
            return at == end and size > 0
    return False


def _video_track(config: VideoConfig) -> MediaTrack:
    avcc = h264.parse_avcc(config.description)
    if not avcc.sps or not avcc.pps:
        raise InvalidData("video.description (avcC) has no parameter sets")
    h264.parse_sps(avcc.sps[0])
    return MediaTrack(Kind.VIDEO, Codec.H264, _SCALE, config.description)


def _audio_track(config: AudioConfig) -> MediaTrack:
    if config.codec == "opus":
        if config.description:
            head = opus.parse_head(config.description)
        elif config.channels <= 2:
            head = opus.OpusHead(config.channels, 0, config.rate, 0, 0, b"")
        else:
            raise InvalidData("audio.description (OpusHead) is missing, which more than two channels need")
        return MediaTrack(Kind.AUDIO, Codec.OPUS, _SCALE, opus.head_bytes(head))
    if config.description:
        aac.parse_asc(config.description)
        return MediaTrack(Kind.AUDIO, Codec.AAC, _SCALE, config.description)
    if config.codec != "mp4a.40.2" or config.rate not in aac.RATES or config.channels > 6:
        raise InvalidData("audio.description (AudioSpecificConfig) is missing")
    # ISO/IEC 14496-3 §1.6.2.1: object type 2 (LC), the rate's index, the channels; no SBR.
    bits = 2 << 11 | aac.RATES.index(config.rate) << 7 | config.channels << 3
    return MediaTrack(Kind.AUDIO, Codec.AAC, _SCALE, bits.to_bytes(2, "big"))


def _metadata(said: Configured) -> dict[str, AmfValue]:
    """Returns the content that an onMetaData would have."""
    metadata: dict[str, AmfValue] = {"encoder": "WebCodecs"}
    if said.video is not None:
        size = codecs.video_size(_video_track(said.video))
        width, height = size or (said.video.width, said.video.height)
        metadata |= {"width": float(width), "height": float(height)}
        if said.video.framerate:
            metadata["framerate"] = float(said.video.framerate)
    return metadata
