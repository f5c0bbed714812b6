"""The ladder: which renditions a source gets, and how large each picture is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from fractions import Fraction
from typing import Any, Final

from gateway.media.errors import InvalidData

COPY: Final = 0
FALLBACK_AUDIO: Final = 128_000  # of a rung that copies, where the source's sound is not AAC


class LadderMessage(IntEnum):
    """Kinds of frames between the transcoder and its worker, beside those of wire.Message.

    PLAN: to the worker, JSON of Plan; NOTE: from it, JSON of what is to be told: "rungs" (names of those that fit),
    "error" (null: it is over), "damaged".
    """

    PLAN = 16
    NOTE = 17


@dataclass(frozen=True, slots=True)
class Rung:
    """One rendition to make.

    width, height: the box, even. bitrate: of the video, bits a second; vbv: the most in a second, and the buffer, as a
    multiple of it. audio: AAC, bits a second; COPY: the source's own. slot: its number on the link, 0 to 15.
    """

    name: str
    width: int
    height: int
    bitrate: int
    audio: int
    vbv: float
    slot: int = 0


@dataclass(frozen=True, slots=True)
class Fitted:
    """A rung for a source of known size: what its pictures measure, in square pixels."""

    rung: Rung
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What a ladder worker is asked for: rungs from the smallest to the largest, encoder, its preset and threads."""

    rungs: tuple[Rung, ...]
    encoder: str = "libx264"
    preset: str = "veryfast"
    threads: int = 1

    def to_json(self) -> dict[str, Any]:
        """The plan as it crosses to the worker."""
        return asdict(self)

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Plan:
        """The plan of what `to_json` gave. Raises InvalidData."""
        try:
            rungs = tuple(Rung(**rung) for rung in said["rungs"])
            return cls(rungs, str(said["encoder"]), str(said["preset"]), int(said["threads"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidData(f"no plan of a ladder: {error}") from None


def display_size(width: int, height: int, sample_aspect: Fraction) -> tuple[int, int]:
    """What a picture of these samples measures in square pixels: the lines are kept, the width follows."""
    return max(1, round(width * sample_aspect)), height


def fit(rungs: Sequence[Rung], width: int, height: int) -> tuple[Fitted, ...]:
    """The rungs that a source of this size (square pixels) gets, each with the size of its pictures.

    A rung is left out when both its width and its height exceed the source's; if all do, the smallest stays at the
    source's size. Pictures keep their aspect inside the rung's box, are never enlarged, and have even sides.
    """
    stay = [rung for rung in rungs if rung.width <= width or rung.height <= height]
    if not stay:
        # The nearest even size that is no enlargement.
        return tuple(Fitted(rung, max(2, width & ~1), max(2, height & ~1)) for rung in rungs[:1])
    fitted = []
    for rung in stay:
        scale = min(Fraction(rung.width, width), Fraction(rung.height, height))
        fitted.append(Fitted(rung, _even(width * scale, rung.width), _even(height * scale, rung.height)))
    return tuple(fitted)


def _even(side: Fraction, most: int) -> int:
    """The nearest even number, from 2 to `most`."""
    return max(2, min(most, 2 * round(side / 2)))
