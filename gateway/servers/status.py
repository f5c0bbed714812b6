"""Status: what `status.json` says of a stream, so that pages never ask for media that is not there."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import quote

from gateway.hub.channel import Channel
from gateway.hub.stream import Stream, StreamState
from gateway.servers.posters import Posters
from gateway.servers.response import JSON, Response
from gateway.servers.rungs import CMAF, OUTPUT, TS, Streams, Transcoder, form_of

_SHOWN: Final = ("flv", "hls", "cmaf")  # the outputs that the pages play


class Statuses:
    """Makes the answers; who asks was let in already.

    ready(stream, output): whether an enabled output answers right now. posters: where stored pictures may be shown.
    """

    def __init__(self, hub: Streams, ready: Callable[[Stream, str], bool], posters: Posters | None) -> None:
        self._hub = hub
        self._ready = ready
        self._posters = posters

    def live(self, stream: Stream) -> Response:
        """What is offered, what of that answers now, and the renditions there are, the smallest first."""
        if self._posters is not None:
            self._posters.forget(stream.channel.id)
        outputs = _enabled(stream)
        renditions = self._renditions(stream)
        form = {TS: "hls", CMAF: "cmaf"}[form_of(stream)] if renditions else None
        return _answer(
            live=True,
            outputs=outputs,
            ready=[o for o in outputs if self._ready(stream, o)],
            renditions=renditions,
            ladder=form,
            poster=None,
        )

    async def idle(self, channel: Channel | None) -> Response:
        """Of a stream that is not live; None: of a channel that does not exist, which looks like any other."""
        poster = None
        if channel is not None and self._posters is not None:
            key = await self._posters.latest(channel.id)
            poster = "vod/" + quote(key.removeprefix(f"{channel.id}/")) if key is not None else None
        return _answer(
            live=False,
            outputs=offered(channel) if channel is not None else [],
            ready=[],
            renditions=[],
            ladder=None,
            poster=poster,
        )

    def _renditions(self, stream: Stream) -> list[dict[str, Any]]:
        transcoder = stream.outputs.get(OUTPUT) if stream.outputs is not None else None
        if not isinstance(transcoder, Transcoder):
            return []
        found: list[dict[str, Any]] = []
        for rung in transcoder.rungs:
            rendition = self._hub.find(f"{stream.name}@{rung.name}")
            if rendition is not None and rendition.state is StreamState.LIVE:
                bitrate = rung.bitrate + rung.audio
                found.append({"name": rung.name, "bitrate": bitrate, "outputs": _enabled(rendition)})
        return found


def offered(channel: Channel) -> list[str]:
    """The outputs that a channel's fields turn on, as `status.json` names them."""
    on = {"flv": channel.is_flv, "hls": channel.is_hls, "cmaf": channel.is_cmaf}
    return [name for name in _SHOWN if on[name]]


def _enabled(stream: Stream) -> list[str]:
    outputs = stream.outputs
    return [o for o in _SHOWN if outputs is not None and outputs.enabled(o)]


def _answer(
    *,
    live: bool,
    outputs: Sequence[str],
    ready: Sequence[str],
    renditions: Sequence[dict[str, Any]],
    ladder: str | None,
    poster: str | None,
) -> Response:
    body = {
        "live": live,
        "outputs": list(outputs),
        "ready": list(ready),
        "renditions": list(renditions),
        "ladder": ladder,
        "poster": poster,
        "now": round(time.time() * 1000),
    }
    return Response(200, json.dumps(body).encode(), JSON)
