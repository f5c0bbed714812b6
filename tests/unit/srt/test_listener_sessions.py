"""The sessions of SRT's listener: which conclusions open a connection, and what the others get."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from gateway.lib.refusals import Refusals
from gateway.lib.tasks import Tasks
from gateway.protocols.srt.calling import Caller
from gateway.protocols.srt.connection import SrtConnection
from gateway.protocols.srt.listening import HandshakeRefused
from gateway.protocols.srt.packets import HandshakeExtension, Reject, encode_text
from gateway.protocols.srt.url import LatencyRange
from gateway.srt.link import Direction, SrtLink, SrtUser
from gateway.srt.listener_sessions import MAX_LINKS, SrtServer, SrtSession
from gateway.srt.passphrase_guesses import PassphraseGuesses
from tests.support.waiting import until

ADDRESS = ("192.0.2.1", 5000)


class Lab:
    """A listener and one address of callers. It is the request and the user of each of them.

    sent: to the address. got: payloads by user. closes: why the address was forgotten. begun: links that began.
    told: to requests whose handshake was refused.
    """

    direction = Direction.PUBLISH
    address = ADDRESS[0]

    def __init__(self, tasks: Tasks) -> None:
        self.server = SrtServer(LatencyRange(), self.request, tasks, PassphraseGuesses(Refusals(0)))
        self.sent: list[bytes] = []
        self.closes: list[str] = []
        self.ends: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.begun: list[SrtLink] = []
        self.payloads: list[bytes] = []
        self.told: list[str] = []
        self.abandoned = 0
        self.error: Exception | None = None
        self.may_begin = asyncio.Event()
        self.may_begin.set()
        self.session = SrtSession(self.server, self, ADDRESS)

    def request(self, stream_id: str, address: str) -> Lab:
        self.asked.append((stream_id, address))
        if stream_id == "malformed":
            raise HandshakeRefused(Reject.BAD_REQUEST, "malformed")
        return self

    # ---- the request ----

    async def check(self) -> str:
        await self.may_begin.wait()
        return ""

    def refuse(self, reason: str) -> None:
        self.told.append(reason)

    async def begin(self, link: SrtLink) -> SrtUser:
        if self.error is not None:
            raise self.error
        self.begun.append(link)
        return self

    def abandon(self) -> None:
        self.abandoned += 1

    # ---- the user ----

    def receive(self, payloads: list[bytes], now: float) -> None:
        self.payloads += payloads

    def tick(self, now: float) -> None: ...

    def closed(self, reason: str) -> None:
        self.ends.append(reason)

    # ---- the way to the address ----

    def accept(self) -> None: ...

    def send(self, datagrams: Sequence[bytes]) -> int:
        self.sent += datagrams
        return len(datagrams)

    def close(self, reason: str) -> None:
        self.closes.append(reason)

    # ---- callers ----

    def concluding(self, stream_id: str = "x") -> Caller:
        """A caller whose datagram is a conclusion."""
        caller = Caller(stream_id, 0.12, time.monotonic())
        induction = self.server.answer(caller.datagram, ADDRESS)
        assert induction is not None
        caller.receive(induction, time.monotonic())
        return caller

    def give(self, *datagrams: bytes) -> None:
        self.session.receive(datagrams, [time.monotonic()] * len(datagrams))

    async def call(self, stream_id: str = "x") -> Caller:
        """A caller with its answer. Raises HandshakeRefused."""
        caller, before = self.concluding(stream_id), len(self.sent)
        self.give(caller.datagram)
        await until(lambda: len(self.sent) > before)
        caller.receive(self.sent[-1], time.monotonic())
        return caller


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Lab]:
    crashes: list[str] = []
    async with Tasks("test", lambda name, error: crashes.append(name)) as tasks:
        lab = Lab(tasks)
        yield lab
        lab.session.closed("over")


async def test_a_repeated_conclusion_gets_its_answer_again_and_asks_once() -> None:
    async with listening() as lab:
        caller = await lab.call()
        assert caller.agreement is not None
        conclusion = lab.concluding()
        lab.may_begin.clear()
        lab.give(conclusion.datagram, conclusion.datagram)
        lab.may_begin.set()
        await until(lambda: len(lab.begun) == 2)
        await until(lambda: len(lab.sent) == 2)
        lab.give(conclusion.datagram)
        first, second = lab.sent[1:]
        assert first[16:] == second[16:], "the same agreement, with another time stamp"
        assert len(lab.asked) == len(lab.begun) == 2
        assert lab.asked[0] == ("x", ADDRESS[0])


async def test_a_conclusion_of_another_address_or_without_a_cookie_gets_nothing() -> None:
    async with listening() as lab:
        stranger = Caller("x", 0.12, time.monotonic())
        induction = lab.server.answer(stranger.datagram, ("192.0.2.2", 5000))
        assert induction is not None
        stranger.receive(induction, time.monotonic())
        assert not lab.server.opens(stranger.datagram, ADDRESS)
        assert lab.server.opens(stranger.datagram, ("192.0.2.2", 5000))
        lab.give(stranger.datagram)
        assert not lab.sent and not lab.asked


async def test_an_address_has_a_limit_of_connections() -> None:
    async with listening() as lab:
        for _ in range(MAX_LINKS):
            await lab.call()
        with pytest.raises(HandshakeRefused) as refused:
            await lab.call()
        assert refused.value.code == Reject.RESOURCE
        assert len(lab.session.links) == len(lab.server.ticker) == MAX_LINKS
        assert not lab.closes, "the others stay"


async def test_a_refused_caller_gets_the_code_and_its_address_is_forgotten() -> None:
    async with listening() as lab:
        with pytest.raises(HandshakeRefused) as refused:
            await lab.call("malformed")
        assert refused.value.code == Reject.BAD_REQUEST
        assert lab.closes
        lab.error = HandshakeRefused(Reject.CONFLICT, "in use")
        with pytest.raises(HandshakeRefused) as refused:
            await lab.call()
        assert refused.value.code == Reject.CONFLICT
        assert lab.abandoned == 1
        samples = {sample.labels: sample.value for sample in lab.server.samples() if "refused" in sample.metric.name}
        assert samples["14xx",] == 2


async def test_a_request_learns_why_its_connection_is_unsupported() -> None:
    """The key is checked first, so the owner of the channel learns of it."""
    async with listening() as lab:
        for kind, content in (
            (HandshakeExtension.FILTER, encode_text("fec,cols:10")),
            (HandshakeExtension.GROUP, bytes(8)),
        ):
            caller, before = lab.concluding(), len(lab.sent)
            lab.give(caller.datagram + struct.pack(">HH", kind, len(content) // 4) + content)
            await until(lambda before=before: len(lab.sent) > before)
            with pytest.raises(HandshakeRefused):
                caller.receive(lab.sent[-1], time.monotonic())
        assert [text.split(":")[0] for text in lab.told] == [
            "The encoder uses FEC, a packet filter of SRT",
            "The encoder sends a group of SRT connections, which are not supported",
        ]
        assert not lab.begun and lab.abandoned == 2


async def test_an_internal_error_is_told_as_one_and_leaves_nothing() -> None:
    async with listening() as lab:
        lab.error = RuntimeError("a fault of ours")
        with pytest.raises(HandshakeRefused) as refused:
            await lab.call()
        assert refused.value.code == Reject.UNKNOWN
        assert not lab.session.links and lab.closes and lab.abandoned == 1


async def test_datagrams_of_several_callers_of_an_address_reach_their_links() -> None:
    async with listening() as lab:
        callers = [await lab.call(name) for name in ("a", "b")]
        ends = [SrtConnection(caller.agreement, time.monotonic()) for caller in callers if caller.agreement is not None]
        for end, payload in zip(ends, (b"of a", b"of b"), strict=True):
            end.push([payload], time.monotonic())
        lab.give(*(datagram for end in ends for datagram in end.out), b"\x00" * 3, bytes(16))
        assert [link.connection.received.received for link in lab.begun] == [1, 1]
        ends[0].out.clear()
        ends[0].close(time.monotonic(), "over")
        lab.give(*ends[0].out)
        assert [link.connection.ended for link in lab.begun] == ["the peer has closed", ""]


async def test_the_last_link_that_ends_frees_the_address() -> None:
    async with listening() as lab:
        await lab.call()
        await lab.call()
        first, second = lab.begun
        first.close("kicked")
        assert lab.ends == ["kicked"] and not lab.closes
        second.close("kicked")
        assert lab.closes == ["closed"]
        assert not list(lab.server.ticker)


async def test_a_session_that_ends_closes_its_links_and_asks_no_more() -> None:
    async with listening() as lab:
        await lab.call()
        lab.may_begin.clear()
        lab.give(lab.concluding().datagram)
        await asyncio.sleep(0)  # the check of its key begins
        lab.session.closed("too many clients")
        await until(lambda: lab.abandoned)
        assert lab.ends == ["too many clients"]
        assert len(lab.begun) == 1
