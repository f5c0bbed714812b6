"""Amazon IVS: the channels of this account, as targets for relays, and the parameters of each user.

The parameters are routes of the old system. The broadcaster page keeps them in the profile.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.api import console_schemas
from gateway.api.answers import BadRequest, Missing, answer, refusal
from gateway.api.authenticators import USER
from gateway.api.body import json_object, read, text_of
from gateway.api.context import CONTEXT
from gateway.api.route import operation
from gateway.api.users import store_profile, stored_profile
from gateway.channels.relay_urls import is_ivs_channel
from gateway.ports.errors import IvsRefused, StoreUnavailable, StoreUnusable
from gateway.ports.stores import IvsChannelInfo, IvsChannels

log = structlog.get_logger(__name__)

IVS: Final[web.AppKey[IvsChannels]] = web.AppKey("ivs")
_STATUS: Final = {"missing": 404, "conflict": 409, "full": 409, "invalid": 400, "denied": 502}
_FIELDS: Final = ("channelType", "rtmpURL", "streamKey", "playURL")
_TYPES: Final = ("IVS", "EML", "CUSTOM")
_MAX_TEXT: Final = 2_048  # characters of a field
_MEMBER: Final = "ivs"  # the member of the profile


def _with_ivs(handle: Callable[[web.Request, IvsChannels], Awaitable[Any]]) -> Handler:
    """Returns a handler that answers with the result of `handle`, or with the reason of the failure for operators."""

    @functools.wraps(handle)
    async def handler(request: web.Request) -> web.Response:
        try:
            return answer(await handle(request, request.app[IVS]))
        except StoreUnusable as error:
            return refusal(503, f"Amazon IVS is not configured: {error}")
        except StoreUnavailable as error:
            log.warning("IVS unavailable", reason=str(error))
            return refusal(503, "Amazon IVS is not available now", retry_after=error.retry_after)
        except IvsRefused as error:
            return refusal(_STATUS[error.reason], str(error))

    return handler


@operation(list[console_schemas.IvsChannel], statuses=(502, 503))
@_with_ivs
async def index(request: web.Request, ivs: IvsChannels) -> Any:
    """List the IVS channels of the region.

    Sorted by name, without their keys.
    """
    page = await _player_page(request)
    return [_channel_json(channel, page) for channel in await ivs.channels()]


@operation(console_schemas.NewIvsChannel, body=console_schemas.IvsChannelWanted, statuses=(409, 502, 503))
@_with_ivs
async def create(request: web.Request, ivs: IvsChannels) -> Any:
    """Create an IVS channel; only this answer shows its key.

    Only this answer shows its `streamKey`.
    """
    wanted = await read(request, console_schemas.IvsChannelWanted)
    page = await _player_page(request)
    channel = await ivs.create(wanted.name, wanted.type, wanted.latencyMode)
    log.info("IVS channel created", arn=channel.arn)
    return {**_channel_json(channel, page), "streamKey": channel.key}


@operation(console_schemas.DeletedIvsChannel, statuses=(400, 409, 502, 503))
@_with_ivs
async def delete(request: web.Request, ivs: IvsChannels) -> Any:
    """Delete an IVS channel and its keys."""
    arn = request.match_info["arn"]
    if not is_ivs_channel(arn):
        raise BadRequest("expected the ARN of an IVS channel", field="arn")
    await ivs.delete(arn)
    log.info("IVS channel deleted", arn=arn)
    return {"arn": arn, "deleted": True}


async def _player_page(request: web.Request) -> str:
    """Returns the address of the public player page, to which the playback URL is added."""
    return f"{(await request.app[CONTEXT].presenter(request)).addresses.pull}/player.html?url="


def _channel_json(channel: IvsChannelInfo, page: str) -> dict[str, Any]:
    modes = {"type": channel.kind, "latencyMode": channel.latency}
    server = {"ingestEndpoint": channel.endpoint, "rtmpUrl": channel.server if channel.endpoint else ""}
    player = {"playbackUrl": channel.playback_url, "playerUrl": page + quote(channel.playback_url, safe=":/")}
    return {"arn": channel.arn, "name": channel.name, **modes, **server, **player}


@operation(console_schemas.IvsParameters, body=console_schemas.IvsParameters, statuses=(413, 503))
async def store_parameters(request: web.Request) -> web.Response:
    """Store the IVS parameters of the signed-in user.

    Nobody can change the parameters of another user.
    """
    body = await json_object(request)
    for field in ("username", *_FIELDS):
        text_of(body, field, _MAX_TEXT)
    if body["channelType"] not in _TYPES:
        raise BadRequest(f"expected {', '.join(_TYPES)}", field="channelType")
    if body["username"] != request[USER].name:
        return _not_yours()
    parameters = {field: body[field] for field in _FIELDS}
    await store_profile(request, {**await stored_profile(request), _MEMBER: parameters})
    return answer({"username": body["username"], **parameters})


@operation(dict[str, dict[str, str]], statuses=(403, 503))
async def parameters_of(request: web.Request) -> web.Response:
    """Show the IVS parameters of the signed-in user.

    Returns a DynamoDB item: `{"rtmpURL": {"S": "rtmps://…"}, …}`.
    """
    name = request.match_info["username"]
    if name != request[USER].name:
        return _not_yours()
    stored = (await stored_profile(request)).get(_MEMBER)
    if not isinstance(stored, dict):
        raise Missing("no parameters are stored for this user")
    item = {"username": name, **{field: str(stored.get(field, "")) for field in _FIELDS}}
    return answer({field: {"S": text} for field, text in item.items()})


def _not_yours() -> web.Response:
    return refusal(403, "each user can use only the own parameters", field="username")
