"""Base classes of all schemas of the API's JSON."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from gateway.lib.shown_types import Time as Time
from gateway.settings.models import LISTENERS

Absent: TypeAlias = SkipJsonSchema[None]  # the default of a field that may be missing, but not null
Flag: TypeAlias = bool | Literal["true", "false"]
Number: TypeAlias = float | Annotated[str, Field(pattern=r"^\s*-?[0-9]+(\.[0-9]+)?\s*$")]


@dataclass(frozen=True, slots=True)
class ExpectedText:
    """Annotates a field of a body with the error text for a wrong or missing value."""

    text: str


class Schema(BaseModel):
    """An answer. All its fields are always present."""

    model_config = ConfigDict(extra="forbid", defer_build=True, json_schema_serialization_defaults_required=True)


class SparseSchema(Schema):
    """An answer. Its fields with a default may be missing."""

    model_config = ConfigDict(json_schema_serialization_defaults_required=False)


def to_answer(model: type[Schema], value: object, **computed: Any) -> dict[str, Any]:
    """Returns an answer with the fields of a model: the computed ones, all others from the attributes of `value`."""
    return {name: computed[name] if name in computed else getattr(value, name) for name in model.model_fields}


class Body(BaseModel):
    """The body of a request. Unknown fields are ignored."""

    model_config = ConfigDict(defer_build=True)


class OpenBody(Body):
    """The body of a request. Unknown fields are stored and shown unchanged."""

    model_config = ConfigDict(extra="allow")


class Ports(Schema):
    """Ports of the listeners; null: not open."""

    __annotations__ = dict.fromkeys(LISTENERS, int | None)
