"""What crosses between a browser push and its worker, beside the streams of wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any

from gateway.media.errors import InvalidData


class BrowserMessage(IntEnum):
    """Kinds of frames beside those of wire.Message.

    PLAN: to the worker, first, JSON of BrowserPlan; DATA: to it, bytes as they came. NOTE: from it, JSON of Note.
    FAILED: from it, last: JSON with `reason`, why this push cannot go on.
    """

    PLAN = 16
    DATA = 17
    NOTE = 18
    FAILED = 19


@dataclass(frozen=True, slots=True)
class BrowserPlan:
    """How pictures are encoded that cannot be copied: libx264's preset, threads of the decoder and of the encoder.

    spare: seconds that they may be late before some are left out, backlog: before groups of pictures are dropped.
    """

    preset: str = "veryfast"
    threads: int = 1
    spare: float = 0.5
    backlog: float = 6.0

    def to_json(self) -> dict[str, Any]:
        """The plan as it crosses to the worker."""
        return asdict(self)

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> BrowserPlan:
        """The plan of what `to_json` gave. Raises InvalidData."""
        try:
            return cls(str(said["preset"]), int(said["threads"]), float(said["spare"]), float(said["backlog"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidData(f"no plan of a browser push: {error}") from None


@dataclass(frozen=True, slots=True)
class Note:
    """How a push goes.

    video, audio: "copy", "transcode", None where there is no such track. dropped: pictures that were left out because
    the encoder was late; damaged: samples that cannot be used. behind: seconds that pictures are late.
    left_out: tracks that cannot be used, in words.
    """

    video: str | None = None
    audio: str | None = None
    dropped: int = 0
    damaged: int = 0
    behind: float = 0.0
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The note as it crosses to the gateway."""
        return asdict(self)

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Note:
        """The note of what `to_json` gave. Raises InvalidData."""
        try:
            left_out = tuple(str(line)[:300] for line in list(said["left_out"])[:64])
            video, audio = (None if said[kind] is None else str(said[kind]) for kind in ("video", "audio"))
            return cls(video, audio, int(said["dropped"]), int(said["damaged"]), float(said["behind"]), left_out)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidData(f"no note of a browser push: {error}") from None
