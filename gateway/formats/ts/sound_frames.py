"""Divides the sound of PES packets into frames, by the frames' headers."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from gateway.formats.ts.packets import TsCounters
from gateway.formats.ts.program_tables import G711, S302M, StreamEntry
from gateway.media import aac, ac3, latm, mp3, opus
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData, UnsupportedCodec
from gateway.media.track import AccessUnit, Codec, ForeignSound, Kind, MediaTrack

MP2: Final = "mp2"
_MAX_TRIES: Final = 16  # sync bytes of a PES packet that begin no frame; then the rest of it is dropped
_G711_RATE: Final = 8_000  # Hz
_MAX_FRAME: Final = 1 << 16  # bytes; no codec has longer ones
_MAX_FRAMES: Final = 1_024  # of a PES packet; all of them are read in one turn of the event loop


class SoundFrame(NamedTuple):
    """One frame. start, end: of its payload in the data. config: of its track. rate: Hz. samples: of each channel."""

    start: int
    end: int
    config: bytes
    rate: int
    samples: int


def read_frame(codec: Codec, data: bytes, at: int) -> SoundFrame:
    """Reads the header of the frame at `at`, whose end may be beyond the data. Raises InvalidData."""
    match codec:
        case Codec.AAC:
            config, head, size = aac.parse_adts(data[at : at + 7])
            asc = aac.parse_asc(config)
            return SoundFrame(at + head, at + size, config, asc.core_rate, asc.core_samples)
        case Codec.MP3:
            header = mp3.parse_header(data[at : at + 4])
            return SoundFrame(at, at + mp3.frame_bytes(data[at : at + 4]), b"", header.rate, header.samples)
        case _:
            frame = ac3.parse_frame(data[at : at + 16])
            return SoundFrame(at, at + ac3.frame_bytes(data, at), b"", frame.rate, frame.samples)


def read_mpeg_frame(data: bytes, at: int) -> SoundFrame:
    """Reads the header of a frame of Layer II or III, as `read_frame` does."""
    head = data[at : at + 4]
    layer = mp3.layer_of(head)
    if layer < mp3.LAYER_2:
        raise UnsupportedCodec("MPEG audio of Layer I")
    header = mp3.parse_header(head, layer)
    return SoundFrame(at, at + mp3.frame_bytes(head, layer), b"", header.rate, header.samples)


def read_loas_frame(data: bytes, at: int) -> SoundFrame:
    """Reads the size of the LATM frame at `at`, as `read_frame` does. Its content tells the rest."""
    return SoundFrame(at + 3, at + latm.loas_bytes(data, at), b"", 0, 0)


class _Framing:
    """How frames of one stream are found. `read` gives the frame at a position, `take` its payloads.

    sync: the bytes that a frame begins with. head: bytes of the largest header. codec: the name of the codec.
    """

    sync = b"\xff"
    head = 9

    def __init__(self, codec: str) -> None:
        self.codec = codec

    def read(self, data: bytes, at: int) -> SoundFrame:
        return read_frame(Codec(self.codec), data, at)

    def take(self, data: bytes, frame: SoundFrame) -> tuple[SoundFrame, list[bytes]]:
        """Returns the frame, and its payloads, which have the same number of samples."""
        return frame, [data[frame.start : frame.end]]

    def foreign_format(self, payload: bytes) -> ForeignSound | None:
        """Returns the format of a payload if no track can have its codec."""
        return None


class _MpegAudio(_Framing):
    """Layer II or III, as the first frame says."""

    head = 4

    def read(self, data: bytes, at: int) -> SoundFrame:
        return read_mpeg_frame(data, at)

    def take(self, data: bytes, frame: SoundFrame) -> tuple[SoundFrame, list[bytes]]:
        self.codec = Codec.MP3 if mp3.layer_of(data[frame.start : frame.end]) == mp3.LAYER_3 else MP2
        return super().take(data, frame)

    def foreign_format(self, payload: bytes) -> ForeignSound | None:
        if self.codec != MP2:
            return None
        header = mp3.parse_header(payload, mp3.LAYER_2)
        return ForeignSound(MP2, header.rate, header.channels)


class _S302m(_Framing):
    """PCM in packets of SMPTE 302M, one or more in a PES packet. They have no sync byte."""

    sync = b""
    head = 4

    def read(self, data: bytes, at: int) -> SoundFrame:
        # §5.5: audio_packet_size, number_channels, channel_identification, bits_per_sample, alignment_bits.
        head = int.from_bytes(data[at : at + 4], "big")
        size, bits = head >> 16, 16 + 4 * (head >> 4 & 3)
        if bits > 24 or not size:
            raise InvalidData("no header of SMPTE 302M")
        samples = size * 8 // (_s302m_channels(data[at : at + 4]) * (bits + 4))
        return SoundFrame(at, at + 4 + size, b"", opus.RATE, samples)

    def foreign_format(self, payload: bytes) -> ForeignSound:
        return ForeignSound(S302M, opus.RATE, _s302m_channels(payload))


class _G711(_Framing):
    """Samples of a byte. A frame is all that a PES packet has."""

    sync = b""
    head = 1

    def read(self, data: bytes, at: int) -> SoundFrame:
        return SoundFrame(at, len(data), b"", _G711_RATE, len(data) - at)

    def foreign_format(self, payload: bytes) -> ForeignSound:
        return ForeignSound(self.codec, _G711_RATE, 1)


def _s302m_channels(packet: bytes) -> int:
    return 2 * (1 + (packet[2] >> 6))


class _Ac3(_Framing):
    sync = b"\x0b\x77"
    head = 16


class _Latm(_Framing):
    sync = b"\x56"
    head = 3

    def __init__(self, codec: str) -> None:
        super().__init__(codec)
        self._reader = latm.LatmReader()

    def read(self, data: bytes, at: int) -> SoundFrame:
        return read_loas_frame(data, at)

    def take(self, data: bytes, frame: SoundFrame) -> tuple[SoundFrame, list[bytes]]:
        payloads = self._reader.read(data[frame.start : frame.end])
        if not payloads:
            return frame, []
        asc = aac.parse_asc(self._reader.config)
        return SoundFrame(frame.start, frame.end, self._reader.config, asc.core_rate, asc.core_samples), payloads


class _Opus(_Framing):
    """Opus in MPEG-2 TS: each packet has a control header of 16 bits, its size, and optional trims."""

    sync = b"\x7f"
    head = 2

    def __init__(self, codec: str, config: bytes) -> None:
        super().__init__(codec)
        self._config = config

    def read(self, data: bytes, at: int) -> SoundFrame:
        control = int.from_bytes(data[at : at + 2], "big")
        if control >> 5 != 0x3FF:
            raise InvalidData("no Opus control header")
        begin, size = at + 2, 0
        while data[begin : begin + 1] == b"\xff" and size < _MAX_FRAME:
            begin, size = begin + 1, size + 255
        size += data[begin] if begin < len(data) else 0
        begin += 1 + 2 * (control >> 4 & 1) + 2 * (control >> 3 & 1)  # start_trim and end_trim
        if control & 4:  # control_extension
            begin += 1 + (data[begin] if begin < len(data) else 0)
        return SoundFrame(begin, begin + size, self._config, opus.RATE, 0)

    def take(self, data: bytes, frame: SoundFrame) -> tuple[SoundFrame, list[bytes]]:
        payload = data[frame.start : frame.end]
        return frame._replace(samples=opus.packet_samples(payload)), [payload]


def _framing(entry: StreamEntry) -> _Framing:
    if entry.codec == S302M:
        return _S302m(entry.codec)
    if entry.codec in G711.values():
        return _G711(entry.codec)
    match entry.stream_type, entry.codec:
        case 0x11, _:
            return _Latm(entry.codec)
        case _, Codec.OPUS:
            return _Opus(entry.codec, entry.config)
        case _, Codec.AC3 | Codec.EAC3:
            return _Ac3(entry.codec)
        case _, Codec.AAC:
            return _Framing(entry.codec)
    return _MpegAudio(entry.codec)


class SoundTrack:
    """Makes units of the frames of one stream. A frame may continue in the next PES packet.

    The time of a PES packet is that of the first frame that begins in it (§2.4.3.7). Later frames have the time of the
    samples before them. Frames without any time are dropped. After damaged bytes, it continues at the next frame. What
    follows _MAX_FRAMES frames of a PES packet is dropped.

    name: the codec for users, with a reason if it cannot be read. format: of sound for a worker; otherwise None.
    """

    def __init__(self, entry: StreamEntry, counters: TsCounters) -> None:
        self.name = entry.codec
        self.format: ForeignSound | None = None
        self._framing = _framing(entry)
        self._counters = counters
        self._track: MediaTrack | None = None
        self._rest = b""
        self._synced = False
        self._time: int | None = None  # of the first of the frames whose samples are counted
        self._rate, self._samples = 1, 0

    def take(self, payload: bytes, pts: int | None, dts: int | None) -> Iterator[AccessUnit]:
        """Yields the units of a PES packet. pts: ticks of 90 kHz."""
        data, begin = self._rest + payload, len(self._rest)
        at, count, tries, framing = 0, 0, _MAX_TRIES, self._framing
        while len(data) - at >= framing.head:
            if count == _MAX_FRAMES:
                self._counters.damaged += 1
                self._synced, at = False, len(data)
                break
            try:
                frame = self._read(data, at)
                if frame.end > len(data):
                    break
                if at >= begin and pts is not None:
                    self._time, self._samples, pts = pts, 0, None
                frame, payloads = framing.take(data, frame)
                if payloads:
                    yield from self._units(frame, payloads)
                else:
                    self._time = None  # before the first configuration of LATM: how long the frame lasts is unknown
                at, count, self._synced = frame.end, count + 1, True
            except InvalidData as error:
                if self._track is None and isinstance(error, UnsupportedCodec):
                    self.name = f"{self._framing.codec}: {error}"
                self._counters.damaged += self._synced
                self._synced = False
                tries -= 1
                if not tries:
                    at = len(data)
                    break
                found = data.find(framing.sync, at + 1)
                at = found if found >= 0 else len(data) - len(framing.sync) + 1
        self._rest = data[at:]
        if self._rest and at >= begin and pts is not None:
            self._time, self._samples = pts, 0  # of the frame that the next PES packet completes

    def flush(self) -> Iterator[AccessUnit]:
        """Yields nothing: each frame was complete."""
        return iter(())

    def restart(self) -> None:
        """Continues with the next PES packet that has a time: bytes are missing."""
        self._rest, self._synced, self._time = b"", False, None

    def _read(self, data: bytes, at: int) -> SoundFrame:
        """Reads a header. While no frame is known, another one must follow, because the sync bytes occur in media."""
        frame = self._framing.read(data, at)
        if not at < frame.end <= at + _MAX_FRAME:
            raise InvalidData(f"a frame of {frame.end - at} bytes")
        if not self._synced and frame.end < len(data) and not data.startswith(self._framing.sync, frame.end):
            raise InvalidData("a frame that no other one follows")
        return frame

    def _units(self, frame: SoundFrame, payloads: list[bytes]) -> Iterator[AccessUnit]:
        codec = self._framing.codec
        if self._track is None or self._track.config != frame.config or self.name != codec:
            # Sound for a worker has no codec of a track. `format` tells it, so the track's codec is not used.
            of_track = Codec.MP3 if self._framing.foreign_format(payloads[0]) is not None else Codec(codec)
            self._track = MediaTrack(Kind.AUDIO, of_track, VIDEO_CLOCK, frame.config)
            self.name = codec
        for payload in payloads:
            if frame.rate != self._rate and self._time is not None:
                self._time += self._samples * VIDEO_CLOCK // self._rate
                self._rate, self._samples = frame.rate, 0
            self.format = self._framing.foreign_format(payload)
            if self._time is not None:
                time = self._time + self._samples * VIDEO_CLOCK // self._rate
                yield AccessUnit(self._track, time, 0, True, 0.0, payload)
            self._samples += frame.samples
