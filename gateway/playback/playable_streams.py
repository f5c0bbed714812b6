"""The streams that viewers can play, and their pictures in a form for browsers."""

from collections.abc import Callable, Collection
from typing import Protocol, TypeAlias

from gateway.live.stream import Stream
from gateway.media.track import Codec

TakePictures: TypeAlias = Callable[[Stream], None]  # gets the stream with the pictures


class PlayableStreams(Protocol):
    """The streams that viewers can play: those of the hub, possibly also those of other nodes."""

    def find(self, name: str) -> Stream | None:
        """Returns a stream that can be played now, at least by FLV and RTMP."""

    def find_recent(self, name: str) -> Stream | None:
        """Returns a stream of this node with all its outputs. The stream is live or has just ended."""

    async def wait(self, name: str, seconds: float) -> Stream:
        """Waits until the stream can be played. Raises NoSuchStream, AtCapacity."""


class BrowserMedia(Protocol):
    """Finds the pictures of a stream in a form that a viewer can show."""

    async def acquire(self, stream: Stream, playable: Collection[Codec]) -> Stream:
        """Returns the stream itself or another one with its pictures. Raises OutputError, AtCapacity."""

    def change(self, stream: Stream, pictures: Stream, shown: Stream, step: int, take: TakePictures) -> None:
        """Passes the next smaller (-1) or larger (1) pictures to `take`, as soon as they exist.

        If there are none, `take` is never called.

        pictures: what `acquire` returned, the largest pictures. shown: the pictures that the viewer gets now.
        """

    def release(self, stream: Stream, pictures: Stream) -> None:
        """Ends the use of `pictures`, which `acquire` returned."""
