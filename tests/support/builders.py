"""Small values for tests: channels, tracks, units and a hub for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gateway.channels.channel import Channel
from gateway.channels.channel_changes import ChangeEffects
from gateway.live.hub import Hub, HubLimits
from gateway.live.output import OutputSpec
from gateway.live.publisher import Evict, PushOrigin, StreamPublisher
from gateway.live.shelf import StreamLimits, StreamShelf
from gateway.live.sink import EndReason
from gateway.live.stream import Stream, StreamKind, StreamSpec
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, TimedData, Tracks
from gateway.ports.events import Event, Events
from gateway.settings.models import InputsSettings

# A real avcC (High, 1280x720) and an AAC-LC 44.1 kHz stereo AudioSpecificConfig.
AVCC = bytes.fromhex(
    "0164001fffe1001a6764001facd9405005bb011000000300100000030 3c0f1831960".replace(" ", "") + "01000568ebe3cb22"
)
VIDEO = MediaTrack(Kind.VIDEO, Codec.H264, 1000, AVCC)
AUDIO = MediaTrack(Kind.AUDIO, Codec.AAC, 1000, b"\x12\x10")
FAR = 4_000_000_000


def channel(id: str = "c1", **fields: Any) -> Channel:
    return Channel({"id": id, "key": f"{FAR}-{'0' * 64}", "outdate": "2090-01-01", "isFlv": True, **fields})


def picture(dts: int, key: bool = False, cts: int = 0, size: int = 10, track: MediaTrack = VIDEO) -> AccessUnit:
    return AccessUnit(track, dts, cts, key, 1.7e9 + dts / 1000, dts.to_bytes(4, "big").rjust(size, b"v"))


def sound(dts: int, size: int = 6, track: MediaTrack = AUDIO) -> AccessUnit:
    return AccessUnit(track, dts, 0, True, 1.7e9 + dts / 1000, dts.to_bytes(4, "big").rjust(size, b"a"))


LIMITS = {"takeover_after": 2.0, "linger": 10.0, "gop_seconds": 15.0, "gop_bytes": 1_000_000}


def hub(specs: Iterable[OutputSpec] = (), *, events: Events | None = None, **limits: Any) -> Hub:
    made = Hub(HubLimits(**LIMITS | limits), list(specs), events or Events())

    def publish(channel: Channel, origin: PushOrigin, evict: Evict, input: str, first_number: int) -> StreamPublisher:
        return made.publish_from(origin, channel, channel.id, evict, first_number)

    made.use_inputs(publish, lambda name: None)
    return made


def shelf(specs: Iterable[OutputSpec] = (), **limits: Any) -> StreamShelf:
    return StreamShelf(StreamLimits(**LIMITS | limits), list(specs))


def publish(
    on: StreamShelf, name: str = "c1", evicted: list[EndReason] | None = None, **fields: Any
) -> StreamPublisher:
    told = evicted if evicted is not None else []
    return on.publish_from(PushOrigin("rtmp", "127.0.0.1"), channel(name, **fields), name, told.append)


def change_effects(on: Hub, events: Events, **more: Any) -> ChangeEffects:
    """Returns the effects of a gateway: changes reach the hub, and their events the listeners. more: others."""

    async def record(event: Event) -> None:
        events.emit(event)

    def apply(id: str, changed: Channel | None) -> None:
        if changed is None:
            on.end_channel(id, EndReason.DELETED)
        else:
            on.channel_changed(changed)

    return ChangeEffects(record, **{"apply": apply, **more})


def spec(name: str = "c1", started: float = 1.7e9, gop_bytes: int = 1_000_000, gop_seconds: float = 15.0) -> StreamSpec:
    return StreamSpec(name, started, gop_bytes, gop_seconds, StreamKind.of(name))


def stream(gop_bytes: int = 1_000_000, gop_seconds: float = 15.0) -> Stream:
    return Stream(spec(gop_bytes=gop_bytes, gop_seconds=gop_seconds), channel())


def inputs_settings(**fields: float) -> InputsSettings:
    values: dict[str, float] = {"silence": 0.2, "hold": 60.0}
    return InputsSettings.model_validate(values | fields)


class Recorder:
    """A sink that keeps everything it gets."""

    def __init__(self) -> None:
        self.items: list[Tracks | AccessUnit | TimedData | EndReason] = []
        self.error: Exception | None = None

    def on_tracks(self, tracks: Tracks) -> None:
        self.items.append(tracks)

    def on_unit(self, unit: AccessUnit) -> None:
        self.items.append(unit)

    def on_timed(self, timed: TimedData) -> None:
        self.items.append(timed)

    def on_end(self, reason: EndReason) -> None:
        self.items.append(reason)

    def on_failed(self, error: Exception) -> None:
        self.error = error

    @property
    def ended(self) -> EndReason | None:
        return next((i for i in self.items if isinstance(i, EndReason)), None)

    @property
    def units(self) -> list[AccessUnit]:
        return [i for i in self.items if isinstance(i, AccessUnit)]

    @property
    def tracks(self) -> list[Tracks]:
        return [i for i in self.items if isinstance(i, Tracks)]
