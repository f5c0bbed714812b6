"""The operations of a gateway for other nodes that concern the inputs of channels."""

from __future__ import annotations

import base64

from gateway.api.inputs import states_json, take_here
from gateway.channels.names import is_channel_id
from gateway.cluster.gateway_operations import to_response
from gateway.cluster.node_endpoint import Operation
from gateway.cluster.node_identity import SiblingProcesses
from gateway.cluster.node_rpc import NodeRpc, NotHeldHere, OperationSpec, json_response
from gateway.http.request import Request
from gateway.http.response import Response
from gateway.inputs.channel_inputs import ChannelInputs
from gateway.inputs.previews import InputPreviews
from gateway.ports.errors import NoSuchStream


class InputOperations:
    """The operations for NodeEndpoint; `table` returns them."""

    def __init__(self, siblings: SiblingProcesses, inputs: ChannelInputs, previews: InputPreviews) -> None:
        self._rpc = NodeRpc(siblings, to_response)
        self._inputs = inputs
        self._previews = previews

    def table(self) -> dict[str, Operation]:
        """Returns the operations by name."""
        specs = {
            "inputs": OperationSpec("GET", is_channel_id, self._states),
            "take": OperationSpec("POST", is_channel_id, self._take),
            "preview": OperationSpec("GET", is_channel_id, self._preview),
        }
        return {name: self._rpc.operation(spec) for name, spec in specs.items()}

    def _states(self, request: Request, id: str) -> Response:
        reported = states_json(self._inputs, id)
        if not reported["states"]:
            raise NotHeldHere(id)
        return json_response(reported)

    def _take(self, request: Request, id: str) -> Response:
        """Puts the input `name` on air; without a name, the choice is automatic again."""
        try:
            take_here(self._inputs, id, request.query.get("name"))
        except NoSuchStream:
            raise NotHeldHere(id) from None
        return json_response(states_json(self._inputs, id))

    async def _preview(self, request: Request, id: str) -> Response:
        """Returns a picture of the input `name` as JPEG in base64."""
        if not self._previews.holds(id):
            raise NotHeldHere(id)
        picture = await self._previews.picture(id, request.query.get("name", ""))
        return json_response({"jpeg": base64.b64encode(picture).decode("ascii")})
