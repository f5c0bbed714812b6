"""Messages between a browser push and its worker, in addition to those of `wire`.

The gateway sends a BrowserPlan as SETUP, and unchanged bytes from the browser as DATA. A NOTE of the worker is a
BrowserReport; FAILED has the error that ends the push.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from gateway.protocols import wire


@dataclass(frozen=True, slots=True)
class BrowserPlan:
    """Encoder settings for pictures that cannot be copied.

    preset: of libx264. threads: of the decoder, and of the encoder.
    max_lag: seconds of delay above which the worker drops single pictures.
    backlog: seconds of delay above which the worker drops groups of pictures.
    """

    preset: str = "veryfast"
    threads: int = 1
    max_lag: float = 0.5
    backlog: float = 6.0


@dataclass(frozen=True, slots=True)
class BrowserReport:
    """The state of a browser push.

    video, audio: "copy" or "transcode"; None if the push has no such track.
    dropped: number of pictures dropped because the encoder was late. damaged: number of unusable samples.
    behind: delay of the pictures in seconds. unusable_tracks: descriptions of the tracks that cannot be used.
    """

    video: str | None = None
    audio: str | None = None
    dropped: int = 0
    damaged: int = 0
    behind: float = 0.0
    unusable_tracks: tuple[str, ...] = ()

    @classmethod
    def decode(cls, body: bytes) -> BrowserReport:
        """Reads the body of a NOTE frame. Raises InvalidData."""
        report = wire.decode_record(cls, body)
        lines = tuple(line[:300] for line in report.unusable_tracks[:64])
        return replace(report, dropped=max(0, report.dropped), damaged=max(0, report.damaged), unusable_tracks=lines)
