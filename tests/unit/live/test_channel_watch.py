"""Changes in the store reach the live streams of a process, whoever makes them, and each has one event."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

import pytest

from gateway.channels.channel import Channel
from gateway.channels.channel_changes import ChannelChanges
from gateway.channels.deleted_channel import DeletedChannel
from gateway.diagnosis.event_log import stored_event
from gateway.live.channel_watch import ChannelWatch
from gateway.live.sink import EndReason
from gateway.ports.errors import NoSuchChannel, StoreUnavailable
from gateway.ports.events import Event, Events, EventType, StoredEvent
from tests.support.admin import SPECS
from tests.support.builders import AUDIO, VIDEO, change_effects, hub, publish
from tests.support.clock import Clock

LATER = 1.5  # seconds in which a command has stored the event of its change


class Store:
    """Channels in memory. read: the ids of each read. away: it does not answer. during: called in a read."""

    def __init__(self) -> None:
        self.rows: dict[str, Channel | None] = {}
        self.read: list[list[str]] = []
        self.deleted: dict[str, DeletedChannel] = {}
        self.away = False
        self.during: Callable[[], None] = lambda: None

    async def get_many(self, ids: Collection[str]) -> Mapping[str, Channel | None]:
        if self.away:
            raise StoreUnavailable("away")
        self.read.append(sorted(ids))
        found = {id: self.rows[id] for id in ids if id in self.rows}
        self.during()
        return found

    async def update(self, id: str, changes: Mapping[str, Any]) -> Channel:
        row = self.rows[id]
        assert row is not None
        changed = self.rows[id] = Channel({**row.item, **changes})
        return changed

    async def get_deleted(self, id: str) -> DeletedChannel:
        if id not in self.deleted:
            raise NoSuchChannel(id)
        return self.deleted[id]

    async def put_deleted(self, deleted: DeletedChannel) -> None:
        self.deleted[deleted.id] = deleted


class Notifications:
    """Notifications that a test sends."""

    def __init__(self) -> None:
        self.works = True
        self.tell: Callable[[str], None] = lambda key: None

    def listen(self, table: str, callback: Callable[[str], None]) -> None:
        assert table == "channels"
        self.tell = callback


class Watched:
    """A node with live streams, its store and its log of events."""

    def __init__(self, notifications: Notifications | None = None) -> None:
        self.clock, self.store = Clock(), Store()
        self.emitted: list[Event] = []
        self.told: list[str] = []
        self.forgotten: list[str] = []
        self.evicted: list[EndReason] = []
        self.log: list[StoredEvent] = []
        self.log_away = False
        events = Events()
        events.listen(self.emitted.append)
        self.hub = hub(SPECS, events=Events())
        self.watch = ChannelWatch(self.hub, cast(Any, self.store), self._logged, notifications, self.clock)
        effects = change_effects(
            self.hub, events, apply=self.watch.apply, forget=self.forgotten.append, tell_nodes=self._tell
        )
        self.changes = ChannelChanges(cast(Any, self.store), cast(Any, None), effects, self.clock)

    async def _tell(self, id: str) -> None:
        self.told.append(id)

    async def _logged(self, channel: str, since: float) -> list[StoredEvent]:
        if self.log_away:
            raise StoreUnavailable("away")
        return [event for event in self.log if event.channel == channel and event.time >= since]

    def push(self, id: str = "c1", **fields: Any) -> None:
        """Begins a push. The channel is stored unless it is."""
        publish(self.hub, id, self.evicted, **fields).set_tracks(VIDEO, AUDIO, {})
        stream = self.hub.held(id)
        assert stream is not None
        self.store.rows.setdefault(id, stream.channel)

    def set(self, id: str = "c1", **fields: Any) -> None:
        """Changes the row without telling anybody, as a command or another program does."""
        row = self.store.rows[id]
        assert row is not None
        self.store.rows[id] = Channel({**row.item, **fields})

    def record(self, type: EventType, **data: Any) -> None:
        """Adds an event of another process to the log."""
        self.log.append(stored_event(Event(type, self.clock(), "c1", data), "0", ""))

    async def turn(self, seconds: float = 3.0) -> None:
        """Lets time pass, and does what the watch does then."""
        self.clock.now += seconds
        await self.watch.read(self.changes)
        await self.watch.record(self.changes)

    @property
    def events(self) -> list[tuple[str, Any]]:
        return [(str(event.type), event.data.get("fields")) for event in self.emitted]

    def field(self, name: str, id: str = "c1") -> Any:
        """Returns a field of the channel that the live stream has."""
        stream = self.hub.held(id)
        assert stream is not None
        return stream.channel.item.get(name)


@pytest.fixture
def watched() -> Watched:
    return Watched()


async def test_a_changed_row_reaches_stream_caches_and_nodes_and_gets_one_event(watched: Watched) -> None:
    watched.push()
    await watched.turn()
    watched.set(playAuth="sign", isHls=True)
    await watched.turn()
    stream = watched.hub.held("c1")
    assert stream is not None and stream.channel.play_auth == "sign" and stream.has_output("hls")
    assert (watched.forgotten, watched.told) == (["c1"], ["c1"])
    assert watched.events == []  # a command may still record it
    for _ in range(3):
        await watched.turn(LATER)
    assert watched.events == [("channel.changed", ["isHls", "playAuth"])]
    assert watched.emitted[0].data["by"] == "store"


async def test_a_removed_row_ends_push_and_viewers_and_protects_the_media(watched: Watched) -> None:
    watched.push(playAuth="sign")
    await watched.turn()
    del watched.store.rows["c1"]
    await watched.turn()
    assert watched.evicted == [EndReason.DELETED] and watched.hub.held("c1") is None
    assert watched.store.deleted["c1"].channel.play_auth == "sign"
    await watched.turn(LATER)
    assert watched.events == [("channel.deleted", None)]
    assert watched.emitted[0].data == {"media": "keep", "by": "store"}


async def test_a_change_by_a_command_has_only_the_event_of_the_command(watched: Watched) -> None:
    watched.push()
    await watched.turn()
    watched.set(playAuth="sign")
    await watched.turn()
    watched.record(EventType.CHANNEL_CHANGED, fields=["playAuth"], by="command line")
    await watched.turn(LATER)
    assert watched.field("playAuth") == "sign" and watched.events == []


async def test_a_deletion_by_a_command_has_only_the_event_of_the_command(watched: Watched) -> None:
    watched.push()
    await watched.turn()
    del watched.store.rows["c1"]
    watched.record(EventType.CHANNEL_DELETED, by="command line")
    await watched.turn()
    await watched.turn(LATER)
    assert watched.evicted == [EndReason.DELETED] and watched.events == []


async def test_fields_that_a_program_changed_beside_a_command_have_an_event(watched: Watched) -> None:
    watched.push()
    await watched.turn()
    watched.set(playAuth="sign", isHls=True)
    watched.record(EventType.CHANNEL_CHANGED, fields=["playAuth"], by="command line")
    await watched.turn()
    await watched.turn(LATER)
    assert watched.events == [("channel.changed", ["isHls"])]


async def test_an_earlier_event_does_not_explain_a_change(watched: Watched) -> None:
    watched.push()
    await watched.turn()
    watched.record(EventType.CHANNEL_CHANGED, fields=["playAuth"], by="command line")
    for _ in range(2):
        await watched.turn()
    watched.set(playAuth="sign")
    for _ in range(2):
        await watched.turn()
    assert watched.events == [("channel.changed", ["playAuth"])]


async def test_a_change_by_the_api_of_this_node_is_not_noticed_again(watched: Watched) -> None:
    watched.push()
    await watched.turn()
    await watched.changes.update("c1", {"playAuth": "sign"}, {"by": "admin token"})
    for _ in range(3):
        await watched.turn(LATER)
    assert watched.events == [("channel.changed", ["playAuth"])] and watched.told == ["c1"]


async def test_a_change_reported_after_it_was_noticed_has_no_event_here(watched: Watched) -> None:
    """The API of another node stores first and tells then."""
    watched.push()
    await watched.turn()
    watched.set(playAuth="sign")
    await watched.turn()
    watched.watch.apply("c1", watched.store.rows["c1"])
    await watched.turn(LATER)
    assert watched.events == []


async def test_a_row_that_was_read_before_a_change_does_not_undo_the_change(watched: Watched) -> None:
    watched.push()
    await watched.turn()
    old = watched.store.rows["c1"]
    assert old is not None
    new = Channel({**old.item, "playAuth": "sign"})

    def change() -> None:
        watched.store.rows["c1"] = new
        watched.watch.apply("c1", new)
        watched.store.during = lambda: None

    watched.store.during = change
    await watched.turn()
    assert watched.field("playAuth") == "sign"
    await watched.turn()
    await watched.turn(LATER)
    assert watched.field("playAuth") == "sign" and watched.events == []


async def test_a_change_between_the_check_of_the_key_and_the_first_read_is_noticed(watched: Watched) -> None:
    watched.push()
    watched.set(playAuth="sign")
    await watched.turn()
    assert watched.field("playAuth") == "sign"


async def test_a_return_with_a_changed_row_hides_no_event(watched: Watched) -> None:
    watched.push()
    await watched.turn()
    watched.set(isHls=True)
    row = watched.store.rows["c1"]
    assert row is not None
    watched.hub.channel_changed(row)  # the hub does that for a publisher that returns
    await watched.turn()
    await watched.turn(LATER)
    assert watched.events == [("channel.changed", ["isHls"])]


async def test_streams_go_on_while_the_store_is_away(watched: Watched) -> None:
    watched.push()
    await watched.turn()
    watched.store.away = True
    with pytest.raises(StoreUnavailable):
        await watched.turn()
    watched.store.away = False
    watched.set(playAuth="sign")
    await watched.turn()
    assert watched.field("playAuth") == "sign" and watched.evicted == []


async def test_the_event_waits_while_the_log_is_away(watched: Watched) -> None:
    watched.push()
    await watched.turn()
    watched.set(playAuth="sign")
    watched.log_away = True
    await watched.turn()
    with pytest.raises(StoreUnavailable):
        await watched.turn(LATER)
    watched.log_away = False
    await watched.turn(LATER)
    assert watched.events == [("channel.changed", ["playAuth"])]


async def test_an_unreadable_row_changes_nothing_and_other_channels_are_followed(watched: Watched) -> None:
    watched.push("c1")
    watched.push("c2")
    await watched.turn()
    watched.store.rows["c1"] = None
    watched.set("c2", playAuth="sign")
    await watched.turn()
    assert watched.hub.held("c1") is not None and watched.field("playAuth", "c2") == "sign"
    assert watched.evicted == []


@pytest.mark.parametrize(
    "value",
    [None, 5, -1.5, "", "x" * 1000, "\0", [], [[]], {}, {"a": [None]}, [None, 1, {"b": "c"}], 10**30, True],
)
async def test_a_field_of_any_type_ends_neither_the_watch_nor_the_stream(watched: Watched, value: Any) -> None:
    names = (
        *("isFlv", "isHls", "playAuth", "refererAllow", "outdate", "key", "inputs", "relayURL", "slug", "captions"),
        *("logLevel", "hls_time", "oldSlugs", "poster", "recordSchedule", "maxKbps"),
    )
    watched.push("c1")
    watched.push("c2")
    await watched.turn()
    watched.set("c1", **dict.fromkeys(names, value))
    watched.set("c2", playAuth="sign")
    await watched.turn()
    await watched.turn(LATER)
    assert watched.hub.held("c1") is not None and watched.field("playAuth", "c2") == "sign"


async def test_a_fault_of_one_channel_does_not_stop_the_others(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.push("c1")
    watched.push("c2")
    await watched.turn()
    apply = watched.hub.channel_changed

    def fail(changed: Channel) -> None:
        if changed.id == "c1":
            raise RuntimeError("an installed output has a fault")
        apply(changed)

    monkeypatch.setattr(watched.hub, "channel_changed", fail)
    watched.set("c1", playAuth="sign")
    watched.set("c2", playAuth="sign")
    await watched.turn()
    assert watched.field("playAuth", "c2") == "sign"


async def test_one_read_has_all_live_channels_and_nothing_is_read_without_one(watched: Watched) -> None:
    await watched.turn()
    assert watched.store.read == []
    for id in ("c1", "c2", "c3"):
        watched.push(id)
    await watched.turn()
    assert watched.store.read == [["c1", "c2", "c3"]]


# ---- a store that tells its changes ----


async def test_a_store_that_tells_changes_is_read_once_for_a_stream_and_then_for_told_rows() -> None:
    notifications = Notifications()
    watched = Watched(notifications)
    watched.push("c1")
    watched.push("c2")
    for _ in range(4):
        await watched.turn()
    assert watched.store.read == [["c1", "c2"]]
    watched.set("c2", playAuth="sign")
    notifications.tell("c2")
    notifications.tell("idle")
    await watched.turn()
    assert watched.store.read[1:] == [["c2"]] and watched.field("playAuth", "c2") == "sign"


async def test_the_record_of_a_deleted_channel_is_notified_as_its_deletion() -> None:
    notifications = Notifications()
    watched = Watched(notifications)
    watched.push()
    await watched.turn()
    del watched.store.rows["c1"]
    notifications.tell("deleted/c1")
    await watched.turn()
    assert watched.evicted == [EndReason.DELETED]


async def test_all_channels_are_read_while_notifications_do_not_arrive_and_once_after() -> None:
    notifications = Notifications()
    watched = Watched(notifications)
    watched.push()
    await watched.turn()
    notifications.works = False
    for _ in range(3):
        await watched.turn()
    notifications.works = True
    watched.set(playAuth="sign")  # its notification was lost
    for _ in range(3):
        await watched.turn()
    assert len(watched.store.read) == 5 and watched.field("playAuth") == "sign"


async def test_a_read_that_failed_is_repeated_also_without_a_new_notification() -> None:
    notifications = Notifications()
    watched = Watched(notifications)
    watched.push()
    await watched.turn()
    watched.set(playAuth="sign")
    notifications.tell("c1")
    watched.store.away = True
    with pytest.raises(StoreUnavailable):
        await watched.turn()
    watched.store.away = False
    await watched.turn()
    assert watched.field("playAuth") == "sign"
