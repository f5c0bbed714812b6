"""Copies channels, users, films, jobs and events from one place to another: SQLite, DynamoDB, PostgreSQL."""

import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Protocol

from gateway.adapters.stores import Stores, open_stores
from gateway.channels.addresses import PublicDomains
from gateway.channels.deleted_channel import DeletedChannel
from gateway.ports.errors import ChannelExists, JobExists, StoreUnusable
from gateway.ports.films import Film, FilmState
from gateway.ports.jobs import StoredJob
from gateway.ports.stores import EventQuery
from gateway.settings import load

SCHEMES: Final = ("sqlite", "dynamodb", "postgresql", "postgres")
_PAGE: Final = 1000  # records
_CONCURRENT: Final = 5  # writes of single records
_CHANNELS: Final = "millrace.db"  # in a data folder
_SETTING: Final = "setting"
_NOUNS: Final = {
    "user": "user",
    "session": "session",
    "apitoken": "token",
    "profile": "profile",
}  # entries of the console
# The tables of deploy/aws, by the options that name them.
_TABLES: Final = {
    "channels": "video-metadata",
    "vod.jobs": "video-jobs",
    "vod.films": "video-films",
    "admin.store": "video-console",
    "events.store": "video-events",
}


def open_place(url: str, *, create: bool) -> AbstractAsyncContextManager[Stores]:
    """Opens the stores of a place. Raises StoreUnusable.

    url: sqlite:///<data folder>, dynamodb://<prefix of the tables' names> or postgresql://…, with one of SCHEMES.
    create: whether stores that do not exist are created.
    """
    scheme, _, rest = url.partition("://")
    overrides = ["registry="]
    if scheme.startswith("postgres"):
        overrides.append(f"database={url}")
    elif scheme == "dynamodb":
        overrides += [f"{option}=dynamodb://{rest}{table}" for option, table in _TABLES.items()]
    else:
        folder = Path(rest.removeprefix("/")).expanduser()
        folder = folder.parent if folder.is_file() else folder
        if not create and not (folder / _CHANNELS).is_file():
            raise StoreUnusable(f"{folder} is not the data folder of a gateway: it has no {_CHANNELS}")
        overrides.append(f"data={folder}")
    return open_stores(load(environ={}, overrides=overrides))


