"""What all shapes of the API's JSON are made of."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Flag: TypeAlias = bool | Literal["true", "false"]
Number: TypeAlias = float | Annotated[str, Field(pattern=r"^\s*-?[0-9]+(\.[0-9]+)?\s*$")]
Time: TypeAlias = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Shape(BaseModel):
    """An answer: all of its fields are always there."""

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=True)


class Open(BaseModel):
    """Fields that are not named here are stored and shown as they are."""

    model_config = ConfigDict(extra="allow")


class Ports(Shape):
    """null: not open."""

    rtmp: int | None
    rtmps: int | None
    http: int | None
    https: int | None
    ws: int | None
    wss: int | None
    admin: int | None
