"""Answers the requests of the playback listener by path: a stream's protected media, player pages, health."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from gateway.channels.channel import Channel
from gateway.channels.media_owners import MediaOwner, MediaOwners
from gateway.channels.names import PULL_HEADER, channel_of, is_channel_id, is_stream_name, pull_mark
from gateway.channels.slugs import RESERVED
from gateway.channels.stores import find_channel
from gateway.http.request import Request
from gateway.http.response import Answer, Response, Takeover, moved, not_allowed, preflight, service_unavailable, text
from gateway.lib.bounded_dict import BoundedDict
from gateway.listeners.port_listener import SessionResponder
from gateway.live.stream import Stream
from gateway.packaging.packager import Packager
from gateway.playback.caption_posts import PATH as CAPTIONS
from gateway.playback.flv import FlvViewers
from gateway.playback.formats import FLV, is_watchable
from gateway.playback.health import Health
from gateway.playback.http_play import answer_refused, http_play
from gateway.playback.http_viewers import MEDIA, HttpViewers
from gateway.playback.media_routes import SNAPSHOT, MediaRoute, MediaRoutes
from gateway.playback.obs_configuration import PATH as OBS_CONFIGURATION
from gateway.playback.pages import Pages, framed
from gateway.playback.play import PlayAdmission
from gateway.playback.play_format import LIVE_FLV, AnswerOrAwaitable
from gateway.playback.play_hook import refused
from gateway.playback.playable_streams import PlayableStreams
from gateway.playback.playlist_response import not_enabled, not_streaming
from gateway.playback.posters import Posters
from gateway.playback.recording_files import NO_RECORDING
from gateway.playback.reports import PATH as REPORT
from gateway.playback.reports import TAKEN, ViewerReports
from gateway.playback.show_files import CALENDAR, FEED, ShowFiles
from gateway.playback.show_files import REPORT as SHOW_REPORT
from gateway.playback.slugs import NamedChannel, Slugs
from gateway.playback.status import ReplayFinder, StatusResponder
from gateway.ports import media_keys
from gateway.ports.errors import AtCapacity, GatewayError, StoreUnavailable
from gateway.webrtc.signalling import FRAGMENT, SDP

# For paths that do not belong to a stream: respond(request, the path below the folder).
FolderResponder: TypeAlias = Callable[[Request, str], AnswerOrAwaitable]
# For stored media of a channel: respond(request, channel id, the path below `vod/`).
StoredResponder: TypeAlias = Callable[[Request, str, str], Awaitable[Answer]]

_NO_PAGE: Final = text(404, "not found")
# The neutral picture for a channel without a poster. It is the same for unknown channels.
_NO_POSTER: Final = text(302, "there is no picture", headers={"Location": "/_player/poster.svg"})
# Names that lead to no watch page: browsers and crawlers request the first two, the admin listener has the others.
_NOT_PAGES: Final = RESERVED | {"favicon.ico", "robots.txt", "getServers", "openapi.json", "processObject"}
_WATCH_SECONDS: Final = 1.0  # longest wait of a page for the store; afterwards the page shows no channel name
_LOOP: Final = text(508, "a channel cannot pull its own output")
_MAX_PLACES: Final = 4096  # remembered paths of playlists and media; others are only slower
# The methods that the router checks itself, because few paths serve them.
OTHER_METHODS: Final = frozenset(("DELETE", "OPTIONS", "PATCH", "POST", "PUT"))
_READ_METHODS: Final = ("GET", "HEAD", "OPTIONS")
_POST_METHODS: Final = ("OPTIONS", "POST")
_SESSION_METHODS: Final = ("DELETE", "OPTIONS", "PATCH", "POST")
_NOT_ALLOWED: Final = {m: not_allowed(", ".join(m)) for m in (_READ_METHODS, _POST_METHODS, _SESSION_METHODS)}
_PREFLIGHTS: Final = {m: preflight(", ".join(m)) for m in (_READ_METHODS, _POST_METHODS)} | {
    # RFC 9725 §4.2 and RFC 5789 §3.1
    _SESSION_METHODS: preflight(", ".join(_SESSION_METHODS), {"Accept-Post": SDP, "Accept-Patch": FRAGMENT})
}


class RemoteFiles(Protocol):
    """The files of streams on other nodes."""

    def file(
        self, request: Request, name: str, rest: str, absent: Callable[[], Coroutine[Any, Any, Answer]]
    ) -> AnswerOrAwaitable:
        """Returns the answer to `/<name>/<rest>` of the node that holds the stream, if the viewer has permission.

        absent: returns the answer if no node holds the stream.
        """

    async def is_held(self, name: str) -> bool:
        """Whether a node holds the stream. Raises StoreUnavailable, AtCapacity."""


# What a path stands for, if the answer is in the cache of its packager until that changes: the name in the path, the
# channel that had it as slug, the stream, the path below it, and the route.
_Place: TypeAlias = tuple[str, NamedChannel | None, str, str, MediaRoute]


@dataclass(frozen=True, slots=True)
class PlaybackAccess:
    """Decides which viewers may play a channel.

    plays: the services that decide, also about streams that are not live.
    owners: finds the channel whose protection applies to recordings; None: only existing channels have protection.
    slugs: finds channels by readable names; None: there are only ids.
    """

    plays: PlayAdmission
    owners: MediaOwners | None = None
    slugs: Slugs | None = None


@dataclass(frozen=True, slots=True)
class LivePlayback:
    """The services of the router for live streams.

    start_output(stream, output): see playlist_response.start_output.
    remote_files: the files of other nodes; None: there are no other nodes.
    reports: takes reports of viewers; None: viewers are not asked for reports.
    viewer_count(stream): the number of viewers on all nodes.
    rewind(stream): how far viewers may go back, see Rewind.status.
    """

    streams: PlayableStreams
    routes: MediaRoutes
    flv: FlvViewers
    viewers: HttpViewers
    start_output: Callable[[Stream, str], bool] = lambda stream, output: True
    remote_files: RemoteFiles | None = None
    reports: ViewerReports | None = None
    viewer_count: Callable[[Stream], int] = lambda stream: stream.viewers.total()
    rewind: Callable[[Stream], tuple[float, float | None]] = lambda stream: (0.0, None)


@dataclass(frozen=True, slots=True)
class PublisherRoutes:
    """The responders for pages and encoders of publishers.

    ports: answers `/broadcast.json`. servers: answers below `/_servers/`.
    obs: answers OBS with the configuration of Multitrack Video. captions: takes captions.
    """

    ports: Callable[[Request], AnswerOrAwaitable]
    servers: FolderResponder
    obs: SessionResponder
    captions: SessionResponder


@dataclass(frozen=True, slots=True)
class StoredPlayback:
    """The services of the router besides live streams.

    recordings: answers below `/<id>/vod/`. posters: finds stored pictures. public_channels: answers `/channels.json`.
    publishers: None if this node has nothing for publishers. replays: finds the sessions that watch pages play.
    shows: feed, calendar and reports of shows.
    """

    recordings: StoredResponder | None = None
    posters: Posters | None = None
    public_channels: Callable[[Request], AnswerOrAwaitable] | None = None
    publishers: PublisherRoutes | None = None
    replays: ReplayFinder | None = None
    shows: ShowFiles | None = None


class PlaybackRouter:
    """The handler of the playback listener. Hot paths answer without a task.

    folders: responders for `/<folder>/…`, for example `_node`. They have precedence over channels of that name.
    They decide themselves which methods they accept.

    exact_paths: the responders of whole paths. posts: those of POST requests, by the path below a stream's name.
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
        self._live = live
        self._plays = access.plays
        self._channels = access.plays.channels
        self._owners = access.owners or MediaOwners(self._channels)
        self._protection = access.plays.protection
        self._slugs = access.slugs
        self._pages = pages
        self._sessions: dict[str, SessionResponder] = {}
        self.statuses = StatusResponder(
            *(live.streams, live.start_output, stored.posters, live.viewer_count, live.rewind),
            reports=live.reports is not None,
            replays=stored.replays,
            sessions=self._sessions.keys(),
        )
        self._recordings = stored.recordings
        self._posters = stored.posters
        self._shows = stored.shows
        self._places: BoundedDict[str, _Place] = BoundedDict(_MAX_PLACES)
        self._folders: dict[str, FolderResponder] = {"_player": pages.asset, **(folders or {})}
        self.exact_paths: dict[str, Callable[[Request], AnswerOrAwaitable]] = {
            "/": pages.home,
            "/broadcast.html": pages.broadcaster,
            "/player.html": pages.address_player,
            "/player.js": pages.element,
            "/PlayerView": pages.player_view,
            "/healthcheck": health.alive,
            "/ready": health.ready,
            "/time": health.time,
        }
        if stored.public_channels is not None:
            self.exact_paths["/channels.json"] = stored.public_channels
        self.posts: dict[str, SessionResponder] = {}
        if live.reports is not None:
            self.posts[REPORT] = self._report
        if stored.publishers is not None:
            self.exact_paths["/broadcast.json"] = stored.publishers.ports
            self._folders["_servers"] = stored.publishers.servers
            self.posts[OBS_CONFIGURATION] = stored.publishers.obs
            self.posts[CAPTIONS] = stored.publishers.captions

    def add_folder(self, name: str, respond: FolderResponder) -> None:
        """Adds a folder. For responders that need this PlaybackRouter."""
        self._folders[name] = respond

    def add_sessions(self, name: str, respond: SessionResponder) -> None:
        """Adds a protocol whose sessions are opened by POST to `/<id>/<name>`, and are changed and ended below it.

        `POST /whip` has no stream in its path: its bearer token names the channel, and `respond` gets an empty name.
        """
        self._sessions[name] = respond

    def requested_file(self, request: Request) -> str:
        """Returns the stream in the path of a request for a file of media; "" for other requests.

        The hook is asked about connections that play by their `Play`.
        """
        name, slash, rest = request.path[1:].partition("/")
        if not slash or not rest or name in self._folders or not is_stream_name(name) or rest in self._pages.names:
            return ""
        is_file = request.method not in OTHER_METHODS and rest not in (LIVE_FLV, SHOW_REPORT, *self._sessions)
        return name if is_file else ""

    async def refusal(self, request: Request, name: str) -> Response | None:
        """Returns the refusal of a request for a file; None if the viewer has permission. A slug may be in the name."""
        channel = channel_of(name)
        id = await self._plays.channel_id(channel)
        name = id + name[len(channel) :]
        stream = self._live.streams.find_recent(name)
        if stream is not None:
            return self._protection.judge(request, name, stream.channel)
        owner = await self._find_owner(request, id)
        return owner if isinstance(owner, Response) else None

    def __call__(self, request: Request) -> AnswerOrAwaitable:
        path = request.path
        place = self._places.get(path)
        if place is not None and (answer := self._answer_again(request, place)) is not None:
            return answer
        slash = path.find("/", 1)
        if slash < 0:
            return self._answer(request, path[1:], None)
        name, rest = path[1:slash], path[slash + 1 :]
        if self._slugs is None:
            return self._answer(request, name, rest)
        channel = name.partition("@")[0]
        if self._slugs.must_update(channel) and name not in self._folders:
            return self._answer_later(request, name, rest, self._slugs)
        return self._answer_named(request, name, rest, self._slugs)

    def _answer_again(self, request: Request, place: _Place) -> "AnswerOrAwaitable | None":
        """Returns the kept answer of a live stream's file, after all checks of `_answer` and `_stream_file`. Hot path.

        None: there is none, or the path may stand for another file now.
        """
        folder, named, name, rest, route = place
        slugs = self._slugs
        if request.method in OTHER_METHODS or PULL_HEADER in request.headers:
            return None
        if slugs is not None and (slugs.must_update(folder) or slugs.find(folder) is not named):
            return None
        stream = self._live.streams.find_recent(name)
        if stream is None or stream.ended is not None or (request.raw_query and not rest.endswith(MEDIA)):
            return None
        output = stream.output(route.output)
        if not isinstance(output, Packager):
            return None
        output.catch_up()
        answer = output.cache.get(rest)
        if not isinstance(answer, Response):
            return None
        return self._protection.judge(request, name, stream.channel) or self._live.viewers.follow(
            request, stream, route.protocol, rest, answer
        )

    async def _answer_later(self, request: Request, name: str, rest: str, slugs: Slugs) -> Answer:
        """Reads the names of channels, then answers."""
        await slugs.update()
        answer = self._answer_named(request, name, rest, slugs)
        return await answer if inspect.isawaitable(answer) else answer

    def _answer_named(self, request: Request, name: str, rest: str, slugs: Slugs) -> AnswerOrAwaitable:
        """Answers a request below `/<name>/`, where `name` may have a slug."""
        channel = name.partition("@")[0]
        found = slugs.find(channel)
        if found is None:
            return self._answer(request, name, rest)
        # A page below an earlier slug.
        if found.name != channel and (not rest or rest in self._pages.names) and is_stream_name(name):
            return moved(request, f"/{found.name}{name[len(channel) :]}/{rest}")
        return self._answer(request, found.id + name[len(channel) :], rest)

    def _answer(self, request: Request, name: str, rest: str | None) -> AnswerOrAwaitable:
        """Answers a request below `/<name>/`, where `name` has no slug. rest: None if the path has no second slash."""
        if request.method in OTHER_METHODS:
            return self._other_method(request, name, rest)
        if rest is None:
            return self._top_level(request, name)
        folder = self._folders.get(name)
        if folder is not None:
            return folder(request, rest)
        if PULL_HEADER in request.headers and request.headers[PULL_HEADER] == pull_mark(channel_of(name)):
            return _LOOP
        if self._recordings is not None and rest.startswith("vod/"):
            return self._recording(request, name, rest[4:], self._recordings)
        route = self._live.routes.find(rest)
        if route is not None:
            return self._stream_file(request, name, rest, route)
        if not is_stream_name(name):
            return _NO_PAGE
        if rest == LIVE_FLV:
            return self._live_flv(request, name)
        if rest in self._sessions:
            return _NOT_ALLOWED[_SESSION_METHODS]
        if rest in self._pages.names:
            return self._page(request, name, rest)
        if rest == "status.json":
            return self._status(request, name)
        if rest == "poster.jpg":
            return self._poster(request, name)
        if self._shows is not None and rest in (FEED, CALENDAR, SHOW_REPORT) and is_channel_id(name):
            return self._show_file(request, name, rest, self._shows)
        if not rest:
            return self._watch_page(request, name)
        return self._missing(request, name) if _is_browser(request) else _NO_PAGE

    def _other_method(self, request: Request, name: str, below: str | None) -> AnswerOrAwaitable:
        """Answers methods other than GET and HEAD. below: see `_answer`."""
        method, rest = request.method, below or ""
        valid = is_stream_name(name)
        sessions = self._sessions.get(rest.partition("/")[0] or name) if valid else None
        respond = self.posts.get(rest) if valid else None
        if sessions is not None and method in _SESSION_METHODS:
            # `POST /whip` has no stream in its path: its bearer token names the channel.
            return _PREFLIGHTS[_SESSION_METHODS] if method == "OPTIONS" else sessions(request, name if rest else "")
        if method == "POST":
            folder = self._folders.get(name) if below is not None else None
            if folder is not None:
                return folder(request, rest)
            if respond is not None:
                return respond(request, name)
        methods = _SESSION_METHODS if sessions is not None else _READ_METHODS if respond is None else _POST_METHODS
        return (_PREFLIGHTS if method == "OPTIONS" else _NOT_ALLOWED)[methods]

    def _top_level(self, request: Request, name: str) -> AnswerOrAwaitable:
        """Answers a path without a folder. A channel's name leads to its page, whether or not the channel exists."""
        respond = self.exact_paths.get(f"/{name}")
        if respond is not None:
            return respond(request)
        if not is_stream_name(name) or name in self._folders or name in _NOT_PAGES:
            return _NO_PAGE
        return moved(request, f"{name}/")

    # ---- HLS and DASH ----

    def _stream_file(self, request: Request, name: str, rest: str, route: MediaRoute) -> AnswerOrAwaitable:
        stream = self._live.streams.find_recent(name)
        if stream is None:
            return self._elsewhere(request, name, rest, self._not_live) if is_stream_name(name) else _NO_PAGE
        refusal = self._protection.judge(request, name, stream.channel)
        if refusal is not None:
            return refusal
        if not route.is_on(stream):
            return not_enabled(route.output, name)
        answering = route.respond(request, stream, rest)
        if route.protocol and stream.ended is None:
            output, lasts = stream.output(route.output), not request.raw_query or rest.endswith(MEDIA)
            if isinstance(answering, Response) and answering.steady and lasts and isinstance(output, Packager):
                output.cache[rest] = answering
                folder = request.path[1:].partition("/")[0].partition("@")[0]
                named = self._slugs.find(folder) if self._slugs is not None else None
                self._places[request.path] = folder, named, name, rest, route
            return self._live.viewers.follow(request, stream, route.protocol, rest, answering)
        return answering

    def _elsewhere(
        self, request: Request, name: str, rest: str, absent: Callable[[Request, str], Coroutine[Any, Any, Answer]]
    ) -> AnswerOrAwaitable:
        """Answers with a file of the node that holds the stream; with `absent` if no node holds it."""
        if self._live.remote_files is None:
            return absent(request, name)
        return self._live.remote_files.file(request, name, rest, partial(absent, request, name))

    async def _not_live(self, request: Request, name: str) -> Answer:
        """Answers for a stream that is not live: the refusal if the viewer has no permission, otherwise always 404."""
        channel = await self._find_permitted(request, name)
        if isinstance(channel, Response):
            return channel
        return await self._missing(request, name) if _is_browser(request) else not_streaming(name)

    # ---- pages ----

    async def _watch_page(self, request: Request, name: str) -> Answer:
        """Answers with the watch page, for every name. It names the channel if this viewer may play it."""
        found = await self._channel_of_page(name)
        refusal = self._protection.judge(request, name, found)
        live = self._live.streams.find_recent(name) is not None
        shown = found if refusal is None and found is not None and (live or is_watchable(found)) else None
        return await self._pages.watch(request, name, shown, self._protection.frame_ancestors(request, found))

    async def _page(self, request: Request, name: str, page: str) -> Answer:
        """Answers with a player page, for every name."""
        sources = self._protection.frame_ancestors(request, await self._channel_of_page(name))
        answer = self._pages.framed_page(page, sources) if sources else self._pages.page(request, page)
        return await answer if inspect.isawaitable(answer) else answer

    async def _missing(self, request: Request, name: str) -> Answer:
        sources = self._protection.frame_ancestors(request, await self._channel_of_page(name))
        return framed(await self._pages.missing(), sources)

    async def _channel_of_page(self, name: str) -> Channel | None:
        """Returns the channel of a stream; None if it is unknown, or the store does not say it soon."""
        stream = self._live.streams.find_recent(name)
        if stream is not None:
            return stream.channel
        try:
            async with asyncio.timeout(_WATCH_SECONDS):
                return await find_channel(self._channels, channel_of(name))
        except (TimeoutError, StoreUnavailable):
            return None

    async def _poster(self, request: Request, name: str) -> Answer:
        """Answers with the poster of the channel, else the latest picture, else a neutral one."""
        stream = self._live.streams.find_recent(name)
        channel = stream.channel if stream is not None else await self._find_permitted(request, name)
        if isinstance(channel, Response):
            return channel
        if channel is not None and channel.poster:
            refusal = self._protection.judge(request, name, channel)
            # Relative, so that a signature for the folder in the address is valid for the poster too.
            folder = f"../{channel.id}/" if "@" in name else ""
            return refusal or moved(request, f"{folder}vod/{channel.poster.removeprefix(f'{channel.id}/')}")
        answer = self._picture(request, name)
        return await answer if inspect.isawaitable(answer) else answer

    def _picture(self, request: Request, name: str) -> AnswerOrAwaitable:
        """Answers with the latest picture: of the live stream, else the latest stored one, else a neutral one."""
        stream = self._live.streams.find_recent(name)
        if stream is not None and stream.playable:
            if stream.tracks is not None and stream.tracks.video is None:
                return self._protection.judge(request, name, stream.channel) or _NO_POSTER
            return self._stream_file(request, name, SNAPSHOT, self._live.routes.names[SNAPSHOT])
        return self._elsewhere(request, name, SNAPSHOT, self._stored_poster)

    async def _stored_poster(self, request: Request, name: str) -> Answer:
        channel = await self._find_permitted(request, name)
        if isinstance(channel, Response):
            return channel
        path = await self._posters.path(channel) if channel is not None and self._posters is not None else None
        return _NO_POSTER if path is None else moved(request, path)

    async def _show_file(self, request: Request, id: str, file: str, shows: ShowFiles) -> Answer:
        """Answers a file of a channel's shows. The link of a report has its own signature."""
        if file == SHOW_REPORT:
            return await shows.report(request, id)
        channel = await self._find_permitted(request, id)
        return channel if isinstance(channel, Response) else await shows.answer(request, channel, file)

    # ---- recordings ----

    async def _recording(self, request: Request, name: str, rest: str, respond: StoredResponder) -> Answer:
        if not is_channel_id(name):
            return _NO_PAGE
        if media_keys.session_file(f"{rest}/") is not None:
            return moved(request, f"{rest}/")
        owner = await self._find_owner(request, name)
        if isinstance(owner, Response):
            return owner
        if owner is None or owner.deletes_media:
            return NO_RECORDING
        answer = await respond(request, name, rest)
        if not rest.endswith("/") or not isinstance(answer, Response):
            return answer
        return framed(answer, self._protection.frame_ancestors(request, owner.channel))

    async def _find_owner(self, request: Request, id: str) -> MediaOwner | Response | None:
        """Returns the owner of recordings, or the refusal of this request. None: they have none."""
        try:
            owner = await self._owners.find(id)
        except StoreUnavailable as error:
            return refused(error)
        return self._protection.judge(request, id, owner.channel if owner is not None else None) or owner

    # ---- FLV ----

    async def _live_flv(self, request: Request, name: str) -> Answer:
        """Answers a viewer of FLV. It waits for the publisher, also of an unknown channel.

        The channel may be created meanwhile, and the response time must not show which channels exist.
        """
        live, streams = self._live, self._live.streams
        refusal = live.flv.refusal(request)
        if refusal is not None:
            return refusal
        play = http_play(self._plays, streams, request, name, counted=False)
        try:
            await play.check()
            if play.name != name:
                return moved(request, f"/{play.name}/{LIVE_FLV}", status=307)
            stream, channel = streams.find(name), play.channel
            if not (stream.has_output(FLV.output) if stream is not None else _has_flv(channel)):
                return not_enabled(FLV.output, name)
            if request.method == "HEAD":
                remote = live.remote_files if stream is None else None
                is_live = stream is not None or (remote is not None and await remote.is_held(name))
                return live.flv.head() if is_live else await self._not_live(request, name)
            stream = await play.begin()
        except GatewayError as error:
            return answer_refused(play, request, error)
        if not stream.has_output(FLV.output):
            return not_enabled(FLV.output, name)
        return live.flv.watch(request, stream, early=play.waited)

    # ---- reports of viewers ----

    def _report(self, request: Request, name: str) -> AnswerOrAwaitable:
        """Answers a report for a live stream, with the stream's protection."""
        reports = self._live.reports
        assert reports is not None, "the path is known only with them"
        stream = self._live.streams.find(name)
        if stream is not None:
            return self._protection.judge(request, name, stream.channel) or reports.read(request, name)
        return self._remote_report(request, name, reports)

    async def _remote_report(self, request: Request, name: str, reports: ViewerReports) -> Answer:
        """Answers a report for a stream that another node may hold."""
        channel = await self._find_permitted(request, name)
        if isinstance(channel, Response):
            return channel
        try:
            held = reports.is_held is not None and await reports.is_held(name)
        except StoreUnavailable as error:
            return refused(error)
        except AtCapacity as error:
            return service_unavailable(str(error), 1)
        if held:
            return reports.read(request, name)
        # The last report of a page comes after the end of the stream. It must be no error in the page's console.
        return TAKEN if reports.experience.has_players(channel_of(name)) else not_streaming(name)

    # ---- status ----

    def _status(self, request: Request, name: str) -> AnswerOrAwaitable:
        stream = self._live.streams.find_recent(name)
        if stream is None or not stream.playable:
            answering = self._elsewhere(request, name, "status.json", self._idle_status)
            return answering if isinstance(answering, Response | Takeover) else self._status_elsewhere(name, answering)
        return self._protection.judge(request, name, stream.channel) or self.statuses.live(stream)

    async def _status_elsewhere(self, name: str, answering: Awaitable[Answer]) -> Answer:
        """Returns the answer. If another node has the stream, what this node has found for an idle one is old."""
        answer = await answering
        if isinstance(answer, Response) and isinstance(answer.body, bytes) and b'"live": true' in answer.body:
            self.statuses.forget(channel_of(name))
        return answer

    async def _idle_status(self, request: Request, name: str) -> Answer:
        channel = await self._find_permitted(request, name)
        return channel if isinstance(channel, Response) else await self.statuses.idle(channel)

    async def _find_permitted(self, request: Request, name: str) -> Channel | Response | None:
        """Returns the stored channel of a stream that is not live, or the refusal of this request.

        None: the channel is unknown. It is answered like a channel without its own protection.
        """
        try:
            channel = await find_channel(self._channels, channel_of(name))
        except StoreUnavailable as error:
            return refused(error)
        return self._protection.judge(request, name, channel) or channel


def _has_flv(channel: Channel | None) -> bool:
    """Whether a stream of the channel will have FLV. It is so for unknown channels, which are answered alike."""
    return channel is None or channel.flag(FLV.flag)


def _is_browser(request: Request) -> bool:
    """Whether somebody opens the address in a browser. Players and programs do not ask for pages."""
    return "text/html" in request.headers.get("accept", "")
