"""HTTP-FLV and WS-FLV playback: renders units as FLV tags that all viewers of a stream share."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from gateway.formats.flv import muxer
from gateway.formats.private_data import PRIVATE_DATA
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.open_gops import OpenGops
from gateway.media.track import AccessUnit, Kind, MediaTrack, Timed, Tracks
from gateway.packaging.feed import Feed, Rendering

_CLOCK_MS: Final = 500


class FlvRendering:
    """Renders FLV tags. A viewer's first bytes are the file header."""

    def render_head(self, tracks: Tracks, dts_ms: int, later: Sequence[Tracks] = ()) -> bytes:
        # Players may ignore tracks that the file header does not announce.
        every = (tracks, *later)
        header = muxer.file_header(any(t.video is not None for t in every), any(t.audio is not None for t in every))
        # The first metadata has timestamp 0. With any other timestamp, ffmpeg's probing detects a subtitle track.
        return header + muxer.metadata_tag(tracks, 0) + muxer.sequence_headers(tracks, dts_ms)

    def render_change(self, tracks: Tracks, dts_ms: int) -> bytes:
        return muxer.metadata_tag(tracks, dts_ms) + muxer.sequence_headers(tracks, dts_ms)

    def render_unit(self, unit: AccessUnit) -> bytes:
        return muxer.unit_tag(unit)

    def render_timed(self, timed: Timed) -> bytes:
        return b"" if timed.name == PRIVATE_DATA else muxer.timed_tag(timed)


class BrowserFlvRendering(FlvRendering):
    """Renders FLV tags for browsers. They cannot decode every open GOP, so `OpenGops` closes those of H.264.

    The time of arrival precedes each key frame, and sound if none was sent for _CLOCK_MS of media. Player pages measure
    their delay with it.
    """

    def __init__(self) -> None:
        self._clock_sent = -_CLOCK_MS  # time of the unit after the latest clock tag, milliseconds
        self._track: MediaTrack | None = None
        self._gops: OpenGops | None = None

    def render_unit(self, unit: AccessUnit) -> bytes:
        """Returns the tag; nothing for a picture that is left out. Hot path."""
        track = unit.track
        if track.kind is Kind.VIDEO:
            gops = self._gops
            if gops is None or track is not self._track:
                self._track, gops = track, OpenGops(track)
                self._gops = gops
            if unit.key or gops.is_open:
                payload = gops.add(unit.payload, unit.dts + unit.cts, unit.key)
                if payload is None:
                    return b""
                if payload is not unit.payload:
                    unit = replace(unit, payload=payload)
        if unit.key:
            dts_ms = unit.dts * 1000 // track.timescale
            if track.kind is Kind.VIDEO or not 0 <= dts_ms - self._clock_sent < _CLOCK_MS:
                self._clock_sent = dts_ms
                return muxer.clock_tag(dts_ms, unit.wall) + muxer.unit_tag(unit)
        return muxer.unit_tag(unit)


class FlvOutput:
    """The output `flv`: the feeds for the viewers of HTTP-FLV and WS-FLV, in browsers and elsewhere.

    make_feed: returns a feed of its stream.
    """

    def __init__(self, make_feed: Callable[[Rendering], Feed]) -> None:
        self.feed = make_feed(FlvRendering())
        self.browser_feed = make_feed(BrowserFlvRendering())

    async def run(self, stream: Stream) -> None:
        try:
            await stream.over()
        finally:
            for feed in (self.feed, self.browser_feed):
                feed.close(stream.ended or EndReason.OUTPUT_OFF)
