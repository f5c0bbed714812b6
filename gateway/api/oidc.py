"""Sign-in through the OpenID Connect provider: RFC 6749 with PKCE, state and nonce.

`start` redirects the browser to the provider. When the browser returns with a code, `callback` checks the code and
opens a session.
"""

import asyncio
import hashlib
import hmac
import html
import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiohttp import web

from gateway.api.answers import Missing
from gateway.api.auth import set_cookie
from gateway.api.context import CLIENT, CONTEXT, Context
from gateway.api.login import open_session
from gateway.api.login_sessions import ApiUser
from gateway.api.openid_provider import OpenIdProvider, said
from gateway.api.route import operation
from gateway.api.tokens import TokenRefused
from gateway.channels.channel import create_item
from gateway.channels.expiry import NEVER_DATE
from gateway.channels.stream_key import SigningSecrets
from gateway.http.origin_policy import host_name
from gateway.lib.attempt_limiter import AttemptLimiter, TooManyAttempts
from gateway.lib.network import is_loopback
from gateway.ports.errors import AtCapacity, ChannelExists, StoreUnavailable

log = structlog.get_logger(__name__)

LIFETIME_SECONDS: Final = 600  # time in which the user must sign in on the provider's pages
_MAX_USED: Final = 10_000  # used sign-ins that are remembered
_MAX_CONCURRENT: Final = 4  # codes that are being checked at the provider
_MAX_TABS: Final = 4  # sign-ins in one browser at a time: its header stays short
_COOKIE: Final = "millrace_oidc"  # the sign-ins with ~ between them, oldest first
_COOKIE_VALUE: Final = re.compile(
    r"([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{43})\.([0-9]{1,12})\.([0-9a-f]{64})"
)
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HOST: Final = re.compile(r"[A-Za-z0-9._\-\[\]:]{1,260}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SignIn:
    """One sign-in; state, nonce and verifier have 256 random bits each.

    verifier: PKCE, RFC 7636. expires: seconds since 1970.
    """

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    expires: int

    def signed_text(self) -> str:
        """Returns the part of the cookie that is signed."""
        return f"{self.state}.{self.nonce}.{self.verifier}.{self.expires}"


class PendingSignIns:
    """Sign-ins that have started, until the browser returns from the provider.

    A signed cookie binds each sign-in to one browser, which can use it once. Nothing is stored when a sign-in starts:
    anybody may start many, and the browser may return to another node. The last 10,000 used sign-ins are stored until
    they expire, so that a client can use each only once.
    """

    def __init__(self, signing: SigningSecrets) -> None:
        """Begins without sign-ins. signing: signs the cookies. Nodes with one secret accept each other's cookies."""
        self._signing = signing
        self._used: OrderedDict[str, int] = OrderedDict()  # expiry of a used sign-in, by its cookie's signature

    def begin(self, now: float) -> tuple[SignIn, str]:
        """Returns a new sign-in, and the cookie for its browser."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        sign_in = SignIn(state, nonce, verifier, int(now) + LIFETIME_SECONDS)
        text = sign_in.signed_text()
        return sign_in, f"{text}.{_signature(text, self._signing.current)}"

    def redeem(self, cookie: str, state: str, now: float) -> SignIn | None:
        """Returns the sign-in in the cookie, and marks it as used.

        Returns None if the cookie or `state` is wrong, or the sign-in has expired or was used.
        """
        match = _COOKIE_VALUE.fullmatch(cookie)
        if match is None or not state:
            return None
        sign_in, signature = SignIn(match[1], match[2], match[3], int(match[4])), match[5]
        keys = (self._signing.current, self._signing.previous)
        genuine = [hmac.compare_digest(_signature(sign_in.signed_text(), key), signature) for key in keys if key]
        if not any(genuine) or not hmac.compare_digest(sign_in.state.encode(), state.encode("utf-8", "surrogatepass")):
            return None
        if sign_in.expires < now or signature in self._used:
            return None
        self._used[signature] = sign_in.expires
        while self._used and (len(self._used) > _MAX_USED or next(iter(self._used.values())) < now):
            self._used.popitem(last=False)
        return sign_in


def _signature(text: str, secret: str) -> str:
    """Returns the signature of a sign-in.

    The signed text begins with `oidc sign-in `, so signatures of stream keys and uploads are not valid here.
    """
    return hmac.new(
        secret.encode("utf-8", "surrogatepass"), f"oidc sign-in {text}".encode(), hashlib.sha256
    ).hexdigest()


_PENDING: Final = web.AppKey("pending sign-ins", PendingSignIns)
_CODE_CHECKS: Final = web.AppKey("returns from the provider", AttemptLimiter)
_OWN_CHANNELS: Final = web.AppKey("creation of own channels", asyncio.Lock)
_SIGNED_UP_BY: Final = "signedUpBy"  # the channel field with the name of the user who signed up


def set_up(app: web.Application, context: Context) -> None:
    """Adds the state of the sign-ins to the application. The end of the application closes the provider's client."""
    app[_PENDING] = PendingSignIns(context.secrets)
    app[_CODE_CHECKS] = AttemptLimiter(_MAX_CONCURRENT)
    app[_OWN_CHANNELS] = asyncio.Lock()
    app.on_cleanup.append(_close_provider)


async def _close_provider(app: web.Application) -> None:
    if (provider := app[CONTEXT].authenticators.provider) is not None:
        await provider.close()


@operation("text/html", status=302, statuses=(404, 503), other_answers=((503, "text/html"),))
async def start(request: web.Request) -> web.StreamResponse:
    """Go to the sign-in provider.

    A cookie stores the values that the callback needs.
    """
    provider = _provider(request)
    sign_in, cookie = request.app[_PENDING].begin(request.app[CONTEXT].clock())
    try:
        url = await provider.start(_redirect_uri(request), sign_in.state, sign_in.nonce, sign_in.verifier)
    except StoreUnavailable as error:
        return _page(503, error.public)
    response = web.Response(status=302, headers={"Location": url})
    _keep(request, response, [*_started(request), cookie])
    return response


@operation(
    "text/html",
    status=303,
    statuses=(403, 404, 429, 503),
    other_answers=((403, "text/html"), (429, "text/html"), (503, "text/html")),
    query=(("code", "from the provider"), ("state", "from the provider"), ("error", "from the provider")),
)
async def callback(request: web.Request) -> web.StreamResponse:
    """Return from the sign-in provider.

    Opens a session, or shows the reason of the refusal.
    """
    context = request.app[CONTEXT]
    provider = _provider(request)
    started, state = _started(request), request.query.get("state", "")
    redeemed = ((text, request.app[_PENDING].redeem(text, state, context.clock())) for text in started)
    used, sign_in = next((found for found in redeemed if found[1] is not None), ("", None))
    response: web.StreamResponse
    try:
        response = await _finish(request, provider, sign_in)
    except TokenRefused as refused:
        response = _refuse(request, str(refused))
    except TooManyAttempts:
        context.metrics.refused.add("login", "limited")
        response = _page(429, "too many sign-ins are in progress: try again", 1)
    except AtCapacity as error:
        response = _page(503, str(error))
    except StoreUnavailable as error:
        log.warning("nobody can sign in with the provider now", reason=str(error))
        response = _page(503, error.public)  # the store's own message has paths and table names
    _keep(request, response, [text for text in started if text != used])  # those of other tabs
    return response


def _started(request: web.Request) -> list[str]:
    """Returns the sign-ins that the tabs of a browser have started, as its cookie has them, oldest first."""
    return [text for text in request.cookies.get(_COOKIE, "").split("~") if _COOKIE_VALUE.fullmatch(text)][-_MAX_TABS:]


def _keep(request: web.Request, response: web.StreamResponse, started: list[str]) -> None:
    if started:
        # Lax, because the browser returns from the provider's page. Only these paths receive it.
        value = "~".join(started[-_MAX_TABS:])
        set_cookie(request, response, _COOKIE, value, LIFETIME_SECONDS, path="/oidc", same_site="Lax")
    else:
        response.del_cookie(_COOKIE, path="/oidc")


async def _finish(request: web.Request, provider: OpenIdProvider, sign_in: SignIn | None) -> web.StreamResponse:
    context = request.app[CONTEXT]
    code, error = (request.query.get(name, "") for name in ("code", "error"))
    if sign_in is None:
        raise TokenRefused("this sign-in was not started here, or took too long: try again")
    if error or not code:
        raise TokenRefused("the provider refused the sign-in" + (f" ({_printable(error)})" if error else ""))
    # Only the provider can check a code. A few are checked at a time; addresses with wrong attempts come last.
    async with request.app[_CODE_CHECKS].turn(context.authenticators.new_attempt(request[CLIENT].address)):
        user = await provider.finish(_redirect_uri(request), code[:4096], sign_in.nonce, sign_in.verifier)
    if own := provider.own_channel(user):
        await _create_own_channel(request, user, own, provider.sign_up)
    return await open_session(request, user, provider.credential_mark, _redirect_home)


async def _create_own_channel(request: web.Request, user: ApiUser, id: str, limit: int) -> None:
    """Creates a user's channel, unless it exists.

    limit: the maximum number of such channels. Sign-ins at several nodes at the same moment may exceed this number.

    Raises AtCapacity, StoreUnavailable.
    """
    context = request.app[CONTEXT]
    if await context.channels.get_many([id]):  # also one whose row cannot be read
        return
    async with request.app[_OWN_CHANNELS]:
        if sum(_SIGNED_UP_BY in channel.item for channel in await context.channels.list()) >= limit:
            log.warning("a user cannot sign up: oidc.sign_up is reached", user=user.name, limit=limit)
            raise AtCapacity("no more people can sign up here")
        # Viewers see this name. So only the part of an e-mail address before the @ is used.
        name = user.name.partition("@")[0]
        body = {"videoname": name, "outdate": NEVER_DATE, "isHls": True, _SIGNED_UP_BY: user.name}
        item = create_item(body, context.clock(), context.secrets, context.limits.item, id)
        try:
            await context.changes.create(item, {"by": user.name, "peer": request[CLIENT].address})
        except ChannelExists:
            return  # another sign-in of this user has just created it


def _refuse(request: web.Request, message: str) -> web.Response:
    """Returns the page for a refused sign-in. An address over its limit gets 429, which is not logged."""
    context = request.app[CONTEXT]
    address = request[CLIENT].address
    if seconds := context.authenticators.record_failure(address):
        context.metrics.refused.add("login", "limited")
        return _page(429, "too many wrong attempts: wait a moment", seconds)
    context.metrics.refused.add("login", "oidc")
    # The description is only in the log: a link could show any text on the page.
    told = {"provider": text} if (text := said(request.query)) else {}
    log.info("sign-in refused", reason=message, peer=address, **told)
    return _page(403, message)


def _redirect_home(state: dict[str, Any]) -> web.Response:
    return web.Response(status=303, headers={"Location": "/"})


def _provider(request: web.Request) -> OpenIdProvider:
    provider = request.app[CONTEXT].authenticators.provider
    if provider is None:
        raise Missing("no sign-in provider is configured (oidc.issuer)")
    return provider


def _redirect_uri(request: web.Request) -> str:
    """Returns the address to which the provider sends the browser. It has to be registered there."""
    client = request[CLIENT]
    host = client.host if _HOST.fullmatch(client.host) else "localhost"
    name = host_name(f"//{host}")
    # A proxy may terminate TLS without a forwarded header. Browsers send this header only over TLS and to this machine.
    is_local = is_loopback(name) or name.endswith(".localhost")
    scheme = "https" if "Sec-Fetch-Site" in request.headers and not is_local else client.scheme
    return f"{scheme}://{host}/oidc/callback"


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isalnum() or c in "_- ")[:60]


def _page(status: int, message: str, retry_after: int = 0) -> web.Response:
    """Returns an HTML page for a user who followed a link, without the console's script."""
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<title>Millrace</title><link rel="icon" href="/console/players/icon.svg" type="image/svg+xml">'
        '<link rel="stylesheet" href="/console/players/tokens.css">'
        '<link rel="stylesheet" href="/console/app/style.css"><main>'
        f"<h1>Signing in did not work</h1><p>{html.escape(message)}.</p>"
        '<p><a href="/">Back to the console</a></p></main></html>\n'
    )
    headers = {"Content-Security-Policy": _POLICY}
    if retry_after:
        headers["Retry-After"] = str(retry_after)
    return web.Response(status=status, text=page, content_type="text/html", headers=headers)
