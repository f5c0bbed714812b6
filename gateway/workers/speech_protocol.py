"""Messages between the gateway and the speech worker, and the words that an engine returns.

SETUP is {"engine"}: the setting `captions.engine`. Tracks and sound follow, and an empty DATA if no sound comes for a
while. PROGRESS is {"units": units that the engine has taken, "dropped": lines of a program that were not used}; the
first one says that the engine is loaded. A NOTE has words, in seconds of the stream. FAILED: it cannot be loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

RATE: Final = 16_000  # Hz of the sound for engines, mono
MAX_TEXT: Final = 2_000  # characters of a result
_MAX_SECONDS: Final = 1e9


@dataclass(frozen=True, slots=True)
class Words:
    """Words that an engine has heard.

    start, end: of the first and the last word, in seconds: for an engine of its sound, for the gateway of the stream.
    final: whether the engine will not change the text any more.
    """

    text: str
    start: float
    end: float
    final: bool = True

    def encode(self) -> dict[str, Any]:
        """Returns the words in the form that `read_words` reads."""
        return {"text": self.text, "from": self.start, "to": self.end, "final": self.final}


def read_words(fields: Mapping[str, Any]) -> Words | None:
    """Reads {"text", "from", "to", "final"}; None if a value is missing or out of range, or if the text is empty."""
    text, start, end, final = (fields.get(name) for name in ("text", "from", "to", "final"))
    if not isinstance(text, str) or not isinstance(final, bool) or len(text) > MAX_TEXT:
        return None
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if not text or not isinstance(start, int | float) or not isinstance(end, int | float):
        return None
    return Words(text, float(start), float(end), final) if 0 <= start <= end <= _MAX_SECONDS else None
