"""The table of broadcast servers: two roles, each with the public name of a task that accepts pushes."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import structlog

from gateway.adapters.aws.attributes import to_item
from gateway.adapters.aws.dynamo_table import DynamoTable
from gateway.adapters.aws.network_interfaces import public_name
from gateway.adapters.aws.session import AwsSession
from gateway.ports.errors import StoreUnavailable

log = structlog.get_logger(__name__)

ROLES: Final = ("primary", "secondary")
_ROLE_FIELDS: Final = ("role", "dns", "replaced", "eventid")
_TASK: Final = "task/"  # key prefix of the rows that describe tasks, by task id
_TASK_ROW_SECONDS: Final = 30 * 86_400  # lifetime of a task row
_CACHE_SECONDS: Final = 2.0
_MAX_ATTEMPTS: Final = 5  # while other gateways write the same rows


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """An "ECS Task State Change" event.

    version: of the task's state. It increases, so events may arrive in any order.
    time: of the event, RFC 3339.
    task: its ARN. last, desired: the statuses `lastStatus` and `desiredStatus`.
    interface: id of the network interface.
    for_channel: whether a gateway started the task for one channel.
    """

    id: str
    time: str
    task: str
    cluster: str
    group: str
    version: int
    last: str
    desired: str
    interface: str
    for_channel: bool

    @property
    def name(self) -> str:
        """The task's id: the last part of its ARN."""
        return self.task.rpartition("/")[2]


# The rows of the table by their `role`.
Rows: TypeAlias = Mapping[str, Mapping[str, str]]


class _RowChanged(Exception):
    """A row was changed since it was read."""


