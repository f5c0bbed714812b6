"""The list of channels, equal in all stores: searched, ordered and paged."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from gateway.adapters.stores import Stores
from gateway.channels.channel_list import (
    EXPIRED,
    IDLE,
    LIVE,
    ChannelOrder,
    ChannelQuery,
    page_of,
    search_words,
)
from gateway.ports.errors import NoSuchChannel

NOW = 1_800_000_000
QUERY = ChannelQuery(NOW, {}, limit=500)
NAMES = (
    "",
    "100%",
    "2 Bühne",
    "10 Bühne",
    "a_b",
    "ab",
    'a"b',
    "Café",
    "café noir",
    "CAFÉ Z",
    "It's",
    "Straße 007",
    "STRASSE 8",
    "back\\slash",
    "нива",
    "ПРИВЕТ",
    "大厅",
)


def item(id: str, name: Any = None, **fields: Any) -> dict[str, Any]:
    return {"id": id, "key": f"{fields.pop('expires', NOW + 60)}-{'0' * 32}", "videoname": name, **fields}


async def fill(stores: Stores, items: Sequence[dict[str, Any]]) -> None:
    for one in random.Random(7).sample(items, len(items)):
        await stores.channels.add(one)


async def found(stores: Stores, query: ChannelQuery = QUERY, **changes: Any) -> list[str]:
    page = await stores.channels.find(replace(query, **changes))
    expected = page_of(await stores.channels.list(), replace(query, **changes))
    assert page.found == expected.found
    assert dict(page.states) == dict(expected.states)
    assert [channel.item for channel in page.channels] == [channel.item for channel in expected.channels]
    return [channel.id for channel in page.channels]


@pytest.mark.parametrize(
    ("search", "names"),
    [
        ("%", ["100%"]),
        ("_", ["a_b"]),
        ('"', ['a"b']),
        ("'", ["It's"]),
        ("\\", ["back\\slash"]),
        ("CAFÉ", ["Café", "café noir", "CAFÉ Z"]),
        ("café noir", ["café noir"]),
        ("strasse", ["Straße 007", "STRASSE 8"]),
        ("привет", ["ПРИВЕТ"]),
        ("厅", ["大厅"]),
        ("  BÜHNE  10 ", ["10 Bühne"]),
        ("nothing", []),
        ("' OR 1=1 --", []),
        ("?", []),
        ("\ud800", []),
    ],
)
async def test_a_search_finds_the_channels_with_all_words(stores: Stores, search: str, names: list[str]) -> None:
    await fill(stores, [item(f"c{n}", name) for n, name in enumerate(NAMES)])
    page = await stores.channels.find(replace(QUERY, words=search_words(search)))
    assert sorted(channel.name for channel in page.channels) == sorted(names)
    assert page.found == len(names)
    assert sum(page.states.values()) == len(NAMES)


async def test_description_and_id_are_searched_too(stores: Stores) -> None:
    await fill(stores, [item("c-one", "A", description="Pier Ost"), item("c-two", "B"), item("c-three", 5)])
    assert await found(stores, words=search_words("OST pier")) == ["c-one"]
    assert await found(stores, words=search_words("C-TWO")) == ["c-two"]
    assert await found(stores, words=search_words("pier c-two")) == []


async def test_names_are_ordered_without_case_and_accents_and_by_their_numbers(stores: Stores) -> None:
    names = ["", "2 Bühne", "10 Bühne", "Äpfel", "apfel 2", "Apfel 010", "bar", "Bär", "Ça", "cb", "Ω", "大厅"]
    await fill(stores, [item(f"c{n:02}", name) for n, name in enumerate(names)])
    ordered = [f"c{n:02}" for n in (*range(1, len(names)), 0)]
    assert await found(stores) == ordered
    # Equal names keep the order of their ids; a channel without a name stays the last.
    turned = await found(stores, descending=True)
    assert turned[-1] == "c00"
    assert turned[0] == "c11"
    assert turned.index("c06") < turned.index("c07")


async def test_live_channels_come_first_and_expired_ones_last(stores: Stores) -> None:
    items = [item(f"c{n}", f"name {n}", expires=NOW + (60 if n % 2 else -60)) for n in range(6)]
    await fill(stores, items)
    live = {"c3": 0.0, "c4": 2.0, "c5": 0.0, "gone": 1.0}
    by_state = replace(QUERY, live=live, order=ChannelOrder.STATE)
    assert await found(stores, by_state) == ["c3", "c5", "c4", "c1", "c0", "c2"]
    assert await found(stores, by_state, descending=True) == ["c0", "c2", "c1", "c4", "c3", "c5"]
    assert await found(stores, by_state, states=[LIVE]) == ["c3", "c5", "c4"]
    assert await found(stores, by_state, states=[IDLE]) == ["c1"]
    assert await found(stores, by_state, states=[EXPIRED], words=["2"]) == ["c2"]
    page = await stores.channels.find(replace(by_state, states=[EXPIRED], words=["2"]))
    assert dict(page.states) == {LIVE: 3, IDLE: 1, EXPIRED: 2}


async def test_channels_without_viewers_or_expiry_come_last_in_both_directions(stores: Stores) -> None:
    await fill(stores, [item("a", "A", expires=NOW + 2), item("b", "B", expires=NOW + 1), {"id": "c", "key": ""}])
    viewers = replace(QUERY, live={"a": 0.0, "c": 7.0}, order=ChannelOrder.VIEWERS)
    assert await found(stores, viewers) == ["a", "c", "b"]
    assert await found(stores, viewers, descending=True) == ["c", "a", "b"]
    assert await found(stores, order=ChannelOrder.EXPIRY) == ["b", "a", "c"]
    assert await found(stores, order=ChannelOrder.EXPIRY, descending=True) == ["a", "b", "c"]


async def test_pages_have_each_channel_once_also_with_equal_names(stores: Stores) -> None:
    await fill(stores, [item(f"c{n:02}", "the same" if n < 20 else f"n {n}") for n in range(30)])
    pages = [await found(stores, limit=7, offset=offset) for offset in range(0, 42, 7)]
    assert [len(page) for page in pages] == [7, 7, 7, 7, 2, 0]
    assert [id for page in pages for id in page] == await found(stores)


async def test_only_the_given_channels_are_found_and_counted(stores: Stores) -> None:
    await fill(stores, [item(f"c{n}", f"name {n}") for n in range(5)])
    assert await found(stores, ids=("c1", "c3", "gone", "' OR 1=1 --")) == ["c1", "c3"]
    assert await found(stores, ids=()) == []


async def test_the_list_has_every_change_at_once(stores: Stores) -> None:
    channels = stores.channels
    await fill(stores, [item(f"c{n}", f"name {n}", slug=f"slug-{n}") for n in range(3)])
    assert await found(stores, words=["name"]) == ["c0", "c1", "c2"]
    await channels.update("c1", {"videoname": "Renamed"})
    await channels.update("c2", {"key": f"{NOW - 60}-{'0' * 32}"})
    assert await found(stores, words=["name"]) == ["c0", "c2", "c1"]
    assert await found(stores, states=[EXPIRED]) == ["c2"]
    await channels.delete("c0", NOW)
    assert await found(stores) == ["c2", "c1"]
    await channels.add(item("c0", "Again"))
    assert await found(stores) == ["c0", "c2", "c1"]


async def test_changes_during_reads_are_never_lost(stores: Stores) -> None:
    channels = stores.channels
    await fill(stores, [item(f"c{n}", "begin") for n in range(20)])

    async def change(id: str) -> None:
        for n in range(5):
            await channels.update(id, {"videoname": f"turn {n}"})
        if id in ("c3", "c4"):
            await channels.delete(id, NOW)

    async def read() -> None:
        for _ in range(10):
            await channels.find(QUERY)

    await asyncio.gather(*(change(f"c{n}") for n in range(20)), read(), read())
    assert len(await found(stores, words=["turn", "4"])) == 18
    with pytest.raises(NoSuchChannel):
        await channels.get("c3")
