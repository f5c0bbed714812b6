"""Users of the console, who sign in with a name and a password. Each has the same rights as the admin token."""

from __future__ import annotations

import time
from typing import Any

import structlog
from aiohttp import web

from gateway.api.answers import BadRequest, answer
from gateway.api.authenticators import PERSON
from gateway.api.body import json_object
from gateway.api.context import CONTEXT
from gateway.api.login_sessions import Person
from gateway.api.sessions import rfc3339
from gateway.ports.users import ConsoleUser

log = structlog.get_logger(__name__)


async def index(request: web.Request) -> web.Response:
    """Returns all users by name, without anything about their passwords."""
    return answer([_shown(user) for user in await request.app[CONTEXT].people.users.list()])


async def create(request: web.Request) -> web.Response:
    context = request.app[CONTEXT]
    body = await json_object(request, context.limits.request)
    user = await context.people.users.add(_text(body, "name"), _text(body, "password"), time.time())
    context.people.forget_users()
    log.info("user created", user=user.name, by=request[PERSON].name)
    return answer(_shown(user))


async def update(request: web.Request) -> web.Response:
    """Sets a new password and ends the user's sessions in every browser."""
    context = request.app[CONTEXT]
    body = await json_object(request, context.limits.request)
    user = await context.people.users.change(request.match_info["name"], _text(body, "password"), time.time())
    await context.people.logins.close_all(Person("user", user.name, user.name))
    log.info("password changed", user=user.name, by=request[PERSON].name)
    return answer(_shown(user))


async def delete(request: web.Request) -> web.Response:
    """Deletes the user with all sessions and the profile."""
    people = request.app[CONTEXT].people
    name = request.match_info["name"]
    await people.users.delete(name)
    people.forget_users()
    await people.logins.close_all(Person("user", name, name))
    log.info("user deleted", user=name, by=request[PERSON].name)
    return answer({"name": name, "deleted": True})


def _shown(user: ConsoleUser) -> dict[str, Any]:
    return {"name": user.name, "created": rfc3339(user.created), "changed": rfc3339(user.changed)}


def _text(body: dict[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str):
        raise BadRequest("expected text", field=field)
    return value
