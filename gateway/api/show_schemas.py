"""Schemas of shows: their list, the report of one, and the link to it."""

from typing import Annotated

from pydantic import ConfigDict, Field

from gateway.api.schema_base import Body, ExpectedText, Schema, Time
from gateway.api.session_schemas import Experience

MAX_DAYS = 366


class Show(Schema):
    """A show. end: null while it lasts. mean: viewers. watched: seconds of all viewers.

    url: the page of its recorded session; null: it was not recorded.
    """

    id: str
    start: Time
    end: Time | None
    title: str
    peak: int
    mean: float
    watched: int
    url: str | None


class WatchedBy(Schema):
    """The viewers by one protocol."""

    protocol: str
    peak: int
    mean: float
    watched: int


class ShowPage(Schema):
    """How many players began in one page, as far as they have reported it."""

    page: str
    players: int


class ShowCurve(Schema):
    """The most viewers in each `step` seconds since the start."""

    step: int
    viewers: list[int]


class ShowPause(Schema):
    """A time in which the publisher was away."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    since: Annotated[Time, Field(alias="from")]
    to: Time | None


class ShowFault(ShowPause):
    """A fault of the stream's health. to: null: it lasted to the end. text: "" for an output."""

    code: str
    text: str


class ShowRefusals(Schema):
    """How many pushes were refused for one reason."""

    protocol: str
    reason: str
    count: int


class ShowFailure(Schema):
    """An output that failed."""

    at: Time
    output: str


class ShowCue(Schema):
    """An ad cue. type: out, in or other."""

    at: Time
    type: str | None
    seconds: float | None


class ShowRecording(Schema):
    """A recording or a clip that began in the show."""

    kind: str
    start: Time
    seconds: float | None
    bytes: int | None


class EarlierShow(Schema):
    """The figures of the show before."""

    id: str
    start: Time
    end: Time | None
    title: str
    seconds: float
    peak: int
    mean: float
    watched: int


class ShowReport(Show):
    """The report of a show. sent, received: bytes. captions: their languages or names.

    incomplete: there were more events than the report lists. before: null: there is no earlier show.
    """

    seconds: float
    peakAt: Time | None
    viewers: list[WatchedBy]
    pages: list[ShowPage]
    curve: ShowCurve
    sent: int
    received: int
    experience: Experience
    health: list[ShowFault]
    interruptions: list[ShowPause]
    refusals: list[ShowRefusals]
    failures: list[ShowFailure]
    captions: list[str]
    cues: list[ShowCue]
    recordings: list[ShowRecording]
    clips: list[ShowRecording]
    incomplete: bool
    before: EarlierShow | None


class NewShare(Body):
    """For how long a link to a report is valid."""

    days: Annotated[int, Field(ge=1, le=MAX_DAYS), ExpectedText(f"expected a number of days from 1 to {MAX_DAYS}")] = 30


class Share(Schema):
    """A link to a report, and when it expires."""

    url: str
    expires: Time
