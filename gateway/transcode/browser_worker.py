"""The browser worker: a MediaRecorder's bytes in, H.264 and AAC units out; copies what it can, encodes the rest."""

from __future__ import annotations

import sys
import time
from typing import Final

import av.logging

from gateway.formats.lanes import Lane, Opened, Packet
from gateway.formats.recording import RecordingReader
from gateway.media.errors import InvalidData
from gateway.media.h264_stream import H264Samples
from gateway.media.reorder import DecodeTimes
from gateway.media.track import Codec, Kind, Track
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.protocols.wire import Message
from gateway.transcode import child
from gateway.transcode.browser import BrowserMessage, BrowserPlan, Note
from gateway.transcode.browser_video import Encoding
from gateway.transcode.codec import CodecFailed
from gateway.transcode.lane_clock import LaneClock
from gateway.transcode.outlet import Outlet
from gateway.transcode.voice import Voice

_NOTE_SECONDS: Final = 0.5
_LEAP_SECONDS: Final = 2  # times that lie further apart are another reckoning, not pictures out of order


class PictureCopy:
    """H.264 of a recording, unchanged but for its framing; begins at a key frame."""

    def __init__(self, lane: Lane) -> None:
        """Raises InvalidData."""
        self._timescale = lane.timescale
        self._ordered = lane.ordered
        self._samples = H264Samples(lane.config)
        self._track: Track | None = None
        self._times: DecodeTimes | None = None
        self._shown = 0  # when the last picture is, ticks
        self.damaged = 0

    def take(self, packet: Packet) -> AccessUnit | None:
        """The unit of this sample, its times the recording's; None where it cannot be shown (yet)."""
        try:
            sample = self._samples.take(packet.payload, packet.key)
        except InvalidData:
            self.damaged += 1
            return None
        if sample is None or (self._track is None and not sample.key):
            return None
        if self._track is None or self._track.config != sample.config:
            self._track = Track(Kind.VIDEO, Codec.H264, self._timescale, sample.config)
            self._times = None
        dts, cts = packet.time, packet.cts
        if not self._ordered:
            if self._times is None or abs(packet.time - self._shown) > _LEAP_SECONDS * self._timescale:
                self._times = DecodeTimes(self._samples.reorder)
            self._shown = packet.time
            dts = self._times.stamp(packet.time)
            cts = packet.time - dts
        return AccessUnit(self._track, dts, cts, sample.key, 0.0, sample.payload)


