"""Asks the operator's service over HTTP whether a client may push or play, in the words of nginx-rtmp or SRS.

nginx-rtmp: `on_publish`, `on_play` (github.com/arut/nginx-rtmp-module/wiki/Directives#notify).
SRS: `on_publish`, `on_play` (ossrs.io/lts/en-us/docs/v6/doc/http-callback).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus, unquote_plus, urlencode, urlsplit

import structlog

from gateway.lib.metrics import Counter
from gateway.lib.quota import Quota
from gateway.lib.tasks import Tasks, awaited
from gateway.ports.auth_hook import HookAction, HookRequest
from gateway.ports.errors import AtCapacity
from gateway.settings.models import AuthSettings

if TYPE_CHECKING:
    import aiohttp

log = structlog.get_logger(__name__)

MAX_ANSWER: Final = 65_536  # bytes that are read of an answer
MAX_NAME: Final = 255  # characters of a name; longer ones are refused unasked
MAX_QUERY: Final = 2_048  # characters of the client's parameters, likewise
MAX_CONNECTIONS: Final = 64
MAX_WAITING: Final = 1_000  # questions
MAX_WAITING_OF_ADDRESS: Final = 64  # questions
ATTEMPTS: Final = 2
_NO_ANSWER: Final = "no answer"


class HttpAuthHook(AbstractAsyncContextManager["HttpAuthHook"]):
    """An AuthHook: use it with `async with`.

    Clients with the same question share one request. A request without an answer, with a status of 5xx or with an
    answer of another program is repeated once. Redirects are not followed: in nginx-rtmp's form they name another
    stream. `results` counts the answers by action and result. A service that does not answer is logged once until it
    answers.
    The operator sets the addresses, so they may be private.
    """

    def __init__(
        self,
        settings: AuthSettings,
        results: Counter,
        *,
        user_agent: str = "Millrace",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._urls = {HookAction.PUBLISH: settings.publish, HookAction.PLAY: settings.play}
        self._is_srs, self._timeout = settings.format == "srs", settings.timeout
        self._results, self._user_agent, self._tls = results, user_agent, tls
        self._clients = itertools.count(1)  # ids; the services only show them
        self._waiting: dict[HookRequest, asyncio.Task[str | None]] = {}
        self._tasks = Tasks("auth hook", awaited)
        self._of_address = Quota(MAX_WAITING_OF_ADDRESS)
        self._silent = False  # a missing answer is already logged
        self._session: aiohttp.ClientSession | None = None

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()
        if self._session is not None:
            await self._session.close()

    def asks(self, action: HookAction) -> bool:
        return bool(self._urls[action])

    async def ask(self, request: HookRequest, *, exempt: bool = False) -> str | None:
        if not 0 < len(request.name) <= MAX_NAME or not request.name.isprintable():
            return None
        if len(request.details.query) > MAX_QUERY:
            return None
        task = self._waiting.get(request)
        if task is None:
            if len(self._waiting) >= MAX_WAITING:
                raise AtCapacity("too many clients wait for the auth hook")
            if not exempt and not self._of_address.take(request.address):
                raise AtCapacity("too many clients of this address wait for the auth hook")
            task = self._waiting[request] = self._tasks.start(self._ask(request))
            task.add_done_callback(lambda done: self._asked(request, exempt))
        return await asyncio.shield(task)  # a client that leaves must not end the question of others

    def _asked(self, request: HookRequest, exempt: bool) -> None:
        del self._waiting[request]
        if not exempt:
            self._of_address.give(request.address)

    async def _ask(self, request: HookRequest) -> str | None:
        for _ in range(ATTEMPTS):
            name, reason = await self._send(request)
            if not reason:
                break
        if reason and not self._silent:
            host = urlsplit(self._urls[request.action]).hostname
            log.warning("the auth hook does not answer: its clients are refused", host=host, reason=reason)
        self._silent = bool(reason)
        result = _NO_ANSWER if reason else "refused" if name is None else "allowed"
        self._results.add(str(request.action), result)
        return name

    async def _send(self, request: HookRequest) -> tuple[str | None, str]:
        """Asks once. Returns the allowed name, and why there is no answer; "" if there is one."""
        import aiohttp  # imported only if there is a hook

        from gateway.adapters.operator_http import open_session

        if self._session is None:
            self._session = open_session(self._timeout, MAX_CONNECTIONS, self._tls, self._user_agent)
        client = str(next(self._clients))
        if self._is_srs:
            body, kind = json.dumps(srs_body(request, client)), "application/json"
        else:
            body, kind = nginx_body(request, client), "application/x-www-form-urlencoded"
        headers = {"Content-Type": kind}
        url = self._urls[request.action]
        try:
            async with self._session.post(url, data=body.encode(), headers=headers, allow_redirects=False) as response:
                if response.status >= 500:
                    return None, f"status {response.status}"
                name = None if self._is_srs else nginx_answer(response.status, response.headers, request.name)
                if name is None and 300 <= response.status < 400:  # mostly that of a proxy, to https or to a login
                    return None, f"status {response.status}: a redirect to no stream"
                if not self._is_srs:
                    return name, ""
                answer = await _read(response)
        except TimeoutError:
            return None, f"no answer within {self._timeout:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return None, type(error).__name__  # the text may have the address, which may contain a token
        if response.status == 200 and _json(answer) is None:
            return None, "its answer is not JSON"
        return (request.name if is_srs_permission(response.status, answer) else None), ""


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Returns the body; b"" if it is too long."""
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_ANSWER:
            return b""
    return bytes(body)


