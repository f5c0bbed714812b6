"""The sessions of WHIP and WHEP in this process, and the requests that open, change and end them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from gateway.http.body import read_body
from gateway.http.request import Request
from gateway.http.response import Answer, Response, not_allowed, service_unavailable, text
from gateway.ports.errors import AtCapacity
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.sdp.answer import (
    Accepted,
    LocalTransport,
    remote_transport,
    restart_parts,
    with_tagged,
    write_answer,
    write_restart,
)
from gateway.protocols.sdp.fragment import parse_fragment
from gateway.protocols.sdp.offer import Offer, parse_offer
from gateway.webrtc.endpoint import WebRtcEndpoint
from gateway.webrtc.handler import PeerHandler

if TYPE_CHECKING:
    from gateway.webrtc.peer import Peer

SDP: Final = "application/sdp"
FRAGMENT: Final = "application/trickle-ice-sdpfrag"
MAX_OFFER: Final = 65_536  # bytes
_BODY_SECONDS: Final = 10.0
_NOT_SDP: Final = text(415, f"the body must be {SDP}", headers={"Accept-Post": SDP})
_NOT_FRAGMENT: Final = text(415, f"the body must be {FRAGMENT}", headers={"Accept-Patch": FRAGMENT})
NO_SESSION: Final = text(404, "there is no such session; it may have ended")
_OTHER_ICE_SESSION: Final = text(412, "If-Match names an earlier ICE session")
_NO_ICE_SESSION: Final = text(428, "If-Match is missing: the ETag of the ICE session, or * for an ICE restart")
NOT_ALLOWED: Final = not_allowed("DELETE, OPTIONS, PATCH, POST")
_NO_CONTENT: Final = Response(204, None)
_ENDED: Final = text(200, "the session has ended")
_RETRY_AFTER: Final = 1  # seconds; then the successor of this process, or another node, answers


class OfferRefused(Exception):
    """The offer cannot be accepted. status: 400, or 406 if it is valid and has no media in common with us."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class SessionChange:
    """A PATCH or DELETE of a session. path: of its resource. host: as the client addressed us.

    match: the value of If-Match; "": it was not sent. ufrag, password: of the fragment, see `sdp.fragment`.
    """

    path: str
    method: str
    host: str = ""
    match: str = ""
    ufrag: str = ""
    password: str = ""

    def as_query(self) -> dict[str, str]:
        """Returns the change as parameters of a request to another process."""
        return asdict(self)

    @classmethod
    def of_query(cls, query: Mapping[str, str]) -> Self:
        """Reads the parameters. Missing ones are empty."""
        return cls(*(query.get(field.name, "") for field in fields(cls)))


class RemoteSessions(Protocol):
    """The sessions of other processes."""

    def seal(self, path: str) -> str:
        """Returns the path of a new session, with an end that names this process."""

    def is_elsewhere(self, path: str) -> bool:
        """Whether another process has made this path. A client cannot guess such a path."""

    async def change(self, change: SessionChange) -> Response:
        """Returns the answer of the process that owns the session."""


@dataclass(slots=True)
class WebRtcSession:
    """One session. It does not keep the offer, which may be large. restart: the result of `restart_parts`."""

    peer: Peer
    restart: tuple[tuple[str, bool], ...]


