"""Subtitle renditions of finished videos: their media playlist, and their tags in a stored Multivariant Playlist."""

import math
import re
from collections.abc import Sequence
from typing import Final

from gateway.formats.hls import media_playlist
from gateway.formats.hls.multivariant_playlist import SUBTITLES, SubtitleRendition, subtitle_tags

_ENTRY: Final = "#EXT-X-MEDIA:TYPE=SUBTITLES,"
_VARIANT: Final = "#EXT-X-STREAM-INF:"
_ATTRIBUTE: Final = re.compile(r',SUBTITLES="[^"]*"')


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
    attribute = f',SUBTITLES="{SUBTITLES}"' if renditions else ""
    entries = [tag.rstrip() for tag in subtitle_tags(renditions)]
    lines: list[str] = []
    for line in master.split("\n"):
        if line.startswith(_VARIANT):
            lines += entries
            entries = []
            lines.append(_ATTRIBUTE.sub("", line.rstrip("\r")) + attribute)
        elif not line.startswith(_ENTRY):
            lines.append(line)
    return "\n".join(lines)
