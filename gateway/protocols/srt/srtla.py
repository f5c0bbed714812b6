"""SRTLA, the packets with which a sender bonds several links for one SRT connection, as its receiver reads them.

A sender registers a group with a random half of an id (REG1). It gets the whole id back (REG2), and sends it on each
link (REG2), which is confirmed (REG3). From then on it sends each packet of SRT on the link that has room. The receiver
tells each link which of its packets came (ACK), and sends SRT's own answers on all links. Idle links are kept with
keep-alives, which come back unchanged.

Our half of an id is a keyed hash of the sender's half. So nothing is kept before the whole id came back.
"""

import hmac
import os
from collections.abc import Sequence
from enum import IntEnum
from hashlib import blake2b
from typing import Final

_HALF: Final = 128  # bytes
_REG: Final = 2 + 2 * _HALF
_VALID_SECONDS: Final = 3600.0  # of a hash, for a new group; the hour before is valid too
ACK_EVERY: Final = 10  # data packets of one link


class SrtlaType(IntEnum):
    """The first two bytes of a packet. Packets of SRT never begin with these."""

    KEEPALIVE = 0x9000
    ACK = 0x9100
    REG1 = 0x9200
    REG2 = 0x9201
    REG3 = 0x9202
    NO_GROUP = 0x9211


REG3: Final = SrtlaType.REG3.to_bytes(2, "big")
NO_GROUP: Final = SrtlaType.NO_GROUP.to_bytes(2, "big")


def type_of(datagram: bytes) -> int:
    """Returns the type of a packet; 0 for a packet of SRT."""
    kind = int.from_bytes(datagram[:2], "big")
    return kind if 0x9000 <= kind <= 0x92FF else 0


class GroupIds:
    """Makes and checks the ids of groups. It keeps nothing."""

    def __init__(self) -> None:
        self._key = os.urandom(32)

    def answer(self, datagram: bytes, now: float) -> bytes | None:
        """Returns the answer to a REG1, which has the whole id, or to a REG2 with an id that we did not make.

        None for another packet. It is not longer than the packet. BELABOX's sender begins with a REG2 on all its links,
        and sends the REG1 on the first one that is answered.
        """
        if len(datagram) != _REG or (kind := type_of(datagram)) not in (SrtlaType.REG1, SrtlaType.REG2):
            return None
        if kind == SrtlaType.REG2:
            return NO_GROUP if self.id_of(datagram, now) is None else None
        half = datagram[2 : 2 + _HALF]
        return SrtlaType.REG2.to_bytes(2, "big") + half + self._half(half, now, 0)

    def id_of(self, datagram: bytes, now: float) -> bytes | None:
        """Returns the id in a REG2; None if we did not make it, or for another packet."""
        if len(datagram) != _REG or type_of(datagram) != SrtlaType.REG2:
            return None
        half, ours = datagram[2 : 2 + _HALF], datagram[2 + _HALF :]
        if any(hmac.compare_digest(ours, self._half(half, now, age)) for age in (0, 1)):
            return datagram[2:]
        return None

    def _half(self, half: bytes, now: float, age: int) -> bytes:
        hour = int(now / _VALID_SECONDS) - age
        parts = (blake2b(b"%d %d" % (hour, n) + half, key=self._key).digest() for n in range(2))
        return b"".join(parts)


def acknowledge(numbers: Sequence[bytes]) -> bytes:
    """Returns the acknowledgement of data packets. numbers: their first four bytes."""
    return SrtlaType.ACK.to_bytes(2, "big") + b"\0\0" + b"".join(numbers)
