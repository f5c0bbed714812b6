"""Messages between a browser push and its worker, in addition to those of `wire`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from gateway.media.errors import InvalidData


class BrowserMessage(IntEnum):
    """Kinds of frames, in addition to `wire.StreamMessage`.

    PLAN: to the worker, first: JSON of BrowserPlan. DATA: to the worker: unchanged bytes from the browser.
    REPORT: from the worker: JSON of BrowserReport.
    FAILED: from the worker, last: JSON with `reason`, the error that ends the push.
    """

    PLAN = 16
    DATA = 17
    REPORT = 18
    FAILED = 19


@dataclass(frozen=True, slots=True)
class BrowserPlan:
    """Encoder settings for pictures that cannot be copied.

    preset: of libx264. threads: of the decoder, and of the encoder.
    max_lag: seconds of delay above which the worker drops single pictures.
    backlog: seconds of delay above which the worker drops groups of pictures.
    """

    preset: str = "veryfast"
    threads: int = 1
    max_lag: float = 0.5
    backlog: float = 6.0

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as JSON for the worker."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> BrowserPlan:
        """Reads the JSON of `to_json`. Raises InvalidData."""
        try:
            return cls(
                str(fields["preset"]), int(fields["threads"]), float(fields["max_lag"]), float(fields["backlog"])
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidData(f"invalid browser plan: {error}") from None


@dataclass(frozen=True, slots=True)
class BrowserReport:
    """The state of a browser push.

    video, audio: "copy" or "transcode"; None if the push has no such track.
    dropped: number of pictures dropped because the encoder was late. damaged: number of unusable samples.
    behind: delay of the pictures in seconds. unusable_tracks: descriptions of the tracks that cannot be used.
    """

    video: str | None = None
    audio: str | None = None
    dropped: int = 0
    damaged: int = 0
    behind: float = 0.0
    unusable_tracks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON for the gateway."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> BrowserReport:
        """Reads the JSON of `to_json`. Raises InvalidData."""
        try:
            unusable_tracks = tuple(str(line)[:300] for line in list(fields["unusable_tracks"])[:64])
            video, audio = (None if fields[kind] is None else str(fields[kind]) for kind in ("video", "audio"))
            dropped, damaged = max(0, int(fields["dropped"])), max(0, int(fields["damaged"]))
            return cls(video, audio, dropped, damaged, float(fields["behind"]), unusable_tracks)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidData(f"invalid browser report: {error}") from None
