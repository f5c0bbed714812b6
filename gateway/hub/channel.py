"""Channel: the stored configuration of a push, seen through typed properties; unknown fields are kept as they are."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gateway.hub import fields, outdate, relays
from gateway.hub.access import Secrets, StreamKey, Verdict
from gateway.hub.errors import InvalidField, TooLarge
from gateway.hub.schedule import Schedule

Item: TypeAlias = Mapping[str, Any]

ID, KEY, TIME_STAMP = "id", "key", "TimeStamp"
# What `present` computes: clients send whole answers back, these are not stored.
COMPUTED: Final = frozenset({"pushUrl", "obsServer", "obsKey", "wsUrl", "playUrls", "expired"})

_SET_BY_US: Final = frozenset({ID, KEY, TIME_STAMP}) | COMPUTED
_THREE_DAYS: Final = 3 * 86_400  # the original's TimeStamp: stored for its readers, deletes nothing here
# What the original's console and its guide send for a new channel, where they differ from what a missing field means.
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
_MOST_FIELDS: Final = 200
_LONGEST_NAME: Final = 255
_DEEPEST: Final = 16
_RUNGS: Final = ("ld", "sd", "hd", "ud")


@dataclass(frozen=True, slots=True)
class Channel:
    """A view of one stored item (original field names, requirements of the table `video-metadata`).

    A missing field, or one whose stored value means nothing, reads as the original scheduler's default.
    """

    item: Item

    @property
    def id(self) -> str:
        return str(self.item[ID])

    @property
    def key(self) -> str:
        """The stored stream key `<expiry>-<hash>`, the only one that may push; "" where there is none."""
        value = self.item.get(KEY)
        return value if isinstance(value, str) else ""

    @property
    def expires(self) -> int:
        """Until when the channel may be pushed, seconds since the epoch: what the key says, else `outdate`, else 0."""
        if parsed := StreamKey.parse(self.key):
            return parsed.expires
        try:
            return outdate.parse_outdate(self.item.get(outdate.FIELD))
        except InvalidField:
            return 0

    def expired(self, now: float) -> bool:
        """Whether the key's last second is over."""
        return self.expires < int(now)

    @property
    def name(self) -> str:
        return fields.read("videoname", self.item, fields.WORDS["videoname"])

    @property
    def description(self) -> str:
        return fields.read("description", self.item, fields.WORDS["description"])

    def flag(self, name: str) -> bool:
        """A boolean field by its original name, such as "isFlv"."""
        return fields.read(name, self.item, fields.FLAGS[name])

    def number(self, name: str) -> float:
        """A number field by its original name, such as "video_time"; times are seconds."""
        return fields.read(name, self.item, fields.NUMBERS[name])

    def text(self, name: str) -> str:
        """A text field by its original name, such as "WaterMarkText"."""
        return fields.read(name, self.item, fields.WORDS[name])

    @property
    def is_flv(self) -> bool:
        return self.flag("isFlv")

    @property
    def is_hls(self) -> bool:
        return self.flag("isHls")

    @property
    def is_cmaf(self) -> bool:
        return self.flag("isCMAF")

    @property
    def is_rtmps(self) -> bool:
        return self.flag("isRtmps")

    @property
    def is_relay(self) -> bool:
        return self.flag("isRelay")

    @property
    def hls_time(self) -> float:
        """The least duration of a segment, seconds."""
        return self.number("hls_time")

    @property
    def hls_list_size(self) -> int:
        """Segments in a live playlist."""
        return int(self.number("hls_list_size"))

    @property
    def codec(self) -> str:
        """Of the ladder: libx264 or libx265."""
        return fields.read("codec", self.item, fields.CODEC)

    @property
    def rungs(self) -> tuple[str, ...]:
        """The rungs of the ladder that are on: of ld, sd, hd, ud; none where `isCodec` is off."""
        return tuple(r for r in _RUNGS if self.flag(r)) if self.flag("isCodec") else ()

    @property
    def log_level(self) -> str | None:
        """debug, info, warning or error; None: the gateway's own level."""
        return fields.read("logLevel", self.item, fields.LOG_LEVEL)

    @property
    def play_auth(self) -> str | None:
        """none, sign or cloudfront; None: the gateway's `playback.auth`."""
        return fields.read("playAuth", self.item, fields.PLAY_AUTH)

    @property
    def referer_allow(self) -> tuple[str, ...] | None:
        """Hosts whose pages may embed it, lower case, perhaps `*.` before or `:port` behind; None: not said."""
        return fields.read("refererAllow", self.item, fields.REFERER_ALLOW)

    @property
    def record_schedule(self) -> Schedule | None:
        """When recordings are made; None: whenever they are on."""
        return fields.read("recordSchedule", self.item, fields.RECORD_SCHEDULE)

    @property
    def retention_days(self) -> int | None:
        """How long recordings and pictures are kept, 0 for ever; None: the gateway's `recording.retention_days`."""
        return fields.read("retentionDays", self.item, fields.RETENTION_DAYS)

    @property
    def relay_urls(self) -> tuple[str, ...]:
        """Where the relay pushes to, secrets included; empty where `isRelay` is off."""
        return fields.read("relayURL", self.item, fields.RELAY_URL) if self.is_relay else ()


