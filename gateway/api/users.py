"""Users of the console, who sign in with a name and a password, the profile of the signed-in user, and API tokens.

An administrator has the same rights as the admin token; a broadcaster may only use some channels; an observer only
reads. A profile
has settings of the console and the broadcaster page. No other user can read it.
Administrators make the tokens, for scripts.
"""

import json
import time
from typing import Any

import structlog
from aiohttp import web

from gateway.api import console_schemas
from gateway.api.answers import BadRequest, answer
from gateway.api.authenticators import USER
from gateway.api.body import json_object, text_of
from gateway.api.context import CONTEXT
from gateway.api.login_sessions import ApiUser
from gateway.api.route import operation
from gateway.api.settings_events import record_change
from gateway.channels.expiry import is_never, parse_outdate
from gateway.channels.stores import find_channel
from gateway.lib.rfc3339 import rfc3339
from gateway.ports.api_tokens import ApiToken
from gateway.ports.errors import InvalidField, NoSuchUser, TooLarge
from gateway.ports.users import PROFILE, ConsoleUser, Rights, UserRole, profile_key, rights_value

log = structlog.get_logger(__name__)


@operation(list[console_schemas.User], statuses=(503,))
async def index(request: web.Request) -> web.Response:
    """List the users of the console.

    Sorted by name, without anything about their passwords.
    """
    authenticators = request.app[CONTEXT].authenticators
    protected = await authenticators.second_factors.names()
    return answer([_user_json(user, user.name in protected) for user in await authenticators.users.list()])


@operation(console_schemas.User, body=console_schemas.NewUser, statuses=(409, 503))
async def create(request: web.Request) -> web.Response:
    """Create a user."""
    context = request.app[CONTEXT]
    body = await json_object(request)
    name, password = text_of(body, "name"), text_of(body, "password")
    rights = await read_rights(request, {"role": UserRole.BROADCASTER, **body}) or Rights(UserRole.BROADCASTER)
    user = await context.authenticators.users.add(name, password, time.time(), rights)
    context.authenticators.drop_users_cache()
    log.info("user created", user=user.name, role=str(user.rights.role), by=request[USER].name)
    await record_change(request, "user", "created", user.name)
    return answer(_user_json(user))


@operation(console_schemas.User, body=console_schemas.UserChanges, statuses=(503,))
async def update(request: web.Request) -> web.Response:
    """Change a user's password, role or channels, which ends the user's sessions.

    The sessions end in every browser.
    """
    context = request.app[CONTEXT]
    authenticators = context.authenticators
    body = await json_object(request)
    rights = await read_rights(request, body)
    password = text_of(body, "password") if rights is None or "password" in body else None
    user = await authenticators.users.change(request.match_info["name"], password, time.time(), rights)
    await authenticators.logins.close_all(ApiUser("user", user.name, user.name))
    changed = [name for name, value in (("password", password), ("role", rights)) if value is not None]
    log.info("user changed", user=user.name, changed=changed, role=str(user.rights.role), by=request[USER].name)
    await record_change(request, "user", "changed", user.name, changed)
    return answer(_user_json(user, await authenticators.second_factors.remaining(user.name) is not None))


async def read_rights(request: web.Request, body: dict[str, Any]) -> Rights | None:
    """Returns the rights in a body; None if the body has no role. Raises BadRequest, also for unknown channels."""
    if "role" not in body:
        if "channels" in body:
            raise BadRequest("expected a role besides the channels", field="role")
        return None
    channels = body.get("channels", [])
    if not isinstance(channels, list) or not all(isinstance(id, str) for id in channels):
        raise BadRequest("expected a list of ids", field="channels")
    rights = Rights.checked(text_of(body, "role"), channels)
    for id in rights.channels:
        if await find_channel(request.app[CONTEXT].channels, id) is None:
            raise BadRequest(f"there is no channel {id}", field="channels")
    return rights


@operation(console_schemas.DeletedUser, statuses=(503,))
async def delete(request: web.Request) -> web.Response:
    """Delete a user with sessions and profile."""
    authenticators = request.app[CONTEXT].authenticators
    name = await authenticators.users.delete(request.match_info["name"])
    authenticators.drop_users_cache()
    await authenticators.logins.close_all(ApiUser("user", name, name))
    log.info("user deleted", user=name, by=request[USER].name)
    await record_change(request, "user", "deleted", name)
    return answer({"name": name, "deleted": True})


