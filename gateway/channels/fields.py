"""The fields of a stored channel, by their original names. Reading is lenient; checking is strict.

Clients of the original system also write booleans and numbers as text. Both spellings mean the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from gateway.channels import relay_urls
from gateway.channels.schedule import Schedule
from gateway.ports.errors import InvalidField

T = TypeVar("T", covariant=True)

MAX_RELAYS: Final = 16
MAX_REFERERS: Final = 100
MAX_DAYS: Final = 36_500

_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_REFERER = re.compile(
    r"(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){0,20}\.?(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?",
    re.ASCII,
)
_COLOR = re.compile(r"(#|0x)?[A-Za-z0-9]{1,32}(@[0-9.x]{1,8})?", re.ASCII)
_WEB_ADDRESS = re.compile(r"https?://[^\s/]+(/\S*)?")
_LADDER = re.compile(r"[a-z0-9_-]+", re.ASCII)
_KVS_STREAM = re.compile(
    r"[A-Za-z0-9_.-]{1,256}|arn:aws[a-z-]*:kinesisvideo:[a-z0-9-]{1,32}:[0-9]{12}:stream/[A-Za-z0-9_.-]{1,256}/[0-9]{1,20}",
    re.ASCII,
)


class Field(Protocol[T]):
    """One field of a channel.

    absent: the value of a missing field.
    read: returns the typed value, or raises ValueError with a description of the allowed values.
    """

    @property
    def absent(self) -> T: ...

    def read(self, value: Any) -> T: ...


@dataclass(frozen=True, slots=True)
class Flag:
    absent: bool = False

    def read(self, value: Any) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        raise ValueError("expected true or false")


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `least` to `most`. unit: what stands behind the value in a form."""

    absent: float
    least: float
    most: float
    whole: bool = False
    unit: str = ""

    def read(self, value: Any) -> float:
        if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
            value = float(value)
        # The bounds also refuse NaN and numbers too large for a float.
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not self.least <= value <= self.most
            or (self.whole and value != int(value))
        ):
            raise ValueError(f"expected a {'whole ' if self.whole else ''}number from {self.least:g} to {self.most:g}")
        return float(value)


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    absent: T
    values: Mapping[str, T]

    def read(self, value: Any) -> T:
        if isinstance(value, str) and value in self.values:
            return self.values[value]
        raise ValueError(f"expected {', '.join(list(self.values)[:-1])} or {list(self.values)[-1]}")


@dataclass(frozen=True, slots=True)
class TextField:
    """A text. If it is not empty it must match `form`; `expected` describes that form in errors."""

    longest: int
    absent: str = ""
    form: re.Pattern[str] | None = None
    expected: str = "text"

    def read(self, value: Any) -> str:
        if not isinstance(value, str) or (value and self.form and not self.form.fullmatch(value)):
            raise ValueError(f"expected {self.expected}")
        if len(value) > self.longest:
            raise ValueError(f"expected at most {self.longest} characters")
        return value


