"""The interface that turns units into bytes for one kind of connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from gateway.media.track import Tracks
from gateway.media.unit import AccessUnit, Timed

if TYPE_CHECKING:
    from gateway.live.start_buffer import StartBuffer


class Rendering(Protocol):
    """Turns units into bytes for one kind of connection. Only this part knows the format."""

    def head(self, tracks: Tracks, dts_ms: int) -> bytes:
        """Returns the bytes that a viewer needs before its first unit: headers, metadata, sequence headers."""

    def change(self, tracks: Tracks, dts_ms: int) -> bytes:
        """Returns the new headers for a viewer that already plays: metadata and sequence headers."""

    def unit(self, unit: AccessUnit) -> bytes: ...

    def timed(self, timed: Timed) -> bytes: ...


def render_beginning(rendering: Rendering, beginning: StartBuffer) -> bytes:
    """Returns the headers and everything since the stream's first unit."""
    pieces: list[bytes] = []
    dts_ms = 0
    for item in beginning:
        if isinstance(item, AccessUnit):
            dts_ms = item.dts * 1000 // item.track.timescale
            break
    headed = False
    for item in beginning:
        if isinstance(item, AccessUnit):
            dts_ms = item.dts * 1000 // item.track.timescale
            pieces.append(rendering.unit(item))
        elif isinstance(item, Timed):
            pieces.append(rendering.timed(item))
        else:
            pieces.append(rendering.change(item, dts_ms) if headed else rendering.head(item, dts_ms))
            headed = True
    return b"".join(pieces)
