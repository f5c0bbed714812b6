"""Backs up and restores stores in PostgreSQL by way of SQLite files, so that every backup has one form."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from gateway.adapters.backup import Places
from gateway.adapters.copying import PARTS, copy, counted, differing
from gateway.adapters.stores import Stores, open_stores
from gateway.ports.errors import StoreUnusable
from gateway.settings import Settings, load
from gateway.settings.option_types import IN_DATABASE


def is_in_database(settings: Settings) -> bool:
    """Whether a store is in PostgreSQL."""
    return IN_DATABASE in settings.store_urls()


def places_in(settings: Settings, folder: Path) -> Places:
    """Returns the places of this machine, with SQLite files in `folder` instead of the stores."""
    return replace(Places.of(settings), stores=Places.of(_files(folder)).stores)


def _files(folder: Path) -> Settings:
    return load(environ={}, overrides=["registry=", f"data={folder}"])


@asynccontextmanager
async def _both(settings: Settings, folder: Path) -> AsyncIterator[tuple[Stores, Stores]]:
    """Opens the configured stores and those in the folder. The nodes of the registry are no data of a backup."""
    async with (
        open_stores(settings.model_copy(update={"registry": ""})) as stores,
        open_stores(_files(folder)) as files,
    ):
        yield stores, files


async def save(settings: Settings, folder: Path) -> None:
    """Copies the configured stores to SQLite files in an empty folder. Gateways may run. Raises StoreUnavailable."""
    async with _both(settings, folder) as (stores, files):
        for part in PARTS.values():
            await copy(part, stores, files, lambda count: None)


async def check_empty(settings: Settings) -> None:
    """Raises StoreUnusable if the configured stores have channels or users."""
    async with open_stores(settings.model_copy(update={"registry": ""})) as stores:
        if await stores.channels.list() or await stores.console.entries():
            raise StoreUnusable("the database has data already: with --force, equal records are replaced, others stay")


async def bring_back(settings: Settings, folder: Path) -> str:
    """Copies the SQLite files of a backup to the configured stores. Returns a line for the operator.

    Raises StoreUnavailable; StoreUnusable if the stores lack records afterwards.
    """
    counts, wrong = Counter[str](), list[str]()
    async with _both(settings, folder) as (stores, files):
        for part in PARTS.values():
            of_part: list[Counter[str]] = [Counter()]
            digests = await copy(part, files, stores, of_part.append)
            wrong += await differing(part, files, stores, digests)
            counts += of_part[-1]
    if wrong:
        raise StoreUnusable(f"the database lacks {len(wrong)} records of the backup, such as {wrong[0]}: try again")
    return f"in the database: {counted(counts)}"
