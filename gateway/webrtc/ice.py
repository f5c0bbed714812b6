"""ICE-lite (RFC 8445 §2.5) for one peer, without I/O: credentials, paths, nomination and consent.

A lite agent answers checks and needs to send none. This agent also sends checks on each path. The answer proves
that the peer receives there (otherwise anybody with credentials could direct media to a foreign address), and
it measures the round trip.
"""

import os
from dataclasses import dataclass
from typing import Final

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.sdp.offer import valid_credentials
from gateway.protocols.stun.message import Attribute, StunKind, StunMessage, error_value, write, xor_address
from gateway.webrtc.paths import Path

MAX_PATHS: Final = 8  # of one peer; a new path replaces the one that was silent for the longest time
_RESEND_SECONDS: Final = 0.1  # between two copies of a check, doubled with each
_MAX_TRIES: Final = 7  # RFC 8489 §6.2.1
CHECK_INTERVAL: Final = 5.0  # seconds; each time 20 % more or less, at random (RFC 7675 §5.1)
_SILENT_INTERVALS: Final = 2  # checks; a path is silent if another one was heard so much later
_STALE_SECONDS: Final = 30.0  # after its last answer, an unused path must answer again before it is used
# RFC 8445 §5.1.2.1: type preference of a peer-reflexive candidate, component 1.
_PRIORITY: Final = ((110 << 24) | (65_535 << 8) | 255).to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class IceCredentials:
    ufrag: str
    password: str


