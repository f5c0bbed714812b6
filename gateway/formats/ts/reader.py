"""Reads a segment that Millrace wrote as access units, with the decoder configuration of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from gateway.formats.ts.demuxer import Pes, TsDemuxer, unwrapped
from gateway.media import aac, ac3, h264, h265, mp3, nal
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.media.unit import AccessUnit

CLOCK: Final = 90_000  # ticks a second of all times
_MAX_FRAMES: Final = 4_096  # audio frames of one PES packet


class TsReader:
    """Returns the units of one segment. Times continue beyond 33 bits.

    near: a time near the segment's first one, for a segment that continues another one; None: times begin as written.
    has_video: whether the segment announces video; known after the first packets.
    A unit's track has the parameter sets of the last key frame. Its `wall` is 0. Pictures before a key frame are left
    out. Raises InvalidData for all that Millrace does not write.
    """

    def __init__(self, near: int | None = None) -> None:
        self._demuxer = TsDemuxer()
        self._near = near
        self._picture_converter: _PictureConverter | None = None
        self._audio_track: MediaTrack | None = None

    @property
    def has_video(self) -> bool:
        return self._demuxer.video is not None

    def receive(self, data: bytes) -> list[AccessUnit]:
        """Reads bytes, cut anywhere. Returns the units that they complete, in decode order of each track."""
        return [unit for pes in self._demuxer.receive(data) for unit in self._units(pes)]

    def jump(self) -> None:
        """Continues at another packet, later in the segment."""
        self._demuxer.jump()

    def finish(self) -> list[AccessUnit]:
        """Returns the last units, after the end of the segment."""
        return [unit for pes in self._demuxer.finish() for unit in self._units(pes)]

    def _units(self, pes: Pes) -> Iterator[AccessUnit]:
        near = self._near
        dts = pes.dts if near is None else unwrapped(pes.dts, near)
        self._near = dts
        cts = unwrapped(pes.pts, dts) - dts
        if not pes.video:
            assert self._demuxer.audio is not None  # else the demuxer refuses its PID
            yield from self._audio(self._demuxer.audio, dts + cts, pes.payload)
            return
        if self._picture_converter is None:
            assert self._demuxer.video is not None  # as above
            self._picture_converter = _PictureConverter(self._demuxer.video)
        track, payload = self._picture_converter.make_sample(pes.payload, pes.key)
        if track is not None:
            yield AccessUnit(track, dts, cts, pes.key, 0.0, payload)

    def _audio(self, codec: Codec, time: int, payload: bytes) -> Iterator[AccessUnit]:
        """Yields the frames of a PES packet. They are as long as their headers say."""
        at = samples = count = 0
        while at < len(payload):
            count += 1
            start, end, config, rate, length = _frame(codec, payload, at)
            if not at < end <= len(payload) or count > _MAX_FRAMES:
                raise InvalidData(f"MPEG-TS: an {codec} frame that exceeds its PES packet")
            if self._audio_track is None or self._audio_track.config != config:
                self._audio_track = MediaTrack(Kind.AUDIO, codec, CLOCK, config)
            yield AccessUnit(self._audio_track, time + samples * CLOCK // rate, 0, True, 0.0, payload[start:end])
            at, samples = end, samples + length


class _PictureConverter:
    """Converts pictures to length-prefixed samples without delimiters and without the sets of their configuration."""

    def __init__(self, codec: Codec) -> None:
        self._h264 = codec is Codec.H264
        self._track: MediaTrack | None = None
        self._codec = codec
        self._sets: dict[int, tuple[bytes, ...]] = {}  # by NAL unit type
        self._types = (h264.SPS, h264.PPS) if self._h264 else (h265.VPS, h265.SPS, h265.PPS)

    def make_sample(self, payload: bytes, key: bool) -> tuple[MediaTrack | None, bytes]:
        """Returns the sample and its track; None before the first key frame."""
        delimiter = h264.AUD if self._h264 else h265.AUD
        units = [(unit[0] & 0x1F if self._h264 else unit[0] >> 1 & 0x3F, unit) for unit in nal.split_annexb(payload)]
        if key:
            self._adopt(units)
        known = {unit for sets in self._sets.values() for unit in sets}
        return self._track, nal.join(u for kind, u in units if kind != delimiter and u not in known)

    def _adopt(self, units: list[tuple[int, bytes]]) -> None:
        sets = {kind: tuple(dict.fromkeys(u for k, u in units if k == kind)) for kind in self._types}
        sets = {kind: found or self._sets.get(kind, ()) for kind, found in sets.items()}
        if sets == self._sets:
            return
        lists = [list(sets[kind]) for kind in self._types]
        config = h264.build_avcc(lists[0], lists[1]) if self._h264 else h265.build_hvcc(lists[0], lists[1], lists[2])
        self._sets = sets
        if self._track is None:
            self._track = MediaTrack(Kind.VIDEO, self._codec, CLOCK, config)
        elif self._track.config != config:
            self._track = replace(self._track, config=config)


def _frame(codec: Codec, data: bytes, at: int) -> tuple[int, int, bytes, int, int]:
    """Returns start and end of the frame at `at`, its configuration, its sample rate, and its samples."""
    match codec:
        case Codec.AAC:
            config, size = aac.parse_adts(data[at : at + 7])
            asc = aac.parse_asc(config)
            return at + 7, at + size, config, asc.core_rate, asc.core_samples
        case Codec.MP3:
            header = mp3.parse_header(data[at : at + 4])
            return at, at + mp3.frame_bytes(data[at : at + 4]), b"", header.rate, header.samples
        case _:
            frame = ac3.parse_frame(data[at : at + 16])
            return at, at + ac3.frame_bytes(data, at), b"", frame.rate, frame.samples
