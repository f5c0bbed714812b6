"""Reads the media of a session description (SDP, RFC 8866) as cameras write it."""

from dataclasses import dataclass
from urllib.parse import urljoin

from gateway.protocols.sdp.sections import RtpFormat, SdpSection, parse_sections


@dataclass(slots=True)
class RtspMedia(RtpFormat):
    """One medium with its first format. kind: "video", "audio" … control: its address as written; "": the session's."""

    kind: str = ""
    control: str = ""


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """The description of an RTSP session (SDP, RFC 2326 appendix C).

    control: the address of the whole session as written; "" if it has none.
    """

    media: tuple[RtspMedia, ...]
    control: str


def parse_description(data: bytes) -> SessionDescription:
    """Reads a description. Lines that are not understood are ignored. Raises RemoteProtocolError if it is too large."""
    session, *media = parse_sections(data)
    return SessionDescription(
        tuple(medium for section in media if (medium := _medium(section)) is not None), session.value("control") or ""
    )


def base_address(url: str, header: str) -> str:
    """Returns the address to which others are relative. url: of the request. header: Content-Base; "": none came."""
    if not header or "://" in header:
        return header or url
    has_host = any(mark in header.partition("/")[0] for mark in ".:")
    return f"{url.partition('://')[0]}://{header}" if has_host else urljoin(url, header)


def control_address(base: str, control: str) -> str:
    """Returns the address for SETUP or PLAY (RFC 2326 §C.1.1). base: Content-Base, or the address of the request."""
    if control in ("", "*"):
        return base
    if "://" in control:
        return control
    # Cameras mean it as a suffix, also where the base has a query or no slash at its end.
    return urljoin(base, control) if control.startswith("/") else base.rstrip("/") + "/" + control


def _medium(section: SdpSection) -> RtspMedia | None:
    for first in section.rtp_formats().values():
        encoding, names = first.encoding, first.parameters.keys()
        if encoding == "H265" and "profile-level-id" in names and "sprop-vps" not in names:
            encoding = "H264"  # Ezviz C6N: it has the parameters of H.264, and sends that
        return RtspMedia(
            first.payload_type, encoding, first.rate, first.channels, first.parameters,
            section.kind, section.value("control") or "",
        )  # fmt: skip
    return None
