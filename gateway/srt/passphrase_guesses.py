"""PassphraseGuesses: limits the wrong passphrases of an address, because each costs half a millisecond."""

import asyncio
import math
from dataclasses import dataclass, field
from typing import Final

from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.network import client_network
from gateway.lib.refusals import Refusals
from gateway.protocols.srt.listening import wrong_passphrase

_REMEMBERED: Final = 4_096  # wrong handshakes, of about 300 bytes each
_ADDRESSES: Final = 10_000
_SECONDS: Final = 1.0  # between two handshakes of an address above the limit that are judged


@dataclass(slots=True, eq=False)
class PassphraseGuesses:
    """Decides which handshakes are judged, and counts wrong passphrases as wrong keys in `refusals`.

    A repeated handshake is no new guess, and costs nothing. Above the limit of its address, one handshake a second is
    judged: another caller behind this address may know the passphrase, and callers repeat their handshake for seconds.
    turn: held by the handshake that is judged, of all addresses, so that each turn of the event loop judges one.
    """

    refusals: Refusals
    turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _wrong: BoundedDict[tuple[str, str, bytes], None] = field(
        default_factory=lambda: BoundedDict(_REMEMBERED), init=False
    )  # an ordered set of address, passphrase here, and key material
    _judged: BoundedDict[str, float] = field(
        default_factory=lambda: BoundedDict(_ADDRESSES), init=False
    )  # monotonic time of the last one above the limit, by network

    def may_judge(self, address: str, material: bytes, now: float, *, begins: bool) -> bool:
        """Whether a handshake with this key material may be judged now; b"": it has none, and costs nothing.

        begins: whether it is judged now, after its request was checked.
        """
        if not material or not self.refusals.wait(address, now):
            return True
        network = client_network(address)
        if now - self._judged.get(network, -math.inf) < _SECONDS:
            return False
        if begins:
            self._judged[network] = now
        return True

    def check(self, address: str, passphrase: str, material: bytes) -> None:
        """Raises HandshakeRefused for key material that was wrong before."""
        if (address, passphrase, material) in self._wrong:
            raise wrong_passphrase()

    def note_wrong(self, address: str, passphrase: str, material: bytes, now: float) -> None:
        """Counts a wrong passphrase."""
        self._wrong[address, passphrase, material] = None
        self.refusals.add(address, now)
