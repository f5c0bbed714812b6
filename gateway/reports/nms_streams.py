"""The live streams as node-media-server lists them."""

import time
from collections.abc import Iterator
from typing import Any

from gateway.channels.addresses import APP
from gateway.lib.rfc3339 import rfc3339
from gateway.live.hub import Hub
from gateway.live.stream import Stream
from gateway.media.codecs import describe
from gateway.media.track import MediaTrack


def entries(hub: Hub) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the streams of this node, by channel id."""
    for stream in hub:
        if stream.playable and stream.is_source:
            yield stream.name, {"publisher": _publisher(stream), "subscribers": []}


def _publisher(stream: Stream) -> dict[str, Any] | None:
    publisher, tracks = stream.publisher, stream.tracks
    if publisher is None or tracks is None:
        return None
    push = publisher.on_air
    return {
        "app": APP,
        "stream": stream.name,
        "clientId": push.peer,
        "connectCreated": rfc3339(time.time() - (time.monotonic() - push.since)),
        "bytes": stream.received.bytes,
        "ip": push.peer,
        "audio": _audio(tracks.audio),
        "video": _video(tracks.video),
    }


def _audio(track: MediaTrack | None) -> dict[str, Any] | None:
    if track is None:
        return None
    reported = describe(track)
    rates = {"samplerate": reported["sampleRate"] or 0, "channels": reported["channels"] or 0}
    return {"codec": str(track.codec).upper(), "profile": reported["profile"] or "", **rates}


def _video(track: MediaTrack | None) -> dict[str, Any] | None:
    if track is None:
        return None
    reported = describe(track)
    size = {"width": reported["width"] or 0, "height": reported["height"] or 0}
    about = {"profile": reported["profile"] or "", "level": 0, "fps": reported["frameRate"] or 0}
    return {"codec": str(track.codec).upper(), **size, **about}
