"""The faults of a stream, as `Stream.health` reports them."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol

from gateway.lib.rfc3339 import rfc3339


class Level(StrEnum):
    FAULT = "fault"
    NOTICE = "notice"  # nothing is wrong, but the operator should know it: no event reports it


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault of a stream.

    code: its name in the API, in metrics and in logs. text: a sentence in English that says what to do.
    since: seconds since 1970. value: its size, or the name of what fails; it depends on the code (docs/api.md).
    """

    code: str
    text: str
    since: float
    value: float | str
    level: Level = Level.FAULT


def shown(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Returns faults as the API shows them."""
    return [{**asdict(finding), "since": rfc3339(finding.since)} for finding in findings]


class HealthReport(Protocol):
    """`Stream.health`; implemented by `StreamHealth`."""

    @property
    def findings(self) -> Sequence[Finding]:
        """The current faults; empty while nothing is wrong or nobody publishes."""

    def measured(self) -> dict[str, object]:
        """Returns the measured values by their names in the API; None for unknown values."""

    def add_picture(self, overview: bytes, arrived: float) -> None:
        """Adds a decoded picture. overview: pixels, see PictureOverview. arrived: seconds since 1970."""
