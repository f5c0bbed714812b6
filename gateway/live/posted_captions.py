"""Puts captions that somebody writes into a live stream."""

import time
from dataclasses import dataclass
from typing import Final

from gateway.live.stream import Stream
from gateway.live.stream_captions import POSTS_A_SECOND
from gateway.media.timed_data import MAX_TEXT, CaptionText
from gateway.media.track import TimedData
from gateway.ports.errors import InvalidField, TooManyRequests

_EARLIEST: Final = 60_000  # milliseconds before the newest picture
_LATEST: Final = 600_000  # milliseconds after it


@dataclass(frozen=True, slots=True)
class PostedCaption:
    """A caption of the API. start, end: seconds since 1970; None: now, and as long as reading takes."""

    text: str
    language: str = ""
    start: float | None = None
    end: float | None = None


def post_caption(stream: Stream, caption: PostedCaption) -> None:
    """Shows a caption to all viewers of a live stream.

    Raises TooManyRequests for more than `StreamCaptions.posts` allows. Raises InvalidField for a time too far away.
    """
    if not stream.captions.posts.take(1, time.monotonic()):
        raise TooManyRequests(f"at most {POSTS_A_SECOND} captions a second are possible", 1)
    newest = stream.received.last_dts_ms
    start = _moment(caption.start, newest, "from")
    end = _moment(caption.end, newest, "to") if caption.end is not None else None
    if end is not None and end <= start:
        raise InvalidField("to", "the end must be after the start")
    text = CaptionText(caption.text.strip()[:MAX_TEXT], start, end, caption.language)
    stream.push_timed(TimedData(newest, text))


def _moment(wall: float | None, newest: int, field: str) -> int:
    """Returns milliseconds on the stream's clock. newest: those of the newest picture, which arrived just now."""
    if wall is None:
        return newest
    ahead = round((wall - time.time()) * 1000)
    if not -_EARLIEST <= ahead <= _LATEST:
        raise InvalidField(field, "at most 60 s back and 10 minutes ahead are possible")
    return newest + ahead
