"""Makes `status.json` of a stream, so that pages never request media that does not exist."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from gateway.channels.channel import Channel
from gateway.http.response import JSON, Response
from gateway.live.stream import Stream, StreamState
from gateway.playback.formats import SWITCHED, offered
from gateway.playback.ladder_view import OUTPUT, LadderStreams, LadderTranscoder, form_of
from gateway.playback.posters import Posters


class StatusResponder:
    """Makes the answers; the caller has checked that the viewer may have them.

    ready(stream, output): whether an enabled output answers now. posters: set if stored pictures may be shown.
    """

    def __init__(self, hub: LadderStreams, ready: Callable[[Stream, str], bool], posters: Posters | None) -> None:
        self._hub = hub
        self._ready = ready
        self._posters = posters

    def live(self, stream: Stream) -> Response:
        """Returns the outputs, those that answer now, and the existing renditions, the smallest first."""
        if self._posters is not None:
            self._posters.forget(stream.channel.id)
        outputs = _enabled(stream)
        renditions = self._renditions(stream)
        form = form_of(stream)[0] if renditions else None
        return _answer(
            state=stream.state,
            outputs=outputs,
            ready=[o for o in outputs if self._ready(stream, o)],
            renditions=renditions,
            ladder=form,
            poster=None,
        )

    async def idle(self, channel: Channel | None) -> Response:
        """Returns the status of a stream that is not live. None: of an unknown channel, which looks like any other."""
        poster = None
        if channel is not None and self._posters is not None:
            key = await self._posters.latest(channel.id)
            poster = "vod/" + quote(key.removeprefix(f"{channel.id}/")) if key is not None else None
        return _answer(
            state=StreamState.IDLE,
            outputs=offered(channel) if channel is not None else [],
            ready=[],
            renditions=[],
            ladder=None,
            poster=poster,
        )

    def _renditions(self, stream: Stream) -> list[dict[str, Any]]:
        transcoder = stream.outputs.get(OUTPUT) if stream.outputs is not None else None
        if not isinstance(transcoder, LadderTranscoder):
            return []
        found: list[dict[str, Any]] = []
        for rung in transcoder.rungs:
            rendition = self._hub.find(f"{stream.name}@{rung.name}")
            if rendition is not None and rendition.state is StreamState.LIVE:
                bitrate = rung.bitrate + rung.audio
                found.append({"name": rung.name, "bitrate": bitrate, "outputs": _enabled(rendition)})
        return found


def _enabled(stream: Stream) -> list[str]:
    outputs = stream.outputs
    return [o for o in SWITCHED.values() if outputs is not None and outputs.enabled(o)]


def _answer(
    *,
    state: StreamState,
    outputs: Sequence[str],
    ready: Sequence[str],
    renditions: Sequence[dict[str, Any]],
    ladder: str | None,
    poster: str | None,
) -> Response:
    body = {
        "live": state is not StreamState.IDLE,
        "outputs": list(outputs),
        "ready": list(ready),
        "state": state,
        "renditions": list(renditions),
        "ladder": ladder,
        "poster": poster,
        "now": round(time.time() * 1000),
    }
    return Response(200, json.dumps(body).encode(), JSON)
