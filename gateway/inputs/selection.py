"""Chooses the input of a channel that is on air. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class SwitchReason(StrEnum):
    """Why another input is on air. Events and webhooks have the value."""

    STARTED = "started"  # the first input of the stream
    ENDED = "ended"  # the previous input has ended or was disconnected
    SILENT = "silent"  # the previous input sends no media
    THIN = "thin"  # the bit rate of the previous input is below that of its rule
    FAILED = "failed"  # the source of the previous input has failed
    BETTER = "better"  # an earlier input of the list delivers again
    TAKEN = "taken"  # by hand
    AUTOMATIC = "automatic"  # the choice by hand was taken back
    CHANGED = "changed"  # the list of inputs was changed


@dataclass(frozen=True, slots=True)
class Candidate:
    """An input, for the choice.

    usable: whether it delivers media, or can deliver them at once.
    steady: seconds for which it has been usable.
    """

    usable: bool
    steady: float = 0.0


def choose(
    candidates: Sequence[Candidate], current: int | None, taken: int | None, steady: float, *, automatic: bool = True
) -> int | None:
    """Returns the index of the input that is on air from now on; None if none is usable.

    candidates: in the order of the list; the first is the best. current, taken: indexes; None: none.
    steady: seconds for which a better input must be usable before it replaces a usable one.
    automatic: whether a better input replaces a usable one; False: this happens only by hand.

    An input that was taken by hand is on air while it is usable. Otherwise the choice is automatic.
    """
    if taken is not None and candidates[taken].usable:
        return taken
    usable = [index for index, candidate in enumerate(candidates) if candidate.usable]
    if current is None or not candidates[current].usable:
        return usable[0] if usable else None
    if not automatic:
        return current
    return next((index for index in usable if index < current and candidates[index].steady >= steady), current)
