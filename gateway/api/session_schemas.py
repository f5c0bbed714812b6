"""Schemas of sessions: outputs, tracks, health, refusals, history, viewers' experience, events."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from gateway.api.schema_base import Body, ExpectedText, Schema, SparseSchema, Time
from gateway.channels.inputs import MAX_ADDRESS, MAX_ITEMS, MAX_KBPS, MAX_SECONDS, MAX_TEXT, MAX_ZONE, InputKind
from gateway.diagnosis.refusal_log import Refusal
from gateway.formats.splices import LONGEST
from gateway.inputs.channel_input import InputState
from gateway.live.health_report import HealthFinding, Measurements
from gateway.live.network_quality import NetworkQuality
from gateway.live.output import OutputState
from gateway.protocols.srt.statistics import LinkStatistics

_MAX_CUE_ID = 64  # characters
_MAX_SECTION_TEXT = 5464  # characters of base64: a section of 4096 bytes


class Output(Schema):
    """An output. codec also has `renditions`, `larger`, `dropped` and `restarts`; relay has `targets`.

    kvs has `fragments`; video has `pieces` and `bytes`. openSince: when the file that is being recorded began, seconds
    since 1970.
    """

    model_config = ConfigDict(extra="allow", json_schema_serialization_defaults_required=True)

    name: str
    enabled: bool
    state: OutputState
    error: str | None


@dataclass(frozen=True)
class WebRtcViewer(NetworkQuality):
    """A viewer by WHEP. transport: udp or tcp."""

    address: str
    transport: str


class Publisher(SparseSchema):
    """The publisher of a stream. seconds: since the push began. dropped: number of unusable frames by reason.

    webrtc: of a push by WHIP.
    """

    protocol: str
    address: str
    seconds: float
    dropped: dict[str, int]
    webrtc: NetworkQuality | None = None


@dataclass(frozen=True)
class Link(LinkStatistics):
    """The connection of a push by SRT. rttMs: round trip; null: not known yet.

    lossPercent: packets of the last five seconds that did not come the first time. retransmitted: packets that came
    again. dropped: packets that came too late, or not at all. bufferMs: media that wait until their latency is over.
    """


class Track(SparseSchema):
    """A track of a stream. null: the publisher did not send the value.

    width, height, frameRate: of video. sampleRate, channels: of audio.
    id: the publisher's number; 0 is the default track. language: BCP 47. name: for viewers. "": unknown.
    rendition: an additional track is the stream `<channel>@<rendition>`; "" for the default tracks.
    """

    kind: Literal["video", "audio"]
    codec: str
    profile: str | None
    width: int | None = None
    height: int | None = None
    frameRate: float | None = None
    sampleRate: int | None = None
    channels: int | None = None
    id: int = 0
    language: str = ""
    name: str = ""
    rendition: str = ""


class BelowRule(Body):
    """When an input counts as thin: the mean of the last `seconds` is below `kbps`."""

    model_config = ConfigDict(extra="forbid")

    kbps: Annotated[int, Field(ge=1, le=MAX_KBPS)]
    seconds: Annotated[int, Field(ge=1, le=MAX_SECONDS)]


class NewCaptions(Body):
    """Captions for players. source: cc1 to cc4 or service1 to service63 (in the pictures), text, or speech.

    label: what players show. default: whether they show it without being asked.
    """

    model_config = ConfigDict(extra="forbid")

    source: str
    language: str = ""
    label: Annotated[str, Field(max_length=64)] = ""
    default: bool = False


class NewUpcoming(Body):
    """The next show. at: a time with its zone, or seconds since 1970. null or {}: there is none."""

    model_config = ConfigDict(extra="forbid")

    title: str = ""
    at: str | float = 0
    text: str = ""


class NewInput(Body):
    """An input of a channel, for PUT. Members of other kinds and members that the gateway computes are ignored.

    url: of a pull. items: of a playlist: keys of films (`<p>.mp4`, `<p>/`) and recordings in the store. An item
    with `@HH:MM` or `@HH:MM:SS` behind its key begins at this time of day. zone: time zone of these times; empty: UTC.
    picture: of a slate: a key of an upload, or an address; empty: a card with the channel's name and `text`.
    always: a slate or playlist is on air without a push too; a pull runs without viewers too.
    below: of a push, a backup and a pull: when it is left although it delivers.
    """

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=32)] = ""
    kind: InputKind
    url: Annotated[str | None, Field(max_length=MAX_ADDRESS)] = None
    items: Annotated[list[str] | None, Field(max_length=MAX_ITEMS)] = None
    loop: bool = True
    zone: Annotated[str | None, Field(max_length=MAX_ZONE)] = None
    picture: Annotated[str | None, Field(max_length=MAX_ADDRESS)] = None
    text: Annotated[str | None, Field(max_length=MAX_TEXT)] = None
    always: bool = False
    below: BelowRule | None = None


class Input(NewInput):
    """An input with its state. error: why it does not deliver. taken: whether it is on air by hand.

    key, pushUrl, pushUrls: only of a push and a backup. pushUrls: by protocol.
    """

    model_config = ConfigDict(extra="forbid", json_schema_serialization_defaults_required=False)

    state: InputState
    error: str | None
    taken: bool
    key: str | None = None
    pushUrl: str | None = None
    pushUrls: dict[str, str] | None = None


class DayTraffic(Schema):
    """The bytes of a UTC day: media payload from publishers (in), and what was sent to viewers (out)."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    day: str
    received: Annotated[int, Field(alias="in")]
    out: int


