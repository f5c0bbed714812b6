"""Speech with a known text as a film, a stream with an engine for it, and a viewer that reads captions."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import shlex
import subprocess
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from gateway.formats.flv.demuxer import parse_script
from gateway.formats.flv.tag import SCRIPT
from gateway.formats.script_data import read_caption, read_timed
from gateway.lib.metric_table import DROPPED, WORKER_RESTARTS
from gateway.lib.metrics import Counter
from gateway.lib.tasks import Tasks
from gateway.live.output import OutputSpec
from gateway.live.publisher import StreamPublisher
from gateway.live.sink import EndReason
from gateway.live.stream import Stream
from gateway.media.timed_data import CaptionText
from gateway.media.track import TimedData
from gateway.outputs.captions.captions_output import CaptionsOutput
from gateway.settings import load
from gateway.workers.worker_pool import WorkerPool
from tests.support import builders
from tests.support.flv_reader import FlvReader
from tests.support.media import made_once
from tests.support.run_folder import run_folder
from tests.support.sources import Source
from tests.support.time_outs import at_most
from tests.support.tools import need

DIGITS = "one, two, three, four, five, six, seven, eight, nine, ten."


def program(mode: str, *arguments: object) -> str:
    """The engine that is `speech_program.py` in a mode."""
    file = Path(__file__).with_name("speech_program.py")
    return f"command:{shlex.join([sys.executable, str(file), mode, *map(str, arguments)])}"


def spoken(text: str, seconds: float) -> Path:
    """A voice that speaks the text. Before it there is a second of silence, and after it silence to the end."""
    need("flite", "ffmpeg")
    wav = run_folder() / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.wav"
    subprocess.run(["flite", "-voice", "slt", "-t", text, "-o", str(wav)], check=True, timeout=at_most(60))
    picture = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25", "-i", str(wav), "-t", str(seconds)]
    coded = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "25", "-bf", "0", "-pix_fmt", "yuv420p"]
    sound = ["-af", "adelay=1000:all=1,apad", "-c:a", "aac", "-b:a", "96k", "-ar", "48000"]
    return made_once("flv", ["ffmpeg", *picture, *coded, *sound, "-f", "flv"])


class CaptionReader(builders.Recorder):
    """A sink that reads the captions of a stream."""

    @property
    def captions(self) -> list[CaptionText]:
        timed = [read_caption(item) for item in self.items if isinstance(item, TimedData)]
        return [caption for caption in timed if caption is not None]


class SpeechHub:
    """A hub with the output `captions` and one stream, without the rest of the gateway. `viewer` gets the stream."""

    def __init__(self, engine: str) -> None:
        self.restarts = Counter(WORKER_RESTARTS)
        self.viewer = CaptionReader()
        workers = WorkerPool(load(environ={}).workers, self.restarts)

        def make(stream: Stream) -> CaptionsOutput:
            return CaptionsOutput(stream, engine, workers, Counter(DROPPED))

        self.hub = builders.hub([OutputSpec("captions", make, lambda stream: stream.channel.flag("isCaption"))])

    @contextlib.asynccontextmanager
    async def publish(self, source: Source, **fields: Any) -> AsyncIterator[StreamPublisher]:
        async with Tasks("speech") as tasks:
            tasks.start(self.hub.run(), "hub")
            publisher = builders.publish(self.hub, "c1", isCaption=True, captionLanguage="en", **fields)
            publisher.stream.attach(self.viewer)
            publisher.set_tracks(source.tracks.video, source.tracks.audio, {})
            yield publisher
            self.hub.end("c1", EndReason.STOPPED)
            async with asyncio.timeout(at_most(10)):
                await publisher.stream.over()

    @property
    def status(self) -> dict[str, Any]:
        outputs = next(iter(self.hub)).outputs
        assert outputs is not None
        return dict(outputs.status()[0])


@contextlib.contextmanager
def reading(url: str) -> Iterator[list[CaptionText]]:
    """Reads an FLV stream in a thread. Yields the list of its captions, which grows."""
    captions: list[CaptionText] = []

    def read(answer: Any, reader: FlvReader) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed by the end of the block
            while data := answer.read1(65_536):
                for tag in reader.receive(data):
                    if tag.type_id == SCRIPT:
                        script = parse_script(tag.timestamp, tag.payload)
                        caption = read_caption(read_timed(tag.timestamp, script.name, script.amf))
                        captions.extend([] if caption is None else [caption])

    answer = urllib.request.urlopen(url, timeout=at_most(20))
    thread = threading.Thread(target=read, args=(answer, FlvReader()), daemon=True)
    thread.start()
    try:
        yield captions
    finally:
        answer.close()
        thread.join(at_most(25))
