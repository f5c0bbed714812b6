"""Plays a stream of an SRT listener."""

from contextlib import suppress

from gateway.channels.names import channel_of
from gateway.inputs.descriptor import InputContext, InputServices
from gateway.inputs.pull.program_output import ProgramOutput
from gateway.inputs.pull.pull_parts import CONNECT_SECONDS, peer_of
from gateway.lib.egress import SRT
from gateway.ports.errors import OutputError
from gateway.protocols.srt.connection import PEER_CLOSED
from gateway.protocols.srt.stream_id import InvalidStreamId, parse_stream_id
from gateway.protocols.srt.url import LatencyRange, parse_url
from gateway.srt.outgoing import open_link


async def pull_srt(url: str, services: InputServices, context: InputContext) -> None:
    """Plays until the server ends the stream. Raises OutputError, EgressRefused, OSError."""
    try:
        target = parse_url(url)
    except ValueError as error:
        raise OutputError(str(error)) from None
    if _is_own_output(target.stream_id, context):
        raise OutputError("the address is an output of this channel")
    address = url.partition("?")[0]
    addresses = await services.egress.check(address, SRT)
    srt = services.settings.srt
    latency = LatencyRange(srt.latency, srt.max_latency)
    async with (
        ProgramOutput(services, context, peer_of(address)) as output,
        open_link(target, addresses, latency, CONNECT_SECONDS, lambda link: _SrtPlayer(output)),
    ):
        await output.until_lost()


def _is_own_output(stream_id: str, context: InputContext) -> bool:
    """Whether the stream id names this channel at a gateway. Its media would circulate."""
    with suppress(InvalidStreamId):
        name = channel_of(parse_stream_id(stream_id).name)
        return name in (context.channel.id, context.channel.slug)
    return False


class _SrtPlayer:
    """Gives the payloads to the output. Implements SrtUser."""

    def __init__(self, output: ProgramOutput) -> None:
        self._output = output

    def receive(self, payloads: list[bytes], now: float) -> None:
        self._output.receive(b"".join(payloads), now)

    def tick(self, now: float) -> None:
        """Does nothing: the output checks its media itself."""

    def closed(self, reason: str) -> None:
        self._output.is_whole = reason == PEER_CLOSED
        self._output.lose(reason)
