"""Failures of SQLite: damaged, foreign, newer, locked and full files; killed and cancelled writers."""

import asyncio
import contextlib
import os
import resource
import shutil
import sqlite3
import stat
import threading

import pytest
from structlog.testing import capture_logs

from gateway.adapters.local import database as adapter
from gateway.adapters.local.stores import SqliteChannels
from gateway.adapters.stores import sqlite_path
from gateway.lib import disk
from gateway.ports.errors import StoreUnavailable, StoreUnusable
from tests.support.time_outs import at_most

ITEM = {"id": "one", "key": "k", "outdate": "2030-01-01"}


async def said(path) -> str:
    """Returns the one-line error for an unusable database."""
    with pytest.raises(StoreUnusable) as e:
        async with SqliteChannels(path):
            pass
    assert "\n" not in str(e.value)
    assert str(path) in str(e.value)
    return str(e.value)


async def test_stored_channels_exist_after_a_restart(tmp_path):
    async with SqliteChannels(tmp_path / "new" / "m.db") as store:
        await store.add(ITEM)
    async with SqliteChannels(tmp_path / "new" / "m.db") as store:
        assert [c.item for c in await store.list()] == [ITEM]


async def test_only_the_owner_can_read_the_database_files(tmp_path):
    async with SqliteChannels(tmp_path / "m.db") as store:
        await store.add(ITEM)
        modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}
    assert "m.db" in modes


async def test_two_processes_share_a_database(tmp_path):
    async with SqliteChannels(tmp_path / "m.db") as gateway, SqliteChannels(tmp_path / "m.db") as command_line:
        await command_line.add(ITEM)
        assert (await gateway.get("one")).item == ITEM
        await asyncio.gather(
            *(s.update("one", {f"{n}-{i}": i}) for i in range(10) for n, s in (("a", gateway), ("b", command_line)))
        )
        assert len((await gateway.get("one")).item) == len(ITEM) + 20


async def test_a_file_that_is_not_a_database_is_refused(tmp_path):
    file = tmp_path / "m.db"
    file.write_bytes(b"this is no database, " * 100)
    assert "file is not a database" in await said(file)
    assert file.read_bytes().startswith(b"this is no database")


async def test_a_damaged_database_is_refused(tmp_path):
    file = tmp_path / "m.db"
    async with SqliteChannels(file) as store:
        for n in range(200):
            await store.add(ITEM | {"id": f"c{n}", "note": "x" * 500})
    content = bytearray(file.read_bytes())
    content[4096 * 3 : 4096 * 5] = os.urandom(4096 * 2)
    file.write_bytes(content)
    assert "damaged" in await said(file)


async def test_the_database_of_another_program_is_refused(tmp_path):
    with sqlite3.connect(tmp_path / "m.db") as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    assert "belongs to another program" in await said(tmp_path / "m.db")


async def test_a_newer_schema_is_refused(tmp_path):
    async with SqliteChannels(tmp_path / "m.db"):
        pass
    with sqlite3.connect(tmp_path / "m.db") as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    assert "newer Millrace" in await said(tmp_path / "m.db")


def mounted(tmp_path, monkeypatch, kind: str) -> None:
    """The folder seems to be on another file system: there is none on the network here."""
    line = f"36 35 98:0 / {str(tmp_path).replace(' ', chr(92) + '040')} rw - {kind} server:/share rw\n"
    (tmp_path / "mounts").write_text(f"1 0 0:1 / / rw - ext4 /dev/sda1 rw\n{line}")
    monkeypatch.setattr(disk, "_MOUNTS", tmp_path / "mounts")


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "ext4", "fuse.lxcfs"])
async def test_an_error_names_the_network_file_system_of_a_database(tmp_path, monkeypatch, kind):
    mounted(tmp_path, monkeypatch, kind)
    (tmp_path / "m.db").write_bytes(b"this is no database, " * 100)
    hint = f"it is on a network file system ({kind})"
    assert (hint in await said(tmp_path / "m.db")) == (kind in ("nfs4", "cifs", "fuse.sshfs"))
    with pytest.raises(StoreUnusable) as unusable:
        SqliteChannels.inspect(tmp_path / "m.db")
    assert (hint in str(unusable.value)) == (kind in ("nfs4", "cifs", "fuse.sshfs"))


