"""The fields of a channel and the outputs of a stream, described for forms and openapi.json: type, default, bounds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from gateway.api.answers import answer
from gateway.api.context import CONTEXT
from gateway.channels import fields
from gateway.channels.inputs import MAX_INPUTS
from gateway.channels.schedule import MAX_LENGTH
from gateway.outputs.descriptor import LocalizedText, OutputField
from gateway.outputs.registry import all_outputs
from gateway.playback.formats import FORMATS

MAX_TRACKS_LENGTH: Final = 1_024


async def index(request: web.Request) -> web.Response:
    """Returns the fields in the order of a form. Those of installed outputs are in `GET /outputs`."""
    unused = fields.unused(tasks=request.app[CONTEXT].tasks)
    return answer(
        [
            {"name": name, "group": group, **described(field), "used": name not in unused}
            for group, members in fields.GROUPS.items()
            for name, field in members.items()
        ]
    )


async def outputs(request: web.Request) -> web.Response:
    """Returns the outputs in start order, then the playback formats with extra fields.

    An output lists only its fields that are not in the contract.
    """
    descriptions = [_output_json(output.name, output.flag, output.label, output.fields) for output in all_outputs()]
    return answer(
        descriptions
        + [
            _output_json(play_format.output, play_format.flag, play_format.label, play_format.fields)
            for play_format in FORMATS
            if play_format.fields
        ]
    )


def _output_json(name: str, flag: str, label: LocalizedText, fields: Mapping[str, OutputField]) -> dict[str, Any]:
    return {
        "name": name,
        "flag": flag,
        "label": dict(label),
        "fields": [_field_json(name, field) for name, field in fields.items()],
    }


def _field_json(name: str, field: OutputField) -> dict[str, Any]:
    description = {"name": name, **described(field.field), "label": dict(field.label)}
    return {**description, "unit": field.unit or description["unit"]}


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
