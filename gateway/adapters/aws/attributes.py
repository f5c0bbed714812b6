"""Converts between DynamoDB attribute values and the JSON values of stored records."""

import base64
from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def to_attribute(value: Any) -> dict[str, Any]:
    """Returns a JSON value as an attribute value. true becomes BOOL. Text becomes S. Numbers become N without loss.

    A frozenset of texts becomes SS.
    """
    if value is None:
        return {"NULL": True}
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, int | float):
        # repr returns the shortest digits for the float, at most 17. DynamoDB stores 38.
        return {"N": str(Decimal(repr(value))) if isinstance(value, float) else str(value)}
    if isinstance(value, Mapping):
        return {"M": {str(k): to_attribute(v) for k, v in value.items()}}
    if isinstance(value, list | tuple):
        return {"L": [to_attribute(v) for v in value]}
    if isinstance(value, frozenset):
        return {"SS": sorted(value)}
    raise TypeError(f"{type(value).__name__} is not a JSON value")


def to_item(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the attributes of an item with these fields."""
    return {name: to_attribute(value) for name, value in fields.items()}


def from_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of an item as JSON values."""
    return {name: from_attribute(value) for name, value in item.items()}


def from_attribute(attribute: Mapping[str, Any]) -> Any:
    """Returns an attribute value as a JSON value.

    Sets become lists and bytes become base64, so that values of other programs can be displayed.
    """
    ((kind, value),) = attribute.items()
    match kind:
        case "NULL":
            return None
        case "N":
            return _number(value)
        case "M":
            return {k: from_attribute(v) for k, v in value.items()}
        case "L":
            return [from_attribute(v) for v in value]
        case "NS":
            return sorted(_number(v) for v in value)
        case "SS":
            return sorted(value)
        case "B":
            return base64.b64encode(value).decode()
        case "BS":
            return sorted(base64.b64encode(v).decode() for v in value)
        case _:  # S, BOOL
            return value


def _number(text: str) -> int | float:
    number = Decimal(text)
    # copy_abs, because abs() rounds to 28 digits. "1E+125" is a whole number too, but becomes a float: as an integer it
    # has 126 digits.
    return int(number) if number == number.to_integral_value() and number.copy_abs() < 10**38 else float(number)
