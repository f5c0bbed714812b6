"""Cuts a stream into fragments that Kinesis Video Streams accepts, each beginning with an IDR picture."""

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

import structlog

from gateway.formats.mkv.writer import NUMBERS, can_carry, cluster, header, simple_block
from gateway.media import h264, h265, nal
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, Tracks
from gateway.outputs.kinesis.fragment_backlog import FragmentBacklog, KvsFragment
from gateway.ports.errors import OutputUnsupported

log = structlog.get_logger(__name__)

# Limits of the service, https://docs.aws.amazon.com/kinesisvideostreams/latest/dg/limits.html: a fragment lasts 1 to 20
# seconds and has at most 50 MB.
MIN_MS: Final = 1_000
MAX_MS: Final = 20_000
MAX_BYTES: Final = 50_000_000
SOUND_ONLY_MS: Final = 2_000  # duration of a fragment with only sound
HOLD_MS: Final = 400  # maximum time that an IDR waits for sound with its time
LEAD_MS: Final = 500  # sound before the first picture; older sound is skipped
EARLY_MS: Final = 3_000  # when sound is this far ahead of the picture, the picture counts as stopped
LAG_WINDOW_MS: Final = 10_000  # of media, over which the smallest lag is measured
LAG_TOLERANCE_MS: Final = 2_000  # by which media time may lag behind the clock before it jumps ahead
_NO_LAG: Final = 1 << 62  # larger than any lag

_VIDEO: Final = Kind.VIDEO
_HeldUnit: TypeAlias = "tuple[AccessUnit, int]"  # a unit and its presentation time, ms since 1970


class KinesisClock:
    """Converts a stream's media times to milliseconds since 1970. The result never decreases.

    It maps media time to the wall clock once, then follows media time.
    The network delays frames, so only the smallest lag within LAG_WINDOW_MS is used.
    If this lag exceeds LAG_TOLERANCE_MS, the system clock was set forward or the encoder's clock is slow.
    `adjust` then jumps ahead.
    If the system clock was set back, media time continues, because times in a Kinesis stream must increase.
    """

    __slots__ = ("_base", "_min_lag", "_window_start")

    def __init__(self) -> None:
        self._base: int | None = None
        self._min_lag = 0
        self._window_start = 0

    def restart(self) -> None:
        """Lets the next unit set the clock again, because its timestamps do not continue the earlier ones."""
        self._base = None

    def time(self, ms: int, wall_clock: float, floor: int) -> int:
        """Returns the time of media time `ms`, in ms since 1970. Hot path.

        wall_clock: when its unit arrived, seconds since 1970.

        floor: the lowest allowed result of the first call after a restart.
        """
        lag = int(wall_clock * 1000) - ms
        if self._base is None:
            self._base = max(lag, floor - ms)
            self._window_start, self._min_lag = ms, lag
        elif lag < self._min_lag:
            self._min_lag = lag
        return self._base + ms

    def adjust(self, ms: int) -> int:
        """Returns the number of ms that is added to later times. Call it at a fragment's start, at media time `ms`."""
        if self._base is None or ms - self._window_start < LAG_WINDOW_MS:
            return 0
        jump = self._min_lag - self._base
        self._window_start, self._min_lag = ms, _NO_LAG
        if jump <= LAG_TOLERANCE_MS:
            return 0
        self._base += jump
        return jump


