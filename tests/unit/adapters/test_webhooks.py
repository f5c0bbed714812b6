"""Webhooks against a real HTTP receiver in this process."""

import asyncio
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from gateway.adapters.webhooks import Webhooks, make_post
from gateway.lib.metric_table import HOOKS
from gateway.lib.metrics import Counter
from gateway.ports.events import LOG_ONLY, Event, Events, EventType
from gateway.settings.models import HooksSettings
from tests.support.time_outs import at_most

SECRET = "hook-secret"


@dataclass
class Receiver:
    """Answers with what `status` says and keeps what came."""

    status: Callable[[dict[str, Any]], int] = lambda body: 200
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Any] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    hold: asyncio.Event | None = None
    arrived: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    most_at_once: int = 0
    _now: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            data = await request.read()
            body = json.loads(data)
            self.raw.append(data)
            self.bodies.append(body)
            self.headers.append(request.headers)
            self.arrived.put_nowait(body)
            if self.hold is not None:
                await self.hold.wait()
            return web.Response(status=self.status(body), headers={"Location": "/elsewhere"})
        finally:
            self._now -= 1

    async def take(self, count: int) -> list[dict[str, Any]]:
        return [await asyncio.wait_for(self.arrived.get(), at_most(10)) for _ in range(count)]


@contextlib.asynccontextmanager
async def hooked(
    receiver: Receiver, *, secret: str = SECRET, flush: float = 5, timeout: float = 5
) -> AsyncIterator[tuple[Webhooks, Counter]]:
    app = web.Application()
    app.router.add_post("/hook", receiver.handle)
    results = Counter(HOOKS)
    async with TestServer(app) as server:
        url = str(server.make_url("/hook?token=in-the-url"))
        settings = HooksSettings(url=url, secret=SecretStr(secret), timeout=timeout)
        hooks = Webhooks(settings, results, backoff_first=0.001, flush=flush)
        async with hooks:
            yield hooks, results
        if receiver.hold is not None:
            receiver.hold.set()


def event(channel: str = "c1", kind: EventType = EventType.STREAM_STARTED, **data: Any) -> Event:
    return Event(kind, 1_700_000_000.5, channel, data)


async def test_an_event_is_posted_with_a_signature():
    receiver = Receiver()
    async with hooked(receiver) as (hooks, results):
        events = Events()
        events.listen(hooks.post)
        events.emit(event(stream="c1"))
        (body,) = await receiver.take(1)
    assert body.keys() == {"id", "type", "time", "channel", "data"}
    assert (body["type"], body["channel"], body["data"]) == ("stream.started", "c1", {"stream": "c1"})
    assert body["time"] == "2023-11-14T22:13:20.500Z"
    expected = hmac.new(SECRET.encode(), receiver.raw[0], hashlib.sha256).hexdigest()
    assert receiver.headers[0]["X-Millrace-Signature"] == f"sha256={expected}"
    assert receiver.headers[0]["Content-Type"] == "application/json"
    assert results.values == {("delivered",): 1}


def test_without_a_secret_there_is_no_signature():
    assert "X-Millrace-Signature" not in make_post(event(), "", "id").headers


def test_secrets_in_the_data_are_masked():
    post = make_post(event(error="cannot reach rtmp://a.example/app/the-relay-key", key="abc"), SECRET, "id")
    assert b"the-relay-key" not in post.body and b'"key":"abc"' not in post.body


POSTED_TYPES = [kind for kind in EventType if kind not in LOG_ONLY]

