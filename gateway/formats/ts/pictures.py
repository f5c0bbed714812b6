"""Divides the PES packets of a video stream into access units, and gives each its times."""

import re
from typing import Final

from gateway.formats.ts.packets import TsCounters
from gateway.formats.ts.pes import PROOFS
from gateway.formats.ts.program_tables import StreamEntry
from gateway.lib.bit_reader import BitReader
from gateway.media import h264, h265, nal
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.framed_units import NalPictures
from gateway.media.nal_codec import NAL_CODECS
from gateway.media.track import AccessUnit, Codec, MediaTrack

_BEGINS: Final = re.compile(rb"\x00\x00\x00*\x01")
# A NAL unit with the three bytes that tell whether an access unit begins.
_START: Final = re.compile(rb"\x00\x00\x01(?=...)", re.DOTALL)
_NEEDED: Final = 6  # bytes of `_START` with what follows
_MAX_PICTURE: Final = 24 << 20  # bytes of an access unit
_MAX_PES: Final = 64  # PES packets of an access unit
_MAX_PICTURES: Final = 64  # access units that begin in a PES packet
_SLICE_HEAD: Final = 16  # bytes with the first elements of a slice
_USUAL_STEP: Final = 3_600  # ticks between two pictures, if nothing tells it

# Types of NAL units with which an access unit begins, if a slice came before (H.264 §7.4.1.2.3, H.265 §7.4.2.4.4).
# Type 14 of H.264 is left out: it also stands between the slices of a picture.
_FIRST_TYPES: Final = {
    Codec.H264: frozenset((h264.SEI, h264.SPS, h264.PPS, h264.AUD, 15, 16, 17, 18)),
    Codec.H265: frozenset((h265.VPS, h265.SPS, h265.PPS, h265.AUD, 39, *range(41, 45), *range(48, 56))),
}
_SLICE_TYPES: Final = {Codec.H264: frozenset((1, 2, 5)), Codec.H265: frozenset(range(32))}


def _heads(codec: Codec, types: frozenset[int]) -> bytes:
    """Returns the set, in a regular expression, of the first bytes of NAL units with these types."""
    nal_codec = NAL_CODECS[codec]
    return b"[%s]" % b"".join(b"\\x%02x" % head for head in range(256) if nal_codec.type_of(bytes((head,))) in types)


