"""Addresses that people see: push and play URLs, built from the domains that were set or from our own listeners."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit

from gateway.hub import relays
from gateway.hub.access import Secrets, Use
from gateway.hub.channel import Channel
from gateway.hub.errors import InvalidField

APP: Final = "stream"
_STANDARD: Final = {"rtmp": 1935, "rtmps": 1938, "http": 80, "https": 443, "ws": 8081, "wss": 8444}
_DOMAIN = re.compile(
    r"(?=.{1,260}\Z)([A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_-]{1,63})*\.?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports that are really open (None: closed); what `<data>/ports.json` holds."""

    rtmp: int | None = None
    rtmps: int | None = None
    http: int | None = None
    https: int | None = None
    ws: int | None = None
    wss: int | None = None
    admin: int | None = None

    def as_json(self) -> dict[str, int | None]:
        return asdict(self)

    def with_tls(self, rtmps: int, wss: int) -> Ports:
        """As those see them for whom something in front opens these ports, with TLS."""
        return replace(self, rtmps=rtmps, wss=wss)


@dataclass(frozen=True, slots=True)
class Domains:
    """The domains that an operator set for pushing and playing; "" where none is.

    Each is a host, perhaps with a port, perhaps with a scheme before it: live.example.com, live.lan:8080, https://live.example.com.
    """

    push: str = ""
    pull: str = ""

    @classmethod
    def from_json(cls, body: Mapping[str, Any], now: Domains) -> Domains:
        """What a PUT of `{"pushDNS", "pullDNS"}` makes of the present ones; a missing one stays. InvalidField."""
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
    """Where people push and play: bases such as rtmp://host:1935 and http://host:8080, no slash at the end."""

    push: str
    pull: str
    secure_push: str = ""  # for channels with isRtmps; "" where RTMPS is closed
    web_push: str = ""  # over WebSocket
    secure_web_push: str = ""  # over WebSocket with TLS; "" where that is closed

    @classmethod
    def of(
        cls,
        domains: Domains,
        ports: Ports,
        push_host: str,
        pull_host: str,
        public_url: str = "",
        web_host: str = "",
    ) -> Addresses:
        """From the set domains (their own port, else the scheme's standard one), else from hosts and open ports.

        push_host, pull_host: a name or address under which others reach the listeners, IPv6 without brackets.
        public_url: what players see of this gateway, as `playback.public_url`; "" where nothing is said.
        web_host: for pushing over WebSocket, where it is another than push_host: a browser gives its camera only to
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
        """Where a browser pushes: ws://host:8081/stream/<id>, with TLS where that is wanted and open."""
        secure = self.secure_web_push if tls or channel.is_rtmps else ""
        return f"{secure or self.web_push}/{APP}/{channel.id}"

    def push_server(self, channel: Channel) -> str:
        """The server field of OBS: rtmp://host:1935/stream."""
        return f"{self.secure_push if channel.is_rtmps and self.secure_push else self.push}/{APP}"

    def plays(self, channel: Channel, query: str = "") -> dict[str, str]:
        """The play URLs of the outputs that are on, each with `query` ("" or "?…") behind."""
        http = f"{self.pull}/{channel.id}"
        web_socket = "ws" + http.removeprefix("http")
        on: dict[str, str] = {}
        if channel.is_flv:
            on |= {"flv": f"{http}/live.flv", "wsflv": f"{web_socket}/live.flv"}
        on["rtmp"] = f"{self.push}/{APP}/{channel.id}"
        if channel.is_hls:
            on["hls"] = f"{http}/live.m3u8"
        if channel.is_cmaf:
            on |= {"cmaf": f"{http}/master.m3u8", "dash": f"{http}/manifest.mpd"}
        if channel.rungs:
            on["ladder"] = f"{http}/index.m3u8"
        return {name: url + query for name, url in on.items()}


def _with_port(scheme: str, host: str, port: int | None) -> str:
    bare = f"[{host}]" if ":" in host else host
    return f"{scheme}://{bare}:{port or _STANDARD[scheme]}"


def _base(domain: str, scheme: str) -> str:
    given, separator, rest = domain.partition("://")
    scheme, host = (given.lower(), rest) if separator else (scheme, domain)
    if scheme.startswith("rtmp") and not re.search(r":[0-9]+\Z", host):
        host += (
            f":{_STANDARD[scheme]}"  # people copy it into encoders: the port is said even where it is the standard one
        )
    return f"{scheme}://{host}"


@dataclass(frozen=True, slots=True)
class Presenter:
    """Shows channels to whoever may administer them: the stored item and what is computed from it.

    play_auth: of channels without their own. sign_ttl: seconds that the play signs in `playUrls` last. tls: whether
    whoever asks does so over TLS: its pages may open nothing else.
    """

    addresses: Addresses
    secrets: Secrets = field(repr=False)
    play_auth: str = "none"
    sign_ttl: float = 3600
    tls: bool = False

    def present(self, channel: Channel, now: float) -> dict[str, Any]:
        """The item, relay targets masked, with `pushUrl`, `obsServer`, `obsKey`, `wsUrl`, `playUrls` and `expired`."""
        shown = dict(channel.item)
        if "relayURL" in shown:
            shown["relayURL"] = relays.masked(shown["relayURL"])
        server, obs_key = self.addresses.push_server(channel), f"{channel.id}?sign={channel.key}"
        return shown | {
            "pushUrl": f"{server}/{obs_key}",
            "obsServer": server,
            "obsKey": obs_key,
            "wsUrl": f"{self.addresses.web_address(channel, self.tls)}?sign={channel.key}",
            "playUrls": self.addresses.plays(channel, self.play_query(channel, now)),
            "expired": channel.expired(now),
        }

    def play_query(self, channel: Channel, now: float) -> str:
        """What stands behind the channel's play addresses: a play sign where it needs one, else nothing."""
        if (channel.play_auth or self.play_auth) != "sign":
            return ""
        return f"?sign={self.secrets.sign(channel.id, int(now + self.sign_ttl), Use.PLAY)}"
