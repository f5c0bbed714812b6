"""Which faults are told, when, and by whom."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.local.stores import SqliteConsole
from gateway.alarms.alarms import PER_HOUR, TOLD, Alarms, AlarmSources
from gateway.alarms.fault import Fault, FaultKind
from gateway.alarms.fault_board import FaultBoard
from gateway.alarms.node_watch import NodeWatch
from gateway.alarms.rule import AlarmRule, StoredRules
from gateway.alarms.traffic_watch import TrafficWatch
from gateway.channels.channel import Channel
from gateway.diagnosis.daily_traffic import DailyTraffic
from gateway.lib.tasks import Tasks
from gateway.live.sink import EndReason
from gateway.ports.errors import StoreUnavailable
from gateway.ports.events import Event, Events, EventType
from gateway.ports.nodes import Node, NodeRole
from tests.support import builders
from tests.support.waiting import until

ALL = [str(kind) for kind in FaultKind]


class Outbox:
    """In place of the delivery: keeps the messages."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def queue(self, address: str, message: Any) -> None:
        self.messages.append(message)

    @property
    def told(self) -> list[tuple[str, str]]:
        found = [(message.state, message.title) for message in self.messages]
        self.messages.clear()
        return found


class StoredInMemory:
    """In place of the stored channels: all are named Stage. `deleted` are gone."""

    def __init__(self) -> None:
        self.deleted: set[str] = set()

    async def get(self, id: str) -> Channel:
        return Channel({"id": id, "videoname": "Stage"})

    async def get_many(self, ids: Collection[str]) -> Mapping[str, Channel | None]:
        return {id: Channel({"id": id}) for id in ids if id not in self.deleted}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteConsole]:
    async with SqliteConsole(tmp_path / "console.sqlite3") as store:
        yield store


class Process:
    """The alarms of one process, with a hub whose events they get."""

    def __init__(self, store: SqliteConsole) -> None:
        self.events = Events()
        self.hub = builders.hub(events=self.events)
        self.board, self.outbox, self.held_elsewhere = FaultBoard(self.hub.find), Outbox(), False
        self.channels = StoredInMemory()
        self.events.listen(self.board.note)

        async def elsewhere(id: str) -> bool:
            return self.held_elsewhere

        self.alarms = Alarms(AlarmSources(self.board, self.channels, elsewhere), store, self.outbox)  # type: ignore[arg-type]

    async def rule(self, **fields: Any) -> None:
        rule = AlarmRule.model_validate({"name": "r", "on": ALL, "gigabytes": 1, "to": "ntfy://topic", **fields})
        await self.alarms.set_rules(StoredRules([rule], {"r": 0.0}, "https://live.example.com"))

    async def told(self) -> list[tuple[str, str]]:
        await self.alarms.tick()
        return self.outbox.told

    def health(self, code: str, state: str, *, channel: str = "c1", value: Any = 1.0, age: float = 0) -> None:
        data = {"stream": channel, "code": code, "text": f"{code} text", "value": value, "state": state}
        self.events.emit(Event(EventType.STREAM_HEALTH, time.time() - age, channel, data))


def expiring(id: str, seconds: float) -> Channel:
    return builders.channel(id, key=f"{int(time.time() + seconds)}-{'0' * 64}")


@pytest.fixture
def node(store: SqliteConsole) -> Process:
    return Process(store)


async def test_a_fault_is_told_once_and_its_end_once(node: Process):
    await node.rule()
    node.health("gop_long", "begun")
    assert await node.told() == [("begun", "Stage: the stream has a fault")]
    assert await node.told() == []
    node.health("gop_long", "ended")
    assert await node.told() == [("ended", "Stage: the fault is over")]
    assert await node.told() == []


async def test_the_codes_have_kinds_and_several_outputs_may_fail(node: Process):
    await node.rule(on=["on_slate", "output_failing", "key_expires"])
    node.health("gop_long", "begun")
    node.health("input_lost", "begun", value=20)
    node.health("output_failing", "begun", value="relay a")
    node.health("output_failing", "begun", value="relay b")
    node.alarms.report_expiring([expiring("c1", 86_400)])
    titles = [title for _, title in await node.told()]
    assert titles == [
        "Stage: the main input is gone",
        *["Stage: an output fails"] * 2,
        "Stage: the stream key expires soon",
    ]
    node.health("output_failing", "ended", value="relay a")
    assert await node.told() == [("ended", "Stage: the output works again")]


