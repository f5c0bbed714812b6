"""ClusterSecret: what nodes sign their requests to each other with, also while it is being replaced."""

from __future__ import annotations

from gateway.protocols import nodes


class ClusterSecret:
    """One owner may `rotate` it. Who is asked accepts the new one and the old one, who asks goes on with the old one
    until everybody knows the new one."""

    def __init__(self, current: str, previous: str = "", *, settled: bool = True) -> None:
        """settled: every node knows `current` by now."""
        self.rotate(current, previous, settled=settled)

    def rotate(self, current: str, previous: str = "", *, settled: bool = True) -> None:
        """As of the constructor."""
        self._signs = current if settled or not previous else previous
        self._accepts = tuple(dict.fromkeys(filter(None, (current, previous))))

    @classmethod
    def of(cls, secret: str | ClusterSecret) -> ClusterSecret:
        """The same, or one that never changes."""
        return secret if isinstance(secret, ClusterSecret) else cls(secret)

    def __bool__(self) -> bool:
        return bool(self._accepts)

    def __repr__(self) -> str:
        return f"<ClusterSecret, {len(self._accepts)} accepted>"

    def sign(self, method: str, target: str, now: float) -> str:
        """As of protocols.nodes."""
        return nodes.sign(self._signs, method, target, now)

    def verify(self, method: str, target: str, value: str, now: float) -> str:
        """As of protocols.nodes."""
        found = {nodes.verify(secret, method, target, value, now) for secret in self._accepts}
        return "" if "" in found else "skew" if "skew" in found else "wrong"
