"""Names: of streams, `<id>` for a channel's source and `<id>@720p` for a rendition of it; keys of stored objects."""

from __future__ import annotations

import re

_CHANNEL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", re.ASCII)
_RENDITION = re.compile(r"[a-z0-9]{1,32}", re.ASCII)


def is_channel_id(text: str) -> bool:
    """A name that may be pushed from outside: a strict alphabet without `@`, `/` or a leading dot."""
    return _CHANNEL.fullmatch(text) is not None


def is_stream_name(text: str) -> bool:
    """A channel id, or a channel id with a rendition."""
    channel, at, rendition = text.partition("@")
    return is_channel_id(channel) and (not at or _RENDITION.fullmatch(rendition) is not None)


def channel_of(name: str) -> str:
    """The channel whose rights and settings rule a stream: a rendition's are its parent's."""
    return name.partition("@")[0]


def is_object_key(text: str) -> bool:
    """The key of a stored object: a relative path of at most 1,024 bytes whose parts can be files anywhere."""
    return (
        text.isprintable()  # no surrogates either
        and len(text.encode()) <= 1024
        and "\\" not in text
        and all(part not in ("", ".", "..") and len(part.encode()) < 256 for part in text.split("/"))
    )
