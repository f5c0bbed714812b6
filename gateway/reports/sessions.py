"""Sessions: the live streams of channels, with publisher, viewers, tracks, outputs and health."""

import heapq
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from pydantic.alias_generators import to_camel

from gateway.channels.inputs import stored_inputs
from gateway.lib.rfc3339 import rfc3339
from gateway.live.health_report import Measurements
from gateway.live.hub import Hub
from gateway.live.network_quality import NetworkQuality
from gateway.live.pushed_tracks import PushedTrack, labels
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.live.stream import ActivePublisher, Stream, StreamState
from gateway.media.codecs import describe
from gateway.media.track import Kind
from gateway.packaging.rtp.output import KIND, RtpOutput
from gateway.playback.formats import ADDRESSES
from gateway.protocols.srt.statistics import LinkStatistics

# Sessions always list these protocols, also with 0 viewers.
PROTOCOLS: Final = tuple(address.name for address in ADDRESSES)
MAX_VIEWERS: Final = 50  # maximum number of WebRTC viewers in the answer of a session


def session(id: str, stream: Stream | None, remote_viewers: Mapping[str, int] | None = None) -> dict[str, Any]:
    """Returns a session as the API shows it.

    since: start of the stream, RFC 3339. bitrate: bits per second. remote_viewers: on other nodes, by protocol.
    """
    shown: dict[str, Any] = {"id": id, "state": str(StreamState.IDLE), "paused": False, "since": None, "bitrate": 0}
    shown |= {
        "publisher": None,
        "input": None,
        "inputKind": None,
        "fallback": False,
        "viewers": dict.fromkeys(PROTOCOLS, 0),
    }
    shown |= {"tracks": [], "outputs": [], "health": [], "measured": asdict(Measurements())}
    if stream is None:
        return shown
    shown["state"] = str(stream.state)
    shown["paused"] = stream.is_paused
    shown["since"] = rfc3339(stream.spec.started)
    if stream.state is StreamState.LIVE:
        shown["bitrate"] = stream.received.bitrate
    if stream.publisher is not None:
        shown["publisher"] = _publisher(stream.publisher)
        if isinstance(network := stream.publisher.network(), LinkStatistics):
            shown["link"] = asdict(network, dict_factory=_camel)
    shown["input"], shown["inputKind"] = stream.input.name, str(stream.input.kind)
    shown["fallback"] = stream.input.name != stored_inputs(stream.channel.item)[0].name
    shown["viewers"] = _viewers(stream, remote_viewers or {})
    shown["tracks"] = _tracks(stream)
    if stream.outputs is not None:
        shown["outputs"] = stream.outputs.status()
    if stream.health is not None:
        shown["health"] = [asdict(finding) for finding in stream.health.findings]
        shown["measured"] = asdict(stream.health.measured())
    return shown


def _publisher(publisher: ActivePublisher) -> dict[str, Any]:
    push = publisher.on_air
    shown = {
        "protocol": push.protocol,
        "address": push.peer,
        "seconds": round(time.monotonic() - push.since, 1),
        "dropped": dict(push.dropped),
    }
    network = publisher.network()
    return {**shown, "webrtc": asdict(network)} if isinstance(network, NetworkQuality) else shown


def session_with_viewers(id: str, stream: Stream | None, remote_viewers: Mapping[str, int]) -> dict[str, Any]:
    """Returns a session that was requested by its id. It has the connections of WebRTC viewers."""
    return {**session(id, stream, remote_viewers), "webrtcViewers": worst_viewers(stream)}


def _camel(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes the JSON of a dataclass, see `asdict`: the names in camel case."""
    return {to_camel(name): value for name, value in fields}


def worst_viewers(stream: Stream | None) -> list[dict[str, Any]]:
    """Returns the WHEP viewers of this process with the worst connections, the worst first, at most MAX_VIEWERS."""
    output = stream.output(KIND) if stream is not None else None
    if not isinstance(output, RtpOutput):
        return []
    found = ((viewer, viewer.network) for viewer in output.connections)
    worst = heapq.nlargest(MAX_VIEWERS, found, key=lambda one: (one[1].lost, one[1].roundTrip or 0.0))
    return [{"address": v.address, "transport": v.transport, **asdict(network)} for v, network in worst]


def _tracks(stream: Stream) -> list[dict[str, Any]]:
    """Returns the tracks: the default ones, then additional ones of the publisher, which have a rendition."""
    pushed = stream.pushed_tracks
    default, name = pushed.default, labels(pushed.default, [])[0] if pushed.audio else ""
    found: list[dict[str, Any]] = []
    for track in stream.tracks or ():
        language, label = (default.language, name) if track.kind is Kind.AUDIO else ("", "")
        found.append({**describe(track), "id": 0, "language": language, "name": label, "rendition": ""})
    for additional in pushed.video:
        found.append(_additional(additional, additional.info.label or additional.name))
        if additional.size is not None:
            found[-1]["width"], found[-1]["height"] = additional.size
    names = labels(default, pushed.audio)[1:]
    return found + [_additional(additional, name) for additional, name in zip(pushed.audio, names, strict=True)]


def _additional(track: PushedTrack, name: str) -> dict[str, Any]:
    about = {"id": track.id, "language": track.info.language, "name": name, "rendition": track.name}
    return {**describe(track.track), **about}


def _viewers(stream: Stream, remote_viewers: Mapping[str, int]) -> dict[str, int]:
    viewers = {**dict.fromkeys(PROTOCOLS, 0), **stream.viewers}
    for protocol, count in remote_viewers.items():
        viewers[protocol] = viewers.get(protocol, 0) + count
    return viewers


def sessions(hub: Hub, remote_viewers: RemoteViewerCounts) -> Iterator[dict[str, Any]]:
    """Yields the sessions of all channels that are live or lingering here. Renditions have no session of their own."""
    for stream in hub:
        if stream.playable and stream.is_source:
            yield {**session(stream.name, stream, remote_viewers.of(stream.name)), "videoname": stream.channel.name}
