"""Sends the output of a worker to the gateway: first the tracks, then units."""

from collections.abc import Callable, Iterable
from typing import Final

from gateway.media.track import AccessUnit, Kind, MediaTrack, Tracks

# Seconds of media that the first units wait for the other track. A later track is a discontinuity for viewers.
HELD_SECONDS: Final = 1.0
_HELD_BYTES: Final = 8_000_000
_HELD_UNITS: Final = 1000


class UnitWriter:
    """Sends units after their tracks.

    The first units are held until each expected kind has a track. Limits: seconds of media, bytes and number of units.
    Only one thread at a time may use it.

    send_tracks, send_units: send them to the gateway.
    """

    def __init__(
        self, send_tracks: Callable[[Tracks], None], send_units: Callable[[Iterable[AccessUnit]], None]
    ) -> None:
        self._send_tracks = send_tracks
        self._send_units = send_units
        self._expected: frozenset[Kind] = frozenset()
        self._tracks: dict[Kind, MediaTrack] = {}
        self._epoch = 0
        self._held: list[AccessUnit] | None = []
        self._held_bytes = 0

    def open(self, expected: Iterable[Kind]) -> None:
        """Starts a recording with these kinds of tracks, after sending all units of the previous one."""
        self.flush()
        self._expected = frozenset(expected)
        self._tracks = {}
        self._epoch += 1
        self._held = []

    def set_track(self, track: MediaTrack) -> None:
        """Sets the track of the next units of its kind. Call it again if the track changes."""
        if self._tracks.get(track.kind) == track:
            return
        if self._held is not None and track.kind in self._tracks:
            self.flush()
        self._tracks[track.kind] = track
        if self._held is None:
            self._announce()

    def send_units(self, units: Iterable[AccessUnit]) -> None:
        """Sends the next units, in the order of publishing. Hot path."""
        for unit in units:
            if self._held is None:
                self._send_units((unit,))
            else:
                self._hold(unit, self._held)

    def flush(self) -> None:
        """Sends the tracks and the held units."""
        held, self._held = self._held, None
        if held:
            self._announce()
            self._send_units(held)
        self._held_bytes = 0

    def _hold(self, unit: AccessUnit, held: list[AccessUnit]) -> None:
        held.append(unit)
        self._held_bytes += len(unit.payload)
        held_seconds = unit.dts / unit.track.timescale - held[0].dts / held[0].track.timescale
        if (
            self._expected <= self._tracks.keys()
            or held_seconds >= HELD_SECONDS
            or self._held_bytes >= _HELD_BYTES
            or len(held) >= _HELD_UNITS
        ):
            self.flush()

    def _announce(self) -> None:
        self._send_tracks(Tracks(self._tracks.get(Kind.VIDEO), self._tracks.get(Kind.AUDIO), self._epoch))
