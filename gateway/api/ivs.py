"""Amazon IVS channels of this account, as targets for relays: listed, created and deleted from the console."""

from __future__ import annotations

import re
from typing import Any, Final

import structlog
from aiohttp import web

from gateway.api.answers import BadRequest, answer, refusal
from gateway.api.body import json_object
from gateway.api.context import CONTEXT, Context
from gateway.channels.relay_urls import is_ivs_channel
from gateway.ports.errors import IvsRefused, StoreUnavailable, StoreUnusable
from gateway.ports.stores import IvsChannelInfo, IvsChannels

log = structlog.get_logger(__name__)

KINDS: Final = ("STANDARD", "BASIC", "ADVANCED_SD", "ADVANCED_HD")
LATENCIES: Final = ("LOW", "NORMAL")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{0,128}", re.ASCII)
_STATUS: Final = {"missing": 404, "conflict": 409, "full": 409, "invalid": 400, "denied": 502}


async def index(request: web.Request) -> web.Response:
    """Returns the channels of the configured region by name, without their keys."""
    return await _asking(request.app[CONTEXT], _list)


async def create(request: web.Request) -> web.Response:
    """Creates a channel. Only this answer shows its `streamKey`."""
    context = request.app[CONTEXT]
    body = await json_object(request, context.limits.request)
    name = body.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadRequest("expected at most 128 letters, digits, - and _", field="name")
    kind, latency = _one_of(body, "type", KINDS), _one_of(body, "latencyMode", LATENCIES)

    async def make(ivs: IvsChannels) -> Any:
        made = await ivs.create(name, kind, latency)
        log.info("IVS channel created", arn=made.arn)
        return {**_shown(made), "streamKey": made.key}

    return await _asking(context, make)


async def delete(request: web.Request) -> web.Response:
    """Deletes the channel and its keys."""
    arn = request.match_info["arn"]
    if not is_ivs_channel(arn):
        raise BadRequest("expected the ARN of an IVS channel", field="arn")

    async def remove(ivs: IvsChannels) -> Any:
        await ivs.delete(arn)
        log.info("IVS channel deleted", arn=arn)
        return {"arn": arn, "deleted": True}

    return await _asking(request.app[CONTEXT], remove)


async def _list(ivs: IvsChannels) -> Any:
    return [_shown(channel) for channel in await ivs.channels()]


async def _asking(context: Context, ask: Any) -> web.Response:
    """Returns the result of `ask`, or the obstacle in words, because an operator reads them."""
    if context.ivs is None:
        return refusal(503, "this node has no Amazon IVS")
    try:
        return answer(await ask(context.ivs))
    except StoreUnusable as error:
        return refusal(503, f"Amazon IVS is not set up here: {error}")
    except StoreUnavailable as away:
        log.warning("IVS away", reason=str(away))
        return refusal(503, "Amazon IVS does not answer now", retry_after=away.retry_after)
    except IvsRefused as refused:
        return refusal(_STATUS[refused.reason], str(refused))


def _one_of(body: dict[str, Any], field: str, values: tuple[str, ...]) -> str:
    value = body.get(field, values[0])
    if value not in values:
        raise BadRequest(f"expected {', '.join(values)}", field=field)
    return str(value)


def _shown(channel: IvsChannelInfo) -> dict[str, Any]:
    return {
        "arn": channel.arn,
        "name": channel.name,
        "type": channel.kind,
        "latencyMode": channel.latency,
        "ingestEndpoint": channel.endpoint,
        "rtmpUrl": channel.server if channel.endpoint else "",
        "playbackUrl": channel.playback_url,
    }
