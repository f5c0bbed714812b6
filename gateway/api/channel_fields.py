"""The fields of a channel, described for forms and openapi.json: type, default, bounds."""

from typing import Any

from gateway.channels import fields


def described(field: fields.Field[Any]) -> dict[str, Any]:
    """Returns type, default and bounds. The bounds of a text or a list are those of its length."""
    description: dict[str, Any] = {"type": "text", "default": field.default, "minimum": None, "maximum": None}
    description |= {"whole": False, "values": [], "aliases": {}, "unit": ""}
    match field:
        case fields.Flag():
            description["type"] = "flag"
        case fields.Number():
            description |= {"type": "number", "minimum": field.minimum, "maximum": field.maximum}
            description |= {"whole": field.integer, "unit": field.unit}
        case fields.Choice():
            # A form offers the first name of a value. The others are aliases, which older clients stored.
            first_names: dict[Any, str] = {}
            names = {name: first_names.setdefault(value, name) for name, value in field.values.items()}
            aliases = {name: first_name for name, first_name in names.items() if name != first_name}
            description |= {"type": "choice", "values": list(first_names.values()), "aliases": aliases}
        case fields.TextField():
            description["maximum"] = field.max_length
        case fields.Parsed():
            description |= field.shown
    return description
