"""Finds the captions of a clip: those of the live stream, and those beside the recordings that it is made of."""

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.channels.channel import Channel
from gateway.formats.captions.caption_file import MAX_BYTES, read_caption_file
from gateway.formats.captions.webvtt import read_timestamp_map
from gateway.formats.ts.packets import unwrapped
from gateway.formats.ts.pes import find_first_pts
from gateway.live.stream import Stream
from gateway.media.caption_cue import CaptionCue
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.outputs.clips.sources import SourcePiece
from gateway.outputs.storage.recording_index import common_beginning
from gateway.ports import media_keys
from gateway.ports.errors import NoSuchObject
from gateway.ports.stores import ObjectStore

_HEAD: Final = 47_000  # bytes of a segment in which the first picture begins
_LONGEST: Final = 7 * VIDEO_CLOCK  # of a caption that is still shown
_NEAR: Final = VIDEO_CLOCK // 50  # between two pieces: the times of files are rounded


@dataclass(frozen=True, slots=True)
class ClipCaptions:
    """The captions of a clip in one track. Times are ticks of 90 kHz since its start."""

    cues: Sequence[CaptionCue] = ()
    language: str = ""


NO_CAPTIONS: Final = ClipCaptions()


async def captions_of(
    objects: ObjectStore, channel: Channel, stream: Stream | None, pieces: Sequence[SourcePiece], started: float
) -> ClipCaptions:
    """Returns the captions of a clip. Of several tracks, the default one, else the first one with captions.

    started: of the clip, seconds since 1970.
    """
    tracks = stream.captions.texts if stream is not None else channel.captions
    beside = await _captioned(objects, pieces) if tracks else {}
    for track in sorted(tracks, key=lambda track: not track.default):
        live = _live(stream, track.id, started) if stream is not None else []
        begin = min((cue.start for cue in live), default=None)
        stored = [cue async for cue in _stored(objects, beside.get(track.id, ()), started)]
        cues = [cue for cue in stored if begin is None or cue.start < begin] + live
        if cues:
            return ClipCaptions(tuple(_joined(cues)), track.language)
    return NO_CAPTIONS


def _joined(cues: Iterable[CaptionCue]) -> Iterable[CaptionCue]:
    """Returns the cues by their starts. Those of one caption, which each piece that it touches has, become one."""
    joined: list[CaptionCue] = []
    last: dict[tuple[str, int | None], int] = {}  # where the last cue with a text is
    for cue in sorted(cues, key=lambda cue: cue.start):
        at = last.get((cue.text, cue.line), -1)
        before = joined[at] if at >= 0 else None
        if before is not None and cue.start <= (before.end or before.start) + _NEAR:
            joined[at] = replace(before, end=max(before.end or before.start, cue.end or cue.start))
        else:
            last[cue.text, cue.line] = len(joined)
            joined.append(cue)
    return joined


def _live(stream: Stream, track: str, started: float) -> list[CaptionCue]:
    """Returns the captions that a live stream remembers."""
    log = stream.captions.logs.get(track)
    if log is None or not stream.received.last_push:
        return []
    arrived = time.time() - (time.monotonic() - stream.received.last_push)  # of the newest media
    # The stream's time at the start of the clip.
    zero = stream.received.last_dts_ms * 90 - round((arrived - started) * VIDEO_CLOCK)
    return [replace(cue, end=cue.end or cue.start + _LONGEST).moved(-zero) for cue in (c.cue() for c in log.since(0))]


async def _captioned(objects: ObjectStore, pieces: Sequence[SourcePiece]) -> dict[str, list[tuple[SourcePiece, str]]]:
    """Returns the pieces with captions beside them, and the keys of these, by the id of their track.

    They are found in a listing, because an export may have many pieces without captions.
    """
    found: dict[str, list[tuple[SourcePiece, str]]] = {}
    by_stem = {piece.piece.key.rpartition(".")[0]: piece for piece in pieces}
    folders = {stem.rpartition("/")[0] for stem in by_stem}
    for folder in folders:
        stems = [stem for stem in by_stem if stem.rpartition("/")[0] == folder]
        async for item in objects.list(common_beginning(stems)):
            stem, _, track = item.key.removesuffix(".vtt").rpartition(".")
            if item.key.endswith(".vtt") and stem in by_stem:
                found.setdefault(track, []).append((by_stem[stem], item.key))
    return found


async def _stored(
    objects: ObjectStore, files: Iterable[tuple[SourcePiece, str]], started: float
) -> AsyncIterator[CaptionCue]:
    """Yields the captions in files beside recordings. Files that are damaged, or deleted meanwhile, have none."""
    for piece, beside in files:
        try:
            data = await _read(objects, beside, MAX_BYTES)
            cues = read_caption_file(data)
            is_segment = piece.piece.kind is media_keys.MediaKind.SEGMENT
            zero = await _first_time(objects, piece.piece.key, data) if is_segment and cues else 0
        except (NoSuchObject, InvalidData):
            continue
        for cue in cues:
            yield cue.moved(round((piece.start - started) * VIDEO_CLOCK) - zero)


async def _first_time(objects: ObjectStore, key: str, captions: bytes) -> int:
    """Returns the time of a segment's first picture on the clock of its captions."""
    first = find_first_pts(await _read(objects, key, _HEAD))
    if first is None:
        raise InvalidData("the segment begins without a time")
    mpegts, local = read_timestamp_map(captions)
    return local + unwrapped(first, mpegts) - mpegts


async def _read(objects: ObjectStore, key: str, most: int) -> bytes:
    return b"".join([chunk async for chunk in objects.read(key, 0, most)])
