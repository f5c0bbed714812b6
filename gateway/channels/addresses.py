"""The public push and play URLs, built from the configured domains or from our own listeners."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.channels.channel import Channel
from gateway.ports.errors import InvalidField
from gateway.settings.models import LISTENERS

APP: Final = "stream"
_STANDARD: Final = {"rtmp": 1935, "rtmps": 1938, "http": 80, "https": 443, "ws": 8081, "wss": 8444}
_DOMAIN = re.compile(
    r"(?=.{1,260}\Z)([A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?",
    re.ASCII,
)


class OpenPorts(Mapping[str, int | None]):
    """The port of each listener (None: closed), as stored in `<data>/ports.json`. Raises TypeError for other names."""

    def __init__(self, **ports: int | None) -> None:
        if unknown := ports.keys() - set(LISTENERS):
            raise TypeError(f"no listeners: {sorted(unknown)}")
        self._ports = {name: ports.get(name) for name in LISTENERS}

    def __getitem__(self, name: str) -> int | None:
        return self._ports[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._ports)

    def __len__(self) -> int:
        return len(self._ports)

    def as_json(self) -> dict[str, int | None]:
        return dict(self._ports)

    def opened(self) -> dict[str, int]:
        """Returns the ports that are open."""
        return {name: port for name, port in self._ports.items() if port is not None}

    def with_tls(self, **ports: int) -> OpenPorts:
        """Returns the ports as clients see them if a proxy in front of the gateway opens these ports with TLS."""
        return OpenPorts(**self._ports | ports)


@dataclass(frozen=True, slots=True)
class PublicDomains:
    """The domains that an operator configured for pushing and playing; "" if there is none.

    Each is a host, with an optional port and scheme: live.example.com, live.lan:8080, https://live.example.com.
    """

    push: str = ""
    pull: str = ""

    @classmethod
    def from_json(cls, body: Mapping[str, Any], now: PublicDomains) -> PublicDomains:
        """Returns the domains after a PUT of `{"pushDNS", "pullDNS"}`.

        A missing field keeps its value from `now`. Raises InvalidField.
        """
        return cls(
            _domain("pushDNS", body.get("pushDNS", now.push), ("rtmp", "rtmps")),
            _domain("pullDNS", body.get("pullDNS", now.pull), ("http", "https")),
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
        or not (form := _DOMAIN.fullmatch(host))
        or (form[2] and not 0 < int(form[2][1:]) < 65536)
    ):
        raise InvalidField(name, expected)
    return text


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses for pushing and playing, such as rtmp://host:1935 and http://host:8080, without a slash at the
    end.

    push, pull: over RTMP and HTTP. host: of publishers over other protocols. ports: the open ports.
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
        """Makes the addresses from the configured domains, or else from hosts and open ports.

        A domain without a port gets the standard port of its scheme.
        push_host, pull_host: names or addresses under which others reach the listeners, IPv6 without brackets.
        public_url: the setting `playback.public_url`, the address of this gateway for players; "" if it is not set.
        web_host: for pushing from browsers, if it differs from push_host. They allow camera access only to pages of
        their own machine or over TLS.
        """
        push = _base(domains.push, "rtmp") if domains.push else _with_port("rtmp", push_host, ports["rtmp"])
        if domains.pull:
            pull = _base(domains.pull, "http")
        else:
            pull = public_url.rstrip("/") or _with_port("http", pull_host, ports["http"])
        return cls(push, pull, (urlsplit(push).hostname if domains.push else web_host) or push_host, ports)

    def server(self, name: str, host: str | None = None) -> str:
        """Returns the address of a listener: ws://host:8081. A closed port is shown as the standard one.

        name: of the listener and of its scheme. host: without brackets; None: the one for publishers.
        """
        return _with_port(name, host or self.host, self.ports[name])

    def play_bases(self, channel: Channel) -> dict[str, str]:
        """Returns what play URLs of the channel begin with, by scheme. A path follows, except to "rtmp"."""
        http = f"{self.pull}/{channel.id}/"
        return {"http": http, "ws": f"ws{http.removeprefix('http')}", "rtmp": f"{self.push}/{APP}/{channel.id}"}


def _with_port(scheme: str, host: str, port: int | None) -> str:
    bare = f"[{host}]" if ":" in host else host
    return f"{scheme}://{bare}:{port or _STANDARD[scheme]}"


def _base(domain: str, scheme: str) -> str:
    given, separator, rest = domain.partition("://")
    scheme, host = (given.lower(), rest) if separator else (scheme, domain)
    if scheme.startswith("rtmp") and not re.search(r":[0-9]+\Z", host):
        host += f":{_STANDARD[scheme]}"  # people copy it into encoders, some of which need the standard port too
    return f"{scheme}://{host}"
