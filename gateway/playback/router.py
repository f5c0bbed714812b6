"""Maps the paths of the playback listener: a stream's protected media, player pages, health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self, TypeAlias

from gateway.channels.channel import Channel
from gateway.channels.media_owners import MediaOwners
from gateway.channels.names import channel_of, is_channel_id, is_stream_name
from gateway.channels.stores import ChannelReader
from gateway.http.request import Request
from gateway.http.response import Answer, Response, service_unavailable, text
from gateway.live.stream import Stream
from gateway.playback.flv import FORMAT as FLV
from gateway.playback.flv import LIVE_FLV, FlvViewers
from gateway.playback.formats import FORMATS, LADDER_INDEX
from gateway.playback.health import Health
from gateway.playback.http_viewers import HttpViewers
from gateway.playback.ladder_view import OUTPUT as LADDER_OUTPUT
from gateway.playback.pages import Pages
from gateway.playback.play_format import AnswerOrAwaitable, PlayFormat, Responder
from gateway.playback.posters import Posters
from gateway.playback.protection import PlaybackProtection
from gateway.playback.recording_files import NO_RECORDING
from gateway.playback.status import StatusResponder
from gateway.ports.errors import AtCapacity, NoSuchChannel, NoSuchStream, StoreUnavailable

# For paths that belong to no stream: respond(request, the path below the folder).
FolderResponder: TypeAlias = Callable[[Request, str], AnswerOrAwaitable]
# For stored media of a channel, live or not: respond(request, channel id, the path below `vod/`).
StoredResponder: TypeAlias = Callable[[Request, str, str], Awaitable[Answer]]

_NO_PAGE: Final = text(404, "not found")
_NOT_POSTED: Final = text(405, "this method is not served here", headers={"Allow": "GET, HEAD, OPTIONS"})


class PlayableStreams(Protocol):
    """The streams that viewers can see: those of the hub, or also those of other nodes."""

    def find(self, name: str) -> Stream | None:
        """Returns a stream that can be played now, at least by FLV and RTMP."""

    def find_recent(self, name: str) -> Stream | None:
        """Returns a stream that this node holds, with all its outputs; also one that has just ended."""

    async def wait(self, name: str, seconds: float) -> Stream:
        """Waits until the stream can be played. Raises NoSuchStream, AtCapacity."""


class RemoteFiles(Protocol):
    """The files of streams that other nodes hold."""

    def file(
        self, request: Request, name: str, rest: str, absent: Callable[[], Coroutine[Any, Any, Answer]]
    ) -> AnswerOrAwaitable:
        """Returns the holder's answer to `/<name>/<rest>`, if the viewer may have it.

        absent: makes the answer if no node holds the stream.
        """


class LadderResponders(Protocol):
    """The responders of formats, of a ladder's index and of its rungs. None: the format does not answer with files."""

    def responder(self, format: PlayFormat) -> Responder | None: ...

    def index(self, request: Request, stream: Stream, rest: str) -> AnswerOrAwaitable: ...

    def rung(self, request: Request, stream: Stream, rest: str) -> AnswerOrAwaitable: ...


@dataclass(frozen=True, slots=True)
class MediaRoute:
    """The files of one output.

    output: must be enabled; "": no output is required.
    protocol: under which players are counted; "": they are not counted.
    """

    output: str
    respond: Responder
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class MediaRoutes:
    """Maps paths below `/<id>/` to outputs: by whole path, then by first folder, then by a file's suffix.

    other_folders: for all other folders, which are the rungs of ladders.
    """

    names: Mapping[str, MediaRoute]
    folders: Mapping[str, MediaRoute]
    suffixes: Mapping[str, MediaRoute]
    other_folders: MediaRoute | None = None

    @classmethod
    def of(cls, ladders: LadderResponders, snapshot: Responder) -> Self:
        """Returns the paths of all formats, a ladder with a folder for each rung, and the snapshot."""
        names = {
            LADDER_INDEX: MediaRoute(LADDER_OUTPUT, ladders.index),
            "snapshot.jpg": MediaRoute("", snapshot),
        }
        folders: dict[str, MediaRoute] = {}
        suffixes: dict[str, MediaRoute] = {}
        for format in FORMATS:
            respond = ladders.responder(format)
            if respond is not None:
                route = MediaRoute(format.output, respond, format.output)
                names |= {address.path: route for address in format.addresses}
                folders |= dict.fromkeys(format.folders, route)
                suffixes |= dict.fromkeys(() if format.folders else format.media, route)
        return cls(names, folders, suffixes, MediaRoute(LADDER_OUTPUT, ladders.rung))

    def find(self, path: str) -> MediaRoute | None:
        media = self.names.get(path)
        if media is not None:
            return media
        folder, slash, _ = path.partition("/")
        if slash:
            return self.folders.get(folder, self.other_folders)
        return self.suffixes.get(path.rpartition(".")[2])


@dataclass(frozen=True, slots=True)
class PlaybackAccess:
    """Decides who may play what.

    channels: what is stored, for streams that are not live. owners: whose protection holds for recordings; None: that
    of the channels that exist.
    """

    channels: ChannelReader
    protection: PlaybackProtection
    owners: MediaOwners | None = None


@dataclass(frozen=True, slots=True)
class LivePlayback:
    """Answers for live streams.

    wait_for_publisher: seconds that FLV viewers wait for one. ready(stream, output): whether an enabled output answers
    right now; it may start one that waits for demand. elsewhere: the other nodes' files; None: no stream is shared.
    """

    streams: PlayableStreams
    routes: MediaRoutes
    flv: FlvViewers
    viewers: HttpViewers
    wait_for_publisher: float
    ready: Callable[[Stream, str], bool] = lambda stream, output: True
    elsewhere: RemoteFiles | None = None


