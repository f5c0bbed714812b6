"""Turns the encoded frames of a web page (`millrace.frames.v1`) into a publisher's tracks and units.

Pictures are published at once, in the call of `feed`. A worker transcodes audio that is not AAC, so it is published
some tens of milliseconds later.
"""

import time
from typing import Final

import structlog

from gateway.ingest.browser_intake import IntakeStats
from gateway.live.publisher import StreamPublisher
from gateway.live.unit_intake import AUDIO_INDEX, VIDEO_INDEX, UnitIntake
from gateway.media import aac, codecs, h264, opus
from gateway.media.clock import MILLISECONDS
from gateway.media.errors import InvalidData
from gateway.media.framed_units import NO_START, NONE_CAME
from gateway.media.track import AccessUnit, AmfValue, Codec, Kind, MediaTrack
from gateway.media.whole_pictures import WholePictures
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.push import AudioConfig, Chunk, Configured, FramesConnection, VideoConfig
from gateway.workers.sound_client import SoundWorkerClient
from gateway.workers.sound_protocol import aac_track
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

_START_MS: Final = 1_000  # time of the first frame; not 0, because the other track may begin a little earlier
_MAX_REORDER_MS: Final = 1_000
_MASK: Final = 0xFFFFFFFF


class FramesIntake:
    """One push of frames, an `Intake`. `feed` also processes the text messages.

    Malformed chunks are counted and dropped. A hundred in a row, or an unusable configuration, end the push.
    A changed configuration starts a new epoch, whose pictures begin with a key frame.
    Pictures that a configuration describes are announced with the first of them: a camera may send none.
    """

    def __init__(self, publisher: StreamPublisher, workers: WorkerPool) -> None:
        self._publisher = publisher
        self._units = UnitIntake(publisher, reorder=_MAX_REORDER_MS)
        self._connection = FramesConnection()
        self._sound_worker = SoundWorkerClient(workers, publisher.stream.name, self._publish_audio)
        self._time_offset: int | None = None  # the page's time that corresponds to 0 here, milliseconds
        self._video: MediaTrack | None = None
        self._audio: MediaTrack | None = None  # the published audio track
        self._source_audio: MediaTrack | None = None  # the received audio track, if a worker transcodes it to AAC
        self._pre_skip_ms = 0  # of Opus that the worker decodes
        self._pictures: WholePictures | None = None  # of the video
        self._key_due = True  # the next picture must be a key frame
        self._order = DecodeOrder()
        self._uses_worker = False  # the worker was requested
        self._ended = False
        self._dropped = 0
        self._unusable = publisher.unusable
        self._unusable.explain = self._explain

    # ---- Intake ----

    async def run(self) -> None:
        """Runs the audio worker until the push has ended and its last audio is published. Raises IntakeFailed."""
        try:
            await self._sound_worker.run()
        finally:
            self._ended = True

    async def feed(self, data: bytes | str) -> None:
        """Processes the next message. Raises RemoteProtocolError, InvalidData, IntakeFailed. Hot path."""
        if self._ended:
            return
        event = self._connection.receive(data)
        if isinstance(event, Chunk):
            if event.kind is Kind.VIDEO:
                self._on_video(event)
            else:
                self._on_audio(event)
        elif isinstance(event, Configured):
            await self._configure(event)
        else:
            self.finish()

    def finish(self) -> None:
        self._ended = True
        self._sound_worker.finish()

    @property
    def stats(self) -> IntakeStats:
        video = "copy" if self._video is not None else None
        audio = None if self._audio is None else "copy" if self._source_audio is None else "transcode"
        return IntakeStats(self._units.read[VIDEO_INDEX], self._dropped, self._sound_worker.behind, video, audio)

    # ---- frames ----

    def _on_video(self, chunk: Chunk) -> None:
        track, pictures = self._video, self._pictures
        assert track is not None and pictures is not None, "FramesConnection refuses frames without a configuration"
        if not self._publisher.active:
            return
        if self._key_due and not chunk.key:
            self._dropped += 1
            return
        unit = AccessUnit(track, 0, 0, chunk.key, time.time(), chunk.payload)
        if not pictures.is_whole(unit):
            try:
                if not pictures.repair(unit, has_same_time=False):
                    return  # it has no picture
            except InvalidData:
                reason = 'pictures are not NAL units with their lengths: encode with avc: {format: "avc"}'
                self._count_malformed(reason, VIDEO_INDEX)
                return
        self._key_due = False
        pts = self._units.timeline.stamp(VIDEO_INDEX, self._relative_ms(chunk.pts))
        unit.dts = self._order.dts(pts)
        unit.cts = pts - unit.dts
        now = time.monotonic()
        if unit.track is not self._units.tracks[VIDEO_INDEX]:  # the first one, or they brought other parameter sets
            self._video = unit.track
            self._units.set_track(unit.track, now)
        self._units.take(0, unit, now)

    def _on_audio(self, chunk: Chunk) -> None:
        track = self._audio
        assert track is not None, "FramesConnection refuses frames without a configuration"
        if self._source_audio is None and chunk.payload[:1] == b"\xff":
            # The sync word of ADTS begins with these bits. A raw AAC frame never does: there, 111 means its end.
            reason = 'sound is not raw AAC frames: encode with aac: {format: "aac"}'
            self._count_malformed(reason, AUDIO_INDEX)
            return
        dts = self._units.timeline.stamp(AUDIO_INDEX, self._relative_ms(chunk.pts) - self._pre_skip_ms & _MASK)
        if self._source_audio is not None:
            self._sound_worker.give(AccessUnit(self._source_audio, dts, 0, True, time.time(), chunk.payload))
        else:
            self._publish_audio(AccessUnit(track, dts, 0, True, time.time(), chunk.payload))

    def _publish_audio(self, unit: AccessUnit) -> None:
        if self._publisher.active:
            self._units.take(0, unit, time.monotonic())

    def _relative_ms(self, pts: int) -> int:
        """Returns the time on this intake's clock in milliseconds, modulo 2^32. pts: microseconds of the page."""
        ms = pts // 1000
        if self._time_offset is None:
            self._time_offset = ms - _START_MS
        return ms - self._time_offset & _MASK

    def _explain(self) -> str:
        units = self._units
        if self._video is None or units.read[VIDEO_INDEX] or not (units.units or self._dropped):
            return ""
        return NO_START if self._dropped else NONE_CAME

    def _count_malformed(self, reason: str, index: int) -> None:
        self._dropped += 1
        if self._unusable.add_broken(index, reason, alone=True):
            raise InvalidData(reason)

    # ---- configuration ----

    async def _configure(self, configuration: Configured) -> None:
        try:
            video = None if configuration.video is None else _video_track(configuration.video)
            audio = None if configuration.audio is None else _audio_track(configuration.audio)
        except InvalidData as error:
            raise RemoteProtocolError(f"a configuration that cannot be used: {error}") from None
        if audio is None or audio.codec is Codec.AAC:
            source, published = None, audio
        else:
            assert configuration.audio is not None, "it has a track"
            source, published = audio, aac_track(configuration.audio.channels, MILLISECONDS)
        if source is not None or self._uses_worker:
            await self._set_worker_tracks(source, published)
        if (video, published) == (self._video, self._audio) or not self._publisher.active:
            return
        if video != self._video:
            self._key_due = True
            self._order = DecodeOrder()
            self._pictures = None if video is None else WholePictures(video)
        self._video, self._audio = video, published
        units = self._units
        units.metadata = _metadata(configuration)
        units.expected = {track.kind for track in (video, published) if track is not None}
        units.set_all(video if units.is_announced else None, published, time.monotonic())

    async def _set_worker_tracks(self, source: MediaTrack | None, published: MediaTrack | None) -> None:
        if source == self._source_audio:
            return
        self._uses_worker = True
        await self._sound_worker.open(source, published)
        self._source_audio = source
        # Decoded audio is later than the packets' times by the pre-skip (RFC 7845 §4.2).
        skip = opus.parse_head(source.config).pre_skip if source is not None and source.codec is Codec.OPUS else 0
        self._pre_skip_ms = skip * 1000 // opus.RATE


