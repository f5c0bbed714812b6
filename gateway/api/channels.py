"""Creates, lists, shows, changes and deletes channels with the old system's `/videostream` API. Makes QR codes."""

import re
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from gateway.api import console_schemas, qr_code, schemas
from gateway.api.answers import BadRequest, Missing, answer, answer_list, refusal
from gateway.api.authenticators import USER
from gateway.api.body import json_object
from gateway.api.context import CLIENT, CONTEXT
from gateway.api.route import operation
from gateway.channels import obs_multitrack, relay_urls
from gateway.channels.channel import Channel, changes, create_item
from gateway.channels.names import is_channel_id
from gateway.channels.obs_multitrack import ENCODERS, MAX_VIDEO_TRACKS, Canvas, EncoderLimits
from gateway.outputs.storage.media_deletion import MediaDeletion
from gateway.playback.formats import ADDRESSES, LADDER, is_watchable
from gateway.ports.errors import NoSuchChannel
from gateway.ports.users import UserRole

MEDIA_DELETION: Final = web.AppKey("media deletion", MediaDeletion)

_RELAY_FIELDS: Final = ("isRelay", "relayURL", "relayOff")
_ABOUT_FIELDS: Final = ("videoname", "description", "upcoming")
FINAL_QUERY: Final = ("final", "true: it does not go into the bin (default false)")
DELETE_QUERY: Final = (
    ("media", "keep: recordings and videos on demand stay, still protected (default); delete: they are deleted too"),
    FINAL_QUERY,
)
MEDIA_DELETION_TIMEOUT: Final = 5.0  # seconds for which a request waits for the deletion of media
_OBS_QUERY: Final = (
    ("size", "the canvas of OBS, such as 1920x1080 (default)"),
    ("fps", "frames a second of OBS, such as 30 (default), 60 or 60000/1001"),
    ("encoder", f"the encoder of OBS: {', '.join(ENCODERS)} (default x264)"),
    ("tracks", f"the largest number of video tracks, 1 to {MAX_VIDEO_TRACKS} (default {MAX_VIDEO_TRACKS})"),
)
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})", re.ASCII)
_FPS = re.compile(r"([0-9]{1,7})(?:/([0-9]{1,7}))?", re.ASCII)
_TRACKS = re.compile(r"[1-4]", re.ASCII)


async def stored_channel(request: web.Request) -> Channel:
    """Returns the channel in the path, read from the store. Raises NoSuchChannel, also for an invalid id."""
    id = request.match_info["id"]
    if not is_channel_id(id):
        raise NoSuchChannel(id[:128])
    return await request.app[CONTEXT].channels.get(id)


async def answer_with(request: web.Request, channel: Channel) -> web.Response:
    """Returns an answer with the channel."""
    context = request.app[CONTEXT]
    return answer((await context.presenter(request)).present(channel, context.clock()))


@operation(schemas.Channel, body=schemas.NewChannel, statuses=(413,))
async def create(request: web.Request) -> web.Response:
    """Create a channel and its stream key."""
    context = request.app[CONTEXT]
    body = await json_object(request)
    item = create_item(body, context.clock(), context.secrets, context.limits.item)
    return await answer_with(request, await context.changes.create(item, author(request)))


@operation(schemas.Channels)
async def index(request: web.Request) -> web.Response:
    """List the channels."""
    context, rights = request.app[CONTEXT], request[USER].rights
    channels = [channel for channel in await context.channels.list() if rights.may_use(channel.id)]
    presenter, now = await context.presenter(request), context.clock()
    return await answer_list(presenter.present(channel, now) for channel in channels)


@operation(schemas.Channel)
async def show(request: web.Request) -> web.Response:
    """Show a channel."""
    return await answer_with(request, await stored_channel(request))


@operation(schemas.Channel, body=schemas.ChannelChanges, statuses=(413,))
async def update(request: web.Request) -> web.Response:
    """Change fields of a channel; a new outdate makes a new key.

    The change applies to its live streams: outputs, protection, expiry. A running push continues even after a new key.
    """
    return await answer_with(request, await change(request, await json_object(request)))


@operation(schemas.Channel, body=console_schemas.RelayChanges, statuses=(413,))
async def set_relay(request: web.Request) -> web.Response:
    """Change only the relay of a channel.

    This is for a broadcaster's parameters of Amazon IVS. The gateway fetches the key of an IVS channel itself. So a
    broadcaster may name only IVS channels that an administrator stored.
    """
    body = await _only(request, _RELAY_FIELDS)
    if request[USER].rights.role is not UserRole.ADMINISTRATOR:
        before = (await stored_channel(request)).item.get("relayURL")
        stored = relay_urls.targets(before) or ()
        # With the stored targets in place of positions: a list with numbers is no list of targets.
        for target in relay_urls.targets(relay_urls.restore_masked(body.get("relayURL"), before)) or ():
            if relay_urls.is_ivs_channel(target) and target not in stored:
                return refusal(403, "only an administrator may add an Amazon IVS channel", field="relayURL")
    return await answer_with(request, await change(request, body))


@operation(schemas.Channel, body=console_schemas.AboutChanges, statuses=(413,))
async def set_about(request: web.Request) -> web.Response:
    """Change only the title and the description of a channel."""
    return await answer_with(request, await change(request, await _only(request, _ABOUT_FIELDS)))


