"""CodedPictures: AV1, VP9 and VP8 of a WHIP push as access units, with configuration records from the key frames."""

from __future__ import annotations

from gateway.inputs.pull.camera_tracks import TICKS
from gateway.media import av1, vp9
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.media.unit import AccessUnit


class CodedPictures:
    """Makes access units of whole frames, from a key frame on. Frames are shown in the order in which they are sent.

    codec: AV1, VP9 or VP8, which has no configuration.
    """

    def __init__(self, codec: Codec) -> None:
        self.track: MediaTrack | None = None
        self._codec = codec
        self._begun = False

    def unit(self, payload: bytes, time: int, key: bool) -> AccessUnit | None:
        """Returns the unit; None before the first key frame. time: milliseconds. Raises InvalidData."""
        if not (self._begun or key):
            return None
        if key:
            config = _config(self._codec, payload)
            if self.track is None or config != self.track.config:
                self.track = MediaTrack(Kind.VIDEO, self._codec, TICKS, config)
            self._begun = True
        assert self.track is not None, "set by the first key frame"
        return AccessUnit(self.track, time, 0, key, 0.0, payload)

    def restart(self) -> None:
        """Waits for the next key frame."""
        self._begun = False


def _config(codec: Codec, key_frame: bytes) -> bytes:
    """Returns the record for a key frame. Raises InvalidData."""
    if codec is not Codec.AV1:
        return vp9.vpcc_of(key_frame).record if codec is Codec.VP9 else b""
    for kind, start, _, end in av1.obus(key_frame):
        if kind == av1.SEQUENCE_HEADER:
            return av1.build_av1c(key_frame[start:end])
    raise InvalidData("an AV1 key frame without a sequence header")
