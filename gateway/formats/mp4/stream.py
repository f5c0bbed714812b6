"""Reads a growing fragmented MP4 in pieces of any size, and returns tracks and samples."""

from collections.abc import Callable, Iterator
from typing import Final

from gateway.formats.mp4.entries import FragmentedMovie, Mp4TrackEntry, read_movie
from gateway.formats.mp4.reader import MAX_SAMPLES, parse_fragments
from gateway.formats.recording import Event, Packet, opened
from gateway.media.errors import InvalidData

MAX_HEADER: Final = 1 << 20  # bytes of moov
MAX_FRAGMENT: Final = 32_000_000  # bytes of a moof and its mdat: ten seconds of the fastest recorder
MAX_SKIPPED: Final = 16_000_000  # bytes of a box that is not used
MAX_SAMPLE: Final = 8_000_000  # bytes, as in the whole gateway

_MOOF_BYTES: Final = 4 << 20
_MAX_TIME: Final = 1 << 62
_HEAD: Final = 256  # bytes of a moof in which the time of its first track is


class FragmentReader:
    """Reads a fragmented MP4. It stores at most one incomplete fragment, as far as it has arrived.

    It returns the samples of a fragment when its last byte arrives, those of all tracks in the order of their times.
    A new moov starts another recording.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0  # position of the buffer's first byte in the stream
        self._at = 0  # position of the next box in the buffer
        self._fragment: int | None = None  # position in the buffer of a moof whose mdat has not arrived yet
        self._skip = 0  # remaining bytes of a box that is not used
        self._movie: FragmentedMovie | None = None
        self._entries: dict[int, Mp4TrackEntry] = {}
        self._cts_shifts: dict[int, int] = {}  # by track, ticks subtracted from decode times

    def receive(self, data: bytes) -> list[Event]:
        """Returns the events that these bytes complete.

        Raises InvalidData if the data are not a fragmented MP4 or exceed a limit.
        """
        self._buffer += data
        events: list[Event] = []
        try:
            while self._step(events):
                pass
        finally:
            done = self._at if self._fragment is None else self._fragment
            if done:
                del self._buffer[:done]
                self._position += done
                self._at -= done
                self._fragment = None if self._fragment is None else 0
        return events

    def jump(self) -> None:
        """Continues at another fragment of the same recording. Drops an incomplete fragment.

        Not for writers with offsets from the start of the file.
        """
        self._buffer.clear()
        self._at = self._skip = 0
        self._fragment = None

    def _step(self, events: list[Event]) -> bool:
        """Reads the next box, or skips the available bytes of an unused box. Returns whether more may follow."""
        buffer = self._buffer
        if self._skip:
            step = min(self._skip, len(buffer) - self._at)
            self._skip -= step
            self._at += step
        at = self._at
        if self._skip or len(buffer) - at < 8:
            return False
        size, kind = int.from_bytes(buffer[at : at + 4], "big"), bytes(buffer[at + 4 : at + 8])
        header = 8
        if size == 1:
            if len(buffer) - at < 16:
                return False
            size, header = int.from_bytes(buffer[at + 8 : at + 16], "big"), 16
        # §4.2: size 0 means "to the end of the file", which a live recording does not have.
        if size < header:
            raise InvalidData(f"MP4: box {kind!r} of {size} bytes")
        if kind == b"mdat" and self._movie is None:
            raise InvalidData("an MP4 whose samples come before its header cannot be read while it grows")
        in_fragment = self._fragment is not None
        if in_fragment or kind in (b"moov", b"moof"):
            limit = MAX_HEADER if kind == b"moov" else _MOOF_BYTES if kind == b"moof" else MAX_FRAGMENT
            start = at if self._fragment is None else self._fragment
            if size > limit or at + size - start > MAX_FRAGMENT:
                raise InvalidData(f"MP4: box {kind!r} of {size} bytes")
            if len(buffer) - at < size:
                return False
            self._at = at + size
            self._take(kind, at, events)
            return True
        if size > MAX_SKIPPED:
            raise InvalidData(f"MP4: box {kind!r} of {size} bytes")
        self._skip = size
        return True

    def _take(self, kind: bytes, at: int, events: list[Event]) -> None:
        if kind == b"moov":
            self._open(bytes(self._buffer[at : self._at]), events)
        elif kind == b"moof":
            if self._movie is None:
                raise InvalidData("MP4: a fragment before the header")
            self._fragment = at
        elif kind == b"mdat" and self._fragment is not None:
            start, self._fragment = self._fragment, None
            self._add_samples(bytes(self._buffer[start : self._at]), self._position + start, events)

    def _open(self, moov: bytes, events: list[Event]) -> None:
        movie = self._movie = read_movie(moov)
        self._fragment = None
        found = opened([e.track for e in movie.entries], list(movie.left_out))
        used = [e for e in movie.entries if e.track is found.video or e.track is found.audio]
        self._entries = {e.number: e for e in used}
        self._cts_shifts = {}
        events.append(found)

    def _add_samples(self, data: bytes, origin: int, events: list[Event]) -> None:
        """Adds the samples of `data`: a moof and the boxes after it up to its mdat."""
        assert self._movie is not None, "checked for the moof"
        # At most one sample for each byte: runs of empty samples would need much time without any result.
        limit = min(MAX_SAMPLES, len(data))
        found: list[tuple[int, Packet]] = []
        for fragment in parse_fragments(data, defaults=self._movie.defaults, origin=origin, max_samples=limit):
            entry = self._entries.get(fragment.track_id)
            if entry is None:
                continue
            track = entry.track
            # With negative offsets (common in CMAF) pictures would be shown before they are decoded.
            min_cts = min((sample.cts for sample in fragment.samples), default=0)
            cts_shift = self._cts_shifts[fragment.track_id] = max(self._cts_shifts.get(fragment.track_id, 0), -min_cts)
            time = fragment.base_decode_time - entry.early - cts_shift
            for sample in fragment.samples:
                if not -_MAX_TIME < time < _MAX_TIME or len(sample.payload) > MAX_SAMPLE:
                    raise InvalidData(f"MP4: a sample of {len(sample.payload)} bytes at {time}")
                if sample.payload:
                    packet = Packet(track, time, sample.cts + cts_shift, sample.key, sample.payload)
                    found.append((time * 1_000_000 // track.timescale, packet))
                time += sample.duration
        found.sort(key=lambda pair: pair[0])
        events.extend(packet for _, packet in found)


def fragment_places(read: Callable[[int, int], bytes]) -> Iterator[tuple[int, float]]:
    """Yields the position of each fragment, and the decode time of its first track, seconds.

    read(size, position): returns bytes of the file, fewer at its end. Costs two reads for each fragment.
    Raises InvalidData for other files.
    """
    at = 0
    scales: dict[int, int] = {}
    while len(head := read(_HEAD, at)) >= 16:
        size, kind = int.from_bytes(head[:4], "big"), head[4:8]
        if not 8 <= size <= MAX_FRAGMENT or (kind == b"moov" and size > MAX_HEADER):
            raise InvalidData(f"MP4: box {kind!r} of {size} bytes")
        if kind == b"moov":
            entries = read_movie(read(size, at)).entries
            scales = {entry.number: entry.track.timescale for entry in entries}
        elif kind == b"moof":
            track, time = _beginning(head)
            if track not in scales:
                raise InvalidData(f"MP4: a fragment of an unknown track {track}")
            yield at, time / scales[track]
        at += size


def _beginning(moof: bytes) -> tuple[int, int]:
    """Returns the id of the first track and its decode time in ticks (ISO/IEC 14496-12 §8.8)."""
    traf = 8 + int.from_bytes(moof[8:12], "big")
    tfhd = traf + 8
    tfdt = tfhd + int.from_bytes(moof[tfhd : tfhd + 4], "big")
    kinds = moof[12:16], moof[traf + 4 : tfhd], moof[tfhd + 4 : tfhd + 8], moof[tfdt + 4 : tfdt + 8]
    end = tfdt + (20 if moof[tfdt + 8 : tfdt + 9] == b"\x01" else 16)
    if kinds != (b"mfhd", b"traf", b"tfhd", b"tfdt") or end > len(moof):
        raise InvalidData("MP4: a fragment that we do not write")
    return int.from_bytes(moof[tfhd + 12 : tfhd + 16], "big"), int.from_bytes(moof[tfdt + 12 : end], "big")
