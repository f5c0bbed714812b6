"""The operation with which another node lets this one make a clip of its live stream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from gateway.api.answers import BadRequest
from gateway.api.clips import ClipTime, clip_json
from gateway.channels.channel import Channel
from gateway.channels.names import is_channel_id
from gateway.channels.stores import ChannelReader
from gateway.cluster.gateway_operations import to_response
from gateway.cluster.node_endpoint import Operation
from gateway.cluster.node_identity import SiblingProcesses
from gateway.cluster.node_rpc import NodeRpc, NotHeldHere, OperationSpec, json_response
from gateway.http.request import Request
from gateway.http.response import Response
from gateway.lib.numbers import read_decimal
from gateway.lib.tasks import Tasks
from gateway.live.hub import Hub
from gateway.outputs.clips.clip_service import Clip

WAIT_SECONDS: Final = 2.0  # shorter than the time that the asking node waits for an answer
_KEEP_SECONDS: Final = 60.0  # until a finished clip is forgotten, if its node does not ask again
_MAX_CLIPS: Final = 32
_MAX_TIME: Final = 10**11  # seconds since the epoch


class ClipOperations:
    """The operation `clip/<channel>`; `table` returns it.

    A clip may take longer than a node waits for an answer. Then the answer is `{"pending": true}`, and the node sends
    the same request again. Equal requests share one clip. At most 32 are remembered.

    make: makes a clip of a channel; see gateway.api.clips.make_clip. tasks: run it.
    """

    def __init__(
        self,
        siblings: SiblingProcesses,
        hub: Hub,
        channels: ChannelReader,
        make: Callable[[Channel, ClipTime], Awaitable[Clip]],
        tasks: Tasks,
    ) -> None:
        self._rpc = NodeRpc(siblings, to_response)
        self._hub = hub
        self._channels = channels
        self._make = make
        self._tasks = tasks
        self._clips: dict[tuple[str, ClipTime], asyncio.Future[dict[str, Any]]] = {}

    def table(self) -> dict[str, Operation]:
        """Returns the operation by name."""
        return {"clip": self._rpc.operation(OperationSpec("POST", is_channel_id, self._clip))}

    async def _clip(self, request: Request, id: str) -> Response:
        if self._hub.find(id) is None:
            raise NotHeldHere(id)
        time = requested_time(request)
        clip = self._clips.get((id, time))
        if clip is None:
            clip = self._begin(await self._channels.get(id), time)
        done, _ = await asyncio.wait([clip], timeout=WAIT_SECONDS)
        if not done:
            return json_response({"pending": True})
        self._forget(id, time, clip)
        return json_response(clip.result())

    def _begin(self, channel: Channel, time: ClipTime) -> asyncio.Future[dict[str, Any]]:
        loop = asyncio.get_running_loop()
        clip = self._clips[channel.id, time] = loop.create_future()
        while len(self._clips) > _MAX_CLIPS:
            del self._clips[next(iter(self._clips))]
        clip.add_done_callback(lambda _: loop.call_later(_KEEP_SECONDS, self._forget, channel.id, time, clip))
        self._tasks.start(self._run(channel, time, clip), f"clip of {channel.id}")
        return clip

    def _forget(self, id: str, time: ClipTime, clip: asyncio.Future[dict[str, Any]]) -> None:
        if self._clips.get((id, time)) is clip:
            del self._clips[id, time]

    async def _run(self, channel: Channel, time: ClipTime, clip: asyncio.Future[dict[str, Any]]) -> None:
        try:
            clip.set_result(clip_json(await self._make(channel, time)))
        except Exception as error:
            clip.set_exception(error)
            clip.exception()  # marked as read, because perhaps no node asks again
            if to_response(error) is None:
                raise
        finally:
            if not clip.done():  # this process ends
                clip.cancel()


def requested_time(request: Request) -> ClipTime:
    """Reads the time that another node requests. Raises BadRequest."""
    values: list[float] = []
    for name in ("start", "end", "last"):
        value = read_decimal(request.query.get(name, ""), _MAX_TIME)
        if value is None:
            raise BadRequest("expected seconds", field=name)
        values.append(value)
    return ClipTime(*values)
