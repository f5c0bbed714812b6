"""The ladder: selects the renditions of a source and computes their picture sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from fractions import Fraction
from typing import Any, Final

from gateway.media.errors import InvalidData

COPY: Final = 0
FALLBACK_AUDIO: Final = 128_000  # bits per second, for a rung with COPY whose source's audio is not AAC


class LadderMessage(IntEnum):
    """Kinds of frames between the transcoder and its worker, beside those of `wire.StreamMessage`.

    PLAN: to the worker: JSON of LadderPlan.
    NOTE: from the worker: JSON with "rungs" (names of those that fit), "error" (null: the error is over) or "damaged".
    """

    PLAN = 16
    NOTE = 17


@dataclass(frozen=True, slots=True)
class LadderStep:
    """One rendition to make.

    width, height: the box that the pictures have to fit into, even numbers. bitrate: of the video, bits per second.
    vbv: the most bits in one second, and the buffer size, as a multiple of `bitrate`.
    audio: AAC, bits per second; COPY: the source's own audio. slot: number of the rung on the link, 0 to 15.
    """

    name: str
    width: int
    height: int
    bitrate: int
    audio: int
    vbv: float
    slot: int = 0


@dataclass(frozen=True, slots=True)
class FittedStep:
    """A rung for a source of known size. width, height: of its pictures, in square pixels."""

    rung: LadderStep
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class LadderPlan:
    """The order to a ladder worker: rungs from the smallest to the largest, encoder, its preset and threads."""

    rungs: tuple[LadderStep, ...]
    encoder: str = "libx264"
    preset: str = "veryfast"
    threads: int = 1

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as JSON for the worker."""
        return asdict(self)

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> LadderPlan:
        """Reads a plan that `to_json` made. Raises InvalidData."""
        try:
            rungs = tuple(LadderStep(**rung) for rung in said["rungs"])
            return cls(rungs, str(said["encoder"]), str(said["preset"]), int(said["threads"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidData(f"no plan of a ladder: {error}") from None


def display_size(width: int, height: int, sample_aspect: Fraction) -> tuple[int, int]:
    """Returns the size of a picture in square pixels. The height is kept; the width is adapted.

    sample_aspect: width of a sample divided by its height.
    """
    return max(1, round(width * sample_aspect)), height


def fit(rungs: Sequence[LadderStep], width: int, height: int) -> tuple[FittedStep, ...]:
    """Returns the rungs for a source of this size (square pixels), each with the size of its pictures.

    A rung is left out when both its width and its height exceed the source's. If all rungs do, the smallest stays, at
    the source's size. Pictures keep their aspect ratio inside the rung's box, are never enlarged, and have even sides.
    """
    stay = [rung for rung in rungs if rung.width <= width or rung.height <= height]
    if not stay:
        # The largest even size that does not enlarge the picture.
        return tuple(FittedStep(rung, max(2, width & ~1), max(2, height & ~1)) for rung in rungs[:1])
    fitted = []
    for rung in stay:
        scale = min(Fraction(rung.width, width), Fraction(rung.height, height))
        fitted.append(FittedStep(rung, _even(width * scale, rung.width), _even(height * scale, rung.height)))
    return tuple(fitted)


def _even(side: Fraction, most: int) -> int:
    """Returns the nearest even number, from 2 to `most`."""
    return max(2, min(most, 2 * round(side / 2)))
