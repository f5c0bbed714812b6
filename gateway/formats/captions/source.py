"""CaptionSource: what one channel or service of closed captions shows, as changes with their times."""

import abc
from dataclasses import dataclass
from typing import Final

from gateway.media.clock import VIDEO_CLOCK

_PAUSE: Final = 27_000  # ticks of 90 kHz without characters, after which a row that is written is shown: 0.3 s
_SILENCE: Final = 16 * VIDEO_CLOCK  # ticks without any data, after which a caption is erased: 16 s (CEA-608, annex C)
_LONG_AGO: Final = -(1 << 62)


@dataclass(frozen=True, slots=True)
class CaptionChange:
    """The text that a source shows from a time on.

    source: CC1 to CC4, or SERVICE1 to SERVICE63. start: presentation time, ticks of 90 kHz. text: its lines separated
    by line feeds; "": nothing is shown. line: distance of the text from the top in percent, if it stands in the upper
    half of the picture, else None.
    """

    source: str
    start: int
    text: str
    line: int | None = None


class CaptionSource(abc.ABC):
    """The base of decoders. They say when text is written or replaced, and this class makes changes of it.

    Text that is replaced at once counts from its picture on. Text that is written character by character counts from
    the picture of its last character on, and is a change when it is complete. Changes have rising times.
    is_quiet: nothing has come, or nothing for so long that what was shown is erased.
    """

    __slots__ = ("_heard", "_last", "_new", "_written_at", "is_quiet", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._last = CaptionChange(name, _LONG_AGO, "")  # that has been returned
        self._new: list[CaptionChange] = []
        self._heard = _LONG_AGO  # time of the last picture with data for this source
        self._written_at: int | None = None  # time of the last character, while its row is incomplete
        self.is_quiet = True

    def hear(self, time: int) -> None:
        """Notes that the picture of this time has data for the source."""
        self._heard = time
        self.is_quiet = False

    def end_picture(self, time: int) -> list[CaptionChange]:
        """Returns what has changed with this picture. It comes after each picture, also without data. Hot path."""
        if self.is_quiet:
            return []
        if self._written_at is not None and time - self._written_at >= _PAUSE:
            self._complete()
        if time - self._heard >= _SILENCE:
            self._erase()
            self._note(time)
            self.is_quiet = True
        new, self._new = self._new, []
        if new:
            self._last = new[-1]
        return new

    def _write(self) -> None:
        """Notes that visible text has changed, and more may follow."""
        self._written_at = self._heard

    def _complete(self) -> None:
        """Notes that nothing follows to the text that was written."""
        if self._written_at is not None:
            self._note(self._written_at)
            self._written_at = None

    def _replace(self) -> None:
        """Notes that text was replaced or removed with this picture. Call `_complete` before that."""
        self._note(self._heard)

    def _note(self, start: int) -> None:
        """Adds a change. Of several in one picture, only the last one is seen."""
        if self._new and self._new[-1].start >= start:
            self._new.pop()
        last = self._new[-1] if self._new else self._last
        text, line = self._visible()
        if text != last.text:
            self._new.append(CaptionChange(self.name, max(start, last.start + 1), text, line))

    @abc.abstractmethod
    def _visible(self) -> tuple[str, int | None]:
        """Returns the text that is shown, and its line as in `CaptionChange`."""

    @abc.abstractmethod
    def _erase(self) -> None:
        """Erases all text."""


def plain(cells: list[str]) -> str:
    """Returns the text of a row without its indentation. Spaces that place words become one."""
    return " ".join("".join(cells).split())
