"""Reads the captions that a media file has as text tracks, and writes them as WebVTT with playlists."""

import re
from pathlib import Path
from typing import Any, Final

import av
import av.error

from gateway.formats.captions.charsets import decode_text
from gateway.formats.captions.cue_lines import MAX_CUES, finished
from gateway.formats.captions.webvtt import webvtt
from gateway.formats.hls.subtitles import subtitle_playlist
from gateway.formats.mp4.init import short_language
from gateway.formats.ts.pes import find_first_pts
from gateway.media.caption_cue import CaptionCue
from gateway.media.clock import VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.labels import printable
from gateway.ports.films import MAX_CAPTIONS, FilmCaptions
from gateway.ports.vod_names import MAX_LANGUAGE, VodNames, reference
from gateway.workers.programs.vod.media_file import MediaFile, ticks

_OVERRIDE: Final = re.compile(r"\{[^}]*\}")
# Of ASS: the tag \p with a scale above 0 begins a drawing, with 0 it ends it.
_DRAWING: Final = re.compile(r"\{[^{}]*\\p[1-9][^{}]*\}.*?(?=\{[^{}]*\\p0|$)", re.DOTALL)
_BREAK: Final = re.compile(r"\\[Nn]")
_TEXT_FIELD: Final = 8  # of an ASS event of libav: ReadOrder, Layer, Style, Name, three margins, Effect, Text
_MAX_LABEL: Final = 64
_SEGMENT_START: Final = 1 << 20  # bytes in which the first times are
_UNKNOWN: Final = "und"


class FilmTexts:
    """The text tracks of a file. At most MAX_CAPTIONS tracks with MAX_CUES cues each are read."""

    def __init__(self, film: MediaFile) -> None:
        self._film = film

    def write(self, folder: Path, names: VodNames, zero: int, seconds: float) -> tuple[FilmCaptions, ...]:
        """Writes WebVTT and a playlist for each track with cues, after the segments. Returns their names.

        zero: time of the first frame, in ticks. seconds: length of the video.
        """
        if not self._film.texts:
            return ()
        film = self._film.reopen()  # the first one is at its end
        with (folder / names.segment(1)).open("rb") as segment:
            first = find_first_pts(segment.read(_SEGMENT_START))
        timestamp_map = None if first is None else (first, 0)
        written: list[FilmCaptions] = []
        for stream, cues in _read(film):
            shown = [cue for cue in finished(cues) if cue.end is not None and cue.end > zero]
            if not shown:
                continue
            captions = _describe(stream, {each.language for each in written})
            file = names.captions(captions.language)
            (folder / file).write_bytes(webvtt(shown, zero, timestamp_map))
            playlist = subtitle_playlist(reference(file), seconds)
            (folder / names.captions_playlist(captions.language)).write_bytes(playlist)
            written.append(captions)
        film.close()
        return tuple(written)


def _read(film: MediaFile) -> list[tuple[Any, list[CaptionCue]]]:
    """Returns the text tracks of a file with their cues."""
    streams = film.texts[:MAX_CAPTIONS]
    cues: dict[int, list[CaptionCue]] = {stream.index: [] for stream in streams}
    for packet in film.packets(*streams):
        start = ticks(packet.pts, packet.time_base)
        if start is not None and len(found := cues[packet.stream_index]) < MAX_CUES:
            found += _decode(packet, start)
    return [(stream, cues[stream.index]) for stream in streams]


def _decode(packet: Any, start: int) -> list[CaptionCue]:
    """Returns the cue of a packet; none if it is empty or damaged."""
    context = packet.stream.codec_context
    try:
        decoded = context.decode2(packet if context.name == "mov_text" else _in_utf8(packet))
    except (av.error.FFmpegError, InvalidData):
        return []
    if decoded is None:
        return []
    length = ticks(packet.duration, packet.time_base) or decoded.end_display_time * VIDEO_CLOCK // 1000
    events = (rect.ass.decode("utf-8", "replace").split(",", _TEXT_FIELD) for rect in decoded.rects)
    words = (_OVERRIDE.sub("", _DRAWING.sub("", event[-1])) for event in events)
    texts = [_BREAK.sub("\n", text).replace("\\h", " ") for text in words]
    return [CaptionCue(start, start + length, "\n".join(texts))]


def _in_utf8(packet: Any) -> Any:
    """Returns a packet with its text in UTF-8, which libav expects. Raises InvalidData."""
    changed: Any = av.Packet(decode_text(bytes(packet), short_language(packet.stream.language or "") or "").encode())
    for name in ("pts", "dts", "duration", "time_base"):
        setattr(changed, name, getattr(packet, name))
    return changed


def _describe(stream: Any, used: set[str]) -> FilmCaptions:
    """Returns language and label. A second track in a language gets a private subtag (RFC 5646 §2.2.7)."""
    language = short_language(stream.language or "") or _UNKNOWN
    title = stream.metadata.get("title") or stream.metadata.get("name") or ""
    label = printable(title).replace('"', "").strip()[:_MAX_LABEL] or language
    number = 1
    while (tag := language if number == 1 else f"{language}-x-{number}") in used:
        number += 1
    assert len(tag) <= MAX_LANGUAGE
    return FilmCaptions(tag, label)
