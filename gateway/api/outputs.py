"""Outputs: which ones this gateway has, and the fields that those bring which are not in the contract."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.api.answers import answer
from gateway.channels import fields
from gateway.outputs.descriptor import OutputDescriptor, OutputField
from gateway.outputs.registry import all_outputs


async def index(request: web.Request) -> web.Response:
    """The outputs in the order in which those of a stream start."""
    return answer([_described(output) for output in all_outputs()])


def _described(output: OutputDescriptor) -> dict[str, Any]:
    described = [{"name": name, **_field(one)} for name, one in output.fields.items()]
    return {"name": output.name, "flag": output.flag, "label": dict(output.label), "fields": described}


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
