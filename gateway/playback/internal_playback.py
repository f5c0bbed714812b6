"""Serves a stream's files to other nodes, without access control and without counting viewers."""

import inspect
import json
from dataclasses import dataclass
from typing import Final

from gateway.channels.media_owners import MediaOwners
from gateway.channels.names import channel_of, is_channel_id
from gateway.channels.stores import ChannelReader, find_channel
from gateway.http.request import Request
from gateway.http.response import JSON, Answer, Response, service_unavailable, text
from gateway.live.stream import Stream
from gateway.playback.http_viewers import MEDIA
from gateway.playback.media_routes import MediaRoutes
from gateway.playback.play_format import AnswerOrAwaitable
from gateway.playback.playable_streams import PlayableStreams
from gateway.playback.playlist_response import not_enabled, not_streaming
from gateway.playback.router import StoredResponder
from gateway.playback.status import StatusResponder
from gateway.ports.errors import StoreUnavailable

# Only for edges: the last session, and the key of the latest snapshot, while nobody pushes.
REPLAY: Final = "replay.json"
SNAPSHOT_KEY: Final = "snapshot.json"
BIT_RATE: Final = "X-Millrace-Bitrate"  # header of playlists and manifests: bits per second of the stream
_NO_FILE = text(404, "not found")


@dataclass(slots=True, eq=False)
class InternalPlayback:
    """Answers (request, stream name, path) for the node listener. routes: routes whose responders count no viewers."""

    streams: PlayableStreams
    channels: ChannelReader
    owners: MediaOwners
    routes: MediaRoutes
    statuses: StatusResponder
    recordings: StoredResponder | None

    def __call__(self, request: Request, name: str, path: str) -> AnswerOrAwaitable:
        if request.method not in ("GET", "HEAD"):
            return _NO_FILE
        if path.startswith("vod/"):
            return self._stored_file(request, name, path[4:])
        if path == "status.json":
            return self._status(name)
        if path == REPLAY:
            return self._replay(name)
        if path == SNAPSHOT_KEY:
            return self._snapshot_key(name)
        route = self.routes.find(path)
        if route is None:
            return _NO_FILE
        stream = self.streams.find_recent(name)
        if stream is None:
            return not_streaming(name)
        if not route.is_on(stream):
            return not_enabled(route.output, name)
        answering = route.respond(request, stream, path)
        return answering if path.endswith(MEDIA) else _with_bit_rate(answering, stream)

    async def _stored_file(self, request: Request, name: str, path: str) -> Answer:
        if self.recordings is None or not is_channel_id(name):
            return _NO_FILE
        try:
            owner = await self.owners.find(name)
        except StoreUnavailable as error:
            return service_unavailable(str(error), error.retry_after)
        if owner is None or owner.deletes_media:
            return _NO_FILE
        return await self.recordings(request, name, path)

    def _status(self, name: str) -> AnswerOrAwaitable:
        stream = self.streams.find_recent(name)
        if stream is not None and stream.playable:
            return self.statuses.live(stream)
        return self._idle_status(name)

    async def _idle_status(self, name: str) -> Answer:
        try:
            channel = await find_channel(self.channels, channel_of(name))
        except StoreUnavailable as error:
            return service_unavailable(str(error), error.retry_after)
        return await self.statuses.idle(channel)

    async def _replay(self, name: str) -> Answer:
        """Answers an edge with the last session of a channel; with 404 if there is none: it then asks others."""
        try:
            channel = await find_channel(self.channels, name)
        except StoreUnavailable as error:
            return service_unavailable(str(error), error.retry_after)
        replays = self.statuses.replays
        replay = await replays.of(channel) if channel is not None and replays is not None else None
        return _NO_FILE if replay is None else Response(200, json.dumps(replay).encode(), JSON)

    async def _snapshot_key(self, name: str) -> Answer:
        """Answers an edge with `{"key"}` of the latest stored snapshot of a channel; with 404 if there is none."""
        posters = self.statuses.posters
        key = await posters.latest(name) if posters is not None and is_channel_id(name) else None
        return _NO_FILE if key is None else Response(200, json.dumps({"key": key}).encode(), JSON)


async def _with_bit_rate(answering: AnswerOrAwaitable, stream: Stream) -> Answer:
    """Returns the answer with the bit rate, from which the other node reckons its viewers' bandwidth."""
    answer = await answering if inspect.isawaitable(answering) else answering
    if isinstance(answer, Response) and answer.status == 200:
        headers = {**answer.headers, BIT_RATE: str(stream.bitrate)}
        return Response(200, answer.body, answer.content_type, cache=answer.cache, headers=headers)
    return answer
