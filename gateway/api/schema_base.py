"""Base classes of all shapes of the API's JSON."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from gateway.settings.models import LISTENERS

Flag: TypeAlias = bool | Literal["true", "false"]
Number: TypeAlias = float | Annotated[str, Field(pattern=r"^\s*-?[0-9]+(\.[0-9]+)?\s*$")]
Time: TypeAlias = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Shape(BaseModel):
    """An answer. All of its fields are always present."""

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)


class Open(BaseModel):
    """Unknown fields are stored and shown unchanged."""

    model_config = ConfigDict(extra="allow")


class Ports(Shape):
    """Ports of the listeners; null: not open."""

    __annotations__ = dict.fromkeys(LISTENERS, int | None)
