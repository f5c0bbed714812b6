"""The name of this machine in addresses that users see, and the ports that a running gateway opened."""

from __future__ import annotations

import ipaddress
import json
import os
import socket
from pathlib import Path

from gateway.channels.addresses import OpenPorts
from gateway.settings import Settings

PORTS_FILE = "ports.json"


def shown_host(bind: str) -> str:
    """Returns the host to show for a listener bound to `bind`, IPv6 without brackets.

    Loopback and a single address or name stay as they are. "All addresses" becomes the source address of this machine's
    packets to the internet, else 127.0.0.1. Nothing is sent to find it out.
    """
    try:
        address = ipaddress.ip_address(bind)
    except ValueError:
        return "127.0.0.1" if bind == "localhost" else bind
    return _own_address() if address.is_unspecified else bind


def _own_address() -> str:
    # Documentation prefixes (RFC 5737, RFC 3849): connecting a datagram socket only chooses a route.
    for family, somewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((somewhere, 9))
                address = str(probe.getsockname()[0])
        except OSError:
            continue
        if not ipaddress.ip_address(address).is_unspecified:
            return address
    return "127.0.0.1"


def known_ports(settings: Settings) -> OpenPorts:
    """Returns the ports of the gateway that last ran on this data folder, else those of the settings."""
    configured = OpenPorts(**{one.name: one.port for one in settings.listeners()})
    try:
        written = json.loads((settings.data / PORTS_FILE).read_text())
    except (OSError, ValueError):
        return configured
    if not isinstance(written, dict):
        return configured
    chosen = {}
    for name, wanted in configured.items():
        port = written.get(name)
        # A fixed port in the settings wins over a port that an earlier start wrote.
        chosen[name] = port if wanted == 0 and isinstance(port, int) else wanted
    return OpenPorts(**chosen)


def write_ports(folder: Path, ports: OpenPorts) -> None:
    """Writes the open ports to a file for scripts and other commands, whole or not at all."""
    path = folder / PORTS_FILE
    unfinished = path.with_name(f".{PORTS_FILE}.{os.getpid()}")
    unfinished.write_text(json.dumps(ports.as_json()) + "\n")
    unfinished.replace(path)
