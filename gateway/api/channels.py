"""Channels: create, list, show, change and delete them, as the original's `/videostream` did; and QR codes."""

from __future__ import annotations

import asyncio
import io
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import structlog
from aiohttp import web

from gateway.api.answers import BadRequest, Missing, answer, answer_text, json_text
from gateway.api.body import json_object
from gateway.api.context import CONTEXT
from gateway.channels.channel import Channel, changes, create_item
from gateway.channels.names import is_channel_id
from gateway.live.hub import Hub
from gateway.live.sink import EndReason
from gateway.playback.formats import ADDRESSES, LADDER
from gateway.ports.errors import NoSuchChannel

log = structlog.get_logger(__name__)

_MAX_CONCURRENT: Final = 50
DELETE_QUERY: Final = (
    ("media", "keep: recordings and films stay, protected as before (default); delete: they go too"),
)
MEDIA_SECONDS: Final = 5.0  # that a request waits for the deletion of media


async def stored_channel(request: web.Request) -> Channel:
    """Returns the channel in the path, read from the store. Raises NoSuchChannel, also for an invalid id."""
    id = request.match_info["id"]
    if not is_channel_id(id):
        raise NoSuchChannel(id[:128])
    return await request.app[CONTEXT].channels.get(id)


async def _one(request: web.Request, channel: Channel) -> web.Response:
    return answer((await request.app[CONTEXT].present(request, [channel]))[0])


async def create(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    body = await json_object(request, context.limits.request)
    channel = await context.channels.add(create_item(body, context.clock(), context.secrets, context.limits.item))
    context.forget(channel.id)
    log.info("channel created", channel=channel.id)
    return await _one(request, channel)


async def index(request: web.Request) -> web.Response:
    """Returns a bare array, as in the original."""
    context = request.app[CONTEXT]
    channels = await context.channels.list()
    presenter, now = await context.presenter(request), context.clock()
    pieces: list[str] = []
    for first in range(0, len(channels), _MAX_CONCURRENT):
        pieces += (json_text(presenter.present(channel, now)) for channel in channels[first : first + _MAX_CONCURRENT])
        await asyncio.sleep(0)  # a thousand take tens of milliseconds: lets streams run in between
    return answer_text(f"[{','.join(pieces)}]")


async def show(request: web.Request) -> web.Response:
    return await _one(request, await stored_channel(request))


async def update(request: web.Request) -> web.Response:
    """Changes a channel.

    Its live streams follow: outputs, protection, expiry. A running push continues even after a new key.
    """
    context = request.app[CONTEXT]
    body = await json_object(request, context.limits.request)
    channel = await stored_channel(request)
    if changed := changes(channel, body, context.secrets, context.limits.item):
        channel = await context.channels.update(channel.id, changed)
        context.forget(channel.id)
        context.hub.channel_changed(channel)
        await context.cluster.changed(channel.id)
        log.info("channel changed", channel=channel.id, fields=sorted(changed))
    return await _one(request, channel)


async def delete(request: web.Request) -> web.Response:
    """Revokes the key and ends the live push, if there is one.

    The media stay protected as before, or are deleted too. A few files are deleted at once, the rest in the background.
    """
    context = request.app[CONTEXT]
    id = request.match_info["id"]
    if not is_channel_id(id):
        raise NoSuchChannel(id[:128])
    media = request.query.get("media", "keep")
    if media not in ("keep", "delete"):
        raise BadRequest("expected keep or delete", field="media")
    deletion = context.media_deletion if media == "delete" else None
    if deletion is not None:
        await deletion.check()  # reports an unavailable object store before anything is deleted
    deleted = await context.channels.delete(id, context.clock(), media=media == "delete")
    context.forget(id)
    end_streams(context.hub, id, EndReason.DELETED)
    await context.cluster.changed(id)
    log.info("channel deleted", channel=id, media=media)
    if deletion is not None and deletion.begin(deleted):
        await deletion.passed(id, MEDIA_SECONDS)
    return answer("stream deleted")


def end_streams(hub: Hub, id: str, reason: EndReason) -> bool:
    """Ends the channel's streams here, renditions first. Returns whether there were any."""
    names = [stream.name for stream in hub if stream.channel.id == id]
    for name in sorted(names, key=len, reverse=True):
        hub.end(name, reason)
    return bool(names)


async def qr(request: web.Request) -> web.Response:
    """Returns the push address or a play address as a QR code."""
    import segno  # imported here, because it takes 1 MB of memory

    which = request.query.get("url", "push")
    channel = await stored_channel(request)
    presenter = await request.app[CONTEXT].presenter(request)
    shown = presenter.present(channel, request.app[CONTEXT].clock())
    urls: dict[str, str] = {"push": shown["pushUrl"], **shown["playUrls"], **_page(shown["playUrls"])}
    if which not in urls:
        if which in (*(address.name for address in ADDRESSES), LADDER, "page"):
            raise Missing(f"{which} is not enabled for {channel.id}")
        raise BadRequest(f"expected one of {', '.join(urls)}", field="url")
    out = io.BytesIO()
    title = f"QR code of the {which} address"
    segno.make(urls[which], error="m", micro=False).save(
        out, kind="svg", title=title, omitsize=True, border=4, dark="#000", light="#fff", xmldecl=False
    )
    # The SVG is loaded as its own document, so it needs a role and a label for assistive technology.
    body = out.getvalue().replace(b"<svg ", f'<svg role="img" aria-label="{title}" '.encode(), 1)
    return web.Response(body=body, content_type="image/svg+xml", charset="utf-8")


# The page that plays on most phones is first.
_PAGES: Final = (("hls", "index.html"), ("cmaf", "hls.html"), ("flv", "flv.html"))


def _page(plays: dict[str, str]) -> dict[str, str]:
    """Returns `page`: the address of a player page with the play address's sign. Empty where no page can play."""
    for kind, page in _PAGES:
        if kind in plays:
            parts = urlsplit(plays[kind])
            return {"page": urlunsplit(parts._replace(path=f"{parts.path.rpartition('/')[0]}/{page}"))}
    return {}
