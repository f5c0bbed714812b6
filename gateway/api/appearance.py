"""The look of the pages for viewers: the site (title, logo, colour, text) and the posters of channels."""

import asyncio
import hashlib
import re
import tempfile
from pathlib import Path
from typing import Final

import structlog
from aiohttp import web

from gateway.api import console_schemas, schemas
from gateway.api.answers import BadRequest, Missing, answer
from gateway.api.authenticators import USER
from gateway.api.body import json_object
from gateway.api.channels import answer_with, author, stored_channel
from gateway.api.context import CONTEXT
from gateway.api.films import read_chunks
from gateway.api.route import operation
from gateway.api.settings_events import record_change
from gateway.channels.site import KIND, MAX_LOGO, Site
from gateway.playback.site import SiteReader, stored_site
from gateway.ports import media_keys
from gateway.ports.errors import TooLarge
from gateway.workers.jpeg_service import JpegService, PictureRefused

log = structlog.get_logger(__name__)

JPEGS: Final = web.AppKey("jpegs", JpegService)
SITE_PAGES: Final = web.AppKey("site", SiteReader)
_LOGO_LONGEST: Final = 512  # pixels of the longer side
_POSTER_LONGEST: Final = 1_280
_MAX_PICTURE: Final = 8_000_000  # of an uploaded picture
_PICTURE_SECONDS: Final = 120.0  # for the whole upload
_PICTURE_FORMATS: Final = re.compile(rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF....WEBP", re.DOTALL)
_EXPECTED_PICTURE: Final = "expected a PNG, JPEG or WebP picture"


@operation(console_schemas.Site, statuses=(503,))
async def show(request: web.Request) -> web.Response:
    """Show title, colour, text and logo of the pages for viewers."""
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


@operation(schemas.Channel, body="image/*", statuses=(413, 507))
async def set_poster(request: web.Request) -> web.Response:
    """Set the poster of a channel: a PNG, JPEG or WebP picture.

    The picture is scaled down to 1,280 pixels, and stored as JPEG without its metadata.
    """
    context, channel = request.app[CONTEXT], await stored_channel(request)
    picture = await read_picture(request, _POSTER_LONGEST, alpha=False)
    key = media_keys.poster_key(channel.id, hashlib.sha256(picture).hexdigest()[:16])
    with tempfile.TemporaryDirectory(prefix="millrace-poster-") as folder:
        file = Path(folder) / "poster.jpg"
        await asyncio.to_thread(file.write_bytes, picture)
        await context.objects.put(key, file)
    if key != channel.poster:
        channel = await context.changes.update(channel.id, {"poster": key}, author(request))
    return await answer_with(request, channel)


@operation(schemas.Channel)
async def remove_poster(request: web.Request) -> web.Response:
    """Remove the poster of a channel."""
    context, channel = request.app[CONTEXT], await stored_channel(request)
    if channel.poster:
        channel = await context.changes.update(channel.id, {"poster": ""}, author(request))
    return await answer_with(request, channel)


async def _stored(request: web.Request) -> Site:
    return await stored_site(request.app[CONTEXT].authenticators.store)


async def _store(request: web.Request, site: Site) -> web.Response:
    context = request.app[CONTEXT]
    await context.authenticators.store.put(KIND, KIND, site.as_json())
    request.app[SITE_PAGES].expire()
    log.info("site changed", by=request[USER].name)
    await record_change(request, "site", "changed")
    return _answer(site)


def _answer(site: Site) -> web.Response:
    logo = f"/site/logo?v={site.logo_tag}" if site.logo else None
    return answer({"title": site.title, "color": site.color, "text": site.text, "logo": logo})


async def read_picture(request: web.Request, longest: int, *, alpha: bool) -> bytes:
    """Returns the picture in the body as JPEG, with alpha as WebP, and scaled down to `longest` pixels.

    Raises BadRequest, TooLarge, OutputError.
    """
    try:
        async with asyncio.timeout(_PICTURE_SECONDS):
            data = b"".join([chunk async for chunk in read_chunks(request, _MAX_PICTURE, "the picture")])
    except TimeoutError:
        raise web.HTTPRequestTimeout(reason="the picture did not arrive in time") from None
    if not _PICTURE_FORMATS.match(data):
        raise BadRequest(_EXPECTED_PICTURE)
    try:
        return await request.app[JPEGS].convert(data, longest, alpha)
    except PictureRefused as error:
        raise BadRequest(f"{_EXPECTED_PICTURE}: {error}") from None
