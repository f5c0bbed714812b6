"""Profiles: settings of the console and the broadcaster page for the signed-in user. No other user can read them."""

from __future__ import annotations

import json

from aiohttp import web

from gateway.api.answers import answer
from gateway.api.authenticators import PERSON
from gateway.api.body import json_object
from gateway.api.context import CONTEXT
from gateway.ports.errors import TooLarge
from gateway.ports.users import PROFILE, profile_key


async def show(request: web.Request) -> web.Response:
    """Returns the profile; an empty object where nothing was stored."""
    stored = await request.app[CONTEXT].people.store.get(PROFILE, _key(request))
    return answer(stored or {})


async def update(request: web.Request) -> web.Response:
    """Replaces the whole profile. Members that are missing are forgotten."""
    context = request.app[CONTEXT]
    profile = await json_object(request, context.limits.request)
    size = len(json.dumps(profile, separators=(",", ":")))
    if size > context.limits.item > 0:
        raise TooLarge(size, context.limits.item, "the profile")
    await context.people.store.put(PROFILE, _key(request), profile)
    return answer(profile)


def _key(request: web.Request) -> str:
    person = request[PERSON]
    return profile_key(person.kind, person.id)
