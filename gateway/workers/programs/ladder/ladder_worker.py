"""The ladder worker: decodes a source once, and passes its pictures and audio to one thread for each rendition."""

import sys
from fractions import Fraction
from typing import Any, Final

import av

from gateway.media.track import AccessUnit, Codec, Kind, MediaTrack, Tracks
from gateway.protocols import wire
from gateway.workers import ladder_plan
from gateway.workers.ladder_plan import COPY, FittedStep, LadderPlan, LadderStep
from gateway.workers.messages import WorkerMessage
from gateway.workers.programs import program
from gateway.workers.programs.audio_codec import AudioDecoder, AudioEncoder
from gateway.workers.programs.codec import CodecFailed, DecodedPicture, VideoRecipe, estimate_frame_rate
from gateway.workers.programs.filters import PreparedVideo
from gateway.workers.programs.ladder.step_encoder import StepEncoder, StepSettings
from gateway.workers.sound_protocol import channels_of

# The frame rate is measured before the first picture is encoded: over this many pictures, or at most these seconds.
_RATE_PICTURES: Final = 8
_RATE_SECONDS: Final = 0.5


class LadderWorker:
    """Receives messages, decodes the source, and manages the renditions in one thread. Each rendition has a thread."""

    def __init__(self, link: program.ParentLink) -> None:
        self._link = link
        self._plan = LadderPlan(())
        self._tracks = Tracks(None, None)
        self._video: PreparedVideo | None = None
        self._audio: AudioDecoder | None = None
        self._audio_encoders: dict[int, AudioEncoder] = {}  # by bitrate
        self._steps: dict[str, StepEncoder] = {}
        self._source_size: tuple[int, int, Fraction] | None = None  # width, height, sample aspect ratio
        self._rate = Fraction(30)
        self._recent: list[int] = []  # times of the held pictures, in ticks
        self._held: list[DecodedPicture | tuple[int, AccessUnit]] | None = []  # None once the rate is known
        self._has_key = False  # the first key picture has been decoded
        self._new_encoders = False  # open new encoders at the next key picture
        self._damaged = 0
        self._unprepared = 0  # decoded pictures that could not be prepared

    def work(self) -> None:
        """Runs until END or until the gateway closes the link. Raises InvalidData for an invalid or unknown frame."""
        program.serve(self._link, self, {WorkerMessage.SETUP: self._set_plan})

    # ---- the source ----

    def _set_plan(self, body: bytes) -> None:
        self._plan = wire.decode_record(LadderPlan, body)

    def change(self, tracks: Tracks) -> None:
        """Encodes the last pictures of the previous tracks, then starts the new ones. Without video, renditions end."""
        self._drain()
        if tracks.video is None:
            self._end_steps()
        for step in self._steps.values():
            step.change(step.settings)  # flushes its last pictures now, before those of the new tracks
        self._tracks = tracks
        self._video = self._audio = None
        self._audio_encoders = {}
        self._held, self._recent, self._has_key, self._new_encoders = [], [], False, True
        if tracks.video is None:
            self._send_note(rungs=[], error="the source has no video to transcode")
            return
        self._send_note(error=None)
        try:
            self._video = PreparedVideo(tracks.video, self._plan.threads, self._on_unprepared)
            if tracks.audio is not None:
                self._audio = AudioDecoder(tracks.audio, channels_of(tracks.audio))
        except CodecFailed as error:
            # If only the audio fails, the video continues without it.
            self._report_error(str(error))

    def take(self, unit: AccessUnit) -> None:
        """Decodes the next unit of the source."""
        if self._video is None:
            return
        if unit.track.kind is Kind.VIDEO:
            for picture in self._video.decode(unit):
                self._on_picture(picture)
            if unit.key:
                self._report_damage()
        else:
            self._decode_audio(unit)

    def _on_unprepared(self, error: av.FFmpegError) -> None:
        self._unprepared += 1
        self._report_error("a picture of the source cannot be rotated or deinterlaced")

    def _on_picture(self, picture: DecodedPicture) -> None:
        if not self._has_key:
            if not picture.key:
                return
            self._has_key = True
        if self._held is None:
            self._distribute(picture)
            return
        self._held.append(picture)
        self._recent.append(picture.pts)
        timescale = self._timescale
        if len(self._recent) >= _RATE_PICTURES or self._recent[-1] - self._recent[0] >= _RATE_SECONDS * timescale:
            self._release()

    def _release(self) -> None:
        """Determines the frame rate from the held pictures, then distributes the held pictures and audio."""
        assert self._video is not None
        held, self._held = self._held or [], None
        if self._recent:
            self._rate = estimate_frame_rate(self._recent, self._timescale, self._video.decoder.declared_rate)
        for item in held:
            if isinstance(item, DecodedPicture):
                self._distribute(item)
            else:
                self._distribute_audio(*item)

    def _distribute(self, picture: DecodedPicture) -> None:
        size = (picture.frame.width, picture.frame.height, picture.aspect)
        if picture.key or size != self._source_size:
            if self._measure_again(picture):
                return
            self._update_steps(size)
            # If the size changes without a key frame of the source, the new encoders still begin with one.
        for step in self._steps.values():
            step.put(picture)

    def _measure_again(self, picture: DecodedPicture) -> bool:
        """Returns whether pictures come faster than measured. Then starts a new measurement with this picture."""
        if self._new_encoders or not any(step.outrun for step in self._steps.values()):
            return False
        self._held, self._recent, self._new_encoders = [picture], [picture.pts], True
        return True

    @property
    def _timescale(self) -> int:
        assert self._tracks.video is not None
        return self._tracks.video.timescale

    # ---- audio ----

    def _decode_audio(self, unit: AccessUnit) -> None:
        track, decoder = unit.track, self._audio
        if decoder is None:
            return
        wanted = {self._audio_bitrate(step.audio, track) for step in self._plan.rungs}
        if COPY in wanted:
            self._on_audio(COPY, unit)
        encoders = [(bitrate, self._audio_encoder(bitrate, track)) for bitrate in wanted if bitrate != COPY]
        if not encoders:
            return
        for samples in decoder.decode(unit):
            for bitrate, encoder in encoders:
                for coded in encoder.encode(samples):
                    self._on_audio(bitrate, coded)

    def _on_audio(self, bitrate: int, unit: AccessUnit) -> None:
        if not self._has_key:
            return  # audio before the first picture is dropped
        if self._held is None:
            self._distribute_audio(bitrate, unit)
        else:
            self._held.append((bitrate, unit))

    def _distribute_audio(self, bitrate: int, unit: AccessUnit) -> None:
        assert self._tracks.audio is not None
        for step in self._steps.values():
            if self._audio_bitrate(step.settings.step.audio, self._tracks.audio) == bitrate:
                step.put(unit)

    def _audio_encoder(self, bitrate: int, track: MediaTrack) -> AudioEncoder:
        """Returns the encoder for this bitrate. The renditions with this bitrate share it."""
        if bitrate not in self._audio_encoders:
            self._audio_encoders[bitrate] = AudioEncoder(bitrate, channels_of(track), track.timescale)
        return self._audio_encoders[bitrate]

    @staticmethod
    def _audio_bitrate(bitrate: int, track: MediaTrack) -> int:
        """Returns the audio bitrate of a rendition, or COPY. Only AAC is copied: not every player supports others."""
        return ladder_plan.FALLBACK_AUDIO if bitrate == COPY and track.codec is not Codec.AAC else bitrate

    # ---- renditions ----

    def _update_steps(self, size: tuple[int, int, Fraction]) -> None:
        """Starts, changes and ends renditions, all at one key picture."""
        self._source_size = size
        bitrate = ladder_plan.declared_bitrate(self._tracks.metadata)
        fitted_steps = ladder_plan.fit(self._plan.rungs, *ladder_plan.display_size(*size), bitrate)
        wanted = {fitted.step.name: fitted for fitted in fitted_steps}
        self._send_note(rungs=list(wanted))
        for name in [name for name in self._steps if name not in wanted]:
            step = self._steps.pop(name)
            step.finish()
            step.join()  # its END must be sent before messages of a new rendition with its slot
        replace_all, self._new_encoders = self._new_encoders, False
        for name, fitted in wanted.items():
            settings = self._settings(fitted)
            running = self._steps.get(name)
            if running is None:
                self._steps[name] = StepEncoder(settings, self._link, self._report_error)
            elif replace_all or settings != running.settings:
                running.change(settings)

    def _settings(self, fitted: FittedStep) -> StepSettings:
        step, plan = fitted.step, self._plan
        every = step.every(self._rate)
        recipe = VideoRecipe(
            plan.encoder, fitted.width, fitted.height, step.bitrate, maxrate=round(step.bitrate * step.vbv),
            rate=self._rate / every, timescale=self._timescale,
            preset=plan.preset, profile=plan.profile, threads=plan.threads, instant=plan.instant,
        )  # fmt: skip
        return StepSettings(step, recipe, self._tracks.epoch, self._audio_track(step), every)

    def _audio_track(self, step: LadderStep) -> MediaTrack | None:
        source = self._tracks.audio
        if source is None or self._audio is None:
            return None
        bitrate = self._audio_bitrate(step.audio, source)
        return source if bitrate == COPY else self._audio_encoder(bitrate, source).track

    # ---- the end ----

    def _drain(self) -> None:
        """Passes all delayed pictures and audio to the renditions."""
        if self._video is not None:
            for picture in self._video.flush():
                self._on_picture(picture)
            if self._held is not None:
                self._release()
        for bitrate, encoder in self._audio_encoders.items():
            for unit in encoder.flush():
                self._on_audio(bitrate, unit)

    def finish(self) -> None:
        """Waits until each rendition has sent its last units and its end."""
        self._drain()
        self._report_damage()
        self._end_steps()

    def _end_steps(self) -> None:
        for step in self._steps.values():
            step.finish()
        for step in self._steps.values():
            step.join()
        self._steps.clear()

    # ---- notes ----

    def _report_damage(self) -> None:
        decoders = (None if self._video is None else self._video.decoder, self._audio)
        damaged = self._unprepared + sum(decoder.damaged for decoder in decoders if decoder is not None)
        damaged += max((encoder.damaged for encoder in self._audio_encoders.values()), default=0)  # of the same samples
        if damaged != self._damaged:
            self._damaged = damaged
            self._send_note(damaged=damaged)

    def _report_error(self, line: str | None) -> None:
        self._send_note(error=line)

    def _send_note(self, **fields: Any) -> None:
        self._link.send_json(WorkerMessage.NOTE, **fields)


if __name__ == "__main__":
    sys.exit(program.run(lambda link: LadderWorker(link).work()))
