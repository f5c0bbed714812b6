"""Lists, creates and deletes Amazon IVS channels of this account, for the console. They are targets for relays."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote

import structlog
from aiohttp import web

from gateway.api.answers import BadRequest, answer, refusal
from gateway.api.body import json_object
from gateway.api.context import CONTEXT, Context
from gateway.channels.relay_urls import is_ivs_channel
from gateway.ports.errors import IvsRefused, StoreUnavailable, StoreUnusable
from gateway.ports.stores import IvsChannelInfo, IvsChannels

log = structlog.get_logger(__name__)

TYPES: Final = ("STANDARD", "BASIC", "ADVANCED_SD", "ADVANCED_HD")
LATENCIES: Final = ("LOW", "NORMAL")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{0,128}", re.ASCII)
_STATUS: Final = {"missing": 404, "conflict": 409, "full": 409, "invalid": 400, "denied": 502}


async def index(request: web.Request) -> web.Response:
    """Returns the channels of the configured region, sorted by name, without their keys."""
    page = await _player_page(request)

    async def list_channels(ivs: IvsChannels) -> Any:
        return [_channel_json(channel, page) for channel in await ivs.channels()]

    return await _answer_with(request.app[CONTEXT], list_channels)


async def create(request: web.Request) -> web.Response:
    """Creates a channel. Only this answer shows its `streamKey`."""
    context = request.app[CONTEXT]
    body = await json_object(request, context.limits.request)
    name = body.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadRequest("expected at most 128 letters, digits, - and _", field="name")
    kind, latency = _one_of(body, "type", TYPES), _one_of(body, "latencyMode", LATENCIES)

    page = await _player_page(request)

    async def create_channel(ivs: IvsChannels) -> Any:
        channel = await ivs.create(name, kind, latency)
        log.info("IVS channel created", arn=channel.arn)
        return {**_channel_json(channel, page), "streamKey": channel.key}

    return await _answer_with(context, create_channel)


async def delete(request: web.Request) -> web.Response:
    """Deletes the channel and its keys."""
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


def _one_of(body: dict[str, Any], field: str, values: tuple[str, ...]) -> str:
    value = body.get(field, values[0])
    if value not in values:
        raise BadRequest(f"expected {', '.join(values)}", field=field)
    return str(value)


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
