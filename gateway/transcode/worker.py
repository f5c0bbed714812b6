"""The ladder worker: one source decoded once, its pictures and sound given to a thread for each rung."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import av

from gateway.media.errors import InvalidData
from gateway.media.track import Codec, Kind, Track, Tracks
from gateway.media.unit import AccessUnit
from gateway.protocols import wire
from gateway.protocols.wire import Message
from gateway.transcode import child, ladder
from gateway.transcode.codec import CodecFailed, Picture, VideoDecoder, frame_rate
from gateway.transcode.filters import Preparation
from gateway.transcode.ladder import COPY, Fitted, LadderMessage, Plan
from gateway.transcode.rung import RungThread, Terms
from gateway.transcode.sound import AudioDecoder, AudioEncoder, channels_of

# Pictures by whose times the frame rate is measured before the first is encoded, and how long that may take at most.
_MEASURED: Final = 8
_MEASURED_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Voice:
    """One setting of sound, shared by the rungs that want it: its track, and its encoder where it is not a copy."""

    track: Track
    encoder: AudioEncoder | None


class LadderWorker:
    """Everything but the encoding, in one thread: messages, decoders, and which rungs there are."""

    def __init__(self, link: child.Link) -> None:
        self._link = link
        self._plan = Plan(())
        self._tracks: Tracks | None = None
        self._video: VideoDecoder | None = None
        self._audio: AudioDecoder | None = None
        self._preparation: Preparation | None = None
        self._voices: dict[int, _Voice] = {}
        self._rungs: dict[str, RungThread] = {}
        self._shape: tuple[int, int, Fraction] | None = None  # of the source's pictures
        self._rate = Fraction(30)
        self._recent: list[int] = []  # times of the last pictures
        self._held: list[Picture | tuple[int, AccessUnit]] | None = []  # while the rate is measured
        self._begun = False  # a key picture has come
        self._renew = False  # encoders are to be made anew at the next key picture
        self._damaged = 0
        self._unfit = 0  # pictures that were decoded and could not be prepared

    def work(self) -> None:
        """Until the source ends or the gateway closes the link. Raises InvalidData for what the gateway never sends."""
        while (received := self._link.receive()) is not None:
            kind, body = received
            if kind == Message.UNIT:
                self._take(wire.decode_unit(body, self._tracks))
            elif kind == Message.TRACKS:
                self._change_tracks(wire.decode_tracks(body))
            elif kind == LadderMessage.PLAN:
                self._plan = Plan.from_json(wire.read_json(body))
            elif kind == Message.END:
                self._finish()
                return
            else:
                raise InvalidData(f"a frame of kind {kind}")

    # ---- the source ----

    def _change_tracks(self, tracks: Tracks) -> None:
        if self._tracks is not None:
            self._drain()
            for rung in self._rungs.values():
                rung.change(rung.terms)  # its last pictures come out now, not with the next ones
        self._tracks = tracks
        self._video = self._audio = self._preparation = None
        self._voices = {}
        self._held, self._recent, self._begun, self._renew = [], [], False, True
        self._note(error=None)
        if tracks.video is None:
            return
        try:
            self._video = VideoDecoder(tracks.video, self._plan.threads)
            self._preparation = Preparation(tracks.video.timescale)
            if tracks.audio is not None:
                self._audio = AudioDecoder(tracks.audio, channels_of(tracks.audio))
        except CodecFailed as error:
            # Pictures without their sound are better than none.
            self._complain(str(error))

    def _take(self, unit: AccessUnit) -> None:
        if self._video is None:
            return
        if unit.track.kind is Kind.VIDEO:
            for picture in self._video.decode(unit):
                self._prepare(picture)
            if unit.key:
                self._tell_damage()
        else:
            self._listen(unit)

    def _prepare(self, picture: Picture) -> None:
        assert self._preparation is not None
        try:
            prepared = self._preparation.push(picture)
        except av.FFmpegError as error:
            self._unfit += 1
            self._complain(f"a picture cannot be prepared: {error}")
            return
        for ready in prepared:
            self._show(ready)

    def _show(self, picture: Picture) -> None:
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
        """The rate is known as well as it will be: what was held back goes on."""
        assert self._video is not None
        held, self._held = self._held or [], None
        if self._recent:
            self._rate = frame_rate(self._recent, self._timescale, self._video.claimed_rate)
        for item in held:
            if isinstance(item, Picture):
                self._distribute(item)
            else:
                self._sound(*item)

    def _distribute(self, picture: Picture) -> None:
        shape = (picture.frame.width, picture.frame.height, picture.aspect)
        if picture.key or shape != self._shape:
            if self._measure_again(picture):
                return
            self._arrange(shape)
            # A size that changes without a key frame: encoders begin with one all the same.
        for rung in self._rungs.values():
            rung.put(picture)

    def _measure_again(self, picture: Picture) -> bool:
        """Whether pictures come faster than was measured: then the rate is measured anew, from this one on."""
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
            return  # sound before the first picture that is shown
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

    def _voice(self, setting: int, track: Track) -> _Voice:
        if setting == COPY:
            return _Voice(track, None)
        encoder = AudioEncoder(setting, channels_of(track), track.timescale)
        return _Voice(encoder.track, encoder)

    @staticmethod
    def _audio_setting(wanted: int, track: Track) -> int:
        """A copy can only be made of AAC, which is all that every player of a rendition takes."""
        return ladder.FALLBACK_AUDIO if wanted == COPY and track.codec is not Codec.AAC else wanted

    # ---- rungs ----

    def _arrange(self, shape: tuple[int, int, Fraction]) -> None:
        """Rungs begin, change and end here: at a key picture, the same one for all."""
        assert self._tracks is not None
        self._shape = shape
        size = ladder.display_size(*shape)
        wanted = {fitted.rung.name: fitted for fitted in ladder.fit(self._plan.rungs, *size)}
        self._note(rungs=list(wanted))
        for name in [name for name in self._rungs if name not in wanted]:
            rung = self._rungs.pop(name)
            rung.finish()
            rung.join()  # its END must not come behind what another rung of this slot says
        renew, self._renew = self._renew, False
        for name, fitted in wanted.items():
            terms = self._terms(fitted)
            running = self._rungs.get(name)
            if running is None:
                self._rungs[name] = RungThread(terms, self._link.send, self._complain)
            elif renew or terms != running.terms:
                running.change(terms)

    def _terms(self, fitted: Fitted) -> Terms:
        assert self._tracks is not None
        plan = self._plan
        return Terms(
            fitted=fitted,
            encoder=plan.encoder,
            preset=plan.preset,
            threads=plan.threads,
            epoch=self._tracks.epoch,
            timescale=self._timescale,
            rate=self._rate,
            audio=self._voice_track(fitted),
        )

    def _voice_track(self, fitted: Fitted) -> Track | None:
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
        """What the decoders hold back goes to the rungs."""
        if self._video is not None and self._preparation is not None:
            for picture in self._video.flush():
                self._prepare(picture)
            for picture in self._preparation.flush():
                self._show(picture)
            if self._held is not None:
                self._release()
        for setting, voice in self._voices.items():
            if voice.encoder is not None:
                for unit in voice.encoder.flush():
                    self._voiced(setting, unit)

    def _finish(self) -> None:
        self._drain()
        self._tell_damage()
        rungs = list(self._rungs.values())
        for rung in rungs:
            rung.finish()
        for rung in rungs:
            rung.join()

    # ---- notes ----

    def _tell_damage(self) -> None:
        decoders = (self._video, self._audio)
        damaged = self._unfit + sum(decoder.damaged for decoder in decoders if decoder is not None)
        if damaged != self._damaged:
            self._damaged = damaged
            self._note(damaged=damaged)

    def _complain(self, line: str) -> None:
        self._note(error=line)

    def _note(self, **what: Any) -> None:
        self._link.send(LadderMessage.NOTE, wire.write_json(what))


def main() -> int:
    """The program."""
    return child.run(lambda link: LadderWorker(link).work())


if __name__ == "__main__":
    sys.exit(main())
