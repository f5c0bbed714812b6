"""A thin UDP link between two programs, with the conditions of `link_conditions`.

Runs as a program: `python -m tests.support.udp_link LISTEN TARGET --loss 5 --delay 20`. It prints its port in one line,
and its counters as JSON when it ends.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from tests.support.link_conditions import Conditions, Way

MAX_QUEUE = 20_000  # datagrams; more are dropped


@dataclass
class UdpLink:
    """Forwards datagrams between clients and one target. Each client has its own socket to the target.

    forwarded: called for each with its monotonic time, the port of its sender and of its receiver, and its bytes.
    """

    conditions: Conditions
    target: tuple[str, int]
    host: str = "127.0.0.1"
    port: int = 0
    is_stopped: bool = False
    forwarded: Callable[[float, int, int, bytes], object] = lambda *_: None
    _outside: socket.socket = field(init=False)
    _inside: dict[tuple[str, int], socket.socket] = field(default_factory=dict)
    _clients: dict[int, tuple[str, int]] = field(default_factory=dict)
    _queue: list[tuple[float, int, socket.socket, tuple[str, int], bytes]] = field(default_factory=list)
    _count: int = 0

    def __post_init__(self) -> None:
        self._outside = self._socket(self.host, self.port)
        self.port = self._outside.getsockname()[1]
        seed = self.conditions.seed
        self.up = Way(self.conditions, random.Random(seed))
        self.down = Way(self.conditions, random.Random(seed + 1))

    @staticmethod
    def _socket(host: str, port: int) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            opened.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
        opened.setblocking(False)
        opened.bind((host, port))
        return opened

    def run(self) -> None:
        """Forwards until it is interrupted, or `is_stopped` is set. The conditions may change meanwhile."""
        began = time.monotonic()
        poll = select.poll()
        poll.register(self._outside, select.POLLIN)
        by_fd = {self._outside.fileno(): self._outside}
        while not self.is_stopped:
            now = time.monotonic()
            wait = 100.0 if not self._queue else max(0.0, (self._queue[0][0] - now) * 1000)
            for fd, _ in poll.poll(min(100.0, wait)):
                opened = by_fd[fd]
                for _ in range(64):
                    try:
                        data, address = opened.recvfrom(2048)
                    except (BlockingIOError, ConnectionRefusedError):
                        break
                    now = time.monotonic()
                    if opened is self._outside:
                        inside = self._inside.get(address)
                        if inside is None:
                            inside = self._inside[address] = self._socket(self.host, 0)
                            self._clients[inside.fileno()] = address
                            by_fd[inside.fileno()] = inside
                            poll.register(inside, select.POLLIN)
                        self.forwarded(now, address[1], self.port, data)
                        self._put(self.up, inside, self.target, data, now, began, address[0])
                    else:
                        client = self._clients[fd]
                        self.forwarded(now, self.port, client[1], data)
                        self._put(self.down, self._outside, client, data, now, began, client[0])
            self._send_due(time.monotonic())
        for opened in by_fd.values():
            opened.close()

    def _put(
        self,
        way: Way,
        opened: socket.socket,
        to: tuple[str, int],
        data: bytes,
        now: float,
        began: float,
        client: str,
    ) -> None:
        for at in way.arrivals(len(data), now, began, client):
            if len(self._queue) < MAX_QUEUE:
                self._count += 1
                heapq.heappush(self._queue, (at, self._count, opened, to, data))

    def _send_due(self, now: float) -> None:
        while self._queue and self._queue[0][0] <= now:
            _, _, opened, to, data = heapq.heappop(self._queue)
            try:
                opened.sendto(data, to)
            except OSError:  # the target is away
                continue

    def counters(self) -> dict[str, object]:
        return {
            "conditions": asdict(self.conditions),
            "up": {"received": self.up.received, "lost": self.up.lost},
            "down": {"received": self.down.received, "lost": self.down.lost},
        }


def main() -> None:
    """Reads the command line, and forwards until SIGTERM."""
    parser = argparse.ArgumentParser("udp_link", description=__doc__)
    parser.add_argument("listen", type=int, help="port; 0: any free one")
    parser.add_argument("target", type=int, help="port of the target")
    parser.add_argument("--host", default="127.0.0.1")
    for name, value in asdict(Conditions()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    asked = vars(parser.parse_args())
    listen, target, host = (asked.pop(name) for name in ("listen", "target", "host"))
    link = UdpLink(Conditions(**asked), (host, target), host, listen)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    print(link.port, flush=True)
    try:
        link.run()
    except (KeyboardInterrupt, SystemExit):
        print(json.dumps(link.counters()), flush=True)


if __name__ == "__main__":
    main()
