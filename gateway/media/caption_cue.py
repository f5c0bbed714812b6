"""One caption with its text and its times."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CaptionCue:
    """A text that players show over the picture.

    start, end: presentation times, ticks of 90 kHz on the stream's clock. end is None while the text is still shown.
    text: plain text, its lines separated by line feeds. line: distance from the top in percent of the picture; None:
    players choose, normally at the bottom.
    """

    start: int
    end: int | None
    text: str
    line: int | None = None

    def moved(self, by: int) -> "CaptionCue":
        """Returns the cue `by` ticks later."""
        return CaptionCue(self.start + by, self.end + by if self.end is not None else None, self.text, self.line)
