"""The operations of a gateway for other nodes on its history, its refusals and the reports of viewers."""

from dataclasses import dataclass, field

from gateway.channels.names import is_channel_id
from gateway.cluster.calls.node_endpoint import Operation
from gateway.cluster.calls.node_rpc import (
    NotHeldHere,
    OperationSpec,
    error_response,
    json_response,
    lines,
    node_operations,
)
from gateway.cluster.calls.report_numbers import ReportNumbers
from gateway.cluster.members.node_identity import SiblingProcesses
from gateway.diagnosis.experience import PROTOCOLS, Experience, Totals
from gateway.diagnosis.history import MAX_SECONDS
from gateway.diagnosis.recorder import NODE, Recorder
from gateway.diagnosis.refusal_log import RefusalLog
from gateway.http.request import Request
from gateway.http.response import Response
from gateway.lib.numbers import read_integer
from gateway.live.hub import Hub
from gateway.reports.shared_reports import SharedReports


@dataclass(frozen=True, slots=True)
class DiagnosisOperations:
    """The operations for NodeEndpoint; `table` returns them.

    hub: the streams that this node holds. reports: of shows.
    """

    siblings: SiblingProcesses
    hub: Hub
    recorder: Recorder
    experience: Experience
    refusals: RefusalLog
    reports: SharedReports
    _numbers: ReportNumbers = field(default_factory=ReportNumbers, init=False)

    def table(self) -> dict[str, Operation]:
        """Returns the operations by name."""
        specs = {
            "history": OperationSpec("GET", _is_history, self._history),
            "experienced": OperationSpec("POST", is_channel_id, self._add_experience),
            "told": OperationSpec("GET", is_channel_id, self._told),
            "shows": OperationSpec("GET", is_channel_id, self._shows),
            "show": OperationSpec("GET", is_channel_id, self._show),
        }
        return node_operations(self.siblings, specs)

    def _told(self, request: Request, id: str) -> Response:
        """Returns the pushes to a channel that this process refused, and then its findings without a stream."""
        return lines([*self.refusals.of(id), *self.hub.feed.shown(id)])

    async def _shows(self, request: Request, id: str) -> Response:
        """Returns the newest shows of a channel, for the feed of an edge."""
        return json_response({"shows": list(await self.reports.listed(id))})

    async def _show(self, request: Request, id: str) -> Response:
        """Returns the report of `show` to an edge, if `sign` is right."""
        query = request.query
        found = await self.reports.report(id, query.get("show", ""), query.get("sign", ""))
        return json_response({"report": found})

    def _history(self, request: Request, rest: str) -> Response:
        """Returns the points of a channel in the last seconds. The channel NODE means this process.

        rest: `<seconds>/<channel>`.
        """
        seconds, _, channel = rest.partition("/")
        points = self.recorder.points("" if channel == NODE else channel, int(seconds))
        return lines([{"points": points}] if points else [])

    def _add_experience(self, request: Request, id: str) -> Response:
        """Adds the totals of viewers at another node, by protocol."""
        if self.hub.find(id) is None:
            raise NotHeldHere(id)
        try:
            totals = {name: Totals.decode(request.query[name]) for name in PROTOCOLS if name in request.query}
        except ValueError as error:
            return error_response(400, str(error))
        if self._numbers.is_new(id, request.query):
            self.experience.merge(id, totals)
        return json_response({"node": self.siblings.node})


def _is_history(rest: str) -> bool:
    seconds, _, channel = rest.partition("/")
    return read_integer(seconds, MAX_SECONDS, 1) is not None and (channel == NODE or is_channel_id(channel))
