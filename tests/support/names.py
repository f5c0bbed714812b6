"""A name server for tests: one UDP socket that answers A queries from a changeable table."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections import Counter
from collections.abc import Iterator

from tests.support.time_outs import at_most

_A, _ANY = 1, 255
_NXDOMAIN, _SERVFAIL = 3, 2
_TTL = 1


class NameServer:
    """A name server with `records`: IPv4 addresses by lower-case name.

    failing: it answers SERVFAIL. silent: it does not answer. asked: the number of queries by name.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.address = "{}:{}".format(*sock.getsockname())
        self.records: dict[str, tuple[str, ...]] = {}
        self.failing = False
        self.silent = False
        self.asked: Counter[str] = Counter()

    def serve(self) -> None:
        """Answers until the socket is shut down."""
        while True:
            try:
                query, client = self._socket.recvfrom(4096)
            except OSError:
                return
            if len(query) < 12:
                return
            answer = self._answer(query)
            if not self.silent:
                self._socket.sendto(answer, client)

    def _answer(self, query: bytes) -> bytes:
        """RFC 1035 §4.1: header, the unchanged question, and one record for each address."""
        labels, at = [], 12
        while size := query[at]:
            labels.append(query[at + 1 : at + 1 + size].decode("ascii").lower())
            at += 1 + size
        question = query[12 : at + 5]
        kind = int.from_bytes(query[at + 1 : at + 3], "big")
        name = ".".join(labels)
        self.asked[name] += 1
        known = self.records.get(name)
        code = _SERVFAIL if self.failing else 0 if known else _NXDOMAIN
        found = known if known and code == 0 and kind in (_A, _ANY) else ()
        head = query[:2] + bytes([0x81, 0x80 | code]) + b"\0\1" + len(found).to_bytes(2, "big") + bytes(4)
        record = b"\xc0\x0c\0\1\0\1" + _TTL.to_bytes(4, "big") + b"\0\4"  # the name: a pointer to the question's
        return head + question + b"".join(record + ipaddress.IPv4Address(a).packed for a in found)


@contextlib.contextmanager
def name_server() -> Iterator[NameServer]:
    """Runs an empty name server on a free local port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        server = NameServer(sock)
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            sock.sendto(b"end", sock.getsockname())  # shorter than any query
            thread.join(at_most(10))
