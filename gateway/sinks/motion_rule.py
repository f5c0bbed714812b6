"""When a motion clip begins and ends: a rule that is told what was seen and when, on the stream's own clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """percent: of the picture that has to change; duration: seconds that a clip goes on after the last motion; timeout:
    the longest that a clip lasts after it was triggered, seconds."""

    percent: float
    duration: float
    timeout: float


class Rule:
    """Times are seconds of the stream's media: however long it runs, nothing drifts.

    `clip_from` is when the present clip was triggered; None while there is none.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.clip_from: float | None = None
        self._last = 0.0  # when motion was seen last
        self._over = float("-inf")  # when the clip before ended

    def seen(self, at: float, changed: float) -> bool:
        """So many per cent changed; whether a clip begins now. Without any change nothing moves, whatever `percent`.

        What the clip before shows to its end begins no other: motion that goes on is seen again in a moment.
        """
        if not changed or changed < self.limits.percent or at <= self._over:
            return False
        self._last = at
        if self.clip_from is None:
            self.clip_from = at
            return True
        return False

    def over(self, at: float, judged: float | None = None) -> bool:
        """The stream has come to `at`; whether the clip ends now.

        judged: of when the last picture is that there is a verdict about; None: of now. On a busy machine verdicts come
        late, and one about a picture before the end may still prolong the clip.
        """
        began, limits = self.clip_from, self.limits
        if began is None:
            return False
        seen_to = at if judged is None else judged
        if at - began < limits.timeout and seen_to - self._last < limits.duration:
            return False
        self.clip_from, self._over = None, at
        return True
