"""The table of broadcast servers: two roles, each with the public name of a task that accepts pushes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import structlog
from botocore.exceptions import ClientError

from gateway.adapters.aws.dynamo_table import DynamoTable
from gateway.adapters.aws.network_interfaces import public_name
from gateway.adapters.aws.session import AwsSession, error_code
from gateway.ports.errors import StoreUnavailable

log = structlog.get_logger(__name__)

ROLES: Final = ("primary", "secondary")
_ROLE_FIELDS: Final = ("role", "dns", "replaced", "eventid")
_TASK: Final = "task/"  # key prefix of the rows that describe tasks, by task id
_TASK_ROW_SECONDS: Final = 30 * 86_400  # lifetime of a task row
_CACHE_SECONDS: Final = 2.0
_MAX_ATTEMPTS: Final = 5  # while other gateways write equal rows
_BUSY: Final = frozenset({"TransactionCanceledException", "TransactionConflictException"})


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """An "ECS Task State Change" event.

    version: of the task's state. It increases, so events may arrive in any order.
    time: of the event, RFC 3339.
    last, desired: the statuses `lastStatus` and `desiredStatus`.
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
        """Applies an event to the table. A repeated event changes nothing."""
        for _ in range(_MAX_ATTEMPTS):
            rows = await self._rows()
            known = rows.get(_TASK + event.name, {})
            if known and int(known["version"]) >= event.version:
                return
            try:
                if event.desired == "STOPPED" or event.last == "STOPPED":
                    await self._task_stopped(event, known, rows)
                elif event.last == "RUNNING":
                    await self._task_running(event, known, rows)
                return
            except _RowChanged:
                continue  # another gateway wrote first, so read again
        raise StoreUnavailable(f"{self._table.label}: other gateways write these rows")

    # ---- roles ----

    async def _task_running(
        self, event: TaskEvent, known: Mapping[str, str], rows: Mapping[str, Mapping[str, str]]
    ) -> None:
        dns = known.get("dns") or await public_name(self._session, event.interface)
        if not dns:
            log.warning("a task has no public address, so broadcasters cannot reach it", task=event.task)
            return
        if any(rows.get(role, {}).get("dns") == dns and rows[role].get("replaced") == "no" for role in ROLES):
            await self._write(self._task(event, known, dns, "serves"))
            return
        role = next((r for r in ROLES if rows.get(r, {}).get("replaced", "yes") != "no"), None)
        if role is None:
            await self._write(self._task(event, known, dns, "waits"))
            log.info("a server for broadcasters waits for a role", dns=dns)
            return
        await self._write(self._task(event, known, dns, "serves"), self._serve(role, dns, event.id))
        log.info("a server for broadcasters", role=role, dns=dns)

    async def _task_stopped(
        self, event: TaskEvent, known: Mapping[str, str], rows: Mapping[str, Mapping[str, str]]
    ) -> None:
        # Its network interface may be deleted already, but the task's row has the name.
        dns = known.get("dns") or (await public_name(self._session, event.interface) if event.interface else "")
        role = next(
            (r for r in ROLES if dns and rows.get(r, {}).get("dns") == dns and rows[r].get("replaced") == "no"), None
        )
        writes = [self._task(event, known, dns, "gone")]
        if role is None:
            await self._write(*writes)
            return
        waiting = sorted(
            (row for key, row in rows.items() if key.startswith(_TASK) and row.get("state") == "waits"),
            key=lambda row: (row.get("time", ""), row["role"]),
        )
        if not waiting:
            await self._write(*writes, self._free(role, dns))
            log.info("a server for broadcasters was removed", role=role, dns=dns)
            return
        successor = waiting[0]
        await self._write(
            *writes, self._serve(role, successor["dns"], successor["eventid"], previous=dns), self._promote(successor)
        )
        log.info("a server for broadcasters", role=role, dns=successor["dns"], instead_of=dns)

    # ---- rows ----

    async def _rows(self) -> dict[str, dict[str, str]]:
        """Returns all rows by their `role`: the two roles, and one for each task of the last 30 days."""
        items = await self._table.read_all()
        rows = ({name: str(next(iter(value.values()))) for name, value in item.items()} for item in items)
        return {row["role"]: row for row in rows}

    async def _write(self, *writes: Mapping[str, Any]) -> None:
        """Writes all rows or none. Raises _RowChanged."""
        async with self._table.client() as client:
            try:
                await client.transact_write_items(TransactItems=list(writes))
            except ClientError as error:
                if error_code(error) in _BUSY:
                    raise _RowChanged from error
                raise

    def _task(self, event: TaskEvent, known: Mapping[str, str], dns: str, state: str) -> dict[str, Any]:
        """Returns the write of a task's row. Its condition is that the row is unchanged since it was read (`known`).

        state: serves, waits or gone.
        """
        item = {"role": _TASK + event.name, "dns": dns, "state": state, "eventid": event.id, "time": event.time}
        numbers = {"version": event.version, "expires": int(self._clock()) + _TASK_ROW_SECONDS}
        put: dict[str, Any] = {
            "TableName": self._table.name,
            "Item": {n: {"S": v} for n, v in item.items()} | {n: {"N": str(v)} for n, v in numbers.items()},
            "ConditionExpression": "attribute_not_exists(version)",
        }
        if known:
            # Checks the state too: the task may have got a role since then.
            put |= {
                "ConditionExpression": "version = :version AND #state = :state",
                "ExpressionAttributeNames": {"#state": "state"},
                "ExpressionAttributeValues": {":version": {"N": known["version"]}, ":state": {"S": known["state"]}},
            }
        return {"Put": put}

    def _serve(self, role: str, dns: str, event: str, previous: str = "") -> dict[str, Any]:
        """Returns the write that gives a role a server. previous: the server that it must have now; "": none."""
        free = "attribute_not_exists(#role) OR replaced <> :no"
        values = {":no": {"S": "no"}} | ({":previous": {"S": previous}} if previous else {})
        return {
            "Put": {
                "TableName": self._table.name,
                "Item": {n: {"S": v} for n, v in zip(_ROLE_FIELDS, (role, dns, "no", event), strict=True)},
                "ConditionExpression": "dns = :previous AND replaced = :no" if previous else free,
                "ExpressionAttributeValues": values,
                **({} if previous else {"ExpressionAttributeNames": {"#role": "role"}}),  # a reserved word
            }
        }

    def _free(self, role: str, dns: str) -> dict[str, Any]:
        """Returns the write that marks a role as free, if `dns` is its server."""
        return {
            "Update": {
                "TableName": self._table.name,
                "Key": {"role": {"S": role}},
                "UpdateExpression": "SET replaced = :yes",
                "ConditionExpression": "dns = :dns AND replaced = :no",
                "ExpressionAttributeValues": {":yes": {"S": "yes"}, ":no": {"S": "no"}, ":dns": {"S": dns}},
            }
        }

    def _promote(self, row: Mapping[str, str]) -> dict[str, Any]:
        """Returns the write that changes a task from "waits" to "serves", if its row is unchanged."""
        return {
            "Update": {
                "TableName": self._table.name,
                "Key": {"role": {"S": row["role"]}},
                "UpdateExpression": "SET #state = :serves",
                "ConditionExpression": "#state = :waits AND version = :version",
                "ExpressionAttributeNames": {"#state": "state"},
                "ExpressionAttributeValues": {
                    ":serves": {"S": "serves"},
                    ":waits": {"S": "waits"},
                    ":version": {"N": row["version"]},
                },
            }
        }