# A whole number that JSON has as a float: 1.0 or 1e+22; or a text that looks like one, which costs only time.
_WHOLE_FLOAT: Final = re.compile(r"\.0[,}\]]|e\+")


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a store. kind: what it is, for counts. key: unique in its part. value: plain JSON. stored: as the
    store has it.
    """

    kind: str
    key: str
    value: Any
    stored: Any

    @property
    def digest(self) -> int:
        """A number that is equal for equal records. Stores keep 1 and 1.0 as one number."""
        text = json.dumps([self.key, self.value], sort_keys=True)
        if _WHOLE_FLOAT.search(text):
            text = json.dumps([self.key, _plain(self.value)], sort_keys=True)
        return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _digests(records: Sequence[Record]) -> set[int]:
    return {record.digest for record in records}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def counted(counts: Mapping[str, int]) -> str:
    """Returns the numbers of records in words, such as "1 channel, 2 deleted channels"."""
    return ", ".join(f"{n:,} {kind}{'s' if n != 1 else ''}" for kind, n in counts.items()) or "nothing"


class RecordPart(Protocol):
    """One kind of records. A repeated copy changes only what differs, so that an interrupted one can be continued."""

    def read(self, stores: Stores) -> AsyncIterator[list[Record]]:
        """Yields all records of the stores, in pages."""

    async def write(self, stores: Stores, records: Sequence[Record]) -> None:
        """Stores the records of a page, in place of those with their keys."""


async def copy(part: RecordPart, source: Stores, target: Stores, copied: Callable[[Counter[str]], None]) -> set[int]:
    """Copies the records of a part and returns their digests. copied: is called with the numbers so far, by kind.

    Raises StoreUnavailable. Records that only the target has stay there. Needs 70 bytes of memory for each record.
    """
    digests, counts = set[int](), Counter[str]()
    pages = part.read(source)
    page = await anext(pages, None)
    while page is not None:
        kinds = Counter(record.kind for record in page)
        # Both stores and this process work at the same time.
        of_page, _, page = await asyncio.gather(
            asyncio.to_thread(_digests, page), part.write(target, page), anext(pages, None)
        )
        digests |= of_page
        counts += kinds
        copied(counts)
    return digests


async def differing(part: RecordPart, source: Stores, target: Stores, digests: Set[int]) -> list[str]:
    """Returns the keys of the copied records that the target lacks, or has with other values."""
    missing = set(digests)
    pages = part.read(target)
    page = await anext(pages, None)
    while page is not None:
        of_page, page = await asyncio.gather(asyncio.to_thread(_digests, page), anext(pages, None))
        missing -= of_page
    if not missing:
        return []
    return [record.key async for page in part.read(source) for record in page if record.digest in missing]


class _Channels:
    async def read(self, stores: Stores) -> AsyncIterator[list[Record]]:
        yield [Record("channel", channel.id, channel.item, channel.item) for channel in await stores.channels.list()]
        deleted = await stores.channels.list_deleted()
        yield [Record("deleted channel", f"deleted/{one.id}", one.item, one) for one in deleted]
        domains = await stores.domains.get_domains()
        yield [Record(_SETTING, "domains", [domains.push, domains.pull], domains)]

    async def write(self, stores: Stores, records: Sequence[Record]) -> None:
        await _each(records, lambda record: self._write(stores, record))

    async def _write(self, stores: Stores, record: Record) -> None:
        if isinstance(record.stored, PublicDomains):
            await stores.domains.set_domains(record.stored)
        elif isinstance(record.stored, DeletedChannel):
            await stores.channels.put_deleted(record.stored)
        else:
            try:
                await stores.channels.add(record.stored)
            except ChannelExists:
                present = (await stores.channels.get_many([record.key])).get(record.key)
                # Fields cannot be removed, and nothing can be changed in a row that cannot be read.
                if present is None or present.item.keys() - record.stored.keys():
                    await stores.channels.delete(record.key, 0)
                    await stores.channels.remove_deleted(record.key)
                    await stores.channels.add(record.stored)
                elif present.item != record.stored:
                    await stores.channels.update(record.key, record.stored)


class _Users:
    """Users with their tokens, sessions and profiles, the alarms and the look of the pages."""

    async def read(self, stores: Stores) -> AsyncIterator[list[Record]]:
        entries = await stores.console.entries()
        yield [
            Record(_NOUNS.get(one.kind, _SETTING), f"{one.kind}/{one.key}", [one.value, math.ceil(one.expires)], one)
            for one in entries
        ]

    async def write(self, stores: Stores, records: Sequence[Record]) -> None:
        await _each(records, lambda record: stores.console.put(*record.stored))


class _Films:
    async def read(self, stores: Stores) -> AsyncIterator[list[Record]]:
        for state in FilmState:
            yield [Record("film", film.key, _unversioned(film), film) for film in await stores.films.in_state(state)]

    async def write(self, stores: Stores, records: Sequence[Record]) -> None:
        await _each(records, lambda record: self._write(stores, record.stored))

    async def _write(self, stores: Stores, film: Film) -> None:
        if not await stores.films.add(film):
            present = await stores.films.get(film.key)
            if _unversioned(present) != _unversioned(film):
                await stores.films.change(replace(film, version=present.version + 1))


class _Jobs:
    async def read(self, stores: Stores) -> AsyncIterator[list[Record]]:
        before = ""
        while page := await stores.jobs.newest(_PAGE, before):
            yield [Record("job", job.id, _unversioned(job), job) for job in page]
            before = page[-1].id

    async def write(self, stores: Stores, records: Sequence[Record]) -> None:
        await _each(records, lambda record: self._write(stores, record.stored))

    async def _write(self, stores: Stores, job: StoredJob) -> None:
        try:
            await stores.jobs.add(job)
        except JobExists:
            present = await stores.jobs.get(job.id)
            if _unversioned(present) != _unversioned(job):
                await stores.jobs.change(replace(job, version=present.version + 1))


class _Events:
    async def read(self, stores: Stores) -> AsyncIterator[list[Record]]:
        before = ""
        while page := await stores.events.newest(EventQuery(_PAGE, before=before)):
            yield [
                Record("event", event.id, [event.type, event.time, event.channel, event.node, event.data], event)
                for event in page
            ]
            before = page[-1].id

    async def write(self, stores: Stores, records: Sequence[Record]) -> None:
        await stores.events.append([record.stored for record in records])


PARTS: Final[Mapping[str, RecordPart]] = {
    "channels": _Channels(),
    "users": _Users(),
    "films": _Films(),
    "jobs": _Jobs(),
    "events": _Events(),
}


def _unversioned(record: Film | StoredJob) -> dict[str, Any]:
    """Returns the values without the version, which counts the changes in one store."""
    return {name: value for name, value in record.as_item().items() if name != "version"}


async def _each(records: Sequence[Record], write: Callable[[Record], Coroutine[Any, Any, object]]) -> None:
    """Writes each record, `_CONCURRENT` at a time."""
    room = asyncio.Semaphore(_CONCURRENT)

    async def bounded(record: Record) -> None:
        async with room:
            await write(record)

    for first in range(0, len(records), _PAGE):
        await asyncio.gather(*(bounded(record) for record in records[first : first + _PAGE]))
