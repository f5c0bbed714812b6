"""Fetches a stream over HTTP(S): HTTP-FLV, MPEG-TS and HLS, found by their first bytes."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final

import aiohttp

from gateway.formats.flv.demuxer import parse_script
from gateway.formats.flv.reader import SIGNATURE, FlvReader
from gateway.formats.flv.tag import AUDIO, SCRIPT, VIDEO
from gateway.formats.ts.packets import has_packets
from gateway.inputs.descriptor import InputContext, InputServices
from gateway.inputs.paced_media import LeadLimiter
from gateway.inputs.pull.hls_pull import pull_hls
from gateway.inputs.pull.http_client import open_response, open_session
from gateway.inputs.pull.pull_parts import KEY_FRAME_SECONDS, SILENCE_SECONDS, check_usable, peer_of
from gateway.inputs.pull.source_opener import SourceOpener
from gateway.inputs.splicer import Splicer
from gateway.inputs.unit_output import UnitOutput
from gateway.lib.tasks import Tasks
from gateway.live.flv_intake import FlvIntake
from gateway.live.sound_to_aac import MakeConverter
from gateway.live.unit_intake import AUDIO_INDEX, VIDEO_INDEX
from gateway.media.clock import MILLISECONDS, VIDEO_CLOCK
from gateway.media.errors import InvalidData
from gateway.media.track import AccessUnit
from gateway.ports.errors import OutputError
from gateway.workers.sound_converter import converters

_HEAD_BYTES: Final = 612  # enough for three sync bytes of a transport stream that begins inside of a packet
_READ_BYTES: Final = 16_384  # of FLV in one turn of the event loop; even if all tags are tiny, this takes milliseconds
_CHUNK_BYTES: Final = 1 << 16  # of a transport stream, in one read
# Ticks between the tracks of a live stream; more would delay the pictures when the sound has stopped.
_LEAD: Final = 3 * VIDEO_CLOCK // 10
_PROBE_SECONDS: Final = 1.0  # media that libav reads until the tracks of a transport stream are known


async def pull_http(url: str, services: InputServices, context: InputContext, limiter: LeadLimiter) -> None:
    """Fetches to the end of the response. Raises OutputError, EgressRefused, OSError.

    limiter: of all responses of the input. Otherwise a short file, which is fetched again and again, is too fast.
    """
    limiter.begin()
    async with open_session(services, context.channel.id, url) as session:
        async with open_response(session, url) as response:
            head = await _read_head(response)
            if not head.lstrip(b"\xef\xbb\xbf").startswith(b"#EXTM3U"):
                await _Response(head, response, services, context, peer_of(url), limiter).pull()
                return
        await pull_hls(session, url, services, context)


async def _read_head(response: aiohttp.ClientResponse) -> bytes:
    """Returns the first bytes of a response: enough to recognize its format."""
    head = b""
    while len(head) < _HEAD_BYTES and (data := await response.content.read(_READ_BYTES)):
        head += data
    return head


@dataclass(frozen=True, slots=True)
class _Response:
    """A response with media. head: its first bytes, which were read."""

    head: bytes
    response: aiohttp.ClientResponse
    services: InputServices
    context: InputContext
    peer: str
    limiter: LeadLimiter

    async def pull(self) -> None:
        """Publishes it to its end. Raises OutputError."""
        head = self.head
        if head.startswith(SIGNATURE):
            async with Tasks("pull") as tasks:
                await self._pull_flv(converters(self.services.workers, tasks, self.context.channel.id))
        elif has_packets(head):
            await self._pull_ts()
        elif not head:
            raise OutputError("the server sends nothing")
        else:
            kind = self.response.headers.get("Content-Type", "").partition(";")[0].strip().lower()[:64]
            but = f" but {kind}" if kind and kind.isascii() and kind.isprintable() else ""
            raise OutputError(f"the answer is no FLV, HLS or MPEG-TS{but}")

    async def _pull_flv(self, make_converter: MakeConverter) -> None:
        with closing(self.context.publish(self.peer)) as publisher:
            intake, reader = FlvIntake(publisher, make_converter), FlvReader()
            data, began = self.head, time.monotonic()
            try:
                while data:
                    _push_tags(reader, data, intake)
                    check_usable(intake, began, time.monotonic())
                    await self.limiter.wait(intake.timeline.latest * VIDEO_CLOCK // MILLISECONDS)
                    await asyncio.sleep(0)  # otherwise all waiting bytes are read in one turn of the event loop
                    data = await self.response.content.read(_READ_BYTES)
                intake.finish(time.monotonic())
                if not intake.units and (text := intake.unusable.text()):
                    raise OutputError(text)
            except InvalidData as error:
                raise OutputError(f"its media are damaged: {error}") from None

    async def _pull_ts(self) -> None:
        with closing(UnitOutput(self.context, self.peer)) as output:
            async with SourceOpener(self.services.workers, self.context.channel) as opener:
                source = await opener.open(_chunks(self.head, self.response), "mpegts", _PROBE_SECONDS)
                async for item in Splicer(KEY_FRAME_SECONDS, "no key frame", _LEAD).play((source,)):
                    if isinstance(item, AccessUnit):
                        output.push(item)
                        await self.limiter.wait(item.dts)
                    else:
                        output.announce(item)


def _push_tags(reader: FlvReader, data: bytes, intake: FlvIntake) -> None:
    """Publishes the tags of received bytes. Hot path."""
    wall, now = time.time(), time.monotonic()
    for kind, timestamp, body in reader.receive(data):
        if kind in (VIDEO, AUDIO):
            intake.take_media(VIDEO_INDEX if kind == VIDEO else AUDIO_INDEX, timestamp, body, wall, now)
        elif kind == SCRIPT:
            with suppress(InvalidData):  # script data are not needed
                intake.take_script(parse_script(timestamp, body), now)


async def _chunks(head: bytes, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
    """Yields the bytes of a response as they arrive. Raises OutputError."""
    yield head
    try:
        while data := await response.content.read(_CHUNK_BYTES):
            yield data
    except TimeoutError:
        raise OutputError(f"no media for {SILENCE_SECONDS:.0f} s") from None
    except (aiohttp.ClientError, OSError):
        raise OutputError("the server closed the connection") from None