@operation(console_schemas.SecondFactor, statuses=(503,))
async def reset_second_factor(request: web.Request) -> web.Response:
    """Remove the second factor of a user who has lost the phone and the recovery codes."""
    authenticators, name = request.app[CONTEXT].authenticators, request.match_info["name"]
    user = await authenticators.users.find(name)
    if user is None:
        raise NoSuchUser(name[:64])
    await authenticators.second_factors.remove(user.name)
    log.info("second factor removed", user=user.name, by=request[USER].name)
    await record_change(request, "user", "changed", user.name, ["secondFactor"])
    return answer({"on": False, "recoveryCodes": 0})


@operation(console_schemas.Profile, statuses=(503,))
async def profile(request: web.Request) -> web.Response:
    """Show the profile of the signed-in user.

    Returns an empty object if nothing is stored.
    """
    return answer(await stored_profile(request))


@operation(console_schemas.Profile, body=console_schemas.Profile, statuses=(413, 503))
async def update_profile(request: web.Request) -> web.Response:
    """Replace the profile of the signed-in user; nobody else can read it.

    Members that are missing in the request are removed.
    """
    profile = await json_object(request)
    await store_profile(request, profile)
    return answer(profile)


async def stored_profile(request: web.Request) -> dict[str, Any]:
    """Returns the profile of the signed-in user; {} if nothing is stored."""
    return await request.app[CONTEXT].authenticators.store.get(PROFILE, _profile_key(request)) or {}


async def store_profile(request: web.Request, profile: dict[str, Any]) -> None:
    """Replaces the profile of the signed-in user. Raises TooLarge."""
    context = request.app[CONTEXT]
    size = len(json.dumps(profile, separators=(",", ":")))
    if size > context.limits.item > 0:
        raise TooLarge(size, context.limits.item, "the profile")
    await context.authenticators.store.put(PROFILE, _profile_key(request), profile)


def _profile_key(request: web.Request) -> str:
    user = request[USER]
    return profile_key(user.kind, user.id)


def _user_json(user: ConsoleUser, second_factor: bool = False) -> dict[str, Any]:
    times = {"created": rfc3339(user.created), "changed": rfc3339(user.changed)}
    return {"name": user.name, **rights_value(user.rights), **times, "secondFactor": second_factor}


@operation(list[console_schemas.ApiToken], statuses=(503,))
async def tokens(request: web.Request) -> web.Response:
    """List the tokens for scripts, without their secrets."""
    return answer([_token_json(token) for token in await request.app[CONTEXT].authenticators.tokens.list()])


@operation(console_schemas.CreatedToken, body=console_schemas.NewToken, statuses=(409, 503))
async def create_token(request: web.Request) -> web.Response:
    """Create a token for a script. Only this answer has the token itself."""
    body = await json_object(request)
    rights = await read_rights(request, body)
    if rights is None:
        raise BadRequest("expected administrator, broadcaster or observer", field="role")
    expires = _token_end(body.get("expires"))
    secret, token = await request.app[CONTEXT].authenticators.tokens.add(text_of(body, "name"), rights, expires)
    log.info("API token created", name=token.name, id=token.id, role=str(rights.role), by=request[USER].name)
    await record_change(request, "token", "created", token.name)
    return answer({**_token_json(token), "token": secret})


def _token_end(value: Any) -> float:
    """Returns the end of a new token in seconds since 1970; 0: never. Raises InvalidField."""
    if value is None or value == "":
        return 0.0
    try:
        seconds = parse_outdate(value)
    except InvalidField as error:
        raise InvalidField("expires", error.message) from None
    return 0.0 if is_never(seconds) else max(seconds, 1.0)  # 1970 is not never


@operation(console_schemas.RevokedToken, statuses=(503,))
async def revoke_token(request: web.Request) -> web.Response:
    """Revoke a token. It ends at once on all nodes."""
    id = request.match_info["id"]
    name = await request.app[CONTEXT].authenticators.tokens.revoke(id)
    log.info("API token revoked", name=name, id=id, by=request[USER].name)
    await record_change(request, "token", "deleted", name)
    return answer({"id": id, "revoked": True})


def _token_json(token: ApiToken) -> dict[str, Any]:
    times = {"created": token.created, "expires": token.expires, "used": token.used}
    shown = {name: rfc3339(time) if time else None for name, time in times.items()}
    return {"id": token.id, "name": token.name, **rights_value(token.rights), **shown}
