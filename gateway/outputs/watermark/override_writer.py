"""Merges a worker's pictures with the original stream's sound, for the viewers of a watermark."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

from gateway.live.stream import PictureOverride
from gateway.media.clock import MILLISECONDS
from gateway.media.track import AccessUnit, Kind, TimedData, Tracks, in_ticks

StreamItem: TypeAlias = "AccessUnit | TimedData | Tracks"

_VIDEO: Final = Kind.VIDEO
_ROUNDING: Final = 2  # milliseconds by which a worker's decode times may be before the original's
_PAUSE_MS: Final = 2_000  # of media after the last original picture; then no item waits for it
_DELAY_WEIGHT: Final = 0.1  # weight of one picture in the average delay


class OverrideWriter:
    """Writes the items of the original and the pictures of the worker to an override, in order.

    max_ms: limit of the original's items that wait for pictures, in ms of media; above it sound is dropped.
    """

    def __init__(self, override: PictureOverride, max_ms: int) -> None:
        self._override = override
        self.interleave = Interleave(max_ms)
        self._coded: Tracks | None = None  # the worker's tracks
        self._written_tracks: Tracks | None = None  # the original's tracks that were last written
        self._discontinuity = True  # the worker's next picture does not continue the previous one
        self._engaged_from = -1  # milliseconds; viewers got earlier pictures from the original
        self.last = -1  # decode time of the last written picture, milliseconds; -1: none
        self.delay = 0.0  # average seconds from a picture's arrival until it is written
        self.engaged = False

    def engage(self, tracks: Tracks | None, at: int = -1) -> None:
        """Engages the override from the original's next item on. at: time of this item, ms; -1: the first item."""
        self._override.engage()
        self.engaged = self._override.engaged
        self._engaged_from = at
        if tracks is not None:
            self.interleave.add(tracks)

    @property
    def begun(self) -> bool:
        """Whether anything was written."""
        return self._written_tracks is not None

    def add(self, item: StreamItem) -> None:
        """Adds the original's next item, and writes the items that wait for no picture."""
        if self.engaged:
            self.interleave.add(item)
            self._write(self.interleave.take_ready())

    def set_coded_tracks(self, tracks: Tracks) -> None:
        """Sets the worker's tracks.

        Its next pictures have a new configuration, or do not continue the previous ones.
        """
        self._coded = tracks
        self._discontinuity = True

    def add_picture(self, unit: AccessUnit) -> None:
        """Adds the worker's next picture."""
        at = milliseconds(unit)
        if not self.engaged or at < self._engaged_from or at <= self.last:
            return
        self.last = at
        self.delay += (max(0.0, time.time() - unit.wall) - self.delay) * (_DELAY_WEIGHT if self.delay else 1.0)
        items = list(self.interleave.replace(unit))
        if self._discontinuity and not any(isinstance(item, Tracks) for item in items):
            self._set_tracks(False)
        self._write(items)

    def write_rest(self) -> None:
        """Writes the items after the worker's last picture."""
        items = list(self.interleave.take_rest())
        end = next((n for n, i in enumerate(items) if isinstance(i, Tracks) and i.video is not None), len(items))
        if self.begun:
            self._write(items[:end])

    def _write(self, items: Sequence[StreamItem]) -> None:
        for item in items:
            if isinstance(item, Tracks):
                previous, self._written_tracks = self._written_tracks, item
                self._set_tracks(previous is not None and previous.epoch == item.epoch and not self._discontinuity)
            elif self._written_tracks is None:
                continue  # sound before the first tracks
            elif isinstance(item, TimedData):
                self._override.push_timed(item)
            elif item.track.kind is not _VIDEO:
                if item.track == self._written_tracks.audio:
                    self._override.push(item)
            elif self._written_tracks.video is not None:  # else the picture is too late
                self._override.push(item)

    def _set_tracks(self, continuous: bool) -> None:
        """Sets the tracks of the override: video of the worker if the original has video, audio of the original."""
        coded, tracks = self._coded, self._written_tracks
        if tracks is None or (tracks.video is not None and coded is None):
            return
        self._discontinuity = False
        video = None if tracks.video is None or coded is None else coded.video
        self._override.set_tracks(video, tracks.audio, tracks.metadata, continuous)


