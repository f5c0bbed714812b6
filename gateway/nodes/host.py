"""Host: the worker processes that share the ports of a machine: which of them this is, and how it finds the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SOCKET: Final = ".sock"


@dataclass(frozen=True, slots=True)
class Slot:
    """What a worker process is told of its place by the master; a gateway that runs alone has none.

    host: an id that the workers of one master share, new with each start of it. number: 1 to `count`; the first does
    what is done once on a host. start: 1 for the first process in this slot, 2 for the one that followed it. folder:
    of the Unix sockets on which workers ask each other, private to this user. secret: signs what they ask, where the
    settings name none. succeeds: the node id of the process before it in this slot, where that crashed: its rows in a
    registry are nobody's.
    """

    host: str
    number: int
    start: int
    count: int
    folder: Path
    secret: str = field(repr=False)
    succeeds: str = ""

    @property
    def first(self) -> bool:
        """Whether admin listener, films, queues and retention are its own."""
        return self.number == 1

    @property
    def name(self) -> str:
        """In logs and metrics: `2`, and `2-3` for the third process in that slot."""
        return name(self.number, self.start)

    @property
    def id(self) -> str:
        """Of the node: hub.nodes.Node.id."""
        return f"{self.host}.{self.name}"

    @property
    def socket(self) -> Path:
        """Where it listens for its siblings."""
        return self.folder / f"{self.id}{SOCKET}"

    @property
    def address(self) -> str:
        """As a Place's: `unix:/path`."""
        return f"unix:{self.socket}"

    def siblings(self) -> Mapping[str, str]:
        """The Unix sockets of the other workers of this host that live, or did a moment ago, by node id. Reads the
        folder: the master takes away what the dead left."""
        own = self.id
        found = {path.name.removesuffix(SOCKET): str(path) for path in self.folder.glob(f"{self.host}.*{SOCKET}")}
        return {id: found[id] for id in sorted(found) if id != own}


def name(number: int, start: int) -> str:
    """As of Slot.name."""
    return str(number) if start == 1 else f"{number}-{start}"
