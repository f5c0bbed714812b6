"""Messages between a browser push and its worker, beside the stream messages of `wire`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from gateway.media.errors import InvalidData


class BrowserMessage(IntEnum):
    """Kinds of frames, beside those of `wire.StreamMessage`.

    PLAN: to the worker, first: JSON of BrowserPlan. DATA: to the worker: bytes as the browser sent them.
    NOTE: from the worker: JSON of BrowserReport.
    FAILED: from the worker, last: JSON with `reason`, which says why this push cannot go on.
    """

    PLAN = 16
    DATA = 17
    NOTE = 18
    FAILED = 19


@dataclass(frozen=True, slots=True)
class BrowserPlan:
    """How the worker encodes pictures that it cannot copy.

    preset: of libx264. threads: of the decoder, and of the encoder.
    spare: seconds that pictures may be late before the worker leaves some out.
    backlog: seconds that pictures may be late before the worker drops groups of pictures.
    """

    preset: str = "veryfast"
    threads: int = 1
    spare: float = 0.5
    backlog: float = 6.0

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as JSON for the worker."""
        return asdict(self)

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> BrowserPlan:
        """Reads a plan that `to_json` made. Raises InvalidData."""
        try:
            return cls(str(said["preset"]), int(said["threads"]), float(said["spare"]), float(said["backlog"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidData(f"no plan of a browser push: {error}") from None


@dataclass(frozen=True, slots=True)
class BrowserReport:
    """The state of a browser push.

    video, audio: "copy" or "transcode"; None if the push has no such track.
    dropped: pictures that were left out because the encoder was late. damaged: samples that cannot be used.
    behind: seconds that pictures are late. left_out: descriptions of the tracks that cannot be used.
    """

    video: str | None = None
    audio: str | None = None
    dropped: int = 0
    damaged: int = 0
    behind: float = 0.0
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON for the gateway."""
        return asdict(self)

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> BrowserReport:
        """Reads a report that `to_json` made. Raises InvalidData."""
        try:
            left_out = tuple(str(line)[:300] for line in list(said["left_out"])[:64])
            video, audio = (None if said[kind] is None else str(said[kind]) for kind in ("video", "audio"))
            return cls(video, audio, int(said["dropped"]), int(said["damaged"]), float(said["behind"]), left_out)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidData(f"no note of a browser push: {error}") from None
