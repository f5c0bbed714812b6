"""One certificate for a fleet: which node asks, which certificate wins, what strangers can cause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.adapters.acme.acme_files import AcmeFiles, Attempts
from gateway.adapters.acme.challenge_answers import ChallengeAnswers
from gateway.adapters.acme.renewal import AcmeFailure, Failure, Order
from gateway.adapters.acme.self_signed import self_signed
from gateway.adapters.acme.shared_entries import CERTIFICATE, CHALLENGES, STATE, PendingChallenges, SharedEntries
from gateway.adapters.acme.shared_renewal import SharedRenewal
from gateway.adapters.local.stores import SqliteConsole
from gateway.http.response import Response
from gateway.lib.tasks import Tasks
from gateway.ports.errors import StoreUnavailable
from tests.support.clock import Clock
from tests.support.http import request
from tests.support.time_outs import at_most

NAME = "live.example.com"
ORDER = Order((NAME, "www.example.com"), "https://ca.example/dir")
SECRET = "what all nodes share"
TOKEN = "a-token-of-the-authority"


class Store(SqliteConsole):
    """Counts reads, and knows the kinds that were stored. away: does not answer. gate: a cleared one delays reads."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.reads, self.away, self.gate = 0, False, asyncio.Event()
        self.gate.set()
        self.reading, self.put_kinds = asyncio.Event(), list[str]()

    async def get(self, kind: str, key: str) -> dict[str, Any] | None:
        self.reads += 1
        self.reading.set()
        await self.gate.wait()
        self._answer()
        return await super().get(kind, key)

    async def put(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> None:
        await super().put(kind, key, value, expires)
        self.put_kinds.append(kind)

    async def add(self, kind: str, key: str, value: Mapping[str, Any], expires: float = 0) -> bool:
        self._answer()
        return await super().add(kind, key, value, expires)

    def _answer(self) -> None:
        if self.away:
            raise StoreUnavailable("away")


@pytest_asyncio.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(tmp_path / "console.db") as opened:
        yield opened


class Node:
    """A machine with a folder. answers: what an authority says to it, in order."""

    def __init__(self, folder: Path, store: Store, *answers: str | Exception) -> None:
        self.files = AcmeFiles(folder)
        self.files.prepare()
        self.answers, self.kinds, self.failures = list(answers), list[str](), list[Failure]()
        self.told = asyncio.Event()
        self.shared = SharedEntries(store, SECRET, ORDER)
        self.renewal = SharedRenewal(self.shared, ORDER, self.files, self._obtain, self._renewed, self._failed)

    def has(self, pem: str, certified: bool = True) -> None:
        self.files.save_certificate(pem)
        self.files.save_attempts(Attempts(ORDER.directory, certified=certified))

    def _obtain(self, names: Sequence[str], kind: str) -> str:
        self.kinds.append(kind)
        if isinstance(answer := self.answers.pop(0), Exception):
            raise answer
        return answer

    async def _renewed(self) -> None:
        self.told.set()

    def _failed(self, failure: Failure) -> None:
        self.failures.append(failure)
        self.told.set()

    async def run(self, until: Callable[[], Any]) -> None:
        """Runs until `until` holds."""
        async with asyncio.timeout(at_most(20)), Tasks("test") as tasks:
            tasks.start(self.renewal.run(), "renewal")
            while not until():
                await asyncio.sleep(0.01)


def pem(*names: str) -> str:
    return self_signed(names or ORDER.names)


async def stored(store: Store) -> Any:
    return await SharedEntries(store, SECRET, ORDER).load(CERTIFICATE)


# ---- entries ----


async def test_an_entry_is_readable_only_with_the_secret_and_in_its_place(store: Store) -> None:
    own = SharedEntries(store, SECRET, ORDER)
    await own.save(CERTIFICATE, "a private key")
    assert await own.load(CERTIFICATE) == "a private key"
    (entry,) = await store.entries()
    assert "private" not in str(entry) and NAME not in str(entry)
    assert await SharedEntries(store, "another secret", ORDER).load(CERTIFICATE) is None
    assert await SharedEntries(store, SECRET, Order((NAME,), ORDER.directory)).load(CERTIFICATE) is None
    swapped = Order(ORDER.names[::-1], ORDER.directory)
    assert await SharedEntries(store, SECRET, swapped).load(CERTIFICATE) == "a private key", "the order says nothing"
    await store.put(STATE, own.id, entry.value)
    assert await own.load(STATE) is None, "the text of another entry"
    for odd in ({}, {"box": 1}, {"box": "é"}, {"box": ""}, {"box": "AAAA"}):
        await store.put(CERTIFICATE, own.id, odd)
        assert await own.load(CERTIFICATE) is None


async def test_one_node_has_its_turn_and_a_crashed_one_loses_it_in_minutes(store: Store) -> None:
    clock = Clock(store._clock())
    store._clock = clock
    first, second = (SharedEntries(store, SECRET, ORDER, clock) for _ in range(2))
    async with first.turn() as mine, second.turn() as other:
        assert (mine, other) == (True, False)
    async with second.turn() as mine:
        assert mine
        clock.now += 301  # as if it had crashed
        async with first.turn() as other:
            assert other
            async with second.turn() as third:
                assert not third


# ---- renewal ----


async def test_one_node_asks_and_the_others_take_certificate_and_account(tmp_path: Path, store: Store) -> None:
    certificate = pem()
    first, second = Node(tmp_path / "a", store, certificate), Node(tmp_path / "b", store)
    account = {"directory": ORDER.directory, "key": {"kty": "EC"}}
    first.files.save_account(account)
    await first.run(lambda: CERTIFICATE in store.put_kinds)
    await second.run(second.told.is_set)
    assert second.files.stored_certificate() == certificate
    assert second.files.attempts(ORDER.directory).certified
    assert (len(first.kinds), len(second.kinds)) == (1, 0)
    state = await first.shared.load(STATE)
    assert state["account"] == account


@pytest.mark.parametrize("newer_first", [True, False])
async def test_the_newest_certificate_of_machines_that_did_not_share_wins(
    tmp_path: Path, store: Store, newer_first: bool
) -> None:
    both = sorted((pem(), pem()))  # of one second: all must choose the same one
    nodes = [Node(tmp_path / name, store) for name in "ab"]
    for node, text in zip(nodes, reversed(both) if newer_first else both, strict=True):
        node.has(text)
    loser = nodes[newer_first]
    async with asyncio.timeout(at_most(20)), Tasks("test") as tasks:
        for node in nodes:
            tasks.start(node.renewal.run(), "renewal")
        while loser.files.stored_certificate() != both[1] or await stored(store) != both[1]:
            for node in nodes:
                node.shared.changed.set()
            await asyncio.sleep(0.05)
    assert {node.files.stored_certificate() for node in nodes} == {both[1]}
    assert not any(node.kinds for node in nodes)


async def test_a_certificate_for_other_names_or_of_another_authority_is_not_shared(
    tmp_path: Path, store: Store
) -> None:
    for name, text, certified in (("a", pem("old.example.com"), True), ("b", pem(), False)):
        node = Node(tmp_path / name, store, AcmeFailure("closed", 1e9))
        node.has(text, certified)
        await node.run(lambda node=node: node.failures or store.reads > 4)
        assert await stored(store) is None


async def test_a_failure_of_one_node_holds_the_others_back(tmp_path: Path, store: Store) -> None:
    first = Node(tmp_path / "a", store, AcmeFailure("too many", 7200.0, refused=True))
    second = Node(tmp_path / "b", store)
    await first.run(lambda: STATE in store.put_kinds)
    read = store.reads
    await second.run(lambda: store.reads >= read + 3)
    assert second.kinds == []
    state = await first.shared.load(STATE)
    assert state["attempts"]["kind"] == "tls-alpn-01", "the next node tries the other check"


async def test_a_failure_of_a_node_whose_clock_was_ahead_holds_nobody_back(tmp_path: Path, store: Store) -> None:
    later = time.time() + 365 * 86_400
    attempts = Attempts(ORDER.directory, failures=[later], not_before=later)
    shared = SharedEntries(store, SECRET, ORDER)
    await shared.save(STATE, {"attempts": asdict(attempts), "account": None, "retry": later})
    node = Node(tmp_path / "a", store, pem())
    node.renewal._is_first_turn = False
    await node.run(node.told.is_set)
    assert len(node.kinds) == 1 and node.failures == []


async def test_without_the_database_the_own_certificate_stays_and_nobody_asks(tmp_path: Path, store: Store) -> None:
    store.away = True
    certificate = pem()
    valid, without = Node(tmp_path / "a", store), Node(tmp_path / "b", store)
    valid.has(certificate)
    await valid.run(lambda: store.reads)
    assert valid.files.stored_certificate() == certificate
    await without.run(lambda: without.failures)
    assert "does not answer" in without.failures[0].reason
    assert valid.failures == [] and without.kinds == []


async def test_answers_that_cannot_be_shared_are_a_failure_in_words(tmp_path: Path, store: Store) -> None:
    node = Node(tmp_path / "a", store)

    def lost(challenges: Mapping[str, str]) -> None:
        raise StoreUnavailable("the database has gone")

    node.files.publish = lost
    node.files.save_http_challenge(TOKEN, "answer")
    with pytest.raises(StoreUnavailable):
        node.files.publish_challenges()
    node.answers.append(StoreUnavailable("the database has gone"))
    await node.run(lambda: node.failures)
    assert node.failures[0].reason == "the database has gone"


# ---- challenges ----


@pytest.fixture
def answers(tmp_path: Path, store: Store) -> ChallengeAnswers:
    files = AcmeFiles(tmp_path)
    files.prepare()
    answers = ChallengeAnswers(files, ORDER.names)
    answers.shared = PendingChallenges(SharedEntries(store, SECRET, ORDER))
    return answers


async def ask(answers: ChallengeAnswers, token: str) -> Response:
    response = answers.respond(request(), f"acme-challenge/{token}")
    return response if isinstance(response, Response) else await response


async def test_any_node_answers_for_a_token_that_another_has_stored(answers: ChallengeAnswers, store: Store) -> None:
    await SharedEntries(store, SECRET, ORDER).publish({TOKEN: f"{TOKEN}.thumbprint"})
    response = await ask(answers, TOKEN)
    assert (response.status, response.body) == (200, f"{TOKEN}.thumbprint".encode())


async def test_strangers_cause_one_read_a_second_and_do_not_hide_a_token(
    answers: ChallengeAnswers, store: Store
) -> None:
    store.gate.clear()
    async with asyncio.TaskGroup() as group:
        early = [group.create_task(ask(answers, f"unknown-{n}")) for n in range(200)]
        await store.reading.wait()
        await SharedEntries(store, SECRET, ORDER).publish({TOKEN: "answer"})
        late = group.create_task(ask(answers, TOKEN))
        early[0].cancel()  # the client that waited for the read has gone
        store.gate.set()
    assert late.result().status == 200
    assert {one.result().status for one in early[1:]} == {404}
    assert store.reads <= 2
    for _ in range(5):
        assert (await ask(answers, "unknown-1")).status == 404
    for odd in ("", "..", "a/b", "é", "a" * 129):
        assert (await ask(answers, odd)).status == 404
    assert store.reads <= 2, "what is unknown and what is no token costs no read"


async def test_a_store_that_is_away_hides_a_token_only_meanwhile(answers: ChallengeAnswers, store: Store) -> None:
    await SharedEntries(store, SECRET, ORDER).publish({TOKEN: "answer"})
    store.away = True
    assert (await ask(answers, TOKEN)).status == 404
    store.away = False
    assert (await ask(answers, TOKEN)).status == 200
    assert CHALLENGES in {entry.kind for entry in await store.entries()}
