"""The settings of each subsystem as a frozen model. config/default.toml has a description and the default of each."""

from dataclasses import dataclass
from enum import Enum, auto
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from gateway.settings import option_types as option


class Section(BaseModel):
    """The options of one subsystem."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


Transport: TypeAlias = Literal["tcp", "udp"]


class PortSharing(Enum):
    """How the processes of one host share the port of a listener."""

    ONE_PORT = auto()  # The kernel chooses a process for each TCP connection, and for each client address over UDP.
    OWN_PORTS = auto()  # Each process has a port of its own: that of the settings and the next ones.
    FIRST = auto()  # Only the first process opens the port.
    LIBRARY = auto()  # Only the first process has the port, and a library opens it: the master opens no socket.


class ListenerSettings(Section):
    """The address of a listener. The section's name is also the listener's name in the ports file, logs and errors."""

    transports: ClassVar[tuple[Transport, ...]] = ("tcp",)
    sharing: ClassVar[PortSharing] = PortSharing.ONE_PORT
    is_for_edges: ClassVar[bool] = False  # An edge also opens this listener, but accepts no pushes.

    host: option.Host
    port: option.Port


class TlsListenerSettings(Section):
    """The port of a listener over TLS. Its section has the plain listener's name and an s: `rtmps` for `rtmp`."""

    port: option.Port


class UdpListenerSettings(ListenerSettings):
    """The address of a listener on UDP."""

    transports = ("udp",)


class RtmpSettings(ListenerSettings):
    is_for_edges = True

    apps: option.RtmpApps
    proxy_from: option.Networks
    ping_interval: option.Seconds
    ping_timeout: option.PositiveSeconds
    idle_timeout: option.Seconds


class TlsSettings(Section):
    acme: option.CertificateNames
    acme_email: option.Email
    acme_directory: option.AcmeDirectory
    cert: option.File
    key: option.File
    ca: option.File
    in_front: option.OnOff


class HttpSettings(ListenerSettings):
    is_for_edges = True

    flush_ms: option.Milliseconds
    forwarded_from: option.Networks
    advertise: option.Advertised
    http2: option.OnOff
    keep_alive: option.Seconds


class WsSettings(ListenerSettings):
    origins: option.Origins
    forwarded_from: option.Networks
    compatible: option.Targets
    ping_interval: option.Seconds
    idle_timeout: option.Seconds


class WebRtcSettings(ListenerSettings):
    is_for_edges = True
    transports = ("tcp", "udp")
    sharing = PortSharing.OWN_PORTS  # all packets of a peer must reach one process, also after its address changes

    advertise: option.Hosts
    peers: option.PositiveCount
    half_open: option.PositiveCount
    half_open_per_address: option.Count
    connect_timeout: option.PositiveSeconds
    consent_timeout: option.PositiveSeconds
    tcp_connections: option.Count
    ice_servers: option.IceServers


class SrtSettings(UdpListenerSettings):
    is_for_edges = True

    latency: option.Latency
    max_latency: option.Latency
    passphrase: option.Passphrase
    srtla_port: option.OptionalPort


class RtspSettings(ListenerSettings):
    is_for_edges = True

    port: option.OptionalPort
    tls_port: option.OptionalPort
    udp_ports: option.PortRange


class MoqSettings(UdpListenerSettings):
    is_for_edges = True
    sharing = PortSharing.LIBRARY

    port: option.OptionalPort
    connections: option.PositiveCount


class AdminSettings(ListenerSettings):
    is_for_edges = True
    sharing = PortSharing.FIRST

    token: option.SecretOrReference
    tls: option.OnOff
    console: option.OnOff
    forwarded_from: option.Networks
    store: option.ChannelsUrl
    session_idle: option.PositiveSeconds
    session_most: option.PositiveSeconds


class OidcSettings(Section):
    issuer: option.Issuer
    client_id: option.Text
    client_secret: option.Secret
    audience: option.Text
    name: option.Label
    claim: option.Text
    allow: option.Texts
    broadcasters: option.Texts
    observers: option.Texts
    channels_claim: option.Text
    sign_up: option.Count


class SigningSettings(Section):
    secret: option.SecretOrReference
    previous_secret: option.SecretOrReference
    refresh: option.Seconds
    algorithm: Annotated[Literal["hmac-sha256", "md5"], option.Expected("hmac-sha256 or md5")]


class StreamSettings(Section):
    takeover_after: option.Seconds
    linger: option.Seconds
    wait_for_publisher: option.Seconds
    gop_seconds: option.PositiveSeconds
    gop_bytes: option.PositiveCount
    end_at_expiry: option.OnOff
    tracks_wait: option.Seconds


class InputsSettings(Section):
    silence: option.PositiveSeconds
    hold: option.Seconds


class HlsSettings(Section):
    on_demand: option.OnOff
    cue_tags: option.OnOff


class CmafSettings(Section):
    part: option.PartSeconds
    on_demand: option.OnOff


