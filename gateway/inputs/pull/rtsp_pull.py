"""Fetches the media of an RTSP(S) camera: over its connection, or over UDP if it offers nothing else."""

from __future__ import annotations

import asyncio
import functools
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, cast
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from gateway.channels.names import PULL_HEADER, pull_mark
from gateway.inputs.descriptor import InputContext, InputServices
from gateway.inputs.pull.camera_output import CameraOutput
from gateway.inputs.pull.pull_parts import CONNECT_SECONDS, REFUSALS, USER_AGENT, peer_of, tls_for
from gateway.lib.egress import RTSP
from gateway.lib.numbers import read_integer
from gateway.lib.outgoing import CLOSING_SECONDS, ConnectFailed, connect, os_error_text
from gateway.lib.tasks import Tasks
from gateway.media.errors import UnsupportedCodec
from gateway.media.track import Kind
from gateway.ports.errors import OutputError
from gateway.protocols.errors import RemoteProtocolError
from gateway.protocols.rtp.rtcp import receiver_report
from gateway.protocols.rtsp.authentication import Credentials
from gateway.protocols.rtsp.messages import Interleaved, RtspReader, RtspResponse, answer, request
from gateway.protocols.rtsp.received_track import RtspTrack
from gateway.protocols.rtsp.session_description import (
    SessionDescription,
    base_address,
    control_address,
    parse_description,
)

_MAX_REDIRECTS: Final = 3
_UNSUPPORTED_TRANSPORT: Final = 461
_REASONS: Final = REFUSALS | {
    453: "the camera has not enough bandwidth for another viewer (453)",
    454: "the camera has ended the session (454)",
    503: "the camera is busy (503)",
}
_SESSION_SECONDS: Final = 60.0  # of a server that names no timeout (RFC 2326 §12.37)
_MAX_TIMEOUT: Final = 99_999  # seconds
_MAX_CHANNEL: Final = 254  # of RTP; RTCP has the next one
_MAX_PORT: Final = 65_534  # of RTP; RTCP has the next one
_UDP_TRIES: Final = 20
_UDP_BUFFER: Final = 2_000_000  # bytes; a key frame of a 4K camera comes at once


class _Redirected(Exception):
    """The server names another address for the stream. Its only argument is the address."""


async def pull_rtsp(url: str, services: InputServices, context: InputContext) -> None:
    """Fetches until the camera ends. Raises OutputError, EgressRefused, OSError."""
    given = urlsplit(url)
    for _ in range(_MAX_REDIRECTS + 1):
        try:
            await _pull_once(url, _credentials(given, urlsplit(url)), services, context)
            return
        except _Redirected as redirected:
            try:
                url = urljoin(url, str(redirected))  # its address is checked like the first one
            except ValueError:
                raise OutputError("the camera redirects to an invalid address") from None
    raise OutputError(f"the camera redirects more than {_MAX_REDIRECTS} times")


def _credentials(given: SplitResult, target: SplitResult) -> Credentials:
    """Returns user name and password of an address, or those of the given one, which redirected to it.

    Another host never gets the given password in clear (Basic), nor does the same one over a connection without TLS if
    the given address had it.
    """
    if target.username:
        given = target
    is_safe = given.hostname == target.hostname and given.scheme.lower() in (RTSP[0], target.scheme.lower())
    return Credentials(unquote(given.username or ""), unquote(given.password or ""), allows_basic=is_safe)


async def _pull_once(url: str, credentials: Credentials, services: InputServices, context: InputContext) -> None:
    target = urlsplit(url)
    addresses = await services.egress.check(url, RTSP)
    try:
        tls = tls_for(target.scheme.lower(), services)
        connection = await connect(_Connection, addresses, CONNECT_SECONDS, tls, services.egress.reads)
    except ConnectFailed as error:
        raise OutputError(str(error)) from None
    try:
        async with CameraOutput(services.workers, context, peer_of(url)) as output:
            await _Session(connection, target, credentials, output, context.channel.id).run()
    finally:
        connection.abort()


