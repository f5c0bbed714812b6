"""Tells faults to people, as the rules say: one message when a fault has lasted long enough, one when it is over.

Once a second, each rule compares the faults that last with those that it has told. So quiet hours and the bound of
messages only postpone: what still lasts afterwards is told, and what ended in between is not.

The store has an entry for each fault that was told. Whoever adds the entry sends the message, and whoever deletes it
sends the end. So several processes and nodes tell a fault once, and a process that starts again does not repeat it.
"""

import asyncio
import hashlib
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from gateway.alarms.delivery import Delivery
from gateway.alarms.fault import AlarmMessage, Fault, FaultKind, describe
from gateway.alarms.fault_board import OF_STREAM, FaultBoard
from gateway.alarms.rule import AlarmRule, StoredRules
from gateway.channels.channel import Channel
from gateway.channels.expiry import date_text
from gateway.channels.message_target import parse
from gateway.channels.stores import StoredChannels
from gateway.lib.places import Places
from gateway.ports.errors import AtCapacity, GatewayError, StoreUnavailable
from gateway.ports.store_outage import StoreOutage
from gateway.ports.stored_rows import read_row, read_rows
from gateway.ports.stores import ConsoleStore, StoreChanges

PER_HOUR: Final = 20  # messages of one rule, in each process
_HOUR: Final = 3_600.0
_TICK: Final = 1.0
_READ_SECONDS: Final = 20.0  # time between two reads of the rules, which another node may have changed …
_TOLD_READ_SECONDS: Final = 60.0  # … if the store tells changes: some may be lost
_SETTLE: Final = 20.0  # seconds after the start of a stream, in which its old faults are found again
_KEPT: Final = 30 * 86_400.0  # seconds for which the store knows that a fault was told
_KEPT_DAY: Final = 2 * 86_400.0  # the same for the traffic of a day
_CLOCK_BACK: Final = 60.0  # seconds; a time that lies further ahead is from before the clock was set back
_MAX_TESTS: Final = 4
RULES: Final = ("alarms", "rules")  # kind and key in the store
TOLD: Final = "alarm"  # kind in the store


@dataclass(frozen=True, slots=True)
class AlarmSources:
    """The sources of the alarms.

    elsewhere: whether another node has the stream of a channel.
    """

    board: FaultBoard
    channels: StoredChannels
    elsewhere: Callable[[str], Awaitable[bool]]


