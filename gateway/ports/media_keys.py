"""Builds and parses the object keys for the recorded media of a channel.

Dates are in UTC. The month and day in folder names have no leading zero.
Keys of the old system are parsed too. Dates in them are in the time zone of its machines, Asia/Shanghai. But its
pictures, and its motion clips with two-digit months and days, have names like ours: their dates are read as UTC.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Final

_DAY: Final = r"(?P<year>[0-9]{4})/(?P<month>[1-9]|1[0-2])/(?P<day>[1-9]|[12][0-9]|3[01])"
_MOMENT: Final = r"(?P<moment>[0-9]{4}-[0-9]{2}-[0-9]{2}[_-][0-9]{2}-[0-9]{2}-[0-9]{2})"
_SHANGHAI: Final = timezone(timedelta(hours=8))
# Month and day without leading zeros, then the time and its milliseconds.
_OLD_MOTION: Final = r"(?P<moment>[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}_[0-9]{2}-[0-9]{2}-[0-9]{2})-[0-9]{3}"


MULTIVARIANT: Final = "master"  # stands for the track in the name of a multivariant playlist; no track has this id
# The captions of a segment or of a session.
_CAPTIONED: Final = re.compile(r"([^/]+/(?:720p/|vod-)[0-9]{13})\.([a-z0-9-]{1,64})\.(vtt|m3u8)", re.ASCII)
_SESSION: Final = re.compile(r"[^/]+/vod-([0-9]{13})((?:\.master)?\.m3u8|\.json)", re.ASCII)  # of its objects
_SESSION_FILE: Final = re.compile(r"([0-9]{13})/(|poster\.jpg|video\.mp4)", re.ASCII)
_TRIM: Final = re.compile(r"([^/]+)/trims/([0-9]{13})-([0-9]{13})-([0-9]{13})\.mp4", re.ASCII)
_POSTER: Final = re.compile(r"poster/[0-9a-f]{16}\.jpg", re.ASCII)


class MediaKind(StrEnum):
    """The kind of an object below `<id>/`. The value is its name in the API."""

    VIDEO = "video"
    ONDEMAND = "ondemand"  # the playlist of one on-demand recording
    SEGMENT = "segment"  # a segment of that playlist
    IMAGE = "image"
    MOTION = "motion"
    CLIP = "clip"
    CAPTIONS = "captions"  # beside an MP4, beside a segment, or a playlist beside that of a session
    MP4_LIST = "mp4_list"  # the old system's list of its MP4 recordings


_PATTERNS: Final = {
    MediaKind.VIDEO: re.compile(rf"mp4/{_DAY}/capture-{_MOMENT}-(?P<ms>[0-9]{{13}})[\w.-]*\.mp4", re.ASCII),
    MediaKind.CAPTIONS: re.compile(
        rf"(?:mp4/{_DAY}/capture-{_MOMENT}-|720p/|vod-)(?P<ms>[0-9]{{13}})\.[\w-]+\.(?:vtt|m3u8)", re.ASCII
    ),
    MediaKind.ONDEMAND: re.compile(r"vod-(?P<ms>[0-9]{13})\.m3u8", re.ASCII),
    MediaKind.SEGMENT: re.compile(r"720p/(?P<ms>[0-9]{13})\.ts", re.ASCII),
    MediaKind.IMAGE: re.compile(rf"images/{_DAY}/capture-{_MOMENT}[\w.-]*\.jpe?g", re.ASCII),
    MediaKind.CLIP: re.compile(rf"clips/{_DAY}/clip-(?P<ms>[0-9]{{13}})-[0-9]{{13}}\.mp4", re.ASCII),
    MediaKind.MOTION: re.compile(rf"motion/(?:images|mp4)/{_DAY}/{_MOMENT}[\w.-]*\.(?:jpe?g|mp4)", re.ASCII),
}
_OLD_PATTERNS: Final = {
    # The number is the day of the month.
    MediaKind.VIDEO: re.compile(rf"mp4/{_DAY}/capture-[0-9]{{3}}-{_MOMENT}\.mp4", re.ASCII),
    MediaKind.MOTION: re.compile(rf"motion/(?:images|mp4)/{_DAY}/{_OLD_MOTION}[\w.-]*\.(?:jpe?g|mp4)", re.ASCII),
    MediaKind.MP4_LIST: re.compile(rf"mp4/{_DAY}/vod-index\.m3u8", re.ASCII),
}


@dataclass(frozen=True, slots=True)
class Trim:
    """A part of a session that becomes a film. playlist: of the session. start, end: seconds since 1970."""

    channel: str
    playlist: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class MediaKey:
    """The parts of a key. start: seconds since 1970 of the first frame."""

    channel: str
    kind: MediaKind
    start: float


def video_key(channel: str, start_ms: int) -> str:
    """Returns the key of an MP4. start_ms: milliseconds since 1970."""
    at = datetime.fromtimestamp(start_ms / 1000, UTC)
    return f"{channel}/mp4/{day_folder(at)}/capture-{at:%Y-%m-%d_%H-%M-%S}-{start_ms}.mp4"


def captions_key(video: str, track: str) -> str:
    """Returns the key of the captions beside an MP4. track: the id of the caption track."""
    return f"{video.removesuffix('.mp4')}.{track}.vtt"


def playlist_captions_key(playlist: str, track: str) -> str:
    """Returns the key of the subtitle playlist of a session. It is not stored, but made from the session's playlist."""
    return f"{playlist.removesuffix('.m3u8')}.{track}.m3u8"


