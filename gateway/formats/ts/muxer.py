"""Turns samples into transport stream packets. One muxer writes all segments of a stream.

The § numbers refer to ISO/IEC 13818-1.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from gateway.formats.ts import psi
from gateway.formats.ts.data_streams import DataStream, SectionPackets
from gateway.media import aac, nal
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.nal_codec import NAL_CODECS
from gateway.media.track import Codec, MediaTrack

DELAY = 63_000  # ticks of 90 kHz from the times that a muxer gets to those that it writes, unless told otherwise

VIDEO_PID = 0x0100
AUDIO_PID = 0x0101

# stream_type, §2.4.4.9 Table 2-34; AC-3 and E-AC-3 as in ATSC A/53, with the registration that players need.
VIDEO_TYPES = {Codec.H264: (0x1B, b""), Codec.H265: (0x24, psi.registration(b"HEVC"))}
AUDIO_TYPES = {
    Codec.AAC: (0x0F, b""),
    Codec.MP3: (0x03, b""),
    Codec.AC3: (0x81, psi.registration(b"AC-3")),
    Codec.EAC3: (0x87, psi.registration(b"EAC3")),
}

_AUDS = {Codec.H264: nal.START_CODE + b"\x09\xf0", Codec.H265: nal.START_CODE + b"\x46\x01\x50"}

_MASK33 = (1 << 33) - 1
_PCR_EVERY = 8_100  # 90 ms: §2.7.2 allows 100 ms between two PCRs
_MAX_PCR_FILL = 12  # PCR packets in one gap; a longer gap is an interruption, not a slow frame rate
_MAX_AUDIO_PES = 0xFFFF - 16  # audio needs PES_packet_length, which has 16 bits

_STUFFING = b"\xff" * 184
_BLOCK = 64  # packets that one call joins
_CUT = [struct.Struct("184s" * n) for n in range(_BLOCK + 1)]
_COUNTERS = bytes(0x10 | n & 15 for n in range(16 + _BLOCK))  # the fourth byte of a packet with payload only


class TsMuxer:
    """Writes one program of at most one video and one audio track.

    All times are ticks of 90 kHz and not negative, and the decode times of a track grow. Written times wrap at 33 bits.
    `delay` ticks are added to all times except the PCR, so decoders have this time to fill their buffers.
    Continuity counters continue across segments, so the segments of one muxer can be joined.
    Data streams are in the tables after `announce`.

    Raises UnsupportedCodec for codecs that HLS players do not read from a transport stream (AV1, VP8, VP9, Opus, FLAC),
    InvalidData for a broken configuration, ValueError without any track.
    """

    def __init__(self, video: MediaTrack | None, audio: MediaTrack | None, *, delay: int = DELAY) -> None:
        if video is None and audio is None:
            raise ValueError("a transport stream without a track")
        self._delay = delay
        self._data: dict[DataStream, _Pid] = {}
        self.table_counter = 0  # of the next PAT and PMT
        self._pcr_pid = VIDEO_PID if video is not None else AUDIO_PID
        self._last_pcr: int | None = None
        streams: list[tuple[int, int, bytes]] = []
        for track, types, pid in ((video, VIDEO_TYPES, VIDEO_PID), (audio, AUDIO_TYPES, AUDIO_PID)):
            if track is not None:
                if track.codec not in types:
                    raise UnsupportedCodec(f"HLS players read no {track.codec} from a transport stream")
                kind, extra = types[track.codec]
                streams.append((kind, pid, extra))
        if video is not None:
            self._set_video(video)
        self._video = _Pid(VIDEO_PID)
        self._adts: aac.Adts | None = None
        self._frame_ticks = (0, 1)
        if audio is not None:
            if audio.codec is Codec.AAC:
                asc = aac.parse_asc(audio.config)
                self._adts = aac.Adts(asc)
                self._frame_ticks = (asc.core_samples * VIDEO_CLOCK, asc.core_rate)
            self._audio_stream_id = 0xC0 if audio.codec in (Codec.AAC, Codec.MP3) else 0xBD  # private_stream_1
        self._audio_codec = audio.codec if audio is not None else None
        self._audio = _Pid(AUDIO_PID)
        self._pat = psi.pat()
        self._streams, self.version = streams, 0
        self._write_map()

    def _write_map(self) -> None:
        streams = [*self._streams, *((data.stream_type, data.pid, data.descriptors) for data in self._data)]
        program = b"".join(data.program for data in self._data)
        self._pmt = psi.pmt(self._pcr_pid, streams, self.version, program)

    def _set_video(self, video: MediaTrack) -> None:
        codec = NAL_CODECS[video.codec]
        record = codec.parse_record(video.config)
        self._length_size = record.length_size
        # nal_unit_type without shifting, as in the first byte
        self._aud_type, self._sps_type = codec.delimiter << codec.shift, codec.sps << codec.shift
        self._type_mask = codec.mask << codec.shift
        self._aud = _AUDS[video.codec]
        self._parameter_sets = nal.join_annexb([unit for units in record.sets for unit in units])

    def continue_counters(self, before: TsMuxer) -> None:
        """Continues the counters of the muxer that wrote the packets before. Other tables have the next version."""
        self.version = before.version + (self._streams != before._streams) & 31
        self.table_counter = before.table_counter
        self._video.counter, self._audio.counter = before._video.counter, before._audio.counter
        self._data = before._data
        self._write_map()

    def announce(self, stream: DataStream) -> bool:
        """Adds a data stream to the tables, with a new version. Returns False if they have it already."""
        if stream in self._data:
            return False
        self._data[stream] = _Pid(stream.pid)
        self.version = self.version + 1 & 31
        self._write_map()
        return True

    def write_section(self, stream: DataStream, section: bytes) -> SectionPackets:
        """Returns the packets of a section of an announced stream. section: at most 4096 bytes."""
        pid = self._data[stream]
        packets = SectionPackets(stream.pid, section, pid.counter)
        pid.counter = pid.counter + packets.size // 188 & 15
        return packets

    def write_data(self, stream: DataStream, payload: bytes, pts: int | None) -> Packets:
        """Returns the packets of one PES packet of data of an announced stream, which is aligned.

        payload: at most MAX_PAYLOAD bytes. pts: on the clock of the media; None: without time.
        """
        stamps = b"\x00\x00" if pts is None else _stamps(pts + self._delay, pts + self._delay)
        length = 1 + len(stamps) + len(payload)
        head = b"\x00\x00\x01\xbd" + length.to_bytes(2, "big") + b"\x84"
        return Packets(self._data[stream], [head, stamps, payload], None, False, b"")

    def write_tables(self) -> bytes:
        """Returns PAT and PMT, the first two packets of each segment."""
        self.table_counter = self.table_counter + 1 & 15
        return self.repeat_tables(self.table_counter)

    @property
    def delay(self) -> int:
        """Ticks from the clock of the media to the written times."""
        return self._delay

    def repeat_tables(self, following: int) -> bytes:
        """Returns PAT and PMT once more, for a reader that joins. following: counter of those that it gets next."""
        counter = following - 1 & 15
        return b"".join(
            bytes((0x47, 0x40 | pid >> 8, pid & 0xFF, 0x10 | counter)) + body
            for pid, body in ((psi.PAT_PID, self._pat), (psi.PMT_PID, self._pmt))
        )

    def write_video(self, dts: int, cts: int, key: bool, payload: bytes) -> Packets:
        """Returns the packets of one picture. payload: a length-prefixed sample, shown at dts + cts.

        An access unit delimiter is written first and replaces the sample's delimiter, which is not always first.
        Parameter sets are written before a key frame that has none. All other NAL units are unchanged.
        Raises InvalidData for a broken sample; then the muxer is unchanged.
        """
        units = nal.views(payload, self._length_size)
        if not units:
            raise InvalidData("a picture without NAL units")
        delay = self._delay
        # §2.4.3.7: video may leave its PES_packet_length 0; data_alignment_indicator is set.
        pieces: list[bytes | memoryview] = [b"\x00\x00\x01\xe0\x00\x00\x84", _stamps(dts + cts + delay, dts + delay)]
        pieces.append(self._aud)
        mask, delimiter, parameters = self._type_mask, self._aud_type, self._sps_type
        if key and not any(u[0] & mask == parameters for u in units):
            pieces.append(self._parameter_sets)
        for unit in units:
            if unit[0] & mask != delimiter:
                pieces.append(nal.START_CODE)
                pieces.append(unit)
        filled, last = b"", self._last_pcr
        pcr: int | None = None
        if last is None or dts > last:
            if last is not None and dts - last > _PCR_EVERY:
                filled = self._fill_pcr(self._video, last, dts)
            pcr = self._last_pcr = dts
        return Packets(self._video, pieces, pcr, key, filled)

    def write_audio(self, frames: Sequence[bytes], pts: int) -> list[Packets]:
        """Returns the packets of consecutive raw frames. pts: presentation time of the first frame.

        The caller should pass about 100 ms of frames: less has more overhead. Without video, it should pass 90 ms,
        because the frames carry the PCR.
        All frames are in one PES packet, or in several if AAC exceeds its 64 kB.
        Raises InvalidData for a frame that its framing cannot carry; then the muxer is unchanged.
        """
        if not frames:
            return []
        if self._adts is not None:
            header = self._adts.make_header
            frames = [piece for frame in frames for piece in (header(len(frame)), frame)]
        out: list[Packets] = []
        for offset, pieces in self._audio_groups(frames):
            time = pts + offset
            pcr: int | None = None
            before = b""
            if self._pcr_pid == AUDIO_PID:
                if self._last_pcr is not None and time - self._last_pcr > _PCR_EVERY:
                    before = self._fill_pcr(self._audio, self._last_pcr, time)
                pcr = self._last_pcr = time
            elif self._last_pcr is not None and _PCR_EVERY < time - self._last_pcr <= _PCR_EVERY * _MAX_PCR_FILL:
                # Video is slow or paused: its PCR must continue.
                before = self._fill_pcr(self._video, self._last_pcr, time) + self._video.pcr_only(time)
                self._last_pcr = time
            length = sum(map(len, pieces)) + 8
            head = bytes((0, 0, 1, self._audio_stream_id, length >> 8, length & 0xFF, 0x84))
            shown = time + self._delay
            out.append(Packets(self._audio, [head, _stamps(shown, shown), *pieces], pcr, True, before))
        return out

    def _audio_groups(self, pieces: Sequence[bytes]) -> list[tuple[int, Sequence[bytes]]]:
        """Returns (ticks after the first frame, pieces) of each PES packet; an AAC frame is two pieces."""
        size = sum(map(len, pieces))
        if size <= _MAX_AUDIO_PES:
            return [(0, pieces)]
        ticks, rate = self._frame_ticks
        if not ticks:
            raise InvalidData(f"{size} bytes of {self._audio_codec} for one PES packet")
        fit = _MAX_AUDIO_PES // max(len(pieces[n]) + len(pieces[n + 1]) for n in range(0, len(pieces), 2))
        return [(n * ticks // rate, pieces[2 * n : 2 * (n + fit)]) for n in range(0, len(pieces) // 2, fit)]

    @staticmethod
    def _fill_pcr(pid: _Pid, last: int, time: int) -> bytes:
        steps = (time - last - 1) // _PCR_EVERY
        if steps > _MAX_PCR_FILL:
            return b""
        return b"".join([pid.pcr_only(last + n * _PCR_EVERY) for n in range(1, steps + 1)])


class Packets:
    """The transport packets of one PES packet, with their continuity counters. Only `render` makes the bytes.

    Most segments are never requested: until a request the media are not copied.
    before: packets before these.
    size: bytes of all packets.
    """

    __slots__ = ("_before", "_counter", "_pcr", "_pid", "_pieces", "_random_access", "size")

    def __init__(
        self, pid: _Pid, pieces: list[bytes | memoryview], pcr: int | None, random_access: bool, before: bytes
    ) -> None:
        self._pid = pid
        self._pieces = pieces
        self._pcr = pcr
        self._random_access = random_access
        self._before = before
        self._counter = pid.counter
        count = pid.count(sum(map(len, pieces)), pcr is not None)
        pid.counter = self._counter + count & 15
        self.size = count * 188 + len(before)

    def render(self) -> bytes:
        """Returns the bytes."""
        packets = self._pid.packets(b"".join(self._pieces), self._pcr, self._random_access, self._counter)
        return self._before + packets if self._before else packets


class _Pid:
    """Cuts PES packets into the packets of one PID. counter: of the next packet."""

    __slots__ = ("_end", "_middle", "_pcr_only", "_start", "counter")

    def __init__(self, pid: int) -> None:
        high, low = pid >> 8, pid & 0xFF
        self.counter = 0
        # _middle: header of packets with payload only. The others, by continuity counter: headers of packets with an
        # adaptation field, which start or end a PES packet or carry a PCR alone.
        self._middle = bytes((0x47, high, low, 0x10))
        self._start = [bytes((0x47, 0x40 | high, low, 0x30 | c)) for c in range(16)]
        self._end = [bytes((0x47, high, low, 0x30 | c)) for c in range(16)]
        self._pcr_only = [bytes((0x47, high, low, 0x20 | c)) for c in range(16)]

    @staticmethod
    def count(size: int, clocked: bool) -> int:
        """Returns how many packets a PES packet of `size` bytes needs. clocked: whether the first one has a PCR."""
        room = 176 if clocked else 182
        return 1 if size <= room else 1 + (size - room + 183) // 184

    def packets(self, pes: bytes, pcr: int | None, random_access: bool, counter: int) -> bytes:
        """Returns all packets of one PES packet, the first with `counter` (§2.4.3.2 to §2.4.3.5)."""
        size = len(pes)
        if pcr is None:
            field = b"\x01\x40" if random_access else b"\x01\x00"
        else:
            field = (b"\x07\x50" if random_access else b"\x07\x10") + _pcr(pcr)
        room = 184 - len(field)
        if size <= room:
            fill = room - size
            return b"".join((self._start[counter], bytes((field[0] + fill,)), field[1:], _STUFFING[:fill], pes))
        full, rest = divmod(size - room, 184)
        out: list[bytes | bytearray] = [self._start[counter], field, pes[:room]]
        end = room
        counter += 1
        while full:
            # The middle packets are joined with one header, and one slice sets their counters: ten times faster than a
            # loop over packets.
            count = min(full, _BLOCK)
            block = bytearray(self._middle).join((b"", *_CUT[count].unpack_from(pes, end)))
            first = counter & 15
            block[3::188] = _COUNTERS[first : first + count]
            out.append(block)
            counter += count
            end += 184 * count
            full -= count
        if rest:
            out.append(self._end[counter & 15])
            # An adaptation field of 0 bytes has only its length byte; a longer one has flags and stuffing.
            stuffing = 183 - rest
            out.append(b"\x00" if not stuffing else bytes((stuffing, 0)) + _STUFFING[: stuffing - 1])
            out.append(pes[end:])
        return b"".join(out)

    def pcr_only(self, pcr: int) -> bytes:
        """Returns a packet with only a PCR. It repeats the last continuity counter (§2.4.3.3)."""
        return b"".join((self._pcr_only[self.counter - 1 & 15], b"\xb7\x10", _pcr(pcr), _STUFFING[:176]))


def _pcr(base: int) -> bytes:
    """Returns a `program_clock_reference` (§2.4.3.5): 33 bits of 90 kHz, six reserved bits, an extension of 0."""
    return ((base & _MASK33) << 15 | 0x7E00).to_bytes(6, "big")


def _stamps(pts: int, dts: int) -> bytes:
    """Returns the PES header from PTS_DTS_flags to its end (§2.4.3.7), without a DTS if it equals the PTS."""
    pts &= _MASK33
    dts &= _MASK33
    # '0010' or '0011' and '0001', bits 32 to 30, marker, 29 to 15, marker, 14 to 0, marker
    shown = (pts >> 30) << 33 | (pts & 0x3FFF_8000) << 2 | (pts & 0x7FFF) << 1
    if dts == pts:
        return b"\x80\x05" + (shown | 0x21_0001_0001).to_bytes(5, "big")
    decoded = (dts >> 30) << 33 | (dts & 0x3FFF_8000) << 2 | (dts & 0x7FFF) << 1
    return b"\xc0\x0a" + ((shown | 0x31_0001_0001) << 40 | decoded | 0x11_0001_0001).to_bytes(10, "big")
