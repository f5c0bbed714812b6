"""The stored configuration of a channel, read through typed properties. Unknown fields remain unchanged."""

import json
import math
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gateway.channels import announcing, expiry, fields, inputs, relay_urls, slugs
from gateway.channels.schedule import Schedule
from gateway.channels.stream_key import SigningSecrets, StreamKey, Verdict
from gateway.lib.texts import STORABLE, is_storable
from gateway.media.caption_track import CaptionTrack
from gateway.ports.errors import InvalidField, TooLarge

Item: TypeAlias = Mapping[str, Any]

ID, KEY, TIME_STAMP = "id", "key", "TimeStamp"
# Fields that the API computes for each answer. Clients send them back with the item; they are not stored.
COMPUTED: Final = frozenset(
    (
        *("pushUrl", "pushUrls", "obsServer", "obsKey", "wsUrl", "whipUrl", "whipServer"),
        *("playUrls", "playAuthDefault", "expired"),
    )
)

_SET_BY_GATEWAY: Final = frozenset({ID, KEY, TIME_STAMP, slugs.OLD_SLUGS}) | COMPUTED
# Seconds: the old system's TimeStamp is three days after creation. Other programs read it; it deletes nothing here.
_TIME_STAMP_OFFSET: Final = 3 * 86_400
# Values that the old console and guide send for a new channel, if they differ from the field's default.
_NEW_CHANNEL_VALUES: Final[Item] = {
    "isFlv": True,
    "hls_time": "2",
    "hls_list_size": "5",
    "video_time": "60",
    "image_time": "30",
    "ondemand_time": "60",
    "motion_duration": "5",
    "motion_diff": "30",
}
_ON_DEMAND_REACH: Final = 86_400.0  # seconds that viewers of a channel with isOnDemand may go back
_MAX_FIELDS: Final = 200
_MAX_NAME_LENGTH: Final = 255
_MAX_DEPTH: Final = 16
_RENDITION_FLAGS: Final = ("ld", "sd", "hd", "ud")


