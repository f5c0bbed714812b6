"""HTTP-FLV and WS-FLV playback: renders units as FLV tags that all viewers of a stream share."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from gateway.formats import amf0
from gateway.formats.flv import muxer
from gateway.formats.script_data import CAPTION, TEXT_DATA
from gateway.live.stream import Stream
from gateway.live.stream_captions import ShownCaption, StreamCaptions
from gateway.media.open_gops import OpenGops
from gateway.media.timed_data import CaptionText, PrivateData, Script
from gateway.media.track import AccessUnit, AmfValue, Kind, MediaTrack, TimedData, Tracks
from gateway.packaging.feed import Feed, Rendering, close_at_end

_CLOCK_MS: Final = 500
_SHOWN_CAPTION: Final = "onMillraceCaption"
_TEXTS: Final = (CaptionText.__name__, TEXT_DATA, CAPTION)  # kinds of captions, which `caption_timed` replaces


class FlvRendering:
    """Renders FLV tags. A viewer's first bytes are the file header."""

    _declares_colors = True  # see `muxer.sequence_bodies`

    def render_head(self, tracks: Tracks, dts_ms: int, later: Sequence[Tracks] = ()) -> bytes:
        # Players may ignore tracks that the file header does not announce.
        every = (tracks, *later)
        header = muxer.file_header(any(t.video is not None for t in every), any(t.audio is not None for t in every))
        # The first metadata has timestamp 0. With any other timestamp, ffmpeg's probing detects a subtitle track.
        return header + muxer.metadata_tag(tracks, 0) + self._headers(tracks, dts_ms)

    def render_change(self, tracks: Tracks, dts_ms: int) -> bytes:
        return muxer.metadata_tag(tracks, dts_ms) + self._headers(tracks, dts_ms)

    def _headers(self, tracks: Tracks, dts_ms: int) -> bytes:
        return muxer.sequence_headers(tracks, dts_ms, colors=self._declares_colors)

    def render_unit(self, unit: AccessUnit) -> bytes:
        return muxer.unit_tag(unit)

    def render_still(self, unit: AccessUnit, dts_ms: int) -> bytes:
        return b""

    def render_timed(self, timed: TimedData) -> bytes:
        return b"" if isinstance(timed.value, PrivateData) else muxer.timed_tag(timed)


class _ClockTags:
    """The times of arrival for pages: before each key frame, and before sound if none was sent for `_CLOCK_MS`."""

    def __init__(self) -> None:
        self._sent = -_CLOCK_MS  # time of the unit after the latest tag, milliseconds

    def before(self, unit: AccessUnit) -> bytes:
        """Returns the tag before a unit; b"" if none is due. Hot path."""
        if not unit.key:
            return b""
        dts_ms = unit.dts * 1000 // unit.track.timescale
        if unit.track.kind is not Kind.VIDEO and 0 <= dts_ms - self._sent < _CLOCK_MS:
            return b""
        self._sent = dts_ms
        return muxer.clock_tag(dts_ms, unit.wall)


class BrowserFlvRendering(FlvRendering):
    """Renders FLV tags for browsers. They cannot decode every open GOP, so `OpenGops` closes those of H.264.

    The time of arrival precedes each key frame, and sound if none was sent for _CLOCK_MS of media. Player pages measure
    their delay with it.

    mpegts.js and flv.js put the last picture before new headers behind them, and let it last for the hole. Browsers
    drop it, because decoding cannot begin there, and stand still at the hole. So the picture after it fills it.
    """

    _declares_colors = False

    def __init__(self) -> None:
        self._clock = _ClockTags()
        self._track: MediaTrack | None = None
        self._gops: OpenGops | None = None

    def render_still(self, unit: AccessUnit, dts_ms: int) -> bytes:
        payload = OpenGops(unit.track).add(unit.payload, unit.dts + unit.cts, True) or unit.payload
        return muxer.unit_tag(replace(unit, dts=dts_ms * unit.track.timescale // 1000, payload=payload))

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
        return self._clock.before(unit) + muxer.unit_tag(unit)


class DataFlvRendering(FlvRendering):
    """Renders only what belongs to the media: times of arrival, captions, cues and metadata.

    For pages whose player does not get them with the media. Captions are those of all sources. A viewer that joins also
    gets the captions that are shown.
    """

    def __init__(self, captions: StreamCaptions) -> None:
        self._captions = captions
        self._clock = _ClockTags()

    def render_head(self, tracks: Tracks, dts_ms: int, later: Sequence[Tracks] = ()) -> bytes:
        last = [(track, log.last) for track, log in self._captions.logs.items()]
        shown = [caption_timed(track, caption) for track, caption in last if caption is not None]
        head = muxer.file_header(False, False) + muxer.metadata_tag(tracks, 0)
        return head + b"".join(map(muxer.timed_tag, shown))

    def render_change(self, tracks: Tracks, dts_ms: int) -> bytes:
        return muxer.metadata_tag(tracks, dts_ms)

    def render_unit(self, unit: AccessUnit) -> bytes:
        return self._clock.before(unit)

    def render_timed(self, timed: TimedData) -> bytes:
        return b"" if timed.kind in _TEXTS else super().render_timed(timed)


def caption_timed(track: str, caption: ShownCaption) -> TimedData:
    """Returns a caption as script data for our pages. Times are milliseconds on the stream's clock.

    `end` is missing while its end is unknown; `until` is the latest time in this case.
    """
    values: dict[str, AmfValue] = {"track": track, "text": caption.text, "start": caption.start / 90}
    values |= {name: at / 90 for name, at in (("end", caption.end), ("until", caption.until)) if at is not None}
    if caption.line is not None:
        values["line"] = float(caption.line)
    return TimedData(caption.start // 90, Script(_SHOWN_CAPTION, amf0.encode(values)))


class FlvOutput:
    """The output `flv`: the feeds for the viewers of HTTP-FLV and WS-FLV, in browsers and elsewhere.

    make_feed: returns a feed of its stream. captions: of this stream.
    """

    def __init__(self, make_feed: Callable[[Rendering], Feed], captions: StreamCaptions) -> None:
        self.feed = make_feed(FlvRendering())
        self.browser_feed = make_feed(BrowserFlvRendering())
        self.data_feed = make_feed(DataFlvRendering(captions))
        self.data_feed.counts_viewers = False

    async def run(self, stream: Stream) -> None:
        stream.captions.watch(self._show)
        try:
            await close_at_end(stream, lambda: (self.feed, self.browser_feed, self.data_feed))
        finally:
            stream.captions.unwatch(self._show)

    def _show(self, track: str, caption: ShownCaption) -> None:
        if self.data_feed:
            self.data_feed.on_timed(caption_timed(track, caption))
