"""The public push and play URLs, built from the configured domains or from our own listeners."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.channels.channel import Channel
from gateway.ports.errors import InvalidField

APP: Final = "stream"
_STANDARD: Final = {"rtmp": 1935, "rtmps": 1938, "http": 80, "https": 443, "ws": 8081, "wss": 8444}
_DOMAIN = re.compile(
    r"(?=.{1,260}\Z)([A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class OpenPorts:
    """The ports that are open (None: closed), as stored in `<data>/ports.json`."""

    rtmp: int | None = None
    rtmps: int | None = None
    http: int | None = None
    https: int | None = None
    ws: int | None = None
    wss: int | None = None
    admin: int | None = None

    def as_json(self) -> dict[str, int | None]:
        return asdict(self)

    def with_tls(self, rtmps: int, wss: int) -> OpenPorts:
        """Returns the ports as clients see them if a proxy in front of the gateway opens these ports with TLS."""
        return replace(self, rtmps=rtmps, wss=wss)


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
    """

    push: str
    pull: str
    secure_push: str = ""  # for channels with isRtmps; "" if RTMPS is closed
    web_push: str = ""  # over WebSocket
    secure_web_push: str = ""  # over WebSocket with TLS; "" if that is closed

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
        web_host: for pushing over WebSocket, if it differs from push_host. A browser allows camera access only to
        pages of its own machine or over TLS.
        """
        push = _base(domains.push, "rtmp") if domains.push else _with_port("rtmp", push_host, ports.rtmp)
        if domains.pull:
            pull = _base(domains.pull, "http")
        else:
            pull = public_url.rstrip("/") or _with_port("http", pull_host, ports.http)
        if push.startswith("rtmps:"):
            secure_push = push
        elif ports.rtmps:
            secure_push = _with_port("rtmps", urlsplit(push).hostname or push_host, ports.rtmps)
        else:
            secure_push = ""
        web = (urlsplit(push).hostname if domains.push else web_host) or push_host
        secure_web = _with_port("wss", web, ports.wss) if ports.wss else ""
        return cls(push, pull, secure_push, _with_port("ws", web, ports.ws), secure_web)

    def web_address(self, channel: Channel, tls: bool) -> str:
        """Returns the URL to which a browser pushes: ws://host:8081/stream/<id>. Uses TLS if it is requested and
        open.
        """
        secure = self.secure_web_push if tls or channel.is_rtmps else ""
        return f"{secure or self.web_push}/{APP}/{channel.id}"

    def push_server(self, channel: Channel) -> str:
        """Returns the server field of OBS: rtmp://host:1935/stream."""
        return f"{self.secure_push if channel.is_rtmps and self.secure_push else self.push}/{APP}"

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