class BroadcastServerTable:
    """The DynamoDB table of broadcast servers.

    Rows of roles have the old system's attributes `role`, `dns`, `replaced` and `eventid`. Each task has a row too, so
    that each event is applied once and in order.

    A running task gets the first free role, the primary before the secondary. A role is free if its server was
    replaced. A task without a role waits until a role is free.

    Raises StoreUnavailable if DynamoDB or EC2 is unavailable. Needs dynamodb:Scan, PutItem and UpdateItem, and
    ec2:DescribeNetworkInterfaces.
    """

    def __init__(self, session: AwsSession, table: str, clock: Callable[[], float] = time.time) -> None:
        self._table = DynamoTable(session, table)
        self._clock = clock
        self._session = session
        self._read_lock = asyncio.Lock()
        self._servers: list[dict[str, str]] = []
        self._read_at = -_CACHE_SECONDS

    async def servers(self) -> list[dict[str, str]]:
        """Returns the rows of the roles that have a server, the primary first.

        Each has `role`, `dns`, `replaced` and `eventid`. The answer is cached for two seconds.
        """
        async with self._read_lock:
            now = self._clock()
            if not 0 <= now - self._read_at < _CACHE_SECONDS:
                rows = await self._rows()
                found = [rows[role] for role in ROLES if role in rows and rows[role].get("replaced") == "no"]
                self._servers = [{name: row.get(name, "") for name in _ROLE_FIELDS} for row in found]
                self._read_at = now
            return self._servers

    async def apply(self, event: TaskEvent) -> None:
        """Applies an event to the table. A repeated event changes nothing, but a free role gets a waiting task."""
        for _ in range(_MAX_ATTEMPTS):
            rows = await self._rows()
            known = rows.get(_TASK + event.name, {})
            try:
                if not known or int(known["version"]) < event.version:
                    if event.desired == "STOPPED" or event.last == "STOPPED":
                        await self._task_stopped(event, known, rows)
                    elif event.last == "RUNNING":
                        await self._task_running(event, known, rows)
                    else:
                        return
                await self._fill()
                return
            except _RowChanged:
                continue  # another gateway wrote first, so read again
        raise StoreUnavailable(f"{self._table.label}: other gateways write these rows")

    # ---- roles ----

    async def _task_running(self, event: TaskEvent, known: Mapping[str, str], rows: Rows) -> None:
        dns = known.get("dns") or await public_name(self._session, event.interface)
        if not dns:
            log.warning("a broadcast server has no public address, so broadcasters cannot reach it", task=event.task)
            return
        if _role_of(dns, rows) is not None:
            await self._write(self._task(event, known, dns, "serves"))
            return
        role = _free_role(rows)
        if role is None:
            await self._write(self._task(event, known, dns, "waits"))
            log.info("a broadcast server waits for a role", dns=dns)
            return
        await self._write(self._task(event, known, dns, "serves"), self._serve(role, dns, event.id))
        log.info("a broadcast server got a role", role=role, dns=dns)

    async def _task_stopped(self, event: TaskEvent, known: Mapping[str, str], rows: Rows) -> None:
        # The task's network interface may be deleted already, but its row has the name.
        dns = known.get("dns") or await public_name(self._session, event.interface)
        role = _role_of(dns, rows)
        writes = [self._task(event, known, dns, "gone")]
        if role is None:
            await self._write(*writes)
            return
        successor = _first_waiting(rows)
        if successor is None:
            await self._write(*writes, self._free(role, dns))
            log.info("a broadcast server left its role", role=role, dns=dns)
            return
        serve = self._serve(role, successor["dns"], successor["eventid"], previous=dns)
        await self._write(*writes, serve, self._promote(successor))
        log.info("a broadcast server replaced another one", role=role, dns=successor["dns"], instead_of=dns)

    async def _fill(self) -> None:
        """Gives a free role to a waiting task. Raises _RowChanged.

        One gateway may free a role while another one lets a task wait: neither has read what the other one writes. Each
        looks again behind its write, and at least one of them sees both.
        """
        rows = await self._rows()
        role, task = _free_role(rows), _first_waiting(rows)
        if role is not None and task is not None:
            await self._write(self._serve(role, task["dns"], task["eventid"]), self._promote(task))
            log.info("a broadcast server got a role", role=role, dns=task["dns"])

    # ---- rows ----

    async def _rows(self) -> dict[str, dict[str, str]]:
        """Returns all rows by their `role`: the two roles, and one for each task of the last 30 days."""
        items = await self._table.read_all()
        rows = ({name: str(next(iter(value.values()))) for name, value in item.items()} for item in items)
        return {row["role"]: row for row in rows}

    async def _write(self, *writes: Mapping[str, Any]) -> None:
        """Writes all rows or none. Raises _RowChanged."""
        if not await self._table.write_all(*writes):
            raise _RowChanged

    def _task(self, event: TaskEvent, known: Mapping[str, str], dns: str, state: str) -> dict[str, Any]:
        """Returns the write of a task's row. Its condition is that the row is unchanged since it was read (`known`).

        state: serves, waits or gone.
        """
        item = {"role": _TASK + event.name, "dns": dns, "state": state, "eventid": event.id, "time": event.time}
        numbers = {"version": event.version, "expires": int(self._clock()) + _TASK_ROW_SECONDS}
        condition, expected = "attribute_not_exists(version)", dict[str, Any]()
        if known:
            # Checks the state too: the task may have got a role since then.
            condition = "version = :version AND #state = :state"
            expected = {"version": int(known["version"]), "state": known["state"]}
        return {"Put": self._table.request(expected, Item=to_item({**item, **numbers}), ConditionExpression=condition)}

    def _serve(self, role: str, dns: str, event: str, previous: str = "") -> dict[str, Any]:
        """Returns the write that gives a role a server. previous: the server that it must have now; "": none."""
        item = to_item(dict(zip(_ROLE_FIELDS, (role, dns, "no", event), strict=True)))
        condition, values = "attribute_not_exists(#role) OR replaced <> :no", {"no": "no"}
        if previous:
            condition, values = "dns = :previous AND replaced = :no", {"no": "no", "previous": previous}
        return {"Put": self._table.request(values, Item=item, ConditionExpression=condition)}

    def _free(self, role: str, dns: str) -> dict[str, Any]:
        """Returns the write that marks a role as free, if `dns` is its server."""
        values, condition = {"yes": "yes", "no": "no", "dns": dns}, "dns = :dns AND replaced = :no"
        return self._update(role, values, "SET replaced = :yes", condition)

    def _promote(self, row: Mapping[str, str]) -> dict[str, Any]:
        """Returns the write that changes a task from "waits" to "serves", if its row is unchanged."""
        values = {"serves": "serves", "waits": "waits", "version": int(row["version"])}
        return self._update(row["role"], values, "SET #state = :serves", "#state = :waits AND version = :version")

    def _update(self, role: str, values: Mapping[str, Any], update: str, condition: str) -> dict[str, Any]:
        """Returns the write that changes the row of `role`, if it meets the condition."""
        key = to_item({"role": role})
        request = self._table.request(values, Key=key, UpdateExpression=update, ConditionExpression=condition)
        return {"Update": request}


def _role_of(dns: str, rows: Rows) -> str | None:
    """Returns the role of a server; None if it has none, or was replaced."""
    serving = (role for role in ROLES if rows.get(role, {}).get("replaced") == "no")
    return next((role for role in serving if dns and rows[role].get("dns") == dns), None)


def _free_role(rows: Rows) -> str | None:
    return next((role for role in ROLES if rows.get(role, {}).get("replaced", "yes") != "no"), None)


def _first_waiting(rows: Rows) -> Mapping[str, str] | None:
    """Returns the row of the task that waits longest for a role."""
    waiting = [row for key, row in rows.items() if key.startswith(_TASK) and row.get("state") == "waits"]
    return min(waiting, key=lambda row: (row.get("time", ""), row["role"]), default=None)
