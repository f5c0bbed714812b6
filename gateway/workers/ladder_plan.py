"""Selects the renditions of a source and computes their picture sizes.

The output sends the worker a LadderPlan as SETUP. A NOTE of the worker is JSON with "rungs" (names of the usable
renditions), "error" (null: solved) or "damaged".
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

COPY: Final = 0
_RATE_TOLERANCE: Final = Fraction(6, 5)  # a source up to this multiple of `max_rate` keeps all pictures
_MIN_BITRATE: Final = 100_000  # bits per second; of the smallest rendition of a small source
_MAX_KILOBITS: Final = 1_000_000  # a second; a larger declared bit rate is ignored
FALLBACK_AUDIO: Final = 128_000  # bits per second; used for COPY if the source audio is not AAC


@dataclass(frozen=True, slots=True)
class LadderStep:
    """One rendition to make.

    width, height: maximum size of the pictures, even numbers. bitrate: of the video, bits per second.
    vbv: maximum bits in one second, and buffer size, as a multiple of `bitrate`.
    audio: AAC, bits per second; COPY: the source's audio. slot: number of the rendition in messages, 0 to 15.
    max_rate: approximate maximum of pictures per second; 0: all pictures.
    keeps_bitrate: whether smaller pictures get the same bit rate.
    """

    name: str
    width: int
    height: int
    bitrate: int
    audio: int
    vbv: float
    slot: int = 0
    max_rate: int = 0
    keeps_bitrate: bool = False

    def every(self, rate: Fraction) -> int:
        """Returns n: every n-th picture of a source with this rate is encoded."""
        return max(1, math.ceil(rate / (self.max_rate * _RATE_TOLERANCE))) if self.max_rate else 1


@dataclass(frozen=True, slots=True)
class FittedStep:
    """A rendition with its picture size. width, height: in square pixels."""

    step: LadderStep
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class LadderPlan:
    """The instructions for a ladder worker: renditions from small to large, encoder, its preset and threads.

    profile: of the encoder; "": the default one. instant: see VideoRecipe.
    """

    rungs: tuple[LadderStep, ...]
    encoder: str = "libx264"
    preset: str = "veryfast"
    threads: int = 1
    profile: str = ""
    instant: bool = False


def display_size(width: int, height: int, sample_aspect: Fraction) -> tuple[int, int]:
    """Returns the size of a picture in square pixels. The height is unchanged.

    sample_aspect: width of a sample divided by its height.
    """
    return max(1, round(width * sample_aspect)), height


def declared_bitrate(metadata: Mapping[str, object]) -> int:
    """Returns the video's bits per second in onMetaData; 0: there is none, or it is impossible."""
    kilobits = metadata.get("videodatarate")
    return round(1000 * kilobits) if isinstance(kilobits, float) and 0 < kilobits < _MAX_KILOBITS else 0


def fit(steps: Sequence[LadderStep], width: int, height: int, source_bitrate: int = 0) -> tuple[FittedStep, ...]:
    """Returns the renditions for a source of this size (square pixels), each with its picture size.

    A rendition is omitted if both its width and its height exceed the source's. If all exceed it, the smallest is used
    at the source's size, with fewer bits unless it keeps its bit rate. Pictures keep their aspect ratio, are never
    enlarged, and have even sides.

    source_bitrate: of the source's video, bits per second; 0: unknown.
    """
    usable = [step for step in steps if step.width <= width or step.height <= height]
    if not usable:
        even = max(2, width & ~1), max(2, height & ~1)  # the largest even size that does not enlarge the picture
        return tuple(FittedStep(_shrink(step, width * height, source_bitrate), *even) for step in steps[:1])
    fitted = []
    for step in usable:
        scale = min(Fraction(step.width, width), Fraction(step.height, height))
        fitted.append(FittedStep(step, _even(width * scale, step.width), _even(height * scale, step.height)))
    return tuple(fitted)


def _shrink(step: LadderStep, pixels: int, source_bitrate: int) -> LadderStep:
    """Returns the step with a bit rate for pictures of so many pixels, and at most about that of the source.

    A publisher may declare a wrong bit rate, so at least half of the bits for these pixels are kept.
    """
    if step.keeps_bitrate:
        return step
    bitrate = step.bitrate * pixels // (step.width * step.height)
    if source_bitrate:
        bitrate = min(bitrate, max(bitrate // 2, source_bitrate))
    return replace(step, bitrate=min(step.bitrate, max(bitrate, _MIN_BITRATE)))


def _even(side: Fraction, maximum: int) -> int:
    """Returns the nearest even number, from 2 to `maximum`."""
    return max(2, min(maximum, 2 * round(side / 2)))