class Alarms:
    """The alarms of one process. `run` must be running."""

    def __init__(self, sources: AlarmSources, store: ConsoleStore, delivery: Delivery) -> None:
        self._sources, self._board, self._store, self._delivery = sources, sources.board, store, delivery
        self.stored = StoredRules()
        self._has_rules = False  # whether `stored` was read from the store, or written to it
        self._told: dict[tuple[str, str], Fault] = {}  # by rule and fault
        self._sent: dict[str, deque[float]] = {}  # monotonic times of the messages of each rule
        self._settling: dict[str, float] = {}  # by prefix of faults' keys: when they are known again
        self._read_at = float("-inf")
        self._read_seconds = _READ_SECONDS
        self._outage = StoreOutage("the alarms cannot use their store")
        self._tests = Places(_MAX_TESTS, lambda: AtCapacity("other test messages are being sent"))

    # ---- rules ----

    async def rules(self) -> StoredRules:
        """Returns the stored rules, and uses them from now on. Raises StoreUnavailable, UnreadableRow."""
        self.stored = read_row("rules of the", RULES[0], StoredRules.of, await self._store.get(*RULES))
        self._has_rules = True
        return self.stored

    def follow(self, changes: StoreChanges) -> None:
        """Reads the rules when the store tells that they have changed, and seldom otherwise."""
        self._read_seconds = _TOLD_READ_SECONDS
        changes.listen("people", self._changed)

    def _changed(self, key: str) -> None:
        if key == "/".join(RULES):
            self._read_at = float("-inf")

    async def set_rules(self, rules: StoredRules) -> None:
        """Stores the rules. Other nodes use them within _READ_SECONDS, or at once. Raises StoreUnavailable."""
        await self._store.put(*RULES, rules.as_json())
        self.stored, self._has_rules = rules, True

    async def test(self, rule: AlarmRule) -> str:
        """Sends a message now and returns the answer in words. Raises DeliveryFailed, AtCapacity."""
        with self._tests:
            title, text = "This is a test", f"The rule “{rule.name}” sends its messages here."
            message = self._message(rule, "test", "test", "", title, text, "#/alarms")
            return await self._delivery.send(parse(rule.to), message)

    # ---- faults ----

    def settle(self, prefix: str, seconds: float = _SETTLE) -> None:
        """Compares the told faults whose keys begin with `prefix` with those that last, after some seconds."""
        self._settling[prefix] = time.monotonic() + seconds

    def report_expiring(self, channels: Sequence[Channel]) -> None:
        """Replaces the channels whose keys expire soon."""
        now = time.time()
        faults = []
        for channel in channels:
            text = f"The stream key is refused after {date_text(channel.expires)}."
            faults.append(Fault(FaultKind.KEY_EXPIRES, channel.id, str(channel.expires), now, text))
        self._board.report(FaultKind.KEY_EXPIRES, faults)
        self.settle(f"{FaultKind.KEY_EXPIRES}/", 0)

    async def run(self) -> None:
        """Tells faults until it is cancelled."""
        while True:
            with self._outage:
                if time.monotonic() - self._read_at >= self._read_seconds:
                    self._read_at = time.monotonic()
                    await self.rules()
                    await self.forget_deleted()
                await self.tick()
            await asyncio.sleep(_TICK)

    async def forget_deleted(self) -> None:
        """Forgets faults of channels off air that a command or another program has deleted: no event tells it."""
        ids = {fault.channel for fault in self._board.faults if fault.kind is FaultKind.OFF_AIR}
        for id in ids.difference(await self._sources.channels.get_many(ids) if ids else ()):
            self._board.forget(id)

    async def tick(self) -> None:
        """Compares once."""
        for channel in self._board.started:
            for kind in OF_STREAM:
                self.settle(f"{kind}/{channel}/")
        self._board.started.clear()
        if not self._has_rules:
            for prefix in self._settling:  # the store did not answer yet, and may not have told the nodes either
                self.settle(prefix)
            return
        rules = self.stored.rules
        names = {rule.name for rule in rules}
        self._told = {key: fault for key, fault in self._told.items() if key[0] in names}
        self._sent = {name: sent for name, sent in self._sent.items() if name in names}
        if not rules:
            self._settling.clear()
            return
        unavailable: StoreUnavailable | None = None
        try:
            await self._recall()
        except StoreUnavailable as error:  # what lasts now is told without the store
            unavailable = error
        for rule in rules:
            if rule.quiet is None or not rule.quiet.contains(time.time()):
                await self._compare(rule)
        if unavailable is not None:
            raise unavailable

    async def _recall(self) -> None:
        """Reads which faults were told by an earlier process or another node, if they may be over."""
        due = tuple(prefix for prefix, at in self._settling.items() if at <= time.monotonic())
        if not due:
            return
        for rule, fault in read_rows("told alarm", _told, (await self._store.list(TOLD)).items()):
            if fault.key.startswith(due):
                self._told.setdefault((rule, fault.key), fault)
        for prefix in due:
            del self._settling[prefix]

    async def _compare(self, rule: AlarmRule) -> None:
        """Tells the differences between what lasts and what this rule has told."""
        now, since = time.time(), self.stored.since.get(rule.name, 0.0)
        if since > now + _CLOCK_BACK:
            since = 0.0  # otherwise, nothing would be told until the clock has reached this time
        for key, fault in [(k, f) for k, f in self._told.items() if k[0] == rule.name]:
            if self._board.get(fault.key) is None and self._has_room(rule):
                del self._told[key]
                if await self._forget(rule, fault):
                    await self._send(rule, fault, ended=now)
        for fault in list(self._board.faults):
            lasted = now - fault.since
            ripe = fault.since >= since and (lasted >= rule.after or lasted < -_CLOCK_BACK)
            if not (ripe and rule.covers(fault)) or (rule.name, fault.key) in self._told or not self._has_room(rule):
                continue
            if fault.kind is FaultKind.OFF_AIR and await self._sources.elsewhere(fault.channel):
                self._board.remove(fault)  # the other node reports when the stream ends there
                continue
            if self._board.get(fault.key) is fault:  # it did not end meanwhile
                self._told[rule.name, fault.key] = fault
                if await self._remember(rule, fault):
                    await self._send(rule, fault)

    async def _remember(self, rule: AlarmRule, fault: Fault) -> bool:
        """Returns whether this process has to tell the beginning: nobody did, or the store cannot say."""
        value: dict[str, Any] = {"rule": rule.name, "kind": str(fault.kind), "channel": fault.channel}
        value |= {"subject": fault.subject, "since": fault.since, "text": fault.text}
        try:
            kept = _KEPT_DAY if fault.kind is FaultKind.TRAFFIC else _KEPT
            return await self._store.add(TOLD, _entry(rule, fault), value, time.time() + kept)
        except StoreUnavailable:
            return True

    async def _forget(self, rule: AlarmRule, fault: Fault) -> bool:
        """Returns whether this process has to tell the end."""
        if fault.kind is FaultKind.TRAFFIC:
            return False  # the day is over; the entry stays, so that nobody tells it again
        try:
            return await self._store.delete(TOLD, _entry(rule, fault))
        except StoreUnavailable:
            return True

    # ---- messages ----

    def _has_room(self, rule: AlarmRule) -> bool:
        """Whether the rule may send a message now."""
        sent = self._sent.setdefault(rule.name, deque())
        while sent and sent[0] <= time.monotonic() - _HOUR:
            sent.popleft()
        return len(sent) < PER_HOUR

    async def _send(self, rule: AlarmRule, fault: Fault, ended: float | None = None) -> None:
        name = await self._name(fault.channel) if fault.channel else fault.subject
        title, text = describe(fault, name, rule.zone, ended)
        page = f"#/channels/{quote(fault.channel, safe='')}" if fault.channel else "#/system"
        state = "begun" if ended is None else "ended"
        self._queue(rule, self._message(rule, state, str(fault.kind), fault.channel, title, text, page))
        if len(self._sent[rule.name]) == PER_HOUR:
            title = f"The rule “{rule.name}” pauses"
            text = (
                f"It has sent {PER_HOUR} messages within an hour. It sends the next ones when the hour is over: about "
                "what lasts then, and about what has ended. The console shows everything."
            )
            self._delivery.queue(rule.to, self._message(rule, "paused", "paused", "", title, text, "#/events"))

    async def _name(self, id: str) -> str:
        try:
            return (await self._sources.channels.get(id)).name or id
        except GatewayError:
            return id

    def _queue(self, rule: AlarmRule, message: AlarmMessage) -> None:
        self._sent.setdefault(rule.name, deque()).append(time.monotonic())
        self._delivery.queue(rule.to, message)

    def _message(
        self, rule: AlarmRule, state: str, kind: str, channel: str, title: str, text: str, page: str
    ) -> AlarmMessage:
        link = f"{self.stored.console}/{page}" if self.stored.console else ""
        return AlarmMessage(uuid.uuid4().hex, time.time(), rule.name, state, kind, channel, title, text, link)


def _entry(rule: AlarmRule, fault: Fault) -> str:
    """Returns the key of a told fault in the store."""
    return hashlib.sha256(f"{rule.name}\0{fault.key}".encode()).hexdigest()


def _told(value: dict[str, Any]) -> tuple[str, Fault]:
    """Returns the name of the rule, and the fault that it has told."""
    kind = FaultKind(value["kind"])
    fault = Fault(kind, str(value["channel"]), str(value["subject"]), float(value["since"]), str(value["text"]))
    return str(value["rule"]), fault
