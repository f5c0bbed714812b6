"""Announcements of shows: once a show, on all nodes and after a restart, without a picture of a protected channel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.adapters.local.stores import SqliteConsole
from gateway.alarms import announcements
from gateway.alarms.announcements import KIND, Announcements
from gateway.alarms.delivery import Delivery
from gateway.channels.channel import Channel
from gateway.channels.inputs import InputKind
from gateway.diagnosis.show import Show
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.ports.errors import StoreUnavailable
from gateway.ports.events import Event, EventType
from tests.support import builders
from tests.unit.alarms.test_alarms import Outbox

START = 1_800_000_000.0
TARGETS = ["ntfy://one", "ntfy://two"]


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteConsole]:
    async with SqliteConsole(tmp_path / "console.sqlite3") as store:
        yield store


class Node:
    """The announcements of one process, and one stream."""

    def __init__(self, store: Any, **fields: Any) -> None:
        self.outbox = Outbox()
        self.announcements = Announcements(store, cast(Delivery, self.outbox), self._addresses)
        self.stream: Stream = builders.stream("c1")
        self.stream.channel = builders.channel("c1", videoname="Club", **{"announce": TARGETS, **fields})

    async def _addresses(self, channel: Channel) -> tuple[str, str]:
        return f"https://live.example.com/{channel.id}/", ""

    async def told(self, seconds: float = 5, start: float = START) -> list[str]:
        """Takes a sample of a show. Returns the titles of the messages."""
        if not hasattr(self, "show") or self.show.start != start:
            self.show = Show(start, self.stream.channel.show_title(start), start)
        self.show.sample(start + seconds, {})
        self.announcements.sample(self.stream, self.show)
        await self.announcements.tick()
        return [title for _, title in self.outbox.told]

    def end(self, reason: EndReason) -> None:
        data = {"stream": "c1", "reason": str(reason)}
        self.announcements.note(Event(EventType.STREAM_ENDED, START, "c1", data))


async def test_each_target_gets_one_message_for_a_show(store: SqliteConsole):
    node = Node(store, description="Every Friday")
    assert await node.told(1) == []
    assert await node.told(5) == ["Live now: Club"] * 2
    assert await node.told(10) == []
    node.end(EndReason.STOPPED)
    assert await node.told(5, START + 100) == ["Live now: Club"] * 2


async def test_a_channel_without_targets_announces_nothing(store: SqliteConsole):
    assert await Node(store, announce=[]).told() == []
    assert await store.list(KIND) == {}


@pytest.mark.parametrize("reason", [EndReason.SHUTDOWN, EndReason.MOVED])
async def test_another_node_and_a_restarted_one_do_not_announce_the_rest_of_a_show(
    store: SqliteConsole, reason: EndReason
):
    node = Node(store)
    assert len(await node.told()) == 2
    assert await Node(store).told() == []  # the process was killed
    node.end(reason)
    await node.announcements.tick()
    assert await Node(store).told(5, START + 30) == []


async def test_an_announcement_is_forgotten_a_while_after_a_crash(tmp_path: Path):
    now = 2_000_000_000.0
    async with SqliteConsole(tmp_path / "console.sqlite3", lambda: now) as later:
        await later.put(KIND, "c1", {"show": "1"}, now - 1)
        assert len(await Node(later).told()) == 2


async def test_a_slate_is_not_announced_and_the_input_after_it_is(store: SqliteConsole):
    node = Node(store)
    push = node.stream.input
    node.stream.input = replace(push, kind=InputKind.SLATE)
    assert await node.told() == []
    node.stream.input = push
    assert len(await node.told(3600)) == 2


async def test_the_next_show_gives_title_and_text(store: SqliteConsole):
    node = Node(store, upcoming={"title": "Final\r\nBcc: x", "at": START, "text": "The last game"})
    node.show = Show(START, node.stream.channel.show_title(START), START)
    node.show.sample(START + 5, {})
    node.announcements.sample(node.stream, node.show)
    await node.announcements.tick()
    (message, _) = node.outbox.messages
    assert (message.title, message.text) == ("Live now: Final Bcc: x", "Club\nThe last game")
    assert (message.link, message.kind) == ("https://live.example.com/c1/", "show")


async def test_an_announcement_waits_for_a_store_that_is_away():
    class Away:
        away = True

        async def add(self, *entry: Any) -> bool:
            if self.away:
                raise StoreUnavailable("away")
            return True

    store = Away()
    node = Node(store)
    with pytest.raises(StoreUnavailable):
        await node.told()
    store.away = False
    assert len(await node.told(10)) == 2


async def test_a_channel_that_begins_again_and_again_announces_a_bounded_number(
    store: SqliteConsole, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(announcements, "PER_HOUR", 2)
    node, told = Node(store), 0
    for number in range(4):
        told += len(await node.told(5, START + 60 * number))
        node.end(EndReason.PUBLISHER_GONE)
    assert told == 2 * 2
