"""Decides when a motion clip begins and ends, from picture changes and media time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MotionLimits:
    """The limits that decide about motion and its clips.

    percent: minimum changed area of the picture, in percent.

    duration: seconds that a clip continues after the last motion.
    timeout: maximum seconds of a clip after its trigger.
    """

    percent: float
    duration: float
    timeout: float


class MotionRule:
    """The rule for one stream. Times are media seconds, so drift of the system clock has no effect.

    `clip_from`: start of the current clip; None if there is none.
    """

    def __init__(self, limits: MotionLimits) -> None:
        self.limits = limits
        self.clip_from: float | None = None
        self._last_motion = 0.0  # time of the last motion
        self._clip_ended_at = float("-inf")  # end of the previous clip

    def add_comparison(self, at: float, changed: float) -> bool:
        """Records the changed percentage of the picture at `at`. Returns whether a clip begins.

        0 % change is never motion, even if `percent` is 0.
        Pictures before the end of the previous clip start no clip. The next comparison detects continuing motion.
        """
        if not changed or changed < self.limits.percent or at <= self._clip_ended_at:
            return False
        self._last_motion = at
        if self.clip_from is None:
            self.clip_from = at
            return True
        return False

    def check_end(self, at: float, compared_until: float | None = None) -> bool:
        """Returns whether the clip ends now, at the stream's time `at`.

        compared_until: time of the last compared picture; None: `at`.
        Results may arrive late on a busy machine. A result from before the end can still extend the clip.
        """
        began, limits = self.clip_from, self.limits
        if began is None:
            return False
        compared_until = at if compared_until is None else compared_until
        if at - began < limits.timeout and compared_until - self._last_motion < limits.duration:
            return False
        self.clip_from, self._clip_ended_at = None, at
        return True
