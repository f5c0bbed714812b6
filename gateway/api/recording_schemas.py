"""Schemas of stored media: recordings, their titles and parts, clips, and the bin."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.api.film_texts import TITLE
from gateway.api.schema_base import Absent, Body, ExpectedText, Schema, SparseSchema, Time
from gateway.ports.films import MAX_TITLE


class Recording(Schema):
    """A recording. start: of the first frame. size: bytes; of an on-demand session, the size of its playlist.

    poster: the address of its picture. until: when it is deleted because of its age; null: never.
    Only of an on-demand session: title (empty: that of the channel), hidden, and page, the address of its page.
    """

    key: str
    kind: Literal["video", "ondemand", "clip", "motion", "image"]
    start: Time
    seconds: float | None
    size: int
    url: str
    poster: str | None
    title: str
    hidden: bool
    page: str | None
    until: Time | None


class SessionChanges(Body):
    """What operators say of an on-demand session. A missing field keeps its value. title: empty: that of the channel.

    hidden: the watch page does not play it, and viewers do not find its page.
    """

    title: Annotated[Annotated[str, Field(max_length=MAX_TITLE)] | Absent, TITLE, ExpectedText("expected a title")] = (
        None
    )
    hidden: Annotated[bool | None, ExpectedText("expected true or false")] = None


class SessionTexts(Schema):
    """What operators say of an on-demand session, see SessionChanges. page, poster: addresses; null if it is hidden."""

    key: str
    title: str
    hidden: bool
    page: str | None
    poster: str | None


class NewTrim(Body):
    """A part of an on-demand session that becomes a video. session: the number in the address of its page.

    from, to: in ISO form, in seconds since 1970, or in seconds from the start of the session; without them, its start
    and its end. name: the title of the video.
    """

    session: Annotated[
        str | int,
        Field(examples=["1764300000000"]),
        ExpectedText("expected the number in the address of a session's page"),
    ]
    from_: Annotated[str | float | None, Field(alias="from", examples=[12.5]), ExpectedText("expected a time")] = None
    to: Annotated[str | float | None, ExpectedText("expected a time")] = None
    name: Annotated[Annotated[str, Field(min_length=1, max_length=MAX_TITLE)], TITLE, ExpectedText("expected a name")]


class NewClip(Body):
    """The time of a clip: `last` seconds up to now, or `from` and `to` in ISO form or in seconds since 1970.

    Without `to`, it ends now.
    """

    last: Annotated[float | None, Field(gt=0, examples=[30])] = None
    from_: Annotated[str | float | None, Field(alias="from", examples=["2030-01-31T18:00:00Z"])] = None
    to: str | float | None = None


class Clip(Schema):
    """A clip that was made. start: of its first picture. size: bytes."""

    key: str
    url: str
    start: Time
    seconds: float
    size: int


class Media(Schema):
    """A recording or a video on demand.

    key: of a video on demand, the multivariant playlist. start: of a video on demand, when it was stored.
    deleted: when the channel was deleted; null: it exists or is unknown. url: null if the channel's protection is
    unknown.
    """

    channel: str
    videoname: str
    deleted: Time | None
    key: str
    kind: Literal["video", "ondemand", "clip", "motion", "image", "film"]
    start: Time
    seconds: float | None
    size: int
    url: str | None
    poster: str | None
    title: str
    hidden: bool
    page: str | None
    until: Time | None


class MediaChannel(Schema):
    """A deleted channel with stored media."""

    id: str
    videoname: str
    deleted: Time


class DeletedMedia(Schema):
    """Deleted media. key: null if all media of the channel were deleted.

    deleted: false while the deletion continues.
    """

    channel: str
    key: str | None
    deleted: bool


class DeletedRecording(Schema):
    key: str
    deleted: bool


class BinItem(Schema):
    """A deleted channel, recording or film that can be restored.

    kind: of the recording, "film" or "channel". title: of the film or channel. channel: the recording's channel.
    until: when it is deleted for good. size: bytes.
    """

    id: str
    kind: Literal["video", "ondemand", "clip", "motion", "image", "film", "channel"]
    key: str
    title: str | None
    channel: str | None
    start: Time | None
    deleted: Time
    until: Time
    size: int


class Restored(SparseSchema):
    """A restored or deleted channel, recording or film. text: what of a channel could not be restored."""

    id: str
    key: str
    text: str = ""