@dataclass(frozen=True, slots=True)
class Channel:
    """A read-only view of one stored item, with the field names of the old system (DynamoDB table `video-metadata`).

    A missing field, or a field with an invalid value, has the default of the old scheduler. If a protection field is
    invalid, playback is denied (`play_auth`).
    """

    item: Item

    @property
    def id(self) -> str:
        return str(self.item[ID])

    @property
    def key(self) -> str:
        """The stored stream key `<expiry>-<hash>`, the only key that may push; "" if the item has none."""
        value = self.item.get(KEY)
        return value if isinstance(value, str) and is_storable(value) else ""

    @property
    def expires(self) -> int:
        """The expiry of pushes, in seconds since 1970: from the key, else from `outdate`, else 0."""
        if parsed := StreamKey.parse(self.key):
            return parsed.expires
        try:
            return expiry.parse_outdate(self.item.get(expiry.FIELD))
        except InvalidField:
            return 0

    def expired(self, now: float) -> bool:
        """Whether the key has expired. now: seconds since 1970."""
        return self.expires < int(now)

    @property
    def name(self) -> str:
        return self.text("videoname")

    @property
    def slug(self) -> str:
        """The readable name in addresses; "": none."""
        return fields.read(slugs.SLUG, self.item, fields.SLUG)

    @property
    def poster(self) -> str:
        """The key of the uploaded picture that stands for the channel; "": none. Only of this channel's folder."""
        key = self.text("poster")
        return key if key.startswith(f"{self.id}/") else ""

    @property
    def old_slugs(self) -> dict[str, int]:
        """The earlier slugs, with the time of their end in seconds since 1970."""
        stored = self.item.get(slugs.OLD_SLUGS)
        if not isinstance(stored, Mapping):
            return {}
        return {name: ended for name, ended in stored.items() if slugs.is_slug(name) and isinstance(ended, int)}

    @property
    def public_name(self) -> str:
        """The name in addresses for viewers: the slug, else the id."""
        return self.slug or self.id

    @property
    def announce(self) -> tuple[str, ...]:
        """The addresses of the targets that are told that a show begins, with their secrets."""
        return fields.read(announcing.ANNOUNCE, self.item, fields.ANNOUNCE)

    def upcoming(self, now: float) -> announcing.Upcoming | None:
        """The next show; None if there is none, or its time is past. now: seconds since 1970."""
        found = fields.read(announcing.UPCOMING, self.item, fields.UPCOMING)
        return found if found is not None and found.at > now else None

    def upcoming_at(self, start: float) -> announcing.Upcoming | None:
        """Returns `upcoming` if it is the show that starts then; else None."""
        found = fields.read(announcing.UPCOMING, self.item, fields.UPCOMING)
        return found if found is not None and found.is_at(start) else None

    def show_title(self, start: float) -> str:
        """The title of a show that starts then: that of `upcoming` if it is this one, else the channel's name."""
        found = self.upcoming_at(start)
        return found.title if found is not None else self.name or self.id

    def flag(self, name: str) -> bool:
        """Returns a boolean field by its stored name, for example "isFlv"."""
        return fields.read(name, self.item, fields.FLAGS[name])

    def number(self, name: str) -> float:
        """Returns a number field by its stored name, for example "video_time". Times are in seconds."""
        return fields.read(name, self.item, fields.NUMBERS[name])

    def text(self, name: str) -> str:
        """Returns a text field by its stored name, for example "WaterMarkText"."""
        return fields.read(name, self.item, fields.TEXT_FIELDS[name])

    @property
    def srt_passphrase(self) -> str:
        """The passphrase of SRT; "": that of the settings."""
        return self.text("srtPassphrase")

    @property
    def srt_port(self) -> int:
        """The UDP port whose callers push to this channel without a stream id; 0: none."""
        return int(self.number("srtPort"))

    @property
    def is_rtmps(self) -> bool:
        return self.flag("isRtmps")

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
    def renditions(self) -> tuple[str, ...]:
        """The enabled renditions of the ladder (ld, sd, hd, ud); empty if `isCodec` is off."""
        return tuple(r for r in _RENDITION_FLAGS if self.flag(r)) if self.flag("isCodec") else ()

    @property
    def log_level(self) -> str | None:
        """The value debug, info, warning or error; None: the level of the gateway."""
        return fields.read("logLevel", self.item, fields.LOG_LEVEL)

    @property
    def play_auth(self) -> str | None:
        """The value none, sign or cloudfront; None: `playback.auth` of the gateway.

        It is `fields.NO_PLAYBACK` if a protection field is invalid, because the intended restriction is unknown.
        """
        if fields.invalid_protection_fields(self.item):
            return fields.NO_PLAYBACK
        return fields.read("playAuth", self.item, fields.PLAY_AUTH)

    @property
    def referer_allow(self) -> tuple[str, ...] | None:
        """The hosts whose pages may embed the channel, in lower case; None: not set.

        A host may begin with `*.` and end with `:port`.
        """
        return fields.read("refererAllow", self.item, fields.REFERER_ALLOW)

    @property
    def audio_tracks(self) -> list[tuple[str, str]]:
        """Language (BCP 47) and name of each audio track, by its id; a name may be "". Encoders do not send them."""
        entries = [e.strip() for e in self.text("audioTracks").split(",") if e.strip()]
        return [(language, name.strip()) for language, _, name in (e.partition("=") for e in entries)]

    @property
    def captions(self) -> tuple[CaptionTrack, ...]:
        """The closed captions that players are offered; empty: those that are found in the pictures."""
        return fields.read("captions", self.item, fields.CAPTIONS)

    @property
    def record_schedule(self) -> Schedule | None:
        """The times at which recordings are made; None: always, if recording is on."""
        return fields.read("recordSchedule", self.item, fields.RECORD_SCHEDULE)

    @property
    def relay_tracks(self) -> fields.TrackChoice:
        """The additional tracks that relays send, to targets that take several tracks."""
        return fields.read("relayTracks", self.item, fields.RELAY_TRACKS)

    @property
    def record_tracks(self) -> fields.TrackChoice:
        """The additional tracks in MP4 recordings."""
        return fields.read("recordTracks", self.item, fields.RECORD_TRACKS)

    @property
    def retention_days(self) -> int | None:
        """The days after which recordings and pictures are deleted; 0: never.

        None: `recording.retention_days` of the gateway.
        """
        return fields.read("retentionDays", self.item, fields.RETENTION_DAYS)

    @property
    def rewind_seconds(self) -> float:
        """How far viewers and clips of the live channel reach back, in seconds; 0: `rewind` is off."""
        return self.number("rewind") * 3600.0

    @property
    def rewind_reach(self) -> float:
        """How far viewers may go back in the live stream, in seconds; 0: not at all.

        A channel with isOnDemand stores its segments too, so its viewers may go back one day.
        """
        return self.rewind_seconds or (_ON_DEMAND_REACH if self.flag("isOnDemand") else 0.0)

    def is_replayed(self, default: bool) -> bool:
        """Whether the watch page plays the last recorded session while nobody pushes. default: `pages.replay`."""
        wanted = fields.read("isReplay", self.item, fields.IS_REPLAY)
        return self.flag("isOnDemand") and (default if wanted is None else wanted)

    @property
    def relay_targets(self) -> tuple[str, ...]:
        """The targets of the relay that are on, with their secrets, without duplicates; also if `isRelay` is off.

        An output can be switched while the stream is live.
        """
        off = fields.read("relayOff", self.item, fields.RELAY_OFF)
        urls = fields.read("relayURL", self.item, fields.RELAY_URL)
        return tuple(dict.fromkeys(url for number, url in enumerate(urls) if number not in off))


