"""The fields of a channel as a form and openapi.json need them: type, default, bounds and group."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.api.answers import answer
from gateway.channels import fields
from gateway.channels.schedule import MAX_LENGTH


async def index(request: web.Request) -> web.Response:
    """The fields in the order of a form. Those of installed outputs stand in `GET /outputs`."""
    return answer(
        [
            {"name": name, "group": group, **described(field)}
            for group, members in fields.GROUPS.items()
            for name, field in members.items()
        ]
    )


def described(field: fields.Field[Any]) -> dict[str, Any]:
    """Returns type, default and bounds. The bounds of a text or a list are those of its length."""
    found: dict[str, Any] = {
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
            found["type"] = "flag"
        case fields.Number():
            found |= {"type": "number", "minimum": field.minimum, "maximum": field.maximum}
            found |= {"whole": field.integer, "unit": field.unit}
        case fields.Days():
            found |= {"type": "days", "minimum": 0, "maximum": fields.MAX_DAYS, "whole": True, "unit": "days"}
        case fields.Choice():
            # The first name of a value is offered. The others are what older clients wrote for it.
            first: dict[Any, str] = {}
            names = {name: first.setdefault(value, name) for name, value in field.values.items()}
            aliases = {name: offered for name, offered in names.items() if name != offered}
            found |= {"type": "choice", "values": list(first.values()), "aliases": aliases}
        case fields.Hosts():
            found |= {"type": "hosts", "maximum": fields.MAX_REFERERS}
        case fields.Targets():
            found |= {"type": "targets", "maximum": fields.MAX_RELAYS}
        case fields.TextField():
            found["maximum"] = field.max_length
        case fields.ScheduleField():
            found["maximum"] = MAX_LENGTH
    return found