class _Session:
    """Sends the requests of one session: DESCRIBE, SETUP for each track, PLAY, then keep-alive requests.

    id: of the channel that pulls.
    """

    def __init__(
        self, connection: _Connection, target: SplitResult, credentials: Credentials, output: CameraOutput, id: str
    ) -> None:
        self._connection = connection
        self._own_headers = {"User-Agent": USER_AGENT, PULL_HEADER: pull_mark(id)}
        host = target.netloc.rpartition("@")[2]
        query = f"?{target.query}" if target.query else ""
        self._url = f"{target.scheme.lower()}://{host}{target.path}{query}"  # without user name and password
        self._credentials = credentials
        self._output = output
        self._session = ""  # the id of the session; "": none yet
        self._timeout = _SESSION_SECONDS
        self._udp: list[_UdpPair] = []

    async def run(self) -> None:
        """Runs until the connection is lost or no media arrive. Raises OutputError, _Redirected."""
        response = await self._request("DESCRIBE", self._url, {"Accept": "application/sdp"})
        header = response.headers.get("content-base") or response.headers.get("content-location", "")
        base = base_address(self._url, header)
        try:
            description = parse_description(response.body)
        except RemoteProtocolError as error:
            raise OutputError(str(error)) from None
        tracks, left_out = _choose(description)
        try:
            for number, track in enumerate(tracks):
                await self._set_up(control_address(base, track.medium.control), track, number)
            await self._output.begin(tracks, left_out)
            response = await self._request("PLAY", control_address(base, description.control), {"Range": "npt=0.000-"})
            self._output.synchronize(_rtp_times(response.headers.get("rtp-info", ""), tracks))
            async with Tasks("rtsp") as tasks:
                tasks.start(self._stay_alive(base), "alive")
                await self._until_silent()
        finally:
            if self._session and self._connection.lost is None:
                self._connection.send("TEARDOWN", base, self._headers("TEARDOWN", base))
            for pair in self._udp:
                pair.close()

    async def _until_silent(self) -> None:
        while True:
            self._output.check(time.monotonic())
            if self._connection.lost is not None:
                raise self._connection.lost
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._connection.closed.wait()

    async def _stay_alive(self, base: str) -> None:
        """Repeats a request, so that the server keeps the session. Only missing media end it, not a missing answer.

        For some servers, OPTIONS is no sign of life (RFC 2326 §10.1), over UDP also no request. Those that offer it get
        GET_PARAMETER, until they refuse it.
        """
        method, may_change = "OPTIONS", True
        while True:
            try:
                response = await self._request(method, base, {})
                if may_change and "GET_PARAMETER" in response.headers.get("public", ""):
                    method = "GET_PARAMETER"
            except OutputError:
                may_change = may_change and method == "OPTIONS"
                method = "OPTIONS"
            for pair in self._udp:
                pair.send_report()
            await asyncio.sleep(max(1.0, self._timeout / 2 - 1))

    async def _set_up(self, url: str, track: RtspTrack, number: int) -> None:
        on_packet = functools.partial(self._output.take_packet, track)
        on_report = functools.partial(self._output.take_report, track)
        if not self._udp:
            channels = (2 * number, 2 * number + 1)
            transport = f"RTP/AVP/TCP;unicast;interleaved={channels[0]}-{channels[1]}"
            response = await self._request("SETUP", url, {"Transport": transport}, accepted=_UNSUPPORTED_TRANSPORT)
            if response.status == 200:
                values = _parameters(response.headers.get("transport", ""))
                first = values.get("interleaved", "").partition("-")[0]
                channel = read_integer(first, _MAX_CHANNEL)
                channel = channels[0] if channel is None else channel
                self._connection.channels |= {channel: on_packet, channel + 1: on_report}
                return
        track.use_udp()
        local, remote = self._connection.addresses
        pair = _UdpPair(local)
        self._udp.append(pair)
        transport = f"RTP/AVP;unicast;client_port={pair.port}-{pair.port + 1}"
        response = await self._request("SETUP", url, {"Transport": transport})
        ports = _parameters(response.headers.get("transport", "")).get("server_port", "").partition("-")[0]
        await pair.open(remote, read_integer(ports, _MAX_PORT) or 0, on_packet, on_report)

    def _headers(self, method: str, url: str) -> dict[str, str]:
        headers = self._own_headers.copy()
        if self._session:
            headers["Session"] = self._session
        if (authorization := self._credentials.make_header(method, url, secrets.token_hex(8))) is not None:
            headers["Authorization"] = authorization
        return headers

    async def _request(self, method: str, url: str, headers: dict[str, str], *, accepted: int = 0) -> RtspResponse:
        """Sends a request, with credentials if the server wants them. accepted: an error status that raises nothing."""
        response = await self._connection.request(method, url, self._headers(method, url) | headers)
        challenge = response.headers.get("www-authenticate", "")
        if response.status == 401 and self._credentials.user and self._credentials.take_challenge(challenge):
            response = await self._connection.request(method, url, self._headers(method, url) | headers)
        if 300 <= response.status < 400 and method == "DESCRIBE":
            raise _Redirected(response.headers.get("location", ""))
        if response.status not in (200, accepted):
            raise OutputError(_REASONS.get(response.status) or f"the camera answers {response.status} to {method}")
        name, _, rest = response.headers.get("session", "").partition(";")
        if method == "SETUP" and name and name.strip().isprintable():
            self._session = self._session or name.strip()[:256]  # ffmpeg ignores a later one, too
            seconds = read_integer(rest.strip().removeprefix("timeout=").strip(), _MAX_TIMEOUT)
            if seconds is not None:
                self._timeout = max(2.0, seconds)
        return response


