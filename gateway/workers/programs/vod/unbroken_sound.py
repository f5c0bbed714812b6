"""The sound of a film without gaps: players halt where one of two tracks has no media."""

from collections.abc import Iterator
from fractions import Fraction

from gateway.media.silent_frames import silent_frame
from gateway.workers.programs.vod.audio_transcoder import AacFrame, AudioTranscoder


class UnbrokenSound:
    """Adds silent frames where the audio of a film begins late, pauses or ends early.

    begin: of the film, in ticks.
    """

    def __init__(self, audio: AudioTranscoder, begin: int) -> None:
        silence = silent_frame(audio.track)
        assert silence is not None, "it is known for AAC that a transport stream carries"
        self._audio = audio
        self._silence = silence.payload
        self._end = Fraction(begin)  # of the last frame

    def until(self, time: float, *, fills: bool = True) -> Iterator[AacFrame]:
        """Yields the next frames before `time` (ticks). fills: whether silence follows the last one."""
        length = self._audio.length
        while True:
            following = self._audio.next_time
            stop = time if following is None else min(following, time)
            while (following is not None or fills) and self._end + length <= stop:
                yield round(self._end), self._silence
                self._end += length
            if following is None or following >= time:
                return
            for frame in self._audio.until(following + 1):
                yield frame
                self._end = frame[0] + length
