"""The operations of a gateway for other nodes, on its streams and channels."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Final

import structlog

from gateway.channels.channel import Channel
from gateway.channels.deleted_channel import MEDIA
from gateway.channels.names import is_channel_id, is_stream_name
from gateway.channels.stores import ChannelReader
from gateway.cluster.calls.node_endpoint import Operation
from gateway.cluster.calls.node_rpc import NotHeldHere, OperationSpec, json_response, lines, node_operations
from gateway.cluster.calls.report_numbers import ReportNumbers
from gateway.cluster.members.node_identity import SiblingProcesses
from gateway.cluster.members.node_requests import HELD
from gateway.cluster.streams.pull import shared_fields
from gateway.http.request import Request
from gateway.http.response import Response
from gateway.lib.numbers import read_integer
from gateway.live.hub import Hub
from gateway.live.remote_viewer_counts import RemoteViewerCounts
from gateway.live.stream import Stream
from gateway.playback.public_channels import live_public_channels
from gateway.playback.slugs import NamedChannel, table_lines
from gateway.ports.errors import InvalidField
from gateway.reports.nms_streams import entries
from gateway.reports.sessions import PROTOCOLS, sessions

log = structlog.get_logger(__name__)

_NODE = re.compile(r"[A-Za-z0-9._:-]{1,128}", re.ASCII)
_MAX_COUNT: Final = 9_999_999
_MAX_SENT: Final = 10**15  # bytes of one report


@dataclass(frozen=True, slots=True)
class GatewayOperations:
    """The operations for NodeEndpoint; `table` returns them.

    channels: reads the cache that playback uses. deleted: reads the remaining data of deleted channels.
    changed: see ChannelChanges.follow_other_node.
    names: returns the channels of all slugs.
    remote_viewers: the viewer counts that other nodes report.
    report: returns the answer of the operation `node`.
    """

    siblings: SiblingProcesses
    hub: Hub
    _: KW_ONLY
    channels: ChannelReader
    deleted: ChannelReader
    changed: Callable[[str, bool], Awaitable[Channel | None]]
    names: Callable[[], Awaitable[Mapping[str, NamedChannel]]]
    remote_viewers: RemoteViewerCounts
    report: Callable[[], Mapping[str, Any]]
    _numbers: ReportNumbers = field(default_factory=ReportNumbers, init=False)

    def table(self) -> dict[str, Operation]:
        """Returns the operations by name."""
        hub, viewers = self.hub, self.remote_viewers
        specs = {
            "node": listing(lambda: [self.report()]),
            "sessions": listing(lambda: sessions(hub, viewers)),
            "streams": listing(lambda: ({"id": id, "entry": entry} for id, entry in entries(hub))),
            "slugs": OperationSpec("GET", None, self._slugs),
            "public-live": listing(lambda: live_public_channels(hub, viewers)),
            "session": OperationSpec("GET", is_channel_id, self._session),
            HELD: OperationSpec("GET", is_channel_id, self._held),
            "channel": OperationSpec("GET", is_channel_id, self._channel),
            "deleted": OperationSpec("GET", is_channel_id, self._deleted_channel),
            "changed": OperationSpec("POST", is_channel_id, self._changed),
            "viewers": OperationSpec("POST", is_stream_name, self._viewers),
        }
        return node_operations(self.siblings, specs)

    # ---- of the node ----

    async def _slugs(self, request: Request, rest: str) -> Response:
        return lines(table_lines(await self.names()))

    # ---- of a channel ----

    async def _channel(self, request: Request, id: str) -> Response:
        """Returns the channel's fields for an edge without a store: no key, and no address that contains a secret."""
        return json_response({"id": id, **shared_fields(await self.channels.get(id))})

    async def _deleted_channel(self, request: Request, id: str) -> Response:
        """Returns the fields that an edge without a store needs to protect the media of a deleted channel."""
        channel = await self.deleted.get(id)
        return json_response({"id": id, **shared_fields(channel), MEDIA: channel.item.get(MEDIA)})

    async def _changed(self, request: Request, id: str) -> Response:
        """Removes the channel from the caches. A live stream of this node gets the stored channel."""
        held = any(stream.channel.id == id for stream in self.hub)
        channel = await self.changed(id, held)
        if held:
            log.info("channel changed on another node", channel=id, deleted=channel is None, peer=request.peer)
        return json_response({"held": held})

    # ---- of a live stream ----

    def _session(self, request: Request, id: str) -> Response:
        """Tells an edge without a registry whether this node holds the stream."""
        self._live(id)
        return json_response({"id": id, "node": self.siblings.node})

    def _held(self, request: Request, id: str) -> Response:
        """Tells whether this node holds the stream, even if it has no media yet."""
        if not self.hub.holds(id):
            raise NotHeldHere(id)
        return json_response({"node": self.siblings.node})

    def _viewers(self, request: Request, name: str) -> Response:
        """Stores the viewer counts of `node` for a stream, by protocol, and adds the bytes that an edge has `sent`.

        A node reports every few seconds. Counts that are not reported again are removed. Bytes that are sent again
        under the same number (REPORT) are added once.
        """
        node = request.query.get("node", "")
        if not _NODE.fullmatch(node):
            raise InvalidField("node", "expected the id of the reporting node")
        counts = {}
        for protocol in PROTOCOLS:
            count = read_integer(request.query.get(protocol, "0"), _MAX_COUNT)
            if count is None:
                raise InvalidField(protocol, "expected a number of at most seven digits")
            counts[protocol] = count
        sent = read_integer(request.query.get("sent", "0"), _MAX_SENT)
        if sent is None:
            raise InvalidField("sent", "expected a number of bytes")
        stream = self._live(name)
        self.remote_viewers.report(name, node, counts)
        if self._numbers.is_new(stream.channel.id, request.query):
            stream.tally.sent += sent
        return json_response({"node": self.siblings.node})

    def _live(self, name: str) -> Stream:
        stream = self.hub.find(name)
        if stream is None:
            raise NotHeldHere(name)
        return stream


def listing(values: Callable[[], Iterable[Mapping[str, Any]]]) -> OperationSpec:
    """Returns an operation that answers with values of this node, one on each line."""
    return OperationSpec("GET", None, lambda request, rest: lines(values()))
