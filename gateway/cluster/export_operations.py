"""The operations with which another node lets this one join a time range of its live stream, and reads the file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from gateway.api.clips import ClipTime, exported
from gateway.channels.channel import Channel
from gateway.channels.names import is_channel_id
from gateway.channels.stores import ChannelReader
from gateway.cluster.clip_operations import WAIT_SECONDS, requested_time
from gateway.cluster.gateway_operations import to_response
from gateway.cluster.node_endpoint import Operation
from gateway.cluster.node_identity import SiblingProcesses
from gateway.cluster.node_rpc import NodeRpc, NotHeldHere, OperationSpec, json_response
from gateway.http.request import Request
from gateway.http.response import Response
from gateway.lib.tasks import Tasks
from gateway.live.hub import Hub
from gateway.outputs.clips.clip_service import ClipService, Movie
from gateway.ports.errors import AtCapacity

_ABANDONED_SECONDS: Final = 10.0  # after the last request of the other node, without a reader
_CHECK_SECONDS: Final = 0.5
_MAX_EXPORTS: Final = 32


class _Export:
    """One export of this node. asked: when another node last asked, by the clock of the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._clock: Callable[[], float] = loop.time
        self.movie: asyncio.Future[Movie] = loop.create_future()
        self.readers = 0
        self.asked = loop.time()

    def is_wanted(self) -> bool:
        return self.readers > 0 or self._clock() - self.asked < _ABANDONED_SECONDS


class ExportOperations:
    """The operations `export/<channel>` and `exported/<channel>`; `table` returns them.

    The first one answers `{"pending": true}` until the file is complete, then `{"start", "size"}`. The other node sends
    it again and again, and then reads the file with the second one. Equal requests share one file. A file that nobody
    wants for ten seconds is deleted. At most 32 are remembered. clips: has the limits. tasks: run the exports.
    """

    def __init__(
        self, siblings: SiblingProcesses, hub: Hub, channels: ChannelReader, clips: ClipService, tasks: Tasks
    ) -> None:
        self._rpc = NodeRpc(siblings, to_response)
        self._hub = hub
        self._channels = channels
        self._clips = clips
        self._tasks = tasks
        self._exports: dict[tuple[str, ClipTime], _Export] = {}

    def table(self) -> dict[str, Operation]:
        """Returns the operations by name."""
        specs = {
            "export": OperationSpec("GET", is_channel_id, self._export),
            "exported": OperationSpec("GET", is_channel_id, self._read),
        }
        return {name: self._rpc.operation(spec) for name, spec in specs.items()}

    async def _export(self, request: Request, id: str) -> Response:
        time = requested_time(request)
        export = self._exports.get((id, time))
        if export is None:
            if self._hub.find(id) is None:
                raise NotHeldHere(id)
            channel = await self._channels.get(id)
            export = self._exports.get((id, time)) or self._begin(channel, time)
        export.asked = asyncio.get_running_loop().time()
        done, _ = await asyncio.wait([export.movie], timeout=WAIT_SECONDS)
        if not done:
            return json_response({"pending": True})
        movie = export.movie.result()
        return json_response({"start": movie.start, "size": movie.size})

    async def _read(self, request: Request, id: str) -> Response:
        export = self._exports.get((id, requested_time(request)))
        if export is None or not export.movie.done():
            raise AtCapacity("the file of this export does not exist any more: try again")
        movie = export.movie.result()
        export.asked = asyncio.get_running_loop().time()
        return Response(200, self._bytes(export, movie), "video/mp4").sized(movie.size)

    async def _bytes(self, export: _Export, movie: Movie) -> AsyncIterator[bytes]:
        export.readers += 1
        try:
            async for chunk in self._clips.read(movie, 0, movie.size):
                yield chunk
            export.asked = float("-inf")
        finally:
            export.readers -= 1

    def _begin(self, channel: Channel, time: ClipTime) -> _Export:
        if len(self._exports) >= _MAX_EXPORTS:
            raise AtCapacity("too many exports are made at this time: try again in some seconds")
        export = self._exports[channel.id, time] = _Export(asyncio.get_running_loop())
        self._tasks.start(self._run(channel, time, export), f"export of {channel.id}")
        return export

    async def _run(self, channel: Channel, time: ClipTime, export: _Export) -> None:
        try:
            async with exported(self._clips, self._hub.find(channel.id), channel, time, export.is_wanted) as movie:
                export.movie.set_result(movie)
                await _unwanted(export)
        except ConnectionAbortedError:
            return  # nobody waits for it
        except Exception as error:
            if export.movie.done() or to_response(error) is None:
                raise
            export.movie.set_exception(error)
            export.movie.exception()  # marked as read, because perhaps no node asks again
            await _unwanted(export)
        finally:
            export.movie.cancel()
            del self._exports[channel.id, time]


async def _unwanted(export: _Export) -> None:
    """Returns when nobody wants the file any more."""
    while export.is_wanted():  # noqa: ASYNC110 - the end of a time, not an event
        await asyncio.sleep(_CHECK_SECONDS)
