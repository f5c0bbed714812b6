"""Serves what pages show of their operator, with few reads of the store: `site.json` and the logo."""

import json
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.channels.site import KIND, Site
from gateway.http.request import Request
from gateway.http.response import IMMUTABLE, JSON, Response, text
from gateway.lib.clocks import SYSTEM_CLOCKS, Clocks
from gateway.lib.tasks import Tasks
from gateway.playback.public_channels import SharedRead
from gateway.ports.stores import ConsoleStore

SITE: Final = "site.json"  # below `/_player/`
LOGO: Final = "site-logo.webp"
_SECONDS: Final = 10.0  # between two reads, and for which pages may keep the answer
_WAIT_SECONDS: Final = 1.0  # longest wait of a page for the store
_NO_LOGO: Final = text(404, "there is no logo")


class SiteReader:
    """The site, read at most once in ten seconds. read: reads it from the store, or from a gateway."""

    def __init__(self, read: Callable[[], Awaitable[Site]], tasks: Tasks, clocks: Clocks = SYSTEM_CLOCKS) -> None:
        self._read = read
        self._site = Site()
        self._shared: SharedRead[Site] = SharedRead(self._update, _SECONDS, tasks, clocks)

    async def get(self) -> Site:
        """Returns the site. While the store is unavailable, it is the last one, at first that without any setting."""
        await self._shared.wait(_WAIT_SECONDS)
        return self._site

    def expire(self) -> None:
        """Lets the next caller read it again, after a change by this node."""
        self._shared.expire()

    async def respond(self, request: Request, path: str) -> Response:
        """Answers with SITE or LOGO."""
        site = await self.get()
        if path == LOGO:
            if not site.logo:
                return _NO_LOGO
            cache = IMMUTABLE if request.raw_query == f"v={site.logo_tag}" else "no-cache"
            return Response(200, site.logo, "image/webp", cache=cache)
        logo = f"/_player/{LOGO}?v={site.logo_tag}" if site.logo else None
        body = {"title": site.title, "color": site.color, "text": site.text, "logo": logo}
        return Response(200, json.dumps(body).encode(), JSON, cache=f"public, max-age={_SECONDS:.0f}", compress=True)

    async def node_answer(self, request: Request, rest: str) -> Response:
        """Answers another node with the whole site."""
        return Response(200, json.dumps((await self.get()).as_json()).encode(), JSON)

    async def _update(self) -> Site:
        self._site = await self._read()
        return self._site


async def stored_site(store: ConsoleStore) -> Site:
    """Returns the site in the store. One that cannot be read counts as not set. Raises StoreUnavailable."""
    return Site.from_json((await store.list(KIND)).get(KIND, {}))
