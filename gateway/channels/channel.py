"""The stored configuration of a channel, read through typed properties. Unknown fields are kept as they are."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gateway.channels import expiry, fields, relay_urls
from gateway.channels.schedule import Schedule
from gateway.channels.stream_key import SigningSecrets, StreamKey, Verdict
from gateway.ports.errors import InvalidField, TooLarge

Item: TypeAlias = Mapping[str, Any]

ID, KEY, TIME_STAMP = "id", "key", "TimeStamp"
# Fields that `present` computes. Clients send them back with the item; they are not stored.
COMPUTED: Final = frozenset({"pushUrl", "obsServer", "obsKey", "wsUrl", "playUrls", "expired"})

_SET_BY_US: Final = frozenset({ID, KEY, TIME_STAMP}) | COMPUTED
_THREE_DAYS: Final = 3 * 86_400  # of the original's TimeStamp, which other programs read; it deletes nothing here
# Values that the original's console and guide send for a new channel, if they differ from the default of the field.
_OF_NEW: Final[Item] = {
    "isFlv": True,
    "hls_time": "2",
    "hls_list_size": "5",
    "video_time": "60",
    "image_time": "30",
    "ondemand_time": "60",
    "motion_duration": "5",
    "motion_diff": "30",
}
_MAX_FIELDS: Final = 200
_LONGEST_NAME: Final = 255
_DEEPEST: Final = 16
_RUNGS: Final = ("ld", "sd", "hd", "ud")


@dataclass(frozen=True, slots=True)
class Channel:
    """A view of one stored item, with the original field names (requirements of the table `video-metadata`).

    A missing field, or one with an invalid value, reads as the default of the original scheduler. If a field of the
    protection has an invalid value, nobody may play (`play_auth`).
    """

    item: Item

    @property
    def id(self) -> str:
        return str(self.item[ID])

    @property
    def key(self) -> str:
        """The stored stream key `<expiry>-<hash>`, the only key that may push; "" if there is none."""
        value = self.item.get(KEY)
        return value if isinstance(value, str) else ""

    @property
    def expires(self) -> int:
        """The time until which the channel may be pushed, in seconds since the epoch: from the key, else from
        `outdate`, else 0.
        """
        if parsed := StreamKey.parse(self.key):
            return parsed.expires
        try:
            return expiry.parse_outdate(self.item.get(expiry.FIELD))
        except InvalidField:
            return 0

    def expired(self, now: float) -> bool:
        """Whether the last valid second of the key is over."""
        return self.expires < int(now)

    @property
    def name(self) -> str:
        return fields.read("videoname", self.item, fields.WORDS["videoname"])

    @property
    def description(self) -> str:
        return fields.read("description", self.item, fields.WORDS["description"])

    def flag(self, name: str) -> bool:
        """Returns a boolean field by its original name, such as "isFlv"."""
        return fields.read(name, self.item, fields.FLAGS[name])

    def number(self, name: str) -> float:
        """Returns a number field by its original name, such as "video_time". Times are in seconds."""
        return fields.read(name, self.item, fields.NUMBERS[name])

    def text(self, name: str) -> str:
        """Returns a text field by its original name, such as "WaterMarkText"."""
        return fields.read(name, self.item, fields.WORDS[name])

    @property
    def is_rtmps(self) -> bool:
        return self.flag("isRtmps")

    @property
    def is_relay(self) -> bool:
        return self.flag("isRelay")

    @property
    def hls_time(self) -> float:
        """The minimum duration of a segment, in seconds."""
        return self.number("hls_time")

    @property
    def hls_list_size(self) -> int:
        """The number of segments in a live playlist."""
        return int(self.number("hls_list_size"))

    @property
    def codec(self) -> str:
        """The video codec of the ladder: libx264 or libx265."""
        return fields.read("codec", self.item, fields.CODEC)

    @property
    def rungs(self) -> tuple[str, ...]:
        """The enabled rungs of the ladder, out of ld, sd, hd, ud; empty if `isCodec` is off."""
        return tuple(r for r in _RUNGS if self.flag(r)) if self.flag("isCodec") else ()

    @property
    def log_level(self) -> str | None:
        """debug, info, warning or error; None: the level of the gateway."""
        return fields.read("logLevel", self.item, fields.LOG_LEVEL)

    @property
    def play_auth(self) -> str | None:
        """none, sign or cloudfront; None: `playback.auth` of the gateway.

        `fields.NOBODY` if a field of the protection is invalid, because its intended restriction is unknown.
        """
        if fields.invalid_protection_fields(self.item):
            return fields.NOBODY
        return fields.read("playAuth", self.item, fields.PLAY_AUTH)

    @property
    def referer_allow(self) -> tuple[str, ...] | None:
        """The hosts whose pages may embed the channel, in lower case; None: not set.

        A host may begin with `*.` and end with `:port`.
        """
        return fields.read("refererAllow", self.item, fields.REFERER_ALLOW)

    @property
    def record_schedule(self) -> Schedule | None:
        """The times at which recordings are made; None: at all times, if recording is on."""
        return fields.read("recordSchedule", self.item, fields.RECORD_SCHEDULE)

    @property
    def retention_days(self) -> int | None:
        """The days for which recordings and pictures are kept, 0: for ever; None: `recording.retention_days` of the
        gateway.
        """
        return fields.read("retentionDays", self.item, fields.RETENTION_DAYS)

    @property
    def relay_urls(self) -> tuple[str, ...]:
        """The targets of the relay, with their secrets; empty if `isRelay` is off."""
        return fields.read("relayURL", self.item, fields.RELAY_URL) if self.is_relay else ()


def create_item(body: Item, now: float, secrets: SigningSecrets, limit: int) -> dict[str, Any]:
    """Returns the item to store for a new channel: the sent fields, with our id, key and TimeStamp.

    limit: bytes of the item as JSON; 0: no limit. Raises InvalidField or TooLarge.
    """
    sent = _sent(body)
    expires = expiry.parse_outdate(sent.get(expiry.FIELD))
    for name, value in sent.items():
        fields.check(name, value)
    if relay_urls.MASK in json.dumps(sent.get("relayURL")):
        raise InvalidField("relayURL", "a masked address, and nothing is stored yet that it could show")
    id = str(uuid.uuid4())
    item = {ID: id, KEY: secrets.sign(id, expires), TIME_STAMP: int(now) + _THREE_DAYS, **_OF_NEW, **sent}
    _check_size(item, limit)
    return item


def changes(channel: Channel, body: Item, secrets: SigningSecrets, limit: int) -> dict[str, Any]:
    """Returns the fields that a PUT of `body` changes. A new `outdate` also changes the key.

    Fields with their stored value are left out, even if that value is invalid: the console sends whole items.
    limit: bytes of the whole item as JSON; 0: no limit. Raises InvalidField or TooLarge.
    """
    sent = _sent(body)
    if "relayURL" in sent:
        sent["relayURL"] = relay_urls.unmasked(sent["relayURL"], channel.item.get("relayURL"))
    changed = {
        name: value for name, value in sent.items() if name not in channel.item or not _same(channel.item[name], value)
    }
    for name, value in changed.items():
        fields.check(name, value)
    if expiry.FIELD in changed:
        changed |= with_new_key(channel, changed[expiry.FIELD], secrets)
    _check_size({**channel.item, **changed}, limit)
    return changed


def with_new_key(channel: Channel, value: Any, secrets: SigningSecrets) -> dict[str, Any]:
    """Returns the changes that set `outdate` to `value` and make a new key. The old key is revoked. Raises
    InvalidField.

    If the time is equal and only its spelling differs, a genuine key stays valid. So encoders need no new settings.
    """
    expires = expiry.parse_outdate(value)
    parsed = StreamKey.parse(channel.key)
    if parsed and parsed.expires == expires and secrets.verify(channel.id, channel.key, 0) is Verdict.VALID:
        return {expiry.FIELD: value}
    return {expiry.FIELD: value, KEY: secrets.sign(channel.id, expires)}


def _same(stored: Any, sent: Any) -> bool:
    """Whether both values are equal and have one type: True is not 1, although they are equal in Python."""
    return stored == sent and json.dumps(stored) == json.dumps(sent)


def _sent(body: Item) -> dict[str, Any]:
    """Returns the fields of a request that are stored. Raises InvalidField for values that not every store can keep."""
    if len(body) > _MAX_FIELDS:
        raise InvalidField(list(body)[_MAX_FIELDS], f"a channel has at most {_MAX_FIELDS} fields")
    sent = {name: value for name, value in body.items() if name not in _SET_BY_US}
    for name, value in sent.items():
        if not name or len(name) > _LONGEST_NAME or not _is_text(name):
            raise InvalidField(
                name[:_LONGEST_NAME].encode("utf-8", "replace").decode(), "a field's name has 1 to 255 characters"
            )
        _check_value(name, value, _DEEPEST)
    return sent


def _is_text(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _check_value(name: str, value: Any, depth: int) -> None:
    """Checks a value against the limits of DynamoDB: 38 digits, 1e-130 to 1e126, 32 levels, UTF-8.

    SQLite items have these limits too, so that they can be moved to DynamoDB.
    """
    if isinstance(value, str):
        if not _is_text(value):
            raise InvalidField(name, "expected text that is Unicode")
    elif isinstance(value, float):
        if not math.isfinite(value) or (value and not 1e-130 <= abs(value) < 1e126):
            raise InvalidField(name, "expected a number that can be stored")
    elif isinstance(value, int):  # bool too
        if abs(value) >= 10**38:
            raise InvalidField(name, "expected a number that can be stored")
    elif isinstance(value, Mapping | list):
        if not depth:
            raise InvalidField(name, f"expected at most {_DEEPEST} levels")
        if isinstance(value, Mapping) and not all(k and _is_text(k) for k in value):
            raise InvalidField(name, "expected names that are Unicode text")
        for inner in value.values() if isinstance(value, Mapping) else value:
            _check_value(name, inner, depth - 1)


def _check_size(item: Item, limit: int) -> None:
    size = len(json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode())
    if limit and size > limit:
        raise TooLarge(size, limit)