# What each part of the gateway tells, and the same as a receiver gets it.
POSTED: dict[EventType, tuple[dict[str, Any], str]] = {
    EventType.STREAM_STARTED: ({"stream": "c1@720p"}, '{"stream":"c1@720p"}'),
    EventType.STREAM_ENDED: (
        {"stream": "c1", "reason": "unpublished", "seconds": 61.5, "bytes": 12_000_000},
        '{"stream":"c1","reason":"unpublished","seconds":61.5,"bytes":12000000}',
    ),
    EventType.PUBLISH_REFUSED: (
        {"peer": "192.0.2.7", "protocol": "rtmp", "reason": "NotAuthorized", "refusal": "expired", "expired": 1},
        '{"peer":"192.0.2.7","protocol":"rtmp","reason":"NotAuthorized","refusal":"expired","expired":1}',
    ),
    EventType.OUTPUT_FAILED: (
        {"output": "relay", "error": "cannot reach rtmp://a.example/app/the-relay-key"},
        '{"output":"relay","error":"cannot reach rtmp://a.example/app/***"}',
    ),
    EventType.OUTPUT_RECOVERED: ({"output": "relay"}, '{"output":"relay"}'),
    EventType.RECORDING_READY: (
        {"bytes": 7, "kind": "video", "start": 1.5, "seconds": 2.0, "key": "c1/mp4/2026/1/2/capture-1767323045678.mp4"},
        '{"bytes":7,"kind":"video","start":1.5,"seconds":2.0,"key":"c1/mp4/2026/1/2/capture-1767323045678.mp4"}',
    ),
    EventType.JOB_DONE: (
        {"job": "1-ab", "kind": "vod", "source": "token=1.mp4", "state": "COMPLETE",
         "outputs": {"hls": "token=1/token=1.m3u8"}},
        '{"job":"1-ab","kind":"vod","source":"token=1.mp4","state":"COMPLETE",'
        '"outputs":{"hls":"token=1/token=1.m3u8"}}',
    ),
    EventType.STREAM_HEALTH: (
        {"stream": "c1", "code": "gop_long", "text": "Key frame every 10 s.", "value": 10.0, "state": "begun"},
        '{"stream":"c1","code":"gop_long","text":"Key frame every 10 s.","value":10.0,"state":"begun"}',
    ),
    EventType.KEY_EXPIRES: (
        {"name": "Stage", "expires": "2030-01-31T18:00:00Z"},
        '{"name":"Stage","expires":"2030-01-31T18:00:00Z"}',
    ),
    EventType.INPUT_SWITCHED: (
        {"from": "main", "to": "slate", "reason": "silent"},
        '{"from":"main","to":"slate","reason":"silent"}',
    ),
    EventType.CUE: (
        {"stream": "c1", "id": "key=1", "type": "out", "seconds": 30.0, "at": "2030-01-31T18:00:00.000Z"},
        '{"stream":"c1","id":"key=1","type":"out","seconds":30.0,"at":"2030-01-31T18:00:00.000Z"}',
    ),
    EventType.JOB_FAILED: (
        {"job": "1-ab", "kind": "vod", "source": "key=1.mp4", "state": "ERROR", "error": "no picture"},
        '{"job":"1-ab","kind":"vod","source":"key=1.mp4","state":"ERROR","error":"no picture"}',
    ),
    EventType.CERTIFICATE_RENEWED: (
        {"names": ["live.example.com"], "expires": "2030-01-31T18:00:00Z"},
        '{"names":["live.example.com"],"expires":"2030-01-31T18:00:00Z"}',
    ),
    EventType.CERTIFICATE_FAILED: (
        {"reason": "port 80 of live.example.com is not reachable", "retry": "2030-01-31T18:00:00Z"},
        '{"reason":"port 80 of live.example.com is not reachable","retry":"2030-01-31T18:00:00Z"}',
    ),
    EventType.REGISTRY_FAILED: ({"reason": "connection refused"}, '{"reason":"connection refused"}'),
    EventType.REGISTRY_RECOVERED: ({"seconds": 300.2}, '{"seconds":300.2}'),
}  # fmt: skip


@pytest.mark.parametrize("kind", POSTED_TYPES)
def test_every_event_is_posted_with_all_its_data(kind: EventType) -> None:
    data, posted = POSTED[kind]
    body = make_post(Event(kind, 1_700_000_000.5, "c1", data), SECRET, "id").body.decode()
    assert body == (f'{{"id":"id","type":"{kind}","time":"2023-11-14T22:13:20.500Z","channel":"c1","data":{posted}}}')


@pytest.mark.parametrize("kind", POSTED_TYPES)
def test_the_webhook_table_names_every_event_and_all_its_data(kind: EventType) -> None:
    page = (Path(__file__).parents[3] / "docs/operations.md").read_text("utf-8").partition("## Webhooks")[2]
    rows = [line for line in page.partition("\n## ")[0].splitlines() if line.startswith("|") and f"`{kind}`" in line]
    assert len(rows) == 1
    assert [name for name in POSTED[kind][0] if f"`{name}`" not in rows[0]] == []


async def test_log_only_events_are_not_posted():
    receiver = Receiver()
    async with hooked(receiver) as (hooks, results):
        for kind in sorted(LOG_ONLY):
            hooks.post(event(kind=kind))
        hooks.post(event())
        (body,) = await receiver.take(1)
    assert body["type"] == "stream.started"
    assert results.values == {("delivered",): 1}


async def test_events_of_a_channel_arrive_in_order_despite_failures():
    failures = [500, 503, 429]
    receiver = Receiver(status=lambda body: failures.pop() if failures else 200)
    async with hooked(receiver) as (hooks, results):
        for n in range(5):
            hooks.post(event(n=n))
        await receiver.take(8)
    assert [body["data"]["n"] for body in receiver.bodies] == [0, 0, 0, 0, 1, 2, 3, 4]
    assert len({body["id"] for body in receiver.bodies}) == 5
    assert receiver.raw[0] == receiver.raw[3]
    assert results.values == {("delivered",): 5}


async def test_an_event_that_the_receiver_rejects_is_not_retried():
    receiver = Receiver(status=lambda body: {0: 404, 1: 302}.get(body["data"]["n"], 204))
    async with hooked(receiver) as (hooks, results):
        for n in range(3):
            hooks.post(event(n=n))
        await receiver.take(3)
    assert [body["data"]["n"] for body in receiver.bodies] == [0, 1, 2]
    assert results.values == {("rejected",): 2, ("delivered",): 1}


