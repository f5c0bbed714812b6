"""Reads stream ids: who calls, for which stream, and whether to push or to play.

Three forms are accepted: `publish:<id>?sign=<key>` or `read:<id>?<query>`; the syntax of the draft's Appendix B,
`#!::r=<id>,m=publish,sign=<key>`; and `<id>?sign=<key>` to push or `<id>` to play. Encoders vary them: with an
application before the id (`live/<id>`), without a mode, and Blackmagic's put the stream key into the user name `u`.
The whole may be percent-encoded.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

_STANDARD: Final = "#!::"
_MODES: Final = {"publish": True, "request": False}
_PREFIXES: Final = {"publish:": True, "read:": False}
_MAX_FIELDS: Final = 16
_IN_APPLICATION: Final = re.compile(r"/?(?:[A-Za-z0-9_-]+/)*([^/]+)")


class InvalidStreamId(ValueError):
    """The stream id has none of the forms. The message says why."""


@dataclass(frozen=True, slots=True)
class StreamId:
    """A request for a stream.

    name: the channel or stream. is_push: whether to push; otherwise to play.
    query: its fields, such as `sign` and `input`.
    """

    name: str
    is_push: bool
    query: Mapping[str, str]


def parse_stream_id(text: str) -> StreamId:
    """Returns the request. Raises InvalidStreamId."""
    if "%" in text and "?" not in text and not text.startswith(_STANDARD):
        text = unquote(text)  # some encoders send a stream id as it is written in an address
    if text.startswith(_STANDARD):
        return _parse_standard(text.removeprefix(_STANDARD))
    is_push: bool | None = None
    for prefix, pushes in _PREFIXES.items():
        if text.startswith(prefix):
            text, is_push = text.removeprefix(prefix), pushes
    name, _, encoded = text.partition("?")
    return _request(name, is_push, _fields(encoded))


def _parse_standard(text: str) -> StreamId:
    fields: dict[str, str] = {}
    pairs = text.split(",", _MAX_FIELDS)
    if len(pairs) > _MAX_FIELDS:
        raise InvalidStreamId("too many fields")
    key = ""
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if equals:
            key = name
            fields[key] = value
        elif key:
            fields[key] += f",{pair}"  # a comma in a name that somebody gave to an encoder
        else:
            raise InvalidStreamId("a pair without =")
    mode = fields.pop("m", "")
    if mode and mode not in _MODES:
        raise InvalidStreamId("a mode other than publish and request")
    is_push = _MODES[mode] if mode else True if any(map(_is_blackmagic, fields)) else None
    user = fields.pop("u", "")
    # Some programs write the whole address of the stream into the resource.
    name, _, encoded = (fields.pop("r", "") or user).partition("?")
    return _request(name, is_push, fields | _fields(encoded))


def _is_blackmagic(field: str) -> bool:
    return field.startswith("bmd_")


def _fields(encoded: str) -> dict[str, str]:
    parts = encoded.split("&", _MAX_FIELDS) if encoded else []
    if len(parts) > _MAX_FIELDS:
        raise InvalidStreamId("too many fields")
    pairs = (part.partition("=") for part in parts)
    return {key: unquote(value) for key, _, value in pairs}


def _request(name: str, is_push: bool | None, query: Mapping[str, str]) -> StreamId:
    """Returns the request. name: may begin with an application. is_push: None: a stream key means that it pushes."""
    name = name.strip().rstrip("/")
    if (parts := _IN_APPLICATION.fullmatch(name)) is not None:
        name = parts[1]
    if not name:
        raise InvalidStreamId("no stream is named")
    query = {key: value.strip() for key, value in query.items()}
    return StreamId(name, "sign" in query if is_push is None else is_push, query)
