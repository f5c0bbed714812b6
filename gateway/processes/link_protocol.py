"""Messages between master and worker on their socket pair: one JSON object on each line.

In this folder, a worker is one process of the node; see `gateway.processes.master`. The listening sockets are not sent;
the worker inherits them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Final

from gateway.channels.addresses import OpenPorts
from gateway.cluster.members.worker_slot import WorkerSlot
from gateway.lib.records import read_record

MAX_LINE: Final = 65_536  # bytes
ALIVE_SECONDS: Final = 1.0


class ProcessMessage(StrEnum):
    """Kinds of messages. The worker sends READY and ALIVE, the master sends all others."""

    BEGIN = "begin"  # the first line: Begin
    READY = "ready"  # the worker accepts connections
    ALIVE = "alive"  # every ALIVE_SECONDS: the worker's event loop runs
    OPENED = "opened"  # once, to the first worker: all workers are ready, so it may print its first messages
    RETIRE = "retire"  # accept no new connections, and exit when the publishers have ended
    STOP = "stop"  # drain and exit


class LinkBroken(ConnectionError):
    """The peer sent an invalid message, or closed the link before its first message."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The first message to a worker.

    sockets: file descriptors that it inherits, by the listener's name. ports: the open ports of the host.
    """

    slot: WorkerSlot
    ports: OpenPorts
    sockets: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def encode(self) -> bytes:
        slot = asdict(self.slot) | {"folder": str(self.slot.folder)}
        return encode_message(ProcessMessage.BEGIN, slot=slot, ports=self.ports.as_json(), sockets=dict(self.sockets))

    @classmethod
    def decode(cls, message: Mapping[str, Any]) -> Begin:
        """Reads the message of `encode`. Raises LinkBroken if a field is missing or invalid."""
        try:
            slot = read_record(WorkerSlot, message["slot"])
            sockets = {str(name): tuple(map(int, numbers)) for name, numbers in message["sockets"].items()}
            return cls(slot, OpenPorts(**message["ports"]), sockets)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LinkBroken("the first message has no valid worker slot") from None


def encode_message(kind: ProcessMessage, **fields: Any) -> bytes:
    return json.dumps({"say": kind, **fields}).encode() + b"\n"


class LineReader:
    """Splits received bytes into lines and parses each as a JSON object."""

    def __init__(self) -> None:
        self._incomplete = b""

    def receive(self, data: bytes) -> list[dict[str, Any]]:
        """Returns the objects of the complete lines. Raises LinkBroken."""
        *lines, self._incomplete = (self._incomplete + data).split(b"\n")
        if len(self._incomplete) > MAX_LINE:
            raise LinkBroken("the line is too long")
        messages = []
        for line in lines:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                raise LinkBroken("the line is not JSON") from None
            if not isinstance(message, dict):
                raise LinkBroken("the line is not a JSON object")
            messages.append(message)
        return messages
