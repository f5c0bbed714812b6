"""The shapes of the API's JSON as pydantic models: the source of openapi.json. The hub checks what is stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model

from gateway.api.console_schemas import SHAPES as CONSOLE
from gateway.api.shape import Flag, Number, Open, Ports, Shape, Time
from gateway.hub import fields


def _optional(field: fields.Field[Any]) -> Any:
    """The JSON type of a stored field; what it means when absent stands in the description."""
    if isinstance(field, fields.Flag):
        kind: Any = Flag
    elif isinstance(field, fields.Number):
        kind = Annotated[Number, Field(json_schema_extra={"x-minimum": field.least, "x-maximum": field.most})]
    elif isinstance(field, fields.Choice):
        kind = Literal[tuple(field.values)]
    elif isinstance(field, fields.Words):
        kind = Annotated[str, Field(max_length=field.longest)]
    else:
        kind = str | list[str]
    if field.absent is None:
        kind = kind | None
    words = "the gateway's own setting" if field.absent in (None, ()) else f"{field.absent!r}"
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


class PlayUrls(Shape):
    """Only of the outputs that are on."""

    model_config = ConfigDict(extra="forbid")

    flv: str | None = None
    wsflv: str | None = None
    rtmp: str
    hls: str | None = None
    cmaf: str | None = None
    dash: str | None = None
    ladder: str | None = None


Channel: type[BaseModel] = create_model(
    "Channel",
    __base__=NewChannel,
    id=(str, Field(description="Made by the gateway.")),
    key=(str, Field(description="The stream key's sign, <expiry>-<hash>.")),
    TimeStamp=(float, Field(default=None, description="Kept for readers of the original table; deletes nothing.")),
    pushUrl=(str, Field(description="What ffmpeg pushes to.")),
    obsServer=(str, Field(description="OBS: Server.")),
    obsKey=(str, Field(description="OBS: Stream Key.")),
    wsUrl=(str, Field(description="What a browser pushes to.")),
    playUrls=(PlayUrls, ...),
    expired=(bool, Field(description="Whether `outdate` has passed.")),
)


class Output(Shape):
    """More where there is more to tell: `renditions`, `dropped` and `restarts` of codec, `targets` of relay,
    `fragments` of kvs, `pieces` and `bytes` of video."""

    model_config = ConfigDict(extra="allow", json_schema_serialization_defaults_required=True)

    name: str
    enabled: bool
    state: Literal["off", "waiting", "running", "retrying", "done"]
    error: str | None


class Publisher(Shape):
    """seconds: since the push began; dropped: unusable frames by reason."""

    protocol: str
    address: str
    seconds: float
    dropped: dict[str, int]


class Track(Shape):
    """width, height, frameRate of video; sampleRate, channels of audio. null: the publisher does not say."""

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
    """since: when the stream started; bitrate: bits a second; viewers: by protocol, on all nodes. node: the id of the
    one that holds the stream, where several share the work."""

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
    """A session in the list of those that are live."""

    videoname: str


class Switch(BaseModel):
    enabled: Flag


class NewJob(BaseModel):
    """source: the key of a stored object, s3://bucket/key, or a path below a folder of `vod.sources`."""

    source: Annotated[str, Field(min_length=1, max_length=2048, examples=["a.mp4", "s3://bucket/films/a.mp4"])]


class Job(Shape):
    """progress: percent. outputs: of a film "hls", "poster" and "thumbnail", the addresses at which they play."""

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
    """An object, or an event of S3, whose keys are URL-encoded."""

    bucketName: Annotated[str, Field(examples=["films"])] | None = None
    keyName: Annotated[str, Field(examples=["a.mp4"])] | None = None
    Records: list[dict[str, Any]] | None = None


class Processed(Shape):
    """startFragmentNumber: null where the film had not begun when the answer was due (202). jobs: see /jobs."""

    streamArn: str
    startFragmentNumber: str | None
    jobs: list[str]


class Recording(Shape):
    """start: of the first frame. size: bytes, of an on-demand session those of its playlist. poster: the address of the
    picture that was taken with it."""

    key: str
    kind: Literal["video", "ondemand", "motion", "image"]
    start: Time
    seconds: float | None
    size: int
    url: str
    poster: str | None


class DeletedRecording(Shape):
    key: str
    deleted: bool


class NewUpload(BaseModel):
    """name: of the film's file; its extension stays."""

    name: Annotated[str, Field(min_length=1, max_length=1024, examples=["holiday.mp4"])]


class Upload(Shape):
    """How to send the film: this method, these headers, to this address; it is good once and for a while."""

    key: str
    url: str
    method: str
    headers: dict[str, str]


class Uploaded(Shape):
    key: str
    job: Job


class Domains(Shape):
    """Hosts, perhaps with a port and a scheme; empty: this node's own."""

    pushDNS: str
    pullDNS: str


class DomainChanges(Open):
    """What is missing stays as it is."""

    pushDNS: Annotated[str, Field(max_length=300)] | None = None
    pullDNS: Annotated[str, Field(max_length=300)] | None = None


class Server(Shape):
    """role: primary, secondary or standby."""

    role: str
    address: str
    ports: Ports


class BroadcastServer(Shape):
    """role: primary or secondary; replaced: no."""

    role: str
    dns: str
    replaced: str
    eventid: str


class BroadcastServers(Shape):
    """As a scan of the original's table gives it."""

    Items: list[BroadcastServer]
    Count: int
    ScannedCount: int


class Ready(Shape):
    ready: bool
    missing: list[str]


class Error(Shape):
    """field: the field of the body or the query that is at fault."""

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

# By the names that routes use.
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
    "NewJob": TypeAdapter(NewJob),
    "Job": TypeAdapter(Job),
    "Jobs": TypeAdapter(list[Job]),
    "ProcessObject": TypeAdapter(ProcessObject),
    "Processed": TypeAdapter(Processed),
    "Recordings": TypeAdapter(list[Recording]),
    "DeletedRecording": TypeAdapter(DeletedRecording),
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
