"""Channels: create, list, show, change, delete; what the original's `/videostream` did, and QR codes."""

from __future__ import annotations

import asyncio
import io
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import structlog
from aiohttp import web

from gateway.api.answers import BadRequest, Missing, answer, answer_text, text
from gateway.api.body import json_object
from gateway.api.context import CONTEXT
from gateway.hub.channel import Channel, changes, create_item
from gateway.hub.errors import NoSuchChannel
from gateway.hub.hub import Hub
from gateway.hub.names import is_channel_id
from gateway.hub.stream import EndReason

log = structlog.get_logger(__name__)

_AT_ONCE: Final = 50


async def stored(request: web.Request) -> Channel:
    """The channel that the path names, read fresh. NoSuchChannel also for what cannot be an id."""
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
    """A bare array, as in the original."""
    context = request.app[CONTEXT]
    channels = await context.channels.list()
    presenter, now = await context.presenter(request), context.clock()
    pieces: list[str] = []
    for first in range(0, len(channels), _AT_ONCE):
        pieces += (text(presenter.present(channel, now)) for channel in channels[first : first + _AT_ONCE])
        await asyncio.sleep(0)  # a thousand take tens of milliseconds: streams go on between
    return answer_text(f"[{','.join(pieces)}]")


async def show(request: web.Request) -> web.Response:
    return await _one(request, await stored(request))


async def update(request: web.Request) -> web.Response:
    """Live streams of the channel follow: outputs, protection, expiry. A push under way goes on under a new key."""
    context = request.app[CONTEXT]
    body = await json_object(request, context.limits.request)
    channel = await stored(request)
    if changed := changes(channel, body, context.secrets, context.limits.item):
        channel = await context.channels.update(channel.id, changed)
        context.forget(channel.id)
        context.hub.channel_changed(channel)
        await context.cluster.changed(channel.id)
        log.info("channel changed", channel=channel.id, fields=sorted(changed))
    return await _one(request, channel)


async def delete(request: web.Request) -> web.Response:
    """Revokes the key and ends the live push, if there is one."""
    context = request.app[CONTEXT]
    id = request.match_info["id"]
    if not is_channel_id(id):
        raise NoSuchChannel(id[:128])
    await context.channels.delete(id)
    context.forget(id)
    end_streams(context.hub, id, EndReason.DELETED)
    await context.cluster.changed(id)
    log.info("channel deleted", channel=id)
    return answer("stream deleted")


def end_streams(hub: Hub, id: str, reason: EndReason) -> bool:
    """Ends what is live here of a channel, renditions first; whether there was anything."""
    names = [stream.name for stream in hub if stream.channel.id == id]
    for name in sorted(names, key=len, reverse=True):
        hub.end(name, reason)
    return bool(names)


async def qr(request: web.Request) -> web.Response:
    """The push address, or one of the play addresses, as a picture that a phone reads."""
    import segno  # 1 MB that a gateway without QR codes saves

    which = request.query.get("url", "push")
    channel = await stored(request)
    presenter = await request.app[CONTEXT].presenter(request)
    shown = presenter.present(channel, request.app[CONTEXT].clock())
    urls: dict[str, str] = {"push": shown["pushUrl"], **shown["playUrls"], **_page(shown["playUrls"])}
    if which not in urls:
        if which in ("flv", "wsflv", "hls", "cmaf", "dash", "ladder", "page"):
            raise Missing(f"{which} is not enabled for {channel.id}")
        raise BadRequest(f"expected one of {', '.join(urls)}", field="url")
    out = io.BytesIO()
    title = f"QR code of the {which} address"
    segno.make(urls[which], error="m", micro=False).save(
        out, kind="svg", title=title, omitsize=True, border=4, dark="#000", light="#fff", xmldecl=False
    )
    # Not inline in a page, so assistive technology has to be told that it is one picture with a name.
    body = out.getvalue().replace(b"<svg ", f'<svg role="img" aria-label="{title}" '.encode(), 1)
    return web.Response(body=body, content_type="image/svg+xml", charset="utf-8")


# The page that plays on most phones comes first.
_PAGES: Final = (("hls", "index.html"), ("cmaf", "hls.html"), ("flv", "flv.html"))


def _page(plays: dict[str, str]) -> dict[str, str]:
    """`page`: the address of a player page, with its play address's sign; nothing where no page can play."""
    for kind, page in _PAGES:
        if kind in plays:
            parts = urlsplit(plays[kind])
            return {"page": urlunsplit(parts._replace(path=f"{parts.path.rpartition('/')[0]}/{page}"))}
    return {}
