"""What the home page and the watch pages show of their operator: title, logo, colour and a text."""

from typing import Final

import structlog
from aiohttp import web

from gateway.api import console_schemas
from gateway.api.answers import Missing, answer
from gateway.api.authenticators import USER
from gateway.api.body import json_object
from gateway.api.context import CONTEXT
from gateway.api.pictures import read_picture
from gateway.api.route import operation
from gateway.channels.site import KIND, MAX_LOGO, Site
from gateway.playback.site import stored_site
from gateway.ports.errors import TooLarge

log = structlog.get_logger(__name__)

_LOGO_LONGEST: Final = 512  # pixels of the longer side


@operation(console_schemas.Site, statuses=(503,))
async def show(request: web.Request) -> web.Response:
    """What the pages for viewers show of their operator."""
    return _answer(await _stored(request))


@operation(console_schemas.Site, body=console_schemas.SiteChanges, statuses=(503,))
async def update(request: web.Request) -> web.Response:
    """Set the title, the colour and the text of the pages for viewers.

    The text is plain text; pages show addresses in it as links.
    """
    return await _store(request, (await _stored(request)).changed(await json_object(request)))


@operation("image/webp", statuses=(503,))
async def logo(request: web.Request) -> web.Response:
    """The logo."""
    site = await _stored(request)
    if not site.logo:
        raise Missing("there is no logo")
    return web.Response(body=site.logo, content_type="image/webp")


@operation(console_schemas.Site, body="image/*", statuses=(413, 503))
async def set_logo(request: web.Request) -> web.Response:
    """Set the logo: a PNG, JPEG or WebP picture. It is scaled down to 512 pixels, and stored without its metadata."""
    picture = await read_picture(request, _LOGO_LONGEST, alpha=True)
    if len(picture) > MAX_LOGO:
        raise TooLarge(len(picture), MAX_LOGO, "the logo")
    site = await _stored(request)
    return await _store(request, Site(site.title, site.color, site.text, picture))


@operation(console_schemas.Site, statuses=(503,))
async def remove_logo(request: web.Request) -> web.Response:
    """Remove the logo."""
    site = await _stored(request)
    return await _store(request, Site(site.title, site.color, site.text))


async def _stored(request: web.Request) -> Site:
    return await stored_site(request.app[CONTEXT].authenticators.store)


async def _store(request: web.Request, site: Site) -> web.Response:
    context = request.app[CONTEXT]
    await context.authenticators.store.put(KIND, KIND, site.as_json())
    context.site_changed()
    log.info("site changed", by=request[USER].name)
    return _answer(site)


def _answer(site: Site) -> web.Response:
    logo = f"/site/logo?v={site.logo_tag}" if site.logo else None
    return answer({"title": site.title, "color": site.color, "text": site.text, "logo": logo})
