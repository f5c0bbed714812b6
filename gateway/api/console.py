"""The console's files from the package: pages with a strict policy, scripts and styles with a hash."""

from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from gateway.api import console_schemas
from gateway.api.answers import Missing, answer
from gateway.api.context import CONTEXT, Context
from gateway.api.route import operation
from gateway.api.servers import push_origins
from gateway.channels import addresses
from gateway.http.response import IMMUTABLE
from gateway.ingest.websocket import push_servers
from gateway.lib.assets import Asset, Assets
from gateway.ports.errors import StoreUnavailable
from gateway.ports.stores import ObjectStore

ASSETS: Final = web.AppKey("assets", Assets)

_INDEX: Final = "app/index.html"
_BROADCAST: Final = "broadcast/broadcast.html"
_DOCS: Final = "docs/docs.html"
_MAX_SERVERS: Final = 16  # servers in a policy, because a header must stay short
_IVS: Final = "https://*.live-video.net"  # players load Amazon IVS streams from there
_POLICY: Final = (
    "default-src 'none'; script-src 'self'{inline}; style-src 'self'; img-src 'self' data: blob:{pull}; "
    "media-src 'self' blob: data:{pull} {ivs}; connect-src 'self'{sockets}{store} {ivs}; font-src 'self'; "
    "worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'"
)


@operation("text/html")
async def index(request: web.Request) -> web.StreamResponse:
    """The console."""
    return await _page(request, _INDEX)


@operation("text/html")
async def broadcaster(request: web.Request) -> web.StreamResponse:
    """A page that streams from a camera."""
    return await _page(request, _BROADCAST)


@operation(console_schemas.PushPorts)
async def push_ports(request: web.Request) -> web.Response:
    """The ports for pushes from pages.

    The page on which a user enters a stream key needs them.
    """
    context = request.app[CONTEXT]
    return answer(addresses.push_ports(await context.domains.get_domains(), context.address_defaults.ports()))


@operation("text/html")
async def docs(request: web.Request) -> web.StreamResponse:
    """A page that shows this description."""
    return await _page(request, _DOCS)


@operation("application/octet-stream", statuses=(404,))
async def file(request: web.Request) -> web.StreamResponse:
    """Files of the pages."""
    return await _file(request, request.match_info["path"])


@operation("application/octet-stream", statuses=(404,))
async def player_file(request: web.Request) -> web.StreamResponse:
    """Files of the pages, at their addresses on the playback listener."""
    path = request.match_info["path"]
    return await _file(request, path if "/" in path else f"players/{path}")


async def _file(request: web.Request, path: str) -> web.StreamResponse:
    asset = await request.app[ASSETS].load(path)
    if asset is None:
        raise Missing("no such file")
    # A web worker uses the policy (CSP) of its own script, not that of its page.
    headers = {"Content-Security-Policy": await _policy(request, asset)} if asset.suffix in ("html", "js") else {}
    return _answer(request, asset, headers)


async def _page(request: web.Request, path: str) -> web.StreamResponse:
    asset = await request.app[ASSETS].load(path)
    if asset is None:
        raise Missing("this page is not installed")
    headers = {
        "Content-Security-Policy": await _policy(request, asset),
        "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self), geolocation=()",
    }
    return _answer(request, asset, headers)


def _answer(request: web.Request, asset: Asset, headers: dict[str, str]) -> web.Response:
    """Returns the file, or 304 if the browser has it. If the address has its hash, it may be cached permanently."""
    versioned = request.query_string == f"v={asset.tag}"
    headers["Cache-Control"] = IMMUTABLE if versioned else "no-cache"
    headers["Vary"] = "Accept-Encoding"
    tag = f'"{asset.tag}"'
    if asset.unchanged(request.headers.get("If-None-Match", "")):
        return web.Response(status=304, headers={**headers, "ETag": tag})
    headers["Content-Type"] = asset.kind
    if asset.packed is not None and _accepts_gzip(request.headers.get("Accept-Encoding", "")):
        # RFC 9110 §8.8.3.3: compressed bytes of the same content need a weak or different ETag.
        return web.Response(body=asset.packed, headers={**headers, "ETag": f"W/{tag}", "Content-Encoding": "gzip"})
    return web.Response(body=asset.data, headers={**headers, "ETag": tag})


def _accepts_gzip(accepted: str) -> bool:
    for entry in accepted.split(","):
        name, _, parameters = entry.partition(";")
        if name.strip().lower() in ("gzip", "*"):
            return parameters.replace(" ", "").rstrip("0.") != "q="
    return False


async def _policy(request: web.Request, asset: Asset) -> str:
    """Returns the Content-Security-Policy: own scripts only, media from playback, pushes to gateways."""
    context = request.app[CONTEXT]
    pull, push = await _origins(request, context)
    sockets = {"ws" + origin.removeprefix("http") for origin in pull} | push
    store = await request.app[UPLOAD_ORIGIN]()
    return _POLICY.format(
        inline="".join(f" {source}" for source in asset.inline),
        pull="".join(f" {origin}" for origin in sorted(pull)),
        sockets="".join(f" {origin}" for origin in sorted(pull | sockets)),
        store=f" {store}" if store else "",
        ivs=_IVS,
    )


async def _origins(request: web.Request, context: Context) -> tuple[set[str], set[str]]:
    """Returns the origins of playback and of pushing.

    They include the public addresses, and those on the requested host, which may be another name of this machine. Push
    origins include other gateways, which a broadcaster uses if this one fails.
    """
    found = [context.local_addresses(request)]
    with suppress(StoreUnavailable):  # the page must load without the store, because it shows the error
        found.append((await context.presenter(request)).addresses)
    playback = {origin for addresses in found if (origin := _origin(addresses.pull))}
    bases = [base for addresses in found for base in push_servers(addresses)]
    bases += await push_origins(context, _MAX_SERVERS)
    return playback, {origin for base in bases if (origin := _origin(base))}


def _origin(base: str) -> str:
    """Returns scheme, host and port of an address; "" for a host that is not valid in a policy."""
    parts = urlsplit(base)
    if not parts.hostname or any(c in ";, '\"" or not c.isascii() or not c.isprintable() for c in parts.netloc):
        return ""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


class UploadOrigin:
    """Returns the origin for browser uploads to a bucket; "" if browsers upload to the gateway.

    The origin is read from the first upload address.
    """

    def __init__(self, objects: ObjectStore | None) -> None:
        self._objects = objects
        self._origin: str | None = None if objects is not None else ""

    async def __call__(self) -> str:
        if self._origin is None:
            assert self._objects is not None, "without an object store the origin is known"
            try:
                upload = await self._objects.upload("film.mp4", 60)
            except StoreUnavailable:
                return ""  # the next request tries again
            parts = urlsplit(upload.url) if upload is not None else urlsplit("")
            self._origin = f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""
        return self._origin


UPLOAD_ORIGIN: Final = web.AppKey("upload origin", UploadOrigin)
