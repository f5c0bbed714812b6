"""Reads stream ids: who calls, for which stream, and whether to push or to play.

Three forms are accepted: `publish:<id>?sign=<key>` or `read:<id>?<query>`; the syntax of the draft's Appendix B,
`#!::r=<id>,m=publish,sign=<key>`; and `<id>?sign=<key>` to push or `<id>` to play.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

_STANDARD: Final = "#!::"
_MODES: Final = {"publish": True, "request": False}
_PREFIXES: Final = {"publish:": True, "read:": False}
_MAX_FIELDS: Final = 16


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
    if text.startswith(_STANDARD):
        return _parse_standard(text.removeprefix(_STANDARD))
    is_push: bool | None = None
    for prefix, pushes in _PREFIXES.items():
        if text.startswith(prefix):
            text, is_push = text.removeprefix(prefix), pushes
    name, _, encoded = text.partition("?")
    query = _fields(encoded)
    return _request(name, "sign" in query if is_push is None else is_push, query)


def _parse_standard(text: str) -> StreamId:
    fields: dict[str, str] = {}
    pairs = text.split(",", _MAX_FIELDS)
    if len(pairs) > _MAX_FIELDS:
        raise InvalidStreamId("too many fields")
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise InvalidStreamId("a pair without =")
        fields[key] = value
    name, mode = fields.pop("r", ""), fields.pop("m", "request")
    if mode not in _MODES:
        raise InvalidStreamId("a mode other than publish and request")
    # Some programs write the whole address of the stream into the resource.
    name, _, encoded = name.partition("?")
    return _request(name, _MODES[mode], fields | _fields(encoded))


def _fields(encoded: str) -> dict[str, str]:
    parts = encoded.split("&", _MAX_FIELDS) if encoded else []
    if len(parts) > _MAX_FIELDS:
        raise InvalidStreamId("too many fields")
    pairs = (part.partition("=") for part in parts)
    return {key: unquote(value) for key, _, value in pairs}


def _request(name: str, is_push: bool, query: Mapping[str, str]) -> StreamId:
    if not name:
        raise InvalidStreamId("no stream is named")
    return StreamId(name, is_push, query)
