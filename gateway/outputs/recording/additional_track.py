"""An additional track of a recording: holds its units until the default tracks have reached their time."""

from collections import deque
from typing import Final

from gateway.live.pushed_tracks import PushedTrack
from gateway.media import codecs
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Kind
from gateway.outputs.recording.mp4_piece import AdditionalMedia, AdditionalSample, Mp4Piece
from gateway.packaging.timing import AudioTiming, VideoTiming

_ROUNDING: Final = VIDEO_CLOCK // 200  # like that of the cutter
_MAX_HELD: Final = 500  # units of a track that is ahead of the default tracks


class AdditionalTrack:
    """Distributes the units of one additional track to pieces.

    Pictures change to the next piece at the first key frame at or after that piece's first picture. Sound changes at
    the time of that picture.
    `dropped` counts units without a piece.

    unit: the first one. Raises InvalidData if its configuration is invalid.
    """

    def __init__(self, pushed: PushedTrack, unit: AccessUnit) -> None:
        track = self.track = unit.track
        self.dropped = 0
        self._sound: AudioTiming | None = None
        self._timing: VideoTiming | None = None
        scale = VIDEO_CLOCK
        if track.kind is Kind.AUDIO:
            self._sound = AudioTiming(track, unit.payload)
            scale = self._sound.rate
        else:
            self._timing = VideoTiming(track.timescale, codecs.frame_rate(track))
        info = pushed.info
        self.media = AdditionalMedia(pushed.name, track, scale, info.language, info.label)
        self._held: deque[tuple[int, int, AdditionalSample]] = deque()  # decode and presentation time, 90 kHz
        self._piece: Mp4Piece | None = None

    def hold(self, unit: AccessUnit) -> None:
        """Holds a unit until `write`. Above _MAX_HELD units the oldest one is dropped. Hot path."""
        try:
            if self._sound is not None:
                length = self._sound.length(unit)
                ticks = self._sound.clock.stamp(unit.dts, length)
                time = shown = ticks * VIDEO_CLOCK // self.media.timescale
                sample = AdditionalSample(ticks, 0, length, True, unit.payload)
            else:
                assert self._timing is not None
                time, cts = self._timing.stamp(unit.dts, unit.cts)
                shown = time + cts
                sample = AdditionalSample(time, cts, 0, unit.key, unit.payload)
        except InvalidData:
            self.dropped += 1
            return
        self._held.append((time, shown, sample))
        if len(self._held) > _MAX_HELD:
            self._held.popleft()
            self.dropped += 1

    def write(self, until: int | None, cut: int, previous: Mp4Piece | None, current: Mp4Piece | None) -> None:
        """Writes the held units up to `until` (90 kHz); None: all of them.

        cut: presentation time of the first picture of `current`, 90 kHz.
        """
        held, is_video = self._held, self._timing is not None
        while held and (until is None or held[0][0] <= until):
            _, shown, sample = held.popleft()
            later = shown >= cut - _ROUNDING
            if not is_video:
                self._piece = current if later or previous is None else previous
            elif sample.key and later:
                self._piece = current
            piece = self._piece
            if piece is None or piece.closed:
                self.dropped += 1
            else:
                piece.add_additional(self.media, sample)