@pytest.mark.parametrize(("kind", "warned"), [("nfs4", True), ("cifs", True), ("ext4", False)])
async def test_a_database_on_a_network_file_system_is_used_with_a_warning(tmp_path, monkeypatch, kind, warned):
    mounted(tmp_path, monkeypatch, kind)
    with capture_logs() as logged:
        async with SqliteChannels(tmp_path / "m.db") as store:
            await store.add(ITEM)
    assert [entry["file_system"] for entry in logged if "network file system" in entry["event"]] == [kind] * warned
    assert ("network file system" in SqliteChannels.inspect(tmp_path / "m.db")) == warned


async def test_a_database_is_closed_where_its_opening_is_cancelled_at_the_end(tmp_path, monkeypatch):
    """A stop during the start of a process cancels it there."""
    looks, goes_on = threading.Event(), threading.Event()

    def late(path):
        looks.set()
        goes_on.wait(at_most(10))
        return ""

    monkeypatch.setattr(adapter, "network_file_system", late)
    store = SqliteChannels(tmp_path / "m.db")
    opening = asyncio.create_task(store.__aenter__())
    await asyncio.to_thread(looks.wait, at_most(10))
    opening.cancel()
    await asyncio.wait([opening])
    goes_on.set()
    assert opening.cancelled()
    with pytest.raises(StoreUnavailable, match="is closed"):
        await store.list()


async def test_a_folder_in_place_of_the_database_file_is_refused(tmp_path):
    (tmp_path / "m.db").mkdir()
    assert "cannot be opened" in await said(tmp_path / "m.db")


async def test_a_file_in_place_of_the_data_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnusable, match="data folder"):
        async with SqliteChannels(tmp_path / "file" / "m.db"):
            pass


async def test_a_locked_database_is_unavailable_until_it_is_unlocked(tmp_path, monkeypatch):
    monkeypatch.setattr(adapter, "_LOCK_WAIT", 0.05)
    async with SqliteChannels(tmp_path / "m.db") as store:
        await store.add(ITEM)
        holder = sqlite3.connect(tmp_path / "m.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked") as e:
            await store.add(ITEM | {"id": "two"})
        assert e.value.retry_after > 0
        assert (await store.get("one")).item == ITEM  # readers do not wait for writers
        holder.execute("ROLLBACK")
        holder.close()
        await store.add(ITEM | {"id": "two"})


async def test_a_database_that_is_locked_at_start_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(adapter, "_LOCK_WAIT", 0.05)
    async with SqliteChannels(tmp_path / "m.db"):
        pass
    holder = sqlite3.connect(tmp_path / "m.db", isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE")
    holder.execute("BEGIN EXCLUSIVE")
    assert "locked" in await said(tmp_path / "m.db")
    holder.close()


@pytest.mark.parametrize(("free", "reason"), [(4096, "the disk is full"), (10**9, "disk I/O error")])
async def test_a_disk_without_room_for_the_log_is_named_at_the_start(tmp_path, monkeypatch, free, reason):
    async with SqliteChannels(tmp_path / "m.db"):
        pass
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - free, free))
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, unlimited[1]))  # no file may grow, as on a full disk
    try:
        found = await said(tmp_path / "m.db")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert found.endswith(f"cannot be used: {reason}")