def _choose(description: SessionDescription) -> tuple[list[RtspTrack], dict[str, Kind]]:
    """Returns the first video and the first sound that can be carried, and what cannot be.

    Raises OutputError if the video cannot be.
    """
    tracks: list[RtspTrack] = []
    refused: list[str] = []
    left_out: dict[str, Kind] = {}
    for kind in (Kind.VIDEO, Kind.AUDIO):
        for medium in description.media:
            if medium.kind == kind:
                try:
                    tracks.append(RtspTrack(medium))
                    break
                except UnsupportedCodec as error:
                    refused.append(str(error))
                    left_out[medium.encoding or "a codec without a name"] = kind
        if kind is Kind.VIDEO and refused and not tracks:
            raise OutputError(refused[0])
    if not tracks:
        raise OutputError(refused[0] if refused else "the camera describes no video and no sound")
    return tracks, left_out if len(tracks) < len(Kind) else {}


def _parameters(header: str) -> dict[str, str]:
    """Returns the parameters of a header, by name in lower case."""
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return {name.lower(): value for name, _, value in pairs}


def _rtp_times(header: str, tracks: list[RtspTrack]) -> list[int] | None:
    """Returns the RTP timestamp of each track at their common start (RTP-Info); None if one is missing."""
    found = [read_integer(_parameters(part).get("rtptime", ""), 0xFFFFFFFF) for part in header.split(",")]
    times = [timestamp for timestamp in found if timestamp is not None]
    return times if len(times) == len(found) == len(tracks) else None


