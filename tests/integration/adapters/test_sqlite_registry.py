"""The registry in SQLite: several processes on one file, killed processes, and files of other programs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.adapters.local import database as adapter
from gateway.adapters.local.stores import SqliteConsole, SqliteRegistry
from gateway.ports.errors import StoreUnavailable, StoreUnusable
from gateway.ports.nodes import FORGOTTEN_SECONDS
from tests.integration.adapters.test_registry import ITEM, Clock, clock, holding, node
from tests.support.time_outs import at_most

__all__ = ["clock"]  # a fixture

# One of several nodes: reports that it is ready, waits for its turn, and runs commands on the registry at argv[1].
PROGRAM = """
import asyncio, sys
from pathlib import Path
from gateway.adapters.local import database
from gateway.adapters.local.stores import SqliteRegistry
from gateway.ports.errors import HeldByOtherNode
from gateway.ports.nodes import StreamClaim, Node, NodeRole

# The disk of a busy machine can keep a lock for more than the 2 s of the program.
database._LOCK_WAIT, database._TIMEOUT = 30.0, 40.0

path, me, task = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

async def claim(registry):
    won = 0
    for n in range(25):
        try:
            await registry.claim(StreamClaim(f"channel-{n}", me, "a.lan:80", f"{me}-{n}", 1.0), {})
            won += 1
        except HeldByOtherNode:
            pass
    print(won)

async def beat(registry):
    for n in range(50):
        await registry.beat(Node(me, NodeRole.GATEWAY, "a.lan:80", n))

async def churn(registry):
    for n in range(20):
        claim = f"{me}-{n}"
        try:
            await registry.claim(StreamClaim("foyer", me, "a.lan:80", claim, 1.0), {})
        except HeldByOtherNode:
            continue
        held = await registry.find(["foyer"])
        assert held["foyer"].id == claim, held
        await registry.release("foyer", claim, left=bool(n % 2))

async def hold(registry):
    await registry.join(Node(me, NodeRole.GATEWAY, "a.lan:80", 1))
    await registry.claim(StreamClaim("foyer", me, "a.lan:80", me, 1.0), {})
    print("held", flush=True)
    await asyncio.Event().wait()

async def main():
    if task == "open":
        sys.stdin.readline()
        for n in range(40):
            async with SqliteRegistry(path / f"{n}.db") as registry:
                await registry.check()
        return
    async with SqliteRegistry(path) as registry:
        print("ready", flush=True)
        sys.stdin.readline()
        await globals()[task](registry)

if task == "open":
    print("ready", flush=True)
