"""Reads one program of a transport stream that any encoder sends: bytes in, tracks and units out."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from gateway.formats.ts import psi
from gateway.formats.ts.data_units import MAX_DATA, DataTrack, DataUnit, is_cue
from gateway.formats.ts.packets import PacketReader, PidReader, ProgramClock, TsCounters, unwrapped
from gateway.formats.ts.pes import PesReader, parse_pes
from gateway.formats.ts.pictures import PictureTrack
from gateway.formats.ts.program_selector import ProgramSelector
from gateway.formats.ts.program_tables import (
    DATA_USES,
    MAX_STREAMS,
    NULL_PID,
    SCRAMBLED,
    UNNAMED,
    ProgramMap,
    StreamEntry,
    StreamUse,
)
from gateway.formats.ts.sections import SectionReader
from gateway.formats.ts.sound_frames import SoundTrack
from gateway.formats.ts.unnamed_media import recognize, tries_of
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.framed_units import NO_START, NONE_CAME
from gateway.media.track import AccessUnit, ForeignSound

_MAX_PES: Final = {StreamUse.VIDEO: 24 << 20, StreamUse.AUDIO: 1 << 20}  # bytes; of data: MAX_DATA
_MAX_UNNAMED: Final = 1 << 20  # bytes of data that may be media
_JUMP: Final = 10 * VIDEO_CLOCK  # ticks between two units of a stream
_MARKED_JUMP: Final = VIDEO_CLOCK  # the same if the program's clock says that it has jumped
_PAUSE: Final = 64  # unusual packets for each event that only changes names, after the first ones
_FREE_NAMES: Final = 8
_FIRST_TRIES: Final = 100  # PES packets of a stream without a name; then users read that it has none
# What comes in place of a transport stream, by its first bytes.
_KINDS: Final = {
    b"FLV": "FLV", b"\x1aE\xdf\xa3": "Matroska", b"\0\0\0\1": "bare H.264 or HEVC", b"\xff\xf1": "bare AAC",
    b"\x80\x21": "RTP", b"\x80\xa1": "RTP", b"\3\0\0\0\0": "RTMP",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ProgramTracks:
    """The streams of the selected program: when it is first known, and after each change.

    If no program can be used, they are those of the first one with media of other codecs.
    streams: in the order of the program map. A stream that cannot be read has a name that says why: "scrambled",
    "unknown stream type 0x42", "aac: LATM of several programs or layers".
    """

    program: int
    streams: tuple[StreamEntry, ...]


@dataclass(slots=True)
class ProgramUnit:
    """A picture or a frame of sound of one stream. The timescale of its track is 90,000.

    foreign: the format of sound that no track can have (MP2), for a worker; then the unit's track does not describe it.
    """

    pid: int
    unit: AccessUnit
    foreign: ForeignSound | None


@dataclass(frozen=True, slots=True)
class ClockJump:
    """The times of the following units do not continue those before. ticks: how far they have moved, of 90 kHz."""

    ticks: int


Event: TypeAlias = ProgramTracks | ProgramUnit | DataUnit | ClockJump


_Track: TypeAlias = PictureTrack | SoundTrack | DataTrack


class ProgramReader:
    """Reads the first program with pictures, else the first one with sound. Bad media are counted, and raise nothing.

    Times are those of the sender without the limit of 33 bits: they continue over its end. They may be negative if
    the first times were just after it. `ClockJump` tells a jump of more than 10 s. It also tells one of more than 1 s
    after a jump of the PCR or a `discontinuity_indicator`. PES packets from before a PCR's jump are then dropped.

    A PES packet with missing packets is dropped. Pictures continue with the next key frame, as after a loss in RTP.
    Memory: an open PES packet of each stream (24 MB video, 1 MB sound), and the same for pictures in several of them.
    """

    def __init__(self) -> None:
        self.counters = TsCounters()
        self._events: list[Event] = []
        self.clock = ProgramClock()
        self._packets = PacketReader(self.counters, self.clock)
        self._selector = ProgramSelector(self._packets, self.counters, self._select)
        self._map: ProgramMap | None = None
        self._identified: dict[StreamEntry, StreamEntry] = {}  # streams without a name, and what they contain
        self._streams: dict[int, _Stream] = {}
        self._near: int | None = None  # decode time of the last picture or frame of sound
        self._generation = 0  # of the clock, for the units so far
        self._announced: ProgramTracks | None = None
        self._renamed = 0

    def receive(self, data: bytes) -> list[Event]:
        """Reads bytes, cut anywhere. Returns the events that they complete, the same for all cuts."""
        self._packets.receive(data)
        if not self._events:
            return []
        events, self._events = self._events, []
        return events

    def finish(self) -> list[Event]:
        """Returns the last events, after the end of the data."""
        self._packets.finish()
        for stream in self._streams.values():
            if stream.reader is not None:
                stream.reader.finish()
            stream.flush()
        events, self._events = self._events, []
        return events

    def explain(self) -> str:
        """Returns why there are no pictures, for a program that promises them, or for data of another kind.

        "": a program without pictures is known, or nothing came.
        """
        if self._map is None:
            table = "no map of a program (PMT)" if self._selector.programs else "no table of programs (PAT)"
            if self.counters.crc_errors:
                return "the tables of the programs (PAT, PMT) have wrong checksums"
            if self.counters.transport_errors:
                return "the packets of MPEG-TS are marked as damaged (transport_error_indicator)"
            if self._packets.unusual:
                return f"{table} came in the packets of MPEG-TS"
            head = self._packets.head
            kind = next((kind for begin, kind in _KINDS.items() if head.startswith(begin)), "of an unknown kind")
            return f"the data are {kind} instead of MPEG-TS" if head else ""
        for stream in self._streams.values():
            if stream.entry.use is StreamUse.VIDEO:
                if stream.is_untimed and stream.last is None:
                    return "they have no presentation times (PTS)"
                return NONE_CAME if stream.last is None else NO_START
        uses = {stream.entry.use for stream in self._streams.values()}
        return (
            "the program has neither pictures nor sound, only private data" if uses and uses.issubset(DATA_USES) else ""
        )

    def _select(self, program: ProgramMap) -> None:
        """Begins a program, or the changes of its map. Streams that are the same continue."""
        self._map = program
        entries = [self._identified.get(entry, entry) for entry in program.streams]
        old, self._streams = self._streams, {}
        for stream in old.values():
            if stream.entry not in entries:
                stream.flush()
                self._packets.pids.pop(stream.entry.pid, None)
        if self.clock.pid not in old and type(self._packets.pids.get(self.clock.pid)) is PidReader:
            del self._packets.pids[self.clock.pid]
        self.clock.pid = program.pcr_pid
        reserved = self._selector.pids
        for entry in entries:
            if entry.pid not in reserved:
                known = old.get(entry.pid)
                same = known is not None and known.entry == entry
                self._streams[entry.pid] = known if known is not None and same else self._open(entry)
        if program.pcr_pid not in (NULL_PID, *self._packets.pids):  # NULL_PID: the program has no clock
            self._packets.pids[program.pcr_pid] = PidReader()
        self._announce()

    def _open(self, entry: StreamEntry) -> "_Stream":
        stream = _Stream(entry, self)
        if entry.use is StreamUse.SCTE35:
            self._packets.pids[entry.pid] = SectionReader(stream.take_section)
        elif stream.reader is not None:
            self._packets.pids[entry.pid] = stream.reader
        else:
            self._packets.pids.pop(entry.pid, None)
        return stream

    def identify(self, entry: StreamEntry, found: StreamEntry) -> None:
        """Learns what a stream without a name, or with a wrong one, contains.

        The stream begins again with its next PES packet.
        """
        assert self._map is not None, "streams exist only with a program"
        if len(self._identified) < MAX_STREAMS:
            self._identified[entry] = found
            self._select(self._map)

    def announce_names(self) -> None:
        """Tells names of streams that have changed; not too often, because a sender could change them all the time."""
        if self._renamed <= _FREE_NAMES + self._packets.unusual // _PAUSE:
            self._renamed += 1
            self._announce()

    def _announce(self) -> None:
        assert self._map is not None, "streams exist only with a program"
        streams = tuple(stream.described() for stream in self._streams.values())
        tracks = ProgramTracks(self._map.number, streams)
        if tracks != self._announced:
            self._announced = tracks
            self._events.append(tracks)
        for stream in self._streams.values():
            stream.told = stream.name

    def add(self, event: Event) -> None:
        self._events.append(event)

    def add_section(self, entry: StreamEntry, section: bytes) -> None:
        """Adds a section, which came after the unit with the last time."""
        self._events.append(DataUnit(entry.pid, entry.use, self._near, section))

    def begin_times(self, stream: "_Stream", pts: int, dts: int, generation: int) -> tuple[int, int] | None:
        """Returns the unwrapped times of a PES packet; None if it is from before a jump. Tells a jump of media."""
        if generation < self._generation:
            return None
        dts = unwrapped(dts, dts if self._near is None else self._near)
        if stream.entry.use in DATA_USES:  # some senders write them on another clock
            return unwrapped(pts, dts), dts
        limit = _JUMP if generation == stream.generation else _MARKED_JUMP
        stream.generation = generation
        known = [other.last for other in self._streams.values() if other.last is not None]
        if stream.last is not None and all(abs(dts - last) > limit for last in known):
            ticks = dts - stream.last
            for other in self._streams.values():
                other.jump()
            self._generation = generation
            self._events.append(ClockJump(ticks))
        stream.last = self._near = dts
        return unwrapped(pts, dts), dts


class _Stream:
    """One elementary stream of the program. name: for users. told: the name that was announced.

    last: decode time of the last PES packet, for pictures and sound. generation: of the clock at this time.
    is_untimed: whether the last PES packet had no time.
    """

    def __init__(self, entry: StreamEntry, program: ProgramReader) -> None:
        self.entry = entry
        self.reader: PesReader | None = None
        self.last: int | None = None
        self.generation = 0
        self.told = entry.codec
        self.is_untimed = False
        self._program = program
        self._scrambled = False
        self._tries, self._most_tries = 0, tries_of(entry)
        self._track: _Track | None = None
        if entry.use is StreamUse.VIDEO:
            self._track = PictureTrack(entry, program.counters)
        elif entry.use is StreamUse.AUDIO:
            self._track = SoundTrack(entry, program.counters)
        elif entry.use in DATA_USES:
            self._track = DataTrack(entry)
        if self._track is not None:
            limit = _MAX_UNNAMED if entry.is_unnamed else _MAX_PES.get(entry.use, MAX_DATA)
            self.reader = PesReader(self, program.counters, program.clock, limit)

    @property
    def name(self) -> str:
        if self._scrambled:
            return SCRAMBLED
        if self._tries >= _FIRST_TRIES and self.entry.is_unnamed:
            return UNNAMED
        return self.entry.codec if self._track is None else self._track.name

    def described(self) -> StreamEntry:
        return self.entry if self.name == self.entry.codec else replace(self.entry, codec=self.name)

    def take_section(self, section: bytes) -> None:
        if not is_cue(section):
            return
        if psi.crc32(section):
            self._program.counters.crc_errors += 1
            return
        self._program.add_section(self.entry, section)

    def take_pes(self, data: bytes, generation: int, *, continues: bool) -> None:
        """Takes a PES packet. See PesTarget."""
        assert self._track is not None, "only streams with a track have a PES reader"
        try:
            pts, dts, payload = parse_pes(data)
        except InvalidData:
            self._program.counters.damaged += 1
            self._track.restart()
            return
        self._scrambled = False
        if self._tries < self._most_tries:
            self._tries += 1
            if (found := recognize(self.entry, payload)) is not None:
                self._program.identify(self.entry, found)
                return
        self.is_untimed = pts is None
        if pts is not None and dts is not None:
            times = self._program.begin_times(self, pts, dts, generation)
            if times is None:
                self._track.restart()
                return
            pts, dts = times
        if continues and isinstance(self._track, PictureTrack):
            self._track.await_start()
        self._emit(self._track.take(payload, pts, dts))
        if self.name != self.told:
            self._program.announce_names()

    def lose(self) -> None:
        """Drops what is incomplete: packets are missing."""
        if self._track is not None:
            self._track.restart()

    def scramble(self) -> None:
        """Learns that the stream is scrambled."""
        self._scrambled = True
        self.lose()
        if self.name != self.told:
            self._program.announce_names()

    def flush(self) -> None:
        """Emits the last unit."""
        if self._track is not None:
            self._emit(self._track.flush())

    def jump(self) -> None:
        """Ends the times before a jump."""
        self.flush()
        self.lose()
        self.last = None

    def _emit(self, units: Iterable[AccessUnit | DataUnit]) -> None:
        for unit in units:
            if isinstance(unit, DataUnit):
                self._program.add(unit)
                continue
            assert self._track is not None, "it has made the unit"
            self._most_tries = 0  # it is what the program's map says
            if self.name != self.told:
                self._program.announce_names()
            self._program.add(ProgramUnit(self.entry.pid, unit, self._track.format))
