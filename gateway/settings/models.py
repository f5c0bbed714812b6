"""The settings of each subsystem as a frozen model. config/default.toml explains each option and has its default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from gateway.settings.option_types import (
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
    PositiveCount,
    PositiveSeconds,
    PreRoll,
    Quality,
    RegistryUrl,
    RoleArn,
    Seconds,
    Secret,
    SecretOrReference,
    SecurityGroups,
    SegmentSeconds,
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
    """The options of one subsystem. A subsystem gets only its own section."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ListenerSettings(Section):
    """The address of a listener. Its section's name is its name everywhere: in the ports file, in logs, in errors."""

    host: Host
    port: Port


class TlsListenerSettings(Section):
    """The port of a listener over TLS. Its section has the plain listener's name and an s: `rtmps` for `rtmp`."""

    port: Port


class RtmpSettings(ListenerSettings):
    proxy_from: Networks
    chunk_size: ChunkSize
    ping_interval: Seconds
    ping_timeout: PositiveSeconds
    idle_timeout: Seconds


class TlsSettings(Section):
    cert: File
    key: File
    ca: File
    in_front: Switch


class HttpSettings(ListenerSettings):
    flush_ms: Milliseconds
    forwarded_from: Networks
    advertise: Advertised
    keep_alive: Seconds
    max_header: PositiveCount


class WsSettings(ListenerSettings):
    origins: Texts
    forwarded_from: Networks
    compatible: Targets
    ping_interval: Seconds
    ping_timeout: PositiveSeconds
    idle_timeout: Seconds


class AdminSettings(ListenerSettings):
    token: SecretOrReference
    tls: Switch
    forwarded_from: Networks
    store: ChannelsUrl
    session_idle: PositiveSeconds
    session_most: PositiveSeconds


class OidcSettings(Section):
    issuer: Issuer
    client_id: Text
    client_secret: Secret
    audience: Text
    name: Label
    claim: Text
    allow: Texts


class SigningSettings(Section):
    secret: SecretOrReference
    previous_secret: SecretOrReference
    refresh: Seconds
    algorithm: Annotated[Literal["hmac-sha256", "md5"], Expected("hmac-sha256 or md5")]


class StreamSettings(Section):
    takeover_after: Seconds
    linger: Seconds
    wait_for_publisher: Seconds
    gop_seconds: PositiveSeconds
    gop_bytes: PositiveCount


class HlsSettings(Section):
    on_demand: Switch


class CmafSettings(Section):
    part: PartSeconds
    on_demand: Switch


class RecordingSettings(Section):
    keep_free: Count
    spool_bytes: PositiveCount
    retention_days: Days
    storage_class: StorageClass
    cold_after_days: Days
    cold_class: ColdClass
    archive_after_days: Days
    archive_class: ColdClass


class WorkersSettings(Section):
    runner: Annotated[Literal["local", "ecs"], Expected("local or ecs")]
    most: Count
    nice: Niceness
    memory: Count


class TranscodeSettings(Section):
    ladders: File
    preset: EncoderPreset
    hevc_preset: EncoderPreset
    threads: PositiveCount
    backlog: PositiveSeconds


class RelaySettings(Section):
    chunk_size: ChunkSize
    timeout: PositiveSeconds
    stall: PositiveSeconds
    retry: PositiveSeconds
    backlog: PositiveSeconds


class WatermarkSettings(Section):
    font: FontFamily
    bitrate: Count
    picture_bytes: PositiveCount
    picture_timeout: PositiveSeconds


class SnapshotSettings(Section):
    quality: Quality


class MotionSettings(Section):
    pre_roll: PreRoll


class KvsSettings(Section):
    role: RoleArn
    stream: KvsStream
    log_every: Count
    size: Box
    object_bytes: PositiveCount
    object_seconds: Seconds
    backlog: PositiveCount
    rotate: PositiveSeconds
    ack_timeout: PositiveSeconds


class VodSettings(Section):
    jobs: ChannelsUrl
    workers: PositiveCount
    preset: Annotated[
        Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"],
        Expected("ultrafast, superfast, veryfast, faster, fast, medium or slow"),
    ]
    crf: Crf
    bitrate: Bitrate
    segment: SegmentSeconds
    memory: Count
    film_seconds: Seconds
    output_ratio: Seconds
    output_bytes: Count
    job_ratio: Seconds
    job_seconds: Seconds
    job_turn: Seconds
    keep_free: Count
    history: PositiveCount
    sources: Folders
    upload_bytes: Count
    upload_seconds: PositiveCount
    queue: WebAddress
    suffixes: Suffixes


