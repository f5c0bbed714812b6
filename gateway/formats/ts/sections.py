"""Joins payloads to sections of tables and of cues (§2.4.4), and checks their checksum."""

from collections.abc import Callable
from typing import Final

from gateway.formats.ts.packets import PidReader

_MAX_SECTION: Final = 4_096  # private sections; those of tables are shorter
_STUFFING: Final = 0xFF


class SectionReader(PidReader):
    """Gives each complete section of one PID to `give`, unchecked. A section may begin anywhere in a packet."""

    def __init__(self, give: Callable[[bytes], None]) -> None:
        super().__init__()
        self._give = give
        self._data = self._last = b""
        self._open = False
        self.append = self._continue

    def take(self, payload: bytes, start: bool, stuffed: bool) -> None:
        self._last = payload
        if not start:
            self._add(payload)
            return
        # §2.4.4.2: pointer_field is the number of bytes before the first section that begins here.
        begin = 1 + payload[0]
        self._add(payload[1:begin])
        self._data, self._open = b"", True
        self._add(payload[begin:])

    def last_payload(self) -> bytes | None:
        return self._last

    def lose(self) -> None:
        self._data, self._open = b"", False

    def _continue(self, payload: bytes) -> None:
        self._last = payload
        self._add(payload)

    def _add(self, payload: bytes) -> None:
        if not self._open:
            return
        data = self._data + payload
        at = 0
        while at + 3 <= len(data) and data[at] != _STUFFING:
            size = 3 + (int.from_bytes(data[at + 1 : at + 3], "big") & 0xFFF)
            if size > _MAX_SECTION:
                break
            if at + size > len(data):
                self._data = data[at:]
                return
            self._give(data[at : at + size])
            at += size
        self._data = data[at:] if at + 3 > len(data) and data[at : at + 1] != b"\xff" else b""
        self._open = bool(self._data)
