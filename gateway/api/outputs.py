"""Outputs: which ones this gateway has, and the fields that those bring which are not in the contract."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from gateway.api.answers import answer
from gateway.api.channel_fields import described
from gateway.outputs.descriptor import OutputDescriptor, OutputField
from gateway.outputs.registry import all_outputs


async def index(request: web.Request) -> web.Response:
    """The outputs in the order in which those of a stream start."""
    return answer([_described(output) for output in all_outputs()])


def _described(output: OutputDescriptor) -> dict[str, Any]:
    return {
        "name": output.name,
        "flag": output.flag,
        "label": dict(output.label),
        "fields": [_field(name, one) for name, one in output.fields.items()],
    }


def _field(name: str, one: OutputField) -> dict[str, Any]:
    found = {"name": name, **described(one.field), "label": dict(one.label)}
    return {**found, "unit": one.unit or found["unit"]}
