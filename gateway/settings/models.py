"""The settings of each subsystem as a frozen model; config/default.toml says what an option is for, and its default."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict

from gateway.settings.kinds import (
    Advertised,
    BaseAddress,
    Bitrate,
    Box,
    ChannelId,
    ChannelsUrl,
    ChunkSize,
    ColdClass,
    Count,
    Crf,
    Days,
    EcsName,
    EgressEntries,
    EncoderPreset,
    Expected,
    File,
    Folder,
    Folders,
    FontFamily,
    Host,
    Issuer,
    KeptSecret,
    KeyFiles,
    KvsStream,
    Label,
    Milliseconds,
    Networks,
    Niceness,
    NodeAddresses,
    ObjectsUrl,
    PartSeconds,
    Port,
    PreRoll,
    Quality,
    RegistryUrl,
    RoleArn,
    Seconds,
    Secret,
    SecurityGroups,
    SegmentSeconds,
    SomeCount,
    SomeSeconds,
    StorageClass,
    Subnets,
    Suffixes,
    Switch,
    TableUrl,
    Targets,
    Text,
    Texts,
    WebAddress,
)


class Section(BaseModel):
    """The options of one subsystem, which receives this and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Rtmp(Section):
    host: Host
    port: Port
    proxy_from: Networks
    chunk_size: ChunkSize
    ping_interval: Seconds
    ping_timeout: SomeSeconds
    idle_timeout: Seconds


class Rtmps(Section):
    port: Port


class Https(Section):
    port: Port


class Wss(Section):
    port: Port


class Tls(Section):
    cert: File
    key: File
    ca: File
    in_front: Switch


class Http(Section):
    host: Host
    port: Port
    flush_ms: Milliseconds
    forwarded_from: Networks
    advertise: Advertised
    keep_alive: Seconds
    max_header: SomeCount


class Ws(Section):
    host: Host
    port: Port
    origins: Texts
    forwarded_from: Networks
    compatible: Targets
    ping_interval: Seconds
    ping_timeout: SomeSeconds
    idle_timeout: Seconds


class Admin(Section):
    host: Host
    port: Port
    token: KeptSecret
    tls: Switch
    forwarded_from: Networks
    store: ChannelsUrl
    session_idle: SomeSeconds
    session_most: SomeSeconds


class Oidc(Section):
    issuer: Issuer
    client_id: Text
    client_secret: Secret
    audience: Text
    name: Label
    claim: Text
    allow: Texts


class Signing(Section):
    secret: KeptSecret
    previous_secret: KeptSecret
    refresh: Seconds
    algorithm: Annotated[Literal["hmac-sha256", "md5"], Expected("hmac-sha256 or md5")]


class Stream(Section):
    takeover_after: Seconds
    linger: Seconds
    wait_for_publisher: Seconds
    gop_seconds: SomeSeconds
    gop_bytes: SomeCount


class Hls(Section):
    on_demand: Switch


class Cmaf(Section):
    part: PartSeconds
    on_demand: Switch


class Recording(Section):
    keep_free: Count
    spool_bytes: SomeCount
    retention_days: Days
    storage_class: StorageClass
    cold_after_days: Days
    cold_class: ColdClass
    archive_after_days: Days
    archive_class: ColdClass


class Workers(Section):
    runner: Annotated[Literal["local", "ecs"], Expected("local or ecs")]
    most: Count
    nice: Niceness
    memory: Count


class Transcode(Section):
    ladders: File
    preset: EncoderPreset
    hevc_preset: EncoderPreset
    threads: SomeCount
    backlog: SomeSeconds


class Relay(Section):
    chunk_size: ChunkSize
    timeout: SomeSeconds
    stall: SomeSeconds
    retry: SomeSeconds
    backlog: SomeSeconds


class Watermark(Section):
    font: FontFamily
    bitrate: Count
    picture_bytes: SomeCount
    picture_timeout: SomeSeconds


class Snapshot(Section):
    quality: Quality


class Motion(Section):
    pre_roll: PreRoll


class Kvs(Section):
    role: RoleArn
    stream: KvsStream
    log_every: Count
    size: Box
    object_bytes: SomeCount
    backlog: SomeCount
    rotate: SomeSeconds
    ack_timeout: SomeSeconds


class Vod(Section):
    jobs: ChannelsUrl
    workers: SomeCount
    preset: Annotated[
        Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"],
        Expected("ultrafast, superfast, veryfast, faster, fast, medium or slow"),
    ]
    crf: Crf
    bitrate: Bitrate
    segment: SegmentSeconds
    memory: Count
    history: SomeCount
    sources: Folders
    upload_bytes: Count
    upload_seconds: SomeCount
    queue: WebAddress
    suffixes: Suffixes


class Playback(Section):
    auth: Annotated[Literal["none", "sign", "cloudfront"], Expected("none, sign or cloudfront")]
    sign_ttl: SomeSeconds
    public_url: BaseAddress
    referer_allow: Texts


class CloudFront(Section):
    public_keys: KeyFiles
    origin_secret: Secret


class Egress(Section):
    allow: EgressEntries


class Metrics(Section):
    per_stream: Switch


class Hooks(Section):
    url: WebAddress
    secret: Secret
    timeout: SomeSeconds
    queue: SomeCount


class Edge(Section):
    upstream: NodeAddresses
    cache: SomeCount
    stale: Seconds
    channel: ChannelId


class Ecs(Section):
    cluster: EcsName
    task: EcsName
    container: Text
    subnets: Subnets
    security_groups: SecurityGroups
    launch_type: Annotated[Literal["", "FARGATE", "EC2"], Expected("FARGATE, EC2 or nothing")]
    capacity_provider: Text
    public_ip: Switch
    events: WebAddress
    addresses: TableUrl
    service: Text


class Cluster(Section):
    secret: KeptSecret


class Limits(Section):
    publishers_per_address: Count
    playback_per_address: Count
    refusals_per_minute: Count
    publishers: Count
    handshake: Seconds
    first_media: Seconds
    rtmp_message: Count
    ws_message: Count
    api_body: Count
    item: Count
    viewer_backlog: SomeCount
    viewer_stall: Seconds


class Serve(Section):
    drain: Seconds
    workers: Count
    retire: Seconds


class Log(Section):
    level: Annotated[Literal["debug", "info", "warning", "error"], Expected("debug, info, warning or error")]
    format: Annotated[Literal["auto", "console", "json"], Expected("auto, console or json")]


class Settings(Section):
    """Everything, merged. `{data}` in a store's address has been replaced by the data folder."""

    data: Folder
    channels: ChannelsUrl
    objects: ObjectsUrl
    registry: RegistryUrl
    serve: Serve
    log: Log
    rtmp: Rtmp
    rtmps: Rtmps
    http: Http
    https: Https
    ws: Ws
    wss: Wss
    admin: Admin
    oidc: Oidc
    tls: Tls
    signing: Signing
    stream: Stream
    hls: Hls
    cmaf: Cmaf
    recording: Recording
    workers: Workers
    transcode: Transcode
    relay: Relay
    watermark: Watermark
    snapshot: Snapshot
    motion: Motion
    kvs: Kvs
    vod: Vod
    playback: Playback
    cloudfront: CloudFront
    egress: Egress
    metrics: Metrics
    hooks: Hooks
    edge: Edge
    ecs: Ecs
    cluster: Cluster
    limits: Limits

    @property
    def has_tls(self) -> bool:
        """Whether RTMPS, HTTPS and WSS open beside the plain ports."""
        return self.tls.cert is not None