@dataclass(frozen=True, slots=True)
class Hosts:
    """A list of hosts, or a text with hosts separated by commas; None: not set. A host may have a port or a leading
    `*.`.
    """

    absent: tuple[str, ...] | None = None

    def read(self, value: Any) -> tuple[str, ...]:
        entries = [e.strip() for e in value.split(",") if e.strip()] if isinstance(value, str) else value
        if (
            not isinstance(entries, list)
            or len(entries) > MAX_REFERERS
            or not all(isinstance(e, str) and _REFERER.fullmatch(e) for e in entries)
        ):
            raise ValueError(f"expected a list of at most {MAX_REFERERS} hosts, such as example.com or *.example.com")
        return tuple(e.lower() for e in entries)


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets of a relay: a list, or a text separated by commas."""

    absent: tuple[str, ...] = ()

    def read(self, value: Any) -> tuple[str, ...]:
        targets = relay_urls.targets(value)
        if targets is None or len(targets) > MAX_RELAYS or not all(relay_urls.is_target(t) for t in targets):
            raise ValueError(
                f"expected at most {MAX_RELAYS} rtmp:// or rtmps:// addresses or IVS channel ARNs, "
                "as a list or separated by commas"
            )
        return targets


@dataclass(frozen=True, slots=True)
class Hours:
    """The times at which an output is on, see Schedule. None, or an empty text: always."""

    absent: Schedule | None = None

    def read(self, value: Any) -> Schedule | None:
        if not isinstance(value, str):
            raise ValueError("expected text")
        return Schedule.parse(value) if value.strip() else None


@dataclass(frozen=True, slots=True)
class Days:
    """A number of days; 0: for ever. None, or an empty text: not set."""

    absent: int | None = None

    def read(self, value: Any) -> int | None:
        return None if value == "" else int(Number(0, 0, MAX_DAYS, whole=True).read(value))


def _names(*values: str) -> dict[str, str]:
    return {v: v for v in values}


_SIZES = _names("micro", "small", "medium", "large", "xlarge")

# The values of these are not plain flags, numbers or texts, so their readers name the type.
CODEC: Final = Choice("libx264", _names("libx264", "libx265"))
SIZES: Final[Mapping[str, Choice[str]]] = {
    "masterSize": Choice("large", _SIZES),
    "slaveSize": Choice("micro", _SIZES),
    "recordSize": Choice("small", _SIZES),
    "codecSize": Choice("large", _SIZES),
}
# None: the level of the gateway. The last five are other levels of the original, which stored items may contain.
LOG_LEVEL: Final[Choice[str | None]] = Choice(
    None,
    {
        **_names("debug", "info", "warning", "error"),
        "trace": "debug",
        "verbose": "info",
        "fatal": "error",
        "panic": "error",
        "quiet": "error",
    },
)
PLAY_AUTH: Final[Choice[str | None]] = Choice(None, {**_names("none", "sign", "cloudfront")})
REFERER_ALLOW: Final = Hosts()
NOBODY: Final = "nobody"  # the value of `playAuth` if a field of the protection is not valid
RELAY_URL: Final = Targets()
RECORD_SCHEDULE: Final = Hours()
RETENTION_DAYS: Final = Days()

# Every field, in the group and the order in which a form shows it. The names are the original ones, and so are the
# defaults. Two defaults are corrected, because the original scheduler's 5000 and 10 were mistakes: motion_duration is
# in seconds, and motion_diff is that of the original console.
GROUPS: Final[Mapping[str, Mapping[str, Field[Any]]]] = {
    "basics": {
        "videoname": TextField(256),
        "description": TextField(4_096),
        "isRtmps": Flag(),
    },
    "playback": {
        "isFlv": Flag(),
        "isHls": Flag(),
        "isCMAF": Flag(),
        "hls_time": Number(2, 1, 60, unit="s"),
        "hls_list_size": Number(6, 1, 100, whole=True),
        "playAuth": PLAY_AUTH,
        "refererAllow": REFERER_ALLOW,
    },
    "recording": {
        "isVideo": Flag(),
        "video_time": Number(30, 1, 86_400, unit="s"),
        "isOnDemand": Flag(),
        "ondemand_time": Number(60, 1, 3_600, unit="s"),
        "ondemand_list_size": Number(2, 0, 1_000, whole=True),
        "recordSchedule": RECORD_SCHEDULE,
        "retentionDays": RETENTION_DAYS,
    },
    "pictures": {
        "isImage": Flag(),
        "image_time": Number(10, 1, 86_400, unit="s"),
        "isMotion": Flag(),
        "motion_diff": Number(30, 0, 255),
        "motion_percent": Number(30, 0, 100, unit="%"),
        "motion_duration": Number(5, 0, 86_400, unit="s"),
        "motion_timeout": Number(60, 1, 86_400, unit="s"),
    },
    "transcoding": {
        "isCodec": Flag(),
        "ld": Flag(),
        "sd": Flag(),
        "hd": Flag(),
        "ud": Flag(),
        "codec": CODEC,
        "ladder": TextField(32, "", _LADDER, "the name of a ladder, of a-z, 0-9, - and _"),
    },
    "watermark": {
        "isWaterMark": Flag(),
        "WaterMarkText": TextField(1_024),
        "WaterMarkFontSize": Number(24, 1, 1_000, unit="px"),
        "WaterMarkFontColor": TextField(64, "red", _COLOR, "a color, such as red or #ff0000"),
        "isImageWaterMark": Flag(),
        "ImageURL": TextField(2_048, "", _WEB_ADDRESS, "an http:// or https:// address"),
        "ImageWidth": Number(100, 1, 16_384, whole=True, unit="px"),
        "ImageHeight": Number(50, 1, 16_384, whole=True, unit="px"),
        "WaterMarkLeft": Number(10, 0, 16_384, whole=True, unit="px"),
        "WaterMarkTop": Number(10, 0, 16_384, whole=True, unit="px"),
    },
    "relay": {
        "isRelay": Flag(),
        "relayURL": RELAY_URL,
    },
    "kinesis": {
        "isKvs": Flag(),
        "kvsStream": TextField(512, "", _KVS_STREAM, "the name or ARN of a Kinesis video stream"),
        "kvsTranscode": Flag(),
    },
    "scale": {
        **SIZES,
        "isCluster": Flag(),
        "clusterNumber": Number(1, 0, 1_000, whole=True),
    },
    "log": {"logLevel": LOG_LEVEL},
}

FIELDS: Final[dict[str, Field[Any]]] = {}
FLAGS: Final[dict[str, Flag]] = {}
NUMBERS: Final[dict[str, Number]] = {}
WORDS: Final[dict[str, TextField]] = {}


def add(more: Mapping[str, Field[Any]]) -> None:
    """Adds fields. Those of an output that is not in the contract are added at the start, before channels are read.

    Raises ValueError where a field of that name exists.
    """
    for name, field in more.items():
        if name in FIELDS:
            raise ValueError(f"there is a channel field {name!r} already")
        FIELDS[name] = field
        if isinstance(field, Flag):
            FLAGS[name] = field
        elif isinstance(field, Number):
            NUMBERS[name] = field
        elif isinstance(field, TextField):
            WORDS[name] = field


for _group in GROUPS.values():
    add(_group)


def check(name: str, value: Any) -> None:
    """Raises InvalidField if the field is known and the value is not valid. null is valid for a field without a
    default.
    """
    field = FIELDS.get(name)
    if field and not (value is None and field.absent is None):
        try:
            field.read(value)
        except ValueError as e:
            raise InvalidField(name, str(e)) from None


def invalid_protection_fields(item: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the stored values of protection fields that are not valid. They were written without the API."""
    found: dict[str, Any] = {}
    for name in ("playAuth", "refererAllow"):
        if (value := item.get(name)) is not None:
            try:
                FIELDS[name].read(value)
            except ValueError:
                found[name] = value
    return found


def read(name: str, item: Mapping[str, Any], field: Field[T]) -> T:
    """Returns the typed value; `absent` if the item lacks the field, or if an older client stored an invalid value."""
    value = item.get(name)
    if value is None:
        return field.absent
    try:
        return field.read(value)
    except ValueError:
        return field.absent
