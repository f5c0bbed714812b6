"""RateFloor: whether an input is thin, because its bit rate is below that of its rule."""

from collections import deque

from gateway.channels.inputs import Below


class RateFloor:
    """Judges one input from the bytes that it has sent, each half second. Times are monotonic seconds.

    It is thin when the mean of the last `seconds` of the rule is below its bit rate. It is no longer thin when this
    mean is above, and the mean since some later moment has not been below for `seconds`.

    thin_since: None: it is not thin. kbps: the mean of the last seconds. above_since: that moment.
    """

    __slots__ = ("_rule", "_samples", "_start", "above_since", "kbps", "thin_since")

    def __init__(self, rule: Below) -> None:
        self._rule = rule
        self.begin()

    def begin(self) -> None:
        """Forgets everything: another publisher begins. It is not thin until `seconds` of it are known."""
        # Time and bytes, at least those of the rule's seconds.
        self._samples: deque[tuple[float, int]] = deque()
        self._start = (0.0, 0)  # time and bytes at `above_since`
        self.above_since = 0.0
        self.thin_since: float | None = None
        self.kbps = 0.0

    def sample(self, now: float, size: int) -> None:
        """Takes the number of bytes received so far."""
        rule, samples = self._rule, self._samples
        if not samples or size - self._start[1] < (now - self._start[0]) * rule.kbps * 125:
            self._start, self.above_since = (now, size), now
        samples.append((now, size))
        while len(samples) > 1 and samples[1][0] <= now - rule.seconds:
            samples.popleft()
        began, bytes_then = samples[0]
        if now - began < rule.seconds:
            return
        self.kbps = (size - bytes_then) / (now - began) / 125
        if self.thin_since is None and self.kbps < rule.kbps:
            self.thin_since = self.above_since = now
            self._start = (now, size)
        elif self.kbps >= rule.kbps and now - self.above_since >= rule.seconds:
            self.thin_since = None
