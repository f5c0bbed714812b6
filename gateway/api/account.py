"""Users with a password change their own password and second factor."""

import time
from typing import Final

import structlog
from aiohttp import web

from gateway.api import console_schemas
from gateway.api.answers import Conflict, answer, refusal
from gateway.api.authenticators import LOGIN, USER
from gateway.api.body import json_object, text_of
from gateway.api.context import CONTEXT
from gateway.api.login import open_session
from gateway.api.login_sessions import ApiUser
from gateway.api.route import operation
from gateway.lib.passwords import MAX_LENGTH
from gateway.lib.totp import key_uri
from gateway.ports.errors import TooManyRefusals

log = structlog.get_logger(__name__)

_ISSUER: Final = "Millrace"
_MAX_CODE: Final = 32


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
    account = await authenticators.users.change(user.name, new, time.time())
    await authenticators.logins.close_all(user)
    log.info("password changed", user=user.name)
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
    authenticators, address = context.authenticators, context.client_address(request)
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
