"""Adds the values of the process and of its live channels to the history, every 5 s, and stores it every minute."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from gateway.diagnosis import history_file
from gateway.diagnosis.history import RESOLUTIONS, History
from gateway.live.hub import Hub
from gateway.live.stream import Stream, StreamState

SAVE_SECONDS: Final = 60
_STEP: Final = RESOLUTIONS[0].step

# values(stream): the values of one live stream, by series.
StreamValues = Callable[[Stream], Mapping[str, float]]


class Recorder:
    """Records in `history`, which is loaded by `run`. hub: the streams of this process.

    node_values: returns the values of this process, by series. stream_values: returns those of a live stream.
    path: the file that survives a restart; None: the history is not stored.
    """

    def __init__(
        self,
        hub: Hub,
        node_values: Callable[[], Mapping[str, float]],
        stream_values: StreamValues,
        path: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.history = History()
        self._hub = hub
        self._node_values = node_values
        self._stream_values = stream_values
        self._path = path
        self._clock = clock
        self._loaded = path is None

    async def run(self) -> None:
        """Records until it is cancelled."""
        if self._path is not None:
            self.history = await asyncio.to_thread(history_file.load, self._path)
            self._loaded = True
        saved = self._clock()
        while True:
            await asyncio.sleep(_STEP - self._clock() % _STEP)  # all processes record at the same times
            now = self._clock()
            self.record(now)
            if not 0 <= now - saved < SAVE_SECONDS:
                saved = now
                self.history.forget_old(now)
                await self.save()

    def record(self, now: float) -> None:
        """Adds the current values. now: seconds since 1970."""
        self.history.node.add(now, self._node_values())
        for stream in self._hub:
            if stream.is_source and stream.playable:
                self.history.add_channel(stream.name, now, self._stream_values(stream))

    def now(self) -> float:
        """The current time, seconds since 1970."""
        return self._clock()

    async def save(self) -> None:
        """Writes the file, unless it was not read yet or another process has it now."""
        if self._path is not None and self._loaded:
            await history_file.save(self.history, self._path)

    def stop_saving(self) -> None:
        """Leaves the file to the process that replaces this one. Recording continues."""
        self._path = None


def stream_values(viewers: Callable[[Stream], int]) -> StreamValues:
    """Returns the function for Recorder. viewers: returns the viewers of a stream on all nodes."""

    def values(stream: Stream) -> Mapping[str, float]:
        live = stream.state is StreamState.LIVE
        fps = stream.health.measured()["fps"] if stream.health is not None else None
        return {
            "live": 1.0 if live else 0.0,
            "bitrate": float(stream.bitrate) if live else 0.0,
            "viewers": float(viewers(stream)),
            **({"fps": fps} if isinstance(fps, float) else {}),
        }

    return values
