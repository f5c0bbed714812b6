"""Messages between master and worker on their socket pair: one JSON object on each line.

In this folder, a worker is one process of the node; see `gateway.processes.master`. The listening sockets come with the
first message.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import chain, islice
from typing import Any, Final

from gateway.channels.addresses import OpenPorts
from gateway.cluster.members.worker_slot import WorkerSlot
from gateway.lib.records import read_record

MAX_LINE: Final = 65_536  # bytes
MAX_SOCKETS: Final = 253  # of one message, the limit of Linux
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

    sockets: file descriptors by the listener's name: at the sender its own, at the receiver the copies that it got.
    ports: the open ports of the host.
    """

    slot: WorkerSlot
    ports: OpenPorts
    sockets: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def encode(self) -> bytes:
        slot = asdict(self.slot) | {"folder": str(self.slot.folder)}
        counts = {name: len(numbers) for name, numbers in self.sockets.items()}
        return encode_message(ProcessMessage.BEGIN, slot=slot, ports=self.ports.as_json(), sockets=counts)

    def send(self, link: socket.socket) -> None:
        """Sends the message with its sockets. Raises OSError."""
        socket.send_fds(link, [self.encode()], [*chain(*self.sockets.values())])

    @classmethod
    def decode(cls, message: Mapping[str, Any], descriptors: Sequence[int]) -> Begin:
        """Reads the message of `encode`. descriptors: those that came with it.

        Raises LinkBroken if a field or a socket is missing or invalid.
        """
        try:
            slot, remaining = read_record(WorkerSlot, message["slot"]), iter(descriptors)
            sockets = {str(name): tuple(islice(remaining, int(count))) for name, count in message["sockets"].items()}
            if sum(map(len, sockets.values())) != sum(message["sockets"].values()):
                raise LinkBroken("the first message has not all sockets")
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