class S3Settings(Section):
    endpoint: option.WebAddress
    region: option.Text
    path_style: option.OnOff
    access_key: option.Text
    secret_key: option.Secret


class RecordingSettings(Section):
    keep_free: option.Count
    spool_bytes: option.PositiveCount
    retention_days: option.Days
    bin_hours: option.Hours
    storage_class: option.StorageClass
    cold_after_days: option.Days
    cold_class: option.ArchiveStorageClass
    archive_after_days: option.Days
    archive_class: option.ArchiveStorageClass


class ClipsSettings(Section):
    seconds: option.PositiveSeconds
    export_seconds: option.PositiveSeconds
    per_minute: option.Count
    seconds_per_hour: option.Seconds
    retention_days: option.Days


class WorkersSettings(Section):
    runner: Annotated[Literal["local", "ecs"], option.Expected("local or ecs")]
    most: option.Count
    nice: option.Niceness
    memory: option.Count


class TranscodeSettings(Section):
    ladders: option.File
    preset: option.EncoderPreset
    hevc_preset: option.EncoderPreset
    threads: option.PositiveCount
    backlog: option.PositiveSeconds


class RelaySettings(Section):
    timeout: option.PositiveSeconds
    retry: option.PositiveSeconds


class WatermarkSettings(Section):
    font: option.FontFamily
    bitrate: option.Count


class CaptionsSettings(Section):
    engine: option.SpeechEngine


class SnapshotSettings(Section):
    quality: option.Quality


class MotionSettings(Section):
    pre_roll: option.PreRoll


class KvsSettings(Section):
    role: option.RoleArn
    stream: option.KvsStream
    log_every: option.Count
    size: option.PictureSize
    object_bytes: option.PositiveCount
    object_seconds: option.Seconds
    backlog: option.PositiveCount
    queue: option.WebAddress
    prefix: option.Text
    suffixes: option.Suffixes


class VodSettings(Section):
    jobs: option.ChannelsUrl
    films: option.ChannelsUrl
    workers: option.PositiveCount
    preset: Annotated[
        Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"],
        option.Expected("ultrafast, superfast, veryfast, faster, fast, medium or slow"),
    ]
    crf: option.Crf
    bitrate: option.Bitrate
    segment: option.SegmentSeconds
    memory: option.Count
    film_seconds: option.Seconds
    output_ratio: option.Seconds
    output_bytes: option.Count
    job_ratio: option.Seconds
    keep_free: option.Count
    sources: option.Folders
    upload_bytes: option.Count
    queue: option.WebAddress
    suffixes: option.Suffixes


class PlaybackSettings(Section):
    auth: Annotated[Literal["none", "sign", "cloudfront"], option.Expected("none, sign or cloudfront")]
    sign_ttl: option.PositiveSeconds
    public_url: option.BaseAddress
    node_url: option.BaseAddress
    referer_allow: option.PageHosts
    player_hosts: option.HostPatterns
    reports: option.OnOff


class PagesSettings(Section):
    replay: option.OnOff
    download: option.OnOff


class CloudFrontSettings(Section):
    public_keys: option.KeyFiles
    origin_secret: option.Secret
    key_pair_id: option.KeyPairId
    private_key: option.PrivateKeyOrReference


class EgressSettings(Section):
    allow: option.EgressEntries


class MetricsSettings(Section):
    per_stream: option.OnOff


class EventsSettings(Section):
    store: option.ChannelsUrl
    days: option.PositiveCount
    most: option.PositiveCount


class HooksSettings(Section):
    url: option.WebAddress
    secret: option.Secret
    timeout: option.PositiveSeconds


class AuthSettings(Section):
    publish: option.WebAddress
    play: option.WebAddress
    format: Annotated[Literal["nginx-rtmp", "srs"], option.Expected("nginx-rtmp or srs")]
    mode: Annotated[Literal["both", "instead", "unknown"], option.Expected("both, instead or unknown")]
    template: option.ChannelId
    timeout: option.PositiveSeconds


class EdgeSettings(Section):
    upstream: option.NodeAddresses
    cache: option.PositiveCount
    channel: option.ChannelId


class EcsSettings(Section):
    cluster: option.EcsName
    task: option.EcsName
    container: option.Text
    subnets: option.Subnets
    security_groups: option.SecurityGroups
    launch_type: Annotated[Literal["", "FARGATE", "EC2"], option.Expected("FARGATE, EC2 or empty")]
    capacity_provider: option.Text
    public_ip: option.OnOff
    events: option.WebAddress
    addresses: option.TableUrl
    service: option.Text


class ClusterSettings(Section):
    secret: option.SecretOrReference
    site: option.SiteName
    agent_port: option.OptionalPort


class LimitsSettings(Section):
    publishers_per_address: option.Count
    playback_per_address: option.Count
    refusals_per_minute: option.Count
    publishers: option.Count
    push_kbps: option.Count
    node_mbps: option.Count
    handshake: option.Seconds
    first_media: option.Seconds
    item: option.Count
    viewer_backlog: option.PositiveCount
    viewer_memory: option.Count
    viewer_stall: option.Seconds


