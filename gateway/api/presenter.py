"""Shows channels to administrators."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

from gateway.adapters.local.host import shown_addresses
from gateway.channels import announcing, expiry, fields, inputs, relay_urls
from gateway.channels.addresses import Addresses, OpenPorts, PublicDomains
from gateway.channels.channel import ID, TIME_STAMP, Channel
from gateway.channels.stream_key import SignatureUse, SigningSecrets
from gateway.ingest.registry import push_addresses, push_urls
from gateway.playback.formats import SRT, play_urls
from gateway.settings import Settings

# What observers see of a stored channel: the fields of the form without secrets. Fields that the gateway does not know,
# and those of installed outputs, may be secrets.
OBSERVED: Final = (
    frozenset(name for group in fields.GROUPS.values() for name in group)
    | {ID, TIME_STAMP, expiry.FIELD, inputs.FIELD, "relayOff"}
) - {fields.SRT_PASSPHRASE}


@dataclass(frozen=True, slots=True)
class Presenter:
    """Shows channels: the stored item, and values computed from it.

    play_auth: for channels without their own `playAuth`.
    sign_ttl: seconds for which the play signatures in `playUrls` are valid.
    tls: whether the administrator uses TLS. A page that was loaded over TLS can open only TLS addresses.
    passphrase: of SRT, for channels without their own `srtPassphrase`.
    observed: whether it is for an observer, who sees no key, no address for publishers and no passphrase.
    """

    addresses: Addresses
    secrets: SigningSecrets = field(repr=False)
    play_auth: str = "none"
    sign_ttl: float = 3600
    tls: bool = False
    passphrase: str = field(default="", repr=False)
    observed: bool = False

    @classmethod
    def of(cls, settings: Settings, secrets: SigningSecrets, domains: PublicDomains, ports: OpenPorts) -> Self:
        """Returns a presenter with the addresses of this machine, or of the configured domains. For its own user."""
        playback, passphrase = settings.playback, settings.srt.passphrase.get_secret_value()
        addresses = shown_addresses(settings, domains, ports)
        return cls(addresses, secrets, playback.auth, playback.sign_ttl, passphrase=passphrase)

    def present(self, channel: Channel, now: float) -> dict[str, Any]:
        """Returns the item with the addresses for publishers, `playUrls`, `playAuthDefault` and `expired`.

        Relay targets are masked. An observer gets neither the addresses for publishers nor fields with secrets.
        """
        item = {name: value for name, value in channel.item.items() if not self.observed or name in OBSERVED}
        if "relayURL" in item:
            item["relayURL"] = relay_urls.masked(item["relayURL"])
        if item.get(inputs.FIELD):
            item[inputs.FIELD] = inputs.masked_list(item[inputs.FIELD], pictures=self.observed)
        if announcing.ANNOUNCE in item:
            item[announcing.ANNOUNCE] = announcing.masked(item[announcing.ANNOUNCE])
        pushes: dict[str, Any] = {}
        if self.observed:
            item |= {
                name: inputs.masked_address(item[name]) for name in ("ImageURL",) if isinstance(item.get(name), str)
            }
        else:
            pushes = push_addresses(self.addresses, channel, self.tls) | {
                "pushUrls": self.push_urls(channel, {"sign": channel.key})
            }
        return {
            **item,
            **pushes,
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
        if not self.observed and (passphrase := channel.srt_passphrase or self.passphrase):
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
