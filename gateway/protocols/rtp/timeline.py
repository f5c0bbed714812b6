"""RtpTimeline: puts the tracks of one sender on one clock, by arrival first, and by their sender reports later."""

from typing import Final

from gateway.media.clock import VIDEO_CLOCK
from gateway.protocols.rtp.packets import RtpClock
from gateway.protocols.rtp.rtcp import SenderReport

_SMALL: Final = VIDEO_CLOCK // 50  # ticks; nobody notices a smaller difference of picture and sound
_UNBELIEVABLE: Final = 10 * VIDEO_CLOCK  # a larger difference is an error of the sender
_PAUSE: Final = VIDEO_CLOCK // 4  # ticks without sound; the next report corrects what is less
_PROOF: Final = VIDEO_CLOCK // 5  # ticks in which packets that were held back would have come


class RtpTimeline:
    """Times in ticks of 90 kHz of one video and one sound track, or of one of them.

    Before both tracks have a sender report, the first frame of each has the time of its arrival. When both have one,
    the track whose times are too small moves forward at once. The other track keeps its times. So times never go back.

    The first report of a track counts. A later one counts only if its timestamp and its NTP time advanced equally since
    the report before it. They may differ: a sender can set its clock, and the timestamps in reports of GStreamer 1.22
    advance by two seconds a second.

    Chromium 156 counts no time while a page takes the microphone away (`replaceTrack`). Then the sound is too early by
    this pause, until the reports of five seconds later. It is moved at once, if the pictures are not late as well.

    rates: ticks a second of each track's timestamps. Those of sound differ from those of pictures.
    """

    def __init__(self, rates: tuple[int, ...]) -> None:
        self._clocks = tuple(RtpClock(rate) for rate in rates)
        self._last: list[tuple[float, int] | None] = [None] * len(rates)  # reports: ticks of NTP, timestamp
        self._reports: list[tuple[float, int] | None] = [None] * len(rates)  # the reports that count
        self._sound = next((n for n, rate in enumerate(rates) if rate != VIDEO_CLOCK), -1) if len(rates) == 2 else -1
        self._arrivals, self._lags = [0.0, 0.0], [0.0, 0.0]  # of the last frames; from their time to their arrival
        # Of the last sound before a pause: its lag, and by how much more it lagged than the pictures.
        self._before = 0.0, 0.0
        self._resumed: float | None = None  # arrival of the first sound after a pause, until it is judged

    def stamp(self, track: int, timestamp: int, arrival: float) -> int:
        """Returns the time of a frame. arrival: ticks on any clock that both tracks share.

        If the time differs from the arrival by more than 10 s, the track's clock is set to the arrival.
        """
        clock = self._clocks[track]
        time = clock.stamp(timestamp, arrival)
        wanted = arrival if abs(time - arrival) > _UNBELIEVABLE else time + self._missed(track, arrival, arrival - time)
        if wanted != time:
            clock.anchor(timestamp, wanted)
            self._last[track] = self._reports[track] = None
        return round(wanted)

    def _missed(self, track: int, arrival: float, lag: float) -> float:
        """Returns the ticks by which sound is too early because its timestamps stood still in a pause.

        lag: from its time to its arrival. While the network holds packets back, the pictures lag as well.
        """
        if self._sound < 0:
            return 0.0
        since, pictures = arrival - self._arrivals[track], 1 - self._sound
        self._arrivals[track], self._lags[track] = arrival, lag
        if track == pictures:
            return 0.0
        apart = lag - self._lags[pictures]
        if since > _PAUSE:
            self._resumed = arrival
        if self._resumed is not None:
            missed = min(lag - self._before[0], apart - self._before[1])
            if missed >= _PAUSE and arrival - self._arrivals[pictures] < VIDEO_CLOCK:
                if arrival - self._resumed < _PROOF:
                    return 0.0
                self._resumed = None
                return missed
            self._resumed = None
        self._before = lag, apart
        return 0.0

    def report(self, track: int, report: SenderReport) -> None:
        """Takes a sender report, and corrects the times of one track if they differ from the reports."""
        if not report.ntp:
            return
        last, latest = self._last[track], (report.ntp * VIDEO_CLOCK / (1 << 32), report.timestamp)
        self._last[track] = latest
        if last is not None and not self._clocks[track].agrees(last[1], latest[1], latest[0] - last[0]):
            self._reports = [None] * len(self._clocks)  # the report of the other track is older
            return
        self._reports[track] = latest
        if len(self._clocks) != 2:
            return
        first, second = self._reports
        if first is None or second is None:
            return
        times = (self._clocks[0].time_of(first[1]), self._clocks[1].time_of(second[1]))
        if times[0] is None or times[1] is None:
            return
        # Ticks by which track 1 is too early, compared with track 0.
        early = (second[0] - first[0]) - (times[1] - times[0])
        if not _SMALL < abs(early) < _UNBELIEVABLE:
            return
        if early > 0:
            self._clocks[1].anchor(second[1], times[1] + early)
        else:
            self._clocks[0].anchor(first[1], times[0] - early)
