"""Cover: the lease of whoever replaces what viewers of a stream see (a watermark) while its original goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.media.track import AmfValue, Track, Tracks
from gateway.media.unit import AccessUnit, Timed

if TYPE_CHECKING:
    from gateway.hub.stream import Stream


class Cover:
    """One at a time; made by `Stream.cover`. Nothing changes for viewers until it engages.

    `engage` is called from a sink of `stream.original` while that gets a video key frame (or before the first unit of
    all): sinks of the original come first, so this very unit and all that follow are not shown any more, and viewers
    get what `set_tracks`, `push` and `push_timed` give them, in decode order, beginning with that key frame's picture
    and with everything else that came since. `close` gives the original back.

    While it is engaged nothing of the original is shown: where the holder stops for a while, viewers wait.
    A stream that ends lets the holder finish for FINISH_SECONDS; `close` ends it sooner.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream: Stream | None = stream
        self.engaged = False

    @property
    def open(self) -> bool:
        """Until it was closed, by its holder or because the stream has ended."""
        return self._stream is not None

    def engage(self) -> None:
        """From now on viewers get what this gives. Idempotent."""
        if self._stream is not None and not self.engaged:
            self.engaged = True
            self._stream.covered()

    def set_tracks(
        self, video: Track | None, audio: Track | None, metadata: dict[str, AmfValue], continuous: bool
    ) -> Tracks | None:
        """Before the first push, and on any change; `continuous` false opens a new epoch. None when closed."""
        stream = self._stream
        assert self.engaged or stream is None, "a cover gives nothing before it is engaged"
        return None if stream is None else stream.show_tracks(video, audio, metadata, continuous)

    def push(self, unit: AccessUnit) -> None:
        """A unit of the tracks last set; its dts never before that of an earlier one of its track."""
        if self._stream is not None:
            self._stream.show(unit)

    def push_timed(self, timed: Timed) -> None:
        if self._stream is not None:
            self._stream.show_timed(timed)

    def close(self, resume: Sequence[AccessUnit] = ()) -> None:
        """Gives the lease back. Idempotent.

        resume: units of the original, from one of its key frames up to the newest, which viewers get at once;
        without them the original is shown from its next key frame on.
        """
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.uncovered(self, resume)
