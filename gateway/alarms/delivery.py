"""Delivers messages: one queue for each target, with retries, so that a slow target delays no other."""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final

import structlog

from gateway.alarms import web_services
from gateway.alarms.fault import AlarmMessage, short
from gateway.channels.message_target import DeliveryFailed, Target, parse
from gateway.lib import bounded_json
from gateway.lib.backoff import Backoff
from gateway.lib.egress import Egress, EgressRefused
from gateway.lib.metrics import Counter
from gateway.lib.outgoing import os_error_text
from gateway.lib.redact import mask
from gateway.lib.tasks import Tasks

log = structlog.get_logger(__name__)

SECONDS: Final = 10.0  # for one attempt
MAX_WAITING: Final = 50  # messages of one target; beyond that, the oldest is dropped
GIVE_UP_AFTER: Final = 3_600.0  # seconds since a message was queued
_PAUSE: Final = 60.0  # longest pause between two attempts, seconds
_FLUSH: Final = 5.0  # seconds for sending the waiting messages at shutdown
_MAX_ANSWER: Final = 4_000  # bytes of an answer that are read
_RETRY: Final = frozenset({408, 425, 429})  # besides 5xx


class Delivery(AbstractAsyncContextManager["Delivery"]):
    """Sends messages to targets. Use as `async with`. `results` counts delivered, failed and dropped messages.

    bases: replaces the addresses of services with one known host, in tests.
    """

    def __init__(
        self,
        egress: Egress,
        results: Counter,
        tls: ssl.SSLContext | None = None,
        *,
        bases: Mapping[str, str] | None = None,
        seconds: float = SECONDS,
        first_pause: float = 1.0,
    ) -> None:
        self._egress, self._results, self._tls = egress, results, tls
        self._bases, self._seconds, self._first_pause = bases or {}, seconds, first_pause
        self._waiting: dict[str, deque[AlarmMessage]] = {}  # by address
        self._tasks = Tasks("alarm messages")
        self._closed = False

    async def __aexit__(self, *error: object) -> None:
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH):
                await self._tasks.idle()
        await self._tasks.close()
        if waiting := sum(map(len, self._waiting.values())):
            log.warning("alarm messages not delivered before the shutdown", messages=waiting)
            self._results.add("dropped", amount=waiting)

    def queue(self, address: str, message: AlarmMessage) -> None:
        """Queues a message; returns at once."""
        if self._closed:
            self._results.add("dropped")
            return
        waiting = self._waiting.get(address)
        if waiting is None:
            waiting = self._waiting[address] = deque()
            self._tasks.start(self._send_all(address, waiting), parse(address).service)
        elif len(waiting) >= MAX_WAITING:
            del waiting[1]  # the first one is being sent
            self._results.add("dropped")
            log.warning("an alarm message is dropped: its target is too slow or away", target=parse(address).shown)
        waiting.append(message)

    async def _send_all(self, address: str, waiting: deque[AlarmMessage]) -> None:
        target = parse(address)
        try:
            while waiting:
                self._results.add(await self._deliver(target, waiting[0]))
                waiting.popleft()
        finally:
            if not waiting:
                del self._waiting[address]

    async def _deliver(self, target: Target, message: AlarmMessage) -> str:
        """Sends one message until an attempt succeeds or retries end. Returns a label of `results`."""
        backoff, began = Backoff(self._first_pause, _PAUSE), time.monotonic()
        while True:
            try:
                await self.send(target, message)
                log.info("alarm sent", rule=message.rule, kind=message.kind, state=message.state, target=target.shown)
                return "delivered"
            except DeliveryFailed as error:
                pause = backoff.next()
                if error.is_final or time.monotonic() + pause - began > GIVE_UP_AFTER:
                    log.warning("alarm failed", rule=message.rule, target=target.shown, reason=str(error))
                    return "failed"
                log.info("alarm is tried again", rule=message.rule, target=target.shown, reason=str(error))
            except Exception as error:  # the same message would fail again, and the others wait behind it
                log.error("alarm failed", rule=message.rule, target=target.shown, exc_info=error)
                return "failed"
            await asyncio.sleep(pause)

    async def send(self, target: Target, message: AlarmMessage) -> str:
        """Makes one attempt and returns the answer in words. Raises DeliveryFailed."""
        where = target.host or web_services.base(target).partition("://")[2]
        final = False
        try:
            if target.service == "smtp":
                from gateway.alarms import mail  # imported only if it is used

                self._tls = self._tls or ssl.create_default_context()
                answer = await mail.send(target, message, self._egress, self._tls, self._seconds)
                return self._clean(target, f"{where} accepted the mail: {answer}")
            status, body = await self._request(target, message)
            if 200 <= status < 300:
                return f"{where} accepted the message (status {status})"
            text, final = f"status {status}: {body or 'no reason'}", status < 500 and status not in _RETRY
        except DeliveryFailed as error:
            text, final = str(error), error.is_final
        except EgressRefused as error:
            raise DeliveryFailed(str(error), True) from None  # it names the host
        except TimeoutError:
            text = f"no answer within {self._seconds:g} s"
        except OSError as error:
            text = os_error_text(error)
        except ValueError as error:
            text = type(error).__name__
        raise DeliveryFailed(self._clean(target, f"{where}: {text}"), final)

    async def _request(self, target: Target, message: AlarmMessage) -> tuple[int, str]:
        """Sends a request. Returns the status, and the reason in the answer."""
        import aiohttp  # imported here, because it takes 8 MB
        import yarl

        from gateway.lib.egress_connector import EgressConnector

        request = web_services.request(target, message)
        base = self._bases.get(target.service) or web_services.base(target)
        url = yarl.URL(base + request.path, encoded=True)
        # A session for each request: alarms are rare, and no connection stays open.
        try:
            async with (
                aiohttp.ClientSession(
                    connector=EgressConnector(self._egress, ssl=self._tls or True),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=self._seconds),
                    headers={"User-Agent": "Millrace"},
                ) as session,
                session.request(
                    request.method, url, json=request.body, headers=request.headers, allow_redirects=False
                ) as response,
            ):
                body = await response.content.read(_MAX_ANSWER)
                return response.status, _reason(body.decode("utf-8", "replace"))
        except aiohttp.ClientConnectorCertificateError as error:
            raise DeliveryFailed(f"the server's certificate is not trusted: {error.certificate_error}", False) from None
        except OSError:
            raise
        except aiohttp.ClientError as error:
            raise DeliveryFailed(type(error).__name__, False) from None

    @staticmethod
    def _clean(target: Target, text: str) -> str:
        """Removes secrets, which a server may repeat."""
        for secret in target.secrets:
            text = text.replace(secret, "***")
        return mask(text)


def _reason(body: str) -> str:
    """Returns the error in an answer: Discord's `message`, Telegram's `description`, ntfy's and Matrix's `error`."""
    try:
        value = bounded_json.loads(body)
    except ValueError:
        return short(body)
    if isinstance(value, dict):
        for name in ("description", "message", "error"):
            if isinstance(value.get(name), str):
                return short(value[name])
    return ""