class Fragmenter:
    """Converts a stream's tracks and units to fragments in a FragmentBacklog. It does no I/O and reads no clock.

    A fragment is one or more whole GOPs, at least MIN_MS long.
    It is cut at an IDR by its presentation time; sound before that time goes to the old fragment.
    So the IDR is held until sound with its time arrives (HOLD_MS at most), and early sound waits for its picture.
    No frame is earlier than the latest frame of the previous fragment.
    A frame that is too late for its own fragment gets the start time of the next one.
    `skipped` counts units before the first IDR.

    A fragment's header contains only tracks with frames, because Kinesis rejects a track without frames.
    The header is complete when each track has a frame, or else at the fragment's end.

    Raises OutputUnsupported for codecs that Kinesis does not accept, and if MAX_MS or MAX_BYTES pass without an IDR.
    """

    def __init__(self, backlog: FragmentBacklog) -> None:
        self._backlog = backlog
        self._clock = KinesisClock()
        self._number = 0
        self._tracks: dict[Kind, MediaTrack] = {}
        self._epoch: int | None = None
        self._headers: dict[frozenset[Kind], bytes] = {}
        self._is_idr: Callable[[bytes], bool] = _never
        self._open: KvsFragment | None = None
        self._floor = 0  # one millisecond after the latest frame of all ended fragments
        self._cut: int | None = None  # presentation time of the held IDR
        self._cut_at = 0  # its decode time
        self._held: list[_HeldUnit] = []
        self._early: deque[_HeldUnit] = deque()
        self._without_idr_since: int | None = None  # time of the first picture that waits for an IDR
        self.left_out = ""  # the audio codec that Kinesis does not accept; empty if all tracks are sent
        self.skipped = 0

    def start(self, tracks: Tracks) -> None:
        """Sets the tracks of the next units. A change of tracks or epoch ends the fragment.

        Raises OutputUnsupported.
        """
        supported = {t.kind: t for t in tracks if t.kind is _VIDEO or can_carry(t)}
        if supported == self._tracks and tracks.epoch == self._epoch:
            return
        self.finish()
        self.left_out = str(tracks.audio.codec) if tracks.audio is not None and not can_carry(tracks.audio) else ""
        if not supported:
            raise OutputUnsupported(
                f"Kinesis Video Streams supports AAC, not {self.left_out or 'a stream without tracks'}"
            )
        self._tracks, self._epoch, self._headers = supported, tracks.epoch, {}
        try:
            self._header(frozenset(supported))
            self._is_idr = _idr_test(supported[_VIDEO]) if _VIDEO in supported else _never
        except InvalidData as error:
            raise OutputUnsupported(f"Kinesis Video Streams does not support this stream: {error}") from None
        if self.left_out:
            log.warning("kinesis does not support this audio codec: sound is left out", codec=self.left_out)
        self._clock.restart()
        self._without_idr_since = None

    def add(self, unit: AccessUnit) -> None:
        """Adds the next unit in decode order. Raises OutputUnsupported. Hot path."""
        track = unit.track
        if track.kind not in self._tracks:
            return
        ms = unit.dts if track.timescale == 1000 else unit.dts * 1000 // track.timescale
        at = self._clock.time(ms, unit.wall, self._floor)
        if track.kind is _VIDEO:
            cts = unit.cts if track.timescale == 1000 else unit.cts * 1000 // track.timescale
            self._add_picture(unit, at, at + cts, ms)
        else:
            self._add_sound(unit, at)

    def finish(self) -> None:
        """Ends the fragment, at the stream's end or before units of another timeline. More units may follow."""
        if self._cut is not None:
            start = self._open.timecode if self._open is not None else None
            latest = max(pts for _, pts in self._held)
            if start is not None and latest - self._cut < MIN_MS and latest - start < MAX_MS:
                self._cut = None  # too short for its own fragment, and the open one has room
                for held in self._pop_held():
                    self._write(*held)
            else:
                self._release()
        for sound, at in self._early:
            if self._open is not None and at - self._open.timecode < MAX_MS:
                self._write(sound, at)
            else:
                self.skipped += 1
        self._early.clear()
        self._end()

    # ---- pictures ----

    def _add_picture(self, unit: AccessUnit, at: int, pts: int, ms: int) -> None:
        """Writes or holds a picture. at, pts: decode and presentation time, ms since 1970. ms: its media time."""
        if self._cut is not None:
            self._held.append((unit, pts))
            if at - self._cut_at >= HOLD_MS:
                self._release()
            return
        fragment = self._open
        idr = unit.key and self._is_idr(unit.payload)
        if idr and self._may_cut(fragment, pts):
            self._hold(unit, at, pts, ms)
            return
        if not idr:
            self._check_length(fragment, pts)
        if fragment is not None:
            # Sound before this picture belongs before any later cut.
            self._write_early(at)
        if fragment is not None and (idr or _VIDEO in fragment.kinds):
            self._write(unit, pts)
        else:
            self.skipped += 1

    def _check_length(self, fragment: KvsFragment | None, pts: int) -> None:
        """Checks that there is room for a picture that depends on earlier ones. Raises OutputUnsupported."""
        if fragment is None or _VIDEO not in fragment.kinds:
            since = self._without_idr_since = pts if self._without_idr_since is None else self._without_idr_since
        else:
            since = fragment.timecode
        if pts - since >= MAX_MS:
            self.finish()
            raise OutputUnsupported(
                f"no key frame (IDR) for {MAX_MS // 1000} s, the longest possible fragment in Kinesis Video Streams: "
                "set a shorter key frame interval in the encoder, or the channel's kvsTranscode"
            )

    def _may_cut(self, fragment: KvsFragment | None, pts: int) -> bool:
        if fragment is None:
            return True
        duration = pts - fragment.timecode
        # Sound may be so far ahead that it is later than every possible cut. Then a cut is made before MAX_MS.
        return duration >= MIN_MS and (pts > fragment.latest or duration >= MAX_MS // 2)

    def _hold(self, unit: AccessUnit, at: int, pts: int, ms: int) -> None:
        jump = self._clock.adjust(ms)
        if jump:
            log.warning("the clock was set forward: times of a kinesis stream jump ahead", milliseconds=jump)
            self._early = deque((u, t + jump) for u, t in self._early)
            at, pts = at + jump, pts + jump
        self._without_idr_since = None
        self._cut, self._cut_at, self._held = pts, at, [(unit, pts)]
        early, self._early = self._early, deque()
        for sound, time in early:
            self._add_sound(sound, time)
        if self._cut is not None and Kind.AUDIO not in self._tracks:
            self._release()

    def _release(self) -> None:
        """Cuts at the held IDR."""
        self._end()
        self._cut = None
        held = self._pop_held()
        # Pictures that lead an IDR (RADL) are shown before it.
        self._begin(min(time for _, time in held))
        for unit, time in held:
            self._write(unit, time)

    def _pop_held(self) -> list[_HeldUnit]:
        held, self._held = self._held, []
        return held

    # ---- sound ----

    def _add_sound(self, unit: AccessUnit, at: int) -> None:
        if self._cut is not None:
            # Sound from before the first fragment's first picture has no earlier fragment, so it waits.
            if at < self._cut and self._open is not None and at - self._open.timecode < MAX_MS:
                self._write(unit, at)
                return
            self._held.append((unit, at))
            if at >= self._cut:
                self._release()
        elif self._open is None and _VIDEO in self._tracks:
            self._early.append((unit, at))
            while at - self._early[0][1] > LEAD_MS:
                self._early.popleft()
                self.skipped += 1
        elif self._open is None or _VIDEO not in self._open.kinds:
            self._write_sound_only(unit, at)
        else:
            self._early.append((unit, at))
            # If the picture counts as stopped, all waiting sound is written without it.
            while self._early and (at - self._early[0][1] > EARLY_MS or _VIDEO not in self._open.kinds):
                self._write_without_picture(*self._early.popleft())

    def _write_without_picture(self, unit: AccessUnit, at: int) -> None:
        """Writes sound after the picture has stopped.

        It goes into the picture's fragment up to MAX_MS, then into sound-only fragments.
        """
        if self._open is not None and _VIDEO in self._open.kinds and at - self._open.timecode < MAX_MS:
            self._write(unit, at)
        else:
            self._write_sound_only(unit, at)

    def _write_sound_only(self, unit: AccessUnit, at: int) -> None:
        fragment = self._open
        if fragment is not None and at - fragment.timecode >= SOUND_ONLY_MS:
            self._end()
            fragment = None
        if fragment is None:
            at += self._clock.adjust(unit.dts * 1000 // unit.track.timescale)
            self._begin(at)
        self._write(unit, at)

    def _write_early(self, until: int) -> None:
        while self._early and self._early[0][1] <= until:
            unit, at = self._early.popleft()
            if self._open is not None and _VIDEO in self._open.kinds:
                self._write(unit, at)
            else:
                self._write_sound_only(unit, at)

    # ---- fragments ----

    def _begin(self, at: int) -> None:
        self._number += 1
        at = max(at, self._floor)
        self._open = KvsFragment(self._number, at, [cluster(at)])
        self._backlog.add(self._open)

    def _write(self, unit: AccessUnit, at: int) -> None:
        fragment = self._open
        assert fragment is not None, "a frame needs an open fragment"
        kind = unit.track.kind
        at = max(at, fragment.timecode)
        block = simple_block(NUMBERS[kind], min(at - fragment.timecode, 0x7FFF), unit.key, unit.payload)
        if fragment.size + len(block) > MAX_BYTES:
            self._end()
            self._held, self._cut = [], None
            raise OutputUnsupported(
                f"a group of pictures of more than {MAX_BYTES // 1_000_000} MB, the maximum size of a fragment in "
                "Kinesis Video Streams: set a shorter key frame interval in the encoder"
            )
        if at > fragment.latest:
            fragment.latest = at
        if kind not in fragment.kinds:
            fragment.kinds.add(kind)
            if len(fragment.kinds) == len(self._tracks):
                fragment.header = self._header(frozenset(fragment.kinds))
        self._backlog.append(fragment, block)

    def _end(self) -> None:
        fragment, self._open = self._open, None
        if fragment is None:
            return
        if not fragment.kinds:
            self._backlog.drop(fragment)  # its only frame was too large
            return
        if fragment.header is None:
            fragment.header = self._header(frozenset(fragment.kinds))
        fragment.complete = True
        self._floor = fragment.latest + 1
        self._backlog.notify()

    def _header(self, kinds: frozenset[Kind]) -> bytes:
        data = self._headers.get(kinds)
        if data is None:
            data = self._headers[kinds] = header(t for k, t in self._tracks.items() if k in kinds)
        return data


def _never(payload: bytes) -> bool:
    return False


def _idr_test(track: MediaTrack) -> Callable[[bytes], bool]:
    """Returns a function that checks whether a sample contains an IDR picture.

    Decoding can start at an IDR, and no later picture needs an earlier one.
    """
    if track.codec is Codec.H264:
        length = h264.parse_avcc(track.config).length_size
    else:
        length = h265.parse_hvcc(track.config).length_size

    def is_idr_unit(first_byte: int) -> bool:
        if track.codec is Codec.H264:
            return first_byte & 0x1F == h264.SLICE_IDR
        # ITU-T H.265 Table 7-1: IDR_W_RADL and IDR_N_LP. Pictures after a CRA picture may need older ones.
        return first_byte >> 1 & 0x3F in (19, 20)

    def is_idr(payload: bytes) -> bool:
        try:
            return any(is_idr_unit(unit[0]) for unit in nal.views(payload, length))
        except InvalidData:
            return False

    return is_idr
