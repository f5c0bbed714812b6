"""The fields that a stored channel has, by their original names: how each is read leniently and checked strictly.

Clients of the original system write booleans and numbers also as text; both spellings mean the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from gateway.hub import relays
from gateway.hub.errors import InvalidField
from gateway.hub.schedule import Schedule

T = TypeVar("T", covariant=True)

MOST_RELAYS: Final = 16
MOST_REFERERS: Final = 100

_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_REFERER = re.compile(
    r"(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){0,20}\.?(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?",
    re.ASCII,
)
_COLOR = re.compile(r"(#|0x)?[A-Za-z0-9]{1,32}(@[0-9.x]{1,8})?", re.ASCII)
_KVS_STREAM = re.compile(
    r"[A-Za-z0-9_.-]{1,256}|arn:aws[a-z-]*:kinesisvideo:[a-z0-9-]{1,32}:[0-9]{12}:stream/[A-Za-z0-9_.-]{1,256}/[0-9]{1,20}",
    re.ASCII,
)


class Field(Protocol[T]):
    """One field. `read` gives the typed value, or ValueError with what is expected; `absent` is a missing one's."""

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
    absent: float
    least: float
    most: float
    whole: bool = False

    def read(self, value: Any) -> float:
        if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
            value = float(value)
        # The bounds also refuse NaN and what is too large for a float.
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
class Words:
    """Text; `form` is what it has to look like where it is not empty, `expected` says so."""

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
    """A list of hosts, each perhaps with a port or a leading `*.`; as text, separated by commas. None: not said."""

    absent: tuple[str, ...] | None = None

    def read(self, value: Any) -> tuple[str, ...]:
        entries = [e.strip() for e in value.split(",") if e.strip()] if isinstance(value, str) else value
        if (
            not isinstance(entries, list)
            or len(entries) > MOST_REFERERS
            or not all(isinstance(e, str) and _REFERER.fullmatch(e) for e in entries)
        ):
            raise ValueError(f"expected a list of at most {MOST_REFERERS} hosts, such as example.com or *.example.com")
        return tuple(e.lower() for e in entries)


@dataclass(frozen=True, slots=True)
class Targets:
    """Where a relay pushes to: a list, or text separated by commas."""

    absent: tuple[str, ...] = ()

    def read(self, value: Any) -> tuple[str, ...]:
        targets = relays.targets(value)
        if targets is None or len(targets) > MOST_RELAYS or not all(relays.is_target(t) for t in targets):
            raise ValueError(
                f"expected at most {MOST_RELAYS} rtmp:// or rtmps:// addresses or IVS channel ARNs, "
                "as a list or separated by commas"
            )
        return targets


@dataclass(frozen=True, slots=True)
class Hours:
    """When something is on, see Schedule. None: always; also as empty text."""

    absent: Schedule | None = None

    def read(self, value: Any) -> Schedule | None:
        if not isinstance(value, str):
            raise ValueError("expected text")
        return Schedule.parse(value) if value.strip() else None


@dataclass(frozen=True, slots=True)
class Days:
    """A number of days; 0: for ever. None, also as empty text: not said."""

    absent: int | None = None

    def read(self, value: Any) -> int | None:
        return None if value == "" else int(Number(0, 0, 36_500, whole=True).read(value))


def _names(*values: str) -> dict[str, str]:
    return {v: v for v in values}


_SIZES = _names("micro", "small", "medium", "large", "xlarge")

# The original's names, and what its scheduler assumed for an item that lacks one; but motion_duration is in seconds
# and motion_diff as in its console: the scheduler's 5000 and 10 were slips.
FLAGS: Final[Mapping[str, Flag]] = {
    name: Flag()
    for name in (
        *(
            "isFlv",
            "isHls",
            "isCMAF",
            "isVideo",
            "isImage",
            "isMotion",
            "isOnDemand",
            "isWaterMark",
            "isImageWaterMark",
        ),
        *("isRelay", "isCodec", "ld", "sd", "hd", "ud", "isCluster", "isRtmps", "isKvs", "kvsTranscode"),
    )
}
NUMBERS: Final[Mapping[str, Number]] = {
    "video_time": Number(30, 1, 86_400),
    "image_time": Number(10, 1, 86_400),
    "hls_time": Number(2, 1, 60),
    "hls_list_size": Number(6, 1, 100, whole=True),
    "ondemand_time": Number(60, 1, 3_600),
    "ondemand_list_size": Number(2, 0, 1_000, whole=True),
    "motion_duration": Number(5, 0, 86_400),
    "motion_percent": Number(30, 0, 100),
    "motion_timeout": Number(60, 1, 86_400),
    "motion_diff": Number(30, 0, 255),
    "WaterMarkFontSize": Number(24, 1, 1_000),
    "WaterMarkTop": Number(10, 0, 16_384, whole=True),
    "WaterMarkLeft": Number(10, 0, 16_384, whole=True),
    "ImageWidth": Number(100, 1, 16_384, whole=True),
    "ImageHeight": Number(50, 1, 16_384, whole=True),
    "clusterNumber": Number(1, 0, 1_000, whole=True),
}
WORDS: Final[Mapping[str, Words]] = {
    "videoname": Words(256),
    "description": Words(4_096),
    "WaterMarkText": Words(1_024),
    "WaterMarkFontColor": Words(64, "red", _COLOR, "a color, such as red or #ff0000"),
    "ImageURL": Words(2_048, "", re.compile(r"https?://[^\s/]+(/\S*)?"), "an http:// or https:// address"),
    "ladder": Words(32, "", re.compile(r"[a-z0-9_-]+", re.ASCII), "the name of a ladder, of a-z, 0-9, - and _"),
    "kvsStream": Words(512, "", _KVS_STREAM, "the name or ARN of a Kinesis video stream"),
}
CODEC: Final = Choice("libx264", _names("libx264", "libx265"))
SIZES: Final[Mapping[str, Choice[str]]] = {
    "masterSize": Choice("large", _SIZES),
    "slaveSize": Choice("micro", _SIZES),
    "recordSize": Choice("small", _SIZES),
    "codecSize": Choice("large", _SIZES),
}
# None: the gateway's own level. The last five are the original's further levels, kept readable.
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
RELAY_URL: Final = Targets()
RECORD_SCHEDULE: Final = Hours()
RETENTION_DAYS: Final = Days()

FIELDS: Final[Mapping[str, Field[Any]]] = {
    **FLAGS,
    **NUMBERS,
    **WORDS,
    **SIZES,
    "codec": CODEC,
    "logLevel": LOG_LEVEL,
    "playAuth": PLAY_AUTH,
    "refererAllow": REFERER_ALLOW,
    "relayURL": RELAY_URL,
    "recordSchedule": RECORD_SCHEDULE,
    "retentionDays": RETENTION_DAYS,
}


def check(name: str, value: Any) -> None:
    """InvalidField where the field is known and the value is not one of its values; null unsets what has no default."""
    field = FIELDS.get(name)
    if field and not (value is None and field.absent is None):
        try:
            field.read(value)
        except ValueError as e:
            raise InvalidField(name, str(e)) from None


def read(name: str, item: Mapping[str, Any], field: Field[T]) -> T:
    """The typed value; `absent` where the item lacks the field or an older client stored what it does not mean."""
    value = item.get(name)
    if value is None:
        return field.absent
    try:
        return field.read(value)
    except ValueError:
        return field.absent
