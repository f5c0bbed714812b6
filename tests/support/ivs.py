"""Doubles of Amazon IVS: an RTMPS ingest with its rules, and the API with the stream keys that moto lacks."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from gateway.formats.flv.tag import AUDIO, VIDEO
from gateway.protocols.rtmp.message import Message
from tests.support.rtmp_target import RtmpTarget, Session
from tests.support.time_outs import at_most

KEY = "sk_us-west-2_abcdABCDefgh_567890abcdef"
_MOST = {"STANDARD": 8_500_000, "ADVANCED_SD": 8_500_000, "ADVANCED_HD": 8_500_000, "BASIC": 1_500_000}


class IvsIngest(RtmpTarget):
    """RTMPS like IVS: application `app`, one key, H.264 and AAC, one push at a time, a bitrate limit per type.

    Violations are disconnected without a message, as in IVS; `disconnects` has the reasons. A second push during
    another one is refused in the same way.
    """

    def __init__(self, tls: ssl.SSLContext, *, key: str = KEY, kind: str = "STANDARD", realtime: bool = False) -> None:
        super().__init__(tls=tls, app="app", judge=self._admit, watch=self._bear)
        self.key, self._kind, self._realtime = key, kind, realtime
        self.disconnects: list[str] = []
        self._recent: deque[tuple[int, int]] = deque()

    @property
    def endpoint(self) -> str:
        """The ingestEndpoint for the API; it has a port, unlike the real one."""
        return f"127.0.0.1:{self.port}"

    def _admit(self, session: Session) -> tuple[str, str] | None:
        self._recent.clear()
        if session.name != self.key:
            return "NetStream.Publish.BadName", f"stream key {session.name} is not valid"
        if any(not s.closed for s in self.sessions):
            return "NetStream.Publish.BadName", "the channel is live already"
        return None

    def _bear(self, session: Session, message: Message) -> bool:
        why = self._broken(session, message)
        if why:
            self.disconnects.append(why)
        return not why

    def _broken(self, session: Session, message: Message) -> str:
        body, now = message.payload, message.timestamp
        if message.type_id == VIDEO:
            if body[0] & 0x8F != 7:
                return "not H.264"
            if self._realtime and body[1] == 1 and any(body[2:5]):
                return "B-frames"
        elif message.type_id == AUDIO and body[0] >> 4 != 10:
            return "not AAC"
        if sum(t.type_id == AUDIO for t in session.tags) > 200 and not any(t.type_id == VIDEO for t in session.tags):
            return "audio only"
        self._recent.append((now, len(body)))
        while self._recent[0][0] < now - 5000:
            self._recent.popleft()
        span = now - self._recent[0][0]
        if span >= 4000 and sum(size for _, size in self._recent) * 8000 / span > _MOST[self._kind] * 1.2:
            return "bitrate"
        return ""


class IvsApi:
    """The IVS API: it handles stream keys and forwards everything else to moto. Use `with ivs_api(moto) as api`.

    endpoints: the ingestEndpoint by channel ARN. keys: by channel ARN. asked: operations, in order.
    """

    def __init__(self, moto: str) -> None:
        self.endpoints: dict[str, str] = {}
        self.keys: dict[str, str] = {}
        self.asked: list[str] = []
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                operation = self.path.strip("/")
                api.asked.append(operation)
                body = json.loads(sent or b"{}")
                status, answer = api._answer(operation, body, moto + self.path, dict(self.headers), sent)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                if status >= 400:
                    self.send_header("x-amzn-ErrorType", answer.get("__type", "ValidationException"))
                data = b"" if status == 204 else json.dumps(answer).encode()
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Logs nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def _answer(
        self, operation: str, body: dict[str, Any], url: str, headers: dict[str, str], sent: bytes
    ) -> tuple[int, dict[str, Any]]:
        if operation == "ListStreamKeys":
            arn = body["channelArn"]
            known = (
                [{"arn": f"{arn.replace(':channel/', ':stream-key/')}", "channelArn": arn}] if arn in self.keys else []
            )
            return 200, {"streamKeys": known}
        if operation == "GetStreamKey":
            arn = body["arn"].replace(":stream-key/", ":channel/")
            return 200, {"streamKey": {"arn": body["arn"], "channelArn": arn, "value": self.keys[arn]}}
        headers = {k: v for k, v in headers.items() if k.lower() not in ("host", "content-length", "connection")}
        request = urllib.request.Request(url, sent, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=at_most(10)) as reply:
                status, answer = reply.status, json.loads(reply.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                answer = json.loads(error.read() or b"{}")
                return error.code, {"__type": error.headers.get("x-amzn-ErrorType", ""), **answer}
        channel = answer.get("channel")
        if channel:
            arn = channel["arn"]
            if operation == "CreateChannel":
                self.keys.setdefault(arn, KEY)
                answer["streamKey"] = {"arn": arn.replace(":channel/", ":stream-key/"), "value": self.keys[arn]}
            channel["ingestEndpoint"] = self.endpoints.get(arn, channel.get("ingestEndpoint"))
        return status, answer


@contextlib.contextmanager
def ivs_api(moto: str) -> Iterator[IvsApi]:
    """Runs the API on a free port in front of a moto server."""
    api = IvsApi(moto)
    thread = threading.Thread(target=api.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.server.shutdown()
        api.server.server_close()
        thread.join()
