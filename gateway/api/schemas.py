"""The shapes of the API's JSON as pydantic models, the source of openapi.json.

gateway.channels checks stored values.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model

from gateway.api.channel_fields import described
from gateway.api.console_schemas import SHAPES as CONSOLE
from gateway.api.schema_base import Flag, Number, Open, Ports, Shape, Time
from gateway.channels import fields
from gateway.ingest.registry import all_listeners
from gateway.playback.formats import FORMATS, LADDER


def _optional(field: fields.Field[Any]) -> Any:
    """Returns the JSON type of a stored field. The description says what a missing value means."""
    one = described(field)
    match one["type"]:
        case "flag":
            kind: Any = Flag
        case "number" | "days":
            bounds = {"x-minimum": one["minimum"], "x-maximum": one["maximum"]}
            kind = Annotated[Number, Field(json_schema_extra=bounds)]
            if one["type"] == "days":
                kind |= Literal[""]
        case "choice":
            kind = Literal[(*one["values"], *one["aliases"])]
        case "text":
            kind = Annotated[str, Field(max_length=one["maximum"])]
        case _:
            kind = str | list[str]
    if field.default is None:
        kind = kind | None
    words = "the gateway's own setting" if field.default in (None, ()) else f"{field.default!r}"
    return (kind, Field(default=None, description=f"Missing means {words}."))


_FIELDS: dict[str, Any] = {name: _optional(field) for name, field in fields.FIELDS.items()}
_OUTDATE = Field(
    description="Until when the channel may be pushed: a date (00:00 UTC of that day), a time, or seconds since 1970.",
    examples=["2030-01-31", "2030-01-31T18:00:00+08:00", 1893456000],
)

ChannelFields: type[BaseModel] = create_model("ChannelFields", __base__=Open, **_FIELDS)
NewChannel: type[BaseModel] = create_model("NewChannel", __base__=ChannelFields, outdate=(str | float, _OUTDATE))
ChannelChanges: type[BaseModel] = create_model(
    "ChannelChanges", __base__=ChannelFields, outdate=(str | float, _OUTDATE.merge_field_infos(_OUTDATE, default=None))
)


class _PlayUrls(Shape):
    """Addresses of the enabled outputs only: all except `rtmp` may be missing."""

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=False)


_PLAYS: dict[str, Any] = {
    address.name: (str | None, None) if format.flag else (str, ...)
    for format in FORMATS
    for address in format.addresses
}
PlayUrls: type[BaseModel] = create_model(
    "PlayUrls", __base__=_PlayUrls, __doc__=_PlayUrls.__doc__, **_PLAYS | {LADDER: (str | None, None)}
)

_PUSHES: dict[str, Any] = {
    name: (str, Field(description=words)) for listener in all_listeners() for name, words in listener.fields.items()
}
Channel: type[BaseModel] = create_model(
    "Channel",
    __base__=NewChannel,
    id=(str, Field(description="Made by the gateway.")),
    key=(str, Field(description="The stream key's sign, <expiry>-<hash>.")),
    TimeStamp=(float, Field(default=None, description="Kept for readers of the original table; deletes nothing.")),
    **_PUSHES,
    playUrls=(PlayUrls, ...),
    expired=(bool, Field(description="Whether `outdate` has passed.")),
)


class Output(Shape):
    """An output. Some have more fields: codec has `renditions`, `dropped` and `restarts`; relay has `targets`.

    kvs has `fragments`; video has `pieces` and `bytes`.
    """

    model_config = ConfigDict(extra="allow", json_schema_serialization_defaults_required=True)

    name: str
    enabled: bool
    state: Literal["off", "waiting", "running", "retrying", "done"]
    error: str | None


class Publisher(Shape):
    """The publisher of a stream. seconds: since the push began. dropped: unusable frames by reason."""

    protocol: str
    address: str
    seconds: float
    dropped: dict[str, int]


class Track(Shape):
    """A track of a stream. null: the publisher does not say.

    width, height, frameRate: of video. sampleRate, channels: of audio.
    """

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=False)

    kind: Literal["video", "audio"]
    codec: str
    profile: str | None
    width: int | None = None
    height: int | None = None
    frameRate: float | None = None
    sampleRate: int | None = None
    channels: int | None = None


class Session(Shape):
    """The session of a channel. since: start of the stream. bitrate: bits per second.

    viewers: by protocol, on all nodes. node: id of the node that holds the stream, where several nodes share the
    streams.
    """

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=False)

    id: str
    state: Literal["live", "lingering", "idle"]
    since: Time | None
    bitrate: int
    publisher: Publisher | None
    viewers: dict[str, int]
    tracks: list[Track]
    outputs: list[Output]
    node: str | None = None


class OnlineSession(Session):
    """A session in the list of live sessions."""

    videoname: str


class Switch(BaseModel):
    enabled: Flag


class NewJob(BaseModel):
    """A job to submit.

    source: the key of a stored object, s3://bucket/key, or a path below a folder of `vod.sources`.
    """

    source: Annotated[str, Field(min_length=1, max_length=2048, examples=["a.mp4", "s3://bucket/films/a.mp4"])]


class Job(Shape):
    """A job. progress: percent.

    outputs: of a video on demand "hls", "poster" and "thumbnail", the addresses at which they play.
    """

    id: str
    kind: str
    state: Literal["SUBMITTED", "PROGRESSING", "COMPLETE", "CANCELED", "ERROR"]
    progress: int
    source: str
    outputs: dict[str, str]
    error: str | None
    created: Time
    updated: Time


class ProcessObject(Open):
    """An object, or an S3 event, whose keys are URL-encoded."""

    bucketName: Annotated[str, Field(examples=["films"])] | None = None
    keyName: Annotated[str, Field(examples=["a.mp4"])] | None = None
    Records: list[dict[str, Any]] | None = None


class Processed(Shape):
    """The result of /processObject. jobs: see /jobs.

    startFragmentNumber: null where the video had not started when the answer was due (202).
    """

    streamArn: str
    startFragmentNumber: str | None
    jobs: list[str]


class Recording(Shape):
    """A recording. start: of the first frame. size: bytes; of an on-demand session, the size of its playlist.

    poster: the address of the picture that was taken with it.
    """

    key: str
    kind: Literal["video", "ondemand", "motion", "image"]
    start: Time
    seconds: float | None
    size: int
    url: str
    poster: str | None


class Media(Shape):
    """A recording or a video on demand. key: of a video on demand, its first playlist; start: when it was stored.

    deleted: when the channel was deleted; null: it exists or is unknown. url: null where the channel's protection is
    unknown.
    """

    channel: str
    videoname: str
    deleted: Time | None
    key: str
    kind: Literal["video", "ondemand", "motion", "image", "film"]
    start: Time
    seconds: float | None
    size: int
    url: str | None
    poster: str | None


class MediaChannel(Shape):
    """A deleted channel whose media are kept."""

    id: str
    videoname: str
    deleted: Time


class DeletedMedia(Shape):
    """Deleted media. key: null where all media of the channel were deleted.

    deleted: false while the deletion goes on.
    """

    channel: str
    key: str | None
    deleted: bool


class DeletedRecording(Shape):
    key: str
    deleted: bool


class NewUpload(BaseModel):
    """An upload to announce. name: of the video file; its extension is kept."""

    name: Annotated[str, Field(min_length=1, max_length=1024, examples=["holiday.mp4"])]


class Upload(Shape):
    """How to send the file: with this method and these headers to this address.

    It works once and for a limited time.
    """

    key: str
    url: str
    method: str
    headers: dict[str, str]


class Uploaded(Shape):
    key: str
    job: Job


class Domains(Shape):
    """Hosts, optionally with a port and a scheme; empty: this node's own."""

    pushDNS: str
    pullDNS: str