@dataclass(frozen=True, slots=True)
class StoredPlayback:
    """Answers below `/<id>/vod/`, where something is recorded. posters: the pictures among that."""

    recordings: StoredResponder | None = None
    posters: Posters | None = None


class PlaybackRouter:
    """The handler of the playback listener. Hot paths answer without a task.

    folders: answer below `/<folder>/`, such as `_node`. They come before channels of that name, and judge themselves
    which methods they serve.
    """

    def __init__(
        self,
        access: PlaybackAccess,
        live: LivePlayback,
        pages: Pages,
        health: Health,
        stored: StoredPlayback | None = None,
        folders: Mapping[str, FolderResponder] | None = None,
    ) -> None:
        stored = stored or StoredPlayback()
        self._hub = live.streams
        self._channels = access.channels
        self._owners = access.owners or MediaOwners(access.channels)
        self._protection = access.protection
        self._media = live.routes
        self._flv = live.flv
        self._audience = live.viewers
        self._pages = pages
        self._wait = live.wait_for_publisher
        self.statuses = StatusResponder(live.streams, live.ready, stored.posters)
        self._recordings = stored.recordings
        self._elsewhere = live.elsewhere
        self._folders: dict[str, FolderResponder] = {"_player": pages.asset, **(folders or {})}
        self._fixed: dict[str, Callable[[Request], AnswerOrAwaitable]] = {
            "/": pages.front,
            "/broadcast.html": pages.broadcaster,
            "/broadcast.json": pages.push_ports,
            "/healthcheck": health.alive,
            "/ready": health.ready,
            "/time": health.time,
        }

    def add_folder(self, name: str, respond: FolderResponder) -> None:
        """Adds a folder, for a responder that needs this PlaybackRouter itself."""
        self._folders[name] = respond

    def __call__(self, request: Request) -> AnswerOrAwaitable:
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
        if rest == LIVE_FLV:
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

    def _media_file(self, request: Request, name: str, rest: str, media: MediaRoute) -> AnswerOrAwaitable:
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

    def _held_elsewhere(self, request: Request, name: str, rest: str) -> AnswerOrAwaitable:
        if self._elsewhere is None:
            return self._not_live(request, name)
        return self._elsewhere.file(request, name, rest, lambda: self._not_live(request, name))

    async def _not_live(self, request: Request, name: str) -> Answer:
        """Answers for a stream that is not live.

        Returns the refusal if the viewer has no permission, otherwise one 404 for all cases.
        """
        channel = await self._permitted(request, name)
        return channel if isinstance(channel, Response) else not_streaming(name)

    # ---- recordings ----

    async def _recorded(self, request: Request, name: str, rest: str, respond: StoredResponder) -> Answer:
        if not is_channel_id(name):
            return _NO_PAGE
        try:
            owner = await self._owners.find(name)
        except StoreUnavailable as away:
            return _away(away)
        refusal = self._protection.judge(request, name, owner.channel if owner is not None else None)
        if refusal is not None:
            return refusal
        if owner is None or owner.without_media:
            return NO_RECORDING
        return await respond(request, name, rest)

    # ---- FLV ----

    def _live_flv(self, request: Request, name: str) -> AnswerOrAwaitable:
        wrong = self._flv.refusal(request)
        if wrong is not None:
            return wrong
        stream = self._hub.find(name)
        if stream is None:
            return self._await_publisher(request, name) if request.method == "GET" else self._not_live(request, name)
        return self._watch(request, name, stream)

    def _watch(self, request: Request, name: str, stream: Stream, *, early: bool = False) -> Answer:
        refusal = self._protection.judge(request, name, stream.channel)
        if refusal is not None:
            return refusal
        if stream.outputs is None or not stream.outputs.enabled(FLV.output):
            return not_enabled(FLV.output, name)
        if request.method == "HEAD":
            return self._flv.head()
        return self._flv.watch(request, stream, early=early)

    async def _await_publisher(self, request: Request, name: str) -> Answer:
        """Answers a viewer that came before the publisher.

        An unknown channel is waited for too: it may be created meanwhile, and the response time must not show which
        exist.
        """
        channel = await self._permitted(request, name)
        if isinstance(channel, Response):
            return channel
        if channel is not None and not channel.flag(FLV.flag):
            return not_enabled(FLV.output, name)
        try:
            stream = await self._hub.wait(name, self._wait)
        except NoSuchStream:
            return not_streaming(name)
        except AtCapacity as error:
            return service_unavailable(str(error), 5)
        return self._watch(request, name, stream, early=True)  # its channel may have been changed or made meanwhile

    # ---- status ----

    def _status(self, request: Request, name: str) -> AnswerOrAwaitable:
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
        """Returns the stored channel of a stream that is not live (None: unknown), or the refusal of this request."""
        channel: Channel | None = None
        try:
            channel = await self._channels.get(channel_of(name))
        except NoSuchChannel:
            pass  # it is answered like a channel without its own settings
        except StoreUnavailable as away:
            return _away(away)
        return self._protection.judge(request, name, channel) or channel


def not_streaming(name: str) -> Response:
    return text(404, f"{name} is not streaming live now")


def not_enabled(output: str, name: str) -> Response:
    return text(404, f"{output} is not enabled for {name}")


def _away(away: StoreUnavailable) -> Response:
    return service_unavailable("the channels cannot be read now", away.retry_after)
