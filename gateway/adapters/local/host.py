"""The host name in addresses for users, and the file with the ports of a running gateway."""

import ipaddress
import json
import os
import socket
from pathlib import Path

import structlog

from gateway.adapters.acme.acme_files import AcmeFiles
from gateway.channels.addresses import Addresses, OpenPorts, PublicDomains
from gateway.lib.certificates import Certificate, CertificateError, CertificateNames
from gateway.settings import Settings

log = structlog.get_logger(__name__)

PORTS_FILE = "ports.json"


def shown_host(bind: str) -> str:
    """Returns the host that users enter for a listener bound to `bind`. An IPv6 address has no brackets.

    A single address and a name do not change, but `localhost` becomes 127.0.0.1. "All addresses" becomes the source
    address of this machine's packets to the internet, else 127.0.0.1. This sends no packet.
    """
    try:
        address = ipaddress.ip_address(bind)
    except ValueError:
        return "127.0.0.1" if bind == "localhost" else bind
    return _own_address() if address.is_unspecified else bind


def _own_address() -> str:
    # Documentation prefixes (RFC 5737, RFC 3849). Connecting a datagram socket only selects a route.
    for family, destination in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((destination, 9))
                address = str(probe.getsockname()[0])
        except OSError:
            continue
        if not ipaddress.ip_address(address).is_unspecified:
            return address
    return "127.0.0.1"


def shown_addresses(settings: Settings, domains: PublicDomains, ports: OpenPorts) -> Addresses:
    """Returns the addresses that users enter: those of the configured domains, else those of this machine."""
    push, pull = shown_host(settings.rtmp.host), shown_host(settings.http.host)
    return Addresses.of(domains, ports, push, pull, settings.playback.public_url)


def known_ports(settings: Settings) -> OpenPorts:
    """Returns the ports of the last gateway that used this data folder, else the ports in the settings."""
    certificate = _stored_names(settings)
    configured = OpenPorts(certificate, **{listener.name: listener.port for listener in settings.listeners()})
    try:
        written = json.loads((settings.data / PORTS_FILE).read_text())
    except (OSError, ValueError):
        return configured
    if not isinstance(written, dict):
        return configured
    # A fixed port in the settings overrides the port that an earlier start wrote.
    chosen = {name: port for name, port in written.items() if configured.get(name) == 0 and isinstance(port, int)}
    return OpenPorts(certificate, **{**configured, **chosen})


def certificate_files(settings: Settings) -> tuple[Path | None, Path | None]:
    """Returns the files of certificate and key; the second is None if one file has both, both are None without TLS."""
    if settings.tls.acme:
        return AcmeFiles(settings.data).certificate, None
    return settings.tls.cert, settings.tls.key


def _stored_names(settings: Settings) -> CertificateNames:
    """Returns the hosts of the certificate that a gateway with these settings presents."""
    cert, key = certificate_files(settings)
    try:
        return Certificate.read(cert, key).names if cert is not None else CertificateNames()
    except CertificateError:
        return CertificateNames()


def write_ports(folder: Path, ports: OpenPorts) -> None:
    """Writes the open ports to a file for scripts and other commands. Readers never see a partial file.

    An error is only logged: no stream needs the file.
    """
    path = folder / PORTS_FILE
    temporary = path.with_name(f".{PORTS_FILE}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(dict(ports)) + "\n")
        temporary.replace(path)
    except OSError as error:
        log.warning("the file with the open ports cannot be written", path=str(path), reason=error.strerror)
