"""Messages between master and worker on their socket pair: one JSON object for each line.

The listening sockets are not sent; the worker inherits them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from gateway.channels.addresses import OpenPorts
from gateway.cluster.worker_slot import WorkerSlot

MAX_LINE: Final = 65_536


class WorkerCommand(StrEnum):
    """Kinds of messages. The worker sends READY, the master all others."""

    BEGIN = "begin"  # the first line: Begin
    READY = "ready"  # the worker serves
    OPENED = "opened"  # to the first worker, once: all workers serve, so it may print its first messages
    RETIRE = "retire"  # accept no new connections, end when the publishers have ended
    STOP = "stop"  # drain and end


class LinkBroken(ConnectionError):
    """The other side sent an invalid message, or none."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The first message to a worker.

    sockets: descriptors that it inherits, by the listener's name. ports: the open ports of the host.
    """

    slot: WorkerSlot
    ports: OpenPorts
    sockets: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def encode(self) -> bytes:
        slot = asdict(self.slot) | {"folder": str(self.slot.folder)}
        return line(WorkerCommand.BEGIN, slot=slot, ports=self.ports.as_json(), sockets=dict(self.sockets))

    @classmethod
    def decode(cls, said: Mapping[str, Any]) -> Begin:
        """Raises LinkBroken."""
        try:
            slot = WorkerSlot(**(said["slot"] | {"folder": Path(said["slot"]["folder"])}))
            sockets = {str(name): tuple(map(int, found)) for name, found in said["sockets"].items()}
            return cls(slot, OpenPorts(**said["ports"]), sockets)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LinkBroken("the first line tells no worker's place") from None


def line(word: WorkerCommand, **more: Any) -> bytes:
    return json.dumps({"say": word, **more}).encode() + b"\n"


class Lines:
    """Splits received bytes into lines and parses each as a JSON object."""

    def __init__(self) -> None:
        self._rest = b""

    def receive(self, data: bytes) -> list[dict[str, Any]]:
        """Returns the objects of the complete lines. Raises LinkBroken."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MAX_LINE:
            raise LinkBroken("an endless line")
        found = []
        for one in lines:
            try:
                said = json.loads(one)
            except (ValueError, RecursionError):
                raise LinkBroken("a line that is no JSON") from None
            if not isinstance(said, dict):
                raise LinkBroken("a line that is no object")
            found.append(said)
        return found
