"""Decides when a motion clip begins and ends, from the changes seen and the stream's own clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MotionLimits:
    """percent: share of the picture that must change.

    duration: seconds that a clip continues after the last motion.
    timeout: the longest time that a clip lasts after its trigger, seconds.
    """

    percent: float
    duration: float
    timeout: float


class MotionRule:
    """The rule for one stream. Times are seconds of the stream's media, so nothing drifts, however long it runs.

    `clip_from` is when the present clip was triggered; None if there is none.
    """

    def __init__(self, limits: MotionLimits) -> None:
        self.limits = limits
        self.clip_from: float | None = None
        self._last = 0.0  # time of the last motion
        self._over = float("-inf")  # end of the previous clip

    def seen(self, at: float, changed: float) -> bool:
        """Takes the changed percentage of the picture at `at`, and returns whether a clip begins now.

        Without any change there is no motion, whatever `percent` is.
        Pictures up to the end of the previous clip begin no new one: motion that continues is seen again soon.
        """
        if not changed or changed < self.limits.percent or at <= self._over:
            return False
        self._last = at
        if self.clip_from is None:
            self.clip_from = at
            return True
        return False

    def over(self, at: float, judged: float | None = None) -> bool:
        """Returns whether the clip ends now, when the stream has reached `at`.

        judged: time of the last picture that was compared; None: `at`.
        On a busy machine results come late, and one from before the end may still prolong the clip.
        """
        began, limits = self.clip_from, self.limits
        if began is None:
            return False
        seen_to = at if judged is None else judged
        if at - began < limits.timeout and seen_to - self._last < limits.duration:
            return False
        self.clip_from, self._over = None, at
        return True
