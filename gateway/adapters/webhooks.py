"""Webhooks: posts events as signed JSON to the operator's URL, in order per channel."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import ssl
import time
import uuid
from collections import OrderedDict, deque
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog

from gateway.lib.backoff import Backoff
from gateway.lib.metrics import Counter
from gateway.lib.numbers import read_integer
from gateway.lib.rfc3339 import rfc3339
from gateway.lib.tasks import Tasks
from gateway.ports.events import LOG_ONLY, Event, EventType
from gateway.settings.models import HooksSettings

if TYPE_CHECKING:
    import aiohttp

log = structlog.get_logger(__name__)

SIGNATURE: Final = "X-Millrace-Signature"
MAX_WAITING: Final = 1000  # events: some megabytes, and more than a busy node has while it gives an event up
MAX_ATTEMPTS: Final = 6
GIVE_UP_AFTER: Final = 120.0  # seconds since an event's first attempt
MAX_CONCURRENT: Final = 8  # channels whose posts are sent concurrently
FLUSH: Final = 5.0  # seconds for sending the waiting events at shutdown
_RETRY_STATUSES: Final = frozenset({408, 425, 429})  # besides 5xx: the receiver asks for a retry
_MAX_PAUSE: Final = 30  # seconds between two attempts, also if the receiver names more


@dataclass(frozen=True, slots=True)
class Post:
    """An event as it is sent. All attempts send the same bytes. Receivers detect repetitions by `id`."""

    type: EventType
    channel: str
    body: bytes
    headers: dict[str, str]


def make_post(event: Event, secret: str, id: str) -> Post:
    """Returns the post of an event: `{"id", "type", "time", "channel", "data"}`, signed if `secret` is set.

    time: RFC 3339. data: contains no secrets.
    """
    value = {"id": id, "type": str(event.type), "time": rfc3339(event.time), "channel": event.channel}
    body = json.dumps({**value, "data": event.masked_data()}, default=str, separators=(",", ":")).encode("ascii")
    headers = {"Content-Type": "application/json"}
    if secret:
        headers[SIGNATURE] = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return Post(event.type, event.channel, body, headers)


class Webhooks(AbstractAsyncContextManager["Webhooks"]):
    """A listener of events: `events.listen(hooks.post)` inside `async with Webhooks(…) as hooks`.

    The events of a channel are posted in order. A failed post is retried after increasing pauses (MAX_ATTEMPTS,
    GIVE_UP_AFTER). At most MAX_WAITING events wait; beyond that, the oldest is dropped. Events of refused pushes may
    fill half of the queue, because any client can cause them. `results` counts delivered, rejected, failed and dropped
    events. A drop is logged once until a post succeeds. The operator sets the URL, so it may be a private address.
    """

    def __init__(
        self,
        settings: HooksSettings,
        results: Counter,
        *,
        user_agent: str = "Millrace",
        tls: ssl.SSLContext | None = None,
        backoff_first: float = 1.0,
        flush: float = FLUSH,
    ) -> None:
        self._url, self._secret = settings.url, settings.secret.get_secret_value()
        self._host = urlsplit(settings.url).hostname
        self._timeout, self._results = settings.timeout, results
        self._user_agent, self._tls = user_agent, tls
        self._backoff_first, self._flush = backoff_first, flush
        self._waiting: OrderedDict[str, deque[Post]] = OrderedDict()
        self._order: deque[str] = deque()  # channels, once for each waiting post, oldest first
        self._refused = 0  # waiting posts of refused pushes
        self._quiet = False  # drops are already logged
        self._closed = False
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._tasks = Tasks("webhooks")
        self._session: aiohttp.ClientSession | None = None

    async def __aexit__(self, *error: object) -> None:
        """Sends the waiting events for at most `flush` seconds. The rest is dropped."""
        self._closed = True
        try:
            async with asyncio.timeout(self._flush):
                await self._tasks.idle()
        except TimeoutError:
            log.warning("webhooks not delivered before the shutdown", events=len(self))
        finally:
            await self._tasks.close()
            for _ in self._order:
                self._results.add("dropped")
            self._order.clear()
            if self._session is not None:
                await self._session.close()

    def __len__(self) -> int:
        """Returns the number of waiting events, including those that are being sent."""
        return len(self._order)

    def post(self, event: Event) -> None:
        """Queues an event; returns at once. Ignores the events that only the events log has."""
        if event.type in LOG_ONLY:
            return
        refused = event.type is EventType.PUBLISH_REFUSED
        if self._closed or (refused and self._refused >= max(1, MAX_WAITING // 2)):
            self._count_drop()
            return
        if len(self._order) >= MAX_WAITING:
            self._drop_oldest()
        post = make_post(event, self._secret, str(uuid.uuid4()))
        self._order.append(post.channel)
        self._refused += refused
        queue = self._waiting.get(post.channel)
        if queue is None:
            self._waiting[post.channel] = deque([post])
            self._tasks.start(self._send_all(post.channel), post.channel)
        else:
            queue.append(post)

    def _drop_oldest(self) -> None:
        """Drops the oldest event."""
        queue = self._waiting[self._order[0]]
        self._remove_from_counts(queue.popleft())
        self._count_drop()

    def _remove_from_counts(self, post: Post) -> None:
        """Updates the counts after a post was removed from its queue."""
        self._order.remove(post.channel)  # the first: posts of one channel leave in order
        self._refused -= post.type is EventType.PUBLISH_REFUSED

    def _count_drop(self) -> None:
        self._results.add("dropped")
        if not self._quiet:
            self._quiet = True
            log.warning("webhook events are dropped: the receiver is too slow or unavailable", host=self._host)

    async def _send_all(self, channel: str) -> None:
        """Sends a channel's posts in order until its queue is empty."""
        queue = self._waiting[channel]
        try:
            async with self._slots:
                while queue:
                    post = queue[0]
                    result = await self._deliver(post, queue)
                    if queue and queue[0] is post:  # else it was dropped and counted while it was sent
                        queue.popleft()
                        self._remove_from_counts(post)
                        self._results.add(result)
        finally:
            del self._waiting[channel]

    async def _deliver(self, post: Post, queue: deque[Post]) -> str:
        """Sends the first post of a queue until an attempt succeeds or retries end. Returns a label of `results`."""
        backoff, began, reason = Backoff(self._backoff_first, _MAX_PAUSE), time.monotonic(), ""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            wait, reason = await self._send(post)
            if not reason:
                self._quiet = False
                return "delivered"
            pause = max(backoff.next(), wait or 0)
            if wait is None or attempt == MAX_ATTEMPTS or time.monotonic() + pause - began > GIVE_UP_AFTER:
                break
            await asyncio.sleep(pause)
            if not queue or queue[0] is not post:
                return "dropped"
        log.warning("webhook failed", host=self._host, type=str(post.type), channel=post.channel, reason=reason)
        return "rejected" if wait is None else "failed"

    async def _send(self, post: Post) -> tuple[int | None, str]:
        """Sends a post once. Returns the least seconds before a retry, and the error, or "" if the post succeeded.

        None: no retry.
        """
        import aiohttp  # imported only if webhooks are used

        from gateway.adapters.operator_http import open_session

        if self._session is None:
            self._session = open_session(self._timeout, MAX_CONCURRENT, self._tls, self._user_agent)
        try:
            request = self._session.post(self._url, data=post.body, headers=post.headers, allow_redirects=False)
            async with request as response:
                status, named = response.status, response.headers.get("Retry-After", "")
        except TimeoutError:
            return 0, f"no answer within {self._timeout:g} s"
        except aiohttp.InvalidURL:  # its text is the address, which may contain a token
            return None, "the address cannot be used"
        except aiohttp.ClientResponseError as error:  # as above
            return 0, f"the answer is not HTTP: {' '.join(error.message.split())[:200]}"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return 0, f"{type(error).__name__}: {error}"
        except Exception as error:  # the same post would fail again, and the others wait behind it
            log.error("a webhook cannot be sent", host=self._host, type=str(post.type), exc_info=error)
            return None, type(error).__name__
        if 200 <= status < 300:
            return None, ""
        if status < 500 and status not in _RETRY_STATUSES:
            return None, f"status {status}"
        pause = read_integer(named or "0", _MAX_PAUSE)  # RFC 9110 §10.2.3; a date counts as the longest pause
        return _MAX_PAUSE if pause is None else pause, f"status {status}"
