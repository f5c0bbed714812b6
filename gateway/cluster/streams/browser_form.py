"""A stream of this node in the form for WebRTC viewers, which other nodes pull. Only this node converts it."""

import asyncio
from dataclasses import replace
from typing import Final

import structlog

from gateway.cluster.streams.pull import RENDITIONS, UnitSource, shared_fields_now
from gateway.lib.tasks import Tasks
from gateway.live.sink import EndReason, PartialSink, Sink, SinkNeeds
from gateway.live.stream import Stream
from gateway.media.reordering import ReorderingWatch
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, Tracks
from gateway.outputs.browser.browser_pictures import PicturesOnDemand
from gateway.outputs.browser.opus_sound import OpusSound, opus_form, opus_sound
from gateway.outputs.browser.picture_sizes import PictureSize
from gateway.ports.errors import AtCapacity, NoSuchStream, OutputError
from gateway.protocols.nodes import Hello, PullForm

log = structlog.get_logger(__name__)

_PLAYABLE: Final = {
    PullForm.WEBRTC: (Codec.H264, Codec.H265, Codec.AV1, Codec.VP8, Codec.VP9),
    PullForm.WEBRTC_H264: (Codec.H264,),
}


class BrowserForms:
    """Makes the sources of pulls. All pulls of a stream share one conversion.

    tasks: run while a pull waits for its pictures.
    """

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._pictures = PicturesOnDemand()

    def __call__(self, stream: Stream, session: str, name: str) -> UnitSource:
        """Returns the source of one pull. name: of the form. Raises NoSuchStream for an unknown form."""
        try:
            form = PullForm(name)
        except ValueError:
            raise NoSuchStream(stream.name) from None
        return BrowserForm(stream, session, form, self._pictures, self._tasks)


class BrowserForm:
    """A UnitSource for one pull. It joins the pictures and the Opus sound of a stream, with the times of the stream.

    Nothing is converted if the stream has this form already. Conversions end some seconds after the last pull.
    """

    def __init__(self, stream: Stream, session: str, form: PullForm, pictures: PicturesOnDemand, tasks: Tasks) -> None:
        self._stream = stream
        self._session = session
        self._form = form
        self._pictures = pictures
        self._tasks = tasks
        self._task: asyncio.Task[object] | None = None
        self._acquired: Stream | None = None  # the stream with the pictures; `release` must get it
        self._joined: _JoinedTracks | None = None
        self._sound: OpusSound | None = None

    # ---- UnitSource ----

    def hello(self) -> Hello:
        renditions = [PictureSize.of(other).to_json() for other in self._pictures.renditions(self._stream)]
        fields = shared_fields_now(self._stream) | {RENDITIONS: renditions}
        return Hello(self._session, self._stream.spec.started, fields)

    def map_tracks(self, tracks: Tracks) -> Tracks:
        return tracks

    def attach(self, sink: Sink, needs: SinkNeeds) -> None:
        """Sends the stream to the sink when its pictures exist. If there are no pictures, the sink gets the end."""
        self._task = self._tasks.start(self._begin(sink, needs), f"{self._form} of {self._stream.name}")

    def detach(self, sink: Sink) -> None:
        if self._task is not None:
            self._task.cancel()
        joined, self._joined = self._joined, None
        if joined is not None:
            if self._acquired is not None:
                self._acquired.detach(joined)
            if self._sound is not None:
                self._sound.release(joined.sound)
        acquired, self._acquired = self._acquired, None
        if acquired is not None:
            self._pictures.release(self._stream, acquired)

    async def _begin(self, sink: Sink, needs: SinkNeeds) -> None:
        stream = self._stream
        try:
            self._acquired = pictures = await self._pictures.acquire(stream, _PLAYABLE[self._form])
        except (OutputError, AtCapacity) as error:
            log.warning("a node gets no pictures for browsers", stream=stream.name, reason=str(error))
            sink.on_end(EndReason.OUTPUT_OFF)
            return
        sound = self._sound = opus_sound(stream) if self._form is PullForm.WEBRTC else None
        joined = self._joined = _JoinedTracks(sink, stream, sound is not None)
        pictures.attach(joined, replace(needs, audio=False))  # the sound comes from opus_sound
        if sound is not None:
            sound.acquire(joined.sound)


class _Ended(PartialSink):
    """The sink of a pull that has ended."""

    def on_unit(self, unit: AccessUnit) -> None: ...

    def on_failed(self, error: Exception) -> None: ...


_ENDED: Final = _Ended()


class _JoinedTracks(PartialSink):
    """The sink of the pictures; `sound` is the sink of the sound. Joins pictures and sound into one sink."""

    def __init__(self, sink: Sink, source: Stream, has_sound: bool) -> None:
        self.sink: Sink = sink
        self._source = source
        self._has_sound = has_sound
        self._pictures: Tracks | None = None
        self._order: ReorderingWatch | None = None  # of the pictures
        self.audio: MediaTrack | None = None
        self.sound = _SoundSink(self)

    def announce(self, audio: MediaTrack | None) -> None:
        """Announces the pictures with this track of sound."""
        self.audio = audio
        if self._pictures is not None:
            tracks = self._pictures
            self.sink.on_tracks(Tracks(tracks.video, audio, tracks.epoch, tracks.metadata))

    # ---- Sink ----

    def on_tracks(self, tracks: Tracks) -> None:
        before, self._pictures = self._pictures, tracks
        if before is None or tracks.video != before.video:
            self._order = ReorderingWatch(tracks.video) if tracks.video is not None else None
        source = self._source.tracks
        audio = source.audio if source is not None and self._has_sound else None
        # OpusSound announces this track later. It is announced now, so that the first tracks of a pull are complete.
        self.announce(None if audio is None else opus_form(audio))

    def on_unit(self, unit: AccessUnit) -> None:
        """Hot path."""
        if unit.track.kind is not Kind.VIDEO:
            return
        if self._order is not None and self._order.finds(unit):  # the next pull gets converted pictures
            self.on_end(EndReason.OUTPUT_OFF)
        else:
            self.sink.on_unit(unit)

    def on_end(self, reason: EndReason) -> None:
        """Ends the pull. Pictures of a worker may have ended with a reason of their own before their source did."""
        sink, self.sink = self.sink, _ENDED
        sink.on_end(self._source.ended or reason)

    def on_failed(self, error: Exception) -> None:
        self.sink.on_failed(error)


class _SoundSink(PartialSink):
    """Passes the sound on when its track is announced. The end of the pictures ends the pull."""

    def __init__(self, joined: _JoinedTracks) -> None:
        self._joined = joined

    def on_tracks(self, tracks: Tracks) -> None:
        if tracks.audio != self._joined.audio:
            self._joined.announce(tracks.audio)

    def on_unit(self, unit: AccessUnit) -> None:
        """Hot path. Drops the last units of an earlier track, because their times have another scale."""
        joined = self._joined
        if joined.audio is not None and unit.track.timescale == joined.audio.timescale:
            joined.sink.on_unit(unit)

    def on_failed(self, error: Exception) -> None:
        self._joined.sink.on_failed(error)