async def test_a_receiver_that_names_a_pause_is_asked_after_it():
    begun: list[float] = []

    async def answer(request: web.Request) -> web.Response:
        now = asyncio.get_running_loop().time()
        begun.append(now)
        if now - begun[0] < 1:
            return web.Response(status=429, headers={"Retry-After": "1"})
        return web.Response()

    receiver = Receiver()
    receiver.handle = answer  # type: ignore[method-assign]
    async with hooked(receiver, flush=at_most(5)) as (hooks, results):
        hooks.post(event())
    assert results.values == {("delivered",): 1}
    assert len(begun) == 2


async def test_an_event_is_dropped_after_repeated_server_errors():
    receiver = Receiver(status=lambda body: 500)
    async with hooked(receiver) as (hooks, results):
        hooks.post(event())
        await receiver.take(6)
    assert results.values == {("failed",): 1}


async def test_an_invalid_webhook_url_is_not_logged(capsys: pytest.CaptureFixture[str]):
    settings = HooksSettings(url="http://[::1]x/geheim", secret=SecretStr(""), timeout=5)
    results = Counter(HOOKS)
    async with Webhooks(settings, results) as hooks:
        hooks.post(event())
    assert results.values == {("rejected",): 1}
    logged = "".join(capsys.readouterr())
    assert "webhook failed" in logged and "geheim" not in logged


async def test_the_address_is_not_logged_if_the_receiver_does_not_speak_http(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        writer.close()

    monkeypatch.setattr("gateway.adapters.webhooks.MAX_ATTEMPTS", 1)
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/services/T0/B0/in-the-path"
        settings = HooksSettings(url=url, secret=SecretStr(""), timeout=5)
        async with Webhooks(settings, Counter(HOOKS)) as hooks:
            hooks.post(event())
    out = "".join(capsys.readouterr())
    assert "webhook failed" in out
    assert "the answer is not HTTP" in out
    assert "in-the-path" not in out


async def test_channels_do_not_wait_for_each_other():
    receiver = Receiver(hold=asyncio.Event())
    async with hooked(receiver) as (hooks, results):
        for n in range(20):
            hooks.post(event(f"c{n}"))
            hooks.post(event(f"c{n}"))
        await receiver.take(8)
        assert receiver.most_at_once == 8
        assert receiver.hold is not None
        receiver.hold.set()
        await receiver.take(32)
    assert results.values == {("delivered",): 40}


async def test_a_full_queue_drops_the_oldest_event(monkeypatch):
    monkeypatch.setattr("gateway.adapters.webhooks.MAX_WAITING", 3)
    receiver = Receiver(hold=asyncio.Event())
    async with hooked(receiver) as (hooks, results):
        hooks.post(event(n=0))
        await receiver.take(1)
        for n in range(1, 6):
            hooks.post(event(n=n))
            assert len(hooks) <= 3
        assert receiver.hold is not None
        receiver.hold.set()
        await receiver.take(3)
    assert [body["data"]["n"] for body in receiver.bodies] == [0, 3, 4, 5]
    assert results.values == {("dropped",): 3, ("delivered",): 3}


async def test_refused_pushes_cannot_displace_other_events(monkeypatch):
    monkeypatch.setattr("gateway.adapters.webhooks.MAX_WAITING", 10)
    receiver = Receiver(hold=asyncio.Event())
    async with hooked(receiver) as (hooks, results):
        hooks.post(event("c1"))
        for n in range(1000):
            hooks.post(event(f"made-up-{n}", EventType.PUBLISH_REFUSED))
        hooks.post(event("c1", EventType.STREAM_ENDED))
        assert len(hooks) == 7
        assert receiver.hold is not None
        receiver.hold.set()
        await receiver.take(7)
    kinds = [body["type"] for body in receiver.bodies if body["channel"] == "c1"]
    assert kinds == ["stream.started", "stream.ended"]
    assert results.values[("dropped",)] == 995


async def test_shutdown_sends_the_queued_events():
    receiver = Receiver()
    async with hooked(receiver) as (hooks, results):
        for n in range(10):
            hooks.post(event(n=n))
    assert results.values == {("delivered",): 10}


async def test_shutdown_does_not_wait_for_a_hung_receiver():
    receiver = Receiver(hold=asyncio.Event())
    async with hooked(receiver, flush=0.05) as (hooks, results):
        hooks.post(event())
        hooks.post(event())
        await receiver.take(1)
    assert results.values == {("dropped",): 2}
    hooks.post(event())
    assert results.values == {("dropped",): 3}


async def test_a_post_that_times_out_is_retried():
    receiver = Receiver(hold=asyncio.Event())
    async with hooked(receiver, timeout=0.05) as (hooks, results):
        hooks.post(event())
        await receiver.take(2)
        assert receiver.hold is not None
        receiver.hold.set()
    assert results.values == {("delivered",): 1}


async def test_an_unreachable_receiver_counts_as_a_failure():
    results = Counter(HOOKS)
    settings = HooksSettings(url="http://127.0.0.1:9/hook", secret=SecretStr(""), timeout=1)
    hooks = Webhooks(settings, results, backoff_first=0.0001)
    async with hooks:
        hooks.post(event())
        while len(hooks):
            await asyncio.sleep(0.001)
    assert results.values == {("failed",): 1}