async def test_a_key_that_expires_soon_is_told_once_also_after_a_restart(
    node: Process, store: SqliteConsole, monkeypatch: pytest.MonkeyPatch
):
    await node.rule()
    soon = [expiring("c1", 86_400)]
    node.alarms.report_expiring(soon)
    assert await node.told() == [("begun", "Stage: the stream key expires soon")]
    assert "is refused after 20" in next(fault.text for fault in node.board.faults)
    node.alarms.report_expiring(soon)
    assert await node.told() == []
    restarted = Process(store)
    await restarted.alarms.rules()
    restarted.board.started.add("c1")  # a push begins before the channels are read: that ends no fault of the key
    assert await restarted.told() == []
    real = time.monotonic
    with monkeypatch.context() as later:
        later.setattr(time, "monotonic", lambda: real() + 60)
        assert await restarted.told() == []
    restarted.alarms.report_expiring(soon)
    assert await restarted.told() == []
    restarted.alarms.report_expiring([])
    assert await restarted.told() == [("ended", "Stage: the stream key has a later date, or has expired")]


async def test_a_fault_must_last_and_concern_a_channel_of_the_rule(node: Process):
    await node.rule(after=60, channels=["c1"])
    node.health("gop_long", "begun", age=30)
    node.health("fps_low", "begun", channel="c2", age=90)
    assert await node.told() == []
    node.health("fps_low", "begun", age=90)
    assert len(await node.told()) == 1


async def test_a_new_rule_does_not_tell_old_faults(node: Process):
    node.health("gop_long", "begun", age=5)
    rules = StoredRules().replaced([AlarmRule(name="r", on=["health"], to="ntfy://t")], "")
    await node.alarms.set_rules(rules)
    assert await node.told() == []
    moved = rules.replaced([AlarmRule(name="r", on=["health"], to="ntfy://other")], "")
    assert moved.since == rules.since
    assert rules.replaced([AlarmRule(name="r", on=["disk"], to="ntfy://t")], "").since != rules.since


async def test_after_a_clock_was_set_back_faults_are_told_and_the_hour_of_a_pause_ends(
    node: Process, monkeypatch: pytest.MonkeyPatch
):
    """A machine without a battery for its clock has a wrong time until the first answer of NTP."""
    node.health("gop_long", "begun", age=5)
    rule = AlarmRule(name="r", on=["health"], after=600, to="ntfy://t")
    await node.alarms.set_rules(StoredRules().replaced([rule], ""))
    node.health("fps_low", "begun")
    assert await node.told() == []
    wall, monotonic = time.time, time.monotonic
    monkeypatch.setattr(time, "time", lambda: wall() - 7_200)
    assert len(await node.told()) == 2, "what began before the clock was set"
    node.health("clock_wrong", "begun", age=700)
    assert len(await node.told()) == 1
    for number in range(PER_HOUR):
        node.health(f"code{number}", "begun", age=700)
    assert [state for state, _ in await node.told()][-1] == "paused"
    monkeypatch.setattr(time, "time", lambda: wall() - 10_800)
    monkeypatch.setattr(time, "monotonic", lambda: monotonic() + 3_601)
    assert len(await node.told()) == 3


async def test_rules_of_another_node_are_used_when_the_store_tells_them(node: Process, store: SqliteConsole):
    told: list[Callable[[str], None]] = []

    class Changes:
        def listen(self, table: str, callback: Callable[[str], None]) -> None:
            told.append(callback)

    node.alarms.follow(Changes())
    async with Tasks("test") as tasks:
        running = tasks.start(node.alarms.run(), "alarms")
        await until(lambda: node.alarms._read_at > 0)
        rules = StoredRules([AlarmRule(name="other", on=["health"], to="ntfy://t")], {"other": 0.0}, "")
        await store.put("alarms", "rules", rules.as_json())
        told[0]("alarms/told")
        told[0]("alarms/rules")
        await until(lambda: [rule.name for rule in node.alarms.stored.rules] == ["other"])
        running.cancel()


