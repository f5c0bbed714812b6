"""The memory of answers that clients have not read yet, within the limit for all viewers."""

from collections import Counter
from collections.abc import Callable
from functools import partial

from gateway.lib.viewer_memory import ViewerMemory


class UnsentAnswers:
    """Counts the unsent bytes of one server. Clients that read the same answer from memory share its bytes.

    memory: the limit; None: there is none.
    """

    def __init__(self, memory: ViewerMemory | None) -> None:
        self._memory = memory
        self._clients: Counter[int] = Counter()  # by identity of the shared bytes

    def hold(self, own: int, shared: bytes | None) -> Callable[[], None] | None:
        """Counts the unsent bytes of one client. Returns the function that ends the count; None: too many bytes.

        own: bytes that only this client has. shared: bytes that other clients may have too.
        """
        clients = 0 if shared is None else self._clients[id(shared)]
        size = own if shared is None or clients else own + len(shared)
        if self._memory is not None and size:
            if size > self._memory.left:
                return None
            self._memory.bytes += size
        if shared is not None:
            self._clients[id(shared)] = clients + 1
        return partial(self._release, own, shared)

    def _release(self, own: int, shared: bytes | None) -> None:
        # The caller's `partial` refers to the shared bytes, so no other bytes have their identity meanwhile.
        size = own
        if shared is not None:
            self._clients[id(shared)] -= 1
            if not self._clients[id(shared)]:
                del self._clients[id(shared)]
                size += len(shared)
        if self._memory is not None:
            self._memory.bytes -= size

    def stall_limit(self, seconds: float) -> float:
        """Returns the seconds after which a client that does not read is disconnected."""
        return seconds if self._memory is None else self._memory.stall_limit(seconds)
