"""The fragments of trickle ICE (application/trickle-ice-sdpfrag, RFC 8840) in the PATCH requests of RFC 9725."""

from dataclasses import dataclass

from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.sdp.offer import valid_credentials
from gateway.protocols.sdp.sections import parse_sections


@dataclass(frozen=True, slots=True)
class Fragment:
    """A fragment that changes the ICE session (RFC 8840 §9).

    ufrag, password: of the client; both "" if the fragment has none. candidates: values of its a=candidate lines.
    """

    ufrag: str
    password: str
    candidates: tuple[str, ...]


def parse_fragment(body: bytes) -> Fragment:
    """Reads a fragment. The credentials may be in the session or in a medium. Raises RemoteProtocolError."""
    sections = parse_sections(body)
    ufrag, password = (
        next((value for section in sections if (value := section.value(name))), "") for name in ("ice-ufrag", "ice-pwd")
    )
    candidates = tuple(value for section in sections for value in section.values("candidate"))
    if (ufrag or password) and not valid_credentials(ufrag, password):
        raise RemoteProtocolError("malformed ICE credentials in the fragment")
    if not ufrag and not candidates and all(section.value("end-of-candidates") is None for section in sections):
        raise RemoteProtocolError("the fragment has neither ICE credentials nor candidates")
    return Fragment(ufrag, password, candidates)
