"""A push with media, times and faults chosen by the test, and the health of its stream. It runs on simulated time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from gateway.diagnosis.stream_health import StreamHealth
from gateway.live.publisher import PushOrigin, StreamPublisher
from gateway.media.clock import PublisherTimeline
from gateway.media.track import AccessUnit, AmfValue, MediaTrack
from gateway.ports.events import Event
from tests.support import builders

SILENCE = bytes.fromhex("211004608c1c")  # of ffmpeg's encoder: stereo, anullsrc
NOISE = bytes.fromhex("211acffffff1df4099b0c5285a3a15874345d0d1dfd6f74b")
I_SLICE = bytes.fromhex("00000003 418880")  # a picture of H.264 with slice_type 7 that is no IDR picture
WALL = 1.7e9  # wall clock at 0 of the monotonic clock


@dataclass(frozen=True)
class Media:
    """The media that a push sends in each second.

    fps: 0 for no pictures. sound: the AAC frame; empty for no sound. gop: seconds.
    read: seconds of the publisher that the gateway reads at once. speed: seconds of media that arrive in a second.
    drift: seconds by which the sound's times gain on the picture's in a second.
    bitrate: of the video, from its time in seconds. b_frames: sends pictures out of order.
    open_gops: key frames are no IDR pictures.
    picture_clock, sound_clock: seconds of the timestamps in a second of the media.
    picture_step: the times of pictures are rounded down to multiples of it, in seconds; 0: they are exact.
    """

    fps: float = 25.0
    sound: bytes = NOISE
    gop: float = 2.0
    read: float = 0.2
    speed: float = 1.0
    drift: float = 0.0
    bitrate: Callable[[float], float] = lambda at: 1e6
    b_frames: bool = False
    open_gops: bool = False
    picture_clock: float = 1.0
    sound_clock: float = 1.0
    picture_step: float = 0.0


class Push:
    """One push to a stream; `send` sends media and evaluates the health once a second."""

    def __init__(
        self,
        media: Media | None = None,
        *,
        metadata: dict[str, AmfValue] | None = None,
        webrtc: bool = False,
        protocol: str = "rtmp",
    ) -> None:
        self.protocol = protocol
        self.media = media or Media()
        self.now = 100.0  # monotonic seconds
        self.events: list[Event] = []
        self.stream = builders.stream()
        self.metadata: dict[str, AmfValue] = {"framerate": 25.0} if metadata is None else metadata
        self.health = StreamHealth(self.stream, self.events.append, WALL, lambda stream: webrtc)
        self.connect()

    def connect(self) -> None:
        """Connects a publisher to the stream."""
        origin = PushOrigin(self.protocol, "192.0.2.7", trusted=True)
        self.publisher = StreamPublisher(self.stream, origin, self.now, lambda reason: None, self._left)
        self.publisher.use_timeline(PublisherTimeline())
        self.stream.publisher = self.publisher
        media = self.media
        video: MediaTrack | None = builders.VIDEO if media.fps else None
        self.publisher.set_tracks(video, builders.AUDIO if media.sound else None, self.metadata)
        self._at = 0.0  # seconds of media sent
        self._offset = 0.0  # of the timestamps
        self._audio_offset = 0.0
        self._frames = self._sounds = 0
        self._next_frame = self._next_sound = self._next_key = 0.0

    def _left(self, publisher: StreamPublisher) -> None:
        self.stream.publisher = None

    def jump(self, seconds: float) -> None:
        """Shifts all later timestamps."""
        self._offset += seconds

    def burst(self, seconds: float) -> None:
        """Sends media at once."""
        self._send(seconds)

    def send(self, seconds: float, **changes: object) -> list[str]:
        """Sends media for this many seconds. Returns the codes of the findings afterwards."""
        self.media = replace(self.media, **changes)  # type: ignore[arg-type]
        reads = max(1, round(1 / self.media.read))
        for _ in range(round(seconds)):
            for _ in range(reads):
                self.now += 1 / reads
                self._send(self.media.speed / reads)
            self.evaluate()
        return self.codes

    def evaluate(self) -> None:
        self.health.evaluate(self.now, WALL + self.now)

    def wait(self, seconds: int) -> list[str]:
        """Sends nothing for this many seconds."""
        for _ in range(seconds):
            self.now += 1
            self.evaluate()
        return self.codes

    @property
    def codes(self) -> list[str]:
        return [finding.code for finding in self.health.findings]

    def value(self, code: str) -> float | str:
        return next(finding.value for finding in self.health.findings if finding.code == code)

    def text(self, code: str) -> str:
        return next(finding.text for finding in self.health.findings if finding.code == code)

    @property
    def told(self) -> list[tuple[str, str]]:
        """Code and state of each event."""
        return [(event.data["code"], event.data["state"]) for event in self.events]

    def _send(self, seconds: float) -> None:
        media, end = self.media, self._at + seconds
        self._audio_offset += media.drift * seconds
        units: list[tuple[float, AccessUnit]] = []
        while media.fps and self._next_frame < end - 1e-9:
            at = self._next_frame
            key = at >= self._next_key - 1e-9
            if key:
                self._next_key = at + media.gop
            # I P B B P B B: a P picture is shown after two B pictures that follow it.
            wait = 0 if not media.b_frames else 1 if key else 3 if self._frames % 3 == 1 else 0
            cts = round(wait * 1000 / media.fps)
            size = max(8, round(media.bitrate(at) / media.fps / 8))
            payload = I_SLICE if key and media.open_gops else b"v" * size
            times = at * media.picture_clock + self._offset
            if media.picture_step:
                times = int(times / media.picture_step + 1e-9) * media.picture_step
            units.append((at, self._unit(builders.VIDEO, times, key, payload, cts)))
            self._next_frame, self._frames = at + 1 / media.fps, self._frames + 1
        while self._next_sound < end - 1e-9:
            at = self._next_sound
            if media.sound:
                times = at * media.sound_clock + self._offset + self._audio_offset
                units.append((at, self._unit(builders.AUDIO, times, True, media.sound, 0)))
            self._next_sound, self._sounds = at + 1024 / 44100, self._sounds + 1
        if not media.fps:
            self._next_frame = math.ceil(end * 25) / 25
        for _, unit in sorted(units, key=lambda pair: pair[0]):
            self.publisher.push(unit, self.now)
        self._at = end

    def _unit(self, track: MediaTrack, at: float, key: bool, payload: bytes, cts: int) -> AccessUnit:
        return AccessUnit(track, round(at * 1000), cts, key, WALL + self.now, payload)
