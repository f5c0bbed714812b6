"""Codec configurations and frames: any bytes are read or refused with InvalidData, and what is read is possible."""

from __future__ import annotations

from dataclasses import replace

from gateway.media import aac, ac3, av1, codecs, flac, h264, h264_slices, h265, mp3, nal, opus, vp9
from gateway.media.errors import InvalidData
from gateway.media.reordering import declared_reordering
from gateway.media.track import Codec, Kind, MediaTrack
from tests.fuzz import captures
from tests.support.builders import AUDIO, AVCC

_SETS = h264_slices.coding_parameters(AVCC[:-7] + bytes.fromhex("000668ebe3cb22c0"))
_OWN = replace(_SETS, pps=replace(_SETS.pps, weighted=False))
_REWRITER = h264_slices.SliceRewriter(_OWN, _SETS)
_PARSERS = (
    h264.parse_avcc, h264.codec_string,
    lambda d: h264.parse_sps(b"\x67" + d), lambda d: h264.parse_sps(b"\x67\x64" + d),
    lambda d: h264_slices.parse_pps(b"\x68" + d), lambda d: _REWRITER.rewrite(d),
    lambda d: _REWRITER.rewrite((len(d) + 1).to_bytes(4, "big") + b"\x65" + d),
    lambda d: _REWRITER.rewrite((len(d) + 1).to_bytes(4, "big") + b"\x41" + d),
    h265.parse_hvcc, h265.codec_string, lambda d: h265.parse_sps(b"\x42\x01" + d),
    av1.parse_av1c, av1.sample, av1.sequence_header, av1.parse_sequence_header, av1.build_av1c,
    vp9.parse_vpcc, vp9.frame_size, vp9.vpcc_of, vp9.vp8_frame_size,
    aac.parse_asc, opus.parse_head, opus.packet_samples, mp3.parse_header, flac.parse_config, flac.frame_samples,
    ac3.parse_frame, lambda d: ac3.parse_frame(b"\x0b\x77" + d),
    nal.split, nal.split_annexb, nal.from_annexb, nal.unescape,
    lambda d: nal.split(d, 1), lambda d: nal.split(d, 2), lambda d: nal.split(d, 3),
)  # fmt: skip


def seeds() -> list[bytes]:
    """Configurations and first frames of real publishers, without the FLV bytes in front of them."""
    bodies = [m.payload for m in captures.media(400) if m.type_id in (8, 9)]
    return [AVCC, AUDIO.config, AVCC[8:40], *(body[at:] for body in bodies for at in (2, 5))]


def fuzz(data: bytes) -> None:
    """Oracle: InvalidData or a result; pictures and rates within their bounds; descriptions never raise."""
    for parse in _PARSERS:
        try:
            parse(data)
        except InvalidData:
            continue
    if not data:
        return
    all_codecs = list(Codec)
    codec = all_codecs[data[0] % len(all_codecs)]
    cut = 1 + len(data) // 2
    assert declared_reordering(MediaTrack(Kind.VIDEO, codec, 1000, data[1:])) in (True, False, None)
    for kind in Kind:
        found = codecs.describe(MediaTrack(kind, codec, 1000, data[1:cut]), data[cut:])
        for name, most in (("width", 1 << 16), ("height", 1 << 16), ("sampleRate", 1 << 20), ("channels", 256)):
            value = found.get(name)
            assert value is None or 0 <= value <= most, found
