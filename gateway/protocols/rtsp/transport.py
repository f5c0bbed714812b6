"""The Transport header of SETUP (RFC 2326 §12.39): how a client wants the packets of one track."""

from dataclasses import dataclass
from typing import Final

from gateway.lib.numbers import read_integer

_MAX_OFFERS: Final = 8
_MAX_PARAMETERS: Final = 16
_MAX_PORT: Final = 65_535
_MAX_CHANNEL: Final = 254  # of RTP; RTCP has the next one


@dataclass(frozen=True, slots=True)
class TransportOffer:
    """One way that a client offers.

    channel: for RTP on the connection; RTCP has the next one; -1: the packets go over UDP.
    ports: of the client, for RTP and RTCP; (0, 0) on the connection. records: whether the client sends (mode=record).
    """

    channel: int
    ports: tuple[int, int] = (0, 0)
    records: bool = False


def read_transport(header: str, default_channel: int) -> list[TransportOffer]:
    """Returns the offers that can be used, in the order of the client. Multicast is none of them.

    default_channel: for a client that names no channels.
    """
    found: list[TransportOffer] = []
    for text in header.split(",")[:_MAX_OFFERS]:
        words = [word.strip() for word in text.split(";")[:_MAX_PARAMETERS]]
        values = {name.strip().lower(): value.strip(' "') for name, _, value in (w.partition("=") for w in words[1:])}
        records = values.get("mode", "").lower() in ("record", "receive")
        if "multicast" in values:
            continue
        match words[0].upper():
            case "RTP/AVP/TCP":
                channel = _pair(values.get("interleaved", str(default_channel)), _MAX_CHANNEL)
                if channel is not None:
                    found.append(TransportOffer(channel[0], records=records))
            case "RTP/AVP" | "RTP/AVP/UDP":
                ports = _pair(values.get("client_port", ""), _MAX_PORT)
                if ports is not None and all(ports):
                    found.append(TransportOffer(-1, ports, records))
    return found


def _pair(text: str, most: int) -> tuple[int, int] | None:
    """Reads `5000-5001`, or `5000`, whose second number is the next one."""
    first, dash, second = text.partition("-")
    begin = read_integer(first.strip(), most)
    if begin is None:
        return None
    end = read_integer(second.strip(), most + 1) if dash else begin + 1
    return None if end is None or end > _MAX_PORT else (begin, end)
