"""Schemas of captions."""

from typing import Annotated

from pydantic import Field

from gateway.api.schema_base import Body, ExpectedText, Schema
from gateway.media.labels import LANGUAGE
from gateway.media.timed_data import MAX_TEXT


class Captions(Schema):
    """Captions that viewers can choose. found: whether any arrived since the channel is live. last: their last text."""

    source: str
    language: str
    label: str
    default: bool
    found: bool
    last: str


class NewCaption(Body):
    """A caption. from, to: ISO form or seconds since 1970."""

    text: Annotated[
        str,
        Field(max_length=MAX_TEXT, pattern=r"\S"),
        ExpectedText(f"expected text of 1 to {MAX_TEXT} characters"),
    ]
    language: Annotated[
        str, Field(pattern=f"^{LANGUAGE.pattern}$"), ExpectedText("expected a language such as en or pt-BR")
    ] = ""
    from_: Annotated[str | float | None, Field(alias="from"), ExpectedText("expected a time")] = None
    to: Annotated[str | float | None, ExpectedText("expected a time")] = None


class AcceptedCaption(Schema):
    """A caption that viewers get."""

    accepted: bool
