"""CaptionTrack: captions that a player can choose."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CaptionTrack:
    """Closed captions of a stream's pictures.

    source: CC1 to CC4, or SERVICE1 to SERVICE63. label: what players show. language: BCP 47; "": unknown.
    default: whether players show it without being asked.
    """

    source: str
    label: str
    language: str = ""
    default: bool = False
