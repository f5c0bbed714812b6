"""OpusSound: the sound of a stream as Opus, for viewers by WebRTC."""

import time
from typing import Final

import structlog

from gateway.live.fanout import Fanout
from gateway.live.gop_cache import GopCache
from gateway.live.pushed_opus import PushedOpus
from gateway.live.sink import EndReason, Sink, SinkNeeds
from gateway.live.stream import Stream
from gateway.media import opus
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, TimedData, Tracks
from gateway.outputs.browser.on_demand import OnDemand
from gateway.ports.errors import OutputError
from gateway.workers.sound_client import SoundWorkerClient, SoundWorkerFailed
from gateway.workers.sound_protocol import SoundSetup, channels_of, opus_track
from gateway.workers.worker_pool import WorkerPool

log = structlog.get_logger(__name__)

OUTPUT: Final = "opus"
_TO_OPUS: Final = SoundSetup(Codec.OPUS)
_CACHE_BYTES: Final = 100_000  # of the last second
_AUDIO: Final = Kind.AUDIO
LATE_MS: Final = 60  # behind the newest unit of the source; a worker that has caught up is at most 50 ms behind
LONGEST: Final = 2.0  # seconds without sound, if a worker never catches up


class OpusSound:
    """A hidden output of a stream: passes its sound to sinks, as Opus.

    Opus of the publisher with one or two channels is passed on unchanged, even if the stream itself has AAC
    (`Stream.pushed_opus`). Other sound is converted by a worker, which runs from the first sink to a few seconds after
    the last one. Times are those of the stream; converted units count them in samples.
    A worker that dies is replaced; the sound then has a gap, up to the first unit that is not late.
    The queue to the worker is bounded, see SoundWorkerClient.
    """

    def __init__(self, stream: Stream, workers: WorkerPool) -> None:
        self._stream = stream
        self._workers = workers
        self._demand = OnDemand("opus sound", self._work)
        self._fanout = Fanout(GopCache(_CACHE_BYTES, 0))
        self._client: SoundWorkerClient | None = None
        self._source: tuple[MediaTrack | None, int] | None = None  # the sound that is passed on, and its epoch
        self._pushed = PushedOpus(self._choose, self._fanout.push)
        self._copies = self._converts = False  # what happens to the stream's sound; both False: pushed Opus, or none
        self._late = LateUnits()
        self._newest_ms = 0.0  # time of the last unit for the worker

    def acquire(self, sink: Sink) -> None:
        """Adds a consumer. It gets the tracks (only audio) when they are known, and units from now on."""
        self._fanout.attach(sink, SinkNeeds(cache=False))
        self._demand.acquire()

    def release(self, sink: Sink) -> None:
        """Removes a consumer that `acquire` added, also one that failed, or after the end of the stream."""
        self._fanout.detach(sink)
        self._demand.release()

    @property
    def is_running(self) -> bool:
        """Whether the sound of the stream is read."""
        return self._demand.is_running

    async def run(self, stream: Stream) -> None:
        """Implements StreamOutput."""
        try:
            await self._demand.run(stream)
        finally:
            self._fanout.end(stream.ended or EndReason.OUTPUT_OFF)

    async def _work(self) -> None:
        self._client = client = SoundWorkerClient(self._workers, self._stream.name, self._deliver, _TO_OPUS)
        self._source, self._converts, self._late = None, False, LateUnits()
        pushed = self._stream.pushed_sound.opus
        pushed.attach(self._pushed, SinkNeeds(cache=False))
        # If the audio of a stream is made on demand, its pushed Opus is used. So this sink does not want the audio.
        self._stream.attach(self, SinkNeeds(cache=False, audio=False))
        try:
            await client.run()
        except SoundWorkerFailed as error:
            raise OutputError(str(error)) from error
        finally:
            self._stream.detach(self)
            pushed.detach(self._pushed)
            self._client = None

    def _deliver(self, unit: AccessUnit) -> None:
        behind = self._newest_ms - unit.dts * 1000 / unit.track.timescale
        if self._client is not None and not self._late.is_late(self._client.started, behind, time.monotonic()):
            self._fanout.push(unit)

    # ---- Sink of the stream ----

    def on_tracks(self, tracks: Tracks) -> None:
        self._choose()

    def _choose(self) -> None:
        """Chooses the sound to pass on: the publisher's Opus if there is any, else the stream's sound."""
        client, tracks, pushed = self._client, self._stream.tracks, self._pushed
        chosen = pushed.tracks or tracks
        if client is None or chosen is None:
            return
        track = chosen.audio
        source = track, chosen.epoch
        if source == self._source:
            return
        before, self._source = self._source, source
        output = track
        if track is not None and pushed.tracks is None:
            output = opus_form(track)
        self._copies = pushed.tracks is None and track is not None and output is track
        # The first tracks after a restart of the worker continue the earlier units.
        self._fanout.set_tracks(None, output, {}, before is None)
        converted, self._converts = self._converts, output is not track
        if self._converts:
            client.change(track, output)
        elif converted:
            client.change(None, None)

    def on_unit(self, unit: AccessUnit) -> None:
        """Hot path."""
        if unit.track.kind is _AUDIO and self._client is not None and self._pushed.tracks is None:
            if self._pushed.was_withdrawn:
                self._pushed.was_withdrawn = False
                self._choose()
            if self._copies:
                self._fanout.push(unit)
            else:
                self._newest_ms = unit.dts * 1000 / unit.track.timescale
                self._client.give(unit)

    def on_timed(self, timed: TimedData) -> None:
        """Does nothing."""

    def on_end(self, reason: EndReason) -> None:
        """Does nothing: `run` notices it."""

    def on_failed(self, error: Exception) -> None:
        log.error("sound is no longer converted", stream=self._stream.name, exc_info=error)


