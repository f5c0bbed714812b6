"""The line level of a session description (SDP, RFC 8866): its sections with their attributes and RTP formats."""

import re
from dataclasses import dataclass, field
from typing import Final

from gateway.lib.numbers import read_integer
from gateway.media.clock import VIDEO_CLOCK
from gateway.protocols.errors import RemoteProtocolError

MAX_BYTES: Final = 65_536
MAX_MEDIA: Final = 32
MAX_ATTRIBUTES: Final = 512  # of a section
MAX_LINE: Final = 4_096  # characters
_MAX_FORMATS: Final = 128  # payload types have 7 bits
_MAX_NAME: Final = 64  # characters of a parameter's name
_TOKEN = re.compile(r"[!-~]{1,64}")
# RFC 3551 §6: payload types that need no rtpmap.
_STATIC: Final = {0: ("PCMU", 8000, 1), 8: ("PCMA", 8000, 1), 10: ("L16", 44100, 2), 11: ("L16", 44100, 1)}
_STATIC_NAMES: Final = {3: "GSM", 9: "G722", 14: "MPA", 26: "JPEG", 32: "MPV", 33: "MP2T"}


@dataclass(slots=True)
class RtpFormat:
    """The format of a payload type. encoding: in upper case; "" if unknown. rate: ticks a second of its timestamps.

    parameters: of the format (fmtp), with lower-case names.
    """

    payload_type: int
    encoding: str = ""
    rate: int = VIDEO_CLOCK
    channels: int = 1
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class SdpSection:
    """The session, or one medium with the words of its m-line.

    kind: "video", "audio" …; "" for the session and for a malformed m-line. port: -1 where `kind` is "".
    formats: the words after the protocol; for RTP these are the payload types.
    """

    kind: str = ""
    port: int = -1
    protocol: str = ""
    formats: tuple[str, ...] = ()
    attributes: list[tuple[str, str]] = field(default_factory=list)

    def value(self, name: str) -> str | None:
        """Returns the value of the first attribute of this name; "" if it has none; None without the attribute."""
        return next((value for key, value in self.attributes if key == name), None)

    def values(self, name: str) -> list[str]:
        """Returns the values of all attributes of this name."""
        return [value for key, value in self.attributes if key == name]

    def rtp_formats(self) -> dict[int, RtpFormat]:
        """Returns the format of each payload type of the m-line, in its order."""
        found: dict[int, RtpFormat] = {}
        for word in self.formats:
            number = decimal(word)
            if 0 <= number < 128 and number not in found:
                encoding, rate, channels = _STATIC.get(number, (_STATIC_NAMES.get(number, ""), VIDEO_CLOCK, 1))
                found[number] = RtpFormat(number, encoding, rate, channels)
        for name, value in self.attributes:
            if name in ("rtpmap", "fmtp"):
                word, _, rest = value.partition(" ")
                format = found.get(decimal(word))
                if format is None and name == "fmtp" and len(found) == 1:
                    (format,) = found.values()  # Hikvision's media servers write another number
                if format is not None:
                    (_read_rtpmap if name == "rtpmap" else _read_fmtp)(format, rest)
        return found


def parse_sections(data: bytes) -> list[SdpSection]:
    """Returns the session and then its media. Other lines than those of media and attributes are ignored.

    Lines with control characters are ignored, too, so that values may be repeated in an answer.
    Raises RemoteProtocolError above a maximum of this module.
    """
    if len(data) > MAX_BYTES:
        raise RemoteProtocolError(f"a session description of more than {MAX_BYTES} bytes")
    sections = [SdpSection()]
    for raw in data.decode("utf-8", "replace").split("\n"):
        if len(raw) > MAX_LINE:
            raise RemoteProtocolError(f"a line of more than {MAX_LINE} characters in the session description")
        line = raw.replace("\t", " ").strip()
        kind, separator, value = line[:1], line[1:2], line[2:]
        if separator != "=" or not line.isprintable():
            continue
        if kind == "a":
            attributes = sections[-1].attributes
            if len(attributes) >= MAX_ATTRIBUTES:
                raise RemoteProtocolError(f"more than {MAX_ATTRIBUTES} attributes in a part of the session description")
            name, _, rest = value.partition(":")
            attributes.append((name.strip().lower(), rest.strip()))
        elif kind == "m":
            if len(sections) > MAX_MEDIA:
                raise RemoteProtocolError(f"more than {MAX_MEDIA} media in the session description")
            sections.append(_section(value))
    return sections


def decimal(text: str) -> int:
    """Returns a number of at most 10 digits; -1 for other text."""
    number = read_integer(text, 9_999_999_999)
    return -1 if number is None else number


def _section(value: str) -> SdpSection:
    words = value.split()
    port = decimal(words[1].partition("/")[0]) if len(words) >= 4 else -1
    if port < 0 or not all(_TOKEN.fullmatch(word) for word in words):
        return SdpSection()
    return SdpSection(words[0], port, words[2], tuple(words[3 : 3 + _MAX_FORMATS]))


def _read_rtpmap(format: RtpFormat, value: str) -> None:
    parts = value.strip().split("/")
    if not _TOKEN.fullmatch(parts[0]):
        return
    format.encoding = parts[0].upper()
    rate = decimal(parts[1]) if len(parts) > 1 else 0
    format.rate = rate if 0 < rate <= 1_000_000 else VIDEO_CLOCK
    format.channels = decimal(parts[2]) if len(parts) > 2 and 0 < decimal(parts[2]) <= 8 else 1


def _read_fmtp(format: RtpFormat, value: str) -> None:
    for part in value.split(";"):
        key, _, text = part.partition("=")
        if key := key.strip().lower()[:_MAX_NAME]:
            format.parameters[key] = text.strip()
