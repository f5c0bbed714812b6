"""An RTMP publisher of a film that sends what ffmpeg does not: script data, unusual times, or not all media."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future

from gateway.formats import amf0
from gateway.formats.flv import muxer
from gateway.formats.flv.tag import SCRIPT
from gateway.media.timed_data import Script
from gateway.media.track import AmfValue, TimedData
from tests.support.flv_reader import FlvReader, Tag
from tests.support.gateway import Channel
from tests.support.media import Film
from tests.support.rtmp import connected

TimeOf = Callable[[Tag], int | None]


def ad_cue(dts: int, section: bytes, *, ahead: int, kind: str, id: str, seconds: float | None = None) -> TimedData:
    """The message of a cue `ahead` milliseconds before its time."""
    values: dict[str, AmfValue] = {"scte35": base64.b64encode(section).decode(), "type": kind, "id": id}
    values["at"] = float(ahead)
    if seconds is not None:
        values["duration"] = seconds
    return TimedData(dts, Script("onAdCue", amf0.encode(values)))


def _tags(film: Film, timed: Sequence[TimedData]) -> list[Tag]:
    tags = FlvReader().receive(film.path().read_bytes())
    script = [Tag(SCRIPT, t.dts, muxer.timed_body(t)) for t in timed]
    return sorted([*tags, *script], key=lambda tag: tag.timestamp)


async def _publish(channel: Channel, tags: Sequence[Tag], time_of: TimeOf, stopped: Future[None]) -> None:
    loop = asyncio.get_running_loop()
    async with connected(channel.gateway.ports["rtmp"]) as peer:
        await peer.publish(f"{channel.id}?sign={channel.key}")
        await peer.chunk_size(65_536)
        began = loop.time()
        for tag in tags:
            await asyncio.sleep(max(began + tag.timestamp / 1000 - loop.time(), 0))  # in real time
            if stopped.done():
                return
            if (time := time_of(tag)) is not None:
                await peer.body(tag.type_id, tag.payload, time)
        await peer.settle()


@contextlib.contextmanager
def pushing(
    channel: Channel, film: Film, timed: Sequence[TimedData] = (), time_of: TimeOf = lambda tag: tag.timestamp
) -> Iterator[None]:
    """Pushes an FLV film with script data at its times, in a thread, until the block or the film ends.

    time_of: returns the timestamp that is sent with a tag; None: the tag is left out.
    """
    stopped: Future[None] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_publish(channel, _tags(film, timed), time_of, stopped)))
    thread.start()
    try:
        yield
    finally:
        stopped.set_result(None)
        thread.join()
