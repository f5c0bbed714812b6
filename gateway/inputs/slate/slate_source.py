"""The source of a slate: keeps it encoded in the form of the publisher's stream, and repeats it on air."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from gateway.channels.inputs import InputSpec
from gateway.inputs.descriptor import InputContext, InputSource
from gateway.inputs.slate.slate_files import SlateFiles
from gateway.inputs.slate.slate_library import SlateLibrary
from gateway.inputs.slate.slate_loop import LoopPlayback, SlateLoop, with_silence
from gateway.lib.backoff import Backoff
from gateway.lib.tasks import Tasks, awaited
from gateway.live.publisher import StreamPublisher
from gateway.media.track import AccessUnit, Codec, Tracks
from gateway.ports.errors import OutputError
from gateway.workers.stream_form import StreamForm

log = structlog.get_logger(__name__)

STANDARD_TEXT: Final = "We will be right back"
_CLOCK_MINUTES: Final = 5  # encoded at a time
_CLOCK_RETRY: Final = 60.0  # seconds until the clock is tried again
_MAX_CLOCK_PIXELS: Final = 1_920 * 1_080 * 60  # per second; larger cards have no clock, to save processor time


class SlateSource(InputSource):
    """Delivers a picture, a film, or a card with the channel's name.

    It shows a card until the picture or film is encoded. If that fails, the card stays, and `problem` says why.
    """

    def __init__(
        self, library: SlateLibrary, files: SlateFiles, spec: InputSpec, clock: Callable[[], float] = time.time
    ) -> None:
        self.problem: str | None = None
        self._library = library
        self._files = files
        self._spec = spec
        self._clock = clock
        self._loop: SlateLoop | None = None
        self._form: StreamForm | None = None  # of `_loop`
        self._encoded = asyncio.Event()
        self._playback: LoopPlayback | None = None  # while it is on air

    @property
    def is_ready(self) -> bool:
        return self._loop is not None

    @property
    def key_frame(self) -> AccessUnit | None:
        """The first picture."""
        loop = self._loop
        if loop is None or loop.video is None:
            return None
        return AccessUnit(loop.video, 0, 0, True, 0.0, loop.pictures[0])

    async def run(self, context: InputContext) -> None:
        """Runs until it is cancelled. Raises OutputError if not even a card can be made."""
        async with Tasks(f"slate of {context.channel.id}", awaited) as tasks:
            preparing = tasks.start(self._prepare(context), "encode")
            playing = tasks.start(self._play(context), "play")
            done, _ = await asyncio.wait((preparing, playing), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    # ---- encoding ----

    async def _prepare(self, context: InputContext) -> None:
        """Encodes the slate, and again for each change of the publisher's tracks."""
        backoff = Backoff(2.0, 300.0)
        while True:
            expected = context.expected_tracks
            async with Tasks(f"form of {context.channel.id}", awaited) as tasks:
                # The encoding of a long film for earlier tracks must not delay the slate for the current tracks.
                changing = tasks.start(context.until_expected_tracks_change(expected), "change")
                encoding = tasks.start(self._encode(context, StreamForm.of(expected)), "encode")
                await asyncio.wait((changing, encoding), return_when=asyncio.FIRST_COMPLETED)
                if encoding.done():
                    pause = None if encoding.result() else backoff.next()
                    await asyncio.wait((changing,), timeout=pause)
                if changing.done():
                    backoff.reset()

    async def _encode(self, context: InputContext, form: StreamForm) -> bool:
        """Encodes the slate in this form. Returns False if only the card could be encoded."""
        if not self._spec.picture or not form.has_video:
            self._set(context, await self._card(context, form), form)
            self.problem = None
            return True
        if self._loop is None or self._form != form:
            self._set(context, await self._card(context, form), form)
        try:
            async with self._files.fetch(self._spec.picture) as (path, digest):
                self._set(context, await self._library.encode_file(path, digest, form), form)
        except OutputError as error:
            text = str(error)
            if text != self.problem:
                log.warning("slate shows its card", stream=context.channel.id, input=self._spec.name, reason=text)
            self.problem = text
            return False
        self.problem = None
        return True

    async def _card(self, context: InputContext, form: StreamForm) -> SlateLoop:
        return await self._library.make_card(context.channel.name, self._spec.text or STANDARD_TEXT, form)

    def _set(self, context: InputContext, loop: SlateLoop, form: StreamForm) -> None:
        self._loop, self._form = loop, form
        self._encoded.set()
        if self._playback is not None:
            self._playback.change(_audible(context, loop))

    # ---- on air ----

    async def _play(self, context: InputContext) -> None:
        while True:
            await context.until_on_air()
            await self._encoded.wait()
            if context.on_air:
                await self._play_once(context)

    async def _play_once(self, context: InputContext) -> None:
        """Publishes the slate until it is off air."""
        assert self._loop is not None, "it is encoded"
        loop = _audible(context, self._loop)
        publisher = context.publish()
        playback = LoopPlayback(loop, publisher.push, lambda loop: _announce(publisher, loop, context.expected_tracks))
        self._playback = playback
        try:
            self._library.timer.add(playback)
            async with Tasks(f"slate of {context.channel.id} on air", awaited) as tasks:
                off_air = tasks.start(context.until_off_air(), "off air")
                tasks.start(self._run_clock(context, playback), "clock")
                await asyncio.wait((off_air, playback.failed), return_when=asyncio.FIRST_COMPLETED)
                if playback.failed.done():
                    playback.failed.result()
        finally:
            self._playback = None
            self._library.timer.remove(playback)
            publisher.close()

    async def _run_clock(self, context: InputContext, playback: LoopPlayback) -> None:
        """Shows the minutes on a card. They are encoded ahead; a wrong minute is never shown."""
        loops: dict[int, SlateLoop] = {}
        while True:
            minute, form, base = int(self._clock() // 60), self._form, self._loop
            if base is None or form is None or not _has_clock(base, form):
                await asyncio.sleep(_CLOCK_RETRY)  # a card may come later
                continue
            playback.change(_audible(context, loops.get(minute, base)))
            if minute + 1 not in loops:
                first = minute if minute not in loops else minute + 1
                minutes = range(first, first + _CLOCK_MINUTES)
                try:
                    cards = await self._library.make_clocked_cards(
                        context.channel.name, self._spec.text or STANDARD_TEXT, [clock_text(m) for m in minutes], form
                    )
                except OutputError as error:
                    log.warning("slate has no clock", stream=context.channel.id, reason=str(error))
                    await asyncio.sleep(_CLOCK_RETRY)
                    continue
                kept = {m: loop for m, loop in loops.items() if m >= minute}
                loops = kept | dict(zip(minutes, cards, strict=True)) if form is self._form else {}
                continue
            await asyncio.sleep(max(0.05, (minute + 1) * 60 - self._clock()))


def clock_text(minute: int) -> str:
    """Returns hour, minute and time zone of this machine. minute: minutes since 1970."""
    return time.strftime("%H:%M %Z", time.localtime(minute * 60))


def _has_clock(loop: SlateLoop, form: StreamForm) -> bool:
    width, height = form.size
    cheap = width * height * form.rate <= _MAX_CLOCK_PIXELS
    return loop.is_card and loop.video is not None and loop.video.codec is Codec.H264 and cheap


def _audible(context: InputContext, loop: SlateLoop) -> SlateLoop:
    """Returns the loop with silence like the last sound, if it has no sound of its own."""
    return loop if loop.audio is None else with_silence(loop, context.silence(loop.audio))


def _announce(publisher: StreamPublisher, loop: SlateLoop, expected: Tracks | None) -> None:
    """Announces the tracks of a loop. The metadata of the last push stay."""
    publisher.set_tracks(loop.video, loop.audio, {} if expected is None else expected.metadata)
