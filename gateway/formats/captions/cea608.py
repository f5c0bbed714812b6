"""Decodes the captions of CEA-608 (47 CFR §15.119): the pairs of bytes of a field, which has two channels."""

from collections.abc import Callable
from typing import Final

from gateway.formats.captions.characters import PORTUGUESE_GERMAN_608, SPANISH_FRENCH_608, SPECIAL_608, STANDARD_608
from gateway.formats.captions.source import CaptionSource, plain

_COLUMNS: Final = 32
_ROWS: Final = 15
_DATA: Final = bytes(byte & 0x7F if byte.bit_count() % 2 else 0 for byte in range(256))  # a wrong parity gives nothing
# The first row of preamble address codes by the low bits of their first byte (47 CFR §15.119). The next one follows.
_PREAMBLES: Final = (11, 1, 3, 12, 14, 5, 7, 9)
_POP_ON, _ROLL_UP, _PAINT_ON = range(3)


class Channel608(CaptionSource):
    """One of CC1 to CC4: two memories of at most 15 rows with 32 cells."""

    __slots__ = ("_column", "_depth", "_hidden", "_is_off", "_mode", "_row", "_shown")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._mode = _POP_ON
        self._is_off = True  # in text mode, and before the first mode is known
        self._shown: dict[int, list[str]] = {}  # cells by the number of the row
        self._hidden: dict[int, list[str]] = {}
        self._row, self._column = _ROWS, 0
        self._depth = 2  # rows of a roll-up caption

    def write(self, first: int, second: int) -> None:
        """Takes two characters. 0: none."""
        for code in (first, second):
            if code >= 0x20:
                self._put(STANDARD_608[code])

    def control(self, group: int, code: int) -> None:
        """Takes a control code without its channel bit. group: 0x10 to 0x17; code: 0x20 to 0x7F."""
        if code >= 0x40:
            self._address(group, code)
        elif group in (0x14, 0x15):
            if action := _ACTIONS.get(code):
                action(self)
        elif group == 0x17 and 0x21 <= code <= 0x23:  # tab offset
            self._column = min(self._column + code - 0x20, _COLUMNS - 1)
        elif group == 0x11:  # mid-row codes take a cell
            self._put(SPECIAL_608[code - 0x30] if code >= 0x30 else " ")
        elif group in (0x12, 0x13):  # extended characters come after a character for simple decoders
            self._back_space()
            self._put((SPANISH_FRENCH_608 if group == 0x12 else PORTUGUESE_GERMAN_608)[code - 0x20])

    def _put(self, character: str) -> None:
        if self._is_off:
            return
        self._cells()[min(self._column, _COLUMNS - 1)] = character
        self._column = min(self._column + 1, _COLUMNS)
        self._changed()

    def _cells(self) -> list[str]:
        """The row with the cursor."""
        rows = self._hidden if self._mode == _POP_ON else self._shown
        return rows.setdefault(self._row, [" "] * _COLUMNS)

    def _changed(self) -> None:
        if self._mode != _POP_ON:
            self._write()

    def _address(self, group: int, code: int) -> None:
        """Obeys a preamble address code: row, and column in steps of four."""
        if self._is_off or (group == 0x10 and code >= 0x60):
            return
        row = _PREAMBLES[group & 7] + (code >> 5 & 1)
        if self._mode == _ROLL_UP:
            row = max(row, self._depth)
        if row != self._row and self._mode != _POP_ON:
            self._complete()
            if self._mode == _ROLL_UP:
                self._shown = {number + row - self._row: cells for number, cells in self._shown.items()}
                self._crop(row)
        self._row = row
        self._column = 2 * (code & 0x0E) if code & 0x10 else 0

    def _back_space(self) -> None:
        if self._column and not self._is_off:
            self._column -= 1
            self._cells()[self._column] = " "
            self._changed()

    def _delete_to_end(self) -> None:
        if not self._is_off:
            self._cells()[self._column :] = [" "] * (_COLUMNS - self._column)
            self._changed()

    def _resume_loading(self) -> None:
        self._complete()
        self._mode, self._is_off = _POP_ON, False

    def _roll_up(self, depth: int) -> None:
        self._complete()
        if self._mode != _ROLL_UP:
            self._mode = _ROLL_UP
            self._row, self._column = _ROWS, 0
            self._erase()
            self._replace()
        self._depth, self._is_off = depth, False
        self._crop(self._row)

    def _crop(self, base: int) -> None:
        """Removes the rows that do not belong to the roll-up caption with this base row."""
        self._shown = {row: cells for row, cells in self._shown.items() if base - self._depth < row <= base}

    def _resume_direct(self) -> None:
        self._complete()
        self._mode, self._is_off = _PAINT_ON, False

    def _text_mode(self) -> None:
        self._complete()
        self._is_off = True

    def _erase_displayed(self) -> None:
        self._complete()
        self._shown = {}
        self._replace()

    def _carriage_return(self) -> None:
        if self._is_off or self._mode != _ROLL_UP:
            return
        self._complete()
        is_empty = not plain(self._shown.get(self._row, []))
        self._shown = {row - 1: cells for row, cells in self._shown.items()}
        self._crop(self._row)
        self._column = 0
        if is_empty:  # otherwise the row that leaves counts as shown until the next one is complete
            self._replace()

    def _erase_hidden(self) -> None:
        self._hidden = {}

    def _end_of_caption(self) -> None:
        self._complete()
        self._shown, self._hidden = self._hidden, self._shown
        self._mode, self._is_off = _POP_ON, False
        self._replace()

    def _visible(self) -> tuple[str, int | None]:
        rows = {row: text for row in sorted(self._shown) if (text := plain(self._shown[row]))}
        # The rows fill the middle 80 % of the picture.
        line = 10 + round(80 * (min(rows) - 1) / _ROWS) if rows and max(rows) <= _ROWS // 2 else None
        return "\n".join(rows.values()), line

    def _erase(self) -> None:
        self._shown, self._hidden = {}, {}


