"""The rules of a stream's health: each returns the size of its fault, or None."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from gateway.channels.expiry import WARNING_SECONDS
from gateway.diagnosis.measurement import HISTORY_SECONDS, SETTLE_SECONDS, Measurement
from gateway.live.on_air import InputOnAir
from gateway.live.unusable_media import NOT_READABLE, UnusableMedia
from gateway.media.track import Codec, Kind
from gateway.protocols.srt.statistics import LinkStatistics

LOST_SECONDS: Final = 5.0  # without media of the first input, while another one is on air
STALL_SECONDS: Final = 2.5  # without any unit
MAX_GOP: Final = 4.1  # seconds; docs/api.md says 4 s, but 120 frames at 29.97 a second take 4.004 s
MIN_FPS_SHARE: Final = 0.9
FPS_SECONDS: Final = 5.0  # of pictures that are needed to judge the frame rate
RECOVERED_FPS_SHARE: Final = 0.93
NO_AUDIO_SECONDS: Final = 10.0
NO_VIDEO_SECONDS: Final = 5.0
START_SECONDS: Final = 8.0  # in which pictures that come must begin with a key frame
SILENT_SECONDS: Final = 8.0
DAMAGE_SECONDS: Final = 10  # in which damaged units are counted
MANY_DAMAGED: Final = 3
LATENESS_SECONDS: Final = 10  # in which media falls behind
LATE_SECONDS: Final = 1.5
RECOVERED_LATE_SECONDS: Final = 0.4
GAINED_SECONDS: Final = (5.0, 2.0)  # of media in addition to ten seconds; to begin and to end
START_GAIN: Final = 20.0  # a push may begin with older media: what a relay keeps, or a playlist lists
CAPTIONS_LATE_SECONDS: Final = 3.0
RECOVERED_CAPTIONS_SECONDS: Final = 1.0
JUMP_SHOWN_SECONDS: Final = 10.0
FAST_DRIFT: Final = (8, 10.0)  # seconds of history; milliseconds a second
SLOW_DRIFT: Final = (30, 4.0)
SAMPLE_DRIFT: Final = (8, 18.0)  # more, because some encoders count a frame of 23.2 ms as 23 ms
MAX_DRIFT: Final = 250.0  # milliseconds a second; a faster drift is a pause or discontinuous transmission
SWING: Final = 3.0  # factor between two extremes of the bitrate
SWINGS: Final = 3
SWING_MS: Final = 16_000  # in which the swings happen
SWING_BITRATE: Final = 500_000  # a lower mean needs no constant bitrate
DECLARED_EXCESS: Final = 1.5  # an encoder may stay below its bitrate; above this factor it does not keep it
BLACK_SECONDS: Final = 4.0  # between the first and the last black picture
FROZEN_SECONDS: Final = 6.0  # between the first and the last equal picture


@dataclass(slots=True)
class Facts:
    """The values that the rules read. All times are monotonic seconds, except `key_expires`.

    since: when the push began; its media may have waited for each other before the measurement.
    stalled: seconds without any unit.
    jumped_at: time of the last jump of the timestamps. jump: its size in seconds; negative: backwards.
    pictured_at: time of the last decoded picture.
    black_since: time of the first black picture; None if the last picture is not black.
    frozen_since: time of the first equal picture; None if the last picture differs from the previous one.
    by_webrtc: whether viewers watch by WebRTC.
    is_browser: whether the push comes from a browser.
    failing: the outputs that fail, and the reasons.
    key_expires: expiry of the stream key, seconds since 1970. key_seconds: the seconds until then.
    rate: see `ActivePublisher`.
    link: the connection of a push by SRT; None: it comes by another protocol.
    unusable: what of the push cannot be used.
    clock_fault: see `Measurement`.
    damaged: pictures and frames of sound that came damaged in the last DAMAGE_SECONDS.
    captions_late: seconds of sound that wait for speech to text.
    """

    measurement: Measurement
    now: float
    since: float = float("inf")
    stalled: float = 0.0
    jumped_at: float = float("-inf")
    jump: float = 0.0
    pictured_at: float = 0.0
    black_since: float | None = None
    frozen_since: float | None = None
    by_webrtc: bool = False
    is_browser: bool = False
    input: InputOnAir = field(default_factory=InputOnAir)
    failing: dict[str, str] = field(default_factory=dict)
    key_expires: int = 0
    key_seconds: float = float("inf")
    rate: tuple[float, float] = (0.0, 0.0)
    link: LinkStatistics | None = None
    captions_late: float = 0.0
    damaged: int = 0
    clock_fault: str = ""
    unusable: UnusableMedia = field(default_factory=UnusableMedia)

    @property
    def is_settled(self) -> bool:
        return self.now - self.measurement.began >= SETTLE_SECONDS


# A rule gets the facts, and whether the fault is already found. If it is, the rule uses the limit for its end.
# It returns a number, or the name of what is wrong; None: nothing is.
Check = Callable[[Facts, bool], float | str | None]


def input_lost(facts: Facts, active: bool) -> float | None:
    """Returns the seconds for which the first input is missed, while another one is on air."""
    since = facts.input.lost_since
    return facts.now - since if since is not None and facts.now - since >= LOST_SECONDS else None


def stream_left_out(facts: Facts, active: bool) -> str | None:
    """Returns the names of the tracks whose codecs cannot be used."""
    return facts.unusable.left_out or None


def pictures_unreadable(facts: Facts, active: bool) -> str | None:
    """Returns why the pictures that come cannot be shown: a reason of the intake, or no key frame begins them."""
    measurement, unusable = facts.measurement, facts.unusable
    if unusable.unreadable or measurement.has_unreadable_slices:
        return unusable.unreadable or NOT_READABLE
    began = measurement.video_since if measurement.has_video else measurement.began
    if facts.now - (began if measurement.has_video or unusable.read[0] else min(began, facts.since)) < START_SECONDS:
        return None
    if not measurement.has_video:
        return unusable.explain() or None
    if measurement.has_key:
        return None
    return "no key frame came in 8 s, set one every 2 s and switch off intra refresh in the encoder"


def media_damaged(facts: Facts, active: bool) -> float | None:
    """Returns the number of units that came damaged, if one alone does not explain it."""
    return float(facts.damaged) if facts.damaged >= (1 if active else MANY_DAMAGED) else None


def pixel_format(facts: Facts, active: bool) -> str | None:
    """Returns the chroma and the depth of the pictures if few browsers decode them."""
    return facts.measurement.unusual_pixels or None


def gop_long(facts: Facts, active: bool) -> float | None:
    """Returns the seconds between key frames if they are too many. It does not wait for the end of a GOP."""
    gop = facts.measurement.gop
    return gop if gop is not None and gop > MAX_GOP else None


def fps_low(facts: Facts, active: bool) -> float | None:
    """Returns the frames a second if they are too few. Missing video, and the time soon after it, is another fault.

    Browsers declare the most frames that may come: they send few of a still screen, a dark room or a hidden page.
    """
    measurement = facts.measurement
    declared, fps = measurement.declared_fps, measurement.fps
    if facts.is_browser or declared is None or fps is None or facts.now - measurement.video_since < FPS_SECONDS:
        return None
    return fps if fps < declared * (RECOVERED_FPS_SHARE if active else MIN_FPS_SHARE) else None


def bitrate_high(facts: Facts, active: bool) -> float | None:
    """Returns the bit rate in kbit/s if it is above the limit of the push."""
    kbps, most = facts.rate
    return kbps if kbps > most else None


def bitrate_unsteady(facts: Facts, active: bool) -> float | None:
    """Returns the factor between the highest and the lowest bitrate if the bitrate rises and falls repeatedly.

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
    """Returns the seconds without a sound unit if they are too many, also if no sound track was announced."""
    measurement = facts.measurement
    seconds = facts.now - measurement.last_audio
    is_missing = seconds >= NO_AUDIO_SECONDS and not facts.unusable.explains(Kind.AUDIO, measurement.tracks)
    return seconds if is_missing else None


