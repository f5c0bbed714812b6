"""Signing in to the console and out again, with the admin token or with a user's name and password."""

from __future__ import annotations

from typing import Any, Final

import structlog
from aiohttp import web

from gateway.api.answers import BadRequest, answer
from gateway.api.auth import COOKIE, from_own_page, login_of
from gateway.api.authenticators import ADMIN, LOGIN
from gateway.api.body import json_object
from gateway.api.context import CONTEXT
from gateway.api.login_sessions import LoginSession, Person
from gateway.lib.passwords import MAX_LENGTH
from gateway.ports.errors import StoreUnavailable, TooManyRefusals

log = structlog.get_logger(__name__)

_LONGEST: Final = 4 * MAX_LENGTH  # the admin token may be longer than a password


async def show(request: web.Request) -> web.Response:
    """Returns who is signed in and which ways to sign in exist. The console sends `csrf` back as X-CSRF-Token."""
    try:
        login = await login_of(request)
    except StoreUnavailable:
        login = None  # signing in with the token still works
    return answer(await _state(request, login))


async def sign_in(request: web.Request) -> web.Response:
    """Opens a session for the admin token or a user's password. Scripts cannot read its cookie."""
    context = request.app[CONTEXT]
    people = context.people
    if not from_own_page(request):
        context.metrics.refused.add("login", "origin")
        return answer({"error": "this comes from a page of another origin"}, 403)
    body = await json_object(request, context.limits.request)
    name, password = _text(body, "name", 64), _text(body, "password", _LONGEST)
    address = context.client(request)
    try:
        person, mark = await _who(request, name, password, address)
    except TooManyRefusals as error:
        context.metrics.refused.add("login", "limited")
        return answer({"error": str(error)}, 429, {"Retry-After": "1"})
    if person is not None:
        return await begin(request, person, mark, answer)
    if wait := people.wrong(address, name):
        context.metrics.refused.add("login", "limited")
        return answer({"error": "too many wrong tries: wait a while"}, 429, {"Retry-After": str(wait)})
    context.metrics.refused.add("login", "wrong")
    return answer({"error": "the token or password is wrong"}, 401)


async def _who(request: web.Request, name: str, password: str, address: str) -> tuple[Person | None, str]:
    people = request.app[CONTEXT].people
    if people.verify_token(password):
        return ADMIN, await people.mark(ADMIN)
    if not name:
        return None, ""
    user = await people.users.check(name, password, people.trying(address, name))
    return (None, "") if user is None else (Person("user", user.name, user.name), user.mark)


async def begin(request: web.Request, person: Person, mark: str, respond: Any) -> web.Response:
    """Opens a session in the client's browser. `respond` makes the answer from what GET /login will show."""
    context = request.app[CONTEXT]
    if old := request.cookies.get(COOKIE):
        await _close(request, old)
    cookie, login = await context.people.logins.open(person, mark, context.people.clock())
    log.info("signed in", user=person.name, kind=person.kind, peer=context.client(request))
    response: web.Response = respond(await _state(request, login))
    response.set_cookie(
        COOKIE,
        cookie,
        max_age=int(context.people.most),
        path="/",
        secure=context.scheme(request) == "https",
        httponly=True,
        samesite="Strict",
    )
    return response


async def sign_out(request: web.Request) -> web.Response:
    """Ends the session here and in the browser. With a bearer token there is no session, and nothing happens."""
    login = request.get(LOGIN)
    if login is not None:
        await request.app[CONTEXT].people.logins.close(request.cookies[COOKIE])
        log.info("signed out", user=login.person.name, kind=login.person.kind)
    response = answer(await _state(request, None))
    response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
    return response


async def _close(request: web.Request, cookie: str) -> None:
    try:
        await request.app[CONTEXT].people.logins.close(cookie)
    except StoreUnavailable as away:
        log.warning("an earlier session stays until it expires", reason=str(away))


async def _state(request: web.Request, login: LoginSession | None) -> dict[str, Any]:
    people = request.app[CONTEXT].people
    return {
        "user": None if login is None else {"name": login.person.name, "kind": login.person.kind},
        "csrf": None if login is None else login.csrf,
        "oidc": None if people.provider is None else {"name": people.provider.name},
        "users": await people.has_users(),
    }


def _text(body: dict[str, Any], field: str, longest: int) -> str:
    value = body.get(field, "")
    if not isinstance(value, str) or len(value) > longest:
        raise BadRequest(f"expected text of at most {longest} characters", field=field)
    return value
