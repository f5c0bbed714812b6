"""The fields of a channel and the outputs of a stream, described for forms and openapi.json: type, default, bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.api.answers import answer
from gateway.channels import fields
from gateway.channels.schedule import MAX_LENGTH
from gateway.outputs.descriptor import LocalizedText, OutputField
from gateway.outputs.registry import all_outputs
from gateway.playback.formats import FORMATS


async def index(request: web.Request) -> web.Response:
    """Returns the fields in the order of a form. Those of installed outputs are in `GET /outputs`."""
    return answer(
        [
            {"name": name, "group": group, **described(field)}
            for group, members in fields.GROUPS.items()
            for name, field in members.items()
        ]
    )


async def outputs(request: web.Request) -> web.Response:
    """Returns the outputs in start order, then the playback formats with extra fields.

    An output lists only its fields that are not in the contract.
    """
    found = [_output_json(one.name, one.flag, one.label, one.fields) for one in all_outputs()]
    return answer(found + [_output_json(one.output, one.flag, one.label, one.fields) for one in FORMATS if one.fields])


def _output_json(name: str, flag: str, label: LocalizedText, fields: Mapping[str, OutputField]) -> dict[str, Any]:
    return {
        "name": name,
        "flag": flag,
        "label": dict(label),
        "fields": [_field_json(name, field) for name, field in fields.items()],
    }


def _field_json(name: str, field: OutputField) -> dict[str, Any]:
    found = {"name": name, **described(field.field), "label": dict(field.label)}
    return {**found, "unit": field.unit or found["unit"]}


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
            # A form offers the first name of a value. The others are aliases, which older clients stored.
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