def multivariant_key(playlist: str) -> str:
    """Returns the key of the multivariant playlist, which lists a session with captions and its subtitles."""
    return playlist_captions_key(playlist, MULTIVARIANT)


def session_record_key(playlist: str) -> str:
    """Returns the key of the record of a session, see `SessionRecord`. `parse` does not know it: it is never served."""
    return f"{playlist.removesuffix('.m3u8')}.json"


def session_object(key: str) -> tuple[int, str] | None:
    """Returns the start (ms) of a session and the suffix of a key: .m3u8, .master.m3u8 or .json; None for others."""
    match = _SESSION.fullmatch(key)
    return (int(match[1]), match[2]) if match is not None else None


def session_file_key(playlist: str, file: str) -> str:
    """Returns the name of a file of a session in the form of a key, so that it has an address. No object has it."""
    channel, _, start = playlist.removesuffix(".m3u8").rpartition("/vod-")
    return f"{channel}/{start}/{file}"


def session_file(path: str) -> tuple[int, str] | None:
    """Returns the start (ms) of a session and the name of its file, for a path below `<id>/vod/`; None for others.

    The file of its page is "". The others are made when they are requested.
    """
    match = _SESSION_FILE.fullmatch(path)
    return (int(match[1]), match[2]) if match is not None else None


def trim_key(playlist: str, start: float, end: float) -> str:
    """Returns the source of the film with a part of a session. No object has this key: its media are joined for it."""
    session = playlist.rpartition("/vod-")
    return f"{session[0]}/trims/{session[2].removesuffix('.m3u8')}-{start * 1000:013.0f}-{end * 1000:013.0f}.mp4"


def parse_trim(key: str) -> Trim | None:
    """Returns the part of a session that `trim_key` names; None for any other key."""
    match = _TRIM.fullmatch(key)
    if match is None:
        return None
    return Trim(match[1], playlist_key(match[1], int(match[2])), int(match[3]) / 1000, int(match[4]) / 1000)


def is_of_channel(folder: str) -> bool:
    """Whether a film in this folder was made of a recording. Then it has the protection of a channel, even unknown."""
    return parse(f"{folder}.mp4") is not None or parse_trim(f"{folder}.mp4") is not None


def segment_captions_key(segment: str, track: str) -> str:
    """Returns the key of the captions beside an on-demand segment. track: the id of the caption track."""
    return f"{segment.removesuffix('.ts')}.{track}.vtt"


def captioned(key: str) -> tuple[str, str] | None:
    """Returns the segment or the session's playlist to which captions belong, and their track; None for other keys."""
    match = _CAPTIONED.fullmatch(key)
    return (f"{match[1]}.{'ts' if match[3] == 'vtt' else 'm3u8'}", match[2]) if match is not None else None


def clip_key(channel: str, start_ms: int, end_ms: int) -> str:
    """Returns the key of a clip.

    start_ms, end_ms: of its time range, milliseconds since 1970.
    """
    at = datetime.fromtimestamp(start_ms / 1000, UTC)
    return f"{channel}/clips/{day_folder(at)}/clip-{start_ms}-{end_ms}.mp4"


def image_key(channel: str, at: datetime) -> str:
    """Returns the key of a still image. A channel has at most one per second."""
    at = at.astimezone(UTC)
    return f"{channel}/images/{day_folder(at)}/capture-{at:%Y-%m-%d_%H-%M-%S}.jpg"


def poster_key(channel: str, tag: str) -> str:
    """Returns the key of a channel's poster. tag: 16 hexadecimal digits that differ for every picture."""
    return f"{channel}/poster/{tag}.jpg"


def is_poster(key: str) -> bool:
    """Whether this is the key of a poster. `parse` does not know it, so retention does not delete it."""
    return _POSTER.fullmatch(key.partition("/")[2]) is not None


def playlist_key(channel: str, start_ms: int) -> str:
    """Returns the key of the playlist of one on-demand recording. start_ms: milliseconds since 1970."""
    return f"{channel}/vod-{start_ms}.m3u8"


def segment_key(channel: str, number: int) -> str:
    """Returns the key of an on-demand segment."""
    return f"{channel}/{segment_uri(number)}"


def segment_uri(number: int) -> str:
    """Returns the URI of a segment in its playlist. The folder is always "720p", as in the old system."""
    return f"720p/{number}.ts"


def day_folder(at: datetime) -> str:
    """Returns `YYYY/M/D`."""
    return f"{at.year:04d}/{at.month}/{at.day}"


def parse(key: str) -> MediaKey | None:
    """Returns the parts of a key that Millrace or the old system wrote; None for any other key."""
    channel, _, path = key.partition("/")
    for patterns, zone in ((_PATTERNS, UTC), (_OLD_PATTERNS, _SHANGHAI)):
        for kind, pattern in patterns.items():
            if match := pattern.fullmatch(path):
                try:
                    return MediaKey(channel, kind, _start(match.groupdict(), zone))
                except (ValueError, OverflowError):
                    return None
    return None


def _start(parts: dict[str, str], zone: timezone) -> float:
    """Returns the time in a name. Raises ValueError, OverflowError if the calendar does not have it."""
    if ms := parts.get("ms"):
        return int(ms) / 1000
    text = parts.get("moment") or "{year}-{month}-{day}-00-00-00".format(**parts)
    year, month, day, hour, minute, second = map(int, re.split("[_-]", text))
    return datetime(year, month, day, hour, minute, second, tzinfo=zone).astimezone(UTC).timestamp()
