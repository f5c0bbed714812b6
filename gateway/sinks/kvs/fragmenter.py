"""Fragmenter: cuts a stream into fragments that Kinesis Video Streams takes, each beginning with an IDR picture."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

import structlog

from gateway.formats.mkv.cluster import cluster, simple_block
from gateway.formats.mkv.header import NUMBERS, can_carry, header
from gateway.hub.errors import OutputUnsupported
from gateway.media import h264, h265, nal
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, Track, Tracks
from gateway.media.unit import AccessUnit
from gateway.sinks.kvs.backlog import Backlog, Fragment
from gateway.sinks.kvs.clock import EpochClock

log = structlog.get_logger(__name__)

# Limits of the service, https://docs.aws.amazon.com/kinesisvideostreams/latest/dg/limits.html: a fragment lasts 1 to 20
# seconds and has at most 50 MB.
LEAST_MS: Final = 1_000
MOST_MS: Final = 20_000
MOST_BYTES: Final = 50_000_000
SOUND_ONLY_MS: Final = 2_000  # a fragment of sound alone
HOLD_MS: Final = 400  # how long an IDR waits for the sound to reach it
LEAD_MS: Final = 500  # of sound that is kept from before the first picture
EARLY_MS: Final = 3_000  # how far sound may run ahead of the picture before the picture counts as gone

_VIDEO: Final = Kind.VIDEO
_Waiting: TypeAlias = "tuple[AccessUnit, int]"  # with its presentation time


class Fragmenter:
    """Fed with a stream's tracks and units, fills a Backlog. No I/O, no clock but the units' own.

    A fragment is whole groups of pictures of at least LEAST_MS. It is cut at an IDR by its presentation time: sound
    before that goes to the old fragment, so the IDR is held until the sound has reached it (HOLD_MS at most), and sound
    that comes before its picture waits for it. No frame is ever earlier than the latest of the fragment before; what
    comes too late for its own fragment is shown at the next one's beginning. `skipped` counts what came before the
    first IDR.

    A fragment's header names the tracks that it has frames of (Kinesis refuses a track without): it is known as soon as
    each track had one, at the latest with the fragment's end.

    Raises OutputUnsupported for codecs that Kinesis does not take and where MOST_MS or MOST_BYTES pass without an IDR.
    """

    def __init__(self, out: Backlog) -> None:
        self._out = out
        self._clock = EpochClock()
        self._number = 0
        self._tracks: dict[Kind, Track] = {}
        self._epoch: int | None = None
        self._headers: dict[frozenset[Kind], bytes] = {}
        self._is_idr: Callable[[bytes], bool] = _never
        self._open: Fragment | None = None
        self._floor = 0  # one millisecond behind the latest frame of all fragments that have ended
        self._cut: int | None = None  # presentation time of the IDR that is held
        self._cut_at = 0  # its decode time
        self._held: list[_Waiting] = []
        self._early: deque[_Waiting] = deque()
        self._starving: int | None = None  # since when pictures came that no fragment can begin with
        self.left_out = ""  # the codec of sound that Kinesis does not take
        self.skipped = 0

    def start(self, tracks: Tracks) -> None:
        """What follows; a change of the tracks or of the epoch ends the fragment. Raises OutputUnsupported."""
        wanted = {t.kind: t for t in tracks if t.kind is _VIDEO or can_carry(t)}
        if wanted == self._tracks and tracks.epoch == self._epoch:
            return
        self.finish()
        self.left_out = str(tracks.audio.codec) if tracks.audio is not None and not can_carry(tracks.audio) else ""
        if not wanted:
            raise OutputUnsupported(
                f"Kinesis Video Streams takes AAC, not {self.left_out or 'a stream without tracks'}"
            )
        self._tracks, self._epoch, self._headers = wanted, tracks.epoch, {}
        try:
            self._header(frozenset(wanted))
            self._is_idr = _idr_of(wanted[_VIDEO]) if _VIDEO in wanted else _never
        except InvalidData as error:
            raise OutputUnsupported(f"Kinesis Video Streams cannot take this stream: {error}") from None
        if self.left_out:
            log.warning("kinesis takes no such sound: it is left out", codec=self.left_out)
        self._clock.restart()
        self._starving = None

    def add(self, unit: AccessUnit) -> None:
        """Hot: the next unit in decode order. Raises OutputUnsupported."""
        track = unit.track
        if track.kind not in self._tracks:
            return
        ms = unit.dts if track.timescale == 1000 else unit.dts * 1000 // track.timescale
        at = self._clock.time(ms, unit.wall, self._floor)
        if track.kind is _VIDEO:
            cts = unit.cts if track.timescale == 1000 else unit.cts * 1000 // track.timescale
            self._picture(unit, at, at + cts, ms)
        else:
            self._sound(unit, at)

    def finish(self) -> None:
        """Ends the fragment: nothing follows, or what follows does not continue it. More may be added later."""
        if self._cut is not None:
            start = self._open.timecode if self._open is not None else None
            latest = max(shown for _, shown in self._held)
            if start is not None and latest - self._cut < LEAST_MS and latest - start < MOST_MS:
                self._cut = None  # too short for a fragment of its own, and the old one has room
                for waiting in self._take_held():
                    self._write(*waiting)
            else:
                self._release()
        for sound, at in self._early:
            if self._open is not None and at - self._open.timecode < MOST_MS:
                self._write(sound, at)
            else:
                self.skipped += 1
        self._early.clear()
        self._end()

    # ---- pictures ----

    def _picture(self, unit: AccessUnit, at: int, shown: int, ms: int) -> None:
        if self._cut is not None:
            self._held.append((unit, shown))
            if at - self._cut_at >= HOLD_MS:
                self._release()
            return
        fragment = self._open
        idr = unit.key and self._is_idr(unit.payload)
        if idr and self._may_cut(fragment, shown):
            self._hold(unit, at, shown, ms)
            return
        if not idr:
            self._check_picture(fragment, shown)
        if fragment is not None:
            # What sounds before this picture cannot lie behind a later cut.
            self._write_early(at)
        if fragment is not None and (idr or _VIDEO in fragment.kinds):
            self._write(unit, shown)
        else:
            self.skipped += 1

    def _check_picture(self, fragment: Fragment | None, shown: int) -> None:
        """A picture that needs those before it: there has to be room for it."""
        if fragment is None or _VIDEO not in fragment.kinds:
            since = self._starving = shown if self._starving is None else self._starving
        else:
            since = fragment.timecode
        if shown - since >= MOST_MS:
            self.finish()
            raise OutputUnsupported(
                f"no key frame (IDR) for {MOST_MS // 1000} s, the longest fragment that Kinesis Video Streams takes: "
                "set a shorter key frame interval in the encoder, or the channel's kvsTranscode"
            )

    def _may_cut(self, fragment: Fragment | None, shown: int) -> bool:
        if fragment is None:
            return True
        lasts = shown - fragment.timecode
        # Where the sound runs so far ahead that it lies behind every cut, one is made all the same in time.
        return lasts >= LEAST_MS and (shown > fragment.latest or lasts >= MOST_MS // 2)

    def _hold(self, unit: AccessUnit, at: int, shown: int, ms: int) -> None:
        leap = self._clock.settle(ms)
        if leap:
            log.warning("the clock moved: times of a kinesis stream leap ahead", milliseconds=leap)
            self._early = deque((u, t + leap) for u, t in self._early)
            at, shown = at + leap, shown + leap
        self._starving = None
        self._cut, self._cut_at, self._held = shown, at, [(unit, shown)]
        early, self._early = self._early, deque()
        for sound, time in early:
            self._sound(sound, time)
        if self._cut is not None and Kind.AUDIO not in self._tracks:
            self._release()

    def _release(self) -> None:
        """Cuts at the held IDR."""
        self._end()
        self._cut = None
        held = self._take_held()
        # Pictures that lead an IDR (RADL) are shown before it.
        self._begin(min(time for _, time in held))
        for unit, time in held:
            self._write(unit, time)

    def _take_held(self) -> list[_Waiting]:
        held, self._held = self._held, []
        return held

    # ---- sound ----

    def _sound(self, unit: AccessUnit, at: int) -> None:
        if self._cut is not None:
            # Before the first fragment there is no older one that could take what sounds before its first picture.
            if at < self._cut and self._open is not None and at - self._open.timecode < MOST_MS:
                self._write(unit, at)
                return
            self._held.append((unit, at))
            if at >= self._cut:
                self._release()
        elif _VIDEO not in self._tracks:
            self._sound_alone(unit, at)
        elif self._open is None:
            self._early.append((unit, at))
            while at - self._early[0][1] > LEAD_MS:
                self._early.popleft()
                self.skipped += 1
        elif _VIDEO not in self._open.kinds:
            self._sound_alone(unit, at)
        else:
            self._early.append((unit, at))
            # Once the picture counts as gone, all that waited for it goes on without.
            while self._early and (at - self._early[0][1] > EARLY_MS or _VIDEO not in self._open.kinds):
                self._without_picture(*self._early.popleft())

    def _without_picture(self, unit: AccessUnit, at: int) -> None:
        """The picture has stopped: its fragment goes on with sound, then come fragments of sound alone."""
        if self._open is not None and _VIDEO in self._open.kinds and at - self._open.timecode < MOST_MS:
            self._write(unit, at)
            return
        if self._open is not None and _VIDEO in self._open.kinds:
            self._end()
        self._sound_alone(unit, at)

    def _sound_alone(self, unit: AccessUnit, at: int) -> None:
        fragment = self._open
        if fragment is not None and at - fragment.timecode >= SOUND_ONLY_MS:
            self._end()
            fragment = None
        if fragment is None:
            at += self._clock.settle(unit.dts * 1000 // unit.track.timescale)
            self._begin(at)
        self._write(unit, at)

    def _write_early(self, until: int) -> None:
        early = self._early
        while early and early[0][1] <= until:
            unit, at = early.popleft()
            if self._cut is not None or self._open is None:
                self._sound(unit, at)
            elif _VIDEO in self._open.kinds:
                self._write(unit, at)
            else:
                self._sound_alone(unit, at)

    # ---- fragments ----

    def _begin(self, at: int) -> None:
        self._number += 1
        at = max(at, self._floor)
        self._open = Fragment(self._number, at, cluster(at))
        self._out.add(self._open)

    def _write(self, unit: AccessUnit, at: int) -> None:
        fragment = self._open
        assert fragment is not None, "a frame is written into an open fragment"
        kind = unit.track.kind
        at = max(at, fragment.timecode)
        block = simple_block(NUMBERS[kind], min(at - fragment.timecode, 0x7FFF), unit.key, unit.payload)
        if fragment.size + len(block) > MOST_BYTES:
            self._end()
            self._held, self._cut = [], None
            raise OutputUnsupported(
                f"a group of pictures of more than {MOST_BYTES // 1_000_000} MB, the largest fragment that Kinesis "
                "Video Streams takes: set a shorter key frame interval in the encoder"
            )
        if at > fragment.latest:
            fragment.latest = at
        if kind not in fragment.kinds:
            fragment.kinds.add(kind)
            if len(fragment.kinds) == len(self._tracks):
                fragment.header = self._header(frozenset(fragment.kinds))
        self._out.append(fragment, block)

    def _end(self) -> None:
        fragment, self._open = self._open, None
        if fragment is None:
            return
        if not fragment.kinds:
            self._out.drop(fragment)  # it was opened for a frame that is too large
            return
        if fragment.header is None:
            fragment.header = self._header(frozenset(fragment.kinds))
        fragment.complete = True
        self._floor = fragment.latest + 1
        self._out.notify()

    def _header(self, kinds: frozenset[Kind]) -> bytes:
        made = self._headers.get(kinds)
        if made is None:
            made = self._headers[kinds] = header(t for k, t in self._tracks.items() if k in kinds)
        return made


def _never(payload: bytes) -> bool:
    return False


def _idr_of(track: Track) -> Callable[[bytes], bool]:
    """Whether a sample of the track holds an IDR picture: decoding can start there, and nothing behind needs more."""
    if track.codec is Codec.H264:
        length = h264.parse_avcc(track.config).length_size

        def is_idr(payload: bytes) -> bool:
            try:
                return any(unit[0] & 0x1F == h264.SLICE_IDR for unit in nal.views(payload, length))
            except InvalidData:
                return False

        return is_idr
    length = h265.parse_hvcc(track.config).length_size

    def is_idr_265(payload: bytes) -> bool:
        try:
            # ITU-T H.265 Table 7-1: IDR_W_RADL and IDR_N_LP. What follows a CRA picture may need older ones.
            return any(unit[0] >> 1 & 0x3F in (19, 20) for unit in nal.views(payload, length))
        except InvalidData:
            return False

    return is_idr_265
