"""The listener of SRT: its port, and what callers want."""

from dataclasses import replace

from gateway.channels.channel import Channel
from gateway.ingest.services import ListenerServices
from gateway.ingest.srt.channel_ports import ChannelPorts
from gateway.ingest.srt.push import SrtPush
from gateway.lib.sockets import listen_quietly
from gateway.listeners.port_listener import OpenListeners
from gateway.listeners.udp_listener import UdpLimits, UdpListener
from gateway.protocols.srt.connection import IDLE_SECONDS
from gateway.protocols.srt.listening import HandshakeRefused
from gateway.protocols.srt.packets import Reject
from gateway.protocols.srt.stream_id import InvalidStreamId, StreamId, parse_stream_id
from gateway.protocols.srt.url import LatencyRange
from gateway.srt.bonding import BondingServer
from gateway.srt.link import READ_DELAY
from gateway.srt.listener_sessions import RequestOfCaller, SrtRequest, SrtServer
from gateway.srt.passphrase_guesses import PassphraseGuesses


def open_srt(services: ListenerServices) -> OpenListeners:
    """Binds the ports of SRT and SRTLA. Raises ListenError.

    An edge, which has no workers, takes no pushes and opens no port of SRTLA.
    """
    is_edge = services.workers is None

    def request(stream_id: str, address: str) -> SrtRequest:
        try:
            asked = parse_stream_id(stream_id)
        except InvalidStreamId as error:
            raise HandshakeRefused(Reject.BAD_REQUEST, str(error)) from None
        if not asked.is_push:
            return services.srt_play(asked, address)
        if is_edge:
            raise HandshakeRefused(Reject.FORBIDDEN, "this is an edge, which only plays")
        return SrtPush(services, asked, address)

    settings = services.settings
    latency = LatencyRange(settings.srt.latency, settings.srt.max_latency)
    server = SrtServer(latency, request, services.tasks, PassphraseGuesses(services.admission.refusals))
    ticker = server.ticker
    limits = UdpLimits(services.pending, settings.limits.handshake, 2 * IDLE_SECONDS, READ_DELAY, lambda: bool(ticker))
    protocols = {"srt": server} | ({"srtla": BondingServer(server)} if services.is_first and not is_edge else {})
    listeners = [
        UdpListener(
            *(address.name, address.host, address.port, services.opener, protocol),
            replace(limits, keeps_order=name == "srtla"),
        )
        for name, protocol in protocols.items()
        for address, _ in services.addresses(name)
    ]
    opened = OpenListeners(listeners, services.tasks, samples=server.samples)
    ticker.reads = reads = [listener.read for listener in listeners]
    services.tasks.keep(ticker.run, "srt links")
    if services.feed is not None and services.is_first and listeners:

        def bind(port: int, request: RequestOfCaller) -> UdpListener:
            own = replace(server, request=request)
            return UdpListener("srtPort", settings.srt.host, port, listen_quietly, own, limits)

        def push(channel: Channel, address: str) -> SrtRequest:
            return SrtPush(services, StreamId(channel.id, True, {"sign": channel.key}), address)

        services.feed.listen(ChannelPorts(services.feed.findings, opened, reads, bind, push).follow)
    return opened
