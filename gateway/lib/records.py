"""Reads frozen dataclasses from JSON: messages of workers and rows of stores."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def read_record(kind: type[T], values: Mapping[str, Any], *, defaults: bool = False) -> T:
    """Returns a dataclass with these values, each converted to the type of its field. Ignores values without a field.

    Fields may be numbers, text, flags, enums, mappings, dataclasses, tuples of them, and any of these or None.
    defaults: whether a field with a default may be missing, and None stands for an empty mapping. Otherwise each field
    must have a value.
    Raises KeyError, TypeError or ValueError.
    """
    return kind(
        **{
            name: _convert(hint, values[name], defaults)
            for name, hint, required in _fields(kind)  # type: ignore[arg-type]  # a class is hashable
            if required or not defaults or name in values
        }
    )


@cache
def _fields(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    hints = get_type_hints(kind)
    return tuple((f.name, hints[f.name], f.default is MISSING and f.default_factory is MISSING) for f in fields(kind))


def _convert(hint: Any, value: Any, defaults: bool) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is UnionType:
        return None if value is None else _convert(arguments[0], value, defaults)
    if origin is tuple:
        return tuple(_convert(arguments[0], item, defaults) for item in value)
    if origin is Mapping:
        return dict(value or {}) if defaults else dict(value)
    if isinstance(hint, type) and is_dataclass(hint):
        return read_record(hint, value, defaults=defaults)
    return hint(value)