def audio_silent(facts: Facts, active: bool) -> float | None:
    """Returns the seconds in which sound arrived and all of it was digital silence, if they are too many."""
    seconds = facts.now - facts.measurement.last_heard
    return seconds if facts.measurement.has_audio and seconds >= SILENT_SECONDS else None


def video_missing(facts: Facts, active: bool) -> float | None:
    """Returns the seconds without a picture if they are too many. A push that announced no video has no such fault."""
    measurement = facts.measurement
    tracks = measurement.tracks
    if tracks is None or not (measurement.has_video or tracks.video or tracks.metadata.get("videocodecid")):
        return None
    seconds = facts.now - measurement.last_video
    is_missing = seconds >= NO_VIDEO_SECONDS and not facts.unusable.explains(Kind.VIDEO, tracks)
    return seconds if is_missing else None


def av_drift(facts: Facts, active: bool) -> float | None:
    """Returns by how many milliseconds a second the sound's times run ahead of the picture's, or of its own samples.

    A negative value: sound is behind. If an encoder sends sound and pictures in the order of their times, only the
    samples show a drift. A single step is no drift. A very fast drift is a pause or discontinuous transmission, unless
    the samples last longer than their times: a header has half the sample rate.
    """
    if not facts.is_settled:
        return None
    for (seconds, least), read in ((FAST_DRIFT, offsets), (SLOW_DRIFT, offsets), (SAMPLE_DRIFT, excesses)):
        values = read(facts.measurement, seconds)
        most = math.inf if read is excesses and values and values[-1] < values[0] else MAX_DRIFT * seconds
        if len(values) == seconds and least * seconds / 2 < abs(values[-1] - values[0]) < most:
            drift = _steady_drift(values)
            if abs(drift) >= least:
                return drift
    return None


def offsets(measurement: Measurement, seconds: int) -> list[float]:
    """Returns `Second.offset` of the last seconds, latest last, where it is known."""
    latest = islice(reversed(measurement.history), seconds)
    return [second.offset for second in latest if second.offset is not None][::-1]