class Interleave:
    """Replaces the pictures of the original and returns its other items unchanged, in order.

    The new picture has about the decode time of the original picture. `replace` returns it with all items before it.
    Original pictures without a new picture (dropped, undecodable) are removed when a later one is replaced.
    max_ms: limit of the time between the first and the last item.
    Above it the older half is dropped and counted in `dropped`, except Tracks.
    """

    def __init__(self, max_ms: int) -> None:
        self._max_ms = max_ms
        self._items: deque[StreamItem | int] = deque()  # an int is the decode time of a picture in milliseconds
        self._newest = self._newest_picture = 0
        self.dropped = 0

    def add(self, item: StreamItem) -> None:
        """Adds the next item of the original."""
        if isinstance(item, AccessUnit):
            is_picture, ms = item.track.kind is _VIDEO, milliseconds(item)
            self._newest = ms if is_picture else max(self._newest, ms)
            self._newest_picture = ms if is_picture else self._newest_picture
            self._items.append(ms if is_picture else item)
        else:
            self._items.append(item)
        self._trim()

    def replace(self, picture: AccessUnit) -> Iterator[StreamItem]:
        """Yields the items before the original picture, the new picture, and the items up to the next picture."""
        at = milliseconds(picture) + _ROUNDING
        items = self._items
        count = next((n for n, i in enumerate(items) if isinstance(i, int) and i > at), len(items))
        # Items after the original picture must follow the new picture.
        last = next((n for n in range(count - 1, -1, -1) if isinstance(items[n], int)), -1)
        yield from self._take(last + 1)
        yield picture
        yield from self._take(next((n for n, i in enumerate(items) if isinstance(i, int | Tracks)), len(items)))

    def take_ready(self) -> list[StreamItem]:
        """Returns the items before the first waiting picture, up to Tracks with video: these wait for their picture.

        If the source has sent no picture for _PAUSE_MS, items do not wait for its last pictures: a decoder may keep
        these until it gets the next one.
        """
        is_paused = self._newest - self._newest_picture > _PAUSE_MS
        taken: list[StreamItem] = []
        pictures: list[int] = []
        while self._items:
            item = self._items[0]
            if isinstance(item, int):
                if not is_paused:
                    break
                pictures.append(item)
            elif isinstance(item, Tracks) and item.video is not None:
                break
            else:
                taken.append(item)
                if isinstance(item, Tracks):
                    pictures = []  # their video has ended
            self._items.popleft()
        self._items.extendleft(reversed(pictures))
        return taken

    def take_rest(self) -> Iterator[StreamItem]:
        """Yields all items except pictures, at the end."""
        return self._take(len(self._items))

    def _take(self, count: int) -> Iterator[StreamItem]:
        """Yields the first `count` items, without the pictures among them."""
        for _ in range(count):
            item = self._items.popleft()
            if not isinstance(item, int):
                yield item

    def _trim(self) -> None:
        oldest = next((t for i in self._items if (t := _time(i)) is not None), self._newest)
        if self._newest - oldest <= self._max_ms:
            return
        # Half of the time at once, so that this does not run for each following item.
        since = self._newest - self._max_ms // 2
        remaining = [i for i in self._items if (t := _time(i)) is None or t >= since]
        self.dropped += len(self._items) - len(remaining)
        self._items = deque(remaining)


def milliseconds(unit: AccessUnit) -> int:
    """Returns a unit's decode time in milliseconds."""
    return unit.dts * 1000 // unit.track.timescale


def _time(item: StreamItem | int) -> int | None:
    """Returns the time of an item of Interleave, milliseconds; None for Tracks."""
    if isinstance(item, int):
        return item
    if isinstance(item, AccessUnit):
        return milliseconds(item)
    return in_ticks(item.dts, item.timescale, MILLISECONDS) if isinstance(item, TimedData) else None
