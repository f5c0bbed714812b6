"""Shows channels to administrators."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gateway.channels import relay_urls
from gateway.channels.addresses import Addresses
from gateway.channels.channel import Channel
from gateway.channels.stream_key import SignatureUse, SigningSecrets
from gateway.playback.formats import play_urls


@dataclass(frozen=True, slots=True)
class Presenter:
    """Shows channels: the stored item, and values computed from it.

    play_auth: for channels without their own `playAuth`.
    sign_ttl: seconds for which the play signatures in `playUrls` are valid.
    tls: whether the administrator uses TLS. A page over TLS can open only TLS addresses.
    """

    addresses: Addresses
    secrets: SigningSecrets = field(repr=False)
    play_auth: str = "none"
    sign_ttl: float = 3600
    tls: bool = False

    def present(self, channel: Channel, now: float) -> dict[str, Any]:
        """Returns the item with `pushUrl`, `obsServer`, `obsKey`, `wsUrl`, `playUrls` and `expired`. Relay targets
        are masked.
        """
        shown = dict(channel.item)
        if "relayURL" in shown:
            shown["relayURL"] = relay_urls.masked(shown["relayURL"])
        server, obs_key = self.addresses.push_server(channel), f"{channel.id}?sign={channel.key}"
        return shown | {
            "pushUrl": f"{server}/{obs_key}",
            "obsServer": server,
            "obsKey": obs_key,
            "wsUrl": f"{self.addresses.web_address(channel, self.tls)}?sign={channel.key}",
            "playUrls": play_urls(self.addresses, channel, self.play_query(channel, now)),
            "expired": channel.expired(now),
        }

    def play_query(self, channel: Channel, now: float) -> str:
        """Returns the query string of the channel's play URLs: a play signature if the channel needs one, else ""."""
        if (channel.play_auth or self.play_auth) != "sign":
            return ""
        return f"?sign={self.secrets.sign(channel.id, int(now + self.sign_ttl), SignatureUse.PLAY)}"
