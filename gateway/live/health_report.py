"""The faults and measured values of a stream, as `Stream.health` reports them and the API shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from pydantic import ConfigDict

from gateway.lib.shown_types import Time

# notice: nothing is wrong, but the operator should know it.
Level: TypeAlias = Literal["fault", "notice"]
_CONFIG: Final = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)  # of the schema


@dataclass(frozen=True, slots=True)
class HealthFinding:
    """A fault of a live stream. since: when it was found. value: its size; the unit depends on the code.

    The value of `output_failing` is the name of the output, and of its target. level: a notice has no event.
    """

    __pydantic_config__ = _CONFIG

    code: str
    text: str
    since: Time
    value: float | str
    level: Level = "fault"


@dataclass(frozen=True, slots=True)
class Measurements:
    """Measured values of a push. null: not known (yet).

    fps: frames a second that arrive. declaredFps: what the encoder announced.
    bitrate, bitrate1m: bits per second, now and in the last minute.
    bitrateSpread: highest minus lowest bitrate, divided by the mean.
    gop: seconds between key frames. avOffsetMs: how far the sound's times are ahead of the picture's at their arrival;
    driftMsPerS: its change. bFrames: whether pictures are sent in another order than they are shown.
    sizeChanges: how often the picture size changed. lateMs: how much later media arrives than at the best time of the
    last ten seconds. behindMs: the same for the whole push. longestGapMs: longest pause between arrivals in the last
    ten seconds.
    """

    __pydantic_config__ = _CONFIG

    fps: float | None = None
    declaredFps: float | None = None
    bitrate: int | None = None
    bitrate1m: int | None = None
    bitrateSpread: float | None = None
    gop: float | None = None
    avOffsetMs: int | None = None
    driftMsPerS: float | None = None
    bFrames: bool | None = None
    width: int | None = None
    height: int | None = None
    sizeChanges: int | None = None
    lateMs: int | None = None
    behindMs: int | None = None
    longestGapMs: int | None = None


class HealthReport(Protocol):
    """`Stream.health`; implemented by `StreamHealth`."""

    @property
    def findings(self) -> Sequence[HealthFinding]:
        """The current faults; empty while nothing is wrong or nobody publishes."""

    def measured(self) -> Measurements:
        """Returns the measured values."""

    def add_picture(self, overview: bytes, arrived: float) -> None:
        """Adds a decoded picture. overview: pixels, see PictureOverview. arrived: seconds since 1970."""
