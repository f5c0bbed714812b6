"""Outputs: which ones this gateway has, and the fields that those bring which are not in the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from gateway.api.answers import answer
from gateway.api.channel_fields import described
from gateway.outputs.descriptor import LocalizedText, OutputField
from gateway.outputs.registry import all_outputs
from gateway.playback.formats import FORMATS


async def index(request: web.Request) -> web.Response:
    """The outputs in the order in which those of a stream start, then the playback formats that bring fields."""
    outputs = [_described(one.name, one.flag, one.label, one.fields) for one in all_outputs()]
    return answer(outputs + [_described(one.output, one.flag, one.label, one.fields) for one in FORMATS if one.fields])


def _described(name: str, flag: str, label: LocalizedText, own: Mapping[str, OutputField]) -> dict[str, Any]:
    return {
        "name": name,
        "flag": flag,
        "label": dict(label),
        "fields": [_field(field, one) for field, one in own.items()],
    }


def _field(name: str, one: OutputField) -> dict[str, Any]:
    found = {"name": name, **described(one.field), "label": dict(one.label)}
    return {**found, "unit": one.unit or found["unit"]}
