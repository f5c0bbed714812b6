"""PullSource: fetches an address by its protocol."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from gateway.channels.inputs import InputSpec
from gateway.inputs.descriptor import InputContext, InputServices
from gateway.inputs.pull.http_pull import pull_http
from gateway.inputs.pull.pull_parts import PullParts
from gateway.inputs.pull.rtmp_pull import pull_rtmp
from gateway.inputs.pull.rtsp_pull import pull_rtsp
from gateway.lib.egress import HTTP, RTMP, RTSP, EgressRefused
from gateway.ports.errors import GatewayError, OutputError

_PROTOCOLS: Final = {
    **dict.fromkeys(RTMP, pull_rtmp),
    **dict.fromkeys(HTTP, pull_http),
    **dict.fromkeys(RTSP, pull_rtsp),
}


class PullSource:
    """One connection to the address; the gateway runs it again after a failure.

    Every failure is an OutputError, because the server may work again later. Its text has no part of the
    address but the host.
    """

    is_ready = False  # its media arrive while it runs

    def __init__(self, services: InputServices, spec: InputSpec) -> None:
        self._url = spec.url
        self._pull = _PROTOCOLS[urlsplit(spec.url).scheme.lower()]
        self._parts = PullParts(services.egress, services.tls, services.workers)

    async def run(self, context: InputContext) -> None:
        """Fetches until the connection ends. Raises OutputError."""
        try:
            await self._pull(self._url, self._parts, context)
        except (GatewayError, EgressRefused, OSError) as error:
            raise OutputError(str(error)) from None
        raise OutputError("the stream has ended")
