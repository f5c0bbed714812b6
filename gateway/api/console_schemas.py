"""Schemas of the console's requests and answers: users, the state of nodes, Amazon IVS."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from gateway.api.schema_base import Absent, Body, ExpectedText, OpenBody, Ports, Schema, SparseSchema, Time
from gateway.api.session_schemas import NewUpcoming
from gateway.ports.users import MAX_CHANNELS

RoleName: TypeAlias = Literal["administrator", "broadcaster", "observer"]


class Cpu(Schema):
    """Processor load. percent: of this process; 100 is one core. load: of the machine, average of a minute."""

    cores: int
    percent: float
    load: float


class Memory(Schema):
    """Memory in bytes. rss: of this process; total: of the machine."""

    rss: int
    total: int


class Disk(Schema):
    """Bytes of the disk with the data folder."""

    path: str
    free: int
    total: int


class SiteChanges(Body):
    """Texts of the pages for viewers; a missing one stays. color: `#rrggbb`, or empty."""

    title: Annotated[str, Field(max_length=100), ExpectedText("expected at most 100 characters")] = ""
    color: Annotated[str, ExpectedText("expected a color such as #0b6f6a")] = ""
    text: Annotated[str, Field(max_length=4_000), ExpectedText("expected at most 4000 characters")] = ""


class Site(Schema):
    """The look of the pages for viewers. logo: its address on this listener, or null."""

    title: str
    color: str
    text: str
    logo: str | None


class ThisNode(Schema):
    role: str
    address: str


class MediaWorkers(Schema):
    running: int
    most: int


class CertificateStatus(Schema):
    """The certificate of the ports over TLS.

    expires: null before the first certificate. acme: it is renewed by itself (`tls.acme`). error: why the last renewal
    or the last new files failed.
    """

    names: list[str]
    expires: str | None
    acme: bool
    error: str | None


class OfferedSignIn(Schema):
    """Sign-in through a provider. name: null if there is none. missing: the options that have to be set for it."""

    name: str | None
    missing: list[str]


class Status(Schema):
    """The node's health. uptime, loopLag: seconds. viewers: by protocol.

    bytesIn, bytesOut, dropped (by reason): since the start. stores: the kind of store for channels, objects, jobs and
    the console's users: sqlite, dynamodb, file or s3. ivs: whether Amazon IVS is configured.
    speech: whether there is an engine for captions from speech.
    cloudfront: whether this node signs addresses for CloudFront. certificate: null without TLS.
    binHours: the time in which deleted channels can be restored.
    """

    version: str
    uptime: float
    node: ThisNode
    cpu: Cpu
    memory: Memory
    loopLag: float
    disk: Disk
    streams: int
    renditions: int
    publishers: int
    viewers: dict[str, int]
    bytesIn: int
    bytesOut: int
    dropped: dict[str, int]
    workers: MediaWorkers
    ready: bool
    missing: list[str]
    certificate: CertificateStatus | None
    ports: Ports
    logLevel: Literal["debug", "info", "warning", "error"]
    stores: dict[str, str]
    ivs: bool
    speech: bool
    cloudfront: bool
    signIn: OfferedSignIn
    binHours: int


class FreeCapacity(Schema):
    """The free capacity of a node.

    cpuPercent: of the cores that it may use. mbps: for more viewers; null without limits.node_mbps. percent: the
    smallest free share.
    """

    cpuPercent: float
    mbps: float | None
    percent: float


class ClusterNode(Schema):
    """A node of the cluster.

    node: its id; empty for a single node. role: gateway, edge or worker. address: of its playback listener. here:
    whether it is the node that answers this request. site: the name of its place. free: at its last heartbeat; null
    if it is unknown. The other fields are as in /status; null if the node does not answer.
    """

    node: str
    role: Literal["gateway", "edge", "worker"]
    address: str
    site: str
    here: bool
    answers: bool
    free: FreeCapacity | None
    version: str | None
    uptime: float | None
    cpu: Cpu | None
    streams: int | None
    publishers: int | None
    viewers: dict[str, int] | None
    bytesIn: int | None
    bytesOut: int | None


class LogLevel(Schema):
    level: Literal["debug", "info", "warning", "error"]


class SignedIn(SparseSchema):
    """The signed-in user. kind: by the admin token, as a user of the console, or through the sign-in provider.

    channels: only of an observer; empty for all.
    """

    name: str
    kind: Literal["token", "user", "oidc", "api"]
    role: RoleName
    channels: list[str] = []


class SignInProvider(Schema):
    """The sign-in provider. name: the label of the button to GET /oidc/start."""

    name: str


class LoginState(Schema):
    """The state of the sign-in. users: whether there are any users.

    csrf: the value for X-CSRF-Token in requests that change something.
    """

    user: SignedIn | None
    csrf: str | None
    oidc: SignInProvider | None
    users: bool


class NewLogin(Body):
    """Name and password. name: empty or missing for the admin token.

    code: of an authenticator app, or a recovery code, if the user has a second factor.
    """

    name: Annotated[str, Field(max_length=64)] = ""
    password: Annotated[str, Field(max_length=1024)]
    code: Annotated[str, Field(max_length=32)] = ""


class User(Schema):
    """A user of the console. channels: those of a broadcaster or observer. changed: when the password was last set.

    secondFactor: whether signing in needs a code too.
    """

    name: str
    role: RoleName
    channels: list[str]
    created: Time
    changed: Time
    secondFactor: bool


class UserRights(Body):
    """The role of a user, and the ids of the channels, at most 100.

    They are those of a broadcaster or an observer. An observer without a list sees all channels.
    """

    role: RoleName = "broadcaster"
    channels: Annotated[list[str], Field(max_length=MAX_CHANNELS)] = []


class NewUser(UserRights):
    name: Annotated[str, Field(min_length=1, max_length=64, examples=["eva"])]
    password: Annotated[str, Field(min_length=8, max_length=256)]


class UserChanges(UserRights):
    """A new password, or a new role with its channels, or both. A missing field keeps its value."""

    password: Annotated[str, Field(min_length=8, max_length=256)] | Absent = None


class NewToken(UserRights):
    """A token for scripts. expires: like `outdate` of a channel; empty: never."""

    name: Annotated[str, Field(min_length=1, max_length=64, examples=["scheduler"])]
    expires: str | int = ""


class ApiToken(Schema):
    """A token for scripts. id: for revoking it. expires, used (last use): null for never."""

    id: str
    name: str
    role: RoleName
    channels: list[str]
    created: Time
    expires: Time | None
    used: Time | None


class CreatedToken(ApiToken):
    token: str


class RevokedToken(Schema):
    id: str
    revoked: bool


class OwnPassword(Body):
    old: Annotated[str, Field(max_length=256)]
    new: Annotated[str, Field(min_length=8, max_length=256)]


class OnePassword(Body):
    password: Annotated[str, Field(max_length=256)]


class OneCode(Body):
    code: Annotated[str, Field(max_length=32)]


class PasswordAndCode(OnePassword, OneCode):
    """The password, and a code of the app or a recovery code."""


class SecondFactor(Schema):
    """The second factor of a user. recoveryCodes: how many are left."""

    on: bool
    recoveryCodes: int


class NewSecondFactor(Schema):
    """A secret for an authenticator app. uri: its address for a QR code."""

    secret: str
    uri: str


class RecoveryCodes(Schema):
    recoveryCodes: list[str]


class AboutChanges(Body):
    """The title and the description of a channel, and its next show; a missing one stays."""

    videoname: Annotated[str, Field(max_length=256)] = ""
    description: Annotated[str, Field(max_length=4_096)] = ""
    upcoming: NewUpcoming | None = None


class DeletedUser(Schema):
    name: str
    deleted: bool


class Profile(OpenBody):
    """The user's settings of the pages, at most `limits.item` bytes of JSON."""


