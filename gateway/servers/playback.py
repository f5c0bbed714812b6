"""Playback: which path is what: a stream's media under its protection, player pages, health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from gateway.hub.channel import Channel
from gateway.hub.errors import AtCapacity, NoSuchChannel, NoSuchStream, StoreAway
from gateway.hub.names import channel_of, is_channel_id, is_stream_name
from gateway.hub.ports import ChannelReader
from gateway.hub.stream import Stream
from gateway.servers.audience import Audience
from gateway.servers.flv import FlvViewers
from gateway.servers.health import Health
from gateway.servers.pages import Pages
from gateway.servers.posters import Posters
from gateway.servers.protection import Protection
from gateway.servers.request import Request
from gateway.servers.response import Answer, Response, text, try_later
from gateway.servers.status import Statuses

Answering: TypeAlias = "Answer | Coroutine[Any, Any, Answer]"
# respond(request, stream, the path below the stream): a stream that is live, or ended less than a minute ago, whose
# output is enabled; who asks may have it.
Responder: TypeAlias = Callable[[Request, Stream, str], Answering]
# The same for what does not belong to a stream: respond(request, the path below the folder).
FolderResponder: TypeAlias = Callable[[Request, str], Answering]
# The same for what is stored of a channel, live or not: respond(request, channel id, the path below `vod/`).
StoredResponder: TypeAlias = Callable[[Request, str, str], Awaitable[Answer]]

_NO_PAGE: Final = text(404, "not found")
_NOT_POSTED: Final = text(405, "this method is not served here", headers={"Allow": "GET, HEAD, OPTIONS"})


class Streams(Protocol):
    """The streams, as far as viewers see them: the hub's, or also those of other nodes."""

    def find(self, name: str) -> Stream | None:
        """One that can be played now, by FLV and RTMP at least."""

    def find_recent(self, name: str) -> Stream | None:
        """One that this node holds, also one that ended a moment ago: with all its outputs."""

    async def wait(self, name: str, seconds: float) -> Stream:
        """As soon as it can be played. Raises NoSuchStream, AtCapacity."""


class Elsewhere(Protocol):
    """What other nodes hold."""

    def file(
        self, request: Request, name: str, rest: str, absent: Callable[[], Coroutine[Any, Any, Answer]]
    ) -> Answering:
        """The holder's answer to `/<name>/<rest>`, for those who may have it; `absent()` where nobody holds it."""


@dataclass(frozen=True, slots=True)
class Media:
    """One output's files: `output` must be enabled ("": whatever is); players are counted as `protocol`, "" for not
    at all."""

    output: str
    respond: Responder
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class Routes:
    """Which output answers what below `/<id>/`: by whole path, then by first folder, then by the suffix of a file.

    other_folders: whatever else lies in a folder (rungs, whose names are the ladder's to choose).
    """

    names: Mapping[str, Media]
    folders: Mapping[str, Media]
    suffixes: Mapping[str, Media]
    other_folders: Media | None = None

    @classmethod
    def of(cls, hls: Responder, cmaf: Responder, index: Responder, rung: Responder, snapshot: Responder) -> Routes:
        """The paths of the contract for HLS with MPEG-TS, for CMAF, for a ladder with a folder for each rung, and for
        the picture."""
        ts, fragments, ladder = Media("hls", hls, "hls"), Media("cmaf", cmaf, "cmaf"), Media("codec", index)
        names = {"live.m3u8": ts, "master.m3u8": fragments, "manifest.mpd": fragments, "index.m3u8": ladder}
        names["snapshot.jpg"] = Media("", snapshot)
        return cls(names, {"video": fragments, "audio": fragments}, {"ts": ts}, Media("codec", rung))

    def find(self, path: str) -> Media | None:
        media = self.names.get(path)
        if media is not None:
            return media
        folder, slash, _ = path.partition("/")
        if slash:
            return self.folders.get(folder, self.other_folders)
        return self.suffixes.get(path.rpartition(".")[2])


