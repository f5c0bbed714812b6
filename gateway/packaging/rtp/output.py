"""The output `whep` of one stream: its feeds, and the sender reports of its viewers."""

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol

from gateway.live.network_quality import NetworkQuality
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.clock import VIDEO_CLOCK
from gateway.packaging.feed import FeedCounts
from gateway.packaging.rtp.clock import AUDIO_RATE, report_times
from gateway.packaging.rtp.sound_feed import SoundFeed
from gateway.packaging.rtp.video_feed import VideoFeed
from gateway.packaging.rtp.viewer import RtpViewer
from gateway.protocols.rtp import rtcp

KIND: Final = "whep"
_TURNS: Final = 10  # turns in a second; each viewer gets its report in one of them


def kinds_of(stream: Stream) -> set[str]:
    """Returns the kinds of the tracks that a stream has now."""
    tracks = stream.tracks
    return {str(track.kind) for track in (tracks.video, tracks.audio) if track is not None} if tracks else set()


class ViewerConnection(Protocol):
    """One viewer, for the API. transport: `udp` or `tcp`."""

    address: str

    @property
    def transport(self) -> str: ...

    @property
    def network(self) -> NetworkQuality: ...


class RtpOutput:
    """The output `whep`. It is always on; without viewers it costs nothing.

    connections: those of the viewers that receive media.
    sound: source(sink) attaches a sink to the Opus sound of the stream, and returns the function that detaches it.
    """

    def __init__(self, stream: Stream, sound: Callable[[SoundFeed], Callable[[], None]], counts: FeedCounts) -> None:
        self.stream = stream
        self.connections: set[ViewerConnection] = set()
        self.sound = SoundFeed(sound, self._count)
        self._counts = counts
        self._cname = stream.name  # RFC 3550 §6.5.1: the same for all tracks, so that receivers synchronise them
        self._pictures: dict[Stream, VideoFeed] = {}  # the feeds of this stream and of its renditions
        self._viewers: dict[RtpViewer, VideoFeed | None] = {}  # None: the viewer gets only sound
        self._moves: dict[RtpViewer, VideoFeed] = {}  # moves that wait for a key frame
        self._turns: deque[RtpViewer] = deque()  # in the order of their next report
        self._timer: asyncio.TimerHandle | None = None

    def feed_for(self, pictures: Stream) -> VideoFeed:
        """Returns the feed of the stream itself, or of another stream with its pictures."""
        feed = self._pictures.get(pictures)
        if feed is None:
            feed = self._pictures[pictures] = VideoFeed(pictures, self._count)
            if pictures is not self.stream:
                pictures.when_ended(lambda reason: self._forget(pictures))
        return feed

    def _forget(self, pictures: Stream) -> None:
        self._pictures.pop(pictures, None)

    def join(self, viewer: RtpViewer, video: VideoFeed | None) -> None:
        """Begins to send to a viewer. video: its pictures; None: only sound."""
        self._viewers[viewer] = video
        self._turns.append(viewer)
        self.stream.viewers[KIND] += 1
        self._report(viewer)
        if viewer.types.audio >= 0:
            self.sound.join(viewer)
        if video is not None:
            video.join(viewer)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(1 / _TURNS, self._next_turn)

    def video_of(self, viewer: RtpViewer) -> VideoFeed | None:
        """Returns the feed whose pictures a viewer gets now."""
        return self._viewers.get(viewer)

    def move(self, viewer: RtpViewer, pictures: Stream) -> None:
        """Gives a viewer the pictures of a rendition with the same codec, from its next key frame on."""
        current, feed = self._viewers.get(viewer), self.feed_for(pictures)
        self._cancel_move(viewer)
        if current is not None and feed is not current:
            self._moves[viewer] = feed
            feed.take(viewer, current, self._moved)

    def _moved(self, viewer: RtpViewer) -> None:
        self._viewers[viewer] = self._moves.pop(viewer)

    def _cancel_move(self, viewer: RtpViewer) -> None:
        feed = self._moves.pop(viewer, None)
        if feed is not None:
            feed.leave(viewer)

    def leave(self, viewer: RtpViewer) -> None:
        """Removes a viewer. Idempotent."""
        if viewer not in self._viewers:
            return
        self._cancel_move(viewer)
        video = self._viewers.pop(viewer)
        self._turns.remove(viewer)
        self.stream.viewers[KIND] -= 1
        if viewer.types.audio >= 0:
            self.sound.leave(viewer)
        if video is not None:
            video.leave(viewer)
        viewer.close()

    async def run(self, stream: Stream) -> None:
        """Implements StreamOutput: ends the viewers with the stream."""
        try:
            await stream.over()
        finally:
            if self._timer is not None:
                self._timer.cancel()
            for viewer in list(self._viewers):
                viewer.on_end(stream.ended or EndReason.OUTPUT_OFF)

    def _next_turn(self) -> None:
        """Sends a report to a tenth of the viewers."""
        self._timer = None
        due = list(islice(self._turns, -(-len(self._turns) // _TURNS)))
        self._turns.rotate(-len(due))
        for viewer in due:
            self._report(viewer)
            if viewer.lacks and not viewer.lacks.isdisjoint(kinds_of(self.stream)):
                viewer.on_end(EndReason.OUTPUT_OFF)  # it has to connect again
        if self._turns:
            self._timer = asyncio.get_running_loop().call_later(1 / _TURNS, self._next_turn)

    def _report(self, viewer: RtpViewer) -> None:
        wall, stamps = report_times(self.stream)
        video, reports = self._viewers[viewer], b""
        if video is not None:
            stamp = stamps[VIDEO_CLOCK] + viewer.offset & 0xFFFFFFFF
            reports += rtcp.sender_report(video.report(wall, stamp), self._cname)
        if viewer.types.audio >= 0:
            reports += rtcp.sender_report(self.sound.report(wall, stamps[AUDIO_RATE]), self._cname)
        viewer.sender.send_rtcp(reports)

    def _count(self, size: int) -> None:
        self._counts.sent[KIND] += size
        self.stream.tally.sent += size