class DecodeOrder:
    """Computes the decode times of pictures from their order and their presentation times.

    Without reordering, both times are the same.
    After an encoder has reordered pictures, decode times are earlier, by the largest difference so far.
    Decode times always increase.
    """

    __slots__ = ("_advance", "_last")

    def __init__(self) -> None:
        self._last = -1
        self._advance = 0

    def dts(self, pts: int) -> int:
        """Returns the decode time in milliseconds. pts: presentation time of the next picture in decode order."""
        dts = pts - self._advance
        if dts <= self._last:
            self._advance = min(_MAX_REORDER_MS, max(self._advance, self._last + 1 - pts))
            dts = self._last + 1
        self._last = dts
        return dts


def _video_track(config: VideoConfig) -> MediaTrack:
    avcc = h264.parse_avcc(config.description)
    if not avcc.sps or not avcc.pps:
        raise InvalidData("video.description (avcC) has no parameter sets")
    h264.parse_sps(avcc.sps[0])
    return MediaTrack(Kind.VIDEO, Codec.H264, MILLISECONDS, config.description)


def _audio_track(config: AudioConfig) -> MediaTrack:
    if config.codec == "opus":
        if config.description:
            head = opus.parse_head(config.description)
        elif config.channels <= 2:
            head = opus.OpusHead(config.channels, 0, config.rate, 0, 0, b"")
        else:
            raise InvalidData("audio.description (OpusHead) is missing, which more than two channels need")
        return MediaTrack(Kind.AUDIO, Codec.OPUS, MILLISECONDS, opus.head_bytes(head))
    if config.description:
        aac.parse_asc(config.description)
        return MediaTrack(Kind.AUDIO, Codec.AAC, MILLISECONDS, config.description)
    if config.codec != "mp4a.40.2" or config.rate not in aac.RATES or config.channels > 6:
        raise InvalidData("audio.description (AudioSpecificConfig) is missing")
    return MediaTrack(Kind.AUDIO, Codec.AAC, MILLISECONDS, aac.lc_config(config.rate, config.channels))


def _metadata(configuration: Configured) -> dict[str, AmfValue]:
    """Returns metadata like those of onMetaData."""
    metadata: dict[str, AmfValue] = {"encoder": "WebCodecs"}
    if configuration.video is not None:
        size = codecs.video_size(_video_track(configuration.video))
        width, height = size or (configuration.video.width, configuration.video.height)
        metadata |= {"width": float(width), "height": float(height)}
        if configuration.video.framerate:
            metadata["framerate"] = float(configuration.video.framerate)
    return metadata
