"""The captions of a stream as text: those in its pictures, and those that came as timed data.

Pictures come in decode order; `PictureOrder` brings their captions into presentation order. Timed data has its times.
Every node that has the stream's units finds the same captions, so nothing else must be sent between nodes.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from gateway.formats.captions.decoder import ClosedCaptionDecoder
from gateway.formats.captions.reorder import PictureOrder
from gateway.formats.script_data import read_caption, read_caption_data
from gateway.lib.token_bucket import TokenBucket
from gateway.media.caption_cue import CaptionCue
from gateway.media.caption_track import SPEECH, TEXT, CaptionTrack, caption_id
from gateway.media.clock import MILLISECONDS, VIDEO_CLOCK
from gateway.media.closed_captions import ClosedCaptions
from gateway.media.timed_data import CaptionText
from gateway.media.track import AccessUnit, TimedData

POSTS_A_SECOND: Final = 10  # captions that somebody writes
_MAX_KEPT: Final = 128  # captions of one source
_MAX_TEXTS: Final = 8  # sources of text; others are ignored
_LEAST, _MOST = 2 * VIDEO_CLOCK, 7 * VIDEO_CLOCK  # for reading one caption
_PER_CHARACTER: Final = VIDEO_CLOCK // 16  # for reading
_LONGEST: Final = 60 * VIDEO_CLOCK  # of a caption with an end of its own


@dataclass(slots=True, eq=False)
class ShownCaption:
    """A caption. Times are ticks of 90 kHz on the stream's clock.

    number: counts the captions of its source, from 0. end: None while it is shown; `CaptionLog` sets it.
    until: when it ends at the latest, unless another one replaces it; None: when its source says so.
    """

    number: int
    start: int
    end: int | None
    text: str
    line: int | None = None
    until: int | None = None

    def cue(self) -> CaptionCue:
        return CaptionCue(self.start, self.end, self.text, self.line)


class CaptionLog:
    """The last captions of one source. At the bound, the oldest one is forgotten."""

    def __init__(self) -> None:
        self.count = 0  # captions so far
        self._shown: deque[ShownCaption] = deque(maxlen=_MAX_KEPT)

    @property
    def last(self) -> ShownCaption | None:
        return self._shown[-1] if self._shown else None

    def since(self, number: int) -> Iterator[ShownCaption]:
        """Returns the captions from this number on, as far as they are remembered."""
        shown = self._shown
        return (shown[at] for at in range(max(0, len(shown) - (self.count - number)), len(shown)))

    def between(self, start: int, stop: int) -> list[CaptionCue]:
        """Returns the captions of a time range, as far as they are remembered. One that is still shown ends with it."""
        shown = (each.cue() for each in self._shown if each.start < stop and (each.end is None or each.end > start))
        return [cue if cue.end is not None else replace(cue, end=stop) for cue in shown]

    def show(
        self, start: int, text: str, *, end: int | None = None, line: int | None = None, until: int | None = None
    ) -> None:
        """Shows a text, which replaces one without an end. An empty text only ends that one.

        Somebody may write texts for later: one that comes before them lasts until the next of them at most.
        """
        self.close(start)
        if until is not None:
            until = min([until, *(each.start for each in self._shown if each.start > start)])
        if text:
            self._shown.append(ShownCaption(self.count, start, end, text, line, until))
            self.count += 1

    def close(self, time: int) -> None:
        """Ends the caption that is shown without an end. One that begins after `time` keeps its own length."""
        last = self.last
        if last is not None and last.end is None:
            if last.until is None:
                last.end = max(time, last.start)
            else:
                last.end = last.until if time < last.start else min(time, last.until)

    def expire(self, time: int) -> None:
        """Ends a caption that nobody replaced in time."""
        last = self.last
        if last is not None and last.end is None and last.until is not None and last.until <= time:
            last.end = last.until


class StreamCaptions:
    """The captions of one stream.

    found: the captions that the pictures carry. logs: the captions by the id of their track.
    configured: returns the tracks that the channel names. posts: limits the captions that somebody writes.
    late: seconds of sound that wait for speech to text. `CaptionsOutput` sets it.
    """

    def __init__(self, configured: Callable[[], tuple[CaptionTrack, ...]]) -> None:
        self.found = ClosedCaptions()
        self.posts = TokenBucket(POSTS_A_SECOND, POSTS_A_SECOND)
        self.late = 0.0
        self._configured = configured
        self._decoder: ClosedCaptionDecoder | None = None  # None: no picture has carried captions
        self._order = PictureOrder()
        self._beside = ClosedCaptionDecoder()  # of captions that come beside the pictures
        self._logs: dict[str, CaptionLog] = {}
        self._texts: dict[str, CaptionTrack] = {}
        self._time = 0  # of the last picture
        self._watchers: tuple[Callable[[str, ShownCaption], None], ...] = ()

    @property
    def logs(self) -> Mapping[str, CaptionLog]:
        return self._logs

    @property
    def closed(self) -> tuple[CaptionTrack, ...] | None:
        """The captions in the pictures. None: the pictures have room for them, and none were found yet."""
        return self._closed(self._configured())

    @property
    def texts(self) -> tuple[CaptionTrack, ...]:
        """The captions that players can get as text."""
        named = self._configured()
        sources = {track.source for track in named}
        closed = () if any(track.is_closed for track in named) else self._closed(named) or ()
        sources |= {track.source for track in closed}
        return (*named, *closed, *(track for track in self._texts.values() if track.source not in sources))

    def _closed(self, named: tuple[CaptionTrack, ...]) -> tuple[CaptionTrack, ...] | None:
        """Returns `closed`. named: the tracks that the channel names."""
        configured = tuple(track for track in named if track.is_closed)
        names = self.found.listed
        return configured or (None if names is None else tuple(CaptionTrack(name, name) for name in names))

    def look(self, unit: AccessUnit) -> None:
        """Reads the captions of a picture. Hot path."""
        data = self.found.look(unit)
        decoder = self._decoder
        if decoder is None:
            if not data:
                return
            decoder = self._decoder = ClosedCaptionDecoder()
        scale = unit.track.timescale
        shown, decoded = (unit.dts + unit.cts) * VIDEO_CLOCK // scale, unit.dts * VIDEO_CLOCK // scale
        for time, picture in self._order.add(data, shown, decoded):
            self._time = time
            self.found.find(picture)
            for change in decoder.take(picture, time):
                self._show(change.source.lower(), change.start, change.text, line=change.line)

    def take(self, timed: TimedData) -> None:
        """Takes timed data. What is no caption is ignored."""
        timed = timed.counted(MILLISECONDS)
        data = read_caption_data(timed)
        if data is not None:
            self._take_closed(data, timed.dts * 90)
        caption = read_caption(timed)
        if caption is None:
            return
        track = self._track_of(caption)
        if track.id not in self._logs and len(self._logs) >= _MAX_TEXTS:
            return
        self._texts.setdefault(track.id, track)
        start, end = caption.start * 90, caption.end * 90 if caption.end is not None else None
        until = start + min(max(_LEAST, len(caption.text) * _PER_CHARACTER), _MOST) if end is None else None
        self._show(track.id, start, caption.text, end=end and min(end, start + _LONGEST), until=until)

    def _take_closed(self, data: bytes, time: int) -> None:
        """Takes closed captions that came beside the pictures; those of the pictures are preferred."""
        if self._decoder is not None:
            return
        for change in self._beside.take(ClosedCaptions().read(data), time):
            track = CaptionTrack(change.source, change.source)
            self._texts.setdefault(track.id, track)
            self._show(track.id, change.start, change.text, line=change.line)

    def restart(self) -> None:
        """Ends what is shown: other media follow."""
        if self._decoder is not None:
            self._decoder, self._order = ClosedCaptionDecoder(), PictureOrder()
        for log in self._logs.values():
            log.close(self._time)

    def watch(self, call: Callable[[str, ShownCaption], None]) -> None:
        """Calls `call` with the track's id and each caption from now on."""
        self._watchers = (*self._watchers, call)

    def unwatch(self, call: Callable[[str, ShownCaption], None]) -> None:
        self._watchers = tuple(watcher for watcher in self._watchers if watcher != call)

    def _track_of(self, caption: CaptionText) -> CaptionTrack:
        """Returns the channel's track for a text: the one in its language, else the first one of its source."""
        source = SPEECH if caption.is_speech else TEXT
        named = [track for track in self._configured() if track.source == source]
        same = [track for track in named if track.id == caption_id(source, caption.language)]
        if same or (named and not caption.language):
            return (same or named)[0]
        return CaptionTrack(source, caption.language or source.capitalize(), caption.language)

    def _show(
        self,
        track: str,
        start: int,
        text: str,
        *,
        end: int | None = None,
        line: int | None = None,
        until: int | None = None,
    ) -> None:
        log = self._logs.setdefault(track, CaptionLog())
        log.show(start, text, end=end, line=line, until=until)
        last = log.last
        if last is not None:
            for call in self._watchers:
                call(track, last)
