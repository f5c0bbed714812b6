"""The items that viewers get while a watermark is shown: the worker's pictures among the original's sound."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from gateway.live.stream import PictureOverride
from gateway.media.track import Kind, Tracks
from gateway.media.unit import AccessUnit, Timed
from gateway.outputs.watermark.interleave import Interleave, Passing, milliseconds

_VIDEO: Final = Kind.VIDEO
_CALM: Final = 0.1  # weight of one picture in the measured delay


class OverrideWriter:
    """Takes the original's items by `add` and the worker's by `coded` and `picture`; viewers get both, in order.

    cover: the override that they are written to.
    most_ms: how much of the original may wait for pictures, ms; beyond it sound is left out.
    """

    def __init__(self, cover: PictureOverride, most_ms: int) -> None:
        self._cover = cover
        self._order = Interleave(most_ms)
        self._coded: Tracks | None = None  # the worker's tracks
        self._shown: Tracks | None = None  # the original's tracks at the point that viewers have reached
        self._fresh = True  # the worker's next picture does not continue those before it
        self._since = -1  # milliseconds: earlier pictures were shown from the original
        self.last = -1  # decode time of the latest picture that viewers got, milliseconds
        self.delay = 0.0  # seconds from a picture's arrival until viewers get it
        self.engaged = False

    def engage(self, tracks: Tracks | None, at: int = -1) -> None:
        """Takes the viewers over from the original's next item on, whose time is `at` (ms)."""
        self._cover.engage()
        self.engaged = self._cover.engaged
        self._since = at
        if tracks is not None:
            self._order.add(tracks)

    @property
    def begun(self) -> bool:
        """Whether viewers got a picture from here."""
        return self.last >= 0

    @property
    def late(self) -> int:
        """The number of audio units left out because pictures did not arrive for too long."""
        return self._order.dropped

    def add(self, item: Passing) -> None:
        """Takes the original's next item."""
        if self.engaged:
            self._order.add(item)

    def coded(self, tracks: Tracks) -> None:
        """Takes the worker's tracks.

        Its next pictures have a new configuration, or do not continue the earlier ones.
        """
        self._coded = tracks
        self._fresh = True

    def picture(self, unit: AccessUnit) -> None:
        """Takes the worker's next picture."""
        at = milliseconds(unit)
        if not self.engaged or at < self._since or at <= self.last:
            return
        self.last = at
        self.delay += (max(0.0, time.time() - unit.wall) - self.delay) * (_CALM if self.delay else 1.0)
        items = list(self._order.replace(unit))
        if self._fresh and not any(isinstance(item, Tracks) for item in items):
            self._announce(False)
        self._give(items)

    def rest(self) -> None:
        """Sends the items after the worker's last picture."""
        items = list(self._order.rest())
        end = next((n for n, item in enumerate(items) if isinstance(item, Tracks)), len(items))
        if self.begun:
            self._give(items[:end])

    def _give(self, items: Sequence[Passing]) -> None:
        for item in items:
            if isinstance(item, Tracks):
                continues = self._shown is not None and self._shown.epoch == item.epoch and not self._fresh
                self._shown = item
                self._announce(continues)
            elif self._shown is None:
                continue  # sound before the first announcement
            elif isinstance(item, Timed):
                self._cover.push_timed(item)
            elif item.track.kind is _VIDEO or item.track == self._shown.audio:
                self._cover.push(item)

    def _announce(self, continuous: bool) -> None:
        if self._coded is None or self._shown is None:
            return
        self._fresh = False
        self._cover.set_tracks(self._coded.video, self._shown.audio, self._shown.metadata, continuous)
