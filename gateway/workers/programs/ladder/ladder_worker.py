"""The ladder worker: decodes one source once, and gives its pictures and audio to one thread for each rung."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import av

from gateway.media.track import Codec, Kind, MediaTrack, Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.workers import ladder_plan
from gateway.workers.ladder_plan import COPY, FittedStep, LadderMessage, LadderPlan
from gateway.workers.programs import program
from gateway.workers.programs.audio_codec import AudioDecoder, AudioEncoder, channels_of
from gateway.workers.programs.codec import CodecFailed, DecodedPicture, frame_rate
from gateway.workers.programs.filters import PreparedVideo
from gateway.workers.programs.ladder.step_encoder import StepEncoder, StepSettings

# Pictures for the measurement of the frame rate, before the first is encoded; and the most seconds of media for it.
_MEASURED: Final = 8
_MEASURED_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class _AudioRendition:
    """One audio setting, shared by the rungs that use it: its track, and its encoder (None for a copy)."""

    track: MediaTrack
    encoder: AudioEncoder | None


class LadderWorker:
    """Handles the messages, decodes the source, and manages the rungs, in one thread. The rungs encode in theirs."""

    def __init__(self, link: program.ParentLink) -> None:
        self._link = link
        self._plan = LadderPlan(())
        self._tracks: Tracks | None = None
        self._video: PreparedVideo | None = None
        self._audio: AudioDecoder | None = None
        self._voices: dict[int, _AudioRendition] = {}
        self._rungs: dict[str, StepEncoder] = {}
        self._shape: tuple[int, int, Fraction] | None = None  # width, height, sample aspect of the source's pictures
        self._rate = Fraction(30)
        self._recent: list[int] = []  # times of the last pictures
        self._held: list[DecodedPicture | tuple[int, AccessUnit]] | None = []  # while the rate is measured
        self._begun = False  # a key picture has come
        self._renew = False  # make new encoders at the next key picture
        self._damaged = 0
        self._unfit = 0  # decoded pictures that could not be prepared

    def work(self) -> None:
        """Runs until END or until the gateway closes the link. Raises InvalidData for an invalid or unknown frame."""
        program.serve(self._link, self, {LadderMessage.PLAN: self._take_plan})

    # ---- the source ----

    def _take_plan(self, body: bytes) -> None:
        self._plan = LadderPlan.from_json(wire.read_json(body))

    def change(self, tracks: Tracks) -> None:
        """Takes the tracks of the next units, after the last pictures of the earlier ones."""
        if self._tracks is not None:
            self._drain()
            for rung in self._rungs.values():
                rung.change(rung.terms)  # flushes its last pictures now, before those of the new tracks
        self._tracks = tracks
        self._video = self._audio = None
        self._voices = {}
        self._held, self._recent, self._begun, self._renew = [], [], False, True
        self._note(error=None)
        if tracks.video is None:
            return
        try:
            self._video = PreparedVideo(tracks.video, self._plan.threads, self._leave_out)
            if tracks.audio is not None:
                self._audio = AudioDecoder(tracks.audio, channels_of(tracks.audio))
        except CodecFailed as error:
            # If only the audio fails, the video goes on without it.
            self._complain(str(error))

    def take(self, unit: AccessUnit) -> None:
        """Takes the next unit of the source."""
        if self._video is None:
            return
        if unit.track.kind is Kind.VIDEO:
            for picture in self._video.decode(unit):
                self._show(picture)
            if unit.key:
                self._tell_damage()
        else:
            self._listen(unit)

    def _leave_out(self, error: av.FFmpegError) -> None:
        self._unfit += 1
        self._complain(f"a picture cannot be prepared: {error}")

    def _show(self, picture: DecodedPicture) -> None:
        if not self._begun:
            if not picture.key:
                return
            self._begun = True
        if self._held is None:
            self._distribute(picture)
            return
        self._held.append(picture)
        self._recent.append(picture.pts)
        timescale = self._timescale
        if len(self._recent) >= _MEASURED or self._recent[-1] - self._recent[0] >= _MEASURED_SECONDS * timescale:
            self._release()

    def _release(self) -> None:
        """Sets the frame rate from the pictures so far, and releases everything that was held back."""
        assert self._video is not None
        held, self._held = self._held or [], None
        if self._recent:
            self._rate = frame_rate(self._recent, self._timescale, self._video.decoder.claimed_rate)
        for item in held:
            if isinstance(item, DecodedPicture):
                self._distribute(item)
            else:
                self._sound(*item)

    def _distribute(self, picture: DecodedPicture) -> None:
        shape = (picture.frame.width, picture.frame.height, picture.aspect)
        if picture.key or shape != self._shape:
            if self._measure_again(picture):
                return
            self._arrange(shape)
            # If the size changes without a key frame of the source, the new encoders still begin with one.
        for rung in self._rungs.values():
            rung.put(picture)

    def _measure_again(self, picture: DecodedPicture) -> bool:
        """Returns whether pictures come faster than measured. If so, starts a new measurement with this picture."""
        if self._renew or not any(rung.outrun for rung in self._rungs.values()):
            return False
        self._held, self._recent, self._renew = [picture], [picture.pts], True
        return True

    @property
    def _timescale(self) -> int:
        assert self._tracks is not None and self._tracks.video is not None
        return self._tracks.video.timescale

    # ---- sound ----

    def _listen(self, unit: AccessUnit) -> None:
        track, decoder = unit.track, self._audio
        if decoder is None:
            return
        wanted = {self._audio_setting(rung.audio, track) for rung in self._plan.rungs}
        for setting in wanted - self._voices.keys():
            self._voices[setting] = self._voice(setting, track)
        if COPY in wanted:
            self._voiced(COPY, unit)
        encoders = [(s, v.encoder) for s, v in self._voices.items() if s in wanted and v.encoder is not None]
        if not encoders:
            return
        for sound in decoder.decode(unit):
            for setting, encoder in encoders:
                for coded in encoder.encode(sound):
                    self._voiced(setting, coded)

    def _voiced(self, setting: int, unit: AccessUnit) -> None:
        if not self._begun:
            return  # audio before the first picture
        if self._held is None:
            self._sound(setting, unit)
        else:
            self._held.append((setting, unit))

    def _sound(self, setting: int, unit: AccessUnit) -> None:
        assert self._tracks is not None and self._tracks.audio is not None
        source = self._tracks.audio
        for rung in self._rungs.values():
            if self._audio_setting(rung.terms.fitted.rung.audio, source) == setting:
                rung.put(unit)

    def _voice(self, setting: int, track: MediaTrack) -> _AudioRendition:
        if setting == COPY:
            return _AudioRendition(track, None)
        encoder = AudioEncoder(setting, channels_of(track), track.timescale)
        return _AudioRendition(encoder.track, encoder)

    @staticmethod
    def _audio_setting(wanted: int, track: MediaTrack) -> int:
        """Returns the audio setting of a rung. Only AAC is copied, because not every player takes another codec."""
        return ladder_plan.FALLBACK_AUDIO if wanted == COPY and track.codec is not Codec.AAC else wanted

    # ---- rungs ----

    def _arrange(self, shape: tuple[int, int, Fraction]) -> None:
        """Starts, changes and ends rungs, at the same key picture for all."""
        assert self._tracks is not None
        self._shape = shape
        size = ladder_plan.display_size(*shape)
        wanted = {fitted.rung.name: fitted for fitted in ladder_plan.fit(self._plan.rungs, *size)}
        self._note(rungs=list(wanted))
        for name in [name for name in self._rungs if name not in wanted]:
            rung = self._rungs.pop(name)
            rung.finish()
            rung.join()  # its END must not come after messages of a new rung with the same slot
        renew, self._renew = self._renew, False
        for name, fitted in wanted.items():
            terms = self._terms(fitted)
            running = self._rungs.get(name)
            if running is None:
                self._rungs[name] = StepEncoder(terms, self._link, self._complain)
            elif renew or terms != running.terms:
                running.change(terms)

    def _terms(self, fitted: FittedStep) -> StepSettings:
        assert self._tracks is not None
        plan = self._plan
        return StepSettings(
            fitted=fitted,
            encoder=plan.encoder,
            preset=plan.preset,
            threads=plan.threads,
            epoch=self._tracks.epoch,
            timescale=self._timescale,
            rate=self._rate,
            audio=self._voice_track(fitted),
        )

    def _voice_track(self, fitted: FittedStep) -> MediaTrack | None:
        assert self._tracks is not None
        source = self._tracks.audio
        if source is None or self._audio is None:
            return None
        setting = self._audio_setting(fitted.rung.audio, source)
        if setting not in self._voices:
            self._voices[setting] = self._voice(setting, source)
        return self._voices[setting].track

    # ---- ends ----

    def _drain(self) -> None:
        """Gives the rungs everything that the decoders hold back."""
        if self._video is not None:
            for picture in self._video.flush():
                self._show(picture)
            if self._held is not None:
                self._release()
        for setting, voice in self._voices.items():
            if voice.encoder is not None:
                for unit in voice.encoder.flush():
                    self._voiced(setting, unit)

    def finish(self) -> None:
        """Waits until every rung has sent its last units and its end."""
        self._drain()
        self._tell_damage()
        rungs = list(self._rungs.values())
        for rung in rungs:
            rung.finish()
        for rung in rungs:
            rung.join()

    # ---- notes ----

    def _tell_damage(self) -> None:
        damaged = self._unfit
        damaged += 0 if self._video is None else self._video.decoder.damaged
        damaged += 0 if self._audio is None else self._audio.damaged
        if damaged != self._damaged:
            self._damaged = damaged
            self._note(damaged=damaged)

    def _complain(self, line: str) -> None:
        self._note(error=line)

    def _note(self, **what: Any) -> None:
        self._link.send_json(LadderMessage.NOTE, **what)


if __name__ == "__main__":
    sys.exit(program.run(lambda link: LadderWorker(link).work()))
