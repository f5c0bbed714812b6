"""Types of values that the API shows, with their JSON schema. Worker programs must not import them, with pydantic."""

from typing import Annotated, TypeAlias

from pydantic import Field

Time: TypeAlias = Annotated[str, Field(json_schema_extra={"format": "date-time"})]  # as `rfc3339` makes it
