"""The messages between the gateway and the slate worker.

The gateway sends SETUP (the fields of a SlateRequest and of a StreamForm), then the tracks that the slate must
continue: the publisher's, or the default ones. The worker answers with tracks, pictures (numbered from 0 in `dts`),
sound and END, or with FAILED.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SlateRequest:
    """The content of a slate: a file (`path`), or else a card with a name and a text.

    labels: the clock's text in each loop of a card. "": no clock.
    seconds, max_bytes: limits of a film's loop. font: family name. preset: of libx264.
    """

    path: str = ""
    name: str = ""
    text: str = ""
    labels: tuple[str, ...] = ("",)
    seconds: float = 60.0
    max_bytes: int = 16_000_000
    font: str = "sans"
    preset: str = "veryfast"
