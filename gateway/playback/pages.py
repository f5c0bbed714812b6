"""Serves the player pages, the broadcaster page and their files on the playback listener."""

import re
from collections.abc import Coroutine, Mapping, Sequence
from html import escape
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.channels.channel import Channel
from gateway.channels.names import channel_of
from gateway.channels.site import Site
from gateway.http.request import Request
from gateway.http.response import IMMUTABLE, VARY, Response, moved, text
from gateway.lib.assets import Asset, Assets
from gateway.playback.site import LOGO, SITE, SiteReader

# Scripts, styles and workers are files of this origin. Media comes from Media Source objects, which have blob URLs.
# hls.js makes text tracks from an empty data URL.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob: data:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors *"
)
# The broadcaster pushes to another port, or to a server that the user enters. It must not be in a frame, because it
# uses the camera.
_BROADCAST_POLICY: Final = (
    "default-src 'none'; script-src 'self'{inline}; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self' ws: wss:; font-src 'self'; worker-src 'self' blob:; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
)
# The player of an address. It loads media only from the hosts whose addresses it may play.
_PLAYER_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob: data:{hosts}; "
    "connect-src 'self'{hosts}; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors *"
)
_IVS_HOSTS: Final = "*.live-video.net"  # Amazon IVS
_PLAYABLE: Final = re.compile(r"https://[!-\[\]-~]{1,2040}")  # printable ASCII without a backslash
# The folders below `/_player/`. Only the admin listener serves the console itself.
_SHARED_FOLDERS: Final = ("broadcast", "element", "film", "players", "report", "vendor")
_BROADCASTER: Final = "broadcast/broadcast.html"
_PLAYER: Final = "player/player.html"
# The module that pages of others load. Its own imports are relative to it.
_ELEMENT: Final = Response(
    200, b'export * from "./_player/element/millrace-player.js";\n', "text/javascript; charset=utf-8", cache="no-cache"
)
_NOT_PLAYABLE: Final = text(
    403, "this page plays only HLS addresses of allowed hosts, such as /player.html?url=https://….live-video.net/….m3u8"
)
_HOME: Final = "home.html"
_WATCH: Final = "watch.html"
_NO_FILE: Final = text(404, "no such file")
_CSP: Final = "Content-Security-Policy"
PAGE_HEADERS: Final = {_CSP: _POLICY, "Referrer-Policy": "same-origin"}
_TITLE: Final = "<title>Live stream</title>"  # of the watch page; replaced by the channel's name
_MAX_DESCRIPTION: Final = 300  # characters for link previews


def _headers_with_moq(port: int) -> Mapping[str, str]:
    """Returns the headers of a page that may use the port of MoQ. Its library makes the script that plays sound."""
    policy = _POLICY.replace("connect-src 'self'", f"connect-src 'self' https://*:{port}")
    return {**PAGE_HEADERS, _CSP: policy.replace("script-src 'self'", "script-src 'self' blob:")}


class _FileResponses:
    """The prepared responses for one file."""

    __slots__ = ("asset", "immutable", "revalidated", "unchanged")

    def __init__(self, path: str, asset: Asset, player_hosts: Sequence[str], page: Mapping[str, str]) -> None:
        self.asset = asset
        headers = {"ETag": f'"{asset.tag}"'}
        if path == _BROADCASTER:
            inline = "".join(f" {source}" for source in asset.inline)
            headers |= {
                "Content-Security-Policy": _BROADCAST_POLICY.format(inline=inline),
                "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self)",
                "Referrer-Policy": "no-referrer",  # the page's address may contain the stream key
            }
        elif path == _PLAYER:
            policy = _PLAYER_POLICY.format(hosts="".join(f" https://{host}" for host in player_hosts))
            headers |= {"Content-Security-Policy": policy, "Referrer-Policy": "no-referrer"}
        elif asset.suffix == "html":
            headers |= page
        data, kind, compressed = asset.data, asset.kind, asset.packed
        self.revalidated = Response(200, data, kind, cache="no-cache", headers=headers)
        self.immutable = Response(200, data, kind, cache=IMMUTABLE, headers=headers)
        if compressed is not None:
            self.revalidated.precompressed(compressed)
            self.immutable.precompressed(compressed)
        self.unchanged = Response(
            304, None, cache="no-cache", headers=headers | (VARY if compressed is not None else {})
        )


