"""The operations of a gateway for other nodes that concern its history, its refusals and what viewers experience."""

from __future__ import annotations

from gateway.api.answers import BadRequest
from gateway.api.history import MAX_SECONDS, NODE, local_points
from gateway.channels.names import is_channel_id
from gateway.cluster.gateway_operations import to_response
from gateway.cluster.node_endpoint import Operation
from gateway.cluster.node_identity import SiblingProcesses
from gateway.cluster.node_rpc import NodeRpc, NotHeldHere, OperationSpec, json_response, lines
from gateway.diagnosis.experience import PROTOCOLS, Experience, Totals, summary
from gateway.diagnosis.recorder import Recorder
from gateway.diagnosis.refusal_log import RefusalLog
from gateway.http.request import Request
from gateway.http.response import Response
from gateway.lib.numbers import read_integer
from gateway.live.hub import Hub


class DiagnosisOperations:
    """The operations for NodeEndpoint; `table` returns them. hub: the streams that this node holds."""

    def __init__(
        self, siblings: SiblingProcesses, hub: Hub, recorder: Recorder, experience: Experience, refusals: RefusalLog
    ) -> None:
        self._rpc = NodeRpc(siblings, to_response)
        self._hub = hub
        self._recorder = recorder
        self._experience = experience
        self._refusals = refusals

    def table(self) -> dict[str, Operation]:
        """Returns the operations by name."""
        specs = {
            "history": OperationSpec("GET", _is_history, self._history),
            "experience": OperationSpec("GET", is_channel_id, self._show_experience),
            "experienced": OperationSpec("POST", is_channel_id, self._add_experience),
            "refusals": OperationSpec("GET", is_channel_id, self._list_refusals),
        }
        return {name: self._rpc.operation(spec) for name, spec in specs.items()}

    def _history(self, request: Request, rest: str) -> Response:
        """Returns the points of `<seconds>/<channel>`, or of this process with NODE as the channel."""
        seconds, _, channel = rest.partition("/")
        points = local_points(self._recorder, "" if channel == NODE else channel, int(seconds))
        return lines([{"points": points}] if points else [])

    def _list_refusals(self, request: Request, id: str) -> Response:
        """Returns the pushes to a channel that this process refused."""
        return lines(self._refusals.of(id))

    def _show_experience(self, request: Request, id: str) -> Response:
        self._check_held(id)
        return json_response(summary(self._experience.of(id)))

    def _add_experience(self, request: Request, id: str) -> Response:
        """Adds the totals of viewers at another node, by protocol."""
        self._check_held(id)
        try:
            totals = {name: Totals.decode(request.query[name]) for name in PROTOCOLS if name in request.query}
        except ValueError as error:
            raise BadRequest(str(error)) from None
        self._experience.merge(id, totals)
        return json_response({"node": self._rpc.node})

    def _check_held(self, id: str) -> None:
        if self._hub.find(id) is None:
            raise NotHeldHere(id)


def _is_history(rest: str) -> bool:
    seconds, _, channel = rest.partition("/")
    return read_integer(seconds, MAX_SECONDS, 1) is not None and (channel == NODE or is_channel_id(channel))
