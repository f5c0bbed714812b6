"""A clock that stands still until a test changes it."""


class Clock:
    """Returns `now` when called: seconds since an arbitrary start."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
