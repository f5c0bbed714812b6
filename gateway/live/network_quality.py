"""The quality of a publisher's connection, as the API shows it, and its form in messages between nodes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self, TypeAlias

from gateway.media.errors import InvalidData
from gateway.protocols.srt.statistics import LinkPath, LinkStatistics

_MAX_PATHS: Final = 16  # of one connection; SRTLA has at most 8 that are up
_MAX_PEER: Final = 64  # characters of an address


@dataclass(frozen=True, slots=True)
class NetworkQuality:
    """A WebRTC connection. roundTrip, jitter: ms; null: not known yet. lost: share of packets, of the last report."""

    roundTrip: float | None
    lost: float
    jitter: float

    @classmethod
    def of(cls, round_trip: float | None, lost: float, jitter: float) -> Self:
        """Returns the quality with rounded values, from times in seconds."""
        trip = None if round_trip is None else round(round_trip * 1000, 1)
        return cls(trip, round(lost, 4), round(jitter * 1000, 1))


Quality: TypeAlias = NetworkQuality | LinkStatistics  # of WebRTC; of SRT


def unknown_quality() -> Quality | None:
    """Returns None: the quality of a connection whose protocol has no reports."""
    return None


def quality_fields(quality: Quality) -> dict[str, Any]:
    """Returns the members of a message to another node."""
    return asdict(quality)


def quality_of(fields: Mapping[str, Any]) -> Quality:
    """Returns the quality from such a message. Raises InvalidData."""
    try:
        if "links" not in fields:
            return NetworkQuality(*(_number(fields, name) for name in ("roundTrip", "lost", "jitter")))
        paths = (_path(path) for path in fields["links"][:_MAX_PATHS])
        names = ("rtt_ms", "loss_percent", "retransmitted", "dropped", "latency_ms", "buffer_ms")
        return LinkStatistics(**{name: _number(fields, name) for name in names}, links=tuple(paths))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidData(f"the quality of a connection: {error}") from None


def _path(fields: Mapping[str, Any]) -> LinkPath:
    share, rtt = _number(fields, "share_percent"), _number(fields, "rtt_ms")
    return LinkPath(str(fields["peer"])[:_MAX_PEER], share, rtt, "up" if fields["state"] == "up" else "down")


def _number(fields: Mapping[str, Any], name: str) -> Any:
    """Returns a member that is a number; a round trip may be None. Raises KeyError, ValueError."""
    number = fields[name]
    if number is None and name in ("roundTrip", "rtt_ms"):
        return None
    if isinstance(number, bool) or not isinstance(number, int | float) or not number >= 0:
        raise ValueError(f"{name} is not a number")
    return number
