"""The captions of a channel: the stored list and its checks."""

import re
from typing import Any, Final

from gateway.media.caption_track import CaptionTrack
from gateway.media.labels import is_language

FIELD: Final = "captions"  # of the stored channel
MAX_TRACKS: Final = 8
_SOURCE = re.compile(r"cc[1-4]|service([1-9]|[1-5][0-9]|6[0-3])|text|speech", re.ASCII)
# A quoted string of a playlist has no quotation marks and no line breaks (RFC 8216bis §4.2).
_LABEL = re.compile(r"[^\"\x00-\x1f\x7f-\x9f\ud800-\uf8ff]{0,64}")


def parse_captions(value: Any) -> tuple[CaptionTrack, ...]:
    """Returns the tracks of a stored list. Raises ValueError with what is expected."""
    if not isinstance(value, list) or len(value) > MAX_TRACKS:
        raise ValueError(f"expected a list of at most {MAX_TRACKS} captions")
    tracks = tuple(_parse(entry) for entry in value)
    if len({track.id for track in tracks}) < len(tracks):
        raise ValueError("expected each source of captions once, text and speech once in each language")
    if sum(track.default for track in tracks) > 1:
        raise ValueError("expected at most one default")
    return tracks


def is_label(text: str) -> bool:
    """Whether players can show a text as the name of captions."""
    return _LABEL.fullmatch(text) is not None


def _parse(entry: Any) -> CaptionTrack:
    if not isinstance(entry, dict):
        raise ValueError('expected captions such as {"source": "cc1", "language": "en", "label": "English"}')
    source, language, label = (entry.get(name) or "" for name in ("source", "language", "label"))
    default = entry.get("default", False)
    if not isinstance(source, str) or not _SOURCE.fullmatch(source):
        raise ValueError("expected as source of captions cc1 to cc4, service1 to service63, text or speech")
    if language and not is_language(language):
        raise ValueError("expected as language of captions a tag such as en or pt-BR")
    if not isinstance(label, str) or not _LABEL.fullmatch(label):
        raise ValueError("expected as label of captions at most 64 characters without quotation marks")
    if not isinstance(default, bool):
        raise ValueError("expected as default of captions true or false")
    name = source.upper()
    return CaptionTrack(name, label.strip() or language or name, language, default)