def live(node: Process) -> Any:
    publisher = builders.publish(node.hub)
    publisher.set_tracks(builders.VIDEO, None, {})
    return publisher


async def test_a_channel_that_breaks_off_is_off_air_until_it_returns(node: Process):
    await node.rule()
    publisher = live(node)
    assert await node.told() == []
    publisher.close()
    assert await node.told() == [("begun", "Stage is off air")]
    live(node)
    assert await node.told() == [("ended", "Stage is on air again")]
    node.hub.end("c1", EndReason.KICKED)
    assert await node.told() == [("begun", "Stage is off air")]


async def test_a_rule_may_leave_out_stops(node: Process):
    await node.rule(stops=False)
    live(node)
    node.hub.end("c1", EndReason.KICKED)
    assert await node.told() == []
    live(node).close()
    assert await node.told() == [("begun", "Stage is off air")]


@pytest.mark.parametrize("reason", [EndReason.SHUTDOWN, EndReason.MOVED, EndReason.DELETED])
async def test_what_goes_on_elsewhere_or_was_deleted_is_not_off_air(node: Process, reason: EndReason):
    await node.rule()
    live(node)
    node.hub.end("c1", reason)
    assert await node.told() == []


async def test_a_push_without_media_was_never_on_air(node: Process):
    await node.rule()
    builders.publish(node.hub).close()
    assert await node.told() == []


async def test_a_stream_that_went_to_another_node_is_not_told(node: Process):
    await node.rule()
    node.held_elsewhere = True
    live(node).close()
    assert await node.told() == []
    node.held_elsewhere = False  # it breaks off there for less than the rule's time
    assert await node.told() == []
    assert list(node.board.faults) == []


async def test_a_stream_that_went_to_another_node_ends_its_told_fault(node: Process):
    rules = [AlarmRule(name=name, on=["off_air"], after=after, to="ntfy://t") for name, after in (("a", 0), ("b", 60))]
    await node.alarms.set_rules(StoredRules(rules, {}, ""))
    live(node).close()
    assert await node.told() == [("begun", "Stage is off air")]
    node.held_elsewhere = True
    await node.alarms.set_rules(StoredRules([rules[0], rules[1].model_copy(update={"after": 0})], {}, ""))
    assert await node.told() == []
    assert await node.told() == [("ended", "Stage is on air again")]


async def test_a_channel_off_air_that_a_command_deleted_has_no_fault(node: Process):
    await node.rule()
    live(node).close()
    await node.alarms.forget_deleted()
    assert await node.told() == [("begun", "Stage is off air")]
    node.channels.deleted.add("c1")
    await node.alarms.forget_deleted()
    assert [state for state, _ in await node.told()] == ["ended"]


async def test_quiet_hours_postpone_what_lasts(node: Process):
    now = datetime.now(UTC)
    quiet = {"from": f"{now - timedelta(hours=1):%H:%M}", "to": f"{now + timedelta(hours=1):%H:%M}"}
    await node.rule(quiet=quiet)
    node.health("gop_long", "begun")
    node.health("fps_low", "begun")
    assert await node.told() == []
    node.health("gop_long", "ended")
    await node.rule(quiet={"from": quiet["to"], "to": quiet["from"]})
    assert await node.told() == [("begun", "Stage: the stream has a fault")]


async def test_a_flood_pauses_the_rule_with_one_last_message(node: Process):
    await node.rule()
    for number in range(PER_HOUR + 5):
        node.health(f"code{number}", "begun")
    told = await node.told()
    assert [state for state, _ in told] == ["begun"] * PER_HOUR + ["paused"]
    for number in range(PER_HOUR + 5):
        node.health(f"code{number}", "ended")
    assert await node.told() == []


