"""Builds `status.json` of a stream. Pages use it to request only existing media."""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gateway.channels.channel import Channel
from gateway.http.response import JSON, Response
from gateway.live.stream import Stream, StreamState
from gateway.media.caption_track import CaptionTrack
from gateway.media.codecs import codec_string, describe
from gateway.media.errors import InvalidData
from gateway.media.track import MediaTrack
from gateway.playback.formats import ALWAYS_ON, BROWSER_PORTS, OPTIONAL_OUTPUTS, enabled_outputs, is_watchable
from gateway.playback.ladder_view import OUTPUT, LadderTranscoder, encoded_bitrate, ladder_format
from gateway.playback.playable_streams import PlayableStreams
from gateway.playback.playlist_response import is_refused
from gateway.playback.posters import Posters
from gateway.workers.ladder_plan import LadderStep


class ReplayFinder(Protocol):
    """Finds the sessions that watch pages play while nobody pushes."""

    async def of(self, channel: Channel) -> Mapping[str, Any] | None:
        """Returns the last session of a channel as `status.json` has it; None: nothing is replayed."""

    def forget(self, channel: str) -> None:
        """Lets the next request search again. channel: an id."""


@dataclass(frozen=True, slots=True)
class StatusResponder:
    """Builds the responses. The caller has already authorized the viewer.

    start_output(stream, output): see playlist_response.start_output. posters: None: stored pictures are not used.
    viewers: returns the number of viewers of a stream on all nodes. Only public channels show it.
    rewind: returns how many seconds viewers may go back, and the date to which they can go back, seconds since 1970;
        None: unknown yet.
    reports: whether viewers may send reports.
    replays: finds the last recorded sessions; None: none are replayed.
    sessions: the protocols whose sessions begin with a request; it may grow.
    """

    streams: PlayableStreams
    start_output: Callable[[Stream, str], bool]
    posters: Posters | None
    viewers: Callable[[Stream], int]
    rewind: Callable[[Stream], tuple[float, float | None]] = lambda stream: (0.0, None)
    reports: bool = False
    replays: ReplayFinder | None = None
    sessions: Collection[str] = ()

    def live(self, stream: Stream) -> Response:
        """Returns the status of a live stream.

        It has the outputs that can carry the stream, those that are ready, and live renditions, the smallest first.
        """
        self.forget(stream.channel.id)
        enabled = [*_enabled(stream), *(name for name in self._always_on() if stream.has_output(name))]
        ready = [output for output in enabled if self.start_output(stream, output)]
        outputs = [output for output in enabled if not is_refused(stream.output(output))]
        renditions = self._renditions(stream)
        reach, oldest = self.rewind(stream)
        return _answer(
            stream.channel,
            stream.state,
            outputs,
            paused=stream.is_paused,
            ready=ready,
            bitrate=stream.received.bitrate,
            renditions=renditions,
            ladder=ladder_format(stream)[0] if renditions else None,
            reports=self.reports,
            tracks=[_track(track) for track in stream.tracks or ()],
            viewers=self.viewers(stream) if stream.channel.flag("isPublic") else None,
            rewind=round(reach),
            oldest=round(oldest * 1000) if oldest is not None else None,
            captions=[_captions(track) for track in stream.captions.texts],
        )

    def forget(self, channel: str) -> None:
        """Lets `idle` search again, because the channel is live: newer pictures and a newer session will follow."""
        if self.posters is not None:
            self.posters.forget(channel)
        if self.replays is not None:
            self.replays.forget(channel)

    async def idle(self, channel: Channel | None) -> Response:
        """Returns the status of a stream that is not live. An unknown channel (None) gets an answer of the same form.

        A channel without any output for viewers is answered like an unknown one.
        """
        if channel is None or not is_watchable(channel):
            return _answer(None, StreamState.IDLE, ())
        poster = await self.posters.path(channel) if self.posters is not None else None
        replay = await self.replays.of(channel) if self.replays is not None else None
        outputs = [*enabled_outputs(channel), *self._always_on()]
        return _answer(channel, StreamState.IDLE, outputs, poster=poster, replay=replay)

    def _always_on(self) -> list[str]:
        return [*ALWAYS_ON, *(name for name in BROWSER_PORTS if name in self.sessions)]

    def _renditions(self, stream: Stream) -> list[dict[str, Any]]:
        transcoder = stream.output(OUTPUT)
        plans = transcoder.active_steps if isinstance(transcoder, LadderTranscoder) else ()
        steps = [*plans, *(LadderStep(t.name, 0, 0, t.info.bitrate, 0, 1.0) for t in stream.pushed_tracks.video)]
        renditions: list[dict[str, Any]] = []
        for step in steps:
            rendition = self.streams.find(f"{stream.name}@{step.name}")
            if rendition is not None and rendition.state is StreamState.LIVE:
                bitrate = encoded_bitrate(step, rendition) + step.audio
                known = describe(rendition.tracks.video) if rendition.tracks and rendition.tracks.video else {}
                size = {side: known.get(side) for side in ("width", "height")}
                renditions.append({"name": step.name, **size, "bitrate": bitrate, "outputs": _enabled(rendition)})
        return renditions


def _enabled(stream: Stream) -> list[str]:
    return [output for output in OPTIONAL_OUTPUTS.values() if stream.has_output(output)]


def _captions(track: CaptionTrack) -> dict[str, object]:
    return {"id": track.id, "label": track.label, "language": track.language, "default": track.default}


def _track(track: MediaTrack) -> dict[str, str | None]:
    """Returns kind and codecs parameter (RFC 6381) of a track. codec: None if the configuration is invalid."""
    try:
        codec: str | None = codec_string(track)
    except InvalidData:
        codec = None
    return {"kind": str(track.kind), "codec": codec}


def _answer(about: Channel | None, state: StreamState, outputs: Sequence[str], **known: object) -> Response:
    """Returns the status. about: the channel that it names. known: the fields that differ from those of an idle one."""
    now = time.time()
    upcoming = about.upcoming(now) if about is not None else None
    body = {
        "name": about.name if about is not None else None,
        "description": about.text("description") if about is not None else "",
        "color": about.text("color") if about is not None else "",
        "live": state is not StreamState.IDLE,
        "outputs": outputs,
        "ready": [],
        "state": state,
        "paused": False,
        "bitrate": 0,
        "renditions": [],
        "ladder": None,
        "poster": None,
        "replay": None,
        "reports": False,
        "tracks": [],
        "viewers": None,
        "rewind": 0,
        "oldest": None,
        "captions": [],
        "upcoming": upcoming.shown() if upcoming is not None else None,
        "now": round(now * 1000),
        **known,
    }
    return Response(200, json.dumps(body).encode(), JSON)
