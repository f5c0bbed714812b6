"""Gateways and edges as in production: own addresses, the same ports and shared stores, found through DNS."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from tests.support.clients import until
from tests.support.free_ports import free_ports
from tests.support.gateway import Channel, Edge, Gateway, Reply, http
from tests.support.haproxy import GATEWAYS, PLAYERS, SOURCE
from tests.support.names import NameServer
from tests.support.time_outs import at_most

_GATEWAYS = tuple(f"127.0.0.{n}" for n in range(11, 15))
_EDGES = tuple(f"127.0.0.{n}" for n in range(21, 23))
_PORTS = ("rtmp", "http", "ws")

Kind = TypeVar("Kind", bound=Gateway)


class Farm:
    """Nodes that share channels, secrets and registry. `names` resolves the listed ones.

    gateways, edges: nodes by address. settings: MILLRACE_ variables of each node; other files are in `folder`.
    """

    def __init__(self, folder: Path, names: NameServer, **settings: str) -> None:
        self.folder = folder
        self.names = names
        self.ports = dict(zip(_PORTS, free_ports(len(_PORTS), *_GATEWAYS, *_EDGES), strict=True))
        self.gateways: dict[str, Gateway] = {}
        self.edges: dict[str, Edge] = {}
        # The address at which other nodes reach a node, if it is not its own: for links that a test cuts.
        self.reached_at: dict[str, str] = {}
        self._settings = settings
        self._started = 0
        self._draining: set[str] = set()
        self._stack = contextlib.ExitStack()

    @property
    def variables(self) -> dict[str, str]:
        """The variables with which HAProxy finds the ports of the nodes."""
        return {f"FRONT_TO_{name.upper()}": str(port) for name, port in self.ports.items()}

    @property
    def database(self) -> Path:
        """The shared store of channels."""
        return self.folder / "channels.db"

    # ---- nodes come ----

    def gateway(self, host: str = "", **settings: str) -> str:
        """Starts a gateway, waits until it is ready, and lists it in DNS.

        host: reuses the address of an ended one. settings: MILLRACE_ variables of this node only.
        """
        host = host or next(host for host in _GATEWAYS if host not in self.gateways)
        self.gateways[host] = self._start(Gateway, host, _PORTS, **settings)
        self._list(GATEWAYS, host)
        return host

    def edge(self, host: str = "") -> str:
        """Starts an edge in the same way as `gateway`."""
        host = host or next(host for host in _EDGES if host not in self.edges)
        self.edges[host] = self._start(Edge, host, ("rtmp", "http"))
        self._list(PLAYERS, host)
        return host

    def _start(self, kind: type[Kind], host: str, listeners: tuple[str, ...], **own: str) -> Kind:
        settings = {
            "CHANNELS": f"sqlite:///{self.database}",
            "REGISTRY": f"sqlite:///{self.folder}/registry.db",
            "CLUSTER__SECRET": "what all nodes share",
            "SIGNING__SECRET": "what keys are signed with",
            "HTTP__ADVERTISE": self._reached(host),
            "RTMP__PROXY_FROM": SOURCE,
            "HTTP__FORWARDED_FROM": SOURCE,
            "WS__FORWARDED_FROM": SOURCE,
        }
        for name in listeners:
            settings |= {f"{name.upper()}__HOST": host, f"{name.upper()}__PORT": str(self.ports[name])}
        self._started += 1
        folder = self.folder / f"{self._started}-{host}"
        folder.mkdir()
        node = kind(folder, **{f"MILLRACE_{name}": value for name, value in settings.items()} | self._settings | own)
        self._stack.callback(self._end, node)
        node.wait_ready()
        return node

    def _list(self, name: str, host: str) -> None:
        known = self.names.records.get(name, ())
        self.names.records[name] = (*(h for h in known if h != host), host)

    # ---- requests to nodes ----

    @property
    def alive(self) -> list[str]:
        """The addresses of running gateways. A gateway that drains is not one: it ends at any time."""
        running = ((host, gateway.process.poll() is None) for host, gateway in self.gateways.items())
        return [host for host, runs in running if runs and host not in self._draining]

    def get(self, host: str, path: str, **headers: str) -> Reply:
        """Sends a request directly to the playback listener of one node."""
        return http("GET", f"http://{host}:{self.ports['http']}{path}", headers=headers)

    def channel(self, **fields: Any) -> Channel:
        """Creates a channel for all nodes."""
        return self.gateways[self.alive[0]].channel(**fields)

    def session(self, channel: Channel) -> dict[str, Any] | None:
        """The session from the admin API of any answering gateway; None while the channel's holder hangs."""
        for host in self.alive:
            reply = self.gateways[host].api("GET", f"/videostream/{channel.id}/session")
            if reply.status == 200:
                return dict(reply.json())
            assert reply.status == 503, reply.text
        return None

    def publisher(self, channel: Channel) -> dict[str, Any]:
        """Waits for a publisher and returns its description."""
        return dict(until(lambda: (self.session(channel) or {}).get("publisher"), f"{channel.id} is published", 30))

    def holder(self, channel: Channel) -> str:
        """Waits for a publisher and returns the address of the gateway that holds the stream."""

        def held() -> str | None:
            session = self.session(channel)
            if session is None or session["state"] != "live" or not session["publisher"]:
                return None
            nodes = self.gateways[self.alive[0]].api("GET", "/nodes").json()
            address = next((node["address"] for node in nodes if node["node"] == session["node"]), None)
            return next((host for host in self.gateways if self._reached(host) == address), None)

        return str(until(held, f"{channel.id} is live", 30))

    def _reached(self, host: str) -> str:
        return self.reached_at.get(host, f"{host}:{self.ports['http']}")

    # ---- faults ----

    def kill(self, host: str) -> None:
        """Kills a node. The name server still lists it."""
        process = (self.gateways.get(host) or self.edges[host]).process
        process.send_signal(signal.SIGKILL)
        process.wait(at_most(10))

    def drain(self, host: str) -> None:
        """Sends SIGTERM and returns at once."""
        self._draining.add(host)
        (self.gateways.get(host) or self.edges[host]).process.send_signal(signal.SIGTERM)

    @contextlib.contextmanager
    def store_away(self) -> Iterator[None]:
        """Makes the channel store unavailable for all nodes during the block."""
        with contextlib.closing(sqlite3.connect(self.database, isolation_level=None, timeout=30)) as store:
            store.execute("ALTER TABLE channels RENAME TO channels_away")
            try:
                yield
            finally:
                store.execute("ALTER TABLE channels_away RENAME TO channels")

    def __enter__(self) -> Farm:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @staticmethod
    def _end(node: Gateway) -> None:
        with contextlib.suppress(AssertionError):
            node.stop(10)


@contextlib.contextmanager
def farm(names: NameServer, count: int = 2, **settings: str) -> Iterator[Farm]:
    """Starts `count` gateways, ready and listed. settings: MILLRACE_ variables of each."""
    with tempfile.TemporaryDirectory(prefix="millrace-farm-") as folder, Farm(Path(folder), names, **settings) as one:
        for _ in range(count):
            one.gateway()
        yield one
