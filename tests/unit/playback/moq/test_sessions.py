"""A session of MoQ that reads nothing is ended in time, and before the library keeps too much for it."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import moq
import pytest

from gateway.lib.viewer_memory import ViewerMemory
from gateway.live.stream import StreamState
from gateway.playback.moq.listener import MoqListener, MoqSession

BEGIN = 1_000_000.0  # later than any monotonic time of this machine's test run


@dataclass
class Rig:
    """A session of a stream. sent: bytes that the library has sent."""

    sent: int = 0
    ended: bool = False
    stalled: int = 0
    output: Any = field(init=False)
    session: MoqSession = field(init=False)

    def __init__(self, memory: int = 0, written: int = 0) -> None:
        self.output = SimpleNamespace(
            written=written,
            memory=ViewerMemory(memory),
            count_sent=lambda size: None,
            count_stalled=self._count_stalled,
            leave=lambda viewer: None,
        )
        stream: Any = SimpleNamespace(state=StreamState.LIVE)
        request: Any = None
        self.session = MoqSession(stream, self.output, request, 30.0)
        library: Any = SimpleNamespace(stats=lambda: SimpleNamespace(bytes_sent=self.sent), shutdown=self._shutdown)
        self.session.session = library
        self.session._read_at = self.session._looked_at = BEGIN

    def _count_stalled(self) -> None:
        self.stalled += 1

    def _shutdown(self) -> None:
        self.ended = True

    def run(self, seconds: int, *, sent: int, written: int) -> int:
        """Ticks once a second. sent, written: bytes in each. Returns the seconds until the session was ended."""
        for second in range(1, seconds + 1):
            self.sent += sent
            self.output.written += written
            self.session.tick(BEGIN + second)
            if self.ended:
                return second
        return 0


def test_a_session_that_reads_is_kept():
    rig = Rig(written=100_000_000)
    assert rig.run(100, sent=2_000, written=600_000) == 0, "sound alone"
    assert rig.output.memory.bytes == 0


def test_a_session_that_asks_for_nothing_is_ended_after_the_stall_limit():
    rig = Rig()
    assert rig.run(100, sent=10, written=1_000) == 31
    assert (rig.session.reason, rig.stalled) == ("reads nothing", 1)


def test_a_session_without_reads_is_ended_when_the_library_keeps_too_much():
    rig = Rig(written=100_000_000)
    assert rig.run(100, sent=0, written=1_000_000) == 5
    rig.session.left()
    assert rig.output.memory.bytes == 0


def test_a_session_without_reads_is_ended_when_the_memory_of_viewers_is_used():
    rig = Rig(memory=2_500_000)
    assert rig.run(100, sent=0, written=1_000_000) == 3
    assert rig.output.memory.bytes == 3_000_000
    rig.session.left()
    assert rig.output.memory.bytes == 0


def test_a_session_of_a_stream_that_lingers_is_kept():
    rig = Rig()
    rig.session.stream.state = StreamState.LINGERING  # type: ignore[misc]
    assert rig.run(100, sent=0, written=0) == 0


async def test_sessions_above_the_limit_are_refused_while_others_wait_or_play(monkeypatch: pytest.MonkeyPatch):
    """The library tells no address, so the limit is for all clients together."""
    monkeypatch.setattr(moq, "Request", lambda inner: inner)
    waiting: list[Any] = []
    refused: list[int] = []
    arriving = [SimpleNamespace(cancel=lambda n=n: refused.append(n)) for n in range(5)]

    async def accept() -> Any:
        return arriving.pop(0) if arriving else None

    listener: Any = MoqListener.__new__(MoqListener)
    listener._server, listener._closing, listener._most, listener._requests = (
        SimpleNamespace(accept=accept),
        False,
        3,
        0,
    )
    listener._services = SimpleNamespace(tasks=SimpleNamespace(start=lambda serving, name: waiting.append(serving)))
    await listener._accept()
    assert (len(waiting), refused, listener.connections) == (3, [3, 4], 3)
    for serving in waiting:
        serving.close()
