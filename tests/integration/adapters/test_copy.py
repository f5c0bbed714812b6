"""`millrace copy` between all kinds of stores."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.adapters import copying
from gateway.adapters.copying import PARTS, differing, open_place
from gateway.adapters.local.stores import SqliteChannels
from gateway.adapters.stores import Stores
from gateway.channels.addresses import PublicDomains
from gateway.ports.events import StoredEvent
from gateway.ports.films import Film, FilmState
from gateway.ports.jobs import JobState, StoredJob
from gateway.program import run
from tests.integration.adapters.conftest import CONTRACT_DOUBLES, DOUBLES, make_table
from tests.integration.adapters.test_console_store import make_table as make_console_table
from tests.integration.adapters.test_event_store import make_table as make_events_table
from tests.integration.adapters.test_film_store import make_films_table
from tests.support.postgres import Postgres


async def fill(stores: Stores) -> None:
    """Stores something of every kind."""
    for n in range(30):
        slug = {"slug": f"place-{n}"} if n % 3 == 0 else {}
        await stores.channels.add({"id": f"c{n}", "videoname": f"Éva 中 {n}", "isFlv": "true", "hls_time": 2, **slug})
    await stores.channels.delete("c4", 1_700_000_000.5, media=True, restorable=True)
    await stores.domains.set_domains(PublicDomains("push.example.com", ""))
    for n in range(7):
        await stores.console.put("user", f"u{n}", {"hash": "x", "n": n})
        await stores.console.put("session", f"s{n}", {"user": f"u{n}"}, 4_000_000_000.0)
    for n, state in enumerate(FilmState):
        await stores.films.add(Film(f"film-{n}", "Holiday", 1_700_000_000.25 + n, state=state, files={"hls": "a.m3u8"}))
    for n, state in enumerate(JobState):
        await stores.jobs.add(StoredJob(f"170000000000{n}-aa", "vod", "a.mp4", 1.5, 2.5, state=state))
    events = [
        StoredEvent(
            f"{n:024x}", "stream.started", 1_700_000_000.5 + n, f"c{n % 5}", "node", {"n": n, "deep": {"a": [1]}}
        )
        for n in range(345)
    ]
    for first in range(0, len(events), 100):
        await stores.events.append(events[first : first + 100])


async def all_keys(url: str) -> dict[str, list[str]]:
    async with open_place(url, create=False) as stores:
        return {name: sorted([r.key async for page in part.read(stores) for r in page]) for name, part in PARTS.items()}


def copied(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    return dict(re.findall(r"(\w+): (.+) copied", capsys.readouterr().err))


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes pages small, because the doubles need seconds for thousands of events."""
    monkeypatch.setattr(copying, "_PAGE", 100)


@pytest.fixture
def source(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'old'}"


@pytest.fixture(params=["sqlite", "postgres", *CONTRACT_DOUBLES])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new'}"
    if request.param == "postgres":
        return request.getfixturevalue("postgres").new_database()
    request.getfixturevalue(DOUBLES[request.param])
    make_table("video-jobs", "id")
    make_films_table("video-films")
    make_console_table("video-console")
    make_events_table("video-events")
    return "dynamodb://"


async def test_everything_arrives_and_returns_unchanged(
    source: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_place(source, create=True) as old:
        await fill(old)
    third = f"sqlite:///{tmp_path / 'third'}"
    for begin, end in ((source, target), (target, third)):
        assert await asyncio.to_thread(run, ["copy", "--from", begin, "--to", end]) == 0
        assert copied(capsys) == {
            "channels": "29 channels, 1 deleted channel, 1 setting",
            "users": "7 sessions, 7 users",
            "films": "5 films",
            "jobs": "5 jobs",
            "events": "345 events",
        }
    assert await all_keys(source) == await all_keys(target) == await all_keys(third)
    async with open_place(source, create=False) as old, open_place(third, create=False) as new:
        assert await new.domains.get_domains() == PublicDomains("push.example.com", "")
        assert (await new.channels.get("c3")).item == (await old.channels.get("c3")).item
        assert sorted(await new.console.entries()) == sorted(await old.console.entries())


async def test_a_repeated_copy_changes_what_differs_and_keeps_what_only_the_target_has(
    source: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_place(source, create=True) as old, open_place(target, create=True) as new:
        await fill(old)
        assert await asyncio.to_thread(run, ["copy", "--from", source, "--to", target]) == 0
        await new.channels.update("c1", {"videoname": "changed", "added": "1"})
        await new.channels.update("c2", {"videoname": "changed"})
        await new.channels.delete("c6", 1.0)
        await new.channels.add({"id": "only-there"})
        job, film = await new.jobs.get("1700000000000-aa"), await new.films.get("film-1")
        await new.jobs.change(replace(job, version=job.version + 1, error="changed"))
        await new.films.change(film.to(title="changed"))
        await new.console.put("user", "u1", {"hash": "changed"})
        for name, part in PARTS.items():
            digests = {record.digest async for page in part.read(old) for record in page}
            assert bool(await differing(part, old, new, digests)) == (name != "events")
        assert await asyncio.to_thread(run, ["copy", "--from", source, "--to", target]) == 0
        assert (await new.channels.get("c1")).item == (await old.channels.get("c1")).item
        assert (await new.channels.get("only-there")).id == "only-there"
        assert (await new.films.get("film-1")).title == "Holiday"


async def test_a_copied_channel_replaces_a_row_that_cannot_be_read(source: str, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path / 'new'}"
    async with open_place(source, create=True) as old, open_place(target, create=True) as new:
        await old.channels.add({"id": "c1", "videoname": "one"})
        assert isinstance(new.channels, SqliteChannels)
        await new.channels.write("INSERT INTO channels VALUES ('c1', 'nonsense')")
    assert await asyncio.to_thread(run, ["copy", "--from", source, "--to", target, "--only", "channels"]) == 0
    async with open_place(target, create=False) as new:
        assert (await new.channels.get("c1")).name == "one" and not await new.channels.list_deleted()


async def test_only_the_named_parts_are_copied(
    source: str, postgres: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_place(source, create=True) as old:
        await fill(old)
    url = postgres.new_database()
    assert await asyncio.to_thread(run, ["copy", "--from", source, "--to", url, "--only", "users,jobs"]) == 0
    assert copied(capsys) == {"users": "7 sessions, 7 users", "jobs": "5 jobs"}
    keys = await all_keys(url)
    assert [name for name in keys if keys[name]] == ["channels", "users", "jobs"]  # the domains are always there


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--from", "sqlite:///nowhere", "--to", "postgresql://h/d"], 1, "nowhere is not the data folder"),
        (
            ["--from", "mysql://h/d", "--to", "postgresql://h/d"],
            2,
            "--from: expected an address that begins with sqlite",
        ),
        (["--from", "sqlite:///a", "--to", "sqlite:///a"], 2, "one place"),
        (["--from", "sqlite:///a", "--to", "sqlite:///b", "--only", "media"], 2, "no part media"),
    ],
)
def test_wrong_use_is_one_clear_line(
    arguments: list[str], code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["copy", *arguments]) == code
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1


async def test_a_target_that_cannot_be_reached_fails_with_one_line(
    source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_place(source, create=True) as old:
        await fill(old)
    assert await asyncio.to_thread(run, ["copy", "--from", source, "--to", "postgresql://h@127.0.0.1:1/d"]) == 1
    assert "is not available" in capsys.readouterr().err
