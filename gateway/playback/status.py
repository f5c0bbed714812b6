"""Builds `status.json` of a stream. Pages use it to request only existing media."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from gateway.channels.channel import Channel
from gateway.http.response import JSON, Response
from gateway.live.stream import Stream, StreamState
from gateway.media.codecs import codec_string
from gateway.media.errors import InvalidData
from gateway.media.track import MediaTrack
from gateway.playback.formats import ALWAYS_ON, OPTIONAL_OUTPUTS, enabled_outputs, is_watchable
from gateway.playback.ladder_view import OUTPUT, LadderTranscoder, ladder_format
from gateway.playback.play_format import PlayableStreams
from gateway.playback.posters import Posters


class StatusResponder:
    """Builds the responses. The caller has already authorized the viewer.

    ready(stream, output): whether an enabled output is ready. posters: set if stored pictures may be used.
    viewers: returns the number of viewers of a stream on all nodes. Only public channels show it.
    rewind: returns how many seconds viewers may go back, and the date to which they can go back, seconds since the
        epoch; None: unknown yet.
    reports: whether viewers may send reports.
    """

    def __init__(
        self,
        hub: PlayableStreams,
        ready: Callable[[Stream, str], bool],
        posters: Posters | None,
        viewers: Callable[[Stream], int],
        rewind: Callable[[Stream], tuple[float, float | None]] = lambda stream: (0.0, None),
        reports: bool = False,
    ) -> None:
        self._hub = hub
        self._ready = ready
        self._posters = posters
        self._viewers = viewers
        self._rewind = rewind
        self._reports = reports

    def live(self, stream: Stream) -> Response:
        """Returns the status of a live stream: outputs, ready outputs, and live renditions, the smallest first."""
        if self._posters is not None:
            self._posters.forget(stream.channel.id)
        outputs = [*_enabled(stream), *(name for name in ALWAYS_ON if stream.has_output(name))]
        renditions = self._renditions(stream)
        reach, oldest = self._rewind(stream)
        return _answer(
            state=stream.state,
            outputs=outputs,
            ready=[output for output in outputs if self._ready(stream, output)],
            renditions=renditions,
            ladder=ladder_format(stream)[0] if renditions else None,
            reports=self._reports,
            about=stream.channel,
            tracks=[_track(track) for track in stream.tracks or ()],
            viewers=self._viewers(stream) if stream.channel.flag("isPublic") else None,
            rewind=round(reach),
            oldest=round(oldest * 1000) if oldest is not None else None,
        )

    async def idle(self, channel: Channel | None) -> Response:
        """Returns the status of a stream that is not live. An unknown channel (None) gets an answer of equal form.

        A channel without any output for viewers is answered like an unknown one.
        """
        if channel is None or not is_watchable(channel):
            return _answer(state=StreamState.IDLE, outputs=())
        poster = await self._posters.path(channel) if self._posters is not None else None
        return _answer(
            state=StreamState.IDLE, outputs=[*enabled_outputs(channel), *ALWAYS_ON], poster=poster, about=channel
        )

    def _renditions(self, stream: Stream) -> list[dict[str, Any]]:
        transcoder = stream.output(OUTPUT)
        plans = transcoder.rungs if isinstance(transcoder, LadderTranscoder) else ()
        names = [(plan.name, plan.bitrate + plan.audio) for plan in plans]
        names += [(track.name, track.info.bitrate) for track in stream.pushed_tracks.video]
        renditions: list[dict[str, Any]] = []
        for name, bitrate in names:
            rendition = self._hub.find(f"{stream.name}@{name}")
            if rendition is not None and rendition.state is StreamState.LIVE:
                renditions.append({"name": name, "bitrate": bitrate, "outputs": _enabled(rendition)})
        return renditions


def _enabled(stream: Stream) -> list[str]:
    return [output for output in OPTIONAL_OUTPUTS.values() if stream.has_output(output)]


def _track(track: MediaTrack) -> dict[str, str | None]:
    """Returns kind and codecs parameter (RFC 6381) of a track. codec: None if the configuration is invalid."""
    try:
        codec: str | None = codec_string(track)
    except InvalidData:
        codec = None
    return {"kind": str(track.kind), "codec": codec}


def _answer(
    *,
    state: StreamState,
    outputs: Sequence[str],
    ready: Sequence[str] = (),
    renditions: Sequence[dict[str, Any]] = (),
    ladder: str | None = None,
    poster: str | None = None,
    reports: bool = False,
    about: Channel | None = None,
    tracks: Sequence[dict[str, str | None]] = (),
    viewers: int | None = None,
    rewind: int = 0,
    oldest: int | None = None,
) -> Response:
    body = {
        "name": about.name if about is not None else None,
        "description": about.text("description") if about is not None else "",
        "live": state is not StreamState.IDLE,
        "outputs": list(outputs),
        "ready": list(ready),
        "state": state,
        "renditions": list(renditions),
        "ladder": ladder,
        "poster": poster,
        "reports": reports,
        "tracks": list(tracks),
        "viewers": viewers,
        "rewind": rewind,
        "oldest": oldest,
        "now": round(time.time() * 1000),
    }
    return Response(200, json.dumps(body).encode(), JSON)