async def test_two_processes_and_a_restarted_one_tell_a_fault_once(node: Process, store: SqliteConsole):
    other = Process(store)
    for one in (node, other):
        await one.rule()
        one.board.report(FaultKind.NODE_GONE, [Fault(FaultKind.NODE_GONE, "", "10.0.0.5:8080", time.time(), "")])
    assert await node.told() + await other.told() == [("begun", "The node 10.0.0.5:8080 is gone")]
    again = Process(store)
    await again.rule()
    again.alarms.settle("node_gone/", 0)
    for one in (again, node, other):
        one.board.report(FaultKind.NODE_GONE, [])
    told = [message for one in (again, node, other) for message in await one.told()]
    assert told == [("ended", "The node 10.0.0.5:8080 has returned or was removed")]


async def test_a_stored_alarm_that_cannot_be_read_stops_no_other(node: Process, store: SqliteConsole):
    await node.rule()
    for key, value in (("a", {}), ("b", {"rule": "r", "kind": "later"}), ("c", {"rule": "r", "since": []})):
        await store.put(TOLD, key, value)
    node.alarms.settle("", 0)
    node.health("gop_long", "begun")
    assert await node.told() == [("begun", "Stage: the stream has a fault")]


async def test_a_stream_that_starts_at_another_node_ends_its_faults(node: Process, store: SqliteConsole, monkeypatch):
    monkeypatch.setattr(Alarms.settle, "__defaults__", (0.0,))
    other = Process(store)
    await node.rule()
    await other.rule()
    live(node).close()
    assert len(await node.told()) == 1
    live(other)
    assert await other.told() == [("ended", "Stage is on air again")]


async def test_the_end_of_a_fault_is_told_after_a_restarted_process_could_not_read_the_rules(
    node: Process, store: SqliteConsole, monkeypatch: pytest.MonkeyPatch
):
    await node.rule()
    node.board.report(FaultKind.NODE_GONE, [Fault(FaultKind.NODE_GONE, "", "10.0.0.5:8080", time.time(), "")])
    live(node).close()
    assert len(await node.told()) == 2
    restarted = Process(store)
    restarted.alarms.settle("node_gone/", 0)
    live(restarted)
    assert await restarted.told() == []  # the store has not answered yet
    await restarted.alarms.rules()
    assert await restarted.told() == []  # what lasts is found again only now
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + 60)
    titles = sorted(title for _, title in await restarted.told())
    assert titles == ["Stage is on air again", "The node 10.0.0.5:8080 has returned or was removed"]
    assert await store.list("alarm") == {}


async def test_faults_are_told_while_the_store_is_away(
    node: Process, store: SqliteConsole, monkeypatch: pytest.MonkeyPatch
):
    async def away(*_: Any) -> Any:
        raise StoreUnavailable("gone")

    await node.rule()
    node.alarms.settle("output_failing/", 0)
    node.health("no_media", "begun")
    for method in ("list", "add"):
        monkeypatch.setattr(store, method, away)
    with pytest.raises(StoreUnavailable):
        await node.alarms.tick()
    assert [state for state, _ in node.outbox.told] == ["begun"]


async def test_a_disk_that_fills_and_nodes_that_vanish_are_reported(node: Process):
    await node.rule()
    disk, gone = {"free": 100e9, "total": 1000e9}, [Node("a", NodeRole.GATEWAY, "10.0.0.5:80")]

    async def nodes() -> list[Node]:
        return gone

    watch = NodeWatch(node.board, "studio", lambda: disk, nodes)
    await watch.look(time.time())
    assert await node.told() == [("begun", "The node 10.0.0.5:80 is gone")]
    for free, told in ((49e9, [("begun", "The disk of studio is nearly full")]), (55e9, [])):
        disk["free"] = free
        await watch.look(time.time())
        assert await node.told() == told
    disk["free"], gone[:] = 61e9, []
    await watch.look(time.time())
    assert sorted(await node.told()) == [
        ("ended", "The disk of studio has space again"),
        ("ended", "The node 10.0.0.5:80 has returned or was removed"),
    ]


