"""Shows channels to administrators."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from gateway.adapters.local.host import shown_addresses
from gateway.channels import inputs, relay_urls
from gateway.channels.addresses import Addresses, OpenPorts, PublicDomains
from gateway.channels.channel import Channel
from gateway.channels.stream_key import SignatureUse, SigningSecrets
from gateway.ingest.registry import push_addresses, push_urls
from gateway.playback.formats import SRT, play_urls
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Presenter:
    """Shows channels: the stored item, and values computed from it.

    play_auth: for channels without their own `playAuth`.
    sign_ttl: seconds for which the play signatures in `playUrls` are valid.
    tls: whether the administrator uses TLS. A page that was loaded over TLS can open only TLS addresses.
    passphrase: of SRT, for channels without their own `srtPassphrase`.
    """

    addresses: Addresses
    secrets: SigningSecrets = field(repr=False)
    play_auth: str = "none"
    sign_ttl: float = 3600
    tls: bool = False
    passphrase: str = field(default="", repr=False)

    @classmethod
    def of(cls, settings: Settings, secrets: SigningSecrets, domains: PublicDomains, ports: OpenPorts) -> Self:
        """Returns a presenter with the addresses of this machine, or of the configured domains. For its own user."""
        playback, passphrase = settings.playback, settings.srt.passphrase.get_secret_value()
        addresses = shown_addresses(settings, domains, ports)
        return cls(addresses, secrets, playback.auth, playback.sign_ttl, passphrase=passphrase)

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
            "pushUrls": self.push_urls(channel, {"sign": channel.key}),
            "playUrls": self._encrypted(play_urls(self.addresses, channel, self.play_query(channel, now)), channel),
            "playAuthDefault": self.play_auth,
            "expired": channel.expired(now),
        }

    def push_urls(self, channel: Channel, fields: Mapping[str, str]) -> dict[str, str]:
        """Returns the addresses to push to, by protocol.

        fields: the key as `sign`, and the name of a backup as `input`.
        """
        return self._encrypted(push_urls(self.addresses, channel, self.tls, fields), channel)

    def _encrypted(self, urls: dict[str, str], channel: Channel) -> dict[str, str]:
        """Returns the addresses; that of SRT with the passphrase. Its address on public pages has none."""
        if passphrase := channel.srt_passphrase or self.passphrase:
            urls[SRT.output] += f"&passphrase={passphrase}"
        return urls

    def page(self, channel: Channel, now: float) -> str:
        """Returns the address of the channel's watch page, with a play signature if the channel needs one."""
        return f"{self.addresses.pull}/{channel.public_name}/{self.play_query(channel, now)}"

    def play_query(self, channel: Channel, now: float) -> str:
        """Returns the query string of the channel's play URLs: a play signature if the channel needs one, else ""."""
        if (channel.play_auth or self.play_auth) != "sign":
            return ""
        return f"?sign={self.secrets.sign(channel.id, int(now + self.sign_ttl), SignatureUse.PLAY)}"