async def _only(request: web.Request, fields: Sequence[str]) -> dict[str, Any]:
    """Returns the body. Raises BadRequest if it has another field."""
    body = await json_object(request)
    for name in body:
        if name not in fields:
            raise BadRequest(f"expected only {', '.join(fields)}", field=name[:64])
    return body


async def change(request: web.Request, body: dict[str, Any]) -> Channel:
    """Changes fields of the channel in the path, and returns it. Raises NoSuchChannel, InvalidField, TooLarge."""
    context = request.app[CONTEXT]
    channel = await stored_channel(request)
    if changed := changes(channel, body, context.secrets, context.limits.item):
        channel = await context.changes.update(channel.id, changed, author(request))
    return channel


@operation(schemas.Deleted, query=DELETE_QUERY)
async def delete(request: web.Request) -> web.Response:
    """Delete a channel and end its push; keep or delete its media.

    This revokes the key and ends the live push, if there is one. The channel can be restored from the bin for some
    hours (`recording.bin_hours`). The media keep their protection, or are deleted too. A few files are deleted
    immediately, the rest in the background.
    """
    context = request.app[CONTEXT]
    id = request.match_info["id"]
    if not is_channel_id(id):
        raise NoSuchChannel(id[:128])
    media = request.query.get("media", "keep")
    if media not in ("keep", "delete"):
        raise BadRequest("expected keep or delete", field="media")
    deletion = request.app[MEDIA_DELETION] if media == "delete" else None
    if deletion is not None:
        await deletion.check()  # reports an unavailable object store before anything is deleted
    deleted = await context.changes.delete(id, author(request), media=media == "delete", final=is_final(request))
    if deletion is not None and deletion.begin(deleted):
        await deletion.wait_for_pass(id, MEDIA_DELETION_TIMEOUT)
    return answer("stream deleted")


def is_final(request: web.Request) -> bool:
    """Whether what the request deletes does not go into the bin. Raises BadRequest."""
    final = request.query.get("final", "false")
    if final not in ("true", "false"):
        raise BadRequest("expected true or false", field="final")
    return final == "true"


def author(request: web.Request) -> dict[str, str]:
    """Returns who sends the request, for events: `by` and `peer`, an address.

    `by` is the name of the user, "admin token", or, with `via` "token", the name of a token.
    """
    user = request[USER]
    name = "admin token" if user.kind == "token" else user.name
    return {"by": name, "peer": request[CLIENT].address, **({"via": "token"} if user.kind == "api" else {})}


@operation(
    "image/svg+xml",
    query=(("url", "push (default), page (a player page), flv, wsflv, rtmp, srt, hls, cmaf, dash or ladder"),),
)
async def qr(request: web.Request) -> web.Response:
    """An address of the channel as a QR code."""
    name = request.query.get("url", "push")
    channel = await stored_channel(request)
    presenter = await request.app[CONTEXT].presenter(request)
    presented = presenter.present(channel, request.app[CONTEXT].clock())
    if name == "push" and presenter.observed:
        return refusal(403, "an observer gets no push address")
    urls: dict[str, str] = {"push": presented.get("pushUrl", ""), **presented["playUrls"]}
    if is_watchable(channel):
        urls["page"] = presenter.page(channel, request.app[CONTEXT].clock())
    if name not in urls:
        if name in (*(address.name for address in ADDRESSES), LADDER, "page"):
            raise Missing(f"{name} is not enabled for {channel.id}")
        raise BadRequest(f"expected one of {', '.join(urls)}", field="url")
    return await qr_code.respond(urls[name], f"QR code of the {name} address")


@operation(schemas.ObsMultitrack, query=_OBS_QUERY)
async def obs_configuration(request: web.Request) -> web.Response:
    """The configuration of OBS Multitrack Video for a channel."""
    query = request.query
    size = _SIZE.fullmatch(query.get("size", "1920x1080"))
    if size is None:
        raise BadRequest("expected a size, such as 1920x1080", field="size")
    rate = _FPS.fullmatch(query.get("fps", "30"))
    if rate is None:
        raise BadRequest("expected frames a second, such as 30 or 60000/1001", field="fps")
    encoder = query.get("encoder", ENCODERS[0])
    if encoder not in ENCODERS:
        raise BadRequest(f"expected one of {', '.join(ENCODERS)}", field="encoder")
    tracks = query.get("tracks", str(MAX_VIDEO_TRACKS))
    if not _TRACKS.fullmatch(tracks):
        raise BadRequest(f"expected 1 to {MAX_VIDEO_TRACKS}", field="tracks")
    try:
        canvas = Canvas(int(size[1]), int(size[2]), int(rate[1]), int(rate[2] or 1))
    except ValueError as error:
        raise BadRequest(str(error), field="size" if "size" in str(error) else "fps") from None
    channel = await stored_channel(request)
    presenter = await request.app[CONTEXT].presenter(request)
    server, key = presenter.addresses.rtmp_server(channel), f"{channel.id}?sign={channel.key}"
    return answer(obs_multitrack.make_configuration(canvas, EncoderLimits(encoder, int(tracks)), server, key))
