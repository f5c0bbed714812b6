"""Inner: a stream's files as other nodes get them: whatever players get, without protection and without counting."""

from __future__ import annotations

from gateway.hub.errors import NoSuchChannel, StoreAway
from gateway.hub.names import channel_of, is_channel_id
from gateway.hub.ports import ChannelReader
from gateway.servers.playback import Answering, Routes, StoredResponder, Streams, not_enabled, not_streaming
from gateway.servers.request import Request
from gateway.servers.response import Answer, text, try_later
from gateway.servers.status import Statuses

_NO_FILE = text(404, "not found")


class Inner:
    """`files(request, stream, path)` for the node door. routes: whose responders count nobody."""

    def __init__(
        self,
        streams: Streams,
        channels: ChannelReader,
        routes: Routes,
        statuses: Statuses,
        recordings: StoredResponder | None,
    ) -> None:
        self._streams = streams
        self._channels = channels
        self._routes = routes
        self._statuses = statuses
        self._recordings = recordings

    def __call__(self, request: Request, name: str, path: str) -> Answering:
        if request.method not in ("GET", "HEAD"):
            return _NO_FILE
        if path.startswith("vod/"):
            return self._recorded(request, name, path[4:])
        if path == "status.json":
            return self._status(name)
        media = self._routes.find(path)
        if media is None:
            return _NO_FILE
        stream = self._streams.find_recent(name)
        if stream is None:
            return not_streaming(name)
        if media.output and (stream.outputs is None or not stream.outputs.enabled(media.output)):
            return not_enabled(media.output, name)
        return media.respond(request, stream, path)

    async def _recorded(self, request: Request, name: str, path: str) -> Answer:
        if self._recordings is None or not is_channel_id(name):
            return _NO_FILE
        return await self._recordings(request, name, path)

    def _status(self, name: str) -> Answering:
        stream = self._streams.find_recent(name)
        if stream is not None and stream.playable:
            return self._statuses.live(stream)
        return self._idle(name)

    async def _idle(self, name: str) -> Answer:
        try:
            channel = await self._channels.get(channel_of(name))
        except NoSuchChannel:
            channel = None
        except StoreAway as away:
            return try_later(str(away), away.retry_after)
        return await self._statuses.idle(channel)