asyncio.run(main())
"""


@contextlib.contextmanager
def processes(path: Path, task: str, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """Starts `count` nodes that begin their task at the same time."""
    # All nodes give the same answers in the same order. The answers are short, so a plain pipe is enough.
    command = [sys.executable, "-c", PROGRAM, str(path)]
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen([*command, f"node-{n}", task], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for n in range(count)
    ]
    try:
        for one in started:
            assert one.stdout is not None
            assert one.stdout.readline() == "ready\n", one.communicate()[1]
        for one in started:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        yield started
    finally:
        for one in started:
            one.kill()
            one.communicate()


def outputs(started: list[subprocess.Popen[str]]) -> list[str]:
    """Returns the output of each process after its successful end."""
    said = []
    for one in started:
        output, errors = one.communicate(timeout=at_most(60))
        assert one.returncode == 0, errors
        said.append(output)
    return said


async def test_each_stream_has_one_holder_while_several_processes_claim_streams(tmp_path: Path) -> None:
    with processes(tmp_path / "r.db", "claim", 4) as started:
        won = [int(said) for said in outputs(started)]
    assert sum(won) == 25
    async with SqliteRegistry(tmp_path / "r.db") as registry:
        found = await registry.find([f"channel-{n}" for n in range(25)])
    assert {n: sum(h.node == f"node-{n}" for h in found.values()) for n in range(4)} == dict(enumerate(won))


async def test_several_processes_beat_at_once(tmp_path: Path) -> None:
    with processes(tmp_path / "r.db", "beat", 4) as started:
        outputs(started)
    async with SqliteRegistry(tmp_path / "r.db") as registry:
        assert sorted((n.id, n.beat) for n in await registry.nodes()) == [(f"node-{n}", 49) for n in range(4)]


async def test_a_stream_has_at_most_one_holder_while_processes_claim_and_release(tmp_path: Path) -> None:
    with processes(tmp_path / "r.db", "churn", 4) as started:
        outputs(started)


async def test_processes_that_start_together_create_one_new_file(tmp_path: Path) -> None:
    """A process that looks while another creates the tables finds them neither foreign nor locked."""
    with processes(tmp_path, "open", 4) as started:
        outputs(started)


async def test_a_killed_process_leaves_a_claim_that_can_be_taken_over(tmp_path: Path) -> None:
    with processes(tmp_path / "r.db", "hold", 1) as (killed,):
        assert killed.stdout is not None
        assert killed.stdout.readline() == "held\n"
        killed.kill()
        killed.wait(at_most(10))
    async with SqliteRegistry(tmp_path / "r.db") as registry:
        assert [n.id for n in await registry.nodes()] == ["node-0"]
        dead = (await registry.find(["foyer"]))["foyer"]
        await registry.claim(holding(), ITEM, replaces=dead.id)
        assert await registry.find(["foyer"]) == {"foyer": holding()}


async def test_rows_of_long_dead_nodes_are_removed(tmp_path: Path, clock: Clock) -> None:
    async with SqliteRegistry(tmp_path / "r.db", clock) as registry:
        await registry.join(node("dead"))
        clock.now += FORGOTTEN_SECONDS + 1
        assert [n.id for n in await registry.nodes()] == ["dead"]  # an old entry does not prove that the node is dead
        await registry.join(node("new"))
        assert [n.id for n in await registry.nodes()] == ["new"]
        await registry.beat(node("dead", beat=2))
        assert sorted(n.id for n in await registry.nodes()) == ["dead", "new"]


async def test_a_claim_stores_the_session_attributes_of_the_original(tmp_path: Path) -> None:
    async with SqliteRegistry(tmp_path / "r.db") as registry:
        await registry.claim(holding(), ITEM)
        ((name,),) = await registry.rows("SELECT json_extract(item, '$.Name') FROM holdings")
    assert name == ITEM["Name"]


async def test_only_the_owner_can_read_the_registry_files(tmp_path: Path) -> None:
    async with SqliteRegistry(tmp_path / "r.db") as registry:
        await registry.claim(holding(), ITEM)
        assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


async def test_a_file_of_another_store_is_refused(tmp_path: Path) -> None:
    async with SqliteConsole(tmp_path / "console.db") as console:
        await console.put("user", "eva", {"n": 1})
        with pytest.raises(StoreUnusable, match=r"console\.db.*a file of its own"):
            async with SqliteRegistry(tmp_path / "console.db"):
                pass
        assert await console.get("user", "eva") == {"n": 1}


async def test_a_beat_does_not_wait_for_a_busy_disk(tmp_path: Path) -> None:
    async with SqliteRegistry(tmp_path / "r.db") as registry:
        normal = 1
        assert await registry.rows("PRAGMA synchronous") == ((normal,),)
        assert await registry.rows("PRAGMA journal_mode") == (("wal",),)


async def test_a_locked_registry_refuses_writes_until_it_is_unlocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "_LOCK_WAIT", 0.05)
    async with SqliteRegistry(tmp_path / "r.db") as registry:
        await registry.join(node())
        await registry.claim(holding(), ITEM)
        other = sqlite3.connect(tmp_path / "r.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for call in (registry.beat(node(beat=2)), registry.claim(holding("b"), ITEM), registry.release("foyer", "a1")):
            with pytest.raises(StoreUnavailable, match="locked"):
                await call
        assert await registry.find(["foyer"]) == {"foyer": holding()}  # readers do not wait for writers
        other.execute("ROLLBACK")
        other.close()
        await registry.beat(node(beat=2))
        assert await registry.nodes() == [node(beat=2)]


async def test_a_cancelled_claim_is_complete_or_absent(tmp_path: Path) -> None:
    async with SqliteRegistry(tmp_path / "r.db") as registry:
        for turns in range(12):
            claim = asyncio.ensure_future(registry.claim(holding(claim=f"c{turns}"), ITEM))
            for _ in range(turns):
                await asyncio.sleep(0)
            claim.cancel()
            await asyncio.gather(claim, return_exceptions=True)
            assert await registry.claim_of("foyer") in (None, holding(claim=f"c{turns}"))
            await registry.release("foyer", f"c{turns}")
        assert await registry.claim_of("foyer") is None


def test_a_registry_may_be_named_by_a_path_that_does_not_exist_yet(tmp_path: Path) -> None:
    async def opened() -> bool:
        async with SqliteRegistry(tmp_path / "new" / "r.db"):
            return os.path.exists(tmp_path / "new" / "r.db")

    assert asyncio.run(opened())
