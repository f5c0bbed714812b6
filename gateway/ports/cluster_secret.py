"""The secret with which nodes sign their requests to each other. It can be replaced while the nodes run."""

from __future__ import annotations

from gateway.protocols import nodes


class ClusterSecret:
    """The secret of the cluster. One owner may `rotate` it.

    During a rotation, a node accepts both secrets. It signs with the old one until every node knows the new one.
    """

    def __init__(self, current: str, previous: str = "", *, settled: bool = True) -> None:
        """settled: whether every node knows `current`."""
        self.rotate(current, previous, settled=settled)

    def rotate(self, current: str, previous: str = "", *, settled: bool = True) -> None:
        """Sets the secrets. The parameters are those of the constructor."""
        self._signs = current if settled or not previous else previous
        self._accepts = tuple(dict.fromkeys(filter(None, (current, previous))))

    @classmethod
    def of(cls, secret: str | ClusterSecret) -> ClusterSecret:
        """Returns `secret` itself, or a ClusterSecret for a text."""
        return secret if isinstance(secret, ClusterSecret) else cls(secret)

    def __bool__(self) -> bool:
        return bool(self._accepts)

    def __repr__(self) -> str:
        return f"<ClusterSecret, {len(self._accepts)} accepted>"

    def sign(self, method: str, target: str, now: float) -> str:
        """Returns the signature of a request, see protocols.nodes.sign."""
        return nodes.sign(self._signs, method, target, now)

    def verify(self, method: str, target: str, value: str, now: float) -> str:
        """Verifies with all accepted secrets, see protocols.nodes.verify. Returns "", or "skew" or "wrong"."""
        found = {nodes.verify(secret, method, target, value, now) for secret in self._accepts}
        return "" if "" in found else "skew" if "skew" in found else "wrong"