_ACTIONS: Final[dict[int, Callable[[Channel608], None]]] = {
    0x20: Channel608._resume_loading,
    0x21: Channel608._back_space,
    0x24: Channel608._delete_to_end,
    0x25: lambda channel: channel._roll_up(2),
    0x26: lambda channel: channel._roll_up(3),
    0x27: lambda channel: channel._roll_up(4),
    0x28: lambda channel: channel._put(" "),  # flash on takes a cell, as mid-row codes
    0x29: Channel608._resume_direct,
    0x2A: Channel608._text_mode,
    0x2B: Channel608._text_mode,
    0x2C: Channel608._erase_displayed,
    0x2D: Channel608._carriage_return,
    0x2E: Channel608._erase_hidden,
    0x2F: Channel608._end_of_caption,
}


class Field608:
    """The pairs of one field. Its channels are CC1 and CC2, or CC3 and CC4."""

    __slots__ = ("_current", "_is_program_data", "_previous", "channels")

    def __init__(self, first: str, second: str) -> None:
        self.channels = (Channel608(first), Channel608(second))
        self._current: Channel608 | None = None  # that gets characters
        self._is_program_data = False  # XDS comes, until its end or a control code
        self._previous = (0, 0)  # the control code before, which may be repeated

    def take(self, first: int, second: int, time: int) -> None:
        """Takes a pair with its parity bits, of the picture of this time. Hot path."""
        first, second = _DATA[first], _DATA[second]
        if 0x10 <= first < 0x20:
            self._control(first, second, time)
        elif first or second:
            self._previous = (0, 0)
            if 0 < first < 0x10:  # XDS begins or continues; 0x0F ends it
                self._is_program_data = first != 0x0F
            elif self._current and not self._is_program_data:
                self._current.hear(time)
                self._current.write(first, second)

    def _control(self, first: int, second: int, time: int) -> None:
        if second < 0x20:
            return
        self._is_program_data = False
        self._current = self.channels[first >> 3 & 1]
        self._current.hear(time)
        if (first, second) == self._previous:  # 47 CFR §15.119: codes are sent twice, and count once
            self._previous = (0, 0)
            return
        self._previous = (first, second)
        self._current.control(first & 0x17, second)
