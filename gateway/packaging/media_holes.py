"""Finds holes in a stream's media. HLS and DASH players halt there, unless a discontinuity or Period begins after them.

Encoders drop media while their network is away. Cameras are switched off while the sound goes on.
"""

import math
from typing import Final

from gateway.media.clock import MILLISECONDS
from gateway.media.track import AccessUnit, Kind

# The least hole of one track, and of both, in milliseconds. Players skip shorter ones themselves. Media that both lack
# are lost, so pictures behind them cannot be decoded up to the next key frame.
_ONE_MS: Final = 1_000
_BOTH_MS: Final = 300
_STEPS: Final = 4  # a hole is longer than so many steps between pictures: some streams have few of them
_VIDEO: Final = Kind.VIDEO


class MediaHoles:
    """Compares the times of one stream's units.

    in_pictures: whether pictures that pause while the sound goes on leave a hole, too.
    """

    __slots__ = ("_in_pictures", "_lag", "_picture", "_resumed", "_sound", "_step", "_wall")

    def __init__(self, *, in_pictures: bool) -> None:
        self._in_pictures = in_pictures
        self.begin()

    def begin(self) -> None:
        """Forgets all times: an epoch begins."""
        self._picture: float | None = None  # times of the last units, milliseconds
        self._sound: float | None = None
        self._resumed = -math.inf  # time of the first sound behind a hole in it
        self._lag = 0.0  # of the sound behind the last picture: the usual one, which is no hole
        self._step = 0.0  # between the last two pictures; 0: unknown
        self._wall = 0.0  # arrival of the last unit, seconds since 1970

    def is_before(self, unit: AccessUnit) -> bool:
        """Whether a hole is before a unit. Then all times are forgotten. Hot path."""
        scale = unit.track.timescale
        time = unit.dts if scale == MILLISECONDS else unit.dts * MILLISECONDS / scale
        picture, sound, wall, self._wall = self._picture, self._sound, self._wall, unit.wall
        if unit.track.kind is _VIDEO:
            self._picture = time
            lag, self._lag = self._lag, 0.0 if sound is None or sound > time else time - sound
            if picture is None:
                return False
            step, self._step = self._step, time - picture
            if not step or self._step <= max(_BOTH_MS, _STEPS * step):
                return False
            is_both = sound is not None and (self._lag > lag + _BOTH_MS or self._resumed > picture)
            is_hole = is_both or (self._step > _ONE_MS and (self._in_pictures or sound is None))
        else:
            self._sound = time
            if sound is None or time - sound <= _BOTH_MS:
                return False
            self._resumed = time
            if picture is None:
                is_hole = time - sound > _ONE_MS
            else:  # without a pause of the arrivals, only the times of the sound have jumped
                is_paused = unit.wall - wall > (time - sound) / MILLISECONDS / 2
                is_hole = is_paused and time - picture > max(_ONE_MS, _STEPS * self._step)
        if is_hole:
            self.begin()
        return is_hole
