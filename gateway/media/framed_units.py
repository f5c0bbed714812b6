"""Makes access units of pictures and sound that a transport brings frame by frame, as RTP does."""

from typing import Final

from gateway.media import av1, h264, h265, vp9
from gateway.media.clock import MILLISECONDS, VIDEO_CLOCK, DecodeTimes
from gateway.media.errors import InvalidData
from gateway.media.nal_samples import NalSamples
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack

# Why no picture was made, for the owner of the channel.
NO_START: Final = "no key frame with its parameter sets came"
NONE_CAME: Final = "they are announced, but none came"
_JUMP_SECONDS: Final = 2  # a larger step between two pictures begins new decode times


class NalPictures:
    """Makes units of H.264 or H.265 from a key frame on. After a loss, it begins again at the next key frame.

    config: the record of known parameter sets; empty if only the pictures bring them. timescale: ticks a second of all
    times.
    """

    def __init__(self, codec: Codec, config: bytes = b"", timescale: int = VIDEO_CLOCK) -> None:
        self.track: MediaTrack | None = None
        self._codec, self._timescale = codec, timescale
        self._samples = NalSamples(codec, config)
        self._times: DecodeTimes | None = None
        self._last = 0
        self._begun = False

    @property
    def sps(self) -> h264.H264Sps | h265.H265Sps | None:
        """The first sequence parameter set; None if there is none that can be read."""
        return self._samples.sps

    def make_unit(
        self, payload: bytes | list[bytes], time: int, dts: int | None = None, *, flagged: bool = True
    ) -> AccessUnit | None:
        """Returns the unit of a picture; None before a key frame. Raises InvalidData.

        payload: bytes, or NAL units. time: of presentation. dts: decode time; None: it is computed. flagged: see
        `NalSamples.take`.
        """
        sample = self._samples.take(payload, flagged)
        if sample is None or not (self._begun or sample.key):
            return None
        if self.track is None or (sample.key and self.track.config != sample.config):
            self.track = MediaTrack(Kind.VIDEO, self._codec, self._timescale, sample.config)
            self._times = None
        self._begun = True
        if dts is None:
            if self._times is None or abs(time - self._last) > _JUMP_SECONDS * self._timescale:
                self._times = DecodeTimes(self._samples.reorder, max(1, self._timescale // MILLISECONDS))
            self._last = time
            dts = self._times.stamp(time)
        return AccessUnit(self.track, dts, time - dts, sample.key, 0.0, sample.payload)

    def restart(self) -> None:
        """Waits for the next key frame."""
        self._begun = False


class CodedPictures:
    """Makes access units of whole frames, from a key frame on. Frames are shown in the order in which they are sent.

    codec: AV1, VP9 or VP8. VP8 has no configuration record.
    """

    def __init__(self, codec: Codec) -> None:
        self.track: MediaTrack | None = None
        self._codec = codec
        self._begun = False

    def make_unit(self, payload: bytes, time: int, key: bool) -> AccessUnit | None:
        """Returns the unit; None before the first key frame. time: ticks. Raises InvalidData."""
        if not (self._begun or key):
            return None
        if key:
            config = _config(self._codec, payload)
            if self.track is None or config != self.track.config:
                self.track = MediaTrack(Kind.VIDEO, self._codec, VIDEO_CLOCK, config)
            self._begun = True
        assert self.track is not None, "set by the first key frame"
        return AccessUnit(self.track, time, 0, key, 0.0, payload)

    def restart(self) -> None:
        """Waits for the next key frame."""
        self._begun = False


class FramedSound:
    """Makes units of sound frames, which need no change."""

    def __init__(self, track: MediaTrack) -> None:
        self.track: MediaTrack | None = track

    def make_unit(self, payload: bytes, time: int) -> AccessUnit | None:
        """Returns the unit of a frame. time: in ticks of the track."""
        assert self.track is not None, "set at the beginning"
        return AccessUnit(self.track, time, 0, True, 0.0, payload)


def _config(codec: Codec, key_frame: bytes) -> bytes:
    """Returns the configuration record of a key frame; b"" for VP8. Raises InvalidData."""
    if codec is not Codec.AV1:
        return vp9.vpcc_of(key_frame).record if codec is Codec.VP9 else b""
    if not (record := av1.record_in(key_frame)):
        raise InvalidData("an AV1 key frame without a sequence header")
    return record
