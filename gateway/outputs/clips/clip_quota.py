"""Limits how many clips of a channel are made, because each is a further copy of its media."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from typing import Final

from gateway.ports.errors import TooManyClips

_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
_MAX_CHANNELS: Final = 10_000


class ClipQuota:
    """Counts the clips of each channel in the last hour, for the last 10,000 channels.

    per_minute: clips of a channel in a minute. seconds_per_hour: of all its clips in an hour; one clip is always
    allowed. 0: no limit.
    """

    def __init__(self, per_minute: int, seconds_per_hour: float) -> None:
        self._per_minute = per_minute
        self._seconds = seconds_per_hour
        self._clips: OrderedDict[str, deque[tuple[float, float]]] = OrderedDict()  # times and lengths, by channel

    def take(self, channel: str, seconds: float, now: float) -> tuple[float, float]:
        """Counts a clip of `seconds`. Returns its entry for `give`. now: monotonic seconds. Raises TooManyClips."""
        clips = self._clips.setdefault(channel, deque())
        self._clips.move_to_end(channel)
        if len(self._clips) > _MAX_CHANNELS:
            self._clips.popitem(last=False)
        while clips and now - clips[0][0] >= _HOUR:
            clips.popleft()
        recent = [at for at, _ in clips if now - at < _MINUTE]
        if self._per_minute and len(recent) >= self._per_minute:
            raise TooManyClips(
                f"at most {self._per_minute} clips of a channel are made in a minute (clips.per_minute)",
                math.ceil(recent[-self._per_minute] + _MINUTE - now),
            )
        used = sum(length for _, length in clips)
        if self._seconds and used and used + seconds > self._seconds:
            raise TooManyClips(
                f"at most {self._seconds:g} seconds of clips of a channel are made in an hour (clips.seconds_per_hour)",
                math.ceil(clips[0][0] + _HOUR - now),
            )
        clips.append((now, seconds))
        return clips[-1]

    def give(self, channel: str, entry: tuple[float, float]) -> None:
        """Forgets a clip that was not made."""
        if entry in (clips := self._clips.get(channel, deque())):
            clips.remove(entry)
