"""Checks stream names (`<id>` for a channel's source, `<id>@720p` for a rendition) and keys of stored objects."""

import hashlib
import re
from typing import Final

# The header of the requests of a pull over HTTP and RTSP. Its value is `pull_mark`, by which a gateway detects a loop.
PULL_HEADER: Final = "x-millrace-pull"

_CHANNEL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", re.ASCII)
_RENDITION = re.compile(r"[a-z0-9]{1,32}", re.ASCII)


def is_channel_id(text: str) -> bool:
    """Whether a publisher may use this name: safe characters only, no `@`, no `/` and no leading dot."""
    return _CHANNEL.fullmatch(text) is not None


def is_stream_name(text: str) -> bool:
    """Whether the name is a channel id, alone or with a rendition."""
    channel, at, rendition = text.partition("@")
    return is_channel_id(channel) and (not at or _RENDITION.fullmatch(rendition) is not None)


def channel_of(name: str) -> str:
    """Returns the channel id of a stream or rendition. The rights and settings of this channel apply."""
    return name.partition("@")[0]


def pull_mark(id: str) -> str:
    """Returns the text by which a gateway recognizes a pull of this channel. Other servers cannot read the id in it."""
    return hashlib.sha256(f"pull/{id}".encode()).hexdigest()[:32]


def is_object_key(text: str) -> bool:
    """Whether the text can be the key of a stored object.

    It must be a relative path of at most 1,024 bytes. Each part must be a valid file name on every system.
    """
    return (
        text.isprintable()  # this also excludes surrogates
        and len(text.encode()) <= 1024
        and "\\" not in text
        and all(part not in ("", ".", "..") and len(part.encode()) < 256 for part in text.split("/"))
    )


def is_served_key(text: str) -> bool:
    """Whether the text can be the key of an object for viewers. Names that begin with "." are unfinished or private."""
    return is_object_key(text) and not any(part.startswith(".") for part in text.split("/"))