class Playback:
    """The handler of the playback listener. Hot paths answer without a task.

    channels: what is stored, for streams that are not live. wait_for_publisher: seconds that FLV viewers wait for one.
    ready(stream, output): whether an enabled output answers right now; it may start one that waits for demand.
    recordings: what answers below `/<id>/vod/`, where something is recorded. posters: the pictures among that.
    folders: what answers below `/<folder>/` besides, such as `_node`; they come before channels of that name, and judge
    themselves which methods they serve. elsewhere: None for a node that shares its streams with no other.
    """

    def __init__(
        self,
        *,
        hub: Streams,
        channels: ChannelReader,
        protection: Protection,
        routes: Routes,
        flv: FlvViewers,
        audience: Audience,
        pages: Pages,
        health: Health,
        wait_for_publisher: float,
        ready: Callable[[Stream, str], bool] = lambda stream, output: True,
        recordings: StoredResponder | None = None,
        posters: Posters | None = None,
        folders: Mapping[str, FolderResponder] | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._hub = hub
        self._channels = channels
        self._protection = protection
        self._media = routes
        self._flv = flv
        self._audience = audience
        self._pages = pages
        self._wait = wait_for_publisher
        self.statuses = Statuses(hub, ready, posters)
        self._recordings = recordings
        self._elsewhere = elsewhere
        self._folders: dict[str, FolderResponder] = {"_player": pages.asset, **(folders or {})}
        self._fixed: dict[str, Callable[[Request], Answering]] = {
            "/": pages.front,
            "/broadcast.html": pages.broadcaster,
            "/broadcast.json": pages.push_ports,
            "/healthcheck": health.alive,
            "/ready": health.ready,
            "/time": health.time,
        }

    def add_folder(self, name: str, respond: FolderResponder) -> None:
        """As `folders`, for what needs this Playback itself."""
        self._folders[name] = respond

    def __call__(self, request: Request) -> Answering:
        path = request.path
        slash = path.find("/", 1)
        if slash < 0:
            answer = self._fixed.get(path) if request.method != "POST" else None
            return answer(request) if answer is not None else _NO_PAGE
        name, rest = path[1:slash], path[slash + 1 :]
        folder = self._folders.get(name)
        if folder is not None:
            return folder(request, rest)
        if request.method == "POST":
            return _NOT_POSTED
        if self._recordings is not None and rest.startswith("vod/"):
            return self._recorded(request, name, rest[4:], self._recordings)
        media = self._media.find(rest)
        if media is not None:
            return self._media_file(request, name, rest, media)
        if not is_stream_name(name):
            return _NO_PAGE
        if rest == "live.flv":
            return self._live_flv(request, name)
        if rest in self._pages.names:
            return self._pages.page(request, rest)
        if rest == "status.json":
            return self._status(request, name)
        if not rest:
            query = f"?{request.raw_query}" if request.raw_query else ""
            return text(302, "the player is at index.html", headers={"Location": f"index.html{query}"})
        return _NO_PAGE

    # ---- HLS and DASH ----

    def _media_file(self, request: Request, name: str, rest: str, media: Media) -> Answering:
        stream = self._hub.find_recent(name)
        if stream is None:
            return self._held_elsewhere(request, name, rest) if is_stream_name(name) else _NO_PAGE
        refusal = self._protection.judge(request, name, stream.channel)
        if refusal is not None:
            return refusal
        if media.output and (stream.outputs is None or not stream.outputs.enabled(media.output)):
            return not_enabled(media.output, name)
        if media.protocol and stream.ended is None:
            self._audience.saw(request, stream, media.protocol)
        return media.respond(request, stream, rest)

    def _held_elsewhere(self, request: Request, name: str, rest: str) -> Answering:
        if self._elsewhere is None:
            return self._not_live(request, name)
        return self._elsewhere.file(request, name, rest, lambda: self._not_live(request, name))

    async def _not_live(self, request: Request, name: str) -> Answer:
        """The answer for a stream that is not there: who may not know gets the refusal, everybody else the same 404."""
        channel = await self._permitted(request, name)
        return channel if isinstance(channel, Response) else not_streaming(name)

    # ---- recordings ----

    async def _recorded(self, request: Request, name: str, rest: str, respond: StoredResponder) -> Answer:
        if not is_channel_id(name):
            return _NO_PAGE
        channel = await self._permitted(request, name)
        if isinstance(channel, Response):
            return channel
        return await respond(request, name, rest)

    # ---- FLV ----

    def _live_flv(self, request: Request, name: str) -> Answering:
        wrong = self._flv.refusal(request)
        if wrong is not None:
            return wrong
        stream = self._hub.find(name)
        if stream is None:
            return self._await_publisher(request, name) if request.method == "GET" else self._not_live(request, name)
        return self._watch(request, name, stream)

    def _watch(self, request: Request, name: str, stream: Stream) -> Answer:
        refusal = self._protection.judge(request, name, stream.channel)
        if refusal is not None:
            return refusal
        if stream.outputs is None or not stream.outputs.enabled("flv"):
            return not_enabled("flv", name)
        if request.method == "HEAD":
            return self._flv.head()
        return self._flv.watch(request, stream)

    async def _await_publisher(self, request: Request, name: str) -> Answer:
        """A viewer that came first. A channel that does not exist is waited for as well: it may be made meanwhile, and
        nobody learns from the time an answer takes which channels exist."""
        channel = await self._permitted(request, name)
        if isinstance(channel, Response):
            return channel
        if channel is not None and not channel.is_flv:
            return not_enabled("flv", name)
        try:
            stream = await self._hub.wait(name, self._wait)
        except NoSuchStream:
            return not_streaming(name)
        except AtCapacity as error:
            return try_later(str(error), 5)
        return self._watch(request, name, stream)  # its channel may have been changed, or made, since

    # ---- status ----

    def _status(self, request: Request, name: str) -> Answering:
        stream = self._hub.find_recent(name)
        if stream is None or not stream.playable:
            if self._elsewhere is None:
                return self._idle_status(request, name)
            return self._elsewhere.file(request, name, "status.json", lambda: self._idle_status(request, name))
        refusal = self._protection.judge(request, name, stream.channel)
        if refusal is not None:
            return refusal
        return self.statuses.live(stream)

    async def _idle_status(self, request: Request, name: str) -> Answer:
        channel = await self._permitted(request, name)
        return channel if isinstance(channel, Response) else await self.statuses.idle(channel)

    async def _permitted(self, request: Request, name: str) -> Channel | Response | None:
        """The stored channel (None: there is none) of a stream that is not live, or the refusal of this request."""
        channel: Channel | None = None
        try:
            channel = await self._channels.get(channel_of(name))
        except NoSuchChannel:
            pass  # its answers are those of a channel without settings of its own
        except StoreAway as away:
            return _away(away)
        return self._protection.judge(request, name, channel) or channel


def not_streaming(name: str) -> Response:
    return text(404, f"{name} is not streaming live now")


def not_enabled(output: str, name: str) -> Response:
    return text(404, f"{output} is not enabled for {name}")


def _away(away: StoreAway) -> Response:
    return try_later("the channels cannot be read now", away.retry_after)
