"""Serves the player pages, the broadcaster page and their files on the playback listener."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, Final

from gateway.channels.addresses import OpenPorts
from gateway.http.request import Request
from gateway.http.response import IMMUTABLE, JSON, Response, text
from gateway.lib.assets import TYPES, Asset, Assets

# Scripts, styles and workers are files of this origin. Media comes from Media Source objects, which have blob URLs.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors *"
)
# The broadcaster pushes to another port, or to a server that the user enters. It must not be in a frame, because it
# uses the camera.
_BROADCAST_POLICY: Final = (
    "default-src 'none'; script-src 'self'{inline}; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self' ws: wss:; font-src 'self'; worker-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; object-src 'none'"
)
# The folders below `/_player/`. Only the admin listener serves the console itself.
_SHARED_FOLDERS: Final = ("broadcast", "film", "players", "vendor")
_BROADCASTER: Final = "broadcast/broadcast.html"
_NO_FILE: Final = text(404, "no such file")
_FRONT: Final = Response(
    200,
    b"<!doctype html><html lang=en><meta charset=utf-8><title>Millrace</title>"
    b"<h1>Millrace</h1><p>A live media gateway. Streams play at <code>/&lt;channel&gt;/index.html</code>.</p></html>\n",
    TYPES["html"],
    cache="no-cache",
    headers={"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff"},
)


class _FileResponses:
    """The prepared responses for one file."""

    __slots__ = ("asset", "immutable", "revalidated", "unchanged")

    def __init__(self, path: str, asset: Asset) -> None:
        self.asset = asset
        headers = {"ETag": f'"{asset.tag}"', "X-Content-Type-Options": "nosniff"}
        if path == _BROADCASTER:
            inline = "".join(f" {source}" for source in asset.inline)
            headers |= {
                "Content-Security-Policy": _BROADCAST_POLICY.format(inline=inline),
                "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self)",
                "Referrer-Policy": "no-referrer",  # the page's address may contain the stream key
            }
        elif asset.suffix == "html":
            headers |= {"Content-Security-Policy": _POLICY, "Referrer-Policy": "same-origin"}
        data, kind, compressed = asset.data, asset.kind, asset.packed
        self.revalidated = Response(200, data, kind, cache="no-cache", headers=headers)
        self.immutable = Response(200, data, kind, cache=IMMUTABLE, headers=headers)
        if compressed is not None:
            self.revalidated.precompressed(compressed)
            self.immutable.precompressed(compressed)
        self.unchanged = Response(304, None, cache="no-cache", headers=headers)


class Pages:
    """Serves `/<id>/<name>.html`, `/broadcast.html` and `/_player/<file>`. ports: returns the open ports.

    The ETag is a hash of the file, and browsers must revalidate it (`no-cache`).
    So an upgrade never mixes old and new modules. If the query is `?v=<hash>`, the file is immutable.
    """

    def __init__(self, ports: Callable[[], OpenPorts] = OpenPorts, assets: Assets | None = None) -> None:
        self._ports = ports
        self._assets = assets if assets is not None else Assets()
        self._responses: dict[str, _FileResponses] = {}
        self.names: frozenset[str] = self._assets.names("players", ".html")

    def front(self, request: Request) -> Response:
        """Answers `/` with the product name."""
        return _FRONT

    def page(self, request: Request, name: str) -> Response | Coroutine[Any, Any, Response]:
        """Answers with a player page. name: one of `names`."""
        return self._serve(request, f"players/{name}")

    def broadcaster(self, request: Request) -> Response | Coroutine[Any, Any, Response]:
        """Answers `/broadcast.html`. The user enters the stream key, or it is in the address after the `#`."""
        return self._serve(request, _BROADCASTER)

    def push_ports(self, request: Request) -> Response:
        """Answers `/broadcast.json`: the ports to which the broadcaster can push."""
        ports = self._ports()
        return Response(200, json.dumps({name: ports[name] for name in ("ws", "wss")}).encode(), JSON)

    def asset(self, request: Request, path: str) -> Response | Coroutine[Any, Any, Response]:
        """Answers with a file that the pages load, or with 404.

        path: `<file>` of the players, or `<folder>/…` for a shared folder.
        """
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
            responses = self._responses[path] = _FileResponses(path, asset)
        if asset.unchanged(request.headers.get("if-none-match", "")):
            return responses.unchanged
        if request.raw_query == f"v={asset.tag}":
            return responses.immutable
        return responses.revalidated