class PlaybackSettings(Section):
    auth: Annotated[Literal["none", "sign", "cloudfront"], Expected("none, sign or cloudfront")]
    sign_ttl: PositiveSeconds
    public_url: BaseAddress
    referer_allow: Texts


class CloudFrontSettings(Section):
    public_keys: KeyFiles
    origin_secret: Secret


class EgressSettings(Section):
    allow: EgressEntries


class MetricsSettings(Section):
    per_stream: Switch


class HooksSettings(Section):
    url: WebAddress
    secret: Secret
    timeout: PositiveSeconds
    queue: PositiveCount


class EdgeSettings(Section):
    upstream: NodeAddresses
    cache: PositiveCount
    stale: Seconds
    channel: ChannelId


class EcsSettings(Section):
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


class ClusterSettings(Section):
    secret: SecretOrReference


class LimitsSettings(Section):
    publishers_per_address: Count
    playback_per_address: Count
    admin_per_address: Count
    admin_connections: Count
    pending_per_address: Count
    pending_bytes: Count
    refusals_per_minute: Count
    publishers: Count
    handshake: Seconds
    first_media: Seconds
    rtmp_message: Count
    ws_message: Count
    api_body: Count
    item: Count
    viewer_backlog: PositiveCount
    viewer_memory: Count
    viewer_stall: Seconds


class ServeSettings(Section):
    drain: Seconds
    workers: Count
    retire: Seconds


class LogSettings(Section):
    level: Annotated[Literal["debug", "info", "warning", "error"], Expected("debug, info, warning or error")]
    format: Annotated[Literal["auto", "console", "json"], Expected("auto, console or json")]


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """The address of one listener."""

    name: str
    host: str
    port: int
    tls: bool = False


class Settings(Section):
    """All settings, merged. `{data}` in a store's address has been replaced by the data folder."""

    data: Folder
    channels: ChannelsUrl
    objects: ObjectsUrl
    registry: RegistryUrl
    serve: ServeSettings
    log: LogSettings
    rtmp: RtmpSettings
    rtmps: TlsListenerSettings
    http: HttpSettings
    https: TlsListenerSettings
    ws: WsSettings
    wss: TlsListenerSettings
    admin: AdminSettings
    oidc: OidcSettings
    tls: TlsSettings
    signing: SigningSettings
    stream: StreamSettings
    hls: HlsSettings
    cmaf: CmafSettings
    recording: RecordingSettings
    workers: WorkersSettings
    transcode: TranscodeSettings
    relay: RelaySettings
    watermark: WatermarkSettings
    snapshot: SnapshotSettings
    motion: MotionSettings
    kvs: KvsSettings
    vod: VodSettings
    playback: PlaybackSettings
    cloudfront: CloudFrontSettings
    egress: EgressSettings
    metrics: MetricsSettings
    hooks: HooksSettings
    edge: EdgeSettings
    ecs: EcsSettings
    cluster: ClusterSettings
    limits: LimitsSettings

    @property
    def has_tls(self) -> bool:
        """Whether RTMPS, HTTPS and WSS are open beside the plain ports."""
        return self.tls.cert is not None

    def listeners(self) -> list[ListenAddress]:
        """Returns the addresses of all listeners that are open, in the order of the sections."""
        found = []
        for name, section in self:
            if isinstance(section, ListenerSettings):
                found.append(ListenAddress(name, section.host, section.port))
            elif isinstance(section, TlsListenerSettings) and self.has_tls:
                found.append(ListenAddress(name, getattr(self, name[:-1]).host, section.port, tls=True))
        return found

    def tls_ports(self) -> dict[str, int]:
        """Returns the ports over TLS by their listeners' names, also those that are not open."""
        return {name: section.port for name, section in self if isinstance(section, TlsListenerSettings)}


def _is_listener(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, ListenerSettings | TlsListenerSettings)


# The names of all listeners, also of those that are open only with a certificate.
LISTENERS: Final = tuple(name for name, info in Settings.model_fields.items() if _is_listener(info.annotation))
