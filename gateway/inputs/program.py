"""The program of a channel: writes the input on air into the channel's stream, on one time line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway.live.publisher import StreamPublisher
from gateway.media.track import Kind, MediaTrack, Tracks
from gateway.media.unit import AccessUnit, Timed

_FRAME_MS: Final = 33  # from the last unit of an input to the first of the next one, if no time has passed
_VIDEO: Final = Kind.VIDEO


class Program:
    """Writes one input after the other into a stream. All times are milliseconds: tracks have a timescale of 1,000.

    An input begins at a key frame. Its times are moved, so that the stream's time goes on as the clock does. Audio and
    video are moved alike, so they stay in sync.
    """

    def __init__(self, publisher: StreamPublisher) -> None:
        """publisher: of the channel's stream; it must leave times unchanged (keep_time)."""
        self._publisher = publisher
        self._shift = 0
        self._sound_from = 0  # earlier sound of the input is left out, because its pictures were
        self._video: MediaTrack | None = None
        self._audio: MediaTrack | None = None
        self._is_new = True  # nothing was announced yet

    @property
    def publisher(self) -> StreamPublisher:
        return self._publisher

    def begin(self, tracks: Tracks, units: Sequence[AccessUnit], now: float) -> None:
        """Begins another input.

        tracks: of the input. Equal tracks are not announced: decoders go on.
        units: from a key frame to the newest one. If there are several, the pictures are squeezed into the time since
        the last unit of the stream, without their sound: players catch up at once, and the delay does not grow.
        now: monotonic seconds.
        """
        self._announce(tracks)
        stream = self._publisher.stream
        first, newest = units[0], units[-1]
        self._sound_from = first.dts
        if not stream.last_push:
            self._shift = 0
            for unit in units:
                self.push(unit, now)
            return
        begin = stream.last_dts_ms + 1
        elapsed = round((now - stream.last_push) * 1000)
        pictures = [unit for unit in units if unit.track.kind is _VIDEO] if tracks.video is not None else []
        if len(pictures) < 2:
            begin = stream.last_dts_ms + max(_FRAME_MS, elapsed)
            self._shift = begin - first.dts
            for unit in units:
                self.push(unit, now)
            return
        self._squeeze(pictures, begin, max(begin + len(pictures) - 1, stream.last_dts_ms + elapsed), now)
        self._sound_from = newest.dts

    def go_on(self, tracks: Tracks | None) -> None:
        """Goes on with an input whose tracks and media the stream has already."""
        self._is_new = False
        if tracks is not None:
            self._video, self._audio = tracks.video, tracks.audio

    def change(self, tracks: Tracks) -> None:
        """Announces changed tracks or metadata of the input on air."""
        self._announce(tracks)
        original = self._publisher.stream.original.tracks
        if original is not None and original.metadata != tracks.metadata:
            self._publisher.set_tracks(self._video, self._audio, tracks.metadata)

    def _announce(self, tracks: Tracks) -> None:
        """Announces tracks that differ from those of the stream. After a break, tracks are always announced."""
        original = self._publisher.stream.original.tracks
        if self._is_new or original is None or (original.video, original.audio) != (tracks.video, tracks.audio):
            self._is_new = False
            self._publisher.set_tracks(tracks.video, tracks.audio, tracks.metadata)
            self._video, self._audio = tracks.video, tracks.audio
        else:
            # Units refer to the track objects that consumers know.
            self._video, self._audio = original.video, original.audio

    def _squeeze(self, pictures: Sequence[AccessUnit], begin: int, end: int, now: float) -> None:
        """Writes pictures between two times of the stream. `end` is the time of the last one."""
        first, last = pictures[0].dts, pictures[-1].dts
        scale = (end - begin) / max(1, last - first)
        self._shift = end - last
        time = begin - 1
        for unit in pictures:
            time = max(time + 1, begin + round((unit.dts - first) * scale))
            shown = begin + round((unit.dts + unit.cts - first) * scale)
            self._write(unit, time, shown - time if unit.cts else 0, now)
        self._shift = max(self._shift, time - last)

    def push(self, unit: AccessUnit, now: float) -> None:
        """Writes the next unit of the input on air. Hot path. now: monotonic seconds."""
        if unit.dts < self._sound_from and unit.track.kind is not _VIDEO:
            return
        self._write(unit, unit.dts + self._shift, unit.cts, now)

    def push_timed(self, timed: Timed) -> None:
        self._publisher.push_timed(Timed(timed.dts + self._shift, timed.name, timed.amf))

    def _write(self, unit: AccessUnit, dts: int, cts: int, now: float) -> None:
        # A new unit, because the input's stream still has this one in its cache.
        track = self._video if unit.track.kind is _VIDEO else self._audio
        if track is not None:
            self._publisher.push(AccessUnit(track, dts, cts, unit.key, unit.wall, unit.payload), now)
