"""The inputs of a channel: shows and stores the list, shows pictures of them, and puts one on air by hand."""

from typing import Any, Final

import structlog
from aiohttp import web

from gateway.api import session_schemas
from gateway.api.answers import Conflict, Missing, answer
from gateway.api.body import json_array
from gateway.api.channels import change, stored_channel
from gateway.api.context import CONTEXT, Context
from gateway.api.presenter import Presenter
from gateway.api.route import operation
from gateway.api.settings_events import record_change
from gateway.channels.channel import Channel
from gateway.channels.inputs import (
    FIELD,
    InputKind,
    InputSpec,
    backup_subject,
    masked_address,
    stored_inputs,
)
from gateway.inputs.channel_input import InputState
from gateway.inputs.previews import InputPreviews
from gateway.ports.errors import NoSuchStream

log = structlog.get_logger(__name__)

PREVIEWS: Final = web.AppKey("previews", InputPreviews)


@operation(list[session_schemas.Input])
async def show(request: web.Request) -> web.Response:
    """The inputs of a channel, with their states and push addresses."""
    return await _answer_inputs(request, await stored_channel(request))


@operation(list[session_schemas.Input], body=list[session_schemas.NewInput])
async def update(request: web.Request) -> web.Response:
    """Replace the list of inputs of a channel.

    It applies at once, also while the channel is live.
    """
    body = await json_array(request)
    return await _answer_inputs(request, await change(request, {FIELD: body}))


@operation(list[session_schemas.Input], statuses=(409,))
async def take(request: web.Request) -> web.Response:
    """Put an input on air by hand.

    It stays on air while it delivers, until another choice.
    """
    return await _take(request, request.match_info["name"])


@operation(list[session_schemas.Input])
async def release(request: web.Request) -> web.Response:
    """Choose the input on air automatically again."""
    return await _take(request, None)


async def _take(request: web.Request, name: str | None) -> web.Response:
    """Puts an input on air by hand; None: the choice is automatic again.

    Raises Missing for an unknown name, and Conflict if the input delivers nothing.
    """
    inputs, channel = request.app[CONTEXT].inputs, await stored_channel(request)
    if name is not None:
        _check_name(channel, name)
    if inputs.holds(channel.id):
        try:
            inputs.take(channel.id, name)
        except KeyError:
            raise Missing(f"the channel has no input {str(name)[:64]}") from None
        except NoSuchStream:
            raise Conflict(f"the input {name} delivers no media now") from None
        log.info("input taken", channel=channel.id, input=name)
        if name is None:
            await record_change(request, "inputs", "released", channel=channel.id)
        else:
            await record_change(request, "input", "taken", name, channel=channel.id)
    elif name is not None:
        raise Conflict(f"{channel.id} is not live, or has only one input")
    return await _answer_inputs(request, channel)


@operation("image/jpeg")
async def preview(request: web.Request) -> web.Response:
    """A picture of an input.

    It is the newest key frame.
    """
    previews = request.app[PREVIEWS]
    channel, name = await stored_channel(request), request.match_info["name"]
    _check_name(channel, name)
    if not previews.holds(channel.id):
        raise Missing(f"{channel.id} is not live")
    return web.Response(body=await previews.make_picture(channel.id, name), content_type="image/jpeg")


def _check_name(channel: Channel, name: str) -> None:
    """Raises Missing if the channel has no input of this name."""
    if all(spec.name != name for spec in stored_inputs(channel.item)):
        raise Missing(f"the channel has no input {name[:64]}")


async def _answer_inputs(request: web.Request, channel: Channel) -> web.Response:
    context = request.app[CONTEXT]
    presenter = await context.presenter(request)
    return answer([_input_json(context, presenter, channel, spec) for spec in stored_inputs(channel.item)])


def _input_json(context: Context, presenter: Presenter, channel: Channel, spec: InputSpec) -> dict[str, Any]:
    """Returns an input as the API shows it."""
    state, error = context.inputs.states(channel.id).get(spec.name, (InputState.OFF, None))
    taken = context.inputs.taken(channel.id) == spec.name
    item = {**spec.stored(), "state": str(state), "error": error, "taken": taken}
    if spec.url:
        item["url"] = masked_address(spec.url)
    if presenter.observed:  # without keys and push addresses
        return item | ({"picture": masked_address(spec.picture)} if spec.picture else {})
    match spec.kind:
        case InputKind.PUSH:
            item |= _addresses(presenter, channel, {"sign": channel.key})
        case InputKind.BACKUP:
            key = context.secrets.sign(backup_subject(channel.id, spec.name), channel.expires)
            item |= _addresses(presenter, channel, {"sign": key, "input": spec.name})
    return item


def _addresses(presenter: Presenter, channel: Channel, fields: dict[str, str]) -> dict[str, Any]:
    """Returns the key of a push or a backup, and where to push. fields: see `Presenter.push_urls`."""
    urls = presenter.push_urls(channel, fields)
    return {"key": fields["sign"], "pushUrl": urls["rtmp"], "pushUrls": urls}
