"""The sessions of WHIP and WHEP in this process, and the requests that open, change and end them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.http.body import read_body
from gateway.http.request import Request
from gateway.http.response import Answer, Response, not_allowed, service_unavailable, text
from gateway.ports.errors import AtCapacity
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.sdp.answer import Accepted, LocalTransport, remote_transport, write_answer, write_restart
from gateway.protocols.sdp.fragment import parse_fragment
from gateway.protocols.sdp.offer import Offer, parse_offer
from gateway.webrtc.endpoint import WebRtcEndpoint
from gateway.webrtc.handler import PeerHandler, RemotePeer
from gateway.webrtc.peer import Peer

SDP: Final = "application/sdp"
FRAGMENT: Final = "application/trickle-ice-sdpfrag"
MAX_OFFER: Final = 65_536  # bytes
_BODY_SECONDS: Final = 10.0
_NOT_SDP: Final = text(415, f"the body must be {SDP}", headers={"Accept-Post": SDP})
_NOT_FRAGMENT: Final = text(415, f"the body must be {FRAGMENT}", headers={"Accept-Patch": FRAGMENT})
_NO_SESSION: Final = text(404, "there is no such session; it may have ended")
_OTHER_ICE_SESSION: Final = text(412, "If-Match names an earlier ICE session")
NOT_ALLOWED: Final = not_allowed("DELETE, OPTIONS, PATCH, POST")
_NO_CONTENT: Final = Response(204, None)
_ENDED: Final = text(200, "the session has ended")


class OfferRefused(Exception):
    """The offer cannot be accepted. status: 400, or 406 if it is valid and has no media in common with us."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(slots=True)
class Session:
    """One session. accepted: by index of the medium in the offer."""

    peer: Peer
    offer: Offer
    accepted: Mapping[int, Accepted]


class Signalling:
    """Opens sessions on the endpoint. A session's id is a secret: who knows it may end the session (RFC 9725 §4.2).

    suffix: of all ids; it names this process, so that others forward requests to it.
    """

    def __init__(self, endpoint: WebRtcEndpoint, suffix: str = "") -> None:
        self.endpoint = endpoint
        self._suffix = suffix
        self._sessions: dict[str, Session] = {}  # by path; bounded by the endpoint's peers
        self._paths: dict[Peer, str] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    # ---- opening ----

    def read_offer(self, request: Request, accept: Callable[[Offer], Coroutine[Any, Any, Response]]) -> Answer:
        """Reads the offer of a POST, and answers with `accept(offer)`. It may raise OfferRefused, AtCapacity."""
        if _media_type(request) != SDP:
            return _NOT_SDP

        async def take(body: bytes) -> Response:
            try:
                return await accept(parse_offer(body))
            except RemoteProtocolError as error:
                return text(400, f"the offer cannot be used: {error}")
            except OfferRefused as error:
                return text(error.status, str(error))
            except AtCapacity as error:
                return service_unavailable(str(error), 5)

        return read_body(request, MAX_OFFER, _BODY_SECONDS, take)

    def open(
        self, request: Request, folder: str, offer: Offer, accepted: Mapping[int, Accepted], handler: PeerHandler
    ) -> tuple[Peer, Response]:
        """Opens a session. Returns its peer, and the answer 201. Raises AtCapacity, RemoteProtocolError.

        folder: of its resource: /<id>/whip or /<id>/whep. `forget` must be called at the end of the peer.
        """
        transport = remote_transport(offer, accepted)
        remote = RemotePeer(transport.ufrag, transport.password, transport.fingerprint, transport.passive)
        peer = self.endpoint.open_peer(remote, handler, request.peer)
        path = self._paths[peer] = f"{folder}/{secrets.token_urlsafe(16)}{self._suffix}"
        self._sessions[path] = Session(peer, offer, accepted)
        body = write_answer(offer, accepted, self._local(peer, request), secrets.randbits(62))
        headers = {"Location": path, "ETag": _etag(peer), "Accept-Patch": FRAGMENT}
        return peer, Response(201, body.encode(), SDP, headers=headers)

    def forget(self, peer: Peer) -> None:
        """Removes the session of a peer that has ended."""
        del self._sessions[self._paths.pop(peer)]

    def _local(self, peer: Peer, request: Request) -> LocalTransport:
        host = request.host.rpartition(":")[0] if _has_port(request.host) else request.host
        candidates = tuple(self.endpoint.candidates(host.strip("[]")))
        return LocalTransport(peer.ufrag, peer.password, self.endpoint.fingerprint, candidates)

    # ---- changing and ending ----

    def request(self, request: Request, path: str) -> Answer:
        """Answers PATCH and DELETE of a session. path: of the resource."""
        session = self._sessions.get(path)
        if session is None:
            return _NO_SESSION
        if request.method == "DELETE":
            session.peer.close()
            return _ENDED
        if request.method != "PATCH":
            return NOT_ALLOWED
        if _media_type(request) != FRAGMENT:
            return _NOT_FRAGMENT
        return read_body(request, MAX_OFFER, _BODY_SECONDS, lambda body: self._patch(request, session, body))

    def _patch(self, request: Request, session: Session, body: bytes) -> Response:
        """Takes trickled candidates, which an ICE-lite agent does not need, or restarts ICE (RFC 9725 §4.3)."""
        peer, remote = session.peer, remote_transport(session.offer, session.accepted)
        match = request.headers.get("if-match", "*")
        try:
            fragment = parse_fragment(body)
            if not fragment.restarts(*peer.remote_credentials):
                return _NO_CONTENT if match in ("*", _etag(peer)) else _OTHER_ICE_SESSION
            peer.restart(RemotePeer(fragment.ufrag, fragment.password, remote.fingerprint, remote.passive))
        except RemoteProtocolError as error:
            return text(400, str(error))
        answer = write_restart(session.offer, session.accepted, self._local(peer, request))
        return Response(200, answer.encode(), FRAGMENT, headers={"ETag": _etag(peer)})


def bearer(request: Request) -> str:
    """Returns the token of `Authorization: Bearer <token>`; "" without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _etag(peer: Peer) -> str:
    return f'"{peer.ufrag}"'


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdecimal() and not host.endswith("]")
