"""Reads the media of a session description (SDP, RFC 8866) as cameras write it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urljoin

_MAX_MEDIA: Final = 16
# RFC 3551 §6: payload types that need no rtpmap.
_STATIC: Final = {0: ("PCMU", 8000, 1), 8: ("PCMA", 8000, 1), 10: ("L16", 44100, 2), 11: ("L16", 44100, 1)}
_STATIC_NAMES: Final = {3: "GSM", 9: "G722", 14: "MPA", 26: "JPEG", 32: "MPV", 33: "MP2T"}


@dataclass(slots=True)
class Media:
    """One medium. kind: "video", "audio" … encoding: in upper case. rate: ticks a second of its timestamps.

    parameters: of its format (fmtp), with lower-case names. control: its address as written; "": the session's.
    """

    kind: str
    payload_type: int
    encoding: str = ""
    rate: int = 90_000
    channels: int = 1
    parameters: dict[str, str] = field(default_factory=dict)
    control: str = ""


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """control: the address of the whole session as written; "" if it has none."""

    media: tuple[Media, ...]
    control: str


def parse_description(data: bytes) -> SessionDescription:
    """Reads a description. Lines that are not understood are ignored."""
    media: list[Media] = []
    control = ""
    for line in data.decode("utf-8", "replace").splitlines():
        kind, _, value = line.strip().partition("=")
        if kind == "m":
            words = value.split()
            if len(words) < 4 or len(media) >= _MAX_MEDIA:
                continue
            number = _number(words[3])
            encoding, rate, channels = _STATIC.get(number, (_STATIC_NAMES.get(number, ""), 90_000, 1))
            media.append(Media(words[0], number, encoding, rate, channels))
        elif kind == "a":
            name, _, rest = value.partition(":")
            if name == "control":
                if media:
                    media[-1].control = rest.strip()
                else:
                    control = rest.strip()
            elif media:
                _read_attribute(media[-1], name, rest)
    return SessionDescription(tuple(media), control)


def control_address(base: str, control: str) -> str:
    """Returns the address for SETUP or PLAY (RFC 2326 §C.1.1). base: Content-Base, or the address of the request."""
    if control in ("", "*"):
        return base
    if "://" in control:
        return control
    # Cameras mean it as a suffix, also where the base has a query or no slash at its end.
    return urljoin(base, control) if control.startswith("/") else base.rstrip("/") + "/" + control


def _read_attribute(medium: Media, name: str, value: str) -> None:
    number, _, rest = value.strip().partition(" ")
    if _number(number) != medium.payload_type:
        return
    if name == "rtpmap":
        parts = rest.strip().split("/")
        medium.encoding = parts[0].upper()
        rate = _number(parts[1]) if len(parts) > 1 else 0
        medium.rate = rate if 0 < rate <= 1_000_000 else 90_000
        medium.channels = _number(parts[2]) if len(parts) > 2 and 0 < _number(parts[2]) <= 8 else 1
    elif name == "fmtp":
        for part in rest.split(";"):
            key, _, text = part.strip().partition("=")
            medium.parameters[key.lower()[:64]] = text.strip()


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1
