"""Pydantic models of the API's JSON. They read bodies, and openapi.json is made from them.

gateway.channels validates stored values.
"""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, Field, create_model

from gateway.api.channel_fields import described
from gateway.api.film_texts import DESCRIPTION, TITLE
from gateway.api.schema_base import (
    Absent,
    Body,
    ExpectedText,
    Flag,
    Number,
    OpenBody,
    Ports,
    Schema,
    SparseSchema,
    Time,
)
from gateway.api.session_schemas import NewCaptions, NewInput, NewUpcoming
from gateway.channels import fields
from gateway.ingest.registry import all_listeners
from gateway.playback.formats import FORMATS, LADDER
from gateway.ports.films import MAX_DESCRIPTION, MAX_TITLE


def _schema_of(field: fields.Field[Any]) -> Any:
    """Returns the JSON type of a stored field. Its description explains a missing value."""
    described_field = described(field)
    match described_field["type"]:
        case "flag":
            kind: Any = Flag
        case "number" | "days":
            bounds = {"x-minimum": described_field["minimum"], "x-maximum": described_field["maximum"]}
            kind = Annotated[Number, Field(json_schema_extra=bounds)]
            if described_field["type"] == "days":
                kind |= Literal[""]
        case "choice":
            kind = Literal[(*described_field["values"], *described_field["aliases"])]
        case "text":
            kind = Annotated[str, Field(max_length=described_field["maximum"])]
        case "positions":
            kind = list[int]
        case "inputs":
            kind = list[NewInput]
        case "captions":
            kind = list[NewCaptions]
        case "announce":
            kind = list[str]
        case "upcoming":
            kind = NewUpcoming
        case _:
            kind = str | list[str]
    if field.default is None:
        kind = kind | None
    text = "the gateway's own setting" if field.default in (None, ()) else f"{described_field['default']!r}"
    return (kind, Field(default=None, description=f"Missing means {text}."))


_FIELDS: dict[str, Any] = {name: _schema_of(field) for name, field in fields.FIELDS.items()}
_OUTDATE = Field(
    description="The time until which a push may begin: a date (00:00 UTC), a time, seconds since 1970, or never.",
    examples=["2030-01-31", "2030-01-31T18:00:00+08:00", 1893456000],
)

ChannelFields: type[BaseModel] = create_model("ChannelFields", __base__=OpenBody, **_FIELDS)
NewChannel: type[BaseModel] = create_model("NewChannel", __base__=ChannelFields, outdate=(str | float, _OUTDATE))
ChannelChanges: type[BaseModel] = create_model(
    "ChannelChanges", __base__=ChannelFields, outdate=(str | float, _OUTDATE.merge_field_infos(_OUTDATE, default=None))
)


class _PlayUrls(SparseSchema):
    """Addresses of the enabled outputs only. That of an optional port is missing while the port is off."""


_PLAY_ADDRESSES: dict[str, Any] = {
    address.name: (str | None, None) if format.flag or (format.listener and format.listener.is_optional) else (str, ...)
    for format in FORMATS
    for address in format.addresses
}
PlayUrls: type[BaseModel] = create_model(
    "PlayUrls", __base__=_PlayUrls, __doc__=_PlayUrls.__doc__, **_PLAY_ADDRESSES | {LADDER: (str | None, None)}
)

_PUSH_ADDRESSES: dict[str, Any] = {
    name: (str, Field(default=None, description=text))  # not for observers
    for listener in all_listeners()
    for name, text in listener.fields.items()
}
_PUSH_URLS: dict[str, Any] = {
    listener.protocol or listener.name: (str | None, None) if listener.is_optional else (str, ...)
    for listener in all_listeners()
    if listener.url is not None
}
PushUrls: type[BaseModel] = create_model(
    "PushUrls", __base__=SparseSchema, __doc__="The addresses to push to, by protocol.", **_PUSH_URLS
)
Channel: type[BaseModel] = create_model(
    "Channel",
    __base__=NewChannel,
    id=(str, Field(description="Assigned by the gateway.")),
    key=(str, Field(default=None, description="The signature of the stream key: <expiry>-<hash>. Not for observers.")),
    TimeStamp=(float, Field(default=None, description="For programs that read the old system's table; no effect.")),
    **_PUSH_ADDRESSES,
    pushUrls=(PushUrls, Field(default=None, description="Not for observers.")),
    playUrls=(PlayUrls, ...),
    playAuthDefault=(str, Field(description="The setting `playback.auth`, for channels without `playAuth`.")),
    expired=(bool, Field(description="Whether `outdate` has passed.")),
)


class ChannelStates(Schema):
    """The number of channels in each state."""

    live: int
    idle: int
    expired: int


