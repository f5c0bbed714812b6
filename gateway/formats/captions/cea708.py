"""Decodes the captions of CEA-708: packets, and the commands and characters of a service (CTA-708-E §5 to §8)."""

from typing import Final

from gateway.formats.captions.characters import G0_708, G2_708, UNKNOWN
from gateway.formats.captions.source import CaptionChange, CaptionSource
from gateway.formats.captions.window import Window708
from gateway.media.caption_packets import service_blocks

MAX_SERVICES: Final = 8  # that are decoded at one time. Others are ignored until one of them is silent.
_MAX_WAITING: Final = 128  # bytes that a delay may hold; then it ends (§8.10.5)
_TENTH: Final = 9_000  # of a second, in ticks of 90 kHz
_BACK_SPACE, _FORM_FEED, _CARRIAGE_RETURN, _CLEAR_ROW, _EXTENSION, _P16 = 8, 0x0C, 0x0D, 0x0E, 0x10, 0x18
_CLEAR, _DISPLAY, _HIDE, _TOGGLE, _DELETE, _DELAY, _CANCEL, _RESET = range(0x88, 0x90)
_LOCATION: Final = 0x92  # SPL
_DEFINE: Final = 0x98
# Parameters of the commands 0x80 to 0x9F (C1).
_PARAMETERS: Final = (0,) * 8 + (1,) * 6 + (0, 0, 2, 3, 2, 0, 0, 0, 0, 4) + (6,) * 8


class Service708(CaptionSource):
    """One service with its eight windows."""

    __slots__ = ("_current", "_delayed_until", "_waiting", "_windows")

    def __init__(self, number: int) -> None:
        super().__init__(f"SERVICE{number}")
        self._windows: dict[int, Window708] = {}
        self._current = 0  # number of the window that gets characters; it may not exist
        self._waiting = b""  # data that are delayed, or the beginning of a command
        self._delayed_until: int | None = None

    def take(self, data: bytes, time: int) -> None:
        """Takes the data of a block from the picture of this time."""
        self.hear(time)
        self._waiting += data
        self._obey_waiting(time)

    def resume(self, time: int) -> None:
        """Obeys what has waited for a delay, if that is over. Call it after each picture."""
        if self._delayed_until is not None and not self._is_delayed(time):
            self.hear(time)
            self._obey_waiting(time)

    def reset(self, time: int) -> None:
        """Deletes all windows and what waits."""
        self.hear(time)
        self._complete()
        self._windows.clear()
        self._waiting, self._delayed_until = b"", None
        self._replace()

    def _obey_waiting(self, time: int) -> None:
        while self._waiting and not self._is_delayed(time):
            size = _size(self._waiting)
            if size > len(self._waiting):
                return  # the rest of the command comes with the next block
            item, self._waiting = self._waiting[:size], self._waiting[size:]
            self._obey(item, time)

    def _is_delayed(self, time: int) -> bool:
        """Whether a delay lasts. Its end, too much data, DLC and RST end it."""
        if self._delayed_until is None:
            return False
        if time < self._delayed_until and len(self._waiting) < _MAX_WAITING and not _ends_delay(self._waiting):
            return True
        self._delayed_until = None
        return False

    def _obey(self, item: bytes, time: int) -> None:
        """Obeys a command, or writes a character."""
        first = item[0]
        if first >= 0xA0:
            self._put(chr(first))
        elif first >= 0x80:
            self._command(first, item[1:], time)
        elif first >= 0x20:
            self._put(G0_708[first])
        elif first == _P16:
            character = chr(int.from_bytes(item[1:3], "big"))
            self._put(character if character.isprintable() else UNKNOWN)
        elif first != _EXTENSION:
            self._edit(first)
        elif 0x20 <= item[1] < 0x80 or item[1] >= 0xA0:
            self._put(G2_708.get(item[1], UNKNOWN))

    def _put(self, character: str) -> None:
        if window := self._windows.get(self._current):
            window.put(character)
            self._changed(window)

    def _changed(self, window: Window708) -> None:
        if window.is_visible:
            self._write()

    def _edit(self, code: int) -> None:
        """Obeys a code of C0."""
        window = self._windows.get(self._current)
        if not window:
            return
        if code == _BACK_SPACE:
            window.back_space()
            self._changed(window)
        elif code == _CLEAR_ROW:
            window.clear_row()
            self._changed(window)
        elif code == _CARRIAGE_RETURN:
            self._complete()
            if window.new_line():
                self._replace()
        elif code == _FORM_FEED:
            self._complete()
            window.clear()
            self._replace()

    def _command(self, code: int, parameters: bytes, time: int) -> None:
        """Obeys a code of C1."""
        if code < _CLEAR:
            self._choose(code & 7)
        elif code <= _DELETE:
            self._change_windows(code, parameters[0])
        elif code == _DELAY:
            self._delayed_until = time + parameters[0] * _TENTH
        elif code == _RESET:
            self.reset(time)
        elif code == _LOCATION and (window := self._windows.get(self._current)):
            row = parameters[0] & 0x0F
            if row != window.row:
                self._complete()
            window.move(row, parameters[1] & 0x3F)
        elif code >= _DEFINE:
            self._define(code & 7, parameters)

    def _choose(self, number: int) -> None:
        if number != self._current:
            self._complete()
        self._current = number

    def _define(self, number: int, settings: bytes) -> None:
        self._choose(number)
        window = self._windows.setdefault(number, Window708())
        if not window.is_defined(settings):
            self._complete()
            window.define(settings)
            self._replace()

    def _change_windows(self, command: int, mask: int) -> None:
        """Obeys a command for the windows whose bits are set."""
        self._complete()
        for number in [number for number in self._windows if mask >> number & 1]:
            window = self._windows[number]
            if command == _DELETE:
                del self._windows[number]
            elif command == _CLEAR:
                window.clear()
            else:
                window.is_visible = command == _DISPLAY or (command == _TOGGLE and not window.is_visible)
        self._replace()

    def _visible(self) -> tuple[str, int | None]:
        shown = [window for window in self._windows.values() if window.is_visible and window.lines]
        if not shown:
            return "", None
        shown.sort(key=lambda window: window.top)
        is_upper = max(window.bottom for window in shown) <= 50
        text = "\n".join(line for window in shown for line in window.lines)
        return text, max(round(shown[0].top), 0) if is_upper else None

    def _erase(self) -> None:
        for window in self._windows.values():
            window.clear()


