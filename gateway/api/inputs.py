"""The inputs of a channel: shows and stores the list, shows pictures of them, and puts one on air by hand."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import structlog
from aiohttp import web

from gateway.api.answers import Conflict, Missing, answer
from gateway.api.body import json_array
from gateway.api.channels import author, stored_channel
from gateway.api.context import CONTEXT, Context
from gateway.api.slate_pictures import judge_pictures
from gateway.channels.channel import Channel
from gateway.channels.channel_events import channel_changed
from gateway.channels.inputs import (
    FIELD,
    InputKind,
    InputSpec,
    backup_subject,
    masked_address,
    parse_inputs,
    restore_addresses,
    stored_inputs,
)
from gateway.inputs.channel_input import InputState
from gateway.inputs.channel_inputs import ChannelInputs
from gateway.ports.errors import NoSuchStream

log = structlog.get_logger(__name__)

_OFF: Final = {"state": str(InputState.OFF), "error": None}


def states_json(inputs: ChannelInputs, id: str) -> dict[str, Any]:
    """Returns the states of a channel's inputs on this node, for this API and for other nodes."""
    states = {name: {"state": str(state), "error": error} for name, (state, error) in inputs.states(id).items()}
    return {"states": states, "taken": inputs.taken(id)}


def take_here(inputs: ChannelInputs, id: str, name: str | None) -> None:
    """Puts an input on air by hand, if this node holds the stream; None: the choice is automatic again.

    Raises NoSuchStream if it does not hold the stream, Missing for an unknown name, Conflict if the input delivers
    nothing.
    """
    if not inputs.holds(id):
        raise NoSuchStream(id)
    try:
        inputs.take(id, name)
    except KeyError:
        raise Missing(f"the channel has no input {str(name)[:64]}") from None
    except NoSuchStream:
        raise Conflict(f"the input {name} delivers no media now") from None
    log.info("input taken", channel=id, input=name)


async def show(request: web.Request) -> web.Response:
    """Returns the inputs with their states."""
    return await _answer_inputs(request, await stored_channel(request))


async def update(request: web.Request) -> web.Response:
    """Replaces the list of inputs. It applies at once, also while the channel is live."""
    context = request.app[CONTEXT]
    body = await json_array(request, context.limits.request)
    channel = await stored_channel(request)
    before = stored_inputs(channel.item)
    specs = parse_inputs(restore_addresses(body, before))
    await judge_pictures(context.objects, specs, before)
    if specs != before:
        changes = {FIELD: [spec.stored() for spec in specs]}
        channel = await context.channels.update(channel.id, changes)
        context.drop_cached(channel.id)
        context.hub.channel_changed(channel)
        await context.cluster.changed(channel.id)
        log.info("inputs changed", channel=channel.id, inputs=[spec.name for spec in specs])
        context.events.emit(channel_changed(channel, context.clock(), author(request), changes))
    return await _answer_inputs(request, channel)


async def take(request: web.Request) -> web.Response:
    """Puts an input on air by hand. It stays on air while it delivers, until another choice."""
    return await _take(request, request.match_info["name"])


async def release(request: web.Request) -> web.Response:
    """Lets the gateway choose the input on air again."""
    return await _take(request, None)


async def _take(request: web.Request, name: str | None) -> web.Response:
    context = request.app[CONTEXT]
    channel = await stored_channel(request)
    if name is not None:
        _check_name(channel, name)
    try:
        take_here(context.inputs, channel.id, name)
    except NoSuchStream:
        query = {} if name is None else {"name": name}
        if await context.cluster.ask(channel.id, "take", "POST", **query) is None and name is not None:
            raise Conflict(f"{channel.id} is not live, or has only one input") from None
    return await _answer_inputs(request, channel)


async def preview(request: web.Request) -> web.Response:
    """Returns a picture of the newest key frame of an input. The node that holds the stream makes it."""
    context = request.app[CONTEXT]
    channel, name = await stored_channel(request), request.match_info["name"]
    _check_name(channel, name)
    if context.previews.holds(channel.id):
        picture = await context.previews.picture(channel.id, name)
    else:
        found = await context.cluster.ask(channel.id, "preview", name=name)
        if found is None:
            raise Missing(f"{channel.id} is not live")
        picture = base64.b64decode(found["jpeg"])
    return web.Response(body=picture, content_type="image/jpeg")


def _check_name(channel: Channel, name: str) -> None:
    """Raises Missing if the channel has no input of this name."""
    if all(spec.name != name for spec in stored_inputs(channel.item)):
        raise Missing(f"the channel has no input {name[:64]}")


async def _answer_inputs(request: web.Request, channel: Channel) -> web.Response:
    context = request.app[CONTEXT]
    reported = states_json(context.inputs, channel.id)
    if not reported["states"]:
        reported = await context.cluster.ask(channel.id, "inputs") or reported
    push_url = str((await context.presenter(request)).present(channel, context.clock())["pushUrl"])
    return answer([_input_json(context, channel, spec, reported, push_url) for spec in stored_inputs(channel.item)])


def _input_json(
    context: Context, channel: Channel, spec: InputSpec, reported: Mapping[str, Any], push_url: str
) -> dict[str, Any]:
    """Returns an input as the API shows it. push_url: of the channel's push, with its key."""
    item = {**spec.stored(), **reported["states"].get(spec.name, _OFF), "taken": reported["taken"] == spec.name}
    if spec.url:
        item["url"] = masked_address(spec.url)
    match spec.kind:
        case InputKind.PUSH:
            item |= {"key": channel.key, "pushUrl": push_url}
        case InputKind.BACKUP:
            key = context.secrets.sign(backup_subject(channel.id, spec.name), channel.expires)
            item |= {"key": key, "pushUrl": f"{push_url.partition('?')[0]}?sign={key}&input={spec.name}"}
    return item
