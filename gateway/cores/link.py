"""What master and worker say to each other over their socket pair: one JSON object a line, the listening sockets by
inheritance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from gateway.hub.addresses import Ports
from gateway.nodes.host import Slot

MOST_LINE: Final = 65_536


class Word(StrEnum):
    """The master says all but READY."""

    BEGIN = "begin"  # the first line: Begin
    READY = "ready"  # the worker serves
    OPENED = "opened"  # to the first worker, once: all serve, people may be greeted
    RETIRE = "retire"  # accept no more, end when the publishers have
    STOP = "stop"  # drain


class LinkBroken(ConnectionError):
    """The other side said what makes no sense, or nothing."""


@dataclass(frozen=True, slots=True)
class Begin:
    """What a worker begins with. sockets: descriptors that it inherits, by the listener's name. ports: what is open on
    the host."""

    slot: Slot
    ports: Ports
    sockets: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def encode(self) -> bytes:
        slot = asdict(self.slot) | {"folder": str(self.slot.folder)}
        return line(Word.BEGIN, slot=slot, ports=self.ports.as_json(), sockets=dict(self.sockets))

    @classmethod
    def decode(cls, said: Mapping[str, Any]) -> Begin:
        """Raises LinkBroken."""
        try:
            slot = Slot(**(said["slot"] | {"folder": Path(said["slot"]["folder"])}))
            sockets = {str(name): tuple(map(int, found)) for name, found in said["sockets"].items()}
            return cls(slot, Ports(**said["ports"]), sockets)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise LinkBroken("the first line tells no worker's place") from None


def line(word: Word, **more: Any) -> bytes:
    return json.dumps({"say": word, **more}).encode() + b"\n"


class Lines:
    """Bytes in, lines out."""

    def __init__(self) -> None:
        self._rest = b""

    def receive(self, data: bytes) -> list[dict[str, Any]]:
        """Raises LinkBroken."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > MOST_LINE:
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
