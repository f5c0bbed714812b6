"""The player pages, the broadcaster page and their files, on the playback listener."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, Final

from gateway.channels.addresses import OpenPorts
from gateway.http.request import Request
from gateway.http.response import IMMUTABLE, JSON, Response, text
from gateway.lib.assets import TYPES, Asset, Assets

# Scripts, styles and workers are files of this origin; media comes through Media Source, which is a blob.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors *"
)
# The broadcaster pushes to another port, or to a server that the user names. It must not be framed: it uses a camera.
_BROADCAST_POLICY: Final = (
    "default-src 'none'; script-src 'self'{inline}; style-src 'self'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; connect-src 'self' ws: wss:; font-src 'self'; worker-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; object-src 'none'"
)
# The folders below `/_player/`; the console itself is served by the admin listener only.
_SHARED: Final = ("broadcast", "players", "vendor")
_BROADCASTER: Final = "broadcast/broadcast.html"
_FRONT: Final = Response(
    200,
    b"<!doctype html><html lang=en><meta charset=utf-8><title>Millrace</title>"
    b"<h1>Millrace</h1><p>A live media gateway. Streams play at <code>/&lt;channel&gt;/index.html</code>.</p></html>\n",
    TYPES["html"],
    cache="no-cache",
    headers={"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff"},
)


class _Answers:
    """The prepared responses for one file."""

    __slots__ = ("asset", "current", "forever", "unchanged")

    def __init__(self, path: str, asset: Asset) -> None:
        self.asset = asset
        headers = {"ETag": f'"{asset.tag}"', "X-Content-Type-Options": "nosniff"}
        if path == _BROADCASTER:
            inline = "".join(f" {source}" for source in asset.inline)
            headers |= {
                "Content-Security-Policy": _BROADCAST_POLICY.format(inline=inline),
                "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self)",
                "Referrer-Policy": "no-referrer",  # its address may contain the stream key
            }
        elif asset.suffix == "html":
            headers |= {"Content-Security-Policy": _POLICY, "Referrer-Policy": "same-origin"}
        data, kind, packed = asset.data, asset.kind, asset.packed
        self.current = Response(200, data, kind, cache="no-cache", headers=headers)
        self.forever = Response(200, data, kind, cache=IMMUTABLE, headers=headers)
        if packed is not None:
            self.current.precompressed(packed)
            self.forever.precompressed(packed)
        self.unchanged = Response(304, None, cache="no-cache", headers=headers)


class Pages:
    """Serves `/<id>/<name>.html`, `/broadcast.html` and `/_player/<file>`. ports: returns the open ports.

    The ETag is a hash of the file, and browsers must revalidate it (`no-cache`).
    So an upgrade never mixes old and new modules. With that hash as `?v=`, a file is immutable.
    """

    def __init__(self, ports: Callable[[], OpenPorts] = OpenPorts, assets: Assets | None = None) -> None:
        self._ports = ports
        self._assets = assets if assets is not None else Assets()
        self._answers: dict[str, _Answers] = {}
        self.names: frozenset[str] = self._assets.names("players", ".html")

    def front(self, request: Request) -> Response:
        """Answers `/` with the name of the product."""
        return _FRONT

    def page(self, request: Request, name: str) -> Response | Coroutine[Any, Any, Response]:
        """Answers with a player page; `name` is one of `names`."""
        return self._answer(request, f"players/{name}")

    def broadcaster(self, request: Request) -> Response | Coroutine[Any, Any, Response]:
        """Answers `/broadcast.html`. The user types the stream key in, or it is in the address after the `#`."""
        return self._answer(request, _BROADCASTER)

    def push_ports(self, request: Request) -> Response:
        """Answers `/broadcast.json`: the ports to which the broadcaster can push, besides this listener."""
        ports = self._ports()
        return Response(200, json.dumps({name: ports[name] for name in ("ws", "wss")}).encode(), JSON)

    def asset(self, request: Request, path: str) -> Response | Coroutine[Any, Any, Response]:
        """Answers with a file that the pages load; 404 for any other path.

        path: `<file>` of the players, or `<folder>/…` of a shared folder.
        """
        folder, slash, _ = path.partition("/")
        if path.endswith(".html") or (slash and folder not in _SHARED):
            return _no_file()
        return self._answer(request, path if slash else f"players/{path}")

    def _answer(self, request: Request, path: str) -> Response | Coroutine[Any, Any, Response]:
        asset = self._assets.ready(path)
        return self._load(request, path) if asset is None else self._respond(request, path, asset)

    async def _load(self, request: Request, path: str) -> Response:
        asset = await self._assets.load(path)
        return _no_file() if asset is None else self._respond(request, path, asset)

    def _respond(self, request: Request, path: str, asset: Asset) -> Response:
        answers = self._answers.get(path)
        if answers is None or answers.asset is not asset:
            answers = self._answers[path] = _Answers(path, asset)
        if asset.unchanged(request.headers.get("if-none-match", "")):
            return answers.unchanged
        if request.raw_query == f"v={asset.tag}":
            return answers.forever
        return answers.current


def _no_file() -> Response:
    return text(404, "no such file")
