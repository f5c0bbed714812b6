"""The browser worker: converts MediaRecorder data to H.264 and AAC. It copies if possible, else it encodes."""

import sys
import time
from dataclasses import asdict
from typing import Final

from gateway.formats.media_recorder import RecordingReader
from gateway.formats.recording import ForeignCodec, Packet, RecordedTrack, RecordingOpened
from gateway.media.clock import PublisherTimeline
from gateway.media.errors import InvalidData
from gateway.media.framed_units import NalPictures
from gateway.media.track import AccessUnit, Codec, ForeignSound, Kind, MediaTrack
from gateway.protocols import wire
from gateway.protocols.wire import StreamMessage
from gateway.workers.browser_protocol import BrowserPlan, BrowserReport
from gateway.workers.messages import WorkerMessage
from gateway.workers.programs import program
from gateway.workers.programs.audio_codec import AudioDecoder, AudioEncoder, SoundConverter, open_foreign
from gateway.workers.programs.browser.browser_video import BrowserVideoEncoder
from gateway.workers.programs.codec import CodecFailed
from gateway.workers.programs.unit_writer import UnitWriter
from gateway.workers.sound_protocol import BITRATES

_REPORT_SECONDS: Final = 0.5  # between two reports, at least
_START_MS: Final = 1000  # time of the first sample; not 0, because the other track may begin a little earlier
_MIN_GAP_MS: Final = 33  # between the last sample of one recording and the first of the next
_TRACKS: Final = {Kind.VIDEO: 0, Kind.AUDIO: 1}  # track numbers of `PublisherTimeline`
_MASK: Final = (1 << 32) - 1  # `PublisherTimeline` reads 32-bit times


class H264Copy:
    """Copies the H.264 of a recording; only the NAL framing changes. Begins at a key frame."""

    def __init__(self, recording: RecordedTrack) -> None:
        """Raises InvalidData."""
        self._pictures = NalPictures(Codec.H264, recording.config, recording.timescale)
        self._ordered = recording.has_decode_times
        self.damaged = 0

    def take(self, packet: Packet) -> AccessUnit | None:
        """Returns the unit of this sample, with the times of the recording; None if it cannot be decoded (yet)."""
        dts = packet.time if self._ordered else None
        try:
            return self._pictures.make_unit(packet.payload, packet.time + packet.cts, dts, flagged=packet.key)
        except InvalidData:
            self.damaged += 1
            return None


