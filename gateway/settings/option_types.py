"""The types of option values, each with a description for error messages."""

import ipaddress
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}[A-Za-z0-9_])?)*\.?"
)


@dataclass(frozen=True, slots=True)
class Expected:
    """Describes a valid value. The text completes the sentence "expected …"."""

    text: str


def not_boolean(value: object) -> object:
    """Refuses true and false, which are numbers in Python."""
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")
    return value


def _number(value: object) -> object:
    """Refuses true and false. Strips texts."""
    return not_boolean(value.strip() if isinstance(value, str) else value)


def split_list(value: object) -> object:
    """Splits comma-separated text, as in the environment, into a list. Returns other values unchanged."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _network(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError("not a text")  # ip_network also accepts numbers
    return ipaddress.ip_network(value)


def _pairs(value: object) -> object:
    """Converts the text `id=file,id=file` to a table. Returns a TOML table unchanged."""
    if not isinstance(value, str):
        return value
    pairs: dict[str, str] = {}
    for part in (p.strip() for p in value.split(",")):
        if not part:
            continue
        name, equals, file = part.partition("=")
        if not (name.strip() and equals and file.strip()):
            raise ValueError("not a list of id=file")
        pairs[name.strip()] = file.strip()
    return pairs


def _path_or_none(value: object) -> object:
    if value == "":
        return None
    if not isinstance(value, str):
        return value
    if "\0" in value:
        raise ValueError("the name contains a null byte")
    return expand_home(value)


def expand_home(value: str) -> Path:
    """Returns a path with `~` and `~user` replaced. Raises ValueError if the home folder is unknown."""
    try:
        return Path(value).expanduser()
    except RuntimeError as error:
        raise ValueError(str(error)) from None


def _host(value: str) -> str:
    """Checks an address or a host name. Removes the brackets of `[::1]`."""
    host = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host != value or not _HOST_NAME.fullmatch(host):
            raise
    return host


def host_port(value: str) -> tuple[str, int]:
    """Splits `host:port` or `[::1]:port` into a pair. Raises ValueError for any other text."""
    host, colon, port = value.rpartition(":")
    if (
        not colon
        or not re.fullmatch(r"[0-9]{1,5}", port)
        or not 0 < int(port) < 65536
        or (":" in host and not host.startswith("["))
    ):
        raise ValueError("not host:port")
    return _host(host), int(port)


def port_range(value: str) -> range:
    """Returns the ports of `8000-8001`. Raises ValueError for any other text."""
    found = re.fullmatch("([0-9]{1,5})-([0-9]{1,5})", value)
    first, last = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 < first < last < 65536:
        raise ValueError("not first-last")
    return range(first, last + 1)


def _ports(value: str) -> str:
    if value:
        port_range(value)
    return value


def _node(value: str) -> str:
    """Checks the address of a node, `host:port`."""
    host_port(value)
    return value


def _advertised(value: str) -> str:
    """Checks `host:port`. Empty text is valid, too."""
    return _node(value) if value else ""


_PUBLIC_NAME = re.compile(r"(?=.{4,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+(?!\d+\Z)[a-z0-9-]{2,63}")


def _certificate_name(value: str) -> str:
    """Returns a name as certificates have it: in lower case, international names in their ASCII form."""
    try:
        name = value.strip().rstrip(".").encode("idna").decode().lower()
    except UnicodeError:
        raise ValueError("no name") from None
    if _PUBLIC_NAME.fullmatch(name) is None:
        raise ValueError("no public name")
    return name


def _https_address(value: str) -> str:
    if not _web_address(value).startswith("https://"):
        raise ValueError("RFC 8555 §6.1 requires HTTPS")
    return value


def _web_address(value: str) -> str:
    if value:
        parts = urlsplit(value)
        is_plain = value.isprintable() and " " not in value  # urlsplit removes line ends, and spaces at the start
        if not is_plain or parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
            raise ValueError("not a web address")
        if parts.fragment:
            raise ValueError("a fragment is not allowed")
    return value


def _base_address(value: str) -> str:
    if urlsplit(_web_address(value)).query:
        raise ValueError("a query is not allowed")
    return value.rstrip("/")


def _issuer(value: str) -> str:
    """Checks an issuer: no query, no fragment (OpenID Connect Discovery 1.0 §2).

    Does not remove a slash at the end: users who signed up have a channel whose id comes from this text.
    """
    if "?" in _web_address(value) or "@" in urlsplit(value).netloc:
        raise ValueError("a query or user is not allowed")
    return value


def _egress_entry(value: str) -> str:
    """Checks a network, host or URL prefix in the syntax of `gateway.lib.egress`."""
    if "://" in value:
        parts = urlsplit(value)
        has_port = bool(parts.port) if parts.scheme in _PORT_SCHEMES else parts.port != 0
        if parts.scheme not in (*_USUAL_PORT_SCHEMES, *_PORT_SCHEMES) or not parts.hostname or not has_port:
            raise ValueError("not a URL prefix")
        if parts.query or parts.fragment or parts.username is not None or not value.isprintable() or " " in value:
            raise ValueError("a prefix has no query, fragment or user")
    else:
        try:
            ipaddress.ip_network(value[1:-1] if value.startswith("[") and value.endswith("]") else value)
        except ValueError:
            # A host whose last label has only digits is an invalid IP address.
            if ":" in value or _host(value).rstrip(".").rpartition(".")[2].isdigit():
                raise ValueError("not a network and not a host") from None
    return value


def _origin(value: str) -> str:
    """Checks the origin of a page. Others would allow no page, without a message: browsers send a scheme, too."""
    parts = urlsplit(value)
    if value not in ("*", "null") and not (parts.scheme and parts.hostname and parts.port != 0):
        raise ValueError("not an origin")
    return value


def _host_or_url(value: str) -> str:
    return _web_address(value) if "://" in value else _host(value)


def _secret_or_reference(value: SecretStr) -> SecretStr:
    """Checks the syntax of a reference. Other text is the secret itself and must be long enough."""
    text = value.get_secret_value()
    if text.startswith(REFERENCES):
        if not REFERENCE.fullmatch(text):
            raise ValueError("not a reference")
    elif text and is_short(text):
        raise ValueError("too short")
    return value


def _passphrase(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text and not (text.isascii() and text.isprintable() and 10 <= len(text) <= 79 and not set(text) & set('"#%&+')):
        raise ValueError("not a passphrase of SRT")
    return value


def _database_url(value: SecretStr) -> SecretStr:
    """Refuses an address that a sign of the password cuts, too: messages would show the rest of the password."""
    parts = urlsplit(value.get_secret_value())
    is_cut = "@" in parts.path or bool(parts.fragment) or parts.netloc.count("@") > 1
    is_address = parts.scheme in ("postgresql", "postgres") and bool(parts.path.strip("/"))
    if value.get_secret_value() and (is_cut or not is_address):
        raise ValueError("not an address of PostgreSQL")
    for host in parts.netloc.rpartition("@")[2].split(","):
        _ = urlsplit(f"//{host}").port  # raises ValueError if it is no number
    return value


def _private_key(value: SecretStr) -> SecretStr:
    """Returns a reference for a path. A PEM text, as `…_FILE` variables give it, stays unchanged."""
    text = value.get_secret_value()
    if text and not text.startswith(("-----BEGIN ", *REFERENCES)):
        value = SecretStr(f"file:{expand_home(text).absolute()}")
    return value if text.startswith("-----BEGIN ") else _secret_or_reference(value)


def is_short(secret: str) -> bool:
    """Returns whether a secret is so short that it can be guessed."""
    return len(secret.strip()) < MIN_SECRET_LENGTH


def _push_target(value: str) -> str:
    """Checks a host, with an optional `*.`, or a prefix of RTMP(S) URLs."""
    if "://" not in value:
        _host(value.removeprefix("*."))
        return value
    parts = urlsplit(value)
    if parts.scheme not in ("rtmp", "rtmps") or not parts.hostname or parts.port == 0 or "@" in parts.netloc:
        raise ValueError("not an RTMP URL prefix")
    if "?" in value or "#" in value or not value.isprintable() or " " in value:
        raise ValueError("a URL prefix has no query")
    return value


def _speech_engine(value: str) -> str:
    kind, colon, argument = value.partition(":")
    is_known = kind in ("sherpa-onnx", "command") and bool(shlex.split(argument))  # raises for an open quotation mark
    if not is_known and (kind not in ("", "pocketsphinx") or colon):
        raise ValueError("not an engine")
    return value


def _size(value: object) -> object:
    """Converts `640x480` to a pair. Returns a pair unchanged."""
    if isinstance(value, list | tuple):
        value = "x".join(str(side) for side in value)
    match = re.fullmatch(r"([0-9]{2,4})x([0-9]{2,4})", value, re.ASCII) if isinstance(value, str) else None
    if match is None or not all(16 <= int(side) <= 4096 for side in match.groups()):
        raise ValueError("not a size")
    return int(match[1]), int(match[2])


_ICE_HOST = r"([A-Za-z0-9.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?"
_ICE_WORD = r"[!#-+.-\[\]-~-]{1,128}"  # no quote, comma and backslash
# RFC 7064, RFC 7065
_ICE_SERVER = rf"^(stuns?:{_ICE_HOST}|turns?:{_ICE_HOST}(\?transport=(udp|tcp))? {_ICE_WORD} {_ICE_WORD})$"

# The schemes of addresses to which the gateway connects, and those of them without a usual port.
_USUAL_PORT_SCHEMES = ("http", "https", "rtmp", "rtmps", "rtsp", "rtsps", "smtp")
_PORT_SCHEMES = ("srt", "udp", "rtp")

MIN_SECRET_LENGTH: Final = 16  # characters; a shorter secret can be guessed
# Prefixes of references to secrets. `gateway.adapters.secret_resolver` reads the secrets.
FILE: Final = "file:"
REFERENCES = ("ssm:", "secretsmanager:", FILE)
REFERENCE = re.compile(
    r"ssm:(/?[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*|arn:aws[a-z-]*:ssm:[a-z0-9-]+:[0-9]{12}:parameter/[A-Za-z0-9_./-]+)"
    r"|secretsmanager:([A-Za-z0-9/_+=.@-]{1,512}|arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[^\s:]{1,519})"
    r"|file:(/[^\0]+)",
    re.ASCII,
)

_TABLE = r"dynamodb://[A-Za-z0-9_.-]{3,255}"
# A store in the database of the option `database`.
IN_DATABASE: Final = "database:"

T = TypeVar("T")
_Listed = Annotated[tuple[T, ...], BeforeValidator(split_list)]
_Int = Annotated[int, BeforeValidator(_number)]
_Float = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Port = Annotated[_Int, Field(ge=0, le=65535), Expected("a port number from 0 to 65535 (0: any free port)")]
OptionalPort = Annotated[
    _Int, Field(ge=-1, le=65535), Expected("a port number from 0 to 65535 (0: any free port), or -1: none")
]
PortRange = Annotated[
    str,
    AfterValidator(_ports),
    Expected("two port numbers from 1 to 65535, such as 8000-8001, or empty: none"),
]
Seconds = Annotated[_Float, Field(ge=0, le=1e9), Expected("seconds, 0 or more")]
PositiveSeconds = Annotated[_Float, Field(gt=0, le=1e9), Expected("seconds, more than 0")]
PartSeconds = Annotated[_Float, Field(ge=0.05, le=5), Expected("seconds from 0.05 to 5")]
Count = Annotated[_Int, Field(ge=0, le=2**53), Expected("a whole number, 0 or more")]
PositiveCount = Annotated[_Int, Field(ge=1, le=2**53), Expected("a whole number, 1 or more")]
# At most a century, like Days: answers have the date behind it, and dates end with the year 9999.
Hours = Annotated[_Int, Field(ge=0, le=876_000), Expected("whole hours from 0 to 876000")]
Days = Annotated[_Int, Field(ge=0, le=36_500), Expected("whole days from 0 to 36500")]
Milliseconds = Annotated[_Int, Field(ge=0, le=10_000), Expected("whole milliseconds from 0 to 10000")]
Latency = Annotated[_Int, Field(ge=0, le=60_000), Expected("whole milliseconds from 0 to 60000")]
Niceness = Annotated[_Int, Field(ge=0, le=19), Expected("a whole number from 0 to 19")]
EncoderPreset = Annotated[
    Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium"],
    Expected("ultrafast, superfast, veryfast, faster, fast or medium"),
]
OnOff = Annotated[bool, Expected("true or false")]
Text = Annotated[str, Expected("text")]
Host = Annotated[str, AfterValidator(_host), Expected("an address or a host name, such as 0.0.0.0, :: or example.com")]
Advertised = Annotated[str, AfterValidator(_advertised), Expected("host:port")]
NodeAddresses = Annotated[
    _Listed[Annotated[str, AfterValidator(_node)]],
    Expected("a comma-separated list of host:port, such as 10.0.0.5:8080"),
]
WebAddress = Annotated[str, AfterValidator(_web_address), Expected("a URL with http:// or https://")]
BaseAddress = Annotated[str, AfterValidator(_base_address), Expected("a URL with http:// or https:// and no query")]
Issuer = Annotated[str, AfterValidator(_issuer), Expected("the issuer's URL, with https:// and no query")]
Label = Annotated[str, Field(min_length=1, max_length=60), Expected("text of 1 to 60 characters")]
Secret = Annotated[SecretStr, Expected("text")]
Passphrase = Annotated[
    SecretStr, AfterValidator(_passphrase), Expected('10 to 79 characters of ASCII without " # % & +, or empty')
]
SecretOrReference = Annotated[
    SecretStr,
    AfterValidator(_secret_or_reference),
    Expected(
        f"at least {MIN_SECRET_LENGTH} characters, or a reference: ssm:/path, secretsmanager:<name or ARN>, file:/path"
    ),
]
CertificateNames = Annotated[
    _Listed[Annotated[str, AfterValidator(_certificate_name)]],
    Field(max_length=100),
    Expected(
        "a comma-separated list of at most 100 public names such as live.example.com: no addresses, and no "
        "*.example.com, which an authority checks in the DNS only"
    ),
]
Email = Annotated[str, Field(pattern=r"^([^@\s,:<>]{1,64}@[^@\s,:<>]{1,253})?$"), Expected("an e-mail address")]
AcmeDirectory = Annotated[str, AfterValidator(_https_address), Expected("a URL with https://")]
File = Annotated[Path | None, BeforeValidator(_path_or_none), Expected("the path of a file")]
Folder = Annotated[Path, BeforeValidator(_path_or_none), Expected("the path of a folder")]
Networks = Annotated[
    _Listed[Annotated[Network, BeforeValidator(_network)]],
    Expected("a comma-separated list of networks, such as 10.0.0.0/8, ::1"),
]
Texts = Annotated[_Listed[str], Expected("a comma-separated list")]
Hosts = Annotated[
    _Listed[Annotated[str, AfterValidator(_host_or_url)]],
    Field(max_length=16),
    Expected(
        "a comma-separated list of at most 16 addresses, names or URLs, such as 203.0.113.7, media.example.com, "
        "https://checkip.amazonaws.com"
    ),
]
IceServers = Annotated[
    _Listed[Annotated[str, Field(pattern=_ICE_SERVER)]],
    Field(max_length=8),
    Expected("a comma-separated list of at most 8 servers: stun:host:port, or turn:host:port <user> <password>"),
]
Origins = Annotated[
    _Listed[Annotated[str, AfterValidator(_origin)]],
    Expected("a comma-separated list of origins, such as https://studio.example.com, or *"),
]
# Like the field refererAllow of a channel; "*": all pages.
PageHosts = Annotated[
    _Listed[
        Annotated[
            str,
            Field(
                pattern=r"^(\*|((\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?)$"
            ),
            AfterValidator(str.lower),
        ]
    ],
    Expected("a comma-separated list of hosts, such as example.com, *.example.com"),
]
HostPatterns = Annotated[
    # The hosts become part of a header, so no other characters are allowed.
    _Listed[Annotated[str, Field(pattern=r"^(\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*$"), AfterValidator(str.lower)]],
    Expected("a comma-separated list of hosts, such as media.example.com, *.example.com"),
]
EgressEntries = Annotated[
    _Listed[Annotated[str, AfterValidator(_egress_entry)]],
    Expected(
        "a comma-separated list of networks, hosts or URL prefixes, such as 10.0.0.0/8, relay.lan, http://10.1.2.3/pics"
    ),
]
Targets = Annotated[
    _Listed[Annotated[str, AfterValidator(_push_target)]],
    Expected("a comma-separated list of hosts or URL prefixes, such as *.example.com, rtmps://a.example/app/"),
]
KeyFiles = Annotated[
    Mapping[str, Path], BeforeValidator(_pairs), Expected("a comma-separated list of <key pair id>=<PEM file>")
]
KeyPairId = Annotated[str, Field(pattern=r"^[A-Za-z0-9]{0,64}$"), Expected("the id of a key pair")]
PrivateKeyOrReference = Annotated[
    SecretStr,
    AfterValidator(_private_key),
    Expected("the path of a PEM file, or a reference: ssm:/path, secretsmanager:<name or ARN>, file:/path"),
]
DatabaseUrl = Annotated[
    SecretStr,
    AfterValidator(_database_url),
    Expected("postgresql://user:password@host/name with %40 for @, %2F for / and %23 for # in the password, or empty"),
]
ChannelsUrl = Annotated[
    str,
    Field(pattern=rf"^(sqlite:///.+|{_TABLE}|{IN_DATABASE})$"),
    Expected(f"sqlite:///path, dynamodb://table, or {IN_DATABASE} for that of the option database"),
]
ObjectsUrl = Annotated[
    str, Field(pattern=r"^(file:///.+|s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])$"), Expected("file:///path or s3://bucket")
]
Folders = Annotated[
    _Listed[Annotated[Path, BeforeValidator(_path_or_none)]],
    Expected("a comma-separated list of folders, such as /srv/videos"),
]
Suffixes = Annotated[
    _Listed[Annotated[str, Field(pattern=r"^\.[A-Za-z0-9]{1,10}$")]],
    Expected("a comma-separated list of suffixes, such as .mp4, .mov"),
]
Crf = Annotated[_Float, Field(ge=10, le=40), Expected("a number from 10 to 40")]
Bitrate = Annotated[_Int, Field(ge=100_000, le=200_000_000), Expected("bits a second from 100000 to 200000000")]
SegmentSeconds = Annotated[_Float, Field(ge=2, le=60), Expected("seconds from 2 to 60")]
StorageClass = Annotated[
    Literal["", "STANDARD", "INTELLIGENT_TIERING", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR"],
    Expected("STANDARD, INTELLIGENT_TIERING, STANDARD_IA, ONEZONE_IA or GLACIER_IR, or empty for the bucket's default"),
]
ArchiveStorageClass = Annotated[
    Literal["INTELLIGENT_TIERING", "STANDARD_IA", "ONEZONE_IA", "GLACIER_IR", "GLACIER", "DEEP_ARCHIVE"],
    Expected("INTELLIGENT_TIERING, STANDARD_IA, ONEZONE_IA, GLACIER_IR, GLACIER or DEEP_ARCHIVE"),
]
RegistryUrl = Annotated[
    str,
    Field(pattern=rf"^(sqlite:///.+|{_TABLE}|{IN_DATABASE})?$"),
    Expected(f"dynamodb://table, sqlite:///path, {IN_DATABASE}, or empty for a single node"),
]
SpeechEngine = Annotated[
    str,
    AfterValidator(_speech_engine),
    Expected("pocketsphinx, sherpa-onnx:<folder>, command:<program and arguments>, or empty"),
]
FontFamily = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}$"),
    Expected("the name of a font family, such as Noto Sans CJK SC"),
]
Quality = Annotated[_Int, Field(ge=1, le=95), Expected("a whole number from 1 to 95")]
PreRoll = Annotated[_Float, Field(ge=0, le=30), Expected("seconds from 0 to 30")]
KvsStream = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z0-9_.-]{1,256}"
        r"|arn:aws[a-z-]*:kinesisvideo:[a-z0-9-]{1,32}:[0-9]{12}:stream/[A-Za-z0-9_.-]{1,256}/[0-9]{1,20})?$"
    ),
    Expected("the name or ARN of a Kinesis video stream"),
]
RoleArn = Annotated[
    str,
    Field(pattern=r"^(arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,512})?$"),
    Expected("the ARN of a role"),
]
PictureSize = Annotated[tuple[int, int], BeforeValidator(_size), Expected("width x height from 16x16 to 4096x4096")]
TableUrl = Annotated[str, Field(pattern=rf"^({_TABLE})?$"), Expected("dynamodb://table, or empty")]
ChannelId = Annotated[
    str, Field(pattern=r"^([A-Za-z0-9_-][A-Za-z0-9._-]{0,127})?$"), Expected("the id of a channel, or empty")
]
SiteName = Annotated[
    str,
    Field(pattern=r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)?$"),
    Expected("at most 63 lower-case letters, digits and hyphens, or empty"),
]
RtmpApps = Annotated[
    _Listed[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]],
    Field(max_length=16),
    Expected("a comma-separated list of at most 16 names, such as live, stream"),
]
EcsName = Annotated[
    str,
    Field(pattern=r"^([A-Za-z0-9_-]{1,255}(:[0-9]{1,9})?|arn:aws[a-z-]*:ecs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_/:-]+)?$"),
    Expected("a name or an ARN of Amazon ECS, or empty"),
]
Subnets = Annotated[
    _Listed[Annotated[str, Field(pattern=r"^subnet-[0-9a-f]{8,17}$")]],
    Field(max_length=16),
    Expected("a comma-separated list of at most 16 subnets, such as subnet-0123456789abcdef0"),
]
SecurityGroups = Annotated[
    _Listed[Annotated[str, Field(pattern=r"^sg-[0-9a-f]{8,17}$")]],
    Field(max_length=5),
    Expected("a comma-separated list of at most 5 security groups, such as sg-0123456789abcdef0"),
]
