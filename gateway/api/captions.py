"""The captions of a live channel: shows the tracks and their last text, and takes captions."""

from typing import Annotated

from aiohttp import web
from pydantic import Field

from gateway.api.answers import Conflict, answer
from gateway.api.body import read
from gateway.api.channels import stored_channel
from gateway.api.moments import read_moment
from gateway.api.route import operation
from gateway.api.schema_base import Body, ExpectedText, Schema
from gateway.api.sessions import source_stream
from gateway.live.posted_captions import PostedCaption, post_caption
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


@operation(list[Captions])
async def show(request: web.Request) -> web.Response:
    """Show the captions of a channel.

    While it is live, also those that were found without being configured.
    """
    channel = await stored_channel(request)
    stream = source_stream(request, channel.id)
    tracks = stream.captions.texts if stream is not None else channel.captions
    logs = stream.captions.logs if stream is not None else {}
    found = []
    for track in tracks:
        log = logs.get(track.id)
        last = log.last if log is not None else None
        found.append({
            "source": track.source.lower(), "language": track.language, "label": track.label, "default": track.default,
            "found": last is not None, "last": last.text if last is not None else "",
        })  # fmt: skip
    return answer(found)


@operation(AcceptedCaption, body=NewCaption, status=202, statuses=(409, 429))
async def post(request: web.Request) -> web.Response:
    """Show a caption to the viewers of a live channel.

    At most 500 characters, and 10 captions a second. Without `from` it is shown now, without `to` as long as reading
    takes.
    """
    channel = await stored_channel(request)
    body = await read(request, NewCaption)
    start, end = (
        None if value is None else read_moment(value, name) for name, value in (("from", body.from_), ("to", body.to))
    )
    stream = source_stream(request, channel.id)
    if stream is None or stream.publisher is None:
        raise Conflict(f"{channel.id} is not live")
    post_caption(stream, PostedCaption(body.text, body.language, start, end))
    return answer({"accepted": True}, 202)
