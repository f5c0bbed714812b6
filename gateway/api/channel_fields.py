"""The fields of a channel, described for forms and openapi.json: type, default, bounds."""

from __future__ import annotations

from typing import Any, Final

from gateway.channels import fields
from gateway.channels.inputs import MAX_INPUTS
from gateway.channels.schedule import MAX_LENGTH

MAX_TRACKS_LENGTH: Final = 1_024


def described(field: fields.Field[Any]) -> dict[str, Any]:
    """Returns type, default and bounds. The bounds of a text or a list are those of its length."""
    description: dict[str, Any] = {
        "type": "text",
        "default": field.default,
        "minimum": None,
        "maximum": None,
        "whole": False,
        "values": [],
        "aliases": {},
        "unit": "",
    }
    match field:
        case fields.Flag():
            description["type"] = "flag"
        case fields.Number():
            description |= {"type": "number", "minimum": field.minimum, "maximum": field.maximum}
            description |= {"whole": field.integer, "unit": field.unit}
        case fields.InputList():
            description |= {"type": "inputs", "maximum": MAX_INPUTS}
        case fields.Days():
            description |= {"type": "days", "minimum": 0, "maximum": fields.MAX_DAYS, "whole": True, "unit": "days"}
        case fields.Choice():
            # A form offers the first name of a value. The others are aliases, which older clients stored.
            first_names: dict[Any, str] = {}
            names = {name: first_names.setdefault(value, name) for name, value in field.values.items()}
            aliases = {name: first_name for name, first_name in names.items() if name != first_name}
            description |= {"type": "choice", "values": list(first_names.values()), "aliases": aliases}
        case fields.Hosts():
            description |= {"type": "hosts", "maximum": fields.MAX_REFERERS}
        case fields.Targets():
            description |= {"type": "targets", "maximum": fields.MAX_RELAYS}
        case fields.TextField():
            description["maximum"] = field.max_length
        case fields.TracksField():
            description |= {"default": "default", "maximum": MAX_TRACKS_LENGTH}
        case fields.ScheduleField():
            description["maximum"] = MAX_LENGTH
    return description
