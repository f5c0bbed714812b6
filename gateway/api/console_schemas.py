"""The shapes of what the console asks: people, the node's health, Amazon IVS."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter

from gateway.api.shape import Open, Ports, Shape, Time


class Cpu(Shape):
    """percent: what this process takes; 100 is one core. load: of the machine, over a minute."""

    cores: int
    percent: float
    load: float


class Memory(Shape):
    """Bytes: of this process, of the machine."""

    rss: int
    total: int


class Disk(Shape):
    """Bytes of the disk that the data folder is on."""

    path: str
    free: int
    total: int


class ThisNode(Shape):
    role: str
    address: str


class MediaWorkers(Shape):
    running: int
    most: int


class Status(Shape):
    """uptime, loopLag: seconds. viewers: by protocol. bytesIn, bytesOut, dropped (by reason): since the start.

    stores: what keeps channels, objects, jobs and the console's users: sqlite, dynamodb, file or s3. ivs: whether
    Amazon IVS looks set up here.
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
    ports: Ports
    logLevel: Literal["debug", "info", "warning", "error"]
    stores: dict[str, str]
    ivs: bool


class SharingNode(Shape):
    """node: its id, empty where it is alone. role: gateway, edge or worker. address: of its playback listener. here:
    the one that answers this. The rest as in /status; null where it does not answer."""

    node: str
    role: Literal["gateway", "edge", "worker"]
    address: str
    here: bool
    answers: bool
    version: str | None
    uptime: float | None
    cpu: Cpu | None
    streams: int | None
    publishers: int | None
    viewers: dict[str, int] | None
    bytesIn: int | None
    bytesOut: int | None


class LogLevel(Shape):
    level: Literal["debug", "info", "warning", "error"]


class SignedIn(Shape):
    """kind: with the admin token, as a user of the console, or through the sign-in provider."""

    name: str
    kind: Literal["token", "user", "oidc"]


class SignInProvider(Shape):
    """name: what the button to GET /oidc/start says."""

    name: str


class LoginState(Shape):
    """csrf: what has to stand in X-CSRF-Token of requests that change something. users: whether there are any."""

    user: SignedIn | None
    csrf: str | None
    oidc: SignInProvider | None
    users: bool


class NewLogin(BaseModel):
    """name: empty or missing with the admin token."""

    name: Annotated[str, Field(max_length=64)] = ""
    password: Annotated[str, Field(max_length=1024)]


class User(Shape):
    """changed: the password."""

    name: str
    created: Time
    changed: Time


class NewUser(BaseModel):
    name: Annotated[str, Field(min_length=1, max_length=64, examples=["eva"])]
    password: Annotated[str, Field(min_length=8, max_length=256)]


class NewPassword(BaseModel):
    password: Annotated[str, Field(min_length=8, max_length=256)]


class DeletedUser(Shape):
    name: str
    deleted: bool


class Profile(Open):
    """Whatever the pages want to remember, at most `limits.item` bytes of JSON."""


class PushPorts(Shape):
    """WebSocket, without and with TLS; null: not open."""

    ws: int | None
    wss: int | None


class IvsChannel(Shape):
    """rtmpUrl: what encoders are given as their server."""

    arn: str
    name: str
    type: str
    latencyMode: str
    ingestEndpoint: str
    rtmpUrl: str
    playbackUrl: str


class NewIvsChannel(IvsChannel):
    """With its stream key, which is a secret and told only once."""

    streamKey: str


class IvsChannelWanted(BaseModel):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{0,128}$")]
    type: Literal["STANDARD", "BASIC", "ADVANCED_SD", "ADVANCED_HD"] = "STANDARD"
    latencyMode: Literal["LOW", "NORMAL"] = "LOW"


class DeletedIvsChannel(Shape):
    arn: str
    deleted: bool


# By the names that routes use.
SHAPES: dict[str, TypeAdapter[Any]] = {
    "Status": TypeAdapter(Status),
    "Nodes": TypeAdapter(list[SharingNode]),
    "LogLevel": TypeAdapter(LogLevel),
    "LoginState": TypeAdapter(LoginState),
    "NewLogin": TypeAdapter(NewLogin),
    "User": TypeAdapter(User),
    "Users": TypeAdapter(list[User]),
    "NewUser": TypeAdapter(NewUser),
    "NewPassword": TypeAdapter(NewPassword),
    "DeletedUser": TypeAdapter(DeletedUser),
    "Profile": TypeAdapter(Profile),
    "PushPorts": TypeAdapter(PushPorts),
    "IvsChannels": TypeAdapter(list[IvsChannel]),
    "NewIvsChannel": TypeAdapter(NewIvsChannel),
    "IvsChannelWanted": TypeAdapter(IvsChannelWanted),
    "DeletedIvsChannel": TypeAdapter(DeletedIvsChannel),
}
