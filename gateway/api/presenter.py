"""Shows channels to administrators."""

from dataclasses import dataclass, field
from typing import Any

from gateway.channels import inputs, relay_urls
from gateway.channels.addresses import Addresses
from gateway.channels.channel import Channel
from gateway.channels.stream_key import SignatureUse, SigningSecrets
from gateway.ingest.registry import push_addresses
from gateway.playback.formats import play_urls


@dataclass(frozen=True, slots=True)
class Presenter:
    """Shows channels: the stored item, and values computed from it.

    play_auth: for channels without their own `playAuth`.
    sign_ttl: seconds for which the play signatures in `playUrls` are valid.
    tls: whether the administrator uses TLS. A page that was loaded over TLS can open only TLS addresses.
    """

    addresses: Addresses
    secrets: SigningSecrets = field(repr=False)
    play_auth: str = "none"
    sign_ttl: float = 3600
    tls: bool = False

    def present(self, channel: Channel, now: float) -> dict[str, Any]:
        """Returns the item with the addresses for publishers, `playUrls`, `playAuthDefault` and `expired`.

        Relay targets are masked.
        """
        item = dict(channel.item)
        if "relayURL" in item:
            item["relayURL"] = relay_urls.masked(item["relayURL"])
        if item.get(inputs.FIELD):
            item[inputs.FIELD] = inputs.masked_list(item[inputs.FIELD])
        return {
            **item,
            **push_addresses(self.addresses, channel, self.tls),
            "playUrls": play_urls(self.addresses, channel, self.play_query(channel, now)),
            "playAuthDefault": self.play_auth,
            "expired": channel.expired(now),
        }

    def page(self, channel: Channel, now: float) -> str:
        """Returns the address of the channel's watch page, with a play signature if the channel needs one."""
        return f"{self.addresses.pull}/{channel.public_name}/{self.play_query(channel, now)}"

    def play_query(self, channel: Channel, now: float) -> str:
        """Returns the query string of the channel's play URLs: a play signature if the channel needs one, else ""."""
        if (channel.play_auth or self.play_auth) != "sign":
            return ""
        return f"?sign={self.secrets.sign(channel.id, int(now + self.sign_ttl), SignatureUse.PLAY)}"