class DomainChanges(Open):
    """A missing field stays unchanged."""

    pushDNS: Annotated[str, Field(max_length=300)] | None = None
    pullDNS: Annotated[str, Field(max_length=300)] | None = None


class Server(Shape):
    """A gateway. role: primary, secondary or standby."""

    role: str
    address: str
    ports: Ports


class BroadcastServer(Shape):
    """A row of the original's table of servers. role: primary or secondary. replaced: no."""

    role: str
    dns: str
    replaced: str
    eventid: str


class BroadcastServers(Shape):
    """The list of broadcast servers, in the form of a DynamoDB scan of the original's table."""

    Items: list[BroadcastServer]
    Count: int
    ScannedCount: int


class Ready(Shape):
    ready: bool
    missing: list[str]


class Error(Shape):
    """A refusal. field: the wrong field of the body or the query."""

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=False)

    error: str
    field: str | None = None


class NmsServer(Shape):
    os: dict[str, str]
    cpu: dict[str, int | str]
    mem: dict[str, int]
    net: dict[str, int]
    nodejs: dict[str, Any]
    clients: dict[str, int]
    version: str


class NmsStream(Shape):
    isLive: bool
    viewers: int
    duration: int
    bitrate: int
    startTime: str | None
    arguments: dict[str, str]