def excesses(measurement: Measurement, seconds: int) -> list[float]:
    """Returns `Second.excess` of the last seconds, latest last, where it is known."""
    latest = islice(reversed(measurement.history), seconds)
    return [second.excess for second in latest if second.excess is not None][::-1]


def slope(values: Sequence[float]) -> float:
    """Returns how much the values grow from one to the next (least squares); 0 for a single one."""
    count = len(values)
    if count < 2:
        return 0.0
    middle = (count - 1) / 2
    return sum((n - middle) * value for n, value in enumerate(values)) * 12 / (count**3 - count)


def _steady_drift(values: Sequence[float]) -> float:
    """Returns the slope if both halves have it, and if it is larger than the noise. Otherwise 0."""
    whole, half = slope(values), len(values) // 2
    if any(slope(part) * whole < whole * whole / 2 for part in (values[:half], values[-half:])):
        return 0.0
    mean, middle = sum(values) / len(values), (len(values) - 1) / 2
    noise = sum((value - mean - whole * (n - middle)) ** 2 for n, value in enumerate(values))
    return whole if noise < 0.1 * sum((value - mean) ** 2 for value in values) else 0.0


def timestamps_jump(facts: Facts, active: bool) -> float | None:
    """Returns the seconds of a recent jump; negative: backwards."""
    return facts.jump if facts.now - facts.jumped_at < JUMP_SHOWN_SECONDS else None


def clock_wrong(facts: Facts, active: bool) -> str | None:
    """Returns what is wrong with the clock of the timestamps, by the number of pictures and samples between them."""
    return facts.clock_fault or None


def arrivals_late(facts: Facts, active: bool) -> float | None:
    """Returns the seconds that the media fell behind in the last ten seconds, or the seconds without any media."""
    if facts.stalled >= STALL_SECONDS:
        return facts.stalled
    late = lateness(facts.measurement)
    return late if late is not None and late >= (RECOVERED_LATE_SECONDS if active else LATE_SECONDS) else None


def arrivals_early(facts: Facts, active: bool) -> float | None:
    """Returns the seconds of media that came in addition to the real time of the last ten seconds, if they are many."""
    gained, is_settled = facts.measurement.gained
    limit = GAINED_SECONDS[active] if is_settled or active else START_GAIN
    return gained if gained >= limit else None


def lateness(measurement: Measurement) -> float | None:
    """Returns how many seconds later units arrive than at the best time of the last ten seconds.

    The first seconds of a push are left out: a sender may begin with a burst of older media.
    """
    history = measurement.history
    settled = len(history) - SETTLE_SECONDS if len(history) < HISTORY_SECONDS else len(history)
    delays = [
        s.delay for s in islice(reversed(history), max(0, min(settled, LATENESS_SECONDS + 1))) if s.delay is not None
    ]
    if not delays or history[-1].delay is None:
        return None
    return (delays[0] - min(delays)) / 1000


def captions_late(facts: Facts, active: bool) -> float | None:
    """Returns the seconds of sound that wait for speech to text, if they are too many. It skips sound above ten."""
    late = facts.captions_late
    return late if late >= (RECOVERED_CAPTIONS_SECONDS if active else CAPTIONS_LATE_SECONDS) else None


def picture_black(facts: Facts, active: bool) -> float | None:
    """Returns the seconds of black pictures, if an output decodes pictures."""
    since = facts.black_since
    return facts.now - since if since is not None and facts.pictured_at - since >= BLACK_SECONDS else None


def picture_frozen(facts: Facts, active: bool) -> float | None:
    """Returns the seconds of equal pictures that are not black, if an output decodes pictures."""
    since = facts.frozen_since
    if since is None or facts.black_since is not None or facts.pictured_at - since < FROZEN_SECONDS:
        return None
    return facts.now - since


def open_gop(facts: Facts, active: bool) -> float | None:
    """Returns 1 if GOPs of H.264 are open: browsers get them without the pictures before each key frame, or not at all.

    They cannot begin with a key frame that is no IDR picture, and not every one can be made an IDR picture.
    """
    return 1.0 if facts.measurement.has_open_gops else None


def b_frames(facts: Facts, active: bool) -> float | None:
    """Returns 1 if viewers watch by WebRTC, and pictures are shown in another order than they are sent.

    The order is that of this GOP or of the last one.
    """
    return 1.0 if facts.by_webrtc and facts.measurement.reorders else None


def hevc(facts: Facts, active: bool) -> float | None:
    """Returns 1 if the video is HEVC, which some browsers cannot decode."""
    tracks = facts.measurement.tracks
    return 1.0 if tracks is not None and tracks.video is not None and tracks.video.codec is Codec.H265 else None


def key_expires(facts: Facts, active: bool) -> float | None:
    """Returns the expiry of the stream key, seconds since 1970, from seven days before. A running push goes on."""
    return float(facts.key_expires) if facts.key_seconds < WARNING_SECONDS else None
