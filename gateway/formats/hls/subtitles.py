"""Subtitle renditions of finished videos: their media playlist, and their tags in a stored Multivariant Playlist."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.formats.hls import media_playlist

_GROUP: Final = "subs"
_ENTRY: Final = "#EXT-X-MEDIA:TYPE=SUBTITLES,"
_VARIANT: Final = "#EXT-X-STREAM-INF:"
_ATTRIBUTE: Final = re.compile(r',SUBTITLES="[^"]*"')


@dataclass(frozen=True, slots=True)
class SubtitleRendition:
    """Subtitles in one language, EXT-X-MEDIA (§4.4.6.1). name: without quotation marks. language: BCP 47."""

    uri: str
    name: str
    language: str


def subtitle_playlist(uri: str, seconds: float) -> bytes:
    """Returns the media playlist with one WebVTT segment of the whole length.

    §6.2.4 allows subtitles of a finished video a Target Duration of their own.
    """
    target = max(1, math.ceil(seconds))
    head = media_playlist.head(target=target, sequence=1, discontinuity_sequence=None, version=3)
    body = [media_playlist.segment(max(seconds, 0.001), uri)]
    return media_playlist.with_suffix(media_playlist.playlist(head + "#EXT-X-PLAYLIST-TYPE:VOD\n", body, ended=True))


def with_subtitles(master: str, renditions: Sequence[SubtitleRendition]) -> str:
    """Returns a Multivariant Playlist with these subtitles, in place of those that it has."""
    attribute = f',SUBTITLES="{_GROUP}"' if renditions else ""
    entries = list(_entries(renditions))
    lines: list[str] = []
    for line in master.split("\n"):
        if line.startswith(_VARIANT):
            lines += entries
            entries = []
            lines.append(_ATTRIBUTE.sub("", line.rstrip("\r")) + attribute)
        elif not line.startswith(_ENTRY):
            lines.append(line)
    return "\n".join(lines)


def _entries(renditions: Sequence[SubtitleRendition]) -> Iterable[str]:
    used: set[str] = set()
    for each in renditions:
        # §4.4.6.1.1: all names of a group are different.
        name = each.name if each.name not in used else f"{each.name} ({each.language})"
        used.add(name)
        yield (
            f'{_ENTRY}GROUP-ID="{_GROUP}",NAME="{name}",LANGUAGE="{each.language}",DEFAULT=NO,AUTOSELECT=YES,'
            f'URI="{each.uri}"'
        )
