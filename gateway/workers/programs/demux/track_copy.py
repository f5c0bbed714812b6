"""Copies the packets of one libav stream as access units in ISO-BMFF form; converts sound that cannot be carried."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final, TypeAlias

from gateway.media import aac, codecs
from gateway.media.clock import VIDEO_CLOCK, DecodeTimes
from gateway.media.errors import InvalidData
from gateway.media.nal_samples import NalSamples
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack
from gateway.workers.programs.audio_codec import AudioDecoder, AudioEncoder, SoundConverter
from gateway.workers.programs.vod.media_file import new_config, ticks
from gateway.workers.sound_protocol import BITRATES

_FASTER: Final = 8  # times, at which hidden pictures are shown; each still has a millisecond of its own
_MAX_HIDDEN: Final = 300  # pictures; more do not precede a shown one of the same group of pictures
# Codecs that are copied, by libav's names.
_VIDEO: Final = {"h264": Codec.H264, "hevc": Codec.H265, "av1": Codec.AV1, "vp9": Codec.VP9, "vp8": Codec.VP8}
_AUDIO: Final = {str(codec): codec for codec in (Codec.AAC, Codec.MP3, Codec.OPUS, Codec.FLAC, Codec.AC3, Codec.EAC3)}
_USUAL_AAC: Final = (None, "LC", "HE-AAC", "HE-AACv2")  # libav's names of the profiles that browsers play


class NotCarried(Exception):
    """A track cannot be carried. The message names its codec."""


def copy_of(stream: Any, *, for_fragments: bool) -> TrackCopy:
    """Returns an object that copies or converts the packets of a libav stream. Raises NotCarried.

    for_fragments: see DemuxRequest.
    """
    name = str(stream.codec_context.codec.canonical_name)
    try:
        if stream.type == "video":
            codec = _VIDEO.get(name)
            if codec is None:
                raise NotCarried(f"video codec {name}")
            return PictureCopy(codec, stream)
        is_refused = for_fragments and name in codecs.SILENT_IN_FRAGMENTS
        if name == "aac":
            config = bytes(stream.codec_context.extradata or b"")
            is_refused = aac.is_unusual(config) if config else stream.codec_context.profile not in _USUAL_AAC
        codec = None if is_refused else _AUDIO.get(name)
        return SoundConversion(stream) if codec is None else SoundCopy(codec, stream)
    except InvalidData as error:
        raise NotCarried(f"{name}: {error}") from error


class PictureCopy:
    """Copies pictures, from a key frame on. Only the NAL framing changes. Raises InvalidData.

    Pictures that an edit list hides at the beginning are needed to decode others. They last 1/8 of their time. Later
    ones are left out, unless a shown picture follows: that may need them.
    """

    def __init__(self, codec: Codec, stream: Any) -> None:
        self.track: MediaTrack | None = None
        self._codec = codec
        self._samples: NalSamples | None = None
        self._times: DecodeTimes | None = None
        self._begun = self._hides = self._shows = False
        self._hidden: list[AccessUnit] = []  # since the last shown picture, or the last key frame
        self._set_config(bytes(stream.codec_context.extradata or b""))

    def _set_config(self, config: bytes) -> None:
        if self._codec in (Codec.H264, Codec.H265):
            # Transport streams repeat the parameter sets in the pictures. ASF and NUT have them only here.
            has_start_codes = config.startswith((b"\x00\x00\x00\x01", b"\x00\x00\x01"))
            self._samples = NalSamples(self._codec, b"" if has_start_codes else config)
            if has_start_codes:
                with suppress(InvalidData):  # those of the pictures may be whole
                    self._samples.take(config, False, adopt_sets=True)
        else:
            self.track = MediaTrack(Kind.VIDEO, self._codec, VIDEO_CLOCK, codecs.checked_config(self._codec, config))

    def take(self, packet: Any, wall: float) -> list[AccessUnit]:
        if config := new_config(packet):
            self._set_config(config)
        payload, key = bytes(packet), bool(packet.is_keyframe)
        if self._samples is not None:
            sample = self._samples.take(payload, key)
            if sample is None:
                return []
            payload, key = sample.payload, sample.key
            if key and (self.track is None or self.track.config != sample.config):
                self.track = MediaTrack(Kind.VIDEO, self._codec, VIDEO_CLOCK, sample.config)
        if self.track is None or not (self._begun or key) or not payload:
            return []
        self._begun = True
        pts, dts = ticks(packet.pts, packet.time_base), ticks(packet.dts, packet.time_base)
        if pts is None:
            pts = dts
        if pts is None:
            return []
        if dts is None:  # Matroska stores no decode times
            if self._times is None:
                depth = self._samples.reorder if self._samples is not None else 0
                self._times = DecodeTimes(depth, VIDEO_CLOCK // 1000)
            dts = self._times.stamp(pts)
        # The edit list shows what begins at 0.
        self._hides = self._hides or (packet.is_discard and dts < 0)
        if self._hides:
            pts, dts = (at if at >= 0 else at // _FASTER for at in (pts, dts))
        unit = AccessUnit(self.track, dts, pts - dts, key, wall, payload)
        if packet.is_discard and self._shows:
            self._hidden = [] if key or len(self._hidden) >= _MAX_HIDDEN else self._hidden
            self._hidden.append(unit)
            return []
        hidden, self._hidden, self._shows = self._hidden, [], not packet.is_discard
        return [*hidden, unit]


class SoundCopy:
    """Copies frames of sound; removes ADTS headers."""

    def __init__(self, codec: Codec, stream: Any) -> None:
        """Raises InvalidData."""
        config = bytes(stream.codec_context.extradata or b"")
        self.track: MediaTrack | None = None
        self._codec = codec
        self._has_headers = codec is Codec.AAC and not config
        if not self._has_headers:
            self._set_config(config)

    def _set_config(self, config: bytes) -> None:
        needed = _flac_blocks(self._codec, config) if self._codec in (Codec.AAC, Codec.OPUS, Codec.FLAC) else b""
        self.track = MediaTrack(Kind.AUDIO, self._codec, VIDEO_CLOCK, codecs.checked_config(self._codec, needed))

    def take(self, packet: Any, wall: float) -> list[AccessUnit]:
        if not self._has_headers and (config := new_config(packet)):
            self._set_config(config)
        payload, at = bytes(packet), ticks(packet.pts, packet.time_base)
        if self._has_headers:
            config, size = aac.split_adts(payload)
            payload = payload[size:]
            if self.track is None or self.track.config != config:
                self.track = MediaTrack(Kind.AUDIO, Codec.AAC, VIDEO_CLOCK, config)
        if self.track is None or at is None or not payload:
            return []
        return [AccessUnit(self.track, at, 0, True, wall, payload)]


class SoundConversion:
    """Encodes sound of any other codec as AAC. Raises CodecFailed."""

    def __init__(self, stream: Any) -> None:
        context = stream.codec_context
        channels = 1 if context.channels == 1 else 2
        source = MediaTrack(Kind.AUDIO, Codec.AAC, VIDEO_CLOCK, b"")  # only its timescale is used
        encoder = AudioEncoder(BITRATES[channels], channels, VIDEO_CLOCK)
        self.track: MediaTrack | None = encoder.track
        self._source = source
        self._converter = SoundConverter(AudioDecoder(source, channels, context), encoder)

    def take(self, packet: Any, wall: float) -> list[AccessUnit]:
        at = ticks(packet.pts, packet.time_base)
        if at is None:
            return []
        return self._converter.convert(AccessUnit(self._source, at, 0, True, wall, bytes(packet)))


# Turns the packets of one track into units: `take` raises InvalidData for a broken packet. `track` is that of the next
# units; None while unknown.
TrackCopy: TypeAlias = PictureCopy | SoundCopy | SoundConversion


def _flac_blocks(codec: Codec, config: bytes) -> bytes:
    """Returns a configuration in the form of `MediaTrack`. libav has only the contents of FLAC's STREAMINFO block."""
    if codec is Codec.FLAC and len(config) == 34:
        return b"\x80\x00\x00\x22" + config
    return config
