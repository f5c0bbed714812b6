"""Window708: the text of one window of a service of CEA-708, and where it stands."""

from typing import Final

from gateway.formats.captions.source import plain

MAX_ROWS: Final = 16
MAX_COLUMNS: Final = 64
_ROW_HEIGHT: Final = 80 / 15  # percent of the picture: 15 rows fill its middle 80 %


class Window708:
    """A window with at most 16 rows of 64 cells. Its looks are ignored, and so is its number of columns.

    is_visible: whether its text is shown. top, bottom: in percent of the picture.
    """

    __slots__ = ("_cells", "_column", "_rows", "_settings", "bottom", "is_visible", "row", "top")

    def __init__(self) -> None:
        self._cells: dict[int, list[str]] = {}
        self._rows = 1
        self._settings = b""
        self.row = self._column = 0
        self.is_visible = False
        self.top = self.bottom = 0.0

    def is_defined(self, settings: bytes) -> bool:
        """Whether this definition would change nothing: encoders repeat it."""
        return settings == self._settings and self.is_visible == bool(settings[0] & 0x20)

    def define(self, settings: bytes) -> None:
        """Obeys the six parameters of a definition (CTA-708-E §8.10.5). Text that is there stays."""
        self._settings = settings
        self.is_visible = bool(settings[0] & 0x20)
        vertical, is_relative = settings[1] & 0x7F, settings[1] & 0x80
        anchor, rows = settings[3] >> 4, (settings[3] & 0x0F) + 1
        height = rows * _ROW_HEIGHT
        self.top = 10 + 0.8 * min(vertical if is_relative else vertical / 0.75, 100) - height * (anchor // 3) / 2
        self.bottom = self.top + height
        self._rows = rows
        self._cells = {row: cells for row, cells in self._cells.items() if row < rows}
        self.row = min(self.row, rows - 1)

    def clear(self) -> None:
        """Removes the text, and moves the pen to the first cell."""
        self._cells = {}
        self.row = self._column = 0

    def put(self, character: str) -> None:
        """Writes at the pen, which moves on."""
        cells = self._cells.setdefault(self.row, [])
        cells += [" "] * (self._column + 1 - len(cells))
        cells[self._column] = character
        self._column = min(self._column + 1, MAX_COLUMNS - 1)

    def back_space(self) -> None:
        """Removes the cell before the pen."""
        if self._column:
            self._column -= 1
            if cells := self._cells.get(self.row):
                del cells[self._column :]

    def move(self, row: int, column: int) -> None:
        """Moves the pen (SPL)."""
        self.row, self._column = min(row, self._rows - 1), min(column, MAX_COLUMNS - 1)

    def clear_row(self) -> None:
        """Removes the row with the pen, which moves to its start."""
        self._cells.pop(self.row, None)
        self._column = 0

    def new_line(self) -> bool:
        """Moves the pen to the next row. Below the last one, rows move up; whether this removed or moved text alone."""
        self._column = 0
        if self.row < self._rows - 1:
            self.row += 1
            return False
        was_empty = not plain(self._cells.get(self.row, []))
        self._cells = {row - 1: cells for row, cells in self._cells.items() if row}
        return was_empty

    @property
    def lines(self) -> list[str]:
        """The rows with text, from the top."""
        return [text for row in sorted(self._cells) if (text := plain(self._cells[row]))]