class Services708:
    """The services of one stream."""

    __slots__ = ("_sequence", "_services")

    def __init__(self) -> None:
        self._services: dict[int, Service708] = {}
        self._sequence: int | None = None  # number of the last packet

    def take(self, packet: bytes, time: int) -> None:
        """Takes a packet that the picture of this time completes."""
        sequence = packet[0] >> 6
        # A lost packet resets the services (§5.1). The same number again is no loss: some encoders do not count.
        if self._sequence is not None and (sequence - self._sequence) % 4 > 1:
            for service in self._services.values():
                service.reset(time)
        self._sequence = sequence
        for number, data in service_blocks(packet):
            if known := self._service(number):
                known.take(data, time)

    def end_picture(self, time: int) -> list[CaptionChange]:
        """Returns what has changed with this picture. Hot path."""
        changes: list[CaptionChange] = []
        for service in self._services.values():
            service.resume(time)
            changes += service.end_picture(time)
        return changes

    def _service(self, number: int) -> Service708 | None:
        """Returns the service, if it is one of those that are decoded."""
        if number not in self._services:
            if len(self._services) >= MAX_SERVICES:
                quiet = next((known for known, service in self._services.items() if service.is_quiet), None)
                if quiet is None:
                    return None
                del self._services[quiet]
            self._services[number] = Service708(number)
        return self._services[number]


def _size(data: bytes) -> int:
    """Returns the bytes of the command or character at the start, at least. They may not all have come yet."""
    first = data[0]
    if first == _EXTENSION:
        second = data[1] if len(data) > 1 else 0
        if second < 0x20:
            return 2 + (second >> 3)  # C2
        if not 0x80 <= second < 0xA0:
            return 2
        if second < 0x90:
            return 6 + (second >> 3 & 1)  # C3 of fixed length
        return 3 + (data[2] & 0x1F if len(data) > 2 else 0)
    if first < 0x20:
        return 1 if first < _EXTENSION else 2 if first < _P16 else 3
    return 1 + _PARAMETERS[first - 0x80] if 0x80 <= first < 0xA0 else 1


def _ends_delay(data: bytes) -> bool:
    """Whether data that wait contain a command that ends the delay."""
    at = 0
    while at < len(data):
        if data[at] in (_CANCEL, _RESET):
            return True
        at += _size(data[at : at + 3])
    return False
