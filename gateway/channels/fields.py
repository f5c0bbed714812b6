"""The fields of a stored channel, with the names of the old system. Reading is lenient; checking is strict.

Clients of the old system also write booleans and numbers as text. Both forms have the same meaning.
"""

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Protocol, TypeVar

from gateway.channels import announcing, captions, relay_urls
from gateway.channels.inputs import FIELD as INPUT_LIST
from gateway.channels.inputs import MAX_INPUTS, InputSpec, parse_inputs
from gateway.channels.schedule import MAX_LENGTH, Schedule
from gateway.channels.slugs import MAX_LENGTH as MAX_SLUG
from gateway.channels.slugs import read_slug
from gateway.lib.texts import STORABLE, is_storable
from gateway.media.caption_track import CaptionTrack
from gateway.media.labels import LANGUAGE
from gateway.ports.errors import InvalidField

T = TypeVar("T", covariant=True)

MAX_RELAYS: Final = 16
MAX_REFERERS: Final = 100
MAX_DAYS: Final = 36_500
MAX_REWIND_HOURS: Final = 720
MAX_TRACK_NAMES: Final = 16
_MAX_TRACKS_LENGTH: Final = 1_024

_DECIMAL = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_REFERER = re.compile(
    r"(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63}){0,20}\.?(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?",
    re.ASCII,
)
_COLOR = re.compile(r"(#|0x)?[A-Za-z0-9]{1,32}(@[0-9.x]{1,8})?", re.ASCII)
# Programs read `#`, `%`, `&` and `+` of an address in different ways.
_PASSPHRASE = re.compile(r"[\x20\x21\x24\x27-\x2a\x2c-\x7e]{10,79}", re.ASCII)
_RGB = re.compile(r"#[0-9A-Fa-f]{6}", re.ASCII)
_POSTER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}/poster/[0-9a-f]{16}\.jpg", re.ASCII)
_WEB_ADDRESS = re.compile(r"https?://[^\s/]+(/\S*)?")
# The host goes into the policy of a page.
_CHAT = re.compile(r"https://[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(?::[0-9]{1,5})?(?:/[!-~]*)?", re.ASCII)
_LADDER = re.compile(r"[a-z0-9_-]+", re.ASCII)
# Language, or language=name, of each audio track: `en=English, fr=Français, de`.
_AUDIO_TRACK = r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}(=[^,=\"\x00-\x1f\x7f-\x9f\ud800-\uf8ff]{1,64})?"
_AUDIO_TRACKS = re.compile(rf"{_AUDIO_TRACK}(\s*,\s*{_AUDIO_TRACK}){{0,7}}")
_TRACK_NAME = re.compile(r"[a-z0-9]{1,32}(-[a-z0-9]{1,8}){0,3}", re.ASCII)
_KVS_STREAM = re.compile(
    r"[A-Za-z0-9_.-]{1,256}|arn:aws[a-z-]*:kinesisvideo:[a-z0-9-]{1,32}:[0-9]{12}:stream/[A-Za-z0-9_.-]{1,256}/[0-9]{1,20}",
    re.ASCII,
)


class Field(Protocol[T]):
    """One field of a channel.

    default: the value of a missing field.
    read: returns the typed value. Raises ValueError with a description of the valid values.
    """

    @property
    def default(self) -> T: ...

    def read(self, value: Any) -> T: ...


@dataclass(frozen=True, slots=True)
class Flag:
    default: bool = False

    def read(self, value: Any) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        raise ValueError("expected true or false")


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `minimum` to `maximum`. unit: the unit that a form shows after the value."""

    default: float
    minimum: float
    maximum: float
    integer: bool = False
    unit: str = ""

    def read(self, value: Any) -> float:
        if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
            value = float(value)
        # The bounds also refuse NaN and numbers too large for a float.
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not self.minimum <= value <= self.maximum or (self.integer and value != int(value)):
            kind = "whole number" if self.integer else "number"
            raise ValueError(f"expected a {kind} from {self.minimum:.10g} to {self.maximum:.10g}")
        return float(value)


@dataclass(frozen=True, slots=True)
class Choice(Generic[T]):
    default: T
    values: Mapping[str, T]

    def read(self, value: Any) -> T:
        if isinstance(value, str) and value in self.values:
            return self.values[value]
        raise ValueError(f"expected {', '.join(list(self.values)[:-1])} or {list(self.values)[-1]}")


@dataclass(frozen=True, slots=True)
class TextField:
    """A text. If it is not empty, it must match `pattern`. expected: describes the valid texts in errors."""

    max_length: int
    default: str = ""
    pattern: re.Pattern[str] | None = None
    expected: str = "text"

    def read(self, value: Any) -> str:
        if not isinstance(value, str) or (value and self.pattern and not self.pattern.fullmatch(value)):
            raise ValueError(f"expected {self.expected}")
        if len(value) > self.max_length:
            raise ValueError(f"expected at most {self.max_length} characters")
        if not is_storable(value):
            raise ValueError(f"expected {STORABLE}")
        return value


@dataclass(frozen=True, slots=True)
class Parsed(Generic[T]):
    """A value with a form of its own. read: see Field. shown: how its description differs from that of a text."""

    default: T
    read: Callable[[Any], T]
    shown: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TrackChoice:
    """The additional tracks that an output has besides the default ones.

    names: names of renditions, or languages; None: all of them.
    """

    names: frozenset[str] | None = frozenset()

    def includes(self, name: str, language: str) -> bool:
        """Whether a track is chosen. name: of its rendition. language: BCP 47, "" if unknown."""
        return self.names is None or name in self.names or (bool(language) and language.lower() in self.names)


def _hosts(value: Any) -> tuple[str, ...]:
    """Reads a list of hosts, or a text with hosts separated by commas. They may begin with `*.` and end with a port."""
    entries = [e.strip() for e in value.split(",") if e.strip()] if isinstance(value, str) else value
    if (
        not isinstance(entries, list)
        or len(entries) > MAX_REFERERS
        or not all(isinstance(e, str) and _REFERER.fullmatch(e) for e in entries)
    ):
        raise ValueError(f"expected a list of at most {MAX_REFERERS} hosts, such as example.com or *.example.com")
    return tuple(e.lower() for e in entries)


def _targets(value: Any) -> tuple[str, ...]:
    """Reads the targets of a relay: a list, or a text with targets separated by commas."""
    targets = relay_urls.targets(value)
    expected = (
        f"expected at most {MAX_RELAYS} rtmp://, rtmps://, srt:// or moq:// addresses or IVS channel ARNs, "
        "as a list or separated by commas"
    )
    if targets is None or len(targets) > MAX_RELAYS:
        raise ValueError(expected)
    for target in targets:
        if (problem := relay_urls.problem(target)) is not None:
            raise ValueError(problem or expected)
    return targets


def _positions(value: Any) -> tuple[int, ...]:
    """Reads the positions of targets in `relayURL`, from 0."""
    if not isinstance(value, list) or not all(type(n) is int and 0 <= n < MAX_RELAYS for n in value):
        raise ValueError(f"expected a list of positions in relayURL, from 0 to {MAX_RELAYS - 1}")
    return tuple(value)


def _schedule(value: Any) -> Schedule | None:
    """Reads the times at which an output is on, see Schedule. Returns None for an empty text: always."""
    if not isinstance(value, str):
        raise ValueError("expected text")
    return Schedule.parse(value) if value.strip() else None


def _days(value: Any) -> int | None:
    """Reads a number of days; 0: no limit. Returns None for an empty text: not set."""
    return None if value == "" else int(Number(0, 0, MAX_DAYS, integer=True).read(value))


def _inputs(value: Any) -> tuple[InputSpec, ...]:
    """Reads the inputs of a channel, see `gateway.channels.inputs`."""
    try:
        return parse_inputs(value)
    except InvalidField as error:
        raise ValueError(error.message) from None


def _tracks(value: Any) -> TrackChoice:
    """Reads a text: `default`, `all`, or names of tracks separated by commas."""
    expected = f"expected default, all, or at most {MAX_TRACK_NAMES} names such as 720p, audio1 or fr"
    if not isinstance(value, str):
        raise ValueError(expected)
    names = [name.strip().lower() for name in value.split(",")]
    if names in (["default"], [""]):
        return TrackChoice()
    if names == ["all"]:
        return TrackChoice(None)
    if len(names) > MAX_TRACK_NAMES or not all(_TRACK_NAME.fullmatch(name) for name in names):
        raise ValueError(expected)
    return TrackChoice(frozenset(names))


def _names(*values: str) -> dict[str, str]:
    return {v: v for v in values}


def _flags(*names: str) -> dict[str, Field[Any]]:
    return {name: Flag() for name in names}


_SIZES = _names("micro", "small", "medium", "large", "xlarge")

# These fields are not flags, numbers or texts. Callers use the constants to get the type of the value.
CODEC: Final = Choice("libx264", _names("libx264", "libx265"))
SIZES: Final[Mapping[str, Choice[str]]] = {
    "masterSize": Choice("large", _SIZES),
    "slaveSize": Choice("micro", _SIZES),
    "recordSize": Choice("small", _SIZES),
    "codecSize": Choice("large", _SIZES),
}
# Levels of the old system, which stored items may contain.
_OLD_LEVELS = {"trace": "debug", "verbose": "info", "fatal": "error", "panic": "error", "quiet": "error"}
# None: the level of the gateway.
LOG_LEVEL: Final[Choice[str | None]] = Choice(None, {**_names("debug", "info", "warning", "error"), **_OLD_LEVELS})
PLAY_AUTH: Final[Choice[str | None]] = Choice(None, _names("none", "sign", "cloudfront"))
REFERER_ALLOW: Final[Parsed[tuple[str, ...] | None]] = Parsed(None, _hosts, {"type": "hosts", "maximum": MAX_REFERERS})
SRT_PASSPHRASE: Final = "srtPassphrase"  # noqa: S105 - the name of a field
# A node tells other nodes this field instead of the passphrase, which is a secret.
IS_ENCRYPTED: Final = "isSrtEncrypted"
IS_REPLAY: Final[Parsed[bool | None]] = Parsed(None, Flag().read, {"type": "flag"})  # None: `pages.replay`
NO_PLAYBACK: Final = "nobody"  # the value of `playAuth` if a protection field is invalid
RELAY_URL: Final[Parsed[tuple[str, ...]]] = Parsed((), _targets, {"type": "targets", "maximum": MAX_RELAYS})
COLOR: Final = TextField(7, "", _RGB, "a color such as #0b6f6a")
SLUG: Final[Parsed[str]] = Parsed("", read_slug, {"maximum": MAX_SLUG})
RELAY_OFF: Final[Parsed[tuple[int, ...]]] = Parsed((), _positions, {"type": "positions", "maximum": MAX_RELAYS})
RECORD_SCHEDULE: Final = Parsed(None, _schedule, {"maximum": MAX_LENGTH})
RETENTION_DAYS: Final = Parsed(
    None, _days, {"type": "days", "minimum": 0, "maximum": MAX_DAYS, "whole": True, "unit": "days"}
)
# None: only the push.
INPUTS: Final[Parsed[tuple[InputSpec, ...] | None]] = Parsed(None, _inputs, {"type": "inputs", "maximum": MAX_INPUTS})
# Empty: those that are found.
CAPTIONS: Final[Parsed[tuple[CaptionTrack, ...]]] = Parsed(
    (), captions.parse_captions, {"type": "captions", "maximum": captions.MAX_TRACKS}
)
ANNOUNCE: Final[Parsed[tuple[str, ...]]] = Parsed(
    (), announcing.parse_announce, {"type": "announce", "maximum": announcing.MAX_TARGETS}
)
UPCOMING: Final[Parsed[announcing.Upcoming | None]] = Parsed(None, announcing.parse_upcoming, {"type": "upcoming"})
RECORD_TRACKS: Final = Parsed(TrackChoice(), _tracks, {"default": "default", "maximum": _MAX_TRACKS_LENGTH})
RELAY_TRACKS: Final = RECORD_TRACKS

# All fields, in the groups and the order of the form. Names and defaults are those of the old system.
# Two defaults differ, because the old scheduler's 5000 and 10 were mistakes. They are motion_duration (seconds), and
# motion_diff (the value of the old console).
GROUPS: Final[Mapping[str, Mapping[str, Field[Any]]]] = {
    "basics": {
        "videoname": TextField(256),
        "description": TextField(4_096),
        "slug": SLUG,
        "poster": TextField(256, "", _POSTER, "what PUT /videostream/{id}/poster has stored"),
        "color": COLOR,
        "chat": TextField(2_048, "", _CHAT, "an https:// address of a page that may be framed"),
        **_flags("isPublic", "isRtmps"),
    },
    "playback": {
        **_flags("isFlv", "isHls", "isCMAF"),
        "hls_time": Number(2, 1, 60, unit="s"),
        "hls_list_size": Number(6, 1, 100, integer=True),
        "playAuth": PLAY_AUTH,
        "refererAllow": REFERER_ALLOW,
        "audioTracks": TextField(1_024, "", _AUDIO_TRACKS, "languages, such as en=English, fr=Français, de"),
        captions.FIELD: CAPTIONS,
        "maxKbps": Number(0, 0, 1_000_000, unit="kbit/s"),
        "maxViewerMbps": Number(0, 0, 1_000_000, unit="Mbit/s"),
        SRT_PASSPHRASE: TextField(79, "", _PASSPHRASE, '10 to 79 characters of ASCII without " # % & +'),
        "srtPort": Number(0, 0, 65_535, integer=True),
    },
    "recording": {
        "isVideo": Flag(),
        "video_time": Number(30, 1, 86_400, unit="s"),
        "recordTracks": RECORD_TRACKS,
        "isOnDemand": Flag(),
        "ondemand_time": Number(60, 1, 3_600, unit="s"),
        "ondemand_list_size": Number(2, 0, 1_000, integer=True),
        # How far viewers and clips reach back, in on-demand segments. Without isOnDemand, older segments are deleted.
        "rewind": Number(0, 0, MAX_REWIND_HOURS, unit="h"),
        "isReplay": IS_REPLAY,
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
        **_flags("isCodec", "ld", "sd", "hd", "ud"),
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
        "ImageWidth": Number(100, 1, 16_384, integer=True, unit="px"),
        "ImageHeight": Number(50, 1, 16_384, integer=True, unit="px"),
        "WaterMarkLeft": Number(10, 0, 16_384, integer=True, unit="px"),
        "WaterMarkTop": Number(10, 0, 16_384, integer=True, unit="px"),
    },
    "captions": {
        "isCaption": Flag(),
        "captionLanguage": TextField(35, "", LANGUAGE, "a language tag such as en or pt-BR"),
    },
    "relay": {"isRelay": Flag(), "relayURL": RELAY_URL, "relayTracks": RELAY_TRACKS},
    "kinesis": {
        "isKvs": Flag(),
        "kvsStream": TextField(512, "", _KVS_STREAM, "the name or ARN of a Kinesis video stream"),
        "kvsTranscode": Flag(),
    },
    "inputs": _flags("inputsManual", "inputsMatch"),
    "scale": {**SIZES, "isCluster": Flag(), "clusterNumber": Number(1, 0, 1_000, integer=True)},
    "log": {"logLevel": LOG_LEVEL},
}

FIELDS: Final[dict[str, Field[Any]]] = {}
FLAGS: Final[dict[str, Flag]] = {}
NUMBERS: Final[dict[str, Number]] = {}
TEXT_FIELDS: Final[dict[str, TextField]] = {}


def add(new_fields: Mapping[str, Field[Any]]) -> None:
    """Adds fields. Outputs whose fields are not in `GROUPS` add them at start, before channels are read.

    Raises ValueError if a field of that name exists.
    """
    for name, field in new_fields.items():
        if name in FIELDS:
            raise ValueError(f"there is a channel field {name!r} already")
        FIELDS[name] = field
        if isinstance(field, Flag):
            FLAGS[name] = field
        elif isinstance(field, Number):
            NUMBERS[name] = field
        elif isinstance(field, TextField):
            TEXT_FIELDS[name] = field


for _group in GROUPS.values():
    add(_group)
# Not in the form: they have their own editors.
add({INPUT_LIST: INPUTS, "relayOff": RELAY_OFF, announcing.ANNOUNCE: ANNOUNCE, announcing.UPCOMING: UPCOMING})


def unused(*, tasks: bool) -> frozenset[str]:
    """Returns the fields that have no effect. tasks: whether this gateway starts tasks in the cloud.

    Clients of the old system set them, so they stay stored.
    """
    never = {"masterSize", "recordSize", "ondemand_list_size"}
    return frozenset(never if tasks else never | {"codecSize", "slaveSize", "isCluster", "clusterNumber"})


def check(name: str, value: Any) -> None:
    """Raises InvalidField if a known field has an invalid value. null is valid if the field's default is None."""
    field = FIELDS.get(name)
    if field and not (value is None and field.default is None):
        try:
            field.read(value)
        except ValueError as e:
            raise InvalidField(name, str(e)) from None


def invalid_protection_fields(item: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the invalid values of the protection fields. A program other than the API stored them."""
    invalid: dict[str, Any] = {}
    for name in ("playAuth", "refererAllow"):
        if (value := item.get(name)) is not None:
            try:
                FIELDS[name].read(value)
            except ValueError:
                invalid[name] = value
    return invalid


def read(name: str, item: Mapping[str, Any], field: Field[T]) -> T:
    """Returns the typed value; the default if the field is missing or its stored value is invalid."""
    value = item.get(name)
    if value is not None:
        with contextlib.suppress(ValueError):
            return field.read(value)
    return field.default
