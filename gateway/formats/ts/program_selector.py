"""Reads the tables of all programs, and selects the first program with pictures, else with sound."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.formats.ts import psi
from gateway.formats.ts.packets import PacketReader, TsCounters
from gateway.formats.ts.program_tables import PAT_TABLE, PMT_TABLE, ProgramMap, check_section, parse_pat, parse_pmt
from gateway.formats.ts.sections import SectionReader
from gateway.media.errors import InvalidData

_MAX_PROGRAMS: Final = 32  # whose maps are read; the first section of the PAT may name 253
_PATIENCE: Final = 3  # maps of one program, before those that have not come are no longer awaited
_PAUSE: Final = 64  # unusual packets between two changes of one table; about half a second of a usual stream


@dataclass(slots=True)
class _Table:
    """The last section of a table. seen: how often it came. checked: the unusual packets before it."""

    pid: int
    section: bytes = b""
    seen: int = 0
    checked: int | None = None
    map: ProgramMap | None = None


class ProgramSelector:
    """Selects a program and gives its map to `select`, again after each change.

    Programs with pictures come before those of radio. If no program has usable media, the map of the first one with
    others is given, and none counts as selected.

    The order of the PAT counts, so the same program is found again. Changes of one table that follow each other
    faster than _PAUSE packets wait for its next repetition. programs: numbers of the programs in the PAT.
    """

    def __init__(self, packets: PacketReader, counters: TsCounters, select: Callable[[ProgramMap], None]) -> None:
        self.programs: tuple[int, ...] = ()
        self._packets = packets
        self._counters = counters
        self._select = select
        self._told: ProgramMap | None = None
        self._pat = _Table(psi.PAT_PID)
        self._tables: dict[int, _Table] = {}
        self._selected: int | None = None
        packets.pids[psi.PAT_PID] = SectionReader(self._read_pat)

    @property
    def pids(self) -> set[int]:
        """The PIDs of tables, which no elementary stream can have."""
        return {psi.PAT_PID, *(table.pid for table in self._tables.values())}

    def _read_pat(self, section: bytes) -> None:
        # Only the first section counts.
        if section[6:7] != b"\0" or not self._is_new(self._pat, section, PAT_TABLE):
            return
        programs = parse_pat(section)
        self.programs = tuple(programs)
        old, self._tables = self._tables, {}
        for number, pid in list(programs.items())[:_MAX_PROGRAMS]:
            table = old.get(number)
            self._tables[number] = table if table is not None and table.pid == pid else _Table(pid)
        if self._selected is not None and self._tables.get(self._selected) is not old[self._selected]:
            self._selected = None
        for table in old.values():
            self._packets.pids.pop(table.pid, None)
        self._follow()

    def _follow(self) -> None:
        """Reads the map of the selected program only; all maps while none is selected."""
        for number, table in self._tables.items():
            if self._selected not in (None, number):
                self._packets.pids.pop(table.pid, None)
        for number, table in self._tables.items():
            if self._selected in (None, number) and table.pid not in self._packets.pids:
                self._packets.pids[table.pid] = SectionReader(self._read_pmt)

    def _read_pmt(self, section: bytes) -> None:
        number = int.from_bytes(section[3:5], "big")
        table = self._tables.get(number)
        if table is None or self._selected not in (None, number):
            return
        changed = self._is_new(table, section, PMT_TABLE)
        if changed:
            table.map = parse_pmt(section)
        if self._selected is None:
            self._choose()
        elif changed and table.map is not None:
            self._select(table.map)

    def _choose(self) -> None:
        patient = max(table.seen for table in self._tables.values()) < _PATIENCE
        maps = list[ProgramMap]()
        for table in self._tables.values():
            if table.map is not None:
                maps.append(table.map)
                if table.map.has_pictures:
                    break
            elif patient:
                return
        found = next((found for found in reversed(maps) if found.has_pictures), None)
        if found := found or next((found for found in maps if found.has_media), None):
            self._selected = found.number
            self._follow()
            self._select(found)
            return
        lost = next(
            (found for found in maps if any(e.lost or e.is_unnamed or e.is_unknown for e in found.streams)), None
        )
        if lost is not None and lost != self._told:
            self._told = lost
            self._select(lost)

    def _is_new(self, table: _Table, section: bytes, kind: int) -> bool:
        """Checks a section. Returns whether it differs from the last one and is valid."""
        if section == table.section:
            table.seen += 1
            return False
        if table.checked is not None and self._packets.unusual - table.checked < _PAUSE:
            return False
        table.checked = self._packets.unusual
        try:
            check_section(section, kind)
        except InvalidData:
            self._counters.crc_errors += len(section) > 11 and section[0] == kind and bool(section[5] & 1)
            return False
        table.section, table.seen = section, 1
        return True
