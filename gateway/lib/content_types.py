"""Content types by suffix for the files that Millrace stores and serves, on disks and in buckets."""

from pathlib import PurePosixPath
from typing import Final

_TYPES: Final = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".ts": "video/mp2t",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".m4a": "audio/mp4",
    ".flv": "video/x-flv",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".vtt": "text/vtt; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}


def content_type(name: str) -> str:
    """Returns the content type for a file name or an object key."""
    return _TYPES.get(PurePosixPath(name).suffix.lower(), "application/octet-stream")


def is_media_name(name: str) -> bool:
    """Whether a file name has the suffix of a file that Millrace stores."""
    return PurePosixPath(name).suffix.lower() in _TYPES