class _Connection(asyncio.Protocol):
    """The connection: answers to requests, and packets by interleaved channel. lost: why it ended; None: it is open."""

    def __init__(self) -> None:
        self.channels: dict[int, Callable[[bytes], None]] = {}
        self.lost: OutputError | None = None
        self.closed = asyncio.Event()
        self._reader = RtspReader()
        self._transport: asyncio.Transport | None = None
        self._number = 0
        self._pending: dict[int, asyncio.Future[RtspResponse]] = {}

    @property
    def addresses(self) -> tuple[str, str]:
        """The numeric addresses of this end and of the server. Raises OutputError if the connection is lost."""
        if self.lost is not None:
            raise self.lost
        assert self._transport is not None, "it is connected"
        local, remote = self._transport.get_extra_info("sockname"), self._transport.get_extra_info("peername")
        return str(local[0]), str(remote[0])

    async def request(self, method: str, url: str, headers: dict[str, str]) -> RtspResponse:
        """Sends a request and returns its answer. Raises OutputError."""
        number = self.send(method, url, headers)
        future: asyncio.Future[RtspResponse] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                return await future
        except TimeoutError:
            raise OutputError(f"no answer to {method} within {CONNECT_SECONDS:.0f} s") from None
        finally:
            self._pending.pop(number, None)

    def send(self, method: str, url: str, headers: dict[str, str]) -> int:
        """Sends a request; returns its number. Raises OutputError if the connection is lost."""
        if self.lost is not None:
            raise self.lost
        self._number += 1
        assert self._transport is not None, "it is connected"
        self._transport.write(request(method, url, self._number, headers))
        return self._number

    def abort(self) -> None:
        """Closes the connection. The server still gets the sent data, if it reads them within a few seconds."""
        self.channels.clear()
        if self._transport is not None:
            self._transport.close()
            asyncio.get_running_loop().call_later(CLOSING_SECONDS, self._transport.abort)

    # ---- asyncio.Protocol ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit from it

    def data_received(self, data: bytes) -> None:
        """Reads messages and packets. Hot path."""
        try:
            found = self._reader.receive(data)
        except RemoteProtocolError as error:
            self._lose(OutputError(str(error)))
            return
        for item in found:
            if isinstance(item, Interleaved):
                receive = self.channels.get(item.channel)
                if receive is not None:
                    receive(item.payload)
            elif isinstance(item, RtspResponse):
                pending = self._pending.get(item.number)
                if pending is not None and not pending.done():
                    pending.set_result(item)
            elif self._transport is not None and not self._transport.is_closing():
                known = item.method in ("OPTIONS", "GET_PARAMETER", "SET_PARAMETER", "ANNOUNCE")
                self._transport.write(answer(item, "200 OK" if known else "501 Not Implemented"))

    def connection_lost(self, error: Exception | None) -> None:
        text = os_error_text(error) if isinstance(error, OSError) else "the camera closed the connection"
        self._lose(OutputError(text))

    def _lose(self, reason: OutputError) -> None:
        if self.lost is None:
            self.lost = reason
            self.closed.set()
            for pending in self._pending.values():
                if not pending.done():
                    pending.set_exception(reason)
            if self._transport is not None:
                self._transport.close()


class _UdpPair:
    """Two sockets with neighbouring ports, for RTP and RTCP. They receive only from the camera's own address.

    local: the address to bind. Raises OutputError if no ports are free.
    """

    def __init__(self, local: str) -> None:
        self._sockets: list[socket.socket] = []
        self._transports: list[asyncio.DatagramTransport] = []
        family = socket.AF_INET6 if ":" in local else socket.AF_INET
        for _ in range(_UDP_TRIES):
            port = 2 * (10_000 + secrets.randbelow(22_000))
            try:
                for number in (port, port + 1):
                    udp = socket.socket(family, socket.SOCK_DGRAM)
                    self._sockets.append(udp)
                    udp.setblocking(False)
                    udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _UDP_BUFFER)
                    udp.bind((local, number))
            except OSError:
                self.close()
                continue
            self.port = port
            return
        raise OutputError("no UDP ports are free")

    async def open(
        self, remote: str, port: int, on_packet: Callable[[bytes], None], on_report: Callable[[bytes], None]
    ) -> None:
        """Begins to receive. remote: the camera's address; port: its RTP port. Raises OutputError."""
        if not 0 < port < 65_535:
            raise OutputError("the camera names no ports for UDP")
        loop = asyncio.get_running_loop()
        for udp, number, receive in zip(self._sockets, (port, port + 1), (on_packet, on_report), strict=True):
            udp.connect((remote, number))
            transport, _ = await loop.create_datagram_endpoint(functools.partial(_Datagrams, receive), sock=udp)
            self._transports.append(transport)
        self._sockets = []
        # Opens the way through a firewall, as other clients do: an empty RTP packet.
        self._transports[0].sendto(b"\x80\x00" + bytes(10))

    def send_report(self) -> None:
        """Sends a receiver report without a source, as a sign of life."""
        self._transports[1].sendto(receiver_report(0, (), USER_AGENT))

    def close(self) -> None:
        for udp in self._sockets:
            udp.close()
        for transport in self._transports:
            transport.abort()
        self._sockets, self._transports = [], []


class _Datagrams(asyncio.DatagramProtocol):
    """Receives datagrams. If a port of the camera is closed, the connection or the silence ends the session."""

    def __init__(self, receive: Callable[[bytes], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._receive(data)