def nginx_body(request: HookRequest, client: str) -> str:
    """Returns the form of nginx-rtmp: its fields in its order, then the parameters of the client's address."""
    details, name = request.details, request.name
    fields = {
        "app": details.app,
        "flashver": details.encoder,
        "swfurl": "",
        "tcurl": details.tc_url,
        "pageurl": "",
        "addr": request.address,
        "clientid": client,
        "call": str(request.action),
        "name": name,
    }
    if request.action is HookAction.PUBLISH:
        fields["type"] = "live"
    else:
        fields |= {"start": "0", "duration": "0", "reset": "0"}
    # A parameter with the name of a field would replace it in many services.
    more = [part for part in details.query.split("&") if part and _field_name(part) not in fields]
    return "&".join([urlencode(fields, quote_via=quote_plus), *more])


def _field_name(parameter: str) -> str:
    """Returns the name under which a service may find a parameter: PHP reads `+name[]` as `name`."""
    return unquote_plus(parameter.partition("=")[0]).strip().partition("[")[0].lower()


def nginx_answer(status: int, headers: Mapping[str, str], name: str) -> str | None:
    """Returns the allowed name by nginx-rtmp's rules: 2xx allows, 3xx names another stream, other statuses refuse.

    A redirect without a plain name refuses: this gateway does not relay a push to the address of an answer.
    """
    if 200 <= status < 300:
        return name
    if not 300 <= status < 400:
        return None
    other = headers.get("Location", "").partition("?")[0]
    return other if other and "/" not in other and ":" not in other else None


def srs_body(request: HookRequest, client: str) -> dict[str, str]:
    """Returns the JSON of SRS."""
    details = request.details
    host = urlsplit(details.tc_url).hostname or "__defaultVhost__"
    body = {
        "server_id": "millrace",
        "service_id": "millrace",
        "action": f"on_{request.action}",
        "client_id": client,
        "ip": request.address,
        "vhost": "__defaultVhost__",
        "app": details.app,
        "tcUrl": details.tc_url,
        "stream": request.name,
        "param": f"?{details.query}" if details.query else "",
        "stream_url": f"{host}/{details.app}/{request.name}",
        "stream_id": request.name,
    }
    return body if request.action is HookAction.PUBLISH else {**body, "pageUrl": ""}


def is_srs_permission(status: int, answer: bytes) -> bool:
    """Whether SRS would take the answer as a permission: status 200 with `0`, or with an object whose `code` is 0."""
    if status != 200:
        return False
    value = _json(answer)
    code = value.get("code") if isinstance(value, dict) else value
    return type(code) is int and code == 0


def _json(text: bytes) -> Any:
    """Returns the value; None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