class BrowserWorker:
    """Reads the recording. Sends audio to an AacTranscoder, and video to a H264Copy or a BrowserVideoEncoder."""

    def __init__(self, link: program.ParentLink) -> None:
        self._link = link
        self._plan = BrowserPlan()
        self._reader = RecordingReader()
        self._clock = RecordingClock()
        self._unit_writer = UnitWriter(link.send_tracks, link.send_units)
        self._copy: H264Copy | None = None
        self._video_encoder: BrowserVideoEncoder | None = None
        self._video_track: MediaTrack | None = None  # the track that `_video_encoder` decodes
        self._audio: AacTranscoder | None = None
        self._track_modes: tuple[str | None, str | None] = (None, None)  # "copy" or "transcode", of video and audio
        self._unusable_tracks: tuple[str, ...] = ()
        self._earlier_losses = (0, 0)  # dropped pictures and damaged samples of the earlier recordings of this push
        self._last_report = BrowserReport()
        self._last_report_at = 0.0
        self._last_packet_at = 0.0

    def work(self) -> None:
        """Runs until END or until the gateway closes the link. Raises InvalidData for an invalid or unknown frame."""
        while (received := self._link.receive()) is not None:
            kind, body = received
            if kind == WorkerMessage.DATA:
                try:
                    self._take(body)
                except (InvalidData, CodecFailed) as error:
                    self._link.send(WorkerMessage.FAILED, str(error).encode())
                    return
            elif kind == WorkerMessage.SETUP:
                self._plan = wire.decode_record(BrowserPlan, body)
            elif kind == StreamMessage.END:
                self._close()
                self._send_report(force=True)
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
                self._on_video(event, wall)
            else:
                self._on_audio(event, wall)
        self._send_report()

    def _open(self, opened: RecordingOpened) -> None:
        """Finishes the previous recording, then starts this one. Raises InvalidData, CodecFailed."""
        self._close()
        now = time.monotonic()
        self._clock.restart(now - self._last_packet_at if self._last_packet_at else 0.0)
        self._unusable_tracks = opened.left_out
        if opened.video is None and opened.audio is None:
            raise InvalidData("; ".join(("the recording has no usable track", *opened.left_out)))
        video, audio = opened.video, opened.audio
        if video is not None and video.coding is Codec.H264:
            self._copy = H264Copy(video)
        elif video is not None:
            assert isinstance(video.coding, Codec), "only audio can use a codec outside `Codec`"
            self._video_track = MediaTrack(Kind.VIDEO, video.coding, video.timescale, video.config)
        try:
            self._audio = None if audio is None else AacTranscoder(audio)
        except CodecFailed as error:
            # If only the audio fails, the video continues without it.
            if video is None:
                raise
            self._unusable_tracks = (*self._unusable_tracks, str(error))
        expected = [kind for kind, track in ((Kind.VIDEO, video), (Kind.AUDIO, self._audio)) if track is not None]
        self._unit_writer.open(expected)
        video_mode = None if video is None else "copy" if self._copy is not None else "transcode"
        audio_mode = None if self._audio is None else "copy" if self._audio.copied else "transcode"
        self._track_modes = video_mode, audio_mode
        if self._audio is not None:
            self._unit_writer.set_track(self._audio.track)
        if self._video_track is not None:
            self._video_encoder = BrowserVideoEncoder(self._video_track, self._plan, self._unit_writer)

    def _close(self) -> None:
        """Finishes the recording: sends all delayed units, and sums the losses."""
        if self._audio is not None:
            self._send_audio(self._audio.flush())
        if self._video_encoder is not None:
            self._video_encoder.finish()
            self._exit_if_hung()
        self._unit_writer.flush()
        report = self._report()
        self._earlier_losses = report.dropped, report.damaged
        self._copy = self._video_encoder = self._video_track = self._audio = None

    def _on_video(self, packet: Packet, wall: float) -> None:
        self._last_packet_at = time.monotonic()
        if self._copy is not None:
            unit = self._copy.take(packet)
            if unit is not None:
                self._set_times(unit, wall)
                self._unit_writer.set_track(unit.track)
                self._unit_writer.send_units((unit,))
        elif self._video_encoder is not None and self._video_track is not None:
            unit = AccessUnit(self._video_track, packet.time, packet.cts, packet.key, wall, packet.payload)
            self._set_times(unit, wall)
            self._exit_if_hung()
            self._video_encoder.put(unit)

    def _on_audio(self, packet: Packet, wall: float) -> None:
        self._last_packet_at = time.monotonic()
        if self._audio is not None:
            dts, _ = self._clock.stamp(Kind.AUDIO, packet.time, packet.track.timescale)
            self._send_audio(self._audio.take(dts, wall, packet.payload))

    def _send_audio(self, units: list[AccessUnit]) -> None:
        if self._video_encoder is None:
            self._unit_writer.send_units(units)
        else:
            for unit in units:
                self._video_encoder.put(unit)

    def _set_times(self, unit: AccessUnit, wall: float) -> None:
        """Sets the unit's times on the push's timeline. The extra delay does not change the presentation time."""
        dts, delay = self._clock.stamp(Kind.VIDEO, unit.dts, unit.track.timescale)
        unit.dts, unit.cts, unit.wall = dts, unit.cts - delay, wall

    def _exit_if_hung(self) -> None:
        if self._video_encoder is not None and self._video_encoder.hangs:
            program.log_reason("the codec does not respond")
            program.exit_now(1)

    # ---- reports ----

    def _report(self) -> BrowserReport:
        dropped, damaged = self._earlier_losses
        behind, encoder = 0.0, self._video_encoder
        if encoder is not None:
            dropped, behind = dropped + encoder.dropped, round(encoder.behind, 2)
        parts = (encoder, self._copy, self._audio)
        damaged += sum(part.damaged for part in parts if part is not None)
        return BrowserReport(*self._track_modes, dropped, damaged, behind, self._unusable_tracks)

    def _send_report(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._last_report_at < _REPORT_SECONDS:
            return
        report = self._report()
        if report != self._last_report:
            self._last_report, self._last_report_at = report, now
            self._link.send_json(WorkerMessage.NOTE, **asdict(report))


def work(link: program.ParentLink) -> None:
    """Serves one push, then ends the process."""
    BrowserWorker(link).work()
    program.exit_now(0)


class RecordingClock:
    """Moves the times of all tracks by one number of whole milliseconds, so that durations stay exact.

    Repairs large jumps like `PublisherTimeline`. The decode times of each track strictly increase.
    """

    def __init__(self) -> None:
        self._timeline = PublisherTimeline()
        self._begin = _START_MS  # start of the recording on the push's timeline
        self._origin: int | None = None  # time of the recording, in ms, at 0 of the timeline
        self._last: dict[Kind, float] = {}  # time of each track's last sample, in seconds

    def restart(self, gap: float) -> None:
        """Starts another recording. gap: seconds since the arrival of the last sample of the previous recording."""
        if self._origin is not None:
            self._begin = self._timeline.latest + max(_MIN_GAP_MS, round(gap * 1000))
            self._timeline, self._origin = PublisherTimeline(), None

    def stamp(self, kind: Kind, time: int, timescale: int) -> tuple[int, int]:
        """Returns the decode time of a sample, and its extra delay, both in ticks. time: in the recording, in ticks.

        The delay is 0 unless the decode time would not increase without it.
        """
        raw = time * 1000 // timescale
        if self._origin is None:
            self._origin = raw - self._begin
        moved = self._timeline.stamp(_TRACKS[kind], raw - self._origin & _MASK) - raw
        exact = time + moved * timescale // 1000
        last = self._last.get(kind)
        stamped = exact if last is None else max(exact, round(last * timescale) + 1)
        self._last[kind] = stamped / timescale
        return stamped, stamped - exact


class AacTranscoder:
    """Converts the samples of one track to AAC units, with its times and timescale.

    track: of the output. copied: True if the AAC frames of the recording are copied.
    """

    def __init__(self, recording: RecordedTrack) -> None:
        """Raises CodecFailed."""
        self.copied = recording.coding is Codec.AAC
        self._converter: SoundConverter | None = None
        if isinstance(recording.coding, ForeignCodec):
            self._converter = _foreign_converter(recording, recording.coding)
        else:
            self.track = MediaTrack(Kind.AUDIO, recording.coding, recording.timescale, recording.config)
            if not self.copied:
                self._converter = SoundConverter.of_track(self.track)
        if self._converter is not None:
            self.track = self._converter.track

    @property
    def damaged(self) -> int:
        """Number of samples that could not be decoded."""
        return 0 if self._converter is None else self._converter.damaged

    def take(self, dts: int, wall: float, payload: bytes) -> list[AccessUnit]:
        """Returns the units that this sample completes. dts: in the track's timescale. wall: time of arrival."""
        unit = AccessUnit(self.track, dts, 0, True, wall, payload)
        return [unit] if self._converter is None else self._converter.convert(unit)

    def flush(self) -> list[AccessUnit]:
        """Returns the last units. `take` cannot be called afterwards."""
        return [] if self._converter is None else self._converter.flush()


def _foreign_converter(recording: RecordedTrack, coding: ForeignCodec) -> SoundConverter:
    """Opens a converter for a codec that `MediaTrack` does not support."""
    context = open_foreign(ForeignSound(str(coding), recording.rate, recording.channels), recording.config)
    channels = min(2, recording.channels)
    encoder = AudioEncoder(BITRATES[channels], channels, recording.timescale)
    return SoundConverter(AudioDecoder(encoder.track, channels, context), encoder)


if __name__ == "__main__":
    sys.exit(program.run(work))