class BrowserWorker:
    """Reads, tells lanes apart, gives sound to a Voice and pictures to a copy or to an Encoding's thread."""

    def __init__(self, link: child.Link) -> None:
        self._link = link
        self._plan = BrowserPlan()
        self._reader = RecordingReader()
        self._clock = LaneClock()
        self._outlet = Outlet(link.send)
        self._copy: PictureCopy | None = None
        self._encoding: Encoding | None = None
        self._coded_track: Track | None = None  # what the encoding decodes
        self._voice: Voice | None = None
        self._treated: tuple[str | None, str | None] = (None, None)  # pictures and sound of the last recording
        self._left_out: tuple[str, ...] = ()
        self._lost = [0, 0]  # pictures dropped, samples damaged, of recordings that are over
        self._noted = Note()
        self._noted_at = 0.0
        self._last_came = 0.0

    def work(self) -> None:
        """Until the push ends or the gateway closes the link. Raises InvalidData for what the gateway never sends."""
        while (received := self._link.receive()) is not None:
            kind, body = received
            if kind == BrowserMessage.DATA:
                try:
                    self._take(body)
                except (InvalidData, CodecFailed) as error:
                    self._fail(str(error))
                    return
            elif kind == BrowserMessage.PLAN:
                self._plan = BrowserPlan.from_json(wire.read_json(body))
            elif kind == Message.END:
                self._close()
                self._note(force=True)
                self._link.send(Message.END, wire.encode_end())
                return
            else:
                raise InvalidData(f"a frame of kind {kind}")

    # ---- the recording ----

    def _take(self, data: bytes) -> None:
        wall = time.time()
        for event in self._reader.receive(data):
            if isinstance(event, Opened):
                self._open(event)
            elif event.lane.kind is Kind.VIDEO:
                self._picture(event, wall)
            else:
                self._sound(event, wall)
        self._note()

    def _open(self, opened: Opened) -> None:
        """A recording begins: the one before is finished first."""
        self._close()
        now = time.monotonic()
        self._clock.restart(now - self._last_came if self._last_came else 0.0)
        self._left_out = opened.left_out
        if opened.video is None and opened.audio is None:
            raise InvalidData("; ".join(("nothing that can be used is in this recording", *opened.left_out)))
        video, audio = opened.video, opened.audio
        if video is not None and video.coding is Codec.H264:
            self._copy = PictureCopy(video)
        elif video is not None:
            assert isinstance(video.coding, Codec), "foreign codings are of sound"
            self._coded_track = Track(Kind.VIDEO, video.coding, video.timescale, video.config)
        try:
            self._voice = None if audio is None else Voice(audio)
        except CodecFailed as error:
            # Pictures without their sound are better than none.
            if video is None:
                raise
            self._left_out = (*self._left_out, str(error))
        promised = [kind for kind, there in ((Kind.VIDEO, video), (Kind.AUDIO, self._voice)) if there is not None]
        self._outlet.open(promised)
        sound = None if self._voice is None else "copy" if self._voice.copied else "transcode"
        self._treated = (None if video is None else "copy" if self._copy is not None else "transcode", sound)
        if self._voice is not None:
            self._outlet.track(self._voice.track)
        if self._coded_track is not None:
            self._encoding = Encoding(self._coded_track, self._plan, self._outlet)

    def _close(self) -> None:
        """What is inside comes out."""
        if self._voice is not None:
            self._heard(self._voice.flush())
        if self._encoding is not None:
            self._encoding.finish()
            self._mind_hanging()
        self._outlet.flush()
        counted = self._count()
        self._lost = [counted.dropped, counted.damaged]
        self._copy = self._encoding = self._coded_track = self._voice = None

    def _picture(self, packet: Packet, wall: float) -> None:
        self._last_came = time.monotonic()
        if self._copy is not None:
            unit = self._copy.take(packet)
            if unit is not None:
                self._place(unit, wall)
                self._outlet.track(unit.track)
                self._outlet.units((unit,))
        elif self._encoding is not None and self._coded_track is not None:
            unit = AccessUnit(self._coded_track, packet.time, packet.cts, packet.key, wall, packet.payload)
            self._place(unit, wall)
            self._mind_hanging()
            self._encoding.put(unit)

    def _sound(self, packet: Packet, wall: float) -> None:
        self._last_came = time.monotonic()
        if self._voice is not None:
            dts, _ = self._clock.stamp(Kind.AUDIO, packet.time, packet.lane.timescale)
            self._heard(self._voice.take(dts, wall, packet.payload))

    def _heard(self, units: list[AccessUnit]) -> None:
        if self._encoding is None:
            self._outlet.units(units)
        else:
            for unit in units:
                self._encoding.put(unit)

    def _place(self, unit: AccessUnit, wall: float) -> None:
        """On the push's clock; what is shown when stays, even where the decode time had to be moved."""
        dts, later = self._clock.stamp(Kind.VIDEO, unit.dts, unit.track.timescale)
        unit.dts, unit.cts, unit.wall = dts, unit.cts - later, wall

    def _mind_hanging(self) -> None:
        if self._encoding is not None and self._encoding.stuck:
            child.say("a codec hangs")
            child.leave(1)

    # ---- what is told ----

    def _count(self) -> Note:
        dropped, damaged = self._lost
        behind = 0.0
        if self._encoding is not None:
            dropped, damaged = dropped + self._encoding.dropped, damaged + self._encoding.damaged
            behind = round(self._encoding.behind, 2)
        if self._copy is not None:
            damaged += self._copy.damaged
        if self._voice is not None:
            damaged += self._voice.damaged
        return Note(*self._treated, dropped, damaged, behind, self._left_out)

    def _note(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._noted_at < _NOTE_SECONDS:
            return
        note = self._count()
        if note != self._noted:
            self._noted, self._noted_at = note, now
            self._link.send(BrowserMessage.NOTE, wire.write_json(note.to_json()))

    def _fail(self, reason: str) -> None:
        self._link.send(BrowserMessage.FAILED, wire.write_json({"reason": reason}))


def work(link: child.Link) -> None:
    """One push, then the end."""
    av.logging.set_level(av.logging.PANIC)
    BrowserWorker(link).work()
    child.leave(0)


if __name__ == "__main__":
    sys.exit(child.run(work))
