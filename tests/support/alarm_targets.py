"""Doubles of the targets of alarms: a mail server, and a server that takes only what the chat services document."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
import ssl
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from tests.support.time_outs import at_most


@dataclass
class Inbox:
    """What a double received. answer: of a mail server to each mail. wait: seconds before its answer.

    refused: receivers that it does not know.
    """

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    receivers: list[list[str]] = field(default_factory=list)
    secured: list[bool] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    answer: str = "250 2.0.0 queued as 1"
    wait: float = 0.0
    refused: set[str] = field(default_factory=set)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return "550 5.1.1 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        await asyncio.sleep(self.wait)
        if self.answer.startswith("250"):
            assert isinstance(envelope.content, bytes)
            mail = message_from_bytes(envelope.content, policy=policy.default)
            assert isinstance(mail, EmailMessage)
            self.receivers.append(list(envelope.rcpt_tos))
            self.secured.append(session.ssl is not None)
            self.mails.append(mail)
        return self.answer


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


@contextlib.contextmanager
def mail_server(
    *, tls: ssl.SSLContext | None = None, direct: bool = False, login: tuple[str, str] | None = None
) -> Iterator[Inbox]:
    """A mail server. tls: offers STARTTLS, or begins with TLS if `direct`. login: user and password that it needs."""
    inbox = Inbox()

    def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        user, password = data.login.decode(), data.password.decode()
        inbox.users.append(user)
        return AuthResult(success=(user, password) == login, handled=False)

    loop = _background_loop()
    sessions: list[SMTP] = []

    def session() -> SMTP:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a login without TLS is meant
            one = SMTP(
                inbox,
                loop=loop,
                tls_context=None if direct else tls,
                authenticator=authenticate if login else None,
                auth_required=login is not None,
                auth_require_tls=False,
            )
        sessions.append(one)
        return one

    async def end() -> None:
        server.close()
        for one in sessions:
            if one.transport is not None:
                cast(asyncio.WriteTransport, one.transport).abort()

    listening = loop.create_server(session, "127.0.0.1", 0, ssl=tls if direct else None)
    server = asyncio.run_coroutine_threadsafe(listening, loop).result()
    inbox.port = server.sockets[0].getsockname()[1]
    try:
        yield inbox
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result()


@functools.cache
def _background_loop() -> asyncio.AbstractEventLoop:
    """The loop of all mail servers, in a thread. It runs on, so that their connections can end while a test ends."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    return loop


@dataclass(frozen=True)
class Service:
    """A documented request: its method and path, and for each field of the JSON its check."""

    method: str
    path: str
    required: dict[str, Any]
    optional: dict[str, Any]
    answer: tuple[int, Any]


def text(most: int) -> Any:
    return lambda value: isinstance(value, str) and 0 < len(value) <= most


def flag(value: Any) -> bool:
    return isinstance(value, bool)


_PREVIEW = {"url", "prefer_large_media"}
SERVICES = {
    # docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
    "slack": Service(
        "POST",
        r"/services/T\w+/B\w+/\w+",
        {"text": text(40_000)},
        {"mrkdwn": flag, "attachments": lambda value: all(set(a) == {"fallback", "image_url"} for a in value)},
        (200, "ok"),
    ),
    # docs.discord.com/developers/resources/webhook#execute-webhook
    "discord": Service(
        "POST",
        r"/api/webhooks/\d+/[\w-]+\?wait=true",
        {"content": text(2000), "allowed_mentions": lambda value: value == {"parse": []}},
        {"flags": lambda value: value == 4, "embeds": lambda value: all(set(e) == {"image"} for e in value)},
        (200, {"id": "1"}),
    ),
    # core.telegram.org/bots/api#sendmessage
    "telegram": Service(
        "POST",
        r"/bot\d+:[\w-]+/sendMessage",
        {"chat_id": text(64), "text": text(4096)},
        {"link_preview_options": lambda value: value == {"is_disabled": True} or set(value) == _PREVIEW},
        (200, {"ok": True, "result": {}}),
    ),
    # docs.ntfy.sh/publish/#publish-as-json
    "ntfy": Service(
        "POST",
        r"/",
        {"topic": lambda value: re.fullmatch(r"[-_A-Za-z0-9]{1,64}", value), "message": text(4096)},
        {"title": text(250), "priority": lambda value: value in range(1, 6), "click": text(2000), "attach": text(2000)},
        (200, {"id": "x", "event": "message"}),
    ),
    # spec.matrix.org/latest/client-server-api/#put_matrixclientv3roomsroomidsendeventtypetxnid
    "matrix": Service(
        "PUT",
        r"/_matrix/client/v3/rooms/%21[\w.%-]+/send/m\.room\.message/\w+",
        {"msgtype": lambda value: value == "m.text", "body": text(60_000)},
        {"m.mentions": lambda value: value == {}},
        (200, {"event_id": "$1"}),
    ),
    "webhook": Service(
        "POST",
        r"/hook",
        {"id": text(64), "type": lambda value: value in ("alarm", "show"), "time": text(40), "data": dict},
        {"channel": lambda value: isinstance(value, str)},
        (200, {}),
    ),
}


@dataclass
class Chats:
    """A server for all SERVICES. refuse: (status, JSON) instead of its answers. calm: answers only when it is set."""

    port: int = 0
    received: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    refuse: tuple[int, Any] | None = None
    calm: threading.Event = field(default_factory=threading.Event)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take(self, method: str, path: str, body: bytes, headers: Any) -> tuple[int, Any]:
        if self.refuse is not None:
            return self.refuse
        self.calm.wait(at_most(30))
        name, service = next(
            ((n, s) for n, s in SERVICES.items() if s.method == method and re.fullmatch(s.path, path)), ("", None)
        )
        if service is None or headers["Content-Type"] != "application/json":
            self.wrong.append(f"{method} {path}")
            return 404, {}
        value = json.loads(body)
        known = service.required | service.optional
        for key in [*service.required, *value]:
            if key not in value or key not in known or not known[key](value[key]):
                self.wrong.append(f"{name}: {key}: {value.get(key)!r}")
                return 400, {"message": f"wrong {key}"}
        self.received.append((name, value))
        self.logins.append(headers.get("Authorization", ""))
        return service.answer


@contextlib.contextmanager
def chat_server() -> Iterator[Chats]:
    chats = Chats()
    chats.calm.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, answer = chats.take(
                self.command, self.path, self.rfile.read(int(self.headers["Content-Length"])), self.headers
            )
            data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
            self.send_response(status)
            if status in (301, 302, 307, 308):
                self.send_header("Location", f"http://127.0.0.1:{chats.port}/hook")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_PUT = do_POST

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    chats.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield chats
    finally:
        chats.calm.set()
        server.shutdown()
        server.server_close()
