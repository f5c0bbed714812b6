"""The table of slugs: few reads of the store, however many names are requested."""

from __future__ import annotations

import asyncio

import pytest

from gateway.channels.channel import Channel
from gateway.lib.clocks import Clocks
from gateway.lib.tasks import Tasks
from gateway.playback.slugs import SECONDS, KnownChannels, Slugs, name_table
from gateway.ports.errors import NoSuchChannel, StoreUnavailable

ID = "70ef9b07-adbe-478d-b098-d7c8efd84a98"


class Store:
    def __init__(self, *channels: Channel) -> None:
        self.channels = {channel.id: channel for channel in channels}
        self.lists = self.gets = 0
        self.away = False

    async def table(self):
        self.lists += 1
        if self.away:
            raise StoreUnavailable("away")
        return name_table(self.channels.values())

    async def get(self, id):
        self.gets += 1
        if id not in self.channels:
            raise NoSuchChannel(id)
        return self.channels[id]


class Fixture:
    def __init__(self, tasks: Tasks, *channels: Channel) -> None:
        self.now = 1000.0
        self.store = Store(*channels)
        self.slugs = Slugs(self.store.table, tasks, Clocks(lambda: self.now, lambda: self.now))
        self.channels = KnownChannels(self.store, self.slugs)


@pytest.fixture
async def tasks():
    async with Tasks("test") as tasks:
        yield tasks


async def test_a_flood_of_unknown_names_reads_the_store_once(tasks):
    lab = Fixture(tasks, Channel({"id": ID, "slug": "stage"}))
    names = [f"random-{number}" for number in range(2000)]
    assert await asyncio.gather(*(lab.slugs.id_of(name) for name in names)) == names
    for name in names:
        with pytest.raises(NoSuchChannel):
            await lab.channels.get(name)
    assert (lab.store.lists, lab.store.gets) == (1, 0)
    assert await lab.slugs.id_of("stage") == ID
    assert (await lab.channels.get(ID)).slug == "stage"
    lab.now += SECONDS
    assert await lab.slugs.id_of("random-x") == "random-x"
    assert lab.store.lists == 2


async def test_a_reported_change_applies_to_the_next_request(tasks):
    lab = Fixture(tasks, Channel({"id": ID, "slug": "stage"}))
    assert await lab.slugs.id_of("stage") == ID
    other = "98724e64-bcd1-4887-af4a-60be440709aa"
    lab.store.channels = {ID: Channel({"id": ID}), other: Channel({"id": other, "slug": "stage"})}
    lab.slugs.expire()
    assert await lab.slugs.id_of("stage") == other


async def test_known_slugs_work_while_the_store_is_unavailable(tasks):
    lab = Fixture(tasks, Channel({"id": ID, "slug": "stage"}))
    assert await lab.slugs.id_of("stage") == ID
    lab.store.away = True
    lab.slugs.expire()
    assert await lab.slugs.id_of("stage") == ID
    lab.now += 600
    assert await lab.slugs.id_of("stage") == ID


async def test_no_channel_counts_as_missing_while_the_store_is_unavailable(tasks):
    lab = Fixture(tasks)
    lab.store.away = True
    with pytest.raises(NoSuchChannel):
        await lab.channels.get("lobby")
    assert lab.store.gets == 1  # only the store itself may say so
    lab.store.away = False
    lab.now += SECONDS
    with pytest.raises(NoSuchChannel):
        await lab.channels.get("lobby")
    assert lab.store.gets == 1
    lab.store.away = True
    lab.now += SECONDS
    lab.store.channels = {"lobby": Channel({"id": "lobby", "playAuth": "sign"})}
    assert (await lab.channels.get("lobby")).play_auth == "sign"


async def test_a_channel_whose_id_looks_like_a_slug_is_found(tasks):
    lab = Fixture(tasks, Channel({"id": "lobby"}))
    assert (await lab.channels.get("lobby")).id == "lobby"
    assert await lab.slugs.id_of("lobby") == "lobby"
