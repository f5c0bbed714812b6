"""Pages: the player pages and what they load, out of the package."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Final

from gateway.servers.request import Request
from gateway.servers.response import IMMUTABLE, Response, text

# Scripts, styles and workers are files of this origin; media arrive through Media Source, which is a blob.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors *"
)
_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "woff2": "font/woff2",
}
_FRONT: Final = Response(
    200,
    b"<!doctype html><html lang=en><meta charset=utf-8><title>Millrace</title>"
    b"<h1>Millrace</h1><p>A live media gateway. Streams play at <code>/&lt;channel&gt;/index.html</code>.</p></html>\n",
    _TYPES["html"],
    cache="no-cache",
    headers={"Content-Security-Policy": "default-src 'none'", "X-Content-Type-Options": "nosniff"},
)


class _Asset:
    """One file, ready to be sent."""

    __slots__ = ("current", "forever", "tag", "unchanged")

    def __init__(self, name: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()[:24]
        self.tag = digest
        headers = {"ETag": f'"{digest}"', "X-Content-Type-Options": "nosniff"}
        kind = _TYPES[name.rpartition(".")[2]]
        if name.endswith(".html"):
            headers |= {"Content-Security-Policy": _POLICY, "Referrer-Policy": "same-origin"}
        self.current = Response(200, data, kind, cache="no-cache", headers=headers, compress=True)
        self.forever = Response(200, data, kind, cache=IMMUTABLE, headers=headers, compress=True)
        self.unchanged = Response(304, None, cache="no-cache", headers=headers)
        if self.current.compress:
            self.current.gzipped()


class Pages:
    """Serves `/<id>/<name>.html` and `/_player/<asset>`. Files are read and compressed once, at the first request.

    They carry a hash as ETag and are to be asked for again (`no-cache`), so that an upgrade never mixes old and new
    modules; with that hash as `?v=` they are immutable.
    """

    def __init__(self) -> None:
        console = resources.files("gateway") / "console"
        self._files: dict[str, Traversable] = {}
        folders = [console / "players", *(f for f in (console / "vendor").iterdir() if f.is_dir())]
        for folder in folders:
            for file in folder.iterdir():
                if file.is_file() and file.name.rpartition(".")[2] in _TYPES:
                    self._files[file.name] = file
        self._ready: dict[str, _Asset] = {}
        self.names: frozenset[str] = frozenset(n for n in self._files if n.endswith(".html"))

    def front(self, request: Request) -> Response:
        """`/`: names the product."""
        return _FRONT

    def page(self, request: Request, name: str) -> Response | Coroutine[Any, Any, Response]:
        """A player page; `name` is one of `names`."""
        return self._answer(request, name)

    def asset(self, request: Request, name: str) -> Response | Coroutine[Any, Any, Response]:
        """What the pages load; 404 for anything else."""
        if name not in self._files or name in self.names:
            return text(404, "no such file")
        return self._answer(request, name)

    def _answer(self, request: Request, name: str) -> Response | Coroutine[Any, Any, Response]:
        asset = self._ready.get(name)
        if asset is None:
            return self._prepare(request, name)
        tags = request.headers.get("if-none-match", "")
        if asset.tag in tags:
            return asset.unchanged
        if request.raw_query == f"v={asset.tag}":
            return asset.forever
        return asset.current

    async def _prepare(self, request: Request, name: str) -> Response:
        file = self._files[name]
        asset = await asyncio.to_thread(lambda: _Asset(name, file.read_bytes()))
        self._ready[name] = asset
        answer = self._answer(request, name)
        assert isinstance(answer, Response)  # it is ready now
        return answer