async def test_a_full_disk_makes_writes_unavailable_and_loses_nothing(tmp_path):
    async with SqliteChannels(tmp_path / "m.db") as store:
        await store.add(ITEM)
        pages = await adapter._scalar(store._connection(), "PRAGMA page_count")
        await adapter._scalar(store._connection(), f"PRAGMA max_page_count = {pages}")  # SQLite's own "disk is full"
        with pytest.raises(StoreUnavailable, match="full"):
            for n in range(100):
                await store.add(ITEM | {"id": f"c{n}", "note": "x" * 4000})
        assert (await store.get("one")).item == ITEM
        await adapter._scalar(store._connection(), "PRAGMA max_page_count = 1000000")
        await store.add(ITEM | {"id": "later"})


async def test_an_unresponsive_store_raises_store_unavailable_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(adapter, "_TIMEOUT", 0.05)
    async with SqliteChannels(tmp_path / "m.db") as store:
        # another operation holds the connection's thread
        slow = store._connection()._execute(__import__("time").sleep, 0.3)
        waiting = asyncio.ensure_future(slow)
        await asyncio.sleep(0)
        with pytest.raises(StoreUnavailable, match="does not answer"):
            await store.check()
        await waiting


@pytest.mark.parametrize("ends", ["by the time-out", "by its caller"])
async def test_a_write_that_was_given_up_before_it_began_is_not_made_later(tmp_path, monkeypatch, ends):
    """A client that got 503 repeats its request, often with another id."""
    async with SqliteChannels(tmp_path / "m.db") as store:
        begun, unblock = threading.Event(), threading.Event()
        slow = asyncio.ensure_future(store._connection()._execute(lambda: begun.set() or unblock.wait()))
        assert await asyncio.to_thread(begun.wait, at_most(10))
        if ends == "by the time-out":
            monkeypatch.setattr(adapter, "_TIMEOUT", 0.05)
            with pytest.raises(StoreUnavailable, match="does not answer"):
                await store.add(ITEM)
            monkeypatch.setattr(adapter, "_TIMEOUT", 6.0)
        else:
            adding = asyncio.ensure_future(store.add(ITEM))
            await asyncio.sleep(0)
            adding.cancel()
            await asyncio.gather(adding, return_exceptions=True)
        unblock.set()
        await slow
        await store.add(ITEM | {"id": "two"})
        assert [channel.id for channel in await store.list()] == ["two"]


async def test_a_cancelled_update_is_complete_or_absent_and_the_store_stays_usable(tmp_path):
    async with SqliteChannels(tmp_path / "m.db") as store:
        await store.add(ITEM)
        for turns in range(12):
            update = asyncio.ensure_future(store.update("one", {"n": turns, "m": turns}))
            for _ in range(turns):
                await asyncio.sleep(0)
            update.cancel()
            await asyncio.gather(update, return_exceptions=True)
            item = (await store.get("one")).item
            assert item.get("n") == item.get("m")
        await store.update("one", {"done": True})


async def test_a_closed_store_raises_store_unavailable(tmp_path):
    async with SqliteChannels(tmp_path / "m.db") as store:
        pass
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.check()


async def test_an_unusable_optional_database_is_opened_once_it_becomes_usable(tmp_path):
    path = tmp_path / "m.db"
    path.write_bytes(b"this is no database" * 100)
    async with contextlib.AsyncExitStack() as stack:
        store = await SqliteChannels(path).open_if_usable(stack)
        assert str(path) in store.unusable
        path.unlink()
        with pytest.raises(StoreUnavailable, match=r"m\.db") as refused:
            await store.add(ITEM)
        assert refused.value.public == "the database m.db cannot be used; the log of the gateway says why"
        store._open_again_at = 0.0
        await store.add(ITEM)
        assert [c.item for c in await store.list()] == [ITEM]
        assert store.unusable == ""
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.list()


def test_urls_with_three_slashes_are_relative_and_with_four_absolute():
    assert str(sqlite_path("sqlite:///var/m.db")) == "var/m.db"
    assert str(sqlite_path("sqlite:////srv/m.db")) == "/srv/m.db"