class Pages:
    """Serves `/`, `/<id>/`, `/<id>/<name>.html`, `/broadcast.html`, `/player.html`, `/player.js` and `/_player/<file>`.

    public_url: the setting `playback.public_url`; "": the host of the request.
    player_hosts: the hosts that `/player.html` may play from besides Amazon IVS.
    moq_port: to which the players connect too; None: it is not open.

    The ETag is a hash of the file, and browsers must revalidate it (`no-cache`).
    So an upgrade never mixes old and new modules. If the query is `?v=<hash>`, the file is immutable.
    """

    def __init__(
        self,
        public_url: str = "",
        player_hosts: Sequence[str] = (),
        assets: Assets | None = None,
        site: SiteReader | None = None,
        moq_port: int | None = None,
    ) -> None:
        self._public_url = public_url
        self._player_hosts = (_IVS_HOSTS, *player_hosts)
        self._assets = assets if assets is not None else Assets()
        self._site = site
        self._headers = PAGE_HEADERS if moq_port is None else _headers_with_moq(moq_port)
        self._responses: dict[str, _FileResponses] = {}
        self.names: frozenset[str] = self._assets.names("players", ".html") - {_HOME, _WATCH}

    async def home(self, request: Request) -> Response:
        """Answers `/` with the page of the public channels, with the operator's title."""
        site = await self._site.get() if self._site is not None else Site()
        if not site.title:
            return await self._load(request, f"players/{_HOME}")
        base = public_base(request, self._public_url)
        tags = {
            "og:type": "website",
            "og:title": site.title,
            "og:description": site.text[:_MAX_DESCRIPTION],
            "og:url": base and f"{base}/",
            "og:image": base and site.logo and f"{base}/_player/{LOGO}?v={site.logo_tag}",
        }
        return await self._with_head(_HOME, "<title>Channels</title>", site.title, tags)

    async def watch(self, request: Request, name: str, channel: Channel | None, sources: str = "") -> Response:
        """Answers `/<name>/`: a page that chooses the player itself.

        channel: its name and description are in the page, for link previews. None: unknown, or the viewer may not see
        it. Both cases get the same page. sources: see `framed`.
        """
        chat = channel.text("chat") if channel is not None else ""
        if channel is None or not (channel.name or chat):
            return await (self.framed_page(_WATCH, sources) if sources else self._load(request, f"players/{_WATCH}"))
        site = await self._site.get() if self._site is not None else Site()
        base = public_base(request, self._public_url)
        query = f"?{request.raw_query}" if request.raw_query else ""
        shown = f"{base}/{channel.public_name}{name[len(channel_of(name)) :]}/"
        tags = {
            "og:type": "video.other",
            "og:title": channel.name,
            "og:site_name": site.title,
            "og:description": channel.text("description")[:_MAX_DESCRIPTION],
            "og:url": base and f"{shown}{query}",
            "og:image": base and f"{shown}poster.jpg{query}",
        }
        return framed(await self._with_head(_WATCH, _TITLE, channel.name or "Live stream", tags, chat), sources)

    async def _with_head(
        self, page: str, title: str, text: str, tags: Mapping[str, object], chat: str = ""
    ) -> Response:
        """Returns a page with Open Graph tags. title: the element that gets `text`. chat: the address of its frame."""
        asset = await self._assets.load(f"players/{page}")
        if asset is None:
            return _NO_FILE
        head = f"<title>{escape(text)}</title>{open_graph(tags)}"
        headers = self._headers
        if chat:
            head += f'\n  <meta name="millrace-chat" content="{escape(chat)}">'
            parts = urlsplit(chat)
            policy = f"{headers[_CSP]}; frame-src {parts.scheme}://{parts.netloc}"
            headers = {**headers, _CSP: policy}
        data = asset.data.decode().replace(title, head).encode()
        return Response(200, data, asset.kind, cache="no-cache", headers=headers, compress=True)

    async def missing(self) -> Response:
        """Answers an address below a channel that has nothing: the watch page says whether there is such a channel."""
        asset = await self._assets.load(f"players/{_WATCH}")
        if asset is None:
            return _NO_FILE
        return Response(404, asset.data, asset.kind, headers=self._headers, compress=True)

    def page(self, request: Request, name: str) -> Response | Coroutine[Any, Any, Response]:
        """Answers with a player page. name: one of `names`."""
        return self._serve(request, f"players/{name}")

    async def framed_page(self, name: str, sources: str) -> Response:
        """Answers with a page for `framed`. It has no ETag: browsers keep the policy of a page that is unchanged."""
        asset = await self._assets.load(f"players/{name}")
        if asset is None:
            return _NO_FILE
        page = Response(200, asset.data, asset.kind, cache="no-cache", headers=self._headers, compress=True)
        return framed(page, sources)

    def broadcaster(self, request: Request) -> Response | Coroutine[Any, Any, Response]:
        """Answers `/broadcast.html`. The user enters the stream key, or it is in the address after the `#`."""
        return self._serve(request, _BROADCASTER)

    def address_player(self, request: Request) -> Response | Coroutine[Any, Any, Response]:
        """Answers `/player.html?url=<HLS address>`, a player for streams of other servers.

        Refuses addresses of other hosts, so that a link to this gateway cannot show the content of anybody.
        """
        if not _is_playable(request.query.get("url", ""), self._player_hosts):
            return _NOT_PLAYABLE
        return self._serve(request, _PLAYER)

    def element(self, request: Request) -> Response:
        """Answers `/player.js`, the module that defines `<millrace-player>`."""
        return _ELEMENT

    def player_view(self, request: Request) -> Response:
        """Answers `/PlayerView?url=<HLS address>`, the old system's address of that player."""
        return moved(request, "/player.html")

    def asset(self, request: Request, path: str) -> Response | Coroutine[Any, Any, Response]:
        """Answers with a file that the pages load, or with 404.

        path: `<file>` of the players, or `<folder>/…` for a shared folder.
        """
        if self._site is not None and path in (SITE, LOGO):
            return self._site.respond(request, path)
        folder, slash, _ = path.partition("/")
        if path.endswith(".html") or (slash and folder not in _SHARED_FOLDERS):
            return _NO_FILE
        return self._serve(request, path if slash else f"players/{path}")

    def _serve(self, request: Request, path: str) -> Response | Coroutine[Any, Any, Response]:
        asset = self._assets.ready(path)
        return self._load(request, path) if asset is None else self._respond(request, path, asset)

    async def _load(self, request: Request, path: str) -> Response:
        asset = await self._assets.load(path)
        return _NO_FILE if asset is None else self._respond(request, path, asset)

    def _respond(self, request: Request, path: str, asset: Asset) -> Response:
        responses = self._responses.get(path)
        if responses is None or responses.asset is not asset:
            responses = self._responses[path] = _FileResponses(path, asset, self._player_hosts, self._headers)
        if asset.unchanged(request.headers.get("if-none-match", "")):
            return responses.unchanged
        if request.raw_query == f"v={asset.tag}":
            return responses.immutable
        return responses.revalidated


