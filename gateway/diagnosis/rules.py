"""The rules of a stream's health: each returns the size of its fault, or None."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from gateway.diagnosis.measurement import Measurement

SETTLE_SECONDS: Final = 3.0  # after the begin of a push, in which bursts are normal
STALL_SECONDS: Final = 2.5  # without any unit
MAX_GOP: Final = 4.1  # seconds; contract: above 4 s. 120 frames at 29.97 a second take 4.004 s
MIN_FPS_SHARE: Final = 0.9
FPS_SHARE_AGAIN: Final = 0.93
NO_AUDIO_SECONDS: Final = 10.0
NO_VIDEO_SECONDS: Final = 5.0
SILENT_SECONDS: Final = 8.0
LATE_SECONDS: Final = 1.0
LATE_SECONDS_AGAIN: Final = 0.4
JUMP_SHOWN_SECONDS: Final = 10.0
FAST_DRIFT: Final = (10, 10.0)  # seconds of history; milliseconds a second
SLOW_DRIFT: Final = (30, 4.0)
SWING: Final = 3.0  # factor between two extremes of the bitrate
SWINGS: Final = 3
SWING_MS: Final = 16_000  # in which the swings happen
SWING_BITRATE: Final = 500_000  # a lower mean needs no constant bitrate
DECLARED_EXCESS: Final = 1.5  # an encoder may stay below its bitrate; above this factor it does not keep it
STILL_SECONDS: Final = 8.0  # of black or equal pictures


@dataclass(slots=True)
class Facts:
    """What the rules read. now: monotonic seconds. stalled: seconds without any unit.

    jumped_at: when the timestamps jumped last. jump: by how many seconds.
    black_since, frozen_since: the first of the black or equal pictures; None if the last picture is neither.
    """

    measurement: Measurement
    now: float
    stalled: float = 0.0
    jumped_at: float = float("-inf")
    jump: float = 0.0
    black_since: float | None = None
    frozen_since: float | None = None

    @property
    def is_settled(self) -> bool:
        return self.now - self.measurement.began >= SETTLE_SECONDS


# A rule gets the facts, and whether the fault was found before: then it needs more to be withdrawn.
Check = Callable[[Facts, bool], float | None]


def gop_long(facts: Facts, active: bool) -> float | None:
    """Seconds between key frames. It does not wait for the end of a GOP."""
    gop = facts.measurement.gop
    return gop if gop is not None and gop > MAX_GOP else None


def fps_low(facts: Facts, active: bool) -> float | None:
    """Frames a second."""
    measurement = facts.measurement
    declared, fps = measurement.declared_fps, measurement.fps
    if declared is None or not fps or facts.now - measurement.began < SETTLE_SECONDS + 2:
        return None
    return fps if fps < declared * (FPS_SHARE_AGAIN if active else MIN_FPS_SHARE) else None


def bitrate_unsteady(facts: Facts, active: bool) -> float | None:
    """The factor between the highest and the lowest bitrate, if the bitrate goes up and down again and again.

    Compares whole GOPs, so key frames do not count. A still picture with rare changes has too few swings, or too low
    a mean. An encoder that stays below its declared bitrate is steady enough for every network.
    """
    cells = facts.measurement.cells
    if not cells:
        return None
    rates = [cell.bitrate for cell in cells if cells[-1].ended - cell.ended < SWING_MS]
    highest, lowest = max(rates), max(1.0, min(rates))
    declared = facts.measurement.declared_bitrate
    if sum(rates) / len(rates) < SWING_BITRATE or (declared is not None and highest < declared * DECLARED_EXCESS):
        return None
    return highest / lowest if _count_swings(rates) >= SWINGS else None


def _count_swings(rates: Sequence[float]) -> int:
    """Returns how often the values go up or down by the factor SWING."""
    swings, low, high = 0, rates[0], rates[0]
    rising: bool | None = None
    for rate in rates:
        if rising is not True and rate >= low * SWING:
            swings, rising, high = swings + 1, True, rate
        elif rising is not False and rate * SWING <= high:
            swings, rising, low = swings + 1, False, rate
        low, high = min(low, rate), max(high, rate)
    return swings


def audio_missing(facts: Facts, active: bool) -> float | None:
    """Seconds without a sound unit, whether or not a sound track was announced."""
    seconds = facts.now - facts.measurement.last_audio
    return seconds if seconds >= NO_AUDIO_SECONDS else None


def audio_silent(facts: Facts, active: bool) -> float | None:
    """Seconds in which sound arrives, and all of it is digital silence."""
    seconds = facts.now - facts.measurement.last_heard
    return seconds if facts.measurement.has_audio and seconds >= SILENT_SECONDS else None


def video_missing(facts: Facts, active: bool) -> float | None:
    """Seconds without a picture, if a video track was announced. A push that has only sound is meant so."""
    measurement = facts.measurement
    tracks = measurement.tracks
    if tracks is None or not (measurement.has_video or tracks.video or tracks.metadata.get("videocodecid")):
        return None
    seconds = facts.now - measurement.last_video
    return seconds if seconds >= NO_VIDEO_SECONDS else None


def av_drift(facts: Facts, active: bool) -> float | None:
    """Milliseconds a second by which the sound's times run ahead of the picture's; below 0: behind."""
    if not facts.is_settled:
        return None
    offsets = [second.offset for second in facts.measurement.history if second.offset is not None]
    for seconds, least in (FAST_DRIFT, SLOW_DRIFT):
        drift = _drift(offsets[-seconds:]) if len(offsets) >= seconds else 0.0
        if abs(drift) >= least:
            return drift
    return None


def drift(offsets: Sequence[float]) -> float | None:
    """Returns how much the values change from one to the next (least squares); None for fewer than three."""
    count = len(offsets)
    if count < 3:
        return None
    middle, mean = (count - 1) / 2, sum(offsets) / count
    return sum((n - middle) * (offset - mean) for n, offset in enumerate(offsets)) * 12 / (count**3 - count)


def _drift(offsets: Sequence[float]) -> float:
    """Returns the drift if it is steady: in both halves, and larger than the noise. Otherwise 0."""
    slope = drift(offsets) or 0.0
    half = len(offsets) // 2
    if any((drift(part) or 0.0) * slope < slope * slope / 2 for part in (offsets[:half], offsets[-half:])):
        return 0.0
    mean, middle = sum(offsets) / len(offsets), (len(offsets) - 1) / 2
    noise = sum((offset - mean - slope * (n - middle)) ** 2 for n, offset in enumerate(offsets))
    return slope if noise < 0.1 * sum((offset - mean) ** 2 for offset in offsets) else 0.0


def timestamps_jump(facts: Facts, active: bool) -> float | None:
    """Seconds of the last jump; below 0: backwards."""
    return facts.jump if facts.now - facts.jumped_at < JUMP_SHOWN_SECONDS else None


def arrivals_late(facts: Facts, active: bool) -> float | None:
    """Seconds that the media fell behind in the last ten seconds, or seconds without any media."""
    if facts.stalled >= STALL_SECONDS:
        return facts.stalled
    late = lateness(facts.measurement)
    return late if late is not None and late >= (LATE_SECONDS_AGAIN if active else LATE_SECONDS) else None


def lateness(measurement: Measurement) -> float | None:
    """Returns how many seconds later units arrive than at the best time of the last ten seconds.

    The first seconds of a push are left out: a sender may begin with a burst of older media.
    """
    history = measurement.history
    age, delays = 0.0, []
    for second in islice(reversed(history), 11):
        age += second.seconds
        if second.delay is not None and measurement.age - age >= SETTLE_SECONDS:
            delays.append(second.delay)
    if not delays or history[-1].delay is None:
        return None
    return (delays[0] - min(delays)) / 1000


def picture_black(facts: Facts, active: bool) -> float | None:
    """Seconds of black pictures, where pictures are decoded."""
    return _still(facts.black_since, facts.now)


def picture_frozen(facts: Facts, active: bool) -> float | None:
    """Seconds of equal pictures that are not black, where pictures are decoded."""
    return _still(facts.frozen_since, facts.now) if facts.black_since is None else None


def _still(since: float | None, now: float) -> float | None:
    return now - since if since is not None and now - since >= STILL_SECONDS else None
