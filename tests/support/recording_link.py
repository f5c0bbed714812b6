"""A worker's link that returns given frames, and records the worker's messages instead of sending them."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.media.track import AccessUnit, Tracks
from gateway.protocols.wire import SOURCE
from gateway.workers.programs.program import ParentLink


class RecordingLink(ParentLink):
    """tracks, units, ends, notes: the messages by kind. ends: destinations. sent: the units with their destinations."""

    def __init__(self, frames: Iterable[tuple[int, bytes]] = ()) -> None:
        self._given = iter(frames)
        self.tracks: list[Tracks] = []
        self.sent: list[tuple[AccessUnit, int]] = []
        self.ends: list[int] = []
        self.notes: list[dict[str, object]] = []

    @property
    def units(self) -> list[AccessUnit]:
        return [unit for unit, _ in self.sent]

    def receive(self) -> tuple[int, bytes] | None:
        return next(self._given, None)

    def send_tracks(self, tracks: Tracks, to: int = SOURCE) -> None:
        self.tracks.append(tracks)

    def send_units(self, units: Iterable[AccessUnit], to: int = SOURCE) -> None:
        self.sent += [(unit, to) for unit in units]

    def send_end(self, to: int = SOURCE) -> None:
        self.ends.append(to)

    def send_json(self, kind: int, **fields: object) -> None:
        self.notes.append(fields)
