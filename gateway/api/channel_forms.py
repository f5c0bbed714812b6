"""The fields of a channel and the outputs of a stream, for forms."""

from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from gateway.api import schemas
from gateway.api.answers import answer
from gateway.api.channel_fields import described
from gateway.api.route import operation
from gateway.channels import fields
from gateway.outputs.descriptor import LocalizedText, OutputField
from gateway.outputs.registry import all_outputs
from gateway.playback.formats import FORMATS
from gateway.settings.ladders import LadderSettings

RUNS_TASKS: Final = web.AppKey("tasks", bool)  # whether this gateway starts tasks in the cloud, see `workers.runner`

LADDERS: Final = web.AppKey("ladders", Mapping[str, LadderSettings])  # by name

DEFAULTS: Final = web.AppKey("defaults", Mapping[str, Any])  # of fields whose default is a setting


@operation(list[schemas.FormField])
async def index(request: web.Request) -> web.Response:
    """The fields that a channel can have.

    Those of installed outputs are in `GET /outputs`.
    """
    unused, defaults = fields.unused(tasks=request.app[RUNS_TASKS]), request.app[DEFAULTS]
    return answer(
        [
            {"name": name, "group": group, **described(field), "used": name not in unused}
            | ({"default": defaults[name]} if name in defaults else {})
            for group, members in fields.GROUPS.items()
            for name, field in members.items()
        ]
    )


@operation(list[schemas.KnownLadder])
async def ladders(request: web.Request) -> web.Response:
    """The ladders that a channel can name, with their renditions from the smallest to the largest."""
    return answer([{"name": name, **ladder.model_dump()} for name, ladder in request.app[LADDERS].items()])


@operation(list[schemas.KnownOutput])
async def outputs(request: web.Request) -> web.Response:
    """The outputs that a stream can have.

    An output lists only its fields that `GET /fields` does not list.
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
