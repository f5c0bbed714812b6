"""The public push and play URLs, from the configured domains or from the gateway's listeners."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.channels.channel import Channel
from gateway.lib.certificates import CertificateNames
from gateway.lib.network import url_host
from gateway.ports.errors import InvalidField
from gateway.settings import load
from gateway.settings.models import AGENT, LISTENERS

APP: Final = "stream"
_NO_CERTIFICATE: Final = CertificateNames()
_WEB: Final = {"http": 80, "https": 443}  # the standard ports; listeners have other defaults
_DOMAIN = re.compile(
    r"(?=.{1,260}\Z)([A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?",
    re.ASCII,
)


class OpenPorts(Mapping[str, int | None]):
    """The port of each listener (None: closed), as in `<data>/ports.json`. Raises TypeError for unknown listeners.

    The listener for agent checks is listed only if it is open.

    certificate: the hosts for which clients accept the certificate of the ports over TLS.
    """

    def __init__(self, certificate: CertificateNames = _NO_CERTIFICATE, /, **ports: int | None) -> None:
        if unknown := ports.keys() - {*LISTENERS, AGENT}:
            raise TypeError(f"no listeners: {sorted(unknown)}")
        opened = (AGENT,) if ports.get(AGENT) is not None else ()
        self._ports = {name: ports.get(name) for name in (*LISTENERS, *opened)}
        self.certificate = certificate

    @classmethod
    def of_node(cls, ports: Mapping[str, int | None]) -> OpenPorts:
        """Returns the ports that another node sent. It may have a later version, with more listeners."""
        return cls(**{name: ports.get(name) for name in LISTENERS})

    def __getitem__(self, name: str) -> int | None:
        return self._ports[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ports)

    def __len__(self) -> int:
        return len(self._ports)

    def as_json(self) -> dict[str, int | None]:
        """Returns the ports for clients and other nodes: without the listener for agent checks."""
        return {name: self._ports[name] for name in LISTENERS}

    def registry_entry(self, host: str, since: float) -> dict[str, Any]:
        """Returns the entry of a gateway with these ports in the registry (`Node.shown`).

        host: for publishers and pages. since: start of the gateway, seconds since 1970.
        """
        return {"address": host, "ports": self.as_json(), "since": round(since, 3)}

    def opened(self) -> dict[str, int]:
        """Returns the ports that are open."""
        return {name: port for name, port in self._ports.items() if port is not None}

    def with_tls(self, **ports: int) -> OpenPorts:
        """Returns the ports for clients if a proxy in front of the gateway opens these ports with TLS."""
        return OpenPorts(self.certificate, **self._ports | ports)

    def with_certificate(self, certificate: CertificateNames) -> OpenPorts:
        return OpenPorts(certificate, **self._ports)

    def over_tls(self, scheme: str) -> bool:
        """Whether addresses use TLS instead of this plain scheme: a port is open and clients accept its certificate."""
        return bool(self.certificate) and self[f"{scheme}s"] is not None


@dataclass(frozen=True, slots=True)
class PublicDomains:
    """The domains that an operator configured for pushing and playing; "" if not configured.

    Each is a host with an optional port and scheme: live.example.com, live.lan:8080, https://live.example.com.
    """

    push: str = ""
    pull: str = ""

    @classmethod
    def from_json(cls, body: Mapping[str, Any], stored: PublicDomains) -> PublicDomains:
        """Returns the domains after a PUT of `{"pushDNS", "pullDNS"}`.

        stored: the present domains; a missing field keeps its value. Raises InvalidField.
        """
        return cls(
            _domain("pushDNS", body.get("pushDNS", stored.push), ("rtmp", "rtmps")),
            _domain("pullDNS", body.get("pullDNS", stored.pull), ("http", "https")),
        )

    def as_json(self) -> dict[str, str]:
        return {"pushDNS": self.push, "pullDNS": self.pull}


def _domain(name: str, value: Any, schemes: tuple[str, ...]) -> str:
    expected = f"expected a domain, perhaps with a port, perhaps with {schemes[0]}:// or {schemes[1]}:// before it"
    if not isinstance(value, str) or len(value) > 300:
        raise InvalidField(name, expected)
    text = value.strip().rstrip("/")
    scheme, separator, rest = text.partition("://")
    host = rest if separator else text
    if text and (
        (separator and scheme.lower() not in schemes)
        or not (match := _DOMAIN.fullmatch(host))
        or (match[2] and not 0 < int(match[2][1:]) < 65536)
    ):
        raise InvalidField(name, expected)
    return text


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses for pushing and playing, without a slash at the end: rtmp://host:1935, http://host:8080.

    push: address for pushing over RTMP. pull: address for playing over HTTP.
    host: the host for pushing over other protocols. ports: the open ports.
    """

    push: str
    pull: str
    host: str = ""
    ports: OpenPorts = field(default_factory=OpenPorts)

    @classmethod
    def of(
        cls,
        domains: PublicDomains,
        ports: OpenPorts,
        push_host: str,
        pull_host: str,
        public_url: str = "",
        web_host: str = "",
    ) -> Addresses:
        """Creates the addresses from the configured domains, otherwise from hosts and open ports.

        An RTMP domain without a port gets the standard port of its scheme.
        push_host, pull_host: host names or addresses of the listeners for clients; IPv6 without brackets.
        public_url: the setting `playback.public_url`, the address of this gateway for players; "" if it is not set.
        web_host: the host for pushing from browsers, if it differs from `push_host`. Browsers allow camera access only
        to pages of localhost or over TLS.

        With a certificate, the addresses use TLS. A host that it does not cover is replaced by its first name, but a
        domain remains as it is: another server may be behind it.
        """
        push = _base(domains.push, "rtmp", ports) if domains.push else _listener("rtmp", push_host, ports)
        if domains.pull:
            pull = _base(domains.pull, "http", ports)
        else:
            pull = public_url.rstrip("/") or _listener("http", pull_host, ports)
        return cls(push, pull, (urlsplit(push).hostname if domains.push else web_host) or push_host, ports)

    def server(self, name: str, host: str | None = None) -> str:
        """Returns the address of a listener: ws://host:8081. For a closed listener it has the standard port.

        name: of the listener and of its scheme. host: without brackets; None: the host for publishers. Over TLS it is
        one that the certificate covers.
        """
        host = host or self.host
        if name.endswith("s"):
            host = self.ports.certificate.host_for(host)
        return _with_port(name, host, self.ports[name])

    def rtmp_server(self, channel: Channel) -> str:
        """Returns the server for OBS: rtmp://host:1935/stream.

        The address uses RTMPS if the channel requires it and the RTMPS port is open.
        """
        server = self.push
        if channel.is_rtmps and self.ports["rtmps"] and not server.startswith("rtmps:"):
            server = self.server("rtmps", urlsplit(server).hostname)
        return f"{server}/{APP}"

    @property
    def srt_server(self) -> str:
        """The address of the port for SRT: srt://host:8890. It has the host for RTMP."""
        return self.server("srt", urlsplit(self.push).hostname)

    @property
    def rtsp_server(self) -> str:
        """The address of the port for RTSP: rtsp://host:8554; over TLS where RTMP is. It has the host for RTMP."""
        return self.server("rtsps" if self.ports.over_tls("rtsp") else "rtsp", urlsplit(self.push).hostname)

    @property
    def moq_server(self) -> str:
        """The address of the port for MoQ: https://host:4443. It has the host for players, and always uses TLS."""
        host = urlsplit(self.pull).hostname or self.host
        return f"https://{url_host(self.ports.certificate.host_for(host))}:{self.ports['moq']}"

    def play_bases(self, channel: Channel) -> dict[str, str]:
        """Returns the start of the channel's play URLs, by scheme. A path follows only after "http" and "ws"."""
        http = f"{self.pull}/{channel.public_name}/"
        return {
            "http": http,
            "ws": f"ws{http.removeprefix('http')}",
            "rtmp": f"{self.push}/{APP}/{channel.public_name}",
            "srt": f"{self.srt_server}?streamid=read:{channel.public_name}",
            "rtsp": f"{self.rtsp_server}/{channel.public_name}",
            "moq": f"{self.moq_server}/{channel.id}",
        }