def opus_form(track: MediaTrack) -> MediaTrack:
    """Returns the track that viewers get instead of a source's sound: the same track if browsers play it."""
    return track if _is_playable(track) else opus_track(channels_of(track))


def _is_playable(track: MediaTrack) -> bool:
    """Whether browsers play a track as it is. RFC 7587 §7: Opus in RTP has at most two channels."""
    try:
        return track.codec is Codec.OPUS and (not track.config or opus.parse_head(track.config).family == 0)
    except InvalidData:
        return False


def opus_sound(stream: Stream) -> OpusSound | None:
    """Returns the Opus sound of a stream; None if it is not live."""
    output = stream.output(OUTPUT)
    return output if isinstance(output, OpusSound) else None


def has_sound(stream: Stream) -> bool:
    """Whether viewers by WebRTC get sound: it is Opus, or this node converts it."""
    audio = None if stream.tracks is None else stream.tracks.audio
    return audio is not None and (audio.codec is Codec.OPUS or opus_sound(stream) is not None)


class LateUnits:
    """Decides which units of a new worker come too late.

    A receiver that plays a late unit plays all later sound with its delay. So late units are dropped until the worker
    has caught up, for at most LONGEST seconds. Afterwards late sound is better than none.
    """

    __slots__ = ("_since", "_worker")

    def __init__(self) -> None:
        self._worker = 0  # the number of the worker that has caught up
        self._since: float | None = None  # monotonic time of the first late unit

    def is_late(self, worker: int, behind_ms: float, now: float) -> bool:
        """Returns whether to drop a unit, and remembers a worker that has caught up.

        worker: number of the worker that made the unit, from 1. now: monotonic seconds.
        behind_ms: time from this unit to the newest unit of the source.
        """
        if worker == self._worker:
            return False
        if self._since is None:
            self._since = now
        if behind_ms > LATE_MS and now - self._since < LONGEST:
            return True
        self._worker, self._since = worker, None
        return False