class NmsPublisher(Shape):
    app: str
    stream: str
    clientId: str
    connectCreated: str
    bytes: int
    ip: str
    audio: dict[str, Any] | None
    video: dict[str, Any] | None


class NmsEntry(Shape):
    publisher: NmsPublisher | None
    subscribers: list[dict[str, Any]]


Deleted: TypeAlias = Literal["stream deleted"]
NmsStreams: TypeAlias = dict[str, dict[str, NmsEntry]]


class ChannelField(Shape):
    """`minimum`, `maximum`: of a number, or the length of a text or a list; null: none. `values`: of a choice.

    `aliases`: other names of these values, which older clients stored.
    """

    name: str
    type: Literal["flag", "number", "choice", "text", "hosts", "targets", "days"]
    default: bool | float | str | list[str] | None
    minimum: float | None
    maximum: float | None
    whole: bool
    values: list[str]
    aliases: dict[str, str]
    unit: str


class FormField(ChannelField):
    """`group`: the part of a form in which it stands."""

    group: str


class OutputField(ChannelField):
    label: dict[str, str] = Field(description="By language, such as `en`.")


class KnownOutput(Shape):
    """`flag`: the channel field that switches it on. `label`: its name by language; empty where the console has words
    of its own. `fields`: those that are not in the contract."""

    name: str
    flag: str
    label: dict[str, str]
    fields: list[OutputField]


# By the names used in routes.
SHAPES: dict[str, TypeAdapter[Any]] = {
    "NewChannel": TypeAdapter(NewChannel),
    "ChannelChanges": TypeAdapter(ChannelChanges),
    "Channel": TypeAdapter(Channel),
    "Channels": TypeAdapter(list[Channel]),  # type: ignore[valid-type]
    "Deleted": TypeAdapter(Deleted),
    "Session": TypeAdapter(Session),
    "Sessions": TypeAdapter(list[OnlineSession]),
    "Switch": TypeAdapter(Switch),
    "Output": TypeAdapter(Output),
    "KnownOutputs": TypeAdapter(list[KnownOutput]),
    "FormFields": TypeAdapter(list[FormField]),
    "NewJob": TypeAdapter(NewJob),
    "Job": TypeAdapter(Job),
    "Jobs": TypeAdapter(list[Job]),
    "ProcessObject": TypeAdapter(ProcessObject),
    "Processed": TypeAdapter(Processed),
    "Recordings": TypeAdapter(list[Recording]),
    "DeletedRecording": TypeAdapter(DeletedRecording),
    "Media": TypeAdapter(list[Media]),
    "MediaChannels": TypeAdapter(list[MediaChannel]),
    "DeletedMedia": TypeAdapter(DeletedMedia),
    "NewUpload": TypeAdapter(NewUpload),
    "Upload": TypeAdapter(Upload),
    "Uploaded": TypeAdapter(Uploaded),
    "Domains": TypeAdapter(Domains),
    "DomainChanges": TypeAdapter(DomainChanges),
    "Servers": TypeAdapter(list[Server]),
    "BroadcastServers": TypeAdapter(BroadcastServers),
    **CONSOLE,
    "Ready": TypeAdapter(Ready),
    "Error": TypeAdapter(Error),
    "OpenApi": TypeAdapter(dict[str, Any]),
    "NmsServer": TypeAdapter(NmsServer),
    "NmsStream": TypeAdapter(NmsStream),
    "NmsStreams": TypeAdapter(NmsStreams),
}
