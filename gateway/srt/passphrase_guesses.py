"""PassphraseGuesses: limits the wrong passphrases of an address, because each costs half a millisecond."""

from dataclasses import dataclass, field
from typing import Final

from gateway.lib.bounded_dict import BoundedDict
from gateway.lib.refusals import Refusals
from gateway.lib.token_bucket import AddressBuckets
from gateway.protocols.srt.listening import HandshakeRefused
from gateway.protocols.srt.packets import Reject

_REMEMBERED: Final = 4_096  # wrong handshakes, of about 300 bytes each
_PER_SECOND: Final = 1.0  # handshakes of an address above the limit that are judged


@dataclass(slots=True, eq=False)
class PassphraseGuesses:
    """Decides which handshakes are judged, and counts wrong passphrases as wrong keys in `refusals`.

    A repeated handshake is no new guess, and costs nothing. Above the limit of its address, one handshake a second is
    judged: another caller behind this address may know the passphrase, and callers repeat their handshake for seconds.
    """

    refusals: Refusals
    _wrong: BoundedDict[tuple[str, str, bytes], None] = field(
        default_factory=lambda: BoundedDict(_REMEMBERED), init=False
    )  # an ordered set of address, passphrase here, and key material
    _turns: AddressBuckets = field(default_factory=lambda: AddressBuckets(_PER_SECOND, 1), init=False)

    def may_judge(self, address: str, passphrase: str, material: bytes, now: float) -> bool:
        """Whether the key material of a handshake may be judged now. Raises HandshakeRefused if it was wrong before."""
        if (address, passphrase, material) in self._wrong:
            raise HandshakeRefused(Reject.BAD_SECRET, "wrong passphrase")
        is_free = not passphrase or not material
        return is_free or not self.refusals.wait(address, now) or self._turns.take(address, now)

    def note_wrong(self, address: str, passphrase: str, material: bytes, now: float) -> None:
        """Counts a wrong passphrase."""
        self._wrong[address, passphrase, material] = None
        self.refusals.add(address, now)