def push_ports(domains: PublicDomains, ports: OpenPorts, host: str = "") -> dict[str, Any]:
    """Returns the answer to `GET /broadcast.json`: the host and the ports to which pages push.

    host: of the ports if no push domain is configured; "": the host of the page.
    """
    named = urlsplit(_base(domains.push, "rtmp", ports)).hostname if domains.push else ""
    return {"host": named or host, "ws": ports["ws"], "wss": ports["wss"]}


def push_server(domains: PublicDomains, ports: OpenPorts) -> dict[str, Any]:
    """Returns the entry of the push domain in the list of servers for broadcasters. It has no admin port."""
    base = urlsplit(_base(domains.push, "rtmp", ports))
    return {"address": base.hostname, "ports": {**ports.as_json(), base.scheme: base.port, "admin": None}}


def _listener(scheme: str, host: str, ports: OpenPorts) -> str:
    """Returns the address of the plain listener, or of the one over TLS."""
    if not ports.over_tls(scheme):
        return _with_port(scheme, host, ports[scheme])
    return _over_tls(scheme, ports.certificate.host_for(host), ports)


def _over_tls(scheme: str, host: str, ports: OpenPorts) -> str:
    secure = f"{scheme}s"
    if ports[secure] == _WEB.get(secure):  # the standard port is not written in addresses of pages
        return f"{secure}://{url_host(host)}"
    return _with_port(secure, host, ports[secure])


def _with_port(scheme: str, host: str, port: int | None) -> str:
    return f"{scheme}://{url_host(host)}:{port or _standard(scheme)}"


@functools.cache
def _standard(scheme: str) -> int:
    """Returns the standard port of a scheme: from `_WEB`, else the default port of the listener of this name."""
    return _WEB.get(scheme) or int(getattr(load(environ={}), scheme).port)


def _base(domain: str, scheme: str, ports: OpenPorts) -> str:
    own_scheme, separator, rest = domain.partition("://")
    if not separator and ports.over_tls(scheme):
        name, port = _split(domain)
        if ports.certificate.cover(name) and port in (None, ports[f"{scheme}s"]):
            return _over_tls(scheme, name, ports)
    scheme, host = (own_scheme.lower(), rest) if separator else (scheme, domain)
    if scheme.startswith("rtmp") and not re.search(r":[0-9]+\Z", host):
        host += f":{_standard(scheme)}"  # users copy it into encoders, and some encoders need the standard port too
    return f"{scheme}://{host}"


def _split(domain: str) -> tuple[str, int | None]:
    """Returns the host without brackets, and the port of a domain that has no scheme."""
    parts = urlsplit(f"//{domain}")
    return parts.hostname or "", parts.port
