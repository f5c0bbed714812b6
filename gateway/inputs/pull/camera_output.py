"""CameraOutput: publishes the units of a camera's tracks, with one clock."""

import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final

import structlog

from gateway.inputs.demux_client import LeftOut
from gateway.inputs.descriptor import InputContext
from gateway.inputs.pull.pull_parts import SILENCE_SECONDS, check_key_frame
from gateway.inputs.unit_output import UnitOutput
from gateway.lib.tasks import Tasks
from gateway.live.sound_to_aac import becomes_aac
from gateway.media.clock import VIDEO_CLOCK, PublisherTimeline
from gateway.media.track import AccessUnit, Kind, MediaTrack, Tracks
from gateway.ports.errors import OutputError
from gateway.protocols.rtp.packets import parse_packet
from gateway.protocols.rtsp.received_track import RtspTrack, SenderReports
from gateway.workers.sound_client import SoundWorkerClient, SoundWorkerFailed
from gateway.workers.sound_protocol import SoundSetup, aac_track, channels_of
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

_INDEX: Final = {Kind.VIDEO: 0, Kind.AUDIO: 1}


class CameraOutput(AbstractAsyncContextManager["CameraOutput"]):
    """Takes the packets of a session. A worker encodes sound that no track can carry, or that browsers refuse.

    Nothing is published before the first key frame. Sound before it is dropped.
    """

    def __init__(self, workers: WorkerPool, context: InputContext, peer: str) -> None:
        self._workers = workers
        self._context = context
        self._output = UnitOutput(context, peer)
        self._timeline = PublisherTimeline(VIDEO_CLOCK)
        self._tracks: list[RtspTrack] = []
        self._has_video = False
        self._reports = SenderReports()
        self._announced: tuple[MediaTrack | None, MediaTrack | None] = (None, None)
        self._last_times: dict[Kind, int] = {}
        self._began = self._last_packet = time.monotonic()
        self._first_packet = 0.0
        self._late: RtspTrack | None = None  # the sound whose first frame tells whether it is converted
        self._converted: RtspTrack | None = None  # the sound that the encoder gets
        self._encoder: SoundWorkerClient | None = None
        self._encoded: MediaTrack | None = None  # the AAC track of the encoder
        self._tasks = Tasks("camera", self._crashed)
        self._failed: OutputError | None = None

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()
        self._output.close()

    async def begin(self, tracks: list[RtspTrack], left_out: Mapping[str, Kind] | None = None) -> None:
        """Sets the tracks. Starts a worker if their sound has to be encoded. left_out: see LeftOut."""
        self._tracks, self._reports = tracks, SenderReports(tracks)
        self._has_video = any(track.kind is Kind.VIDEO for track in tracks)
        self._output.announce(LeftOut(left_out or {}))
        self._last_packet = time.monotonic()
        for track in tracks:
            if track.tells_late:
                self._late = track
            elif self._is_converted(track):
                encoder, encoded = self._make_encoder(track)
                try:
                    await encoder.open(track.samples.track, encoded)
                except SoundWorkerFailed as error:
                    log.warning("sound of a camera is left out", reason=str(error))
                    continue
                self._encoder, self._encoded = encoder, encoded

    def _is_converted(self, track: RtspTrack) -> bool:
        """Whether a worker has to make AAC of a track."""
        sound = track.samples.track if track.kind is Kind.AUDIO else None
        return sound is not None and becomes_aac(sound, track.foreign, self._context.channel)

    def _make_encoder(self, track: RtspTrack) -> tuple[SoundWorkerClient, MediaTrack]:
        """Starts an encoder. Returns it, and the track that it makes."""
        self._converted, foreign, sound = track, track.foreign, track.samples.track
        assert sound is not None, "the sound is known"
        encoded = aac_track(channels_of(sound) if foreign is None else foreign.channels, VIDEO_CLOCK)
        encoder = SoundWorkerClient(self._workers, self._context.channel.id, self._push, SoundSetup(foreign=foreign))
        self._tasks.start(self._encode(encoder), "sound")
        return encoder, encoded

    def _convert_late(self, track: RtspTrack) -> None:
        """Begins to convert a track whose first frame has come, if it must be."""
        self._late = None
        if not self._is_converted(track):
            return
        self._encoder, self._encoded = self._make_encoder(track)
        self._encoder.change(track.samples.track, self._encoded)
        video, audio = self._announced
        if audio is not None:  # the pictures came first, and were announced with the sound of the description
            self._announced = (video, self._encoded)
            self._output.announce(Tracks(video, self._encoded))  # the first change, which is never one too many

    def synchronize(self, begins: list[int] | None) -> None:
        """Sets the RTP timestamps that the tracks have at the same time, in the order of the tracks. None: unknown."""
        if begins is None or self._first_packet:
            return  # packets that came before the answer have times already
        at = (time.monotonic() - self._began) * VIDEO_CLOCK
        for track, timestamp in zip(self._tracks, begins, strict=True):
            track.clock.anchor(timestamp, at)

    def take_packet(self, track: RtspTrack, data: bytes) -> None:
        """Takes an RTP packet. Hot path."""
        packet = parse_packet(data, empty=True)
        if packet is None:
            return
        now = time.monotonic()
        if packet.payload:
            self._last_packet = now
            self._first_packet = self._first_packet or now
        self._reports.use()
        units = track.receive(packet, (now - self._began) * VIDEO_CLOCK)
        if units and track is self._late:
            self._convert_late(track)
        for unit in units:
            if track is not self._converted:
                self._push(unit)
            elif self._encoder is not None and (self._output.begun or not self._has_video):
                self._encoder.give(unit)

    def take_report(self, track: RtspTrack, data: bytes) -> None:
        """Takes an RTCP packet."""
        self._reports.take(track, data)

    def check(self, now: float) -> None:
        """Raises OutputError if no media or no key frame arrives. now: monotonic seconds."""
        if self._failed is not None:
            raise self._failed
        if now - self._last_packet > SILENCE_SECONDS:
            raise OutputError(f"no media for {SILENCE_SECONDS:.0f} s")
        if not self._output.begun and self._first_packet:
            check_key_frame(self._context, now - self._first_packet)

    def _push(self, unit: AccessUnit) -> None:
        """Publishes a unit with repaired times. Hot path."""
        kind = unit.track.kind
        if unit.track is not self._announced[_INDEX[kind]] and not self._announce(unit):
            return
        at = self._timeline.stamp(_INDEX[kind], unit.dts)
        if at <= (last := self._last_times.get(kind, -1)):
            at = last + 1  # after a correction of the sound's time
        self._last_times[kind] = at
        unit.dts = at
        self._output.push(unit)

    def _announce(self, unit: AccessUnit) -> bool:
        """Announces the tracks at a key frame. Returns whether the unit can be published."""
        video, audio = self._announced
        if unit.track.kind is Kind.VIDEO:
            video = unit.track
            if audio is None:
                audio = self._encoded or next(
                    (t.samples.track for t in self._tracks if t.kind is Kind.AUDIO and t is not self._converted), None
                )
        elif self._has_video:
            return False  # the pictures come first
        else:
            audio = unit.track
        self._announced = (video, audio)
        try:
            self._output.announce(Tracks(video, audio))
        except OutputError as error:
            self._failed = error
            return False
        return True

    def _crashed(self, name: str, error: BaseException) -> None:
        log.error("the sound of a camera failed", task=name, exc_info=error)
        self._encoder = None

    async def _encode(self, encoder: SoundWorkerClient) -> None:
        try:
            await encoder.run()
        except SoundWorkerFailed as error:
            log.warning("sound of a camera is left out", reason=str(error))
            self._encoder = None
