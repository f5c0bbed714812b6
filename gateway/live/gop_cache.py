"""The GOP cache: the units with which a new viewer can show a picture at once."""

from collections import deque
from collections.abc import Sequence

from gateway.media.track import AccessUnit, Kind

_MAX_UNITS = 30_000  # 15 s of the most that a publisher may send (`_MAX_RATE` of `publisher.py`)
AUDIO_ONLY_SECONDS = 1.0  # of sound in the cache of a stream without video
_VIDEO = Kind.VIDEO


class GopCache:
    """The units since the last key frame, limited in bytes, in seconds and in their number.

    Above a limit the cache stays empty until the next key frame, also while pictures stop and sound goes on.
    For a stream without video it contains the last second of audio.
    has_video: set by its `Fanout`. max_bytes: lowered by `Hub` for additional tracks.
    """

    __slots__ = ("_bytes", "_end", "_units", "has_video", "max_bytes", "max_seconds")

    def __init__(self, max_bytes: int, max_seconds: float) -> None:
        self.max_bytes = max_bytes
        self.max_seconds = max_seconds
        self._units: deque[AccessUnit] = deque()
        self._bytes = 0
        self._end = 0.0  # largest decode time of the current GOP, seconds
        self.has_video = True

    def __len__(self) -> int:
        return len(self._units)

    def units(self) -> list[AccessUnit]:
        return list(self._units)

    def replace_sound(self, sound: Sequence[AccessUnit]) -> None:
        """Replaces the sound in the cache. sound: in order; units before the key frame are left out."""
        units = [unit for unit in self._units if unit.track.kind is _VIDEO]
        if self.has_video:
            if not units:
                return
            begin = units[0].dts / units[0].track.timescale
            sound = [unit for unit in sound if unit.dts / unit.track.timescale >= begin]
        self.clear()
        for unit in sorted([*units, *sound], key=lambda unit: unit.dts / unit.track.timescale):
            self.add(unit)

    def clear(self) -> None:
        self._units.clear()
        self._bytes = 0

    def add(self, unit: AccessUnit) -> None:
        """Adds a unit. Hot path: called once for each unit of every stream."""
        units = self._units
        track = unit.track
        if not self.has_video:
            units.append(unit)
            self._bytes += len(unit.payload)
            oldest = unit.dts - AUDIO_ONLY_SECONDS * track.timescale
            while units[0].dts < oldest:
                self._bytes -= len(units.popleft().payload)
        else:
            if unit.key and track.kind is _VIDEO:
                units.clear()
                self._bytes = 0
                self._end = unit.dts / track.timescale + self.max_seconds
            elif not units:
                return  # a player cannot start with this unit
            elif unit.dts / track.timescale > self._end:
                self.clear()
                return
            units.append(unit)
            self._bytes += len(unit.payload)
        if self._bytes > self.max_bytes or len(units) > _MAX_UNITS:
            self.clear()
