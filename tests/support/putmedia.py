"""A strict double of Kinesis Video Streams: control plane, STS and PutMedia, with configurable faults.

It checks the input with `kvs_rules` and keeps the stored data. It is independent of our sender.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.support.kvs_rules import Begun, Broken, Fragment, Judge, Whole
from tests.support.kvs_sigv4 import Key, NotSigned, verify

ACCOUNT, REGION = "123456789012", "eu-central-1"
IDLE_EVERY, IDLE_LIMIT = 5.0, 30.0
_CLUSTER = bytes.fromhex("1f43b675")  # Matroska's element ID
_START = re.compile(r"[0-9]{9,11}(\.[0-9]{3})?")
_NAMES = {
    4000: "STREAM_READ_ERROR", 4001: "MAX_FRAGMENT_SIZE_REACHED", 4002: "MAX_FRAGMENT_DURATION_REACHED",
    4003: "MAX_CONNECTION_DURATION_REACHED", 4004: "FRAGMENT_TIMECODE_LESSER_THAN_PREVIOUS",
    4006: "INVALID_MKV_DATA", 4007: "INVALID_PRODUCER_TIMESTAMP", 4009: "FRAGMENT_METADATA_LIMIT_REACHED",
    4010: "TRACK_NUMBER_MISMATCH", 4011: "FRAMES_MISSING_FOR_TRACK", 4012: "MORE_THAN_ALLOWED_TRACKS_FOUND",
    4500: "KMS_KEY_ACCESS_DENIED", 5000: "INTERNAL_ERROR", 5001: "ARCHIVAL_ERROR",
}  # fmt: skip


@dataclass
class Fault:
    """One fault that happens once, on the first connection that reaches it.

    error: an ERROR acknowledgement with this id instead of storing fragment `at` of the connection (from 0). reset: the
    connection breaks after this number of body bytes, but not before `allowed` is set. half_open: from fragment `at`
    on, it neither reads nor answers. status, kind: the request is refused. close_after: the service ends it with 4003
    after this number of seconds. swallow: the final acknowledgement of fragment `at` is lost.
    """

    at: int = 0
    error: int = 0
    reset: int = 0
    allowed: asyncio.Event | None = None
    half_open: bool = False
    status: int = 0
    kind: str = ""
    close_after: float = 0.0
    swallow: bool = False


@dataclass
class Connection:
    """One PutMedia request. broken: violated rules; body: the received bytes, if they are kept."""

    stream: str
    headers: dict[str, str]
    began: float
    ended: float = 0.0
    fragments: int = 0
    bytes: int = 0
    broken: list[Broken] = field(default_factory=list)
    acks: list[dict[str, Any]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)

    def whole(self) -> bytes:
        """The body up to its last Cluster, with only complete fragments."""
        last = self.body.rfind(_CLUSTER)
        return bytes(self.body if self.ended or last < 0 else self.body[:last])


@dataclass
class VideoStream:
    """retention: in hours. stored: the latest copy of each fragment by time. copies: the number of copies of each."""

    name: str
    retention: int = 24
    active: bool = True
    stored: dict[int, Fragment] = field(default_factory=dict)
    copies: dict[int, int] = field(default_factory=dict)
    open: int = 0
    calls: list[float] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def arn(self) -> str:
        return f"arn:aws:kinesisvideo:{REGION}:{ACCOUNT}:stream/{self.name}/1500000000000"

    @property
    def frames(self) -> list[Any]:
        """All stored frames by fragment, in sending order."""
        return [frame for time in sorted(self.stored) for frame in self.stored[time].frames]

    def mkv(self) -> list[bytes]:
        """The stored data as Matroska files, one for each sequence of fragments with the same header."""
        files: list[tuple[bytes, list[bytes]]] = []
        for at in sorted(self.stored):
            fragment = self.stored[at]
            if not files or files[-1][0] != fragment.header:
                files.append((fragment.header, []))
            files[-1][1].append(bytes(fragment.raw))
        return [head + b"".join(parts) for head, parts in files]


class KvsDouble:
    """Use as `async with KvsDouble() as kvs:`. acks: their form: plain, split (byte by byte), wrapped, joined."""

    def __init__(
        self,
        *,
        strict: bool = True,
        acks: str = "plain",
        max_age: float = 45 * 60,
        tls: ssl.SSLContext | None = None,
        keep_bodies: bool = False,
    ) -> None:
        self.strict = strict
        self.keep_bodies = keep_bodies
        self.tls = tls  # of the data endpoints
        self.ack_form = acks
        self.max_age = max_age
        self.streams: dict[str, VideoStream] = {}
        self.keys: dict[str, Key] = {"AKIATEST": Key("AKIATEST", "test")}
        self.calls: list[str] = []  # in order: GetDataEndpoint, DescribeStream, AssumeRole, PutMedia
        self.connections: list[Connection] = []
        self.token_seconds = 3600.0
        self.can_describe = True
        self.down = False
        self.clock: Callable[[], float] = time.time
        self.url = ""
        self._runner: web.AppRunner | None = None
        self._endpoints: dict[int, str] = {}  # port → stream
        self._sites: dict[str, int] = {}  # stream → port
        self._assumed = 0
        self._listening: list[web.TCPSite] = []
        self._transports: set[asyncio.Transport] = set()

    def add(self, name: str, **fields: Any) -> VideoStream:
        """Creates a video stream."""
        self.streams[name] = stream = VideoStream(name, **fields)
        return stream

    async def __aenter__(self) -> KvsDouble:
        app = web.Application()
        app.router.add_post("/getDataEndpoint", self._get_data_endpoint)
        app.router.add_post("/describeStream", self._describe_stream)
        app.router.add_post("/putMedia", self._put_media)
        app.router.add_post("/", self._sts)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        self.url = f"http://127.0.0.1:{await self._listen()}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _listen(self, port: int = 0, tls: ssl.SSLContext | None = None) -> int:
        assert self._runner is not None
        site = web.TCPSite(self._runner, "127.0.0.1", port, ssl_context=tls, reuse_address=True)
        await site.start()
        self._listening.append(site)
        assert site._server is not None
        bound: int = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        return bound

    async def move(self, stream: VideoStream) -> None:
        """Gives the stream another data endpoint. The old one does not accept it any more."""
        port = await self._listen(tls=self.tls)
        if (old := self._sites.get(stream.name)) is not None:
            self._endpoints[old] = ""
        self._sites[stream.name], self._endpoints[port] = port, stream.name

    @contextlib.asynccontextmanager
    async def unreachable(self) -> AsyncIterator[None]:
        """Refuses all connections and breaks existing ones during the block."""
        ports = [int(site.name.rpartition(":")[2]) for site in self._listening]
        for site in self._listening:
            await site.stop()
        self._listening.clear()
        for transport in self._transports:
            transport.abort()
        yield
        for port in ports:
            await self._listen(port, self.tls if port in self._endpoints else None)

    # ---- control plane ----

    def _named(self, body: dict[str, Any]) -> VideoStream | None:
        name, arn = body.get("StreamName"), body.get("StreamARN")
        return next((s for s in self.streams.values() if s.name == name or s.arn == arn), None)

    async def _get_data_endpoint(self, request: web.Request) -> web.Response:
        self.calls.append("GetDataEndpoint")
        body = json.loads(await request.read())
        stream = self._named(body)
        if self.down:
            return _refuse(503, "ServiceUnavailable", "down")
        if stream is None:
            return _refuse(404, "ResourceNotFoundException", "no such stream")
        if body.get("APIName") != "PUT_MEDIA":
            return _refuse(400, "InvalidArgumentException", "APIName")
        if stream.name not in self._sites:
            await self.move(stream)
        scheme = "http" if self.tls is None else "https"
        return web.json_response({"DataEndpoint": f"{scheme}://127.0.0.1:{self._sites[stream.name]}"})

    async def _describe_stream(self, request: web.Request) -> web.Response:
        self.calls.append("DescribeStream")
        if not self.can_describe:
            return _refuse(403, "AccessDeniedException", "not this one")
        stream = self._named(json.loads(await request.read()))
        if stream is None:
            return _refuse(404, "ResourceNotFoundException", "no such stream")
        info = {"StreamName": stream.name, "StreamARN": stream.arn, "DataRetentionInHours": stream.retention}
        return web.json_response({"StreamInfo": info | {"Status": "ACTIVE"}})

    async def _sts(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.calls.append(str(form["Action"]))
        if form["Action"] != "AssumeRole" or form["RoleSessionName"] != "kvs-stream":
            return web.Response(
                status=400, text="<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
            )
        self._assumed += 1
        ends = self.clock() + self.token_seconds
        key = Key(f"ASIA{self._assumed:016}", f"secret{self._assumed}", f"token{self._assumed}", ends)
        self.keys[key.id] = key
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ends))
        return web.Response(
            content_type="text/xml",
            text='<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>'
            f"<AccessKeyId>{key.id}</AccessKeyId><SecretAccessKey>{key.secret}</SecretAccessKey>"
            f"<SessionToken>{key.token}</SessionToken><Expiration>{when}</Expiration></Credentials>"
            "</AssumeRoleResult></AssumeRoleResponse>",
        )

    # ---- PutMedia ----

    async def _put_media(self, request: web.Request) -> web.StreamResponse:
        self.calls.append("PutMedia")
        assert request.transport is not None
        port = request.transport.get_extra_info("sockname")[1]
        stream = self.streams.get(self._endpoints.get(port, ""))
        refusal = self._refusal(request, stream)
        if refusal is not None:
            return refusal
        assert stream is not None
        fault = stream.faults.pop(0) if stream.faults else Fault()
        if fault.status:
            return _refuse(fault.status, fault.kind, "as ordered")
        connection = Connection(stream.name, dict(request.headers), self.clock())
        self.connections.append(connection)
        response = web.StreamResponse(headers={"x-amzn-RequestId": f"r{len(self.connections)}"})
        stream.open += 1
        self._transports.add(request.transport)
        try:
            # The status comes before the body is read.
            await response.prepare(request)
            await _Session(self, stream, connection, fault, request, response).run()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the sender has gone
        finally:
            stream.open -= 1
            self._transports.discard(request.transport)
            connection.ended = self.clock()
            stream.changed.set()
        return response

    def _refusal(self, request: web.Request, stream: VideoStream | None) -> web.Response | None:
        headers = request.headers
        named = [headers.get("x-amzn-stream-name"), headers.get("x-amzn-stream-arn")]
        if self.down:
            return _refuse(503, "ServiceUnavailable", "down")
        if (named[0] is None) == (named[1] is None):
            return _refuse(400, "InvalidArgumentException", "exactly one of name and ARN")
        if headers.get("x-amzn-fragment-timecode-type") not in ("ABSOLUTE", "RELATIVE"):
            return _refuse(400, "InvalidArgumentException", "timecode type")
        if _START.fullmatch(headers.get("x-amzn-producer-start-timestamp", "")) is None:
            return _refuse(400, "InvalidArgumentException", "producer start timestamp")
        if headers.get("x-amzn-fragment-acknowledgment-required", "0") not in ("0", "1"):
            return _refuse(400, "InvalidArgumentException", "acknowledgement required")
        if headers.get("Transfer-Encoding", "").lower() != "chunked":
            return _refuse(400, "InvalidArgumentException", "the body is not chunked")
        try:
            verify(str(request.url), headers, self.keys, self.clock())
        except NotSigned as error:
            return _refuse(401, "NotAuthorizedException", str(error))
        meant = next((s for s in self.streams.values() if s.name == named[0] or s.arn == named[1]), None)
        if meant is None:
            return _refuse(404, "ResourceNotFoundException", "no such stream")
        if meant is not stream:
            return _refuse(400, "InvalidEndpointException", "another stream's endpoint")
        now = self.clock()
        stream.calls = [t for t in stream.calls if t > now - 1] + [now]
        if len(stream.calls) > 5:
            return _refuse(400, "ClientLimitExceededException", "more than 5 calls a second")
        if stream.open:
            return _refuse(400, "ConnectionLimitExceededException", "it has a connection already")
        return None


class _Session:
    """One accepted request: reads, checks and acknowledges it."""

    def __init__(
        self,
        double: KvsDouble,
        stream: VideoStream,
        connection: Connection,
        fault: Fault,
        request: web.Request,
        response: web.StreamResponse,
    ) -> None:
        self._double = double
        self._stream = stream
        self._connection = connection
        self._fault = fault
        self._request = request
        self._response = response
        relative = request.headers["x-amzn-fragment-timecode-type"] == "RELATIVE"
        start = round(float(request.headers["x-amzn-producer-start-timestamp"]) * 1000) if relative else 0
        self._judge = Judge(strict=double.strict, start=start, now=double.clock())
        self._number = 0
        self._joined = b""

    async def run(self) -> None:
        began = last = self._double.clock()
        ends = self._fault.close_after or self._double.max_age
        content = self._request.content
        try:
            while True:
                now = self._double.clock()
                if now - began >= ends:
                    await self._error(4003, "")
                    return
                if now - last >= IDLE_LIMIT:
                    return
                try:
                    async with asyncio.timeout(min(IDLE_EVERY, max(0.01, ends - (now - began)))):
                        data = await content.readany()
                except TimeoutError:
                    if self._double.clock() - last >= IDLE_EVERY:
                        await self._ack({"EventType": "IDLE"})
                    continue
                last = self._double.clock()
                self._connection.bytes += len(data)
                if self._double.keep_bodies:
                    self._connection.body += data
                if not data:
                    for event in self._judge.finish():
                        await self._told(event)
                    return
                breaks = self._fault.reset and self._connection.bytes >= self._fault.reset
                if not breaks or self._fault.allowed is not None:
                    for event in self._judge.receive(data, last):
                        await self._told(event)
                if breaks:
                    await self._break()
        except Broken as error:
            self._connection.broken.append(error)
            await self._error(error.id, error.code)
        except _Over:
            return
        finally:
            with contextlib.suppress(ConnectionError):
                await self._flush()

    async def _break(self) -> None:
        if self._fault.allowed is not None:
            await self._flush()
            await self._fault.allowed.wait()
        assert self._request.transport is not None
        self._request.transport.abort()
        raise ConnectionResetError

    async def _told(self, event: Begun | Whole) -> None:
        fragment, fault = event.fragment, self._fault
        index = self._connection.fragments
        if isinstance(event, Begun):
            if fault.half_open and index == fault.at:
                while await self._request.content.readany():
                    pass
                raise _Over
            self._number += 1
            await self._ack(self._about("BUFFERING", fragment))
            return
        self._connection.fragments += 1
        if fault.error and index == fault.at:
            await self._error(fault.error, "", fragment.time)
            raise _Over
        await self._ack(self._about("RECEIVED", fragment))
        self._stream.copies[fragment.time] = self._stream.copies.get(fragment.time, 0) + 1
        self._stream.stored[fragment.time] = fragment
        self._stream.changed.set()
        if self._stream.retention and not (fault.swallow and index == fault.at):
            await self._ack(self._about("PERSISTED", fragment))

    def _about(self, event: str, fragment: Fragment) -> dict[str, Any]:
        number = f"9134385233318150{len(self._double.connections):06}{self._number:012}"
        return {"EventType": event, "FragmentTimecode": fragment.time, "FragmentNumber": number}

    async def _error(self, id: int, code: str, time: int | None = None) -> None:
        said: dict[str, Any] = {"EventType": "ERROR"}
        at = time if time is not None else self._judge.current
        if at is not None:
            said["FragmentTimecode"] = at
        if id:
            said["ErrorId"] = id
        said["ErrorCode"] = code or _NAMES.get(id, "UNKNOWN")
        await self._ack(said)

    async def _ack(self, said: dict[str, Any]) -> None:
        self._connection.acks.append(said)
        form = self._double.ack_form
        text = json.dumps({"Acknowledgement": said} if form == "wrapped" else said, separators=(",", ":")).encode()
        if form == "joined":
            self._joined += text
            if said["EventType"] in ("RECEIVED", "ERROR"):
                await self._flush()
        elif form == "split":
            for at in range(len(text)):
                await self._response.write(text[at : at + 1])
                await asyncio.sleep(0)
        else:
            await self._response.write(text + b"\r\n")

    async def _flush(self) -> None:
        joined, self._joined = self._joined, b""
        if joined:
            await self._response.write(joined)


class _Over(Exception):
    """Ends the connection."""


def _refuse(status: int, kind: str, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status, headers={"x-amzn-ErrorType": kind})


@contextlib.asynccontextmanager
async def kvs_double(**options: Any) -> AsyncIterator[KvsDouble]:
    """Runs the double during the block."""
    async with KvsDouble(**options) as double:
        yield double
