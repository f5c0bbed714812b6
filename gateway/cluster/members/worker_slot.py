"""One of several processes of a gateway: its number, and the sockets of the other processes, which share its ports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SOCKET: Final = ".sock"
HANDOVER: Final = ".udp"


@dataclass(frozen=True, slots=True)
class WorkerSlot:
    """Describes one process of a gateway with several processes. The master process creates it.

    These processes serve clients. They are not the workers that decode and encode.
    host: an id that the processes of one master share. It is new at each start of the master.
    number: 1 to `count`. The first process does the work that is needed once per host.
    start: 1 for the first process in this slot, 2 for the next one.
    folder: contains the Unix sockets for requests between the processes; private to this user.
    secret: signs these requests, if the settings contain no secret.
    succeeds: node id of the previous process in this slot, if it crashed. No process owns its registry rows now.
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
        """Whether this process runs the admin listener, VOD, job queues and retention."""
        return self.number == 1

    @property
    def name(self) -> str:
        """The name in logs and metrics: `2`, or `2-3` for the third process in that slot."""
        return name(self.number, self.start)

    @property
    def id(self) -> str:
        """The node id, see ports.nodes.Node.id."""
        return f"{self.host}.{self.name}"

    @property
    def socket(self) -> Path:
        """The path of the socket on which this process listens for its siblings."""
        return self.folder / f"{self.id}{SOCKET}"

    @property
    def handover(self) -> Path:
        """The path of the socket on which this process waits for the process that replaces it."""
        return self.folder / f"{self.id}{HANDOVER}"

    def earlier_handovers(self) -> list[Path]:
        """Returns the `handover` paths of the earlier processes in this slot, newest first. Some may have ended."""
        names = (f"{self.host}.{name(self.number, start)}{HANDOVER}" for start in range(self.start - 1, 0, -1))
        existing = {path.name for path in self.folder.glob(f"{self.host}.*{HANDOVER}")}
        return [self.folder / found for found in names if found in existing]

    @property
    def address(self) -> str:
        """The address in the form of NodeAddress: `unix:/path`."""
        return f"unix:{self.socket}"

    def siblings(self) -> Mapping[str, str]:
        """Returns the Unix sockets of the other running processes of this host, by node id.

        Reads the folder. A process that died recently is listed until the master removes its socket.
        """
        sockets = {path.name.removesuffix(SOCKET): str(path) for path in self.folder.glob(f"{self.host}.*{SOCKET}")}
        return {id: sockets[id] for id in sorted(sockets) if id != self.id}


def name(number: int, start: int) -> str:
    """Returns the name of a process, see WorkerSlot.name."""
    return str(number) if start == 1 else f"{number}-{start}"
