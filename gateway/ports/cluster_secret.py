"""The secret with which nodes sign their requests to each other. It can be replaced while the nodes run."""

from __future__ import annotations

import hashlib

from gateway.protocols import nodes


def fleet_mark(secret: str) -> str:
    """Returns a mark by which nodes of other fleets are noticed; "" without a secret.

    It has 16 bits and costs 50 ms, so that a reader of the registry cannot guess the secret with it.
    """
    return hashlib.scrypt(secret.encode(), salt=b"millrace/fleet", n=2**14, r=8, p=1, dklen=2).hex() if secret else ""


class ClusterSecret:
    """The secret of the cluster. Only its owner calls `rotate`.

    During a rotation, a node accepts both secrets. It signs with the old one until all nodes have the new one.

    known_by_all: whether all nodes have `current`.
    """

    def __init__(self, current: str, previous: str = "", *, known_by_all: bool = True) -> None:
        self.rotate(current, previous, known_by_all=known_by_all)

    def rotate(self, current: str, previous: str = "", *, known_by_all: bool = True) -> None:
        """Sets the secrets. It has the parameters of the constructor."""
        self._signing_secret = current if known_by_all or not previous else previous
        self._accepted_secrets = tuple(dict.fromkeys(filter(None, (current, previous))))

    @classmethod
    def of(cls, secret: str | ClusterSecret) -> ClusterSecret:
        """Returns `secret` itself if it is a ClusterSecret, else makes one from the text."""
        return secret if isinstance(secret, ClusterSecret) else cls(secret)

    def __bool__(self) -> bool:
        return bool(self._accepted_secrets)

    def __repr__(self) -> str:
        return f"<ClusterSecret, {len(self._accepted_secrets)} accepted>"

    def sign(self, method: str, target: str, now: float) -> str:
        """Returns the signature of a request, see protocols.nodes.sign."""
        return nodes.sign(self._signing_secret, method, target, now)

    def verify(self, method: str, target: str, value: str, now: float) -> str:
        """Verifies with all accepted secrets, see protocols.nodes.verify. Returns "", or "skew" or "wrong"."""
        results = {nodes.verify(secret, method, target, value, now) for secret in self._accepted_secrets}
        return "" if "" in results else "skew" if "skew" in results else "wrong"
