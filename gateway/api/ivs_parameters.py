"""The old system's routes for a user's Amazon IVS parameters, which the broadcaster page keeps in the profile."""

from typing import Final

from aiohttp import web

from gateway.api import console_schemas
from gateway.api.answers import BadRequest, Missing, answer, refusal
from gateway.api.authenticators import USER
from gateway.api.body import json_object, text_of
from gateway.api.route import operation
from gateway.api.users import store_profile, stored_profile

_FIELDS: Final = ("channelType", "rtmpURL", "streamKey", "playURL")
_TYPES: Final = ("IVS", "EML", "CUSTOM")
_MAX_TEXT: Final = 2_048  # characters of a field
_MEMBER: Final = "ivs"  # the member of the profile


@operation(console_schemas.IvsParameters, body=console_schemas.IvsParameters, statuses=(413, 503))
async def store(request: web.Request) -> web.Response:
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
async def show(request: web.Request) -> web.Response:
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
