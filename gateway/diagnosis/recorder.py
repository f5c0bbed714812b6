"""Adds the values of the process and of its live channels to the history, every 5 s, and stores it every minute.

The file in the data folder is replaced as a whole, so it is never half-written.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from gateway.diagnosis.history import MAX_FILE_BYTES, RESOLUTIONS, History, rounded
from gateway.lib.clocks import Clock
from gateway.lib.whole_file import replace_file
from gateway.live.hub import Hub
from gateway.live.stream import Stream, StreamState

log = structlog.get_logger(__name__)

SAVE_SECONDS: Final = 60
_PARTS_PER_YIELD: Final = 25  # timelines that are copied before other tasks run; about 1 ms
_STEP: Final = RESOLUTIONS[0].step

# values(stream): the values of one live stream, by series.
StreamValues = Callable[[Stream], Mapping[str, float]]
NODE: Final = "-"  # stands for the node itself in the place of a channel, between nodes


@dataclass(slots=True, eq=False)
class Recorder:
    """Records in `history`, which is loaded by `run`. hub: the streams of this process.

    node_values: returns the values of this process, by series. stream_values: returns those of a live stream.
    path: the file that survives a restart; None: the history is not stored.
    """

    hub: Hub
    node_values: Callable[[], Mapping[str, float]]
    stream_values: StreamValues
    path: Path | None = None
    clock: Clock = time.time
    history: History = field(default_factory=History, init=False)
    _is_loaded: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Records until it is cancelled."""
        if self.path is not None:
            self.history = await asyncio.to_thread(load_history, self.path)
            self._is_loaded = True
        saved = self.clock()
        while True:
            await asyncio.sleep(_STEP - self.clock() % _STEP)  # all processes record at the same times
            now = self.clock()
            self.record(now)
            if not 0 <= now - saved < SAVE_SECONDS:
                saved = now
                self.history.forget_old(now)
                await self.save()

    def record(self, now: float) -> None:
        """Adds the current values. now: seconds since 1970."""
        self.history.node.add(now, self.node_values())
        for stream in self.hub:
            if stream.is_source and stream.playable:
                self.history.add_channel(stream.name, now, self.stream_values(stream))

    def now(self) -> float:
        """The current time, seconds since 1970."""
        return self.clock()

    def points(self, channel: str, seconds: float) -> list[list[Any]]:
        """Returns the points of a channel; "": of the process. As JSON: [time, {series: [avg, min, max]}]."""
        timeline = self.history.channel(channel) if channel else self.history.node
        found = [] if timeline is None else timeline.points(self.now(), seconds)[1]
        return [[at, {name: [rounded(v) for v in triple] for name, triple in values.items()}] for at, values in found]

    async def save(self) -> None:
        """Writes the file, unless it was not read yet or another process has it now."""
        if self.path is not None and self._is_loaded:
            await save_history(self.history, self.path)

    def stop_saving(self) -> None:
        """Leaves the file to the process that replaces this one. Recording continues."""
        self.path = None


def stream_values(viewers: Callable[[Stream], int]) -> StreamValues:
    """Returns the function for Recorder. viewers: returns the viewers of a stream on all nodes."""

    def values(stream: Stream) -> Mapping[str, float]:
        live = stream.state is StreamState.LIVE
        fps = stream.health.measured().fps if stream.health is not None else None
        bitrate = float(stream.received.bitrate) if live else 0.0
        found = {"live": float(live), "bitrate": bitrate, "viewers": float(viewers(stream))}
        return {**found, "fps": fps} if isinstance(fps, float) else found

    return values


def load_history(path: Path) -> History:
    """Returns the stored history; an empty one if there is no usable file. Blocks."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ValueError("too large")
        return History.decode(data)
    except FileNotFoundError:
        return History()
    except (OSError, ValueError) as error:
        log.warning("the stored history cannot be used, a new one begins", file=path.name, reason=str(error))
        return History()


async def save_history(history: History, path: Path) -> None:
    """Writes the history. A thread does the disk's work. A disk error is only logged."""
    parts = []
    for number, part in enumerate(history.encode()):
        parts.append(part)
        if number % _PARTS_PER_YIELD == _PARTS_PER_YIELD - 1:
            await asyncio.sleep(0)
    await asyncio.to_thread(_replace, path, parts)


def _replace(path: Path, parts: list[bytes]) -> None:
    try:
        replace_file(path, parts)
    except OSError as error:
        log.warning("the history cannot be saved", file=path.name, reason=error.strerror)