def create_item(body: Item, now: float, secrets: SigningSecrets, limit: int, id: str = "") -> dict[str, Any]:
    """Returns the item of a new channel: the fields of the request, plus id, key and TimeStamp from the gateway.

    now: seconds since 1970.
    limit: maximum bytes of the item as JSON; 0: no limit. id: of the channel; "": a random one.

    Raises InvalidField or TooLarge.
    """
    sent = _storable_fields(body)
    expires = expiry.parse_outdate(sent.get(expiry.FIELD))
    for name, value in sent.items():
        fields.check(name, value)
    if relay_urls.MASK in json.dumps(sent.get("relayURL")):
        raise InvalidField("relayURL", "a masked address is not allowed: the channel has no stored address")
    if inputs.FIELD in sent:
        sent[inputs.FIELD] = inputs.to_store(sent[inputs.FIELD])
    id = id or str(uuid.uuid4())
    own = {ID: id, KEY: secrets.sign(id, expires), TIME_STAMP: int(now) + _TIME_STAMP_OFFSET}
    item = {**own, **_NEW_CHANNEL_VALUES, **sent}
    _check_size(item, limit)
    return item


def item_of_template(template: Channel, id: str, now: float, secrets: SigningSecrets) -> dict[str, Any]:
    """Returns the item of a new channel with the fields of another one, except its name and its slug.

    Raises InvalidField if the template has an invalid field.
    """
    own = (ID, KEY, slugs.SLUG, "videoname")
    body = {name: value for name, value in template.item.items() if name not in own}
    return create_item({**body, "videoname": id}, now, secrets, 0, id)


