"""Checks the languages and names of tracks, which come from publishers, files, the API and other nodes."""

import re
from typing import Final, TypeGuard

# BCP 47: a language of two to eight letters and up to three additional parts; or "", if it is unknown.
LANGUAGE: Final = re.compile(r"([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3})?", re.ASCII)
# Control characters, line separators, and what no UTF-8 or XML 1.0 has.
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")


def is_language(value: object) -> TypeGuard[str]:
    """Whether a value is a language, such as en or pt-BR."""
    return isinstance(value, str) and value != "" and LANGUAGE.fullmatch(value) is not None


def printable(text: str) -> str:
    """Returns a text without the characters that playlists and XML cannot have."""
    return _UNPRINTABLE.sub("", text)


def quotable(text: str) -> str:
    """Returns a text that can stand in a quoted string of a playlist (RFC 8216bis §4.2). Quotation marks change."""
    return printable(text).replace('"', "'")