class ServeSettings(Section):
    drain: option.Seconds
    workers: option.Count
    retire: option.Seconds


class LogSettings(Section):
    level: Annotated[Literal["debug", "info", "warning", "error"], option.Expected("debug, info, warning or error")]
    format: Annotated[Literal["auto", "console", "json"], option.Expected("auto, console or json")]
    load: option.Seconds


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """The address of one listener."""

    name: str
    host: str
    port: int
    tls: bool = False
    transports: tuple[Transport, ...] = ("tcp",)
    sharing: PortSharing = PortSharing.ONE_PORT
    is_for_edges: bool = False


# The name of the listener for agent checks of HAProxy. It has no section of its own.
AGENT: Final = "agent"
SRTLA: Final = "srtla"  # the links of a group must reach one process
RTSPS: Final = "rtsps"

# The options with the URLs of stores.
STORES: Final = ("channels", "objects", "registry", "vod.jobs", "vod.films", "admin.store", "events.store")


class Settings(Section):
    """All settings, merged. `{data}` in a store's address has been replaced by the data folder."""

    data: option.Folder
    database: option.DatabaseUrl
    channels: option.ChannelsUrl
    objects: option.ObjectsUrl
    registry: option.RegistryUrl
    serve: ServeSettings
    log: LogSettings
    rtmp: RtmpSettings
    rtmps: TlsListenerSettings
    http: HttpSettings
    https: TlsListenerSettings
    ws: WsSettings
    wss: TlsListenerSettings
    srt: SrtSettings
    rtsp: RtspSettings
    webrtc: WebRtcSettings
    moq: MoqSettings
    admin: AdminSettings
    oidc: OidcSettings
    tls: TlsSettings
    signing: SigningSettings
    stream: StreamSettings
    inputs: InputsSettings
    hls: HlsSettings
    cmaf: CmafSettings
    s3: S3Settings
    recording: RecordingSettings
    clips: ClipsSettings
    workers: WorkersSettings
    transcode: TranscodeSettings
    relay: RelaySettings
    watermark: WatermarkSettings
    captions: CaptionsSettings
    snapshot: SnapshotSettings
    motion: MotionSettings
    kvs: KvsSettings
    vod: VodSettings
    playback: PlaybackSettings
    pages: PagesSettings
    cloudfront: CloudFrontSettings
    egress: EgressSettings
    metrics: MetricsSettings
    events: EventsSettings
    hooks: HooksSettings
    auth: AuthSettings
    edge: EdgeSettings
    ecs: EcsSettings
    cluster: ClusterSettings
    limits: LimitsSettings

    @property
    def has_tls(self) -> bool:
        """Whether RTMPS, HTTPS and WSS are open, besides the plain ports, and RTSPS, if RTSP is open."""
        return self.tls.cert is not None or bool(self.tls.acme)

    def listeners(self) -> list[ListenAddress]:
        """Returns the addresses of all open listeners, in the order of the sections."""
        found = []
        for name, section in self:
            if isinstance(section, ListenerSettings):
                plain, is_tls = section, False
            elif isinstance(section, TlsListenerSettings) and self.has_tls:
                plain, is_tls = getattr(self, name[:-1]), True
            else:
                continue
            if section.port < 0:
                continue
            about = (plain.transports, plain.sharing, plain.is_for_edges)
            found.append(ListenAddress(name, plain.host, section.port, is_tls, *about))
        if self.srt.srtla_port >= 0:
            srt, port = self.srt, self.srt.srtla_port
            found.append(ListenAddress(SRTLA, srt.host, port, transports=srt.transports, sharing=PortSharing.FIRST))
        rtsp = self.rtsp
        if self.has_tls and rtsp.port >= 0 and rtsp.tls_port >= 0:
            found.append(ListenAddress(RTSPS, rtsp.host, rtsp.tls_port, tls=True, is_for_edges=True))
        if self.cluster.agent_port >= 0:
            port = self.cluster.agent_port
            found.append(ListenAddress(AGENT, self.http.host, port, sharing=PortSharing.FIRST, is_for_edges=True))
        return found

    def store_urls(self) -> tuple[str, ...]:
        """Returns the URLs of STORES; "" if there is no registry."""
        return tuple(attrgetter(name)(self) for name in STORES)

    def tls_ports(self) -> dict[str, int]:
        """Returns the ports over TLS by the listeners' names, also of listeners that are not open."""
        return {name: section.port for name, section in self if isinstance(section, TlsListenerSettings)}


def _is_listener(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, ListenerSettings | TlsListenerSettings)


# The names of all listeners but AGENT. Some are open only with a certificate.
LISTENERS: Final = (
    *(name for name, info in Settings.model_fields.items() if _is_listener(info.annotation)),
    SRTLA,
    RTSPS,
)