def changes(
    channel: Channel, body: Item, secrets: SigningSecrets, limit: int, now: float | None = None
) -> dict[str, Any]:
    """Returns the fields that a PUT of `body` changes. A new `outdate` also changes the key.

    Unchanged fields are left out, even invalid ones, because the console sends complete items.
    limit: maximum bytes of the whole item as JSON; 0: no limit. now: seconds since 1970; None: the clock.

    Raises InvalidField or TooLarge.
    """
    sent = _storable_fields(body)
    if "relayURL" in sent:
        sent["relayURL"] = relay_urls.restore_masked(sent["relayURL"], channel.item.get("relayURL"))
        if "relayOff" not in sent and (off := fields.read("relayOff", channel.item, fields.RELAY_OFF)):
            sent["relayOff"] = relay_urls.moved(off, channel.item.get("relayURL"), sent["relayURL"])
    if inputs.FIELD in sent:
        sent[inputs.FIELD] = inputs.to_store(sent[inputs.FIELD], channel.item.get(inputs.FIELD))
    if (name := announcing.ANNOUNCE) in sent:
        sent[name] = announcing.restored(sent[name], channel.item.get(name))
    old = channel.item
    changed = {name: new for name, new in sent.items() if name not in old or not _is_equal(old[name], new)}
    for name, value in changed.items():
        fields.check(name, value)
    if slugs.SLUG in changed:
        changed |= slugs.with_old_slug(
            channel.slug, channel.old_slugs, changed[slugs.SLUG], time.time() if now is None else now
        )
    if expiry.FIELD in changed:
        changed |= with_new_key(channel, changed[expiry.FIELD], secrets)
    _check_size({**channel.item, **changed}, limit)
    return changed


def with_new_key(channel: Channel, value: Any, secrets: SigningSecrets) -> dict[str, Any]:
    """Returns the changes for a new `outdate` and a new key. This revokes the old key. Raises InvalidField.

    If `value` is the same time in another format, a valid key remains. Then encoders need no new key.
    """
    value = expiry.stored_outdate(value)
    expires = expiry.parse_outdate(value)
    parsed = StreamKey.parse(channel.key)
    if parsed and parsed.expires == expires and secrets.verify(channel.id, channel.key, 0) is Verdict.VALID:
        return {expiry.FIELD: value}
    return {expiry.FIELD: value, KEY: secrets.sign(channel.id, expires)}


def _is_equal(stored: Any, sent: Any) -> bool:
    """Whether both values and their types are equal. In Python True == 1."""
    return stored == sent and json.dumps(stored) == json.dumps(sent)


def _storable_fields(body: Item) -> dict[str, Any]:
    """Returns the fields of a request to store. Raises InvalidField for values that some store cannot store."""
    if len(body) > _MAX_FIELDS:
        raise InvalidField(list(body)[_MAX_FIELDS], f"a channel has at most {_MAX_FIELDS} fields")
    sent = {name: value for name, value in body.items() if name not in _SET_BY_GATEWAY}
    if expiry.FIELD in sent:
        sent[expiry.FIELD] = expiry.stored_outdate(sent[expiry.FIELD])
    for name, value in sent.items():
        if not name or len(name) > _MAX_NAME_LENGTH or not is_storable(name):
            shown = name[:_MAX_NAME_LENGTH].encode("utf-8", "replace").decode()
            raise InvalidField(shown, "a field's name has 1 to 255 characters")
        _check_value(name, value, _MAX_DEPTH)
    return sent


def _check_value(name: str, value: Any, depth: int) -> None:
    """Checks a value against the limits of DynamoDB: 38 digits, 1e-130 to 1e126, 32 levels, UTF-8.

    Items in SQLite have these limits too, so that they can be moved to DynamoDB.
    """
    if isinstance(value, str):
        if not is_storable(value):
            raise InvalidField(name, f"expected {STORABLE}")
    elif isinstance(value, float):
        if not math.isfinite(value) or (value and not 1e-130 <= abs(value) < 1e126):
            raise InvalidField(name, "expected a number that can be stored")
    elif isinstance(value, int):  # bool too
        if abs(value) >= 10**38:
            raise InvalidField(name, "expected a number that can be stored")
    elif isinstance(value, Mapping | list):
        if not depth:
            raise InvalidField(name, f"expected at most {_MAX_DEPTH} levels")
        if isinstance(value, Mapping) and not all(k and is_storable(k) for k in value):
            raise InvalidField(name, f"expected names of {STORABLE}")
        for inner in value.values() if isinstance(value, Mapping) else value:
            _check_value(name, inner, depth - 1)


def _check_size(item: Item, limit: int) -> None:
    size = len(json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))
    if limit and size > limit:
        raise TooLarge(size, limit)