class TrafficByDay(Schema):
    """The traffic of today, and of earlier days with traffic, newest first."""

    days: list[DayTraffic]


class Session(SparseSchema):
    """The session of a channel. since: start of the stream. bitrate: bits per second.

    paused: whether the stream lingers because the encoder said that it stops; false if its connection broke.
    input, inputKind: name and kind of the input on air. fallback: whether it is not the first of the channel's inputs.
    viewers: by protocol, on all nodes. node: id of the node with the stream, if there are several nodes.
    link: of a push by SRT, also while a slate replaces it.
    behind: delay of the viewer whose page reported last, seconds; null: none did so in the last minute.
    refusals: the last ten refused pushes on all nodes, newest first. Only of a session requested by its id, as is
    webrtcViewers: viewers by WHEP at the node with the stream, those with the worst connections first, at most 50.
    """

    model_config = ConfigDict(alias_generator=to_camel)  # of the dataclasses in it

    id: str
    state: Literal["live", "lingering", "idle"]
    paused: bool
    since: Time | None
    bitrate: int
    publisher: Publisher | None
    input: str | None
    inputKind: InputKind | None = None
    fallback: bool
    viewers: dict[str, int]
    tracks: list[Track]
    outputs: list[Output]
    health: list[HealthFinding]
    measured: Measurements
    link: Link | None = None
    behind: float | None = None
    refusals: list[Refusal] | None = None
    webrtcViewers: list[WebRtcViewer] | None = None
    node: str | None = None


class Quantiles(Schema):
    """A value of the viewers. p50: half of them have this value or a better one; p95: 95 of 100. null: not reported."""

    p50: float | None
    p95: float | None


class ViewerTotals(Schema):
    """What viewers report. startup, latency: seconds. bitrate: bits per second. height: pixels."""

    viewers: int
    stalls: int
    stallSeconds: float
    startup: Quantiles
    latency: Quantiles
    bitrate: Quantiles
    height: Quantiles


class Experience(Schema):
    """Reports of the viewers of a channel, of at most the last `seconds`; protocols: by protocol."""

    seconds: int
    all: ViewerTotals
    protocols: dict[str, ViewerTotals]


class HistorySeries(Schema):
    """The values of one series, as many as there are times; null: unknown."""

    avg: list[float | None]
    min: list[float | None]
    max: list[float | None]


class History(Schema):
    """Values over time. from, to, times: seconds since 1970. step: seconds between two times; a longer one is a gap."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    since: Annotated[int, Field(alias="from")]
    to: int
    step: int
    times: list[int]
    series: dict[str, HistorySeries]


class OnlineSession(Session):
    """A session in the list of live sessions."""

    videoname: str


class LoggedEvent(Schema):
    """An event. node: id of the node where it happened; "" for the command line. data: depends on the type."""

    id: str
    time: Time
    type: str
    channel: str
    node: str
    data: dict[str, Any]


class NewCue(Body):
    """A break that begins (`out`) or ends (`in`), or a whole section of SCTE 35 in base64.

    id: of the break. seconds: its planned duration; without it, the break ends with its end only.
    at: in ISO form or in seconds since 1970, at most an hour ahead (default: now).
    """

    type: Annotated[Literal["out", "in"] | None, ExpectedText("expected out or in")] = None
    id: Annotated[
        str | None,
        Field(pattern=rf"^[^\x00-\x1f\x7f]{{1,{_MAX_CUE_ID}}}$"),
        ExpectedText(f"expected text of 1 to {_MAX_CUE_ID} characters"),
    ] = None
    seconds: Annotated[
        float | None,
        Field(gt=0, le=LONGEST, examples=[30]),
        ExpectedText(f"expected a number of seconds above 0, at most {LONGEST:g}"),
    ] = None
    at: Annotated[str | float | None, Field(examples=["2030-01-31T18:00:00Z"]), ExpectedText("expected a time")] = None
    scte35: Annotated[
        str | None, Field(max_length=_MAX_SECTION_TEXT), ExpectedText("expected a section of SCTE 35 in base64")
    ] = None


class CueId(Schema):
    """A cue that was taken."""

    id: str


class NewMetadata(Body):
    """Timed metadata, at most 1,024 bytes of UTF-8. channelArn: of Amazon IVS; it has no effect."""

    metadata: Annotated[str, ExpectedText("expected text")]
    channelArn: Annotated[Any, ExpectedText("")] = None
