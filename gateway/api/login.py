"""Sign-in to the console and sign-out, with the admin token or with a name and password, and the account of a user.

Users with a password change their own password and second factor.
"""

import time
from typing import Any, Final

import structlog
from aiohttp import web

from gateway.api import console_schemas
from gateway.api.answers import Conflict, answer, refusal
from gateway.api.auth import cookie_name, foreign_page, login_of, session_cookie, set_cookie
from gateway.api.authenticators import ADMIN, LOGIN, USER
from gateway.api.body import json_object, text_of
from gateway.api.context import CLIENT, CONTEXT
from gateway.api.login_sessions import ApiUser, LoginSession
from gateway.api.route import operation
from gateway.api.settings_events import record_change
from gateway.lib.passwords import MAX_LENGTH
from gateway.lib.totp import key_uri
from gateway.ports.errors import InvalidField, StoreUnavailable, TooManyRefusals
from gateway.ports.users import UserRole

log = structlog.get_logger(__name__)

_MAX_TEXT: Final = 4 * MAX_LENGTH  # the admin token may be longer than a password
_ISSUER: Final = "Millrace"
_MAX_CODE: Final = 32


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
    if other := foreign_page(request):
        context.metrics.refused.add("login", "origin")
        return refusal(403, other)
    body, wrong = await json_object(request), "the token or password is wrong"
    name, password = text_of(body, "name", 64, ""), text_of(body, "password", _MAX_TEXT, "")
    code = text_of(body, "code", 32, "")
    address = request[CLIENT].address
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
    if old_cookie := session_cookie(request):
        await _close(request, old_cookie)
    cookie, login = await context.authenticators.logins.open(user, credential_mark, context.authenticators.clock())
    log.info("signed in", user=user.name, kind=user.kind, peer=request[CLIENT].address)
    response: web.Response = respond(await _state(request, login))
    max_age = int(context.authenticators.logins.limits.max_age)
    set_cookie(request, response, cookie_name(request), cookie, max_age, path="/", same_site="Strict")
    return response


@operation(console_schemas.LoginState)
async def sign_out(request: web.Request) -> web.Response:
    """Sign out.

    Does nothing for a bearer token, which has no session.
    """
    login = request.get(LOGIN)
    if login is not None:
        await request.app[CONTEXT].authenticators.logins.close(session_cookie(request))
        log.info("signed out", user=login.user.name, kind=login.user.kind)
    response = answer(await _state(request, None))
    response.del_cookie(cookie_name(request), path="/", httponly=True, samesite="Strict")
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
    shown: dict[str, Any] = {"name": user.name, "kind": user.kind, "role": str(user.rights.role)}
    return {**shown, "channels": list(user.rights.channels)} if user.rights.role is UserRole.OBSERVER else shown


@operation(console_schemas.LoginState, body=console_schemas.OwnPassword, statuses=(403, 409, 429, 503))
async def change_password(request: web.Request) -> web.Response:
    """Change the own password.

    The old one is asked for. The other sessions of the user end, and this browser gets a new one.
    """
    authenticators, user = request.app[CONTEXT].authenticators, _own(request)
    body = await json_object(request)
    new = text_of(body, "new")
    if refused := await _check_password(request, text_of(body, "old", MAX_LENGTH), "old"):
        return refused
    try:
        account = await authenticators.users.change(user.name, new, time.time())
    except InvalidField as error:
        raise InvalidField("new", error.message) from None
    await authenticators.logins.close_all(user)
    log.info("password changed", user=user.name)
    await record_change(request, "user", "changed", user.name, ["password"])
    return await open_session(request, ApiUser("user", user.name, user.name, account.rights), account.mark, answer)


@operation(console_schemas.SecondFactor, statuses=(409, 503))
async def second_factor(request: web.Request) -> web.Response:
    """Whether the user has a second factor, and how many recovery codes are left."""
    left = await request.app[CONTEXT].authenticators.second_factors.remaining(_own(request).name)
    return answer({"on": left is not None, "recoveryCodes": left or 0})


@operation(console_schemas.NewSecondFactor, body=console_schemas.OnePassword, statuses=(403, 409, 429, 503))
async def begin_second_factor(request: web.Request) -> web.Response:
    """Get a new secret for an authenticator app.

    `uri` is for a QR code. The factor counts after the first code of the app (PUT).
    """
    user = _own(request)
    body = await json_object(request)
    if refused := await _check_password(request, text_of(body, "password", MAX_LENGTH), "password"):
        return refused
    secret = await request.app[CONTEXT].authenticators.second_factors.begin(user.name)
    return answer({"secret": secret, "uri": key_uri(secret, user.name, _ISSUER)})


@operation(console_schemas.RecoveryCodes, body=console_schemas.OneCode, statuses=(403, 409, 429, 503))
async def confirm_second_factor(request: web.Request) -> web.Response:
    """Make the second factor count, with a code of the app.

    Only this answer has the recovery codes. Each of them replaces one code of the app.
    """
    user, body = _own(request), await json_object(request)
    try:
        factors = request.app[CONTEXT].authenticators.second_factors
        codes = await factors.confirm(user.name, text_of(body, "code", _MAX_CODE))
    except TooManyRefusals as error:
        return refusal(429, str(error), retry_after=60)
    if codes is None:
        return refusal(403, "the code is wrong", field="code")
    log.info("second factor set", user=user.name)
    return answer({"recoveryCodes": codes})


@operation(console_schemas.SecondFactor, body=console_schemas.PasswordAndCode, statuses=(403, 409, 429, 503))
async def end_second_factor(request: web.Request) -> web.Response:
    """Remove the second factor, with the password and a code."""
    user, body = _own(request), await json_object(request)
    factors = request.app[CONTEXT].authenticators.second_factors
    if refused := await _check_password(request, text_of(body, "password", MAX_LENGTH), "password"):
        return refused
    try:
        if not await factors.check(user.name, text_of(body, "code", _MAX_CODE)):
            return refusal(403, "the code is wrong or was used already", field="code")
    except TooManyRefusals as error:
        return refusal(429, str(error), retry_after=60)
    await factors.remove(user.name)
    log.info("second factor removed", user=user.name)
    return answer({"on": False, "recoveryCodes": 0})


def _own(request: web.Request) -> ApiUser:
    """Returns the signed-in user. Raises Conflict for tokens and users without a password here."""
    user = request[USER]
    if user.kind != "user" or LOGIN not in request:
        raise Conflict("only a signed-in user with a password has these settings")
    return user


async def _check_password(request: web.Request, password: str, field: str) -> web.Response | None:
    """Returns the refusal of a wrong password, which counts like one at sign-in; None for the right one."""
    context, user = request.app[CONTEXT], request[USER]
    authenticators, address = context.authenticators, request[CLIENT].address
    try:
        attempt = authenticators.new_attempt(address, user.name)
        account = await authenticators.users.check(user.name, password, attempt)
    except TooManyRefusals as error:
        return refusal(429, str(error), retry_after=1)
    if account is not None:
        return None
    context.metrics.refused.add("login", "wrong")
    if seconds := authenticators.record_failure(address, user.name):
        return refusal(429, "too many wrong attempts: wait a moment", retry_after=seconds)
    return refusal(403, "the password is wrong", field=field)