class ChannelPage(Schema):
    """A page of the list of channels. found: the number on all pages. states: of all channels, also not found ones."""

    channels: list[Channel]  # type: ignore[valid-type]
    found: int
    states: ChannelStates


class Switch(Body):
    enabled: Annotated[Flag, ExpectedText("expected true or false")]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


class NewJob(Body):
    """A job to submit.

    source: the key of a stored object, s3://bucket/key, or a path below a folder of `vod.sources`.
    title, description: of the video; without a title it is the name of the source.
    """

    source: Annotated[
        str,
        Field(min_length=1, max_length=2048, examples=["a.mp4", "s3://bucket/films/a.mp4"]),
        AfterValidator(_printable),
        ExpectedText("expected the key of an object, s3://bucket/key or a path"),
    ]
    title: Annotated[str, Field(max_length=MAX_TITLE), TITLE] = ""
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION), DESCRIPTION] = ""


class FilmCaptions(Schema):
    """Captions of a video on demand. language: BCP 47. label: for players. url: the play address of the WebVTT."""

    language: str
    label: str
    url: str


class Film(Schema):
    """A video on demand. key: its folder in the object store.

    duration: seconds. size: bytes of its files. error: the reason for the state ERROR.
    page: the address of its player page. hls, poster, thumbnail: the play addresses of its files.
    preview: the address of the WebVTT list of pictures for the time bar.
    """

    key: str
    title: str
    description: str
    state: Literal["PROCESSING", "READY", "ERROR"]
    created: Time
    duration: float | None
    size: int | None
    source: str
    error: str | None
    page: str
    hls: str | None
    poster: str | None
    thumbnail: str | None
    preview: str | None
    captions: list[FilmCaptions]


class FilmChanges(Body):
    """The texts of a video on demand. A missing field keeps its value."""

    title: Annotated[
        Annotated[str, Field(min_length=1, max_length=MAX_TITLE)] | Absent, TITLE, ExpectedText("expected a title")
    ] = None
    description: Annotated[Annotated[str, Field(max_length=MAX_DESCRIPTION)] | Absent, DESCRIPTION] = None


class DeletedFilm(Schema):
    """A deleted video on demand. deleted: false: its files are still being deleted (202)."""

    key: str
    deleted: bool


class Job(Schema):
    """A job. progress: percent.

    outputs: the play addresses of a video on demand: "hls", "poster" and "thumbnail".
    warning: what of the file is not in the finished video; null: nothing is missing.
    """

    id: str
    kind: str
    state: Literal["SUBMITTED", "PROGRESSING", "COMPLETE", "CANCELED", "ERROR"]
    progress: int
    source: str
    outputs: dict[str, str]
    error: str | None
    warning: str | None
    created: Time
    updated: Time


class ObsMultitrack(Schema):
    """The configuration of OBS Multitrack Video, in the form of OBS. authentication has the stream key."""

    meta: dict[str, str]
    status: dict[str, str | None]
    ingest_endpoints: list[dict[str, str]]
    encoder_configurations: list[dict[str, Any]]
    audio_configurations: dict[str, list[dict[str, Any]]]


class ProcessObject(OpenBody):
    """An object, or an S3 event. The keys in an event are URL-encoded."""

    bucketName: Annotated[str, Field(examples=["films"])] | Absent = None
    keyName: Annotated[str, Field(examples=["a.mp4"])] | Absent = None
    Records: list[dict[str, Any]] | Absent = None


class Processed(Schema):
    """The result of /processObject. jobs: ids, see /jobs."""

    streamArn: str
    startFragmentNumber: str
    jobs: list[str]


class QueuedProcess(Job):
    """The first job of /processObject before its first fragment. jobs: ids of all jobs of the request."""

    streamArn: str
    startFragmentNumber: None
    jobs: list[str]


class SigningRequest(OpenBody):
    """What to sign for CloudFront.

    expires: seconds since 1970, a date or a time; by default `playback.sign_ttl` from now. policy: custom is the
    default. A custom policy may have `from`, the start time, and `ip`, an IPv4 address or network of the viewers.
    """

    expires: Annotated[str | int, Field(examples=["2030-01-31T18:00:00Z"])] | None = None
    policy: Literal["custom", "canned"] | None = None
    ip: Annotated[str, Field(examples=["192.0.2.0/24"])] | None = None


class ToSignOfChannel(SigningRequest):
    """The address of a channel to sign.

    url: the name of one of `playUrls`, or page; by default hls, cmaf or flv.
    """

    url: Annotated[str, Field(examples=["hls"])] | None = None


