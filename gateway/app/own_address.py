"""The open ports of this process, and the address at which other nodes reach it."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway.adapters.advertise import advertised_address, host_of
from gateway.app.certificates import NodeCertificate
from gateway.channels.addresses import OpenPorts
from gateway.ports.cluster_secret import fleet_mark
from gateway.ports.nodes import Node, NodeRole
from gateway.settings import Settings


class OwnAddress:
    """The open ports and the address of this process. Before `announce`, no port is open, and the address is "".

    certificate: of the ports over TLS; None: they are closed.
    load: returns the load and the free capacity for the registry; it is set when the services exist.
    """

    def __init__(self, settings: Settings, certificate: NodeCertificate | None = None) -> None:
        self._settings = settings
        self._certificate = certificate
        self._shown: Mapping[str, Any] = {}  # information for operators and broadcasters
        self.load: Callable[[], Mapping[str, Any]] = dict
        self.ports = OpenPorts()
        self.address = ""

    def with_certificate(self) -> OpenPorts:
        """Returns the open ports with the present certificate, for addresses."""
        return self.ports if self._certificate is None else self.ports.with_certificate(self._certificate.names)

    async def announce(self, ports: OpenPorts) -> None:
        """Sets the open ports. If there is a registry, finds the address too: other nodes and ECS tasks use it."""
        self.ports = ports
        if self._settings.registry:
            self.address = await advertised_address(self._settings, ports)
            entry = ports.registry_entry(host_of(self.address), time.time())
            cluster = self._settings.cluster
            mark = await asyncio.to_thread(fleet_mark, cluster.secret.get_secret_value())
            self._shown = entry | {"site": cluster.site, "url": self._settings.playback.node_url, "fleet": mark}

    def as_node(self, id: str, role: NodeRole, channel: str = "") -> Node:
        """Returns this process as the registry has it. channel: the id, if this is an edge for only one channel."""
        return Node(id, role, self.address, channel=channel, shown={**self._shown, **self.load()})
