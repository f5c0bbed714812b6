"""PullSource: fetches an address by its protocol."""

from functools import partial
from typing import Final
from urllib.parse import urlsplit

from gateway.channels.inputs import InputSpec
from gateway.inputs.descriptor import InputContext, InputServices, InputSource
from gateway.inputs.paced_media import LeadLimiter
from gateway.inputs.pull.http_pull import pull_http
from gateway.inputs.pull.rtmp_pull import pull_rtmp
from gateway.inputs.pull.rtsp_pull import pull_rtsp
from gateway.inputs.pull.srt_pull import pull_srt
from gateway.inputs.pull.udp_pull import pull_udp
from gateway.lib.egress import HTTP, RTMP, RTSP, SRT, UDP, EgressRefused
from gateway.ports.errors import GatewayError, OutputError

_PROTOCOLS: Final = {
    **dict.fromkeys(RTMP, pull_rtmp),
    **dict.fromkeys(RTSP, pull_rtsp),
    **dict.fromkeys(SRT, pull_srt),
    **dict.fromkeys(UDP, pull_udp),
}


class PullSource(InputSource):
    """One connection to the address; the gateway runs it again after a failure.

    Every failure is an OutputError, because the server may work again later. Its text contains only the host of the
    address.
    """

    def __init__(self, services: InputServices, spec: InputSpec) -> None:
        self._url = spec.url
        scheme = urlsplit(spec.url).scheme.lower()
        self._pull = partial(pull_http, limiter=LeadLimiter()) if scheme in HTTP else _PROTOCOLS[scheme]
        self._services = services

    async def run(self, context: InputContext) -> None:
        """Fetches until the connection ends. Raises OutputError."""
        try:
            await self._pull(self._url, self._services, context)
        except (GatewayError, EgressRefused, OSError) as error:
            raise OutputError(str(error)) from None
        raise OutputError("the stream has ended")
