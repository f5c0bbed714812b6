"""Sends the output of a browser worker to the gateway: the tracks when they are known, then units."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from gateway.media.track import Kind, MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage

# Seconds of media that the first units wait for the other track. A later track would be a discontinuity for viewers.
HELD_SECONDS: Final = 1.0
_HELD_BYTES: Final = 8_000_000
_HELD_UNITS: Final = 1000


class UnitWriter:
    """Sends units after their tracks.

    The first units wait until each promised kind has a track; the wait is limited in seconds of media, bytes and
    number. Only one thread at a time may use it.
    """

    def __init__(self, send: Callable[[int, bytes], None]) -> None:
        """send: sends a frame to the gateway."""
        self.frames = 0  # pictures sent
        self._send = send
        self._promised: frozenset[Kind] = frozenset()
        self._tracks: dict[Kind, MediaTrack] = {}
        self._epoch = 0
        self._held: list[AccessUnit] | None = []
        self._held_bytes = 0

    def open(self, promised: Iterable[Kind]) -> None:
        """Begins a recording with these kinds, after sending everything of the one before."""
        self.flush()
        self._promised = frozenset(promised)
        self._tracks = {}
        self._epoch += 1
        self._held = []

    def track(self, track: MediaTrack) -> None:
        """Sets the track of the next units of its kind. Call it again when the track changes."""
        if self._tracks.get(track.kind) == track:
            return
        changed = track.kind in self._tracks
        if self._held is not None and changed:
            self.flush()
        self._tracks[track.kind] = track
        if self._held is None:
            self._announce()

    def units(self, units: Iterable[AccessUnit]) -> None:
        """Hot. Takes the next units, in the order of publishing."""
        for unit in units:
            if self._held is None:
                self._give(unit)
            else:
                self._hold(unit, self._held)

    def flush(self) -> None:
        """Sends the tracks and the units that wait."""
        held, self._held = self._held, None
        if held:
            self._announce()
            for unit in held:
                self._give(unit)
        self._held_bytes = 0

    def _hold(self, unit: AccessUnit, held: list[AccessUnit]) -> None:
        held.append(unit)
        self._held_bytes += len(unit.payload)
        waited = unit.dts / unit.track.timescale - held[0].dts / held[0].track.timescale
        if (
            self._promised <= self._tracks.keys()
            or waited >= HELD_SECONDS
            or self._held_bytes >= _HELD_BYTES
            or len(held) >= _HELD_UNITS
        ):
            self.flush()

    def _announce(self) -> None:
        tracks = Tracks(self._tracks.get(Kind.VIDEO), self._tracks.get(Kind.AUDIO), self._epoch)
        self._send(StreamMessage.TRACKS, wire.encode_tracks(tracks))

    def _give(self, unit: AccessUnit) -> None:
        if unit.track.kind is Kind.VIDEO:
            self.frames += 1
        self._send(StreamMessage.UNIT, wire.encode_unit(unit))