async def test_rules_that_cannot_be_read_keep_the_last_ones(node: Process, store: SqliteConsole):
    await node.rule()
    await store.put(
        "alarms", "rules", {"rules": [{"name": "r", "on": ["from the future"]}], "since": {}, "console": ""}
    )
    with pytest.raises(StoreUnavailable):
        await node.alarms.rules()
    assert len(node.alarms.stored.rules) == 1


async def test_rules_are_read_from_the_store(node: Process, store: SqliteConsole):
    await node.rule(quiet={"from": "23:00", "to": "07:00", "zone": "Europe/Berlin"})
    other = Process(store)
    stored = await other.alarms.rules()
    assert (stored.rules, stored.console) == (node.alarms.stored.rules, "https://live.example.com")


class Sums(DailyTraffic):
    """In place of the stored sums: what channels have sent on the first of `days`."""

    def __init__(self, **sent: int) -> None:
        self.sent, self.day, self.away = sent, "2026-11-26", False

    @property
    def days(self) -> list[str]:
        return [self.day]

    async def of_day(self, day: str) -> dict[str, tuple[int, int]]:
        if self.away:
            raise StoreUnavailable("gone")
        return {channel: (0, sent) for channel, sent in self.sent.items()}


def watch(node: Process, sums: Sums) -> TrafficWatch:
    return TrafficWatch(node.board, lambda: node.alarms.stored.rules, sums)


async def test_a_channel_above_its_daily_limit_is_told_once_a_day_and_has_no_end(node: Process, store: SqliteConsole):
    await node.rule(on=["traffic"], gigabytes=2.5)
    sums = Sums(c1=2_499_999_999, c2=100)
    watched = watch(node, sums)
    await watched.look(time.time())
    assert await node.told() == []
    sums.sent["c1"] = 2_512_345_678
    await watched.look(time.time())
    await node.alarms.tick()
    (message,) = node.outbox.messages
    assert message.title == "Stage has sent more than its daily limit"
    assert message.text.startswith("2.512 GB were sent to its viewers on 2026-11-26 (UTC). The limit is 2.5 GB.")
    node.outbox.messages.clear()
    sums.sent["c1"] += 10**9
    sums.away = True  # the last state stays
    await watched.look(time.time())
    assert await node.told() == []
    sums.away = False
    other = Process(store)  # another node, or this one after a restart
    await other.alarms.rules()
    await watch(other, sums).look(time.time())
    assert await other.told() == []
    sums.day, sums.sent = "2026-11-27", {"c1": 0}
    await watched.look(time.time())
    assert await node.told() == []
    sums.sent["c1"] = 3 * 10**9
    await watched.look(time.time())
    assert await node.told() == [("begun", "Stage has sent more than its daily limit")]


async def test_each_rule_has_its_own_limit(node: Process):
    rules = [
        {"name": name, "on": ["traffic"], "gigabytes": limit, "channels": channels, "to": "ntfy://topic"}
        for name, limit, channels in (("one", 1, []), ("ten", 10, []), ("other", 1, ["c9"]))
    ]
    read = [AlarmRule.model_validate(rule) for rule in rules]
    await node.alarms.set_rules(StoredRules(read, {}, ""))
    sums = Sums(c1=2 * 10**9)
    await watch(node, sums).look(time.time())
    await node.alarms.tick()
    assert [message.rule for message in node.outbox.messages] == ["one"]
    sums.sent["c1"] = 20 * 10**9
    await watch(node, sums).look(time.time())
    await node.alarms.tick()
    assert [message.rule for message in node.outbox.messages] == ["one", "ten"]


async def test_without_such_a_rule_nothing_is_read(node: Process):
    await node.rule(on=["disk"])
    sums = Sums(c1=10**12)
    sums.away = True
    await watch(node, sums).look(time.time())
    assert list(node.board.faults) == []


@pytest.mark.parametrize("gigabytes", [None, 0, -1, "much", 1e10])
def test_a_rule_for_traffic_needs_a_limit(gigabytes: object):
    rule = {"name": "r", "on": ["traffic"], "to": "ntfy://topic", "gigabytes": gigabytes}
    with pytest.raises(ValueError, match="gigabytes"):
        AlarmRule.model_validate({name: value for name, value in rule.items() if value is not None})
