"""Sign-in to the console and sign-out, with the admin token or with a user's name and password."""

from typing import Any, Final

import structlog
from aiohttp import web

from gateway.api import console_schemas
from gateway.api.answers import answer, refusal
from gateway.api.auth import COOKIE, from_own_page, login_of, set_cookie
from gateway.api.authenticators import ADMIN, LOGIN
from gateway.api.body import json_object, text_of
from gateway.api.context import CONTEXT
from gateway.api.login_sessions import ApiUser, LoginSession
from gateway.api.route import operation
from gateway.lib.passwords import MAX_LENGTH
from gateway.ports.errors import StoreUnavailable, TooManyRefusals

log = structlog.get_logger(__name__)

_MAX_TEXT: Final = 4 * MAX_LENGTH  # the admin token may be longer than a password


@operation(console_schemas.LoginState)
async def show(request: web.Request) -> web.Response:
    """The signed-in user, and the ways to sign in.

    The console sends `csrf` back as X-CSRF-Token.
    """
    try:
        login = await login_of(request)
    except StoreUnavailable:
        login = None  # a user can still sign in with the token
    return answer(await _state(request, login))


@operation(console_schemas.LoginState, body=console_schemas.NewLogin, statuses=(401, 403, 413, 429, 503))
async def sign_in(request: web.Request) -> web.Response:
    """Sign in with the admin token, or a user's name and password, and perhaps the code of an app.

    A user with a second factor gets 401 with the field `code` if only the code is missing or wrong. Success opens a
    session. Scripts in the page cannot read its cookie.
    """
    context = request.app[CONTEXT]
    authenticators = context.authenticators
    if not from_own_page(request):
        context.metrics.refused.add("login", "origin")
        return refusal(403, "the request comes from a page of another origin")
    body, wrong = await json_object(request), "the token or password is wrong"
    name, password = text_of(body, "name", 64, ""), text_of(body, "password", _MAX_TEXT, "")
    code = text_of(body, "code", 32, "")
    address = context.client_address(request)
    try:
        user, credential_mark = await _verify(request, name, password, address)
        if user is not None and user.kind == "user" and await _lacks_code(request, user.name, code):
            if not code:
                return refusal(401, "a code of the authenticator app is needed too", field="code")
            user, wrong = None, "the code is wrong or was used already"
    except TooManyRefusals as error:
        context.metrics.refused.add("login", "limited")
        return refusal(429, str(error), retry_after=1)
    if user is not None:
        return await open_session(request, user, credential_mark, answer)
    if seconds := authenticators.record_failure(address, name):
        context.metrics.refused.add("login", "limited")
        return refusal(429, "too many wrong attempts: wait a moment", retry_after=seconds)
    context.metrics.refused.add("login", "wrong")
    return refusal(401, wrong, field="code" if code else None)


async def _lacks_code(request: web.Request, name: str, code: str) -> bool:
    """Whether the user has a second factor and this is no code of it. Raises TooManyRefusals."""
    factors = request.app[CONTEXT].authenticators.second_factors
    return await factors.remaining(name) is not None and not (code and await factors.check(name, code))


async def _verify(request: web.Request, name: str, password: str, address: str) -> tuple[ApiUser | None, str]:
    """Returns the user and the hash of the credential; None and "" if the token or password is wrong."""
    authenticators = request.app[CONTEXT].authenticators
    if authenticators.verify_token(password):
        return ADMIN, await authenticators.credential_mark(ADMIN)
    if not name:
        return None, ""
    account = await authenticators.users.check(name, password, authenticators.new_attempt(address, name))
    return (
        (None, "") if account is None else (ApiUser("user", account.name, account.name, account.rights), account.mark)
    )


async def open_session(request: web.Request, user: ApiUser, credential_mark: str, respond: Any) -> web.Response:
    """Opens a session in the client's browser. respond: makes the response from the JSON value of GET /login."""
    context = request.app[CONTEXT]
    if old_cookie := request.cookies.get(COOKIE):
        await _close(request, old_cookie)
    cookie, login = await context.authenticators.logins.open(user, credential_mark, context.authenticators.clock())
    log.info("signed in", user=user.name, kind=user.kind, peer=context.client_address(request))
    response: web.Response = respond(await _state(request, login))
    max_age = int(context.authenticators.logins.limits.max_age)
    set_cookie(request, response, COOKIE, cookie, max_age, path="/", same_site="Strict")
    return response


@operation(console_schemas.LoginState)
async def sign_out(request: web.Request) -> web.Response:
    """Sign out.

    Does nothing for a bearer token, which has no session.
    """
    login = request.get(LOGIN)
    if login is not None:
        await request.app[CONTEXT].authenticators.logins.close(request.cookies[COOKIE])
        log.info("signed out", user=login.user.name, kind=login.user.kind)
    response = answer(await _state(request, None))
    response.del_cookie(COOKIE, path="/", httponly=True, samesite="Strict")
    return response


async def _close(request: web.Request, cookie: str) -> None:
    try:
        await request.app[CONTEXT].authenticators.logins.close(cookie)
    except StoreUnavailable as error:
        log.warning("an earlier session stays until it expires", reason=str(error))


async def _state(request: web.Request, login: LoginSession | None) -> dict[str, Any]:
    authenticators = request.app[CONTEXT].authenticators
    return {
        "user": None if login is None else _user_json(login.user),
        "csrf": None if login is None else login.csrf,
        "oidc": None if authenticators.provider is None else {"name": authenticators.provider.name},
        "users": await authenticators.has_users(),
    }


def _user_json(user: ApiUser) -> dict[str, Any]:
    return {"name": user.name, "kind": user.kind, "role": str(user.rights.role)}