class Signalling:
    """Opens sessions on the endpoint. A session's id is a secret: who knows it may end the session (RFC 9725 §4.2).

    remote: the sessions of other processes, which get the requests for them; None: there are no others.
    ice_servers: as in the settings.
    """

    def __init__(
        self, endpoint: WebRtcEndpoint, remote: RemoteSessions | None = None, ice_servers: Sequence[str] = ()
    ) -> None:
        self.endpoint = endpoint
        self._remote = remote
        self._stopped = False
        self._links = {"Link": ", ".join(map(_link, ice_servers))} if ice_servers else {}
        self._sessions: dict[str, WebRtcSession] = {}  # by path; bounded by the endpoint's peers
        self._paths: dict[Peer, str] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    # ---- opening ----

    def read_offer(self, request: Request, accept: Callable[[Offer], Coroutine[Any, Any, Response]]) -> Answer:
        """Reads the offer of a POST, and answers with `accept(offer)`, which may raise OfferRefused, AtCapacity."""
        if self._stopped:
            return service_unavailable("this process accepts no more sessions", _RETRY_AFTER)
        if _media_type(request) != SDP:
            return _NOT_SDP

        async def take(body: bytes) -> Response:
            try:
                offer = parse_offer(body)
                await self.endpoint.prepare()
                return await accept(offer)
            except RemoteProtocolError as error:
                return text(400, f"the offer cannot be used: {error}")
            except OfferRefused as error:
                return text(error.status, str(error))
            except AtCapacity as error:
                return service_unavailable(str(error), 5)

        return read_body(request, MAX_OFFER, _BODY_SECONDS, take)

    def open(
        self, request: Request, folder: str, offer: Offer, accepted: Accepted, handler: PeerHandler, *, has_key: bool
    ) -> tuple[Peer, Response]:
        """Opens a session. Returns its peer, and the answer 201. Raises AtCapacity, RemoteProtocolError.

        folder: of its resource: /<id>/whip, or /<id or slug>/whep. `forget` must be called at the end of the peer.
        has_key: see `WebRtcEndpoint.open_peer`.
        """
        accepted = with_tagged(offer, accepted)
        transport = remote_transport(offer, accepted)
        peer = self.endpoint.open_peer(transport, handler, request.peer, has_key=has_key)
        path = f"{folder}/{secrets.token_urlsafe(16)}"
        path = self._paths[peer] = path if self._remote is None else self._remote.seal(path)
        self._sessions[path] = WebRtcSession(peer, restart_parts(offer, accepted))
        body = write_answer(offer, accepted, self._local(peer, request.host), secrets.randbits(62))
        headers = {"Location": path, "ETag": _etag(peer), "Accept-Patch": FRAGMENT, **self._links}
        return peer, Response(201, body.encode(), SDP, headers=headers)

    def forget(self, peer: Peer) -> None:
        """Removes the session of a peer that has ended."""
        del self._sessions[self._paths.pop(peer)]

    def stop_accepting(self) -> None:
        """Refuses new sessions with 503. Open ones continue."""
        self._stopped = True

    def _local(self, peer: Peer, host: str) -> LocalTransport:
        host = host.rpartition(":")[0] if _has_port(host) else host
        candidates = tuple(self.endpoint.candidates(host.strip("[]")))
        return LocalTransport(peer.ufrag, peer.password, self.endpoint.fingerprint, candidates)

    # ---- changing and ending ----

    def answer_request(self, request: Request, path: str) -> Answer | Coroutine[Any, Any, Answer]:
        """Answers PATCH and DELETE of a session. path: of the resource."""
        if path not in self._sessions and not (self._remote is not None and self._remote.is_elsewhere(path)):
            return NO_SESSION
        if request.method == "DELETE":
            return self._change(SessionChange(path, "DELETE"))
        if request.method != "PATCH":
            return NOT_ALLOWED
        if _media_type(request) != FRAGMENT:
            return _NOT_FRAGMENT
        match = request.headers.get("if-match", "")

        def take(body: bytes) -> Response | Coroutine[Any, Any, Response]:
            try:
                fragment = parse_fragment(body)
            except RemoteProtocolError as error:
                return text(400, str(error))
            change = SessionChange(path, "PATCH", request.host, match, fragment.ufrag, fragment.password)
            return self._change(change)

        return read_body(request, MAX_OFFER, _BODY_SECONDS, take)

    def _change(self, change: SessionChange) -> Response | Coroutine[Any, Any, Response]:
        if change.path in self._sessions or self._remote is None:
            return self.apply(change)
        return self._remote.change(change)

    def apply(self, change: SessionChange) -> Response:
        """Changes or ends a session of this process, also for another process."""
        session = self._sessions.get(change.path)
        if session is None:
            return NO_SESSION
        if change.method == "DELETE":
            session.peer.close()
            return _ENDED
        return self._patch(session, change)

    def _patch(self, session: WebRtcSession, change: SessionChange) -> Response:
        """Ignores trickled candidates, which an ICE-lite agent does not need, or restarts ICE (RFC 9725 §4.3).

        A fragment of an earlier ICE session may arrive late. It must not restart ICE with its old credentials.
        """
        peer = session.peer
        if not change.match:
            return _NO_ICE_SESSION
        is_named = _etag(peer) in map(str.strip, change.match.split(","))
        is_known = (change.ufrag, change.password) == peer.remote_credentials
        # A client that repeats its restart has not got the answer: it does not name the new ETag (RFC 9110 §13.1.1).
        if not (is_known and peer.ice.is_restarting and not is_named):
            # The figures of the WHEP draft have quotes around the asterisk. No ETag of ours is one.
            if not is_named and change.match not in ("*", '"*"'):
                return _OTHER_ICE_SESSION
            if not change.ufrag or is_known:
                return _NO_CONTENT
            try:
                peer.restart(change.ufrag, change.password)
            except RemoteProtocolError as error:
                return text(400, str(error))
        answer = write_restart(session.restart, self._local(peer, change.host))
        return Response(200, answer.encode(), FRAGMENT, headers={"ETag": _etag(peer)})


def bearer(request: Request) -> str:
    """Returns the token of `Authorization: Bearer <token>`; "" without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _link(server: str) -> str:
    """Returns the link of a STUN or TURN server (RFC 9725 §4.6)."""
    address, *credentials = server.split(" ")
    link = f'<{address}>; rel="ice-server"'
    if credentials:
        user, password = credentials
        link += f'; username="{user}"; credential="{password}"; credential-type="password"'
    return link


def _etag(peer: Peer) -> str:
    return f'"{peer.ufrag}"'


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdecimal() and not host.endswith("]")