def _patterns(codec: Codec) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Returns the patterns of slices and of NAL units with which an access unit begins, if a slice came before.

    A first slice has `first_mb_in_slice` 0 (one set bit), or `first_slice_segment_in_pic_flag`.
    """
    slices, others = _heads(codec, _SLICE_TYPES[codec]), _heads(codec, _FIRST_TYPES[codec])
    first = slices + (rb"[\x80-\xff]." if codec is Codec.H264 else rb".[\x80-\xff]")
    made = (rb"\x00\x00\x01(?=%s..)" % slices, rb"\x00\x00\x01(?=%s|%s..)" % (first, others))
    slice_pattern, begin_pattern = (re.compile(pattern, re.DOTALL) for pattern in made)
    return slice_pattern, begin_pattern


_PATTERNS: Final = {codec: _patterns(codec) for codec in _SLICE_TYPES}


class PictureTrack:
    """Makes units of the pictures of one stream.

    A PES packet usually has one access unit. Some encoders write several in one, or one in several. The start of
    the next access unit is always right as an end, but costs the time of a picture. After PROOFS PES packets that
    began with an access unit, the end of a PES packet ends the access unit, unless the next one is known to continue
    it. If this is wrong once, pictures are left out until the next key frame, and the proof begins again.

    Limits: two fields of a frame become two units. Slices in any order (H.264 §A.2.1) are divided wrongly.

    PTS and DTS belong to the first access unit that begins in their PES packet (§2.4.3.7). Others follow at the frame
    rate of the parameter sets, or at that of the PES packets before if it is higher, or the only one. A field lasts
    half a frame. If a sender writes no DTS although pictures are reordered, decode times are computed. Before the first
    PTS, pictures are dropped.

    A publisher may send NAL units of a byte. So they are found by regular expressions, and none has a step in Python
    unless a picture begins with it. More than `nal.MAX_UNITS` in an access unit break it.
    """

    format = None

    def __init__(self, entry: StreamEntry, counters: TsCounters) -> None:
        self.name = entry.codec
        codec = Codec(entry.codec)
        self._counters = counters
        self._pictures = NalPictures(codec)
        self._slice, self._first = _PATTERNS[codec]
        self._proofs = 0
        self._usual = self._step = _USUAL_STEP  # ticks of a frame: by the parameter sets, and by the last PES packets
        self._most = VIDEO_CLOCK  # the largest step that the PES packets may have
        self._coding: h264.SpsCoding | None = None
        self._track: MediaTrack | None = None
        self._last: tuple[int, int] | None = None  # presentation and decode time of the last PES packet with times
        self._fields = 0  # that have come since these times; a frame counts as two
        self._guesses = False  # whether decode times are computed
        self._begin: int | None = None  # of the open access unit in the data; None: no NAL unit is known
        self._has_slice = False
        self._times: tuple[int, int] | None = None
        self._clear(b"")

    def take(self, payload: bytes, pts: int | None, dts: int | None) -> list[AccessUnit]:
        """Returns the units that a PES packet completes. pts, dts: ticks of 90 kHz."""
        if not payload:
            return []
        held = len(self._data)
        self._parts += 1
        if self._parts > _MAX_PES or held + len(payload) > _MAX_PICTURE or not (held or _BEGINS.match(payload)):
            return self._fail([])
        data = self._data + payload if held else payload
        times = (pts, dts) if pts is not None and dts is not None else None
        at, count, done = self._scanned, 0, list[AccessUnit]()
        if self._has_slice:
            start = _START.search(data, at)
            begins = start is not None and self._first.match(data, start.start()) is not None
            is_padded = start is not None and not data[held : start.start()].strip(b"\0")
            self._proofs = self._proofs + 1 if begins and is_padded else 0  # otherwise a slice continues
        while (found := self._wanted().search(data, at)) is not None:
            at = found.start()
            if self._has_slice:
                self._complete(data, at, done)
                count += 1
                if count > _MAX_PICTURES:
                    return self._fail(done)
                continue  # with the same NAL unit
            if self._begin is None:
                self._begin = at
            elif self._first.match(data, at) is None:
                return self._fail(done)  # the first slice of the picture is missing
            else:
                self._has_slice = True
                at = found.end()
            if self._times is None and found.start() >= held:
                self._times, times = times, None
        if self._has_slice and self._proofs >= PROOFS:
            self._complete(data, len(data), done)
            self._clear(b"")
        else:
            self._hold(data)
        return done

    def await_start(self) -> None:
        """Ends the picture of the next PES packet only where another one starts, and begins the proof again."""
        self._proofs = 0

    def flush(self) -> list[AccessUnit]:
        """Returns the last unit, if no more data follow."""
        done = list[AccessUnit]()
        if self._has_slice:
            self._complete(self._data, len(self._data), done)
        self._clear(b"")
        return done

    def restart(self) -> None:
        """Continues with the next key frame: bytes are missing."""
        self._clear(b"")
        self._last, self._guesses = None, False
        self._pictures.restart()

    def _wanted(self) -> re.Pattern[bytes]:
        """Returns the pattern of the next NAL unit that matters."""
        return _START if self._begin is None else self._first if self._has_slice else self._slice

    def _clear(self, data: bytes) -> None:
        """Begins an access unit with these bytes."""
        self._data = data
        self._begin = None
        self._scanned = self._parts = 0
        self._has_slice = False
        self._times = None

    def _hold(self, data: bytes) -> None:
        """Keeps the access unit that has begun until more data follow."""
        if self._begin is not None:
            data, self._begin = data[self._begin :], 0
        self._data = data
        self._scanned = max(len(data) - _NEEDED + 1, 0)  # a start code and its bytes may be cut by the end

    def _fail(self, done: list[AccessUnit]) -> list[AccessUnit]:
        """Leaves out pictures until the next key frame. Returns those before."""
        self._count_broken()
        self._proofs = 0
        self.restart()
        return done

    def _count_broken(self) -> None:
        self._counters.damaged += 1
        self._counters.broken_pictures += 1

    def _complete(self, data: bytes, end: int, done: list[AccessUnit]) -> None:
        """Adds the unit of the access unit that ends here, and begins another one in the same data."""
        begin, parts, own, times = self._begin, self._parts, self._times, self._next_times()
        self._clear(self._data)
        self._parts = min(parts, 1)
        if times is None:
            return
        try:
            units = [u for u in nal.split_annexb(data[begin:end]) if len(u) > 1]
            unit = self._pictures.make_unit(units, *times)
            if unit is not None and unit.track is not self._track:
                self._begin_track(unit.track)
            fields = self._count_fields(units)
        except InvalidData:
            self._count_broken()
            self._pictures.restart()
            return
        if own is not None:
            self._last, self._fields = own, 0
        self._fields += fields
        if unit is not None:
            done.append(unit)

    def _begin_track(self, track: MediaTrack) -> None:
        sps = self._pictures.sps
        rate = sps.frame_rate if sps is not None else None
        self._track, self._coding = track, sps.coding if isinstance(sps, h264.H264Sps) else None
        self._usual = self._step = round(VIDEO_CLOCK / rate) if rate else _USUAL_STEP
        self._most = self._usual if rate else VIDEO_CLOCK

    def _count_fields(self, units: list[bytes]) -> int:
        """Returns 1 for a field of H.264, and 2 for a frame. Raises InvalidData."""
        coding = self._coding
        if coding is None or coding.frames_only:
            return 2
        first = next((unit for unit in units if unit[0] & 0x1F in h264.SLICES), b"")
        bits = BitReader(nal.unescape(first[1:_SLICE_HEAD]), what="slice", error=InvalidData)
        for _ in range(3):  # §7.3.3: first_mb_in_slice, slice_type, pic_parameter_set_id
            bits.ue()
        bits.skip(2 * coding.separate_planes + coding.frame_number_bits)
        return 1 if bits.flag() else 2  # field_pic_flag

    def _next_times(self) -> tuple[int, int | None] | None:
        """Returns presentation and decode time; None for the latter if it has to be computed. None: unknown."""
        last, times = self._last, self._times
        if times is None:
            if last is None:
                return None
            after = self._step * self._fields // 2
            times = (last[0] + after, last[1] + after)
        elif last is not None:
            self._guesses = self._guesses or times[0] == times[1] <= last[1]
            spent = 2 * (times[1] - last[1]) // self._fields
            self._step = spent if 0 < spent < self._most else self._usual
        return (times[0], None) if self._guesses else times
