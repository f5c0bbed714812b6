"""Cuts a stream into fragments that Kinesis Video Streams accepts, each beginning with an IDR picture."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

import structlog

from gateway.formats.mkv.writer import NUMBERS, can_carry, cluster, header, simple_block
from gateway.media import h264, h265, nal
from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.outputs.kinesis.epoch_clock import EpochClock
from gateway.outputs.kinesis.fragment_backlog import FragmentBacklog, KvsFragment
from gateway.ports.errors import OutputUnsupported

log = structlog.get_logger(__name__)

# Limits of the service, https://docs.aws.amazon.com/kinesisvideostreams/latest/dg/limits.html: a fragment lasts 1 to 20
# seconds and has at most 50 MB.
LEAST_MS: Final = 1_000
MAX_MS: Final = 20_000
MAX_BYTES: Final = 50_000_000
SOUND_ONLY_MS: Final = 2_000  # duration of a fragment with only sound
HOLD_MS: Final = 400  # the longest time that an IDR waits for the sound to reach it
LEAD_MS: Final = 500  # of sound before the first picture that is kept
EARLY_MS: Final = 3_000  # when sound is this far ahead of the picture, the picture counts as stopped

_VIDEO: Final = Kind.VIDEO
_Waiting: TypeAlias = "tuple[AccessUnit, int]"  # with its presentation time


class Fragmenter:
    """Takes a stream's tracks and units, and fills a FragmentBacklog. It does no I/O and uses only the units' times.

    A fragment is one or more whole GOPs, at least LEAST_MS long.
    It is cut at an IDR by its presentation time; sound before that time goes to the old fragment.
    So the IDR is held until the sound has reached it (HOLD_MS at most), and early sound waits for its picture.
    No frame is earlier than the latest frame of the fragment before.
    A frame that is too late for its own fragment is shown at the beginning of the next one.
    `skipped` counts units before the first IDR.

    A fragment's header names the tracks that it has frames of, because Kinesis refuses a track without frames.
    The header is known when each track has had a frame, at the latest at the fragment's end.

    Raises OutputUnsupported for codecs that Kinesis does not accept, and if MAX_MS or MAX_BYTES pass without an IDR.
    """

    def __init__(self, out: FragmentBacklog) -> None:
        self._out = out
        self._clock = EpochClock()
        self._number = 0
        self._tracks: dict[Kind, MediaTrack] = {}
        self._epoch: int | None = None
        self._headers: dict[frozenset[Kind], bytes] = {}
        self._is_idr: Callable[[bytes], bool] = _never
        self._open: KvsFragment | None = None
        self._floor = 0  # one millisecond after the latest frame of all fragments that have ended
        self._cut: int | None = None  # presentation time of the IDR that is held
        self._cut_at = 0  # its decode time
        self._held: list[_Waiting] = []
        self._early: deque[_Waiting] = deque()
        self._starving: int | None = None  # time of the first picture since when no fragment could begin
        self.left_out = ""  # the audio codec that Kinesis does not accept
        self.skipped = 0

    def start(self, tracks: Tracks) -> None:
        """Takes the tracks of the units that follow. A change of tracks or epoch ends the fragment. Raises
        OutputUnsupported.
        """
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
        """Takes the next unit in decode order. Raises OutputUnsupported. Hot path."""
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
        """Ends the fragment: nothing follows, or what follows does not continue it. More units may be added later."""
        if self._cut is not None:
            start = self._open.timecode if self._open is not None else None
            latest = max(shown for _, shown in self._held)
            if start is not None and latest - self._cut < LEAST_MS and latest - start < MAX_MS:
                self._cut = None  # too short for its own fragment, and the old one has room
                for waiting in self._take_held():
                    self._write(*waiting)
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
            # Sound before this picture cannot belong after a later cut.
            self._write_early(at)
        if fragment is not None and (idr or _VIDEO in fragment.kinds):
            self._write(unit, shown)
        else:
            self.skipped += 1

    def _check_picture(self, fragment: KvsFragment | None, shown: int) -> None:
        """Checks that there is room for a picture that depends on earlier ones. Raises OutputUnsupported."""
        if fragment is None or _VIDEO not in fragment.kinds:
            since = self._starving = shown if self._starving is None else self._starving
        else:
            since = fragment.timecode
        if shown - since >= MAX_MS:
            self.finish()
            raise OutputUnsupported(
                f"no key frame (IDR) for {MAX_MS // 1000} s, the longest fragment that Kinesis Video Streams takes: "
                "set a shorter key frame interval in the encoder, or the channel's kvsTranscode"
            )

    def _may_cut(self, fragment: KvsFragment | None, shown: int) -> bool:
        if fragment is None:
            return True
        lasts = shown - fragment.timecode
        # If the sound is so far ahead that it is after every cut, a cut is made anyway before MAX_MS.
        return lasts >= LEAST_MS and (shown > fragment.latest or lasts >= MAX_MS // 2)

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
            # Before the first fragment, there is no older one for sound from before its first picture.
            if at < self._cut and self._open is not None and at - self._open.timecode < MAX_MS:
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
            # When the picture counts as stopped, all sound that waited for it continues without it.
            while self._early and (at - self._early[0][1] > EARLY_MS or _VIDEO not in self._open.kinds):
                self._without_picture(*self._early.popleft())

    def _without_picture(self, unit: AccessUnit, at: int) -> None:
        """Writes sound after the picture has stopped: into its fragment while there is room, then into sound-only
        fragments.
        """
        if self._open is not None and _VIDEO in self._open.kinds and at - self._open.timecode < MAX_MS:
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
        self._open = KvsFragment(self._number, at, cluster(at))
        self._out.add(self._open)

    def _write(self, unit: AccessUnit, at: int) -> None:
        fragment = self._open
        assert fragment is not None, "a frame is written into an open fragment"
        kind = unit.track.kind
        at = max(at, fragment.timecode)
        block = simple_block(NUMBERS[kind], min(at - fragment.timecode, 0x7FFF), unit.key, unit.payload)
        if fragment.size + len(block) > MAX_BYTES:
            self._end()
            self._held, self._cut = [], None
            raise OutputUnsupported(
                f"a group of pictures of more than {MAX_BYTES // 1_000_000} MB, the largest fragment that Kinesis "
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


def _idr_of(track: MediaTrack) -> Callable[[bytes], bool]:
    """Returns a function that tells whether a sample holds an IDR picture.

    Decoding can start at an IDR, and no later picture needs an earlier one.
    """
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
            # ITU-T H.265 Table 7-1: IDR_W_RADL and IDR_N_LP. Pictures after a CRA picture may need older ones.
            return any(unit[0] >> 1 & 0x3F in (19, 20) for unit in nal.views(payload, length))
        except InvalidData:
            return False

    return is_idr_265
