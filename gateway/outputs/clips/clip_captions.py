"""Finds the captions of a clip: those of the live stream, and those beside the MP4 recordings that it is made of."""

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.channels.channel import Channel
from gateway.formats.captions.caption_file import read_caption_file
from gateway.live.stream import Stream
from gateway.live.stream_captions import TICKS
from gateway.media.caption_cue import CaptionCue
from gateway.media.errors import InvalidData
from gateway.outputs.clips.sources import SourcePiece
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchObject
from gateway.ports.stores import ObjectStore

_MAX_BYTES: Final = 1_000_000  # of one stored file
_LONGEST: Final = 7 * TICKS  # of a caption that is still shown


@dataclass(frozen=True, slots=True)
class ClipCaptions:
    """The captions of a clip in one track. Times are ticks of 90 kHz since its start."""

    cues: Sequence[CaptionCue] = ()
    language: str = ""


NO_CAPTIONS: Final = ClipCaptions()


async def captions_of(
    objects: ObjectStore, channel: Channel, stream: Stream | None, pieces: Iterable[SourcePiece], started: float
) -> ClipCaptions:
    """Returns the captions of a clip. Of several tracks, the default one, else the first one with captions.

    started: of the clip, seconds since 1970. Captions beside on-demand segments are not read.
    """
    tracks = stream.captions.texts if stream is not None else channel.captions
    movies = [piece for piece in pieces if piece.piece.kind is media_keys.MediaKind.VIDEO]
    for track in sorted(tracks, key=lambda track: not track.default):
        live = _live(stream, track.id, started) if stream is not None else []
        begin = min((cue.start for cue in live), default=None)
        stored = [cue async for cue in _stored(objects, movies, track.id, started)]
        cues = [cue for cue in stored if begin is None or cue.start < begin] + live
        if cues:
            return ClipCaptions(tuple(sorted(cues, key=lambda cue: cue.start)), track.language)
    return NO_CAPTIONS


def _live(stream: Stream, track: str, started: float) -> list[CaptionCue]:
    """Returns the captions that a live stream remembers."""
    log = stream.captions.logs.get(track)
    if log is None or not stream.received.last_push:
        return []
    arrived = time.time() - (time.monotonic() - stream.received.last_push)  # of the newest media
    zero = stream.received.last_dts_ms * 90 - round((arrived - started) * TICKS)  # stream time of the clip's start
    return [replace(cue, end=cue.end or cue.start + _LONGEST).moved(-zero) for cue in (c.cue() for c in log.since(0))]


async def _stored(
    objects: ObjectStore, movies: Iterable[SourcePiece], track: str, started: float
) -> AsyncIterator[CaptionCue]:
    """Yields the captions beside MP4 recordings. Files that are damaged or absent have none."""
    for movie in movies:
        key = media_keys.captions_key(movie.piece.key, track)
        try:
            data = b"".join([chunk async for chunk in objects.read(key, 0, _MAX_BYTES)])
            cues = read_caption_file(data)
        except (NoSuchObject, InvalidData):
            continue
        for cue in cues:
            yield cue.moved(round((movie.start - started) * TICKS))
