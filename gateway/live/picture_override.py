"""Replaces what viewers of a stream get (for a watermark), while its original goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gateway.media.track import AmfValue, MediaTrack, Tracks
from gateway.media.unit import AccessUnit, Timed


class OverriddenView(Protocol):
    """The picture and sound that viewers get: the side of `Stream` that a PictureOverride drives."""

    def covered(self) -> None:
        """It engaged."""

    def show_tracks(
        self, video: MediaTrack | None, audio: MediaTrack | None, metadata: dict[str, AmfValue], continuous: bool
    ) -> Tracks: ...

    def show(self, unit: AccessUnit) -> None: ...

    def show_timed(self, timed: Timed) -> None: ...

    def uncovered(self, cover: PictureOverride, resume: Sequence[AccessUnit]) -> None:
        """It was closed."""


class PictureOverride:
    """A lease to replace what viewers get; made by `Stream.cover`. Only one exists at a time.

    Viewers notice nothing before `engage`. A sink of `stream.original` calls it while it gets a video key frame, or
    before the first unit of all. Sinks of the original come first, so that this unit and the following ones are not
    shown. From then on, viewers get the items of `set_tracks`, `push` and `push_timed`, in decode order. These must
    begin with the picture of that key frame, and contain all other media since then. `close` shows the original
    again.

    While it is engaged, no unit of the original is shown: if the owner pauses, viewers wait. When the stream ends,
    the owner has FINISH_SECONDS to send its last units; `close` ends it sooner.
    """

    def __init__(self, stream: OverriddenView) -> None:
        self._stream: OverriddenView | None = stream
        self.engaged = False

    @property
    def open(self) -> bool:
        """Whether it was not closed yet, by its owner or by the end of the stream."""
        return self._stream is not None

    def engage(self) -> None:
        """Shows viewers the units of this override from now on. It may be called more than once."""
        if self._stream is not None and not self.engaged:
            self.engaged = True
            self._stream.covered()

    def set_tracks(
        self, video: MediaTrack | None, audio: MediaTrack | None, metadata: dict[str, AmfValue], continuous: bool
    ) -> Tracks | None:
        """Sets the tracks, before the first push and on any change. `continuous` false starts a new epoch.

        Returns None if the override is closed.
        """
        stream = self._stream
        assert self.engaged or stream is None, "a cover gives nothing before it is engaged"
        return None if stream is None else stream.show_tracks(video, audio, metadata, continuous)

    def push(self, unit: AccessUnit) -> None:
        """Shows a unit of the tracks last set. Its dts must not be before that of an earlier unit of its track."""
        if self._stream is not None:
            self._stream.show(unit)

    def push_timed(self, timed: Timed) -> None:
        if self._stream is not None:
            self._stream.show_timed(timed)

    def close(self, resume: Sequence[AccessUnit] = ()) -> None:
        """Gives the lease back. It may be called more than once.

        resume: units of the original, from one of its key frames up to the newest, which viewers get at once. Without
        them, the original is shown from its next key frame.
        """
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.uncovered(self, resume)