class ToSign(SigningRequest):
    """The address to sign.

    url: an address below the playback address, or its path.
    """

    url: Annotated[str, Field(max_length=2048, examples=["/vod/holiday/holiday.m3u8"])]


class SignedAddress(Schema):
    """A signed address, and cookies with the same permission. cookies: by name."""

    url: str
    cookies: dict[str, str]
    expires: Time


class SignedAddresses(SignedAddress):
    """The signed addresses of a channel. urls: all of them by name; with a canned policy, only the requested one."""

    urls: dict[str, str]


class NewUpload(Body):
    """An upload to announce. name: of the video file; its extension is kept. Without a title it is the name."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=1024, examples=["holiday.mp4"]),
        ExpectedText("expected the name of the video file"),
    ]
    title: Annotated[str, Field(max_length=MAX_TITLE), TITLE] = ""
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION), DESCRIPTION] = ""


class Upload(Schema):
    """The upload of a file: address, method and headers.

    The address is valid once, for a limited time.
    """

    key: str
    url: str
    method: str
    headers: dict[str, str]


class Uploaded(Schema):
    """An upload in the store. job: makes the video; null: a picture."""

    key: str
    job: Job | None


class Domains(Schema):
    """Hosts, optionally with a port and a scheme; empty: this node's own."""

    pushDNS: str
    pullDNS: str


class DomainChanges(OpenBody):
    """A missing field stays unchanged."""

    pushDNS: Annotated[str, Field(max_length=300)] | Absent = None
    pullDNS: Annotated[str, Field(max_length=300)] | Absent = None


class Server(Schema):
    """A gateway. role: primary, secondary or standby."""

    role: str
    address: str
    ports: Ports


class BroadcastServer(Schema):
    """A row of the old system's table of broadcast servers. role: primary or secondary. replaced: always "no"."""

    role: str
    dns: str
    replaced: str
    eventid: str


class BroadcastServers(Schema):
    """The list of broadcast servers, in the form of a DynamoDB scan of the old system's table."""

    Items: list[BroadcastServer]
    Count: int
    ScannedCount: int


class Ready(Schema):
    ready: bool
    missing: list[str]


class Error(SparseSchema):
    """An error. field: the wrong field of the body or the query."""

    error: str
    field: str | None = None


class NmsServer(Schema):
    os: dict[str, str]
    cpu: dict[str, int | str]
    mem: dict[str, int]
    net: dict[str, int]
    nodejs: dict[str, Any]
    clients: dict[str, int]
    version: str


class NmsStream(Schema):
    isLive: bool
    viewers: int
    duration: int
    bitrate: int
    startTime: str | None
    arguments: dict[str, str]


class NmsPublisher(Schema):
    app: str
    stream: str
    clientId: str
    connectCreated: str
    bytes: int
    ip: str
    audio: dict[str, Any] | None
    video: dict[str, Any] | None


class NmsEntry(Schema):
    publisher: NmsPublisher | None
    subscribers: list[dict[str, Any]]


Channels: Any = list[Channel]  # type: ignore[valid-type]
Deleted: TypeAlias = Literal["stream deleted"]
NmsStreams: TypeAlias = dict[str, dict[str, NmsEntry]]


class ChannelField(Schema):
    """`minimum`, `maximum`: of a number, or the length of a text or a list; null: none. `values`: of a choice.

    `aliases`: other names of these values, which older clients stored.
    """

    name: str
    type: Literal["flag", "number", "choice", "text", "hosts", "targets", "days", "captions"]
    default: bool | float | str | list[str] | None
    minimum: float | None
    maximum: float | None
    whole: bool
    values: list[str]
    aliases: dict[str, str]
    unit: str


class FormField(ChannelField):
    """`group`: the group of the form that contains the field. `used`: whether it has an effect on this gateway."""

    group: str
    used: bool


class OutputField(ChannelField):
    label: dict[str, str] = Field(description="By language, such as `en`.")


class Rung(Schema):
    """A rendition. `flag`: the channel field that switches it on; empty: it is always on.

    `bitrate`: of the video, bits a second. `audio`: bits a second, or `copy`.
    """

    name: str
    flag: str
    width: int
    height: int
    bitrate: int
    audio: int | str


class KnownLadder(Schema):
    """A ladder. `vbv`: the maximum bit rate within a second and the buffer's size, as multiples of the bit rate."""

    name: str
    vbv: float
    rungs: list[Rung]


class KnownOutput(Schema):
    """An output. `flag`: the channel field that switches it on. `label`: its name by language.

    `label` is empty if the console has its own text. `fields`: only those that `GET /fields` does not list.
    """

    name: str
    flag: str
    label: dict[str, str]
    fields: list[OutputField]
