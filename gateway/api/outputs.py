"""Outputs: which ones this gateway has, and the fields that those bring which are not in the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.api.answers import answer
from gateway.channels import fields
from gateway.outputs.descriptor import OutputField, Words
from gateway.outputs.registry import all_outputs
from gateway.playback.formats import FORMATS


async def index(request: web.Request) -> web.Response:
    """The outputs in the order in which those of a stream start, then the playback formats that bring fields."""
    outputs = [_described(one.name, one.flag, one.label, one.fields) for one in all_outputs()]
    return answer(outputs + [_described(one.output, one.flag, one.label, one.fields) for one in FORMATS if one.fields])


def _described(name: str, flag: str, label: Words, own: Mapping[str, OutputField]) -> dict[str, Any]:
    described = [{"name": field, **_field(one)} for field, one in own.items()]
    return {"name": name, "flag": flag, "label": dict(label), "fields": described}


def _field(output_field: OutputField) -> dict[str, Any]:
    """The field as a form needs it: `type` is flag, number, choice or text."""
    field = output_field.field
    found: dict[str, Any] = {
        "type": "text",
        "default": field.absent,
        "minimum": None,
        "maximum": None,
        "whole": False,
        "values": [],
        "label": dict(output_field.label),
        "unit": output_field.unit,
    }
    match field:
        case fields.Flag():
            found["type"] = "flag"
        case fields.Number():
            found |= {"type": "number", "minimum": field.least, "maximum": field.most, "whole": field.whole}
        case fields.Choice():
            found |= {"type": "choice", "values": list(field.values)}
        case fields.TextField():
            found["maximum"] = field.longest
    return found