def public_base(request: Request, public_url: str) -> str:
    """Returns the start of the addresses of this server; "" if it is unknown, as in a request of another node."""
    if public_url or not request.host or request.path.startswith("/_node/"):
        return public_url.rstrip("/")
    return f"{request.scheme}://{request.host}"


def framed(page: Response, sources: str) -> Response:
    """Returns a page that only pages of these sources (CSP) may show in a frame; "": all pages may."""
    policy = page.headers.get(_CSP)
    if not sources or policy is None:
        return page
    headers = {**page.headers, _CSP: policy.replace("frame-ancestors *", f"frame-ancestors {sources}")}
    return Response(
        page.status, page.body, page.content_type, cache=page.cache, headers=headers, compress=page.compress
    )


def open_graph(tags: Mapping[str, object]) -> str:
    """Returns the lines of Open Graph tags, https://ogp.me. Each begins with a line break. Empty tags are omitted."""
    lines = (f'\n  <meta property="{tag}" content="{escape(str(value))}">' for tag, value in tags.items() if value)
    return "".join(lines)


def _is_playable(address: str, hosts: Sequence[str]) -> bool:
    """Whether this is an https address of an HLS playlist on one of the hosts; `*.name` is any host below `name`."""
    if not _PLAYABLE.fullmatch(address):
        return False
    try:
        parts = urlsplit(address)
        host, standard_port = parts.hostname or "", parts.port in (None, 443)  # a policy's host has only that port
    except ValueError:
        return False
    if "@" in parts.netloc or not standard_port or not parts.path.endswith(".m3u8"):
        return False
    return any(host.endswith(name[1:]) if name.startswith("*.") else host == name for name in hosts)
