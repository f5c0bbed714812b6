"""Joins the same request of any number of callers into one request to another node."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Final, Generic, TypeVar

from gateway.http.request import RequestError
from gateway.lib.gate import Gate
from gateway.lib.tasks import Tasks, awaited
from gateway.ports.errors import AtCapacity

_MAX_REQUESTS: Final = 4_096  # concurrent
# Concurrent, for one group (of a stream), so that invented requests do not harm other groups.
_MAX_PER_GROUP: Final = 128

T = TypeVar("T")


class TruncatedBody(RequestError):
    """A body that is forwarded while it arrives is incomplete.

    The connection is closed, so that the client detects this.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(503, reason)


class SharedRequest(Generic[T]):
    """One running request, shared by its followers. The work is a task. It returns the result for all followers.

    While it runs, the work may call `open` to forward a body that still arrives, and then `add` its chunks. A late
    follower gets the earlier chunks first.
    """

    def __init__(self, key: Hashable, group: Hashable) -> None:
        self.key = key
        self.group = group
        self.followers = 0
        self.head: T | None = None  # the answer without its body; set when the body is forwarded
        self.task: asyncio.Task[T] | None = None
        self._chunks: list[bytes] = []
        self._gate = Gate()

    # ---- for the work ----

    def open(self, head: T) -> None:
        """Lets followers get the body while it arrives. head: the answer without its body."""
        self.head = head
        self._gate.open()

    def add(self, chunk: bytes) -> None:
        """Adds a chunk of the body. Without `open`, followers get it only at the end."""
        self._chunks.append(chunk)
        if self.head is not None:
            self._gate.open()

    @property
    def body(self) -> bytes:
        """All chunks that were added."""
        return b"".join(self._chunks)

    def ended(self) -> None:
        """Lets the followers see that the task has ended. Only RequestCoalescer calls it."""
        self._gate.open()

    # ---- for the followers ----

    @property
    def done(self) -> bool:
        return self.task is not None and self.task.done()

    async def wait_for_answer(self, seconds: float) -> bool:
        """Waits until the request has ended or has a head. Returns False after `seconds`."""
        return await self._gate.until(lambda: self.done or self.head is not None, seconds)

    @property
    def result(self) -> T:
        """The result of the work. Raises the error that the work raised, or TruncatedBody if it was cancelled."""
        assert self.task is not None, "read before the request has ended"
        if self.task.cancelled():
            raise TruncatedBody("the request was cancelled")
        return self.task.result()

    async def read_chunk(self, index: int, seconds: float) -> bytes | None:
        """Returns a chunk of the forwarded body, or None after the last. Raises TruncatedBody."""
        in_time = await self._gate.until(lambda: self.done or index < len(self._chunks), seconds)
        if index < len(self._chunks):
            return self._chunks[index]
        if not in_time:
            raise TruncatedBody("no data was received for too long")
        try:
            _ = self.result
        except Exception as error:
            raise TruncatedBody(str(error)) from None
        return None


class RequestCoalescer(Generic[T]):
    """The running requests. Use as `async with`.

    Every caller that joins a request must leave it. A request without followers is cancelled. Joining raises
    AtCapacity beyond _MAX_REQUESTS concurrent requests, or beyond _MAX_PER_GROUP of a group. Counters: `started`,
    `collapsed` (callers that joined a running request).
    """

    def __init__(self, name: str) -> None:
        self._running: dict[Hashable, SharedRequest[T]] = {}
        self._groups: Counter[Hashable] = Counter()
        self._tasks = Tasks(name, awaited)
        self.started = 0
        self.collapsed = 0

    async def __aenter__(self) -> RequestCoalescer[T]:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._tasks.close()

    def __len__(self) -> int:
        return len(self._running)

    def join(
        self, key: Hashable, group: Hashable, work: Callable[[SharedRequest[T]], Coroutine[Any, Any, T]]
    ) -> SharedRequest[T]:
        """Returns the running request for `key`. Starts one with `work` if none is running.

        group: its requests share the bound _MAX_PER_GROUP.
        """
        shared = self._running.get(key)
        if shared is not None:
            self.collapsed += 1
        else:
            if len(self._running) >= _MAX_REQUESTS or self._groups[group] >= _MAX_PER_GROUP:
                raise AtCapacity("too many requests are running")
            shared = self._running[key] = SharedRequest(key, group)
            self._groups[group] += 1
            self.started += 1
            shared.task = self._tasks.start(work(shared), str(group))
            shared.task.add_done_callback(partial(self._ended, shared))
        shared.followers += 1
        return shared

    def leave(self, shared: SharedRequest[T], *, keep: bool = False) -> None:
        """Removes a follower. keep: continues the request without followers, because its result will be needed soon."""
        shared.followers -= 1
        if not shared.followers and not keep and not shared.done:
            self._remove(shared)  # the next caller starts another request
            assert shared.task is not None, "`join` has started it"
            shared.task.cancel()

    def _ended(self, shared: SharedRequest[T], task: asyncio.Task[T]) -> None:
        self._remove(shared)
        shared.ended()

    def _remove(self, shared: SharedRequest[T]) -> None:
        if self._running.get(shared.key) is shared:
            del self._running[shared.key]
            self._groups[shared.group] -= 1
            if not self._groups[shared.group]:
                del self._groups[shared.group]


class SharedBody(Generic[T]):
    """The body of an open request for one follower. `aclose` leaves the request."""

    def __init__(self, coalescer: RequestCoalescer[T], shared: SharedRequest[T], seconds: float) -> None:
        self._coalescer = coalescer
        self._shared: SharedRequest[T] | None = shared
        self._seconds = seconds
        self._index = 0

    def __aiter__(self) -> SharedBody[T]:
        return self

    async def __anext__(self) -> bytes:
        if self._shared is None:
            raise StopAsyncIteration
        chunk = await self._shared.read_chunk(self._index, self._seconds)
        if chunk is None:
            raise StopAsyncIteration
        self._index += 1
        return chunk

    async def aclose(self) -> None:
        shared, self._shared = self._shared, None
        if shared is not None:
            self._coalescer.leave(shared)