class PushPorts(Schema):
    """WebSocket ports without and with TLS; null: not open. host: of these ports; "": that of the page."""

    host: str
    ws: int | None
    wss: int | None


class RelayChanges(Body):
    """The relay of a channel. A missing field keeps its value.

    A masked address in relayURL means the stored address, and so does its position, from 0. relayOff: the positions of
    targets that get nothing.
    """

    isRelay: bool | str | Absent = None
    relayURL: str | list[str | int] | Absent = None
    relayOff: list[int] | Absent = None


class QrText(Body):
    """The text of a QR code, such as an address: at most 1,024 bytes."""

    text: Annotated[str, Field(min_length=1, max_length=1024)]


class QrCode(Schema):
    """A QR code as an SVG document."""

    svg: str


class IvsParameters(Schema):
    """The addresses of a user's own IVS channel, as the broadcaster page keeps them."""

    username: str
    channelType: Literal["IVS", "EML", "CUSTOM"]
    rtmpURL: str
    streamKey: str
    playURL: str


class IvsChannel(Schema):
    """An Amazon IVS channel. rtmpUrl: the server to enter in encoders. playerUrl: a public page that plays it."""

    arn: str
    name: str
    type: str
    latencyMode: str
    ingestEndpoint: str
    rtmpUrl: str
    playbackUrl: str
    playerUrl: str


class NewIvsChannel(IvsChannel):
    """A channel with its stream key, a secret that only this answer contains."""

    streamKey: str


class IvsChannelWanted(Body):
    name: Annotated[
        str, Field(pattern=r"^[A-Za-z0-9_-]{0,128}$"), ExpectedText("expected at most 128 letters, digits, - and _")
    ]
    type: Annotated[
        Literal["STANDARD", "BASIC", "ADVANCED_SD", "ADVANCED_HD"],
        ExpectedText("expected STANDARD, BASIC, ADVANCED_SD, ADVANCED_HD"),
    ] = "STANDARD"
    latencyMode: Annotated[Literal["LOW", "NORMAL"], ExpectedText("expected LOW, NORMAL")] = "LOW"


class DeletedIvsChannel(Schema):
    arn: str
    deleted: bool


class AlarmTest(Schema):
    """The result of a test message. answer: of the target, in words."""

    sent: bool
    answer: str
