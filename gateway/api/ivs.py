"""Lists, creates and deletes Amazon IVS channels of this account, for the console. They are targets for relays."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import web

from gateway.api import console_schemas
from gateway.api.answers import BadRequest, answer, refusal
from gateway.api.body import read
from gateway.api.context import CONTEXT, Context
from gateway.api.route import operation
from gateway.channels.relay_urls import is_ivs_channel
from gateway.ports.errors import IvsRefused, StoreUnavailable, StoreUnusable
from gateway.ports.stores import IvsChannelInfo, IvsChannels

log = structlog.get_logger(__name__)

_STATUS: Final = {"missing": 404, "conflict": 409, "full": 409, "invalid": 400, "denied": 502}


@operation(list[console_schemas.IvsChannel], statuses=(502, 503))
async def index(request: web.Request) -> web.Response:
    """List the IVS channels of the region.

    Sorted by name, without their keys.
    """
    page = await _player_page(request)

    async def list_channels(ivs: IvsChannels) -> Any:
        return [_channel_json(channel, page) for channel in await ivs.channels()]

    return await _answer_with(request.app[CONTEXT], list_channels)


@operation(console_schemas.NewIvsChannel, body=console_schemas.IvsChannelWanted, statuses=(409, 502, 503))
async def create(request: web.Request) -> web.Response:
    """Create an IVS channel; only this answer shows its key.

    Only this answer shows its `streamKey`.
    """
    wanted = await read(request, console_schemas.IvsChannelWanted)
    page = await _player_page(request)

    async def create_channel(ivs: IvsChannels) -> Any:
        channel = await ivs.create(wanted.name, wanted.type, wanted.latencyMode)
        log.info("IVS channel created", arn=channel.arn)
        return {**_channel_json(channel, page), "streamKey": channel.key}

    return await _answer_with(request.app[CONTEXT], create_channel)


@operation(console_schemas.DeletedIvsChannel, statuses=(400, 409, 502, 503))
async def delete(request: web.Request) -> web.Response:
    """Delete an IVS channel and its keys."""
    arn = request.match_info["arn"]
    if not is_ivs_channel(arn):
        raise BadRequest("expected the ARN of an IVS channel", field="arn")

    async def delete_channel(ivs: IvsChannels) -> Any:
        await ivs.delete(arn)
        log.info("IVS channel deleted", arn=arn)
        return {"arn": arn, "deleted": True}

    return await _answer_with(request.app[CONTEXT], delete_channel)


async def _player_page(request: web.Request) -> str:
    """Returns the address of the public player page, to which the playback URL is added."""
    return f"{(await request.app[CONTEXT].presenter(request)).addresses.pull}/player.html?url="


async def _answer_with(context: Context, request_ivs: Any) -> web.Response:
    """Answers with the result of `request_ivs`, or with the reason of the failure for the operator."""
    if context.ivs is None:
        return refusal(503, "this node has no Amazon IVS")
    try:
        return answer(await request_ivs(context.ivs))
    except StoreUnusable as error:
        return refusal(503, f"Amazon IVS is not configured: {error}")
    except StoreUnavailable as error:
        log.warning("IVS unavailable", reason=str(error))
        return refusal(503, "Amazon IVS is not available now", retry_after=error.retry_after)
    except IvsRefused as error:
        return refusal(_STATUS[error.reason], str(error))


def _channel_json(channel: IvsChannelInfo, page: str) -> dict[str, Any]:
    return {
        "arn": channel.arn,
        "name": channel.name,
        "type": channel.kind,
        "latencyMode": channel.latency,
        "ingestEndpoint": channel.endpoint,
        "rtmpUrl": channel.server if channel.endpoint else "",
        "playbackUrl": channel.playback_url,
        "playerUrl": page + quote(channel.playback_url, safe=":/"),
    }
