"""A sender of SRTLA in a thread: takes the packets of one SRT caller, and sends them on several links in turn."""

import contextlib
import secrets
import select
import socket
import threading
import time
from collections.abc import Iterator, Sequence

KEEP_ALIVE, REG1, REG2, REG3 = b"\x90\x00", b"\x92\x00", b"\x92\x01", b"\x92\x02"


class SrtlaSender:
    """A sender with a link from each address of this host. port: for the SRT caller. down: links that carry nothing."""

    def __init__(self, target: int, hosts: Sequence[str]) -> None:
        self._target = ("127.0.0.1", target)
        self._hosts = hosts
        self._local = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._local.bind(("127.0.0.1", 0))
        self.port = self._local.getsockname()[1]
        self.down: set[str] = set()
        self.is_stopped = False
        self._links = {host: socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for host in hosts}
        for host, link in self._links.items():
            link.settimeout(5)
            link.bind((host, 0))

    def register(self) -> None:
        """Registers the group, and all its links."""
        first = self._links[self._hosts[0]]
        first.sendto(REG1 + secrets.token_bytes(256), self._target)
        group = first.recv(2048)
        assert group[:2] == REG2
        for link in self._links.values():
            link.sendto(group, self._target)
            assert link.recv(2048)[:2] == REG3

    def run(self) -> None:
        """Carries packets until `is_stopped`."""
        caller, turn, alive_at = None, 0, 0.0
        sockets = [self._local, *self._links.values()]
        while not self.is_stopped:
            up = [link for host, link in self._links.items() if host not in self.down]
            if time.monotonic() >= alive_at:
                alive_at = time.monotonic() + 1
                for link in up:
                    link.sendto(KEEP_ALIVE + bytes(8), self._target)
            for ready in select.select(sockets, [], [], 0.1)[0]:
                data, address = ready.recvfrom(2048)
                if ready is self._local:
                    caller, turn = address, turn + 1
                    up[turn % len(up)].sendto(data, self._target)
                elif ready in up and caller is not None and not 0x90 <= data[0] <= 0x92:
                    self._local.sendto(data, caller)
        for one in sockets:
            one.close()


@contextlib.contextmanager
def srtla_sender(target: int, *hosts: str) -> Iterator[SrtlaSender]:
    """A running sender."""
    sender = SrtlaSender(target, hosts)
    sender.register()
    running = threading.Thread(target=sender.run, daemon=True)
    running.start()
    try:
        yield sender
    finally:
        sender.is_stopped = True
        running.join()
