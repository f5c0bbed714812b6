"""Guesses of a passphrase: they count as wrong keys, and few of them cost the work of a key derivation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest

from gateway.lib.refusals import Refusals
from gateway.lib.tasks import Tasks
from gateway.protocols.srt import crypto
from gateway.protocols.srt.calling import Caller
from gateway.protocols.srt.listening import HandshakeRefused, wrong_passphrase
from gateway.protocols.srt.packets import Reject
from gateway.protocols.srt.url import LatencyRange
from gateway.srt.link import Direction, SrtLink, SrtUser
from gateway.srt.listener_sessions import SrtServer, SrtSession
from gateway.srt.passphrase_guesses import PassphraseGuesses
from tests.support.time_outs import at_most
from tests.support.waiting import until

SECRET = "the right passphrase"


class Player:
    """A request that is always allowed, and its user. reasons: why the handshakes of all of them were refused."""

    direction = Direction.PLAY
    reasons: list[str]

    async def check(self) -> str:
        return SECRET

    def refuse(self, reason: str) -> None:
        self.reasons.append(reason)

    async def begin(self, link: SrtLink) -> SrtUser:
        return self

    def abandon(self) -> None: ...

    def receive(self, payloads: list[bytes], now: float) -> None: ...

    def tick(self, now: float) -> None: ...

    def closed(self, reason: str) -> None: ...


class Client:
    """The way back to the callers of an address."""

    def __init__(self, address: str) -> None:
        self.address, self.sent = address, list[bytes]()

    def accept(self) -> None: ...

    def send(self, datagrams: Sequence[bytes]) -> int:
        self.sent += datagrams
        return len(datagrams)

    def close(self, reason: str) -> None: ...


class Lab:
    """A listener. derived: the number of key derivations of the listener."""

    def __init__(self, tasks: Tasks, monkeypatch: pytest.MonkeyPatch, per_minute: int) -> None:
        self.refusals, self.derived = Refusals(per_minute), 0
        monkeypatch.setattr(Player, "reasons", [], raising=False)
        self.server = SrtServer(
            LatencyRange(), lambda stream_id, address: Player(), tasks, PassphraseGuesses(self.refusals)
        )
        decode = crypto.decode_key_material

        def count(passphrase: str, message: bytes) -> object:
            self.derived += 1
            return decode(passphrase, message)

        monkeypatch.setattr("gateway.protocols.srt.keys.decode_key_material", count)

    def conclusion(self, passphrase: str, address: str) -> tuple[Caller, bytes]:
        caller = Caller("x", 0.12, time.monotonic(), passphrase)
        induction = self.server.answer(caller.datagram, (address, 5000))
        assert induction is not None
        caller.receive(induction, time.monotonic())
        return caller, caller.datagram

    async def ask(self, caller: Caller, conclusion: bytes, address: str) -> int | None:
        """Returns the code of the refusal; 0: none; None: there was no answer."""
        client = Client(address)
        session = SrtSession(self.server, client, (address, 5000))
        session.receive([conclusion], [time.monotonic()])
        await until(lambda: not session._opening)
        if not client.sent:
            return None
        try:
            caller.receive(client.sent[-1], time.monotonic())
        except HandshakeRefused as error:
            return error.code
        finally:
            session.closed("over")
        return 0

    async def call(self, passphrase: str, address: str = "192.0.2.1") -> int | None:
        return await self.ask(*self.conclusion(passphrase, address), address)


async def test_wrong_passphrases_count_as_wrong_keys_of_their_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Tasks("test") as tasks:
        lab = Lab(tasks, monkeypatch, per_minute=3)
        for n in range(3):
            assert await lab.call(f"a wrong passphrase {n}") == Reject.BAD_SECRET
        assert lab.refusals.count("192.0.2.1", time.monotonic()) == 3
        assert lab.derived == 3


async def test_a_request_with_a_right_key_learns_why_its_handshake_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Tasks("test") as tasks:
        lab = Lab(tasks, monkeypatch, per_minute=30)
        caller, conclusion = lab.conclusion("a wrong passphrase", "192.0.2.1")
        for _ in range(2):
            assert await lab.ask(caller, conclusion, "192.0.2.1") == Reject.BAD_SECRET
        assert await lab.call("") == Reject.UNSECURE
        assert Player.reasons == [
            str(wrong_passphrase()),
            str(wrong_passphrase()),
            "The SRT passphrase is missing: set that of the channel.",
        ]
        assert await lab.call(SECRET) == 0
        assert len(Player.reasons) == 3


async def test_above_the_limit_one_handshake_a_second_is_judged_and_others_get_no_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Tasks("test") as tasks:
        lab = Lab(tasks, monkeypatch, per_minute=3)
        answers = [await lab.call(f"a wrong passphrase {n}") for n in range(50)]
        assert answers[:4] == [Reject.BAD_SECRET] * 4
        assert lab.derived == sum(answer is not None for answer in answers) < 10
        assert await lab.call("a wrong passphrase", "192.0.2.2") == Reject.BAD_SECRET, "another address is judged"


async def test_a_right_passphrase_still_has_its_turn_above_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Tasks("test") as tasks:
        lab = Lab(tasks, monkeypatch, per_minute=1)
        for n in range(5):
            await lab.call(f"a wrong passphrase {n}")
        caller, conclusion = lab.conclusion(SECRET, "192.0.2.1")
        async with asyncio.timeout(at_most(5)):  # callers repeat their handshake
            while (answer := await lab.ask(caller, conclusion, "192.0.2.1")) is None:
                await asyncio.sleep(0.05)
        assert answer == 0


async def test_a_repeated_handshake_is_no_new_guess(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Tasks("test") as tasks:
        lab = Lab(tasks, monkeypatch, per_minute=30)
        caller, conclusion = lab.conclusion("a wrong passphrase", "192.0.2.1")
        for _ in range(20):
            assert await lab.ask(caller, conclusion, "192.0.2.1") == Reject.BAD_SECRET
        assert lab.derived == 1
        assert lab.refusals.count("192.0.2.1", time.monotonic()) == 1


async def test_the_limit_may_be_off_and_callers_without_encryption_cost_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Tasks("test") as tasks:
        lab = Lab(tasks, monkeypatch, per_minute=0)
        assert [await lab.call(f"a wrong passphrase {n}") for n in range(10)] == [Reject.BAD_SECRET] * 10
        lab = Lab(tasks, monkeypatch, per_minute=1)
        assert [await lab.call("") for _ in range(10)] == [Reject.UNSECURE] * 10
        assert lab.derived == 0


async def test_handshakes_that_waited_together_are_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them began below the limit, for example while they waited for a publisher."""
    async with Tasks("test") as tasks:
        lab = Lab(tasks, monkeypatch, per_minute=2)
        live, check = asyncio.Event(), Player.check

        async def wait(self: Player) -> str:
            await live.wait()
            return await check(self)

        monkeypatch.setattr(Player, "check", wait)
        calls = [asyncio.ensure_future(lab.call(f"a wrong passphrase {n}")) for n in range(20)]
        while len(tasks) < 20:
            await asyncio.sleep(0)
        live.set()
        answers = await asyncio.gather(*calls)
        assert lab.derived == 3
        assert answers.count(None) == 17
