"""The browser worker: converts a MediaRecorder's bytes to H.264 and AAC units. Copies if possible, else encodes."""

from __future__ import annotations

import sys
import time
from typing import Final

import av.logging

from gateway.formats.media_recorder import RecordingReader
from gateway.formats.recording import Packet, RecordedTrack, RecordingOpened
from gateway.media.clock import DecodeTimes
from gateway.media.errors import InvalidData
from gateway.media.h264_stream import H264Samples
from gateway.media.track import Codec, Kind, MediaTrack
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.workers.browser_protocol import BrowserMessage, BrowserPlan, BrowserReport
from gateway.workers.programs import program
from gateway.workers.programs.browser.aac_transcoder import AacTranscoder
from gateway.workers.programs.browser.browser_video import BrowserVideoEncoder
from gateway.workers.programs.browser.lane_clock import TrackClock
from gateway.workers.programs.browser.unit_writer import UnitWriter
from gateway.workers.programs.codec import CodecFailed

_NOTE_SECONDS: Final = 0.5
_LEAP_SECONDS: Final = 2  # a larger step is a new timeline, not a reordered picture


class PictureCopy:
    """Copies the H.264 of a recording and changes only its framing. Begins at a key frame."""

    def __init__(self, lane: RecordedTrack) -> None:
        """Raises InvalidData."""
        self._timescale = lane.timescale
        self._ordered = lane.ordered
        self._samples = H264Samples(lane.config)
        self._track: MediaTrack | None = None
        self._times: DecodeTimes | None = None
        self._shown = 0  # presentation time of the last picture, ticks
        self.damaged = 0

    def take(self, packet: Packet) -> AccessUnit | None:
        """Returns the unit of this sample with the times of the recording; None if it cannot be shown (yet)."""
        try:
            sample = self._samples.take(packet.payload, packet.key)
        except InvalidData:
            self.damaged += 1
            return None
        if sample is None or (self._track is None and not sample.key):
            return None
        if self._track is None or self._track.config != sample.config:
            self._track = MediaTrack(Kind.VIDEO, Codec.H264, self._timescale, sample.config)
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
    """Reads the recording. Gives audio to an AacTranscoder, and video to a PictureCopy or a BrowserVideoEncoder."""

    def __init__(self, link: program.ParentLink) -> None:
        self._link = link
        self._plan = BrowserPlan()
        self._reader = RecordingReader()
        self._clock = TrackClock()
        self._unit_writer = UnitWriter(link.send)
        self._copy: PictureCopy | None = None
        self._encoding: BrowserVideoEncoder | None = None
        self._coded_track: MediaTrack | None = None  # the track that `_encoding` decodes
        self._voice: AacTranscoder | None = None
        self._treated: tuple[str | None, str | None] = (None, None)  # "copy" or "transcode", of video and audio
        self._left_out: tuple[str, ...] = ()
        self._lost = [0, 0]  # pictures dropped and samples damaged in the earlier recordings of this push
        self._noted = BrowserReport()
        self._noted_at = 0.0
        self._last_came = 0.0

    def work(self) -> None:
        """Runs until END or until the gateway closes the link. Raises InvalidData for an invalid or unknown frame."""
        while (received := self._link.receive()) is not None:
            kind, body = received
            if kind == BrowserMessage.DATA:
                try:
                    self._take(body)
                except (InvalidData, CodecFailed) as error:
                    self._link.send_json(BrowserMessage.FAILED, reason=str(error))
                    return
            elif kind == BrowserMessage.PLAN:
                self._plan = BrowserPlan.from_json(wire.read_json(body))
            elif kind == StreamMessage.END:
                self._close()
                self._note(force=True)
                self._link.send_end()
                return
            else:
                raise InvalidData(f"a frame of kind {kind}")

    # ---- the recording ----

    def _take(self, data: bytes) -> None:
        wall = time.time()
        for event in self._reader.receive(data):
            if isinstance(event, RecordingOpened):
                self._open(event)
            elif event.track.kind is Kind.VIDEO:
                self._picture(event, wall)
            else:
                self._sound(event, wall)
        self._note()

    def _open(self, opened: RecordingOpened) -> None:
        """Begins a recording, after finishing the one before."""
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
            self._coded_track = MediaTrack(Kind.VIDEO, video.coding, video.timescale, video.config)
        try:
            self._voice = None if audio is None else AacTranscoder(audio)
        except CodecFailed as error:
            # If only the audio fails, the video goes on without it.
            if video is None:
                raise
            self._left_out = (*self._left_out, str(error))
        promised = [kind for kind, there in ((Kind.VIDEO, video), (Kind.AUDIO, self._voice)) if there is not None]
        self._unit_writer.open(promised)
        sound = None if self._voice is None else "copy" if self._voice.copied else "transcode"
        self._treated = (None if video is None else "copy" if self._copy is not None else "transcode", sound)
        if self._voice is not None:
            self._unit_writer.track(self._voice.track)
        if self._coded_track is not None:
            self._encoding = BrowserVideoEncoder(self._coded_track, self._plan, self._unit_writer)

    def _close(self) -> None:
        """Finishes the recording: sends everything that is held back, and adds up the losses."""
        if self._voice is not None:
            self._heard(self._voice.flush())
        if self._encoding is not None:
            self._encoding.finish()
            self._mind_hanging()
        self._unit_writer.flush()
        counted = self._count()
        self._lost = [counted.dropped, counted.damaged]
        self._copy = self._encoding = self._coded_track = self._voice = None

    def _picture(self, packet: Packet, wall: float) -> None:
        self._last_came = time.monotonic()
        if self._copy is not None:
            unit = self._copy.take(packet)
            if unit is not None:
                self._place(unit, wall)
                self._unit_writer.track(unit.track)
                self._unit_writer.units((unit,))
        elif self._encoding is not None and self._coded_track is not None:
            unit = AccessUnit(self._coded_track, packet.time, packet.cts, packet.key, wall, packet.payload)
            self._place(unit, wall)
            self._mind_hanging()
            self._encoding.put(unit)

    def _sound(self, packet: Packet, wall: float) -> None:
        self._last_came = time.monotonic()
        if self._voice is not None:
            dts, _ = self._clock.stamp(Kind.AUDIO, packet.time, packet.track.timescale)
            self._heard(self._voice.take(dts, wall, packet.payload))

    def _heard(self, units: list[AccessUnit]) -> None:
        if self._encoding is None:
            self._unit_writer.units(units)
        else:
            for unit in units:
                self._encoding.put(unit)

    def _place(self, unit: AccessUnit, wall: float) -> None:
        """Sets the unit's times on the push's timeline. A moved decode time does not move the presentation time."""
        dts, later = self._clock.stamp(Kind.VIDEO, unit.dts, unit.track.timescale)
        unit.dts, unit.cts, unit.wall = dts, unit.cts - later, wall

    def _mind_hanging(self) -> None:
        if self._encoding is not None and self._encoding.stuck:
            program.log_reason("a codec hangs")
            program.exit_now(1)

    # ---- what is told ----

    def _count(self) -> BrowserReport:
        dropped, damaged = self._lost
        behind = 0.0
        if self._encoding is not None:
            dropped, damaged = dropped + self._encoding.dropped, damaged + self._encoding.damaged
            behind = round(self._encoding.behind, 2)
        if self._copy is not None:
            damaged += self._copy.damaged
        if self._voice is not None:
            damaged += self._voice.damaged
        return BrowserReport(*self._treated, dropped, damaged, behind, self._left_out)

    def _note(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._noted_at < _NOTE_SECONDS:
            return
        note = self._count()
        if note != self._noted:
            self._noted, self._noted_at = note, now
            self._link.send_json(BrowserMessage.NOTE, **note.to_json())


def work(link: program.ParentLink) -> None:
    """Serves one push, then ends the process."""
    av.logging.set_level(av.logging.PANIC)
    BrowserWorker(link).work()
    program.exit_now(0)


if __name__ == "__main__":
    sys.exit(program.run(work))