class IceAgent:
    """The ICE state of one peer. `selected` is the path for everything that we send; None before the first check.

    round_trip: seconds from our last check to its answer; checks that were sent again do not count.
    heard: monotonic time of the last authentic check or answer, on any path.
    consented: monotonic time of the last answer on the path in use.

    interval: seconds between two checks of the path in use.
    """

    __slots__ = (
        "_interval", "_nominated", "_previous", "_tie_breaker", "consented", "heard", "local", "paths", "remote",
        "round_trip", "selected",
    )  # fmt: skip

    def __init__(
        self, local: IceCredentials, remote: IceCredentials, now: float, interval: float = CHECK_INTERVAL
    ) -> None:
        self.local = local
        self.remote = remote
        self.heard = self.consented = now
        self._interval = interval
        self.paths: list[Path] = []
        self.selected: Path | None = None
        self.round_trip: float | None = None
        self._previous: tuple[IceCredentials, IceCredentials] | None = None  # (local, remote) before an ICE restart
        self._nominated: Path | None = None
        self._tie_breaker = os.urandom(8)

    @property
    def is_restarting(self) -> bool:
        """Whether no check has come with the credentials of the last ICE restart."""
        return self._previous is not None

    @property
    def chosen(self) -> Path | None:
        """The path in use, if the peer has nominated it and receives on it."""
        path = self.selected
        return path if path is not None and path is self._nominated and path.verified else None

    def authenticates(self, message: StunMessage) -> bool:
        """Whether a request has the user name and the password of this peer (RFC 8445 §7.3)."""
        receiver, sender = message.username
        for local, remote in filter(None, ((self.local, self.remote), self._previous)):
            if receiver == local.ufrag and sender == remote.ufrag:
                return message.is_signed_by(local.password)
        return False

    def handle_request(self, message: StunMessage, path: Path, now: float) -> bytes:
        """Handles an authentic request on a path of this peer. Returns the answer."""
        receiver, _ = message.username
        if receiver == self.local.ufrag:
            password = self.local.password
            self._previous = None  # RFC 8445 §9: the restart has reached the peer
        else:
            assert self._previous is not None, "`authenticates` found it"
            password = self._previous[0].password
        if unknown := message.unknown:
            values = b"".join(kind.to_bytes(2, "big") for kind in unknown)
            return self._error(message, 420, "Unknown Attribute", [(Attribute.UNKNOWN_ATTRIBUTES, values)], password)
        if Attribute.ICE_CONTROLLED in message.attributes:
            # RFC 8445 §7.3.1.1. A lite agent is always controlled, whatever the tie-breakers are.
            return self._error(message, 487, "Role Conflict", [], password)
        self.heard = path.heard = now
        if path is not self.selected and path.protocol == "udp" and now >= path.proved + _STALE_SECONDS:
            path.verified = False  # another host may have the peer's address by now
        if Attribute.USE_CANDIDATE in message.attributes:
            self._nominated = path
        self._select()
        address = xor_address(path.address, path.port, message.transaction)
        return write(StunKind.SUCCESS, message.transaction, [(Attribute.XOR_MAPPED_ADDRESS, address)], password)

    def handle_response(self, message: StunMessage, path: Path, now: float) -> bool:
        """Handles an answer to one of our checks. Returns False if it answers none or is not authentic."""
        if not path.check or message.transaction != path.check:
            return False
        if message.kind != StunKind.SUCCESS or not message.is_signed_by(self.remote.password):
            return False
        if path.check_tries == 1:  # otherwise unknown which copy was answered (RFC 6298 §3)
            self.round_trip = max(0.0, now - path.check_sent)  # `now` may be a time of the kernel's clock, and earlier
        path.check = b""
        self.heard = path.heard = now
        self.mark_verified(path, now)
        return True

    def mark_verified(self, path: Path, now: float) -> None:
        """Notes that the peer receives on this path."""
        path.verified, path.proved = True, now
        self._select()

    def due_check(self, path: Path, now: float) -> bytes | None:
        """Returns a check to send on this path now; None if none is due. Unverified paths are checked often."""
        if path.check:
            if now < path.check_sent + _RESEND_SECONDS * 2 ** (path.check_tries - 1):
                return None
        elif path.verified and (path is not self.selected or now < path.check_sent + path.check_pause):
            return None
        if not path.check or path.check_tries >= _MAX_TRIES:
            path.check, path.check_tries = os.urandom(12), 0
        attributes = [
            (Attribute.USERNAME, f"{self.remote.ufrag}:{self.local.ufrag}".encode()),
            (Attribute.PRIORITY, _PRIORITY),
            (Attribute.ICE_CONTROLLED, self._tie_breaker),
        ]
        check = write(StunKind.REQUEST, path.check, attributes, self.remote.password)
        if not path.allows(len(check)):
            return None
        # RFC 7675 §5.1: at random, so that peers that connected together do not always check together.
        path.check_sent, path.check_pause = now, self._interval * (0.8 + 0.4 * os.urandom(1)[0] / 255)
        path.check_tries += 1
        return check

    def add(self, path: Path) -> Path | None:
        """Adds a path. Returns the one that it replaces, if there are MAX_PATHS already."""
        replaced = None
        if len(self.paths) >= MAX_PATHS:
            replaced = min((p for p in self.paths if p is not self.selected), key=lambda p: p.heard)
            self.remove(replaced)
        self.paths.append(path)
        return replaced

    def remove(self, path: Path) -> None:
        """Removes a path: its TCP connection is lost, or another peer uses its address now."""
        self.paths.remove(path)
        if self._nominated is path:
            self._nominated = None
        if self.selected is path:
            self.selected = None
            self._select()

    def restart(self, local: IceCredentials, remote: IceCredentials) -> None:
        """Begins an ICE restart. The old credentials are valid until the first check with the new ones."""
        self._previous = (self.local, self.remote)
        self.local, self.remote = local, remote
        for path in self.paths:
            path.check = b""

    def _select(self) -> None:
        """Chooses the path to send on: the nominated one, but verified paths before others, and silent ones last.

        Checks of Firefox and pion nominate once. If a NAT changes the address, later ones come on another path.
        """
        nominated, selected = self._nominated, self.selected
        heard = max((path.heard for path in self.paths if path.verified), default=0.0)
        alive = heard - _SILENT_INTERVALS * self._interval
        if nominated is not None and nominated.verified and nominated.heard >= alive:
            self.selected = nominated
        elif selected is None or not selected.verified or selected.heard < alive:
            ranks = {p: (p.verified, p.heard >= alive, p is nominated, p is selected, p.heard) for p in self.paths}
            self.selected = max(ranks, key=ranks.__getitem__, default=None)
        if self.selected is not None:
            self.consented = max(self.consented, self.selected.proved)

    def _error(
        self, message: StunMessage, code: int, reason: str, more: list[tuple[int, bytes]], password: str
    ) -> bytes:
        attributes = [(int(Attribute.ERROR_CODE), error_value(code, reason)), *more]
        return write(StunKind.ERROR, message.transaction, attributes, password)


def new_credentials() -> IceCredentials:
    """Returns random credentials. RFC 8445 §5.3: at least 24 bits in a ufrag and 128 bits in a password."""
    return IceCredentials(os.urandom(6).hex(), os.urandom(16).hex())


def check_credentials(ufrag: str, password: str) -> IceCredentials:
    """Returns credentials of an offer. Raises RemoteProtocolError if they are malformed (RFC 8839 §5.4)."""
    if not valid_credentials(ufrag, password):
        raise RemoteProtocolError("invalid ice-ufrag or ice-pwd")
    return IceCredentials(ufrag, password)
