"""The additional tracks of a push, beside the default ones. Each is published as a rendition `<id>@<name>`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from weakref import WeakKeyDictionary

from gateway.live.fanout import Fanout
from gateway.media.labels import is_language
from gateway.media.track import AmfValue, Kind, MediaTrack

MAX_PUSHED: Final = 14  # renditions of one stream: 7 of each kind, beside the default tracks
MAX_BUDGET: Final = 256_000_000  # bytes for all additional tracks; the playlists of the stream itself may have 192 MB
_MAX_LABEL: Final = 64
_MAX_BITRATE: Final = 1_000_000_000
_MAX_SIDE: Final = 16_384
_INFO_MAPS: Final = {Kind.VIDEO: "videoTrackIdInfoMap", Kind.AUDIO: "audioTrackIdInfoMap"}
_RATES: Final = {Kind.VIDEO: "videodatarate", Kind.AUDIO: "audiodatarate"}


@dataclass(frozen=True, slots=True)
class TrackInfo:
    """The description of one track in a publisher's onMetaData. Empty texts and 0: not given, or invalid.

    language: BCP 47. label: a name for viewers. width, height: pixels. bitrate: bits per second. fps: frames a second.
    """

    language: str = ""
    label: str = ""
    width: int = 0
    height: int = 0
    bitrate: int = 0
    fps: float = 0.0


NO_INFO: Final = TrackInfo()


def track_info(metadata: Mapping[str, AmfValue], kind: Kind, track_id: int) -> TrackInfo:
    """Returns the info of one track. For the default track (id 0), the fields outside the maps count too.

    Enhanced RTMP defines maps by track id, with sizes and rates. Encoders add `language`, and `name`, `title` or
    `label`.
    """
    infos = metadata.get(_INFO_MAPS[kind])
    found = infos.get(str(track_id)) if isinstance(infos, dict) else None
    values: Mapping[str, AmfValue] = found if isinstance(found, dict) else {}
    if not track_id:
        values = {**metadata, **values}
    language = values.get("language", values.get(f"{kind}language"))
    label = next((v for k in ("name", "title", "label") if isinstance(v := values.get(k), str) and v.strip()), "")
    return TrackInfo(
        language if is_language(language) and language != "und" else "",
        " ".join("".join(c for c in label if c.isprintable()).replace('"', "'").split())[:_MAX_LABEL],
        int(_number(values.get("width"), _MAX_SIDE)),
        int(_number(values.get("height"), _MAX_SIDE)),
        int(1000 * _number(values.get(_RATES[kind]), _MAX_BITRATE / 1000)),
        _number(values.get("framerate"), 1000),
    )


def _number(value: AmfValue, maximum: float) -> float:
    return float(value) if isinstance(value, int | float) and 0 < value <= maximum else 0.0


@dataclass(slots=True, eq=False)
class PushedTrack:
    """One additional track of a push. Only `TrackPublisher` changes it.

    name: of its rendition: the stream `<id>@<name>`.
    stream: the rendition. size: of the pictures, pixels; None if unknown.
    """

    id: int
    kind: Kind
    name: str
    stream: Fanout
    track: MediaTrack
    info: TrackInfo
    size: tuple[int, int] | None = None


class MediaBudget:
    """The memory that the playlists of all additional tracks of a push share, in bytes.

    When a playlist is garbage-collected, its bytes are free again.
    """

    __slots__ = ("_parts", "max_bytes")

    def __init__(self, max_bytes: int = MAX_BUDGET) -> None:
        self.max_bytes = max_bytes
        self._parts: WeakKeyDictionary[object, int] = WeakKeyDictionary()

    def add(self, user: object, used: int) -> None:
        """Sets the bytes that one playlist (`user`) needs now."""
        self._parts[user] = used

    @property
    def exceeded(self) -> bool:
        return sum(self._parts.values()) > self.max_bytes


class PushedTracks:
    """The additional tracks of one stream, by the names of their renditions; also those that linger.

    default: the info of the default audio track; `TrackPublisher` sets it. budget: the memory for all their playlists.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, PushedTrack] = {}
        self.default = NO_INFO
        self.budget = MediaBudget()
        self._watchers: list[Callable[[], None]] = []

    def __bool__(self) -> bool:
        return bool(self.by_name)

    @property
    def video(self) -> list[PushedTrack]:
        """The video tracks, smallest first."""
        found = [t for t in self.by_name.values() if t.kind is Kind.VIDEO]
        return sorted(found, key=lambda t: (t.size or (0, 0), t.info.bitrate, t.id))

    @property
    def audio(self) -> list[PushedTrack]:
        """The audio tracks in the order of their ids."""
        return sorted((t for t in self.by_name.values() if t.kind is Kind.AUDIO), key=lambda t: t.id)

    def add(self, track: PushedTrack) -> bool:
        """Adds a track, instead of an earlier one of this name. Returns whether its rendition is a new stream."""
        earlier = self.by_name.get(track.name)
        self.by_name[track.name] = track
        self.changed()
        return earlier is None or earlier.stream is not track.stream

    def remove(self, name: str, stream: Fanout) -> None:
        """Removes the track with this rendition."""
        track = self.by_name.get(name)
        if track is not None and track.stream is stream:
            del self.by_name[name]
            self.changed()

    def watch(self, call: Callable[[], None]) -> None:
        """Calls `call` after each change of the list or of an info, until `unwatch`."""
        self._watchers.append(call)

    def unwatch(self, call: Callable[[], None]) -> None:
        if call in self._watchers:
            self._watchers.remove(call)

    def changed(self) -> None:
        """Calls the watchers."""
        for call in list(self._watchers):
            call()


def labels(default: TrackInfo, tracks: list[PushedTrack]) -> list[str]:
    """Returns a different name for viewers for the default audio track and each of `tracks`, in this order."""
    names: list[str] = []
    for number, info in enumerate([default, *(t.info for t in tracks)]):
        name = info.label or info.language or ("Default" if not number else f"Audio {number + 1}")
        names.append(name if name not in names else f"{name} ({number + 1})")
    return names
