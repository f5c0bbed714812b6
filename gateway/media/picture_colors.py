"""Reads the colors of a video track: from its configuration, its key frame, and what its publisher declares."""

import contextlib
from dataclasses import replace

from gateway.lib.bit_reader import BitReader
from gateway.media import av1, h264, h265, nal
from gateway.media.codecs import sps_of, vpcc
from gateway.media.colors import NO_COLORS, Colors, VideoSignal, mastering_display
from gateway.media.errors import InvalidData
from gateway.media.nal_codec import NAL_CODECS
from gateway.media.nal_samples import sei_messages
from gateway.media.track import Codec, MediaTrack

# SEI messages: mastering display, content light level, and the transfer for decoders that know it. They have the same
# numbers and content in ITU-T H.264 §D.1 and H.265 §D.2.
_MASTERING, _LIGHT, _OTHER_TRANSFER = 137, 144, 147
_MASTERING_BYTES, _LIGHT_BYTES = 24, 4
_AV1_LIGHT, _AV1_MASTERING = 1, 2  # metadata_type, AV1 §6.7.1


def colors_of(track: MediaTrack, payload: bytes | None = None) -> Colors:
    """Returns the colors of a track. payload: a key frame; None: it is unknown. Raises InvalidData.

    The colors in the pictures count more than those that the publisher declares.
    """
    match track.codec:
        case Codec.H264 | Codec.H265:
            return _of_nal(track, payload).or_else(track.colors)
        case Codec.AV1:
            return _of_av1(track, payload).or_else(track.colors)
        case Codec.VP9 if track.config or payload is not None:
            record = vpcc(track, payload).record
            return Colors(VideoSignal(bool(record[2] & 1), *record[3:6])).or_else(track.colors)
    return track.colors


def _of_nal(track: MediaTrack, payload: bytes | None) -> Colors:
    codec, sps = NAL_CODECS[track.codec], sps_of(track)
    record = codec.parse_record(track.config)
    wanted, header = (h265.SEI, 2) if track.codec is Codec.H265 else (h264.SEI, 1)
    units: list[bytes | memoryview] = [*getattr(record, "sei", ())]
    with contextlib.suppress(InvalidData):  # a damaged picture
        units += [u for u in nal.views(payload or b"", record.length_size) if codec.type_of(u) == wanted]
    found = {kind: content for unit in units for kind, content in sei_messages(unit[header:])}
    colors = NO_COLORS if sps is None else Colors(sps.signal)
    if other := found.get(_OTHER_TRANSFER):
        # Decoders use this transfer instead of that of the VUI, which is for receivers that know only SDR.
        colors = replace(colors, signal=replace(colors.signal, transfer=other[0]))
    return replace(
        colors,
        mastering=_of_size(found.get(_MASTERING), _MASTERING_BYTES),
        light=_of_size(found.get(_LIGHT), _LIGHT_BYTES),
    )


def _of_av1(track: MediaTrack, payload: bytes | None) -> Colors:
    colors = NO_COLORS
    parts = [(track.config[4:], obu) for obu in av1.obus(av1.parse_av1c(track.config).obus)]
    with contextlib.suppress(InvalidData):  # a damaged picture
        parts += [(payload or b"", obu) for obu in av1.obus(payload or b"")]
    for data, (kind, _, start, end) in parts:
        if kind == av1.SEQUENCE_HEADER:
            colors = replace(colors, signal=av1.parse_sequence_header(data[start:end]).signal)
        elif kind == av1.METADATA:
            metadata, at = av1.read_leb128(data, start)
            content = data[at:end]
            if metadata == _AV1_LIGHT:
                colors = replace(colors, light=_of_size(content[:_LIGHT_BYTES], _LIGHT_BYTES))
            elif metadata == _AV1_MASTERING and len(content) >= _MASTERING_BYTES:
                colors = replace(colors, mastering=_av1_mastering(content))
    return colors


def _av1_mastering(content: bytes) -> bytes:
    """Returns `metadata_hdr_mdcv` (AV1 §6.7.4) as in the box `mdcv`, which has other units."""
    bits = BitReader(content, what="AV1 metadata", error=InvalidData)
    points = [(bits.u(16) / (1 << 16), bits.u(16) / (1 << 16)) for _ in range(4)]
    return mastering_display(points[:3], points[3], bits.u(32) / (1 << 8), bits.u(32) / (1 << 14))


def _of_size(content: bytes | None, size: int) -> bytes:
    return content if content is not None and len(content) == size else b""