def create_item(body: Item, now: float, secrets: Secrets, limit: int) -> dict[str, Any]:
    """The item to store for a new channel: the fields as sent, with our id, key and TimeStamp.

    limit: bytes of the item as JSON; 0: none. Raises InvalidField or TooLarge.
    """
    sent = _sent(body)
    expires = outdate.parse_outdate(sent.get(outdate.FIELD))
    for name, value in sent.items():
        fields.check(name, value)
    if relays.MASK in json.dumps(sent.get("relayURL")):
        raise InvalidField("relayURL", "a masked address, and nothing is stored yet that it could show")
    id = str(uuid.uuid4())
    item = {ID: id, KEY: secrets.sign(id, expires), TIME_STAMP: int(now) + _THREE_DAYS, **_OF_NEW, **sent}
    _check_size(item, limit)
    return item


def changes(channel: Channel, body: Item, secrets: Secrets, limit: int) -> dict[str, Any]:
    """The fields that a PUT of `body` sets, those that differ from the stored ones; a new `outdate` brings a new key.

    Fields that come back as they are stored (the console sends whole items) are left alone, checked or not.
    Raises InvalidField or TooLarge (limit: bytes of the whole item as JSON; 0: none).
    """
    sent = _sent(body)
    if "relayURL" in sent:
        sent["relayURL"] = relays.unmasked(sent["relayURL"], channel.item.get("relayURL"))
    changed = {
        name: value for name, value in sent.items() if name not in channel.item or not _same(channel.item[name], value)
    }
    for name, value in changed.items():
        fields.check(name, value)
    if outdate.FIELD in changed:
        changed |= resigned(channel, changed[outdate.FIELD], secrets)
    _check_size({**channel.item, **changed}, limit)
    return changed


def resigned(channel: Channel, value: Any, secrets: Secrets) -> dict[str, Any]:
    """The changes that set `outdate` to `value` and make the key anew, which revokes the old one. Raises InvalidField.

    The same moment in another spelling keeps a genuine key: nobody has to change the settings of an encoder for it.
    """
    expires = outdate.parse_outdate(value)
    parsed = StreamKey.parse(channel.key)
    if parsed and parsed.expires == expires and secrets.verify(channel.id, channel.key, 0) is Verdict.VALID:
        return {outdate.FIELD: value}
    return {outdate.FIELD: value, KEY: secrets.sign(channel.id, expires)}


def _same(stored: Any, sent: Any) -> bool:
    """Equal and of one type: True is not 1, though Python says so."""
    return stored == sent and json.dumps(stored) == json.dumps(sent)


def _sent(body: Item) -> dict[str, Any]:
    """What of a request is stored; refuses what not every store can keep."""
    if len(body) > _MOST_FIELDS:
        raise InvalidField(list(body)[_MOST_FIELDS], f"a channel has at most {_MOST_FIELDS} fields")
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
    """DynamoDB keeps 38 digits from 1e-130 to 1e126, 32 levels, UTF-8; SQLite's items obey too, to be movable."""
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
