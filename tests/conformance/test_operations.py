"""A real push from the view of an operator: metrics, webhooks, sessions, live switches, a kick."""

import hashlib
import hmac
import http.server
import json
import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import clients, gateway
from tests.support.media import Film
from tests.support.time_outs import at_most

SECRET = "hook-secret"
FILM = Film("operations", seconds=20)


class Receiver:
    """A webhook receiver: what came, with its signature checked."""

    def __init__(self) -> None:
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                expected = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
                event = json.loads(body)
                event["signed"] = hmac.compare_digest(self.headers["X-Millrace-Signature"], expected)
                receiver.events.put(event)
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"

    def next(self, kind: str) -> dict[str, Any]:
        while True:
            event = self.events.get(timeout=at_most(20))
            if event["type"] == kind:
                return event


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture(scope="module")
def running(receiver: Receiver) -> Iterator[gateway.Gateway]:
    with gateway.running(
        MILLRACE_HOOKS__URL=receiver.url, MILLRACE_HOOKS__SECRET=SECRET, MILLRACE_STREAM__LINGER="0.5"
    ) as one:
        yield one


def metric(text: str, name: str) -> float:
    line = next(line for line in text.splitlines() if line.startswith(name))
    return float(line.rsplit(" ", 1)[1])


def test_a_push_can_be_watched_counted_switched_and_kicked(running: gateway.Gateway, receiver: Receiver) -> None:
    channel = running.channel(isHls=True, isCMAF=True, hls_time="1")
    with clients.push(FILM, channel.push) as push:
        channel.wait_live()
        started = receiver.next("stream.started")
        assert (started["channel"], started["signed"]) == (channel.id, True)
        with clients.pull(channel.url("live.flv"), seconds=None) as viewer:
            clients.until(lambda: channel.session()["viewers"]["flv"] == 1, "one FLV viewer")
            channel.wait_playable("live.m3u8", "master.m3u8")
            seen = running.api("GET", "/metrics").text
            assert metric(seen, 'millrace_publishers{protocol="rtmp"}') == 1
            assert metric(seen, 'millrace_viewers{protocol="flv"}') == 1
            assert metric(seen, 'millrace_sent_bytes_total{protocol="flv"}') > 10_000
            assert metric(seen, 'millrace_sent_bytes_total{protocol="http"}') > 1_000
            assert metric(seen, "millrace_ingest_bytes_total") > 10_000
            assert metric(seen, 'millrace_segment_duration_seconds_count{format="ts"}') >= 1
            assert metric(seen, "millrace_part_duration_seconds_count") >= 2
            assert "process_resident_memory_bytes" in seen

            off = running.api("POST", f"/videostream/{channel.id}/outputs/hls", {"enabled": False})
            assert off.status == 200
            gone = gateway.http("GET", channel.url("live.m3u8"))
            assert (gone.status, gone.text.strip()) == (404, f"hls is not enabled for {channel.id}")
            running.api("POST", f"/videostream/{channel.id}/outputs/hls", {"enabled": True})
            channel.wait_playable("live.m3u8")

            kicked = running.api("DELETE", f"/videostream/{channel.id}/session")
            assert kicked.status in (200, 204)
            ended = receiver.next("stream.ended")
            assert (ended["channel"], ended["data"]["reason"]) == (channel.id, "kicked")
            clients.until(lambda: not push.running, "the publisher to be told")
            clients.until(lambda: not viewer.running, "the viewer to be ended")


def test_a_webhook_reports_a_refused_push_without_its_key(running: gateway.Gateway, receiver: Receiver) -> None:
    channel = running.channel()
    wrong = channel.push[:-1] + ("0" if channel.push[-1] != "0" else "1")
    with clients.push(FILM, wrong):
        refused = receiver.next("publish.refused")
        assert refused["channel"] == channel.id
        assert refused["data"]["reason"] == "NotAuthorized"
        assert channel.key[:-1] not in json.dumps(refused)
        assert channel.key[:-1] not in running.log
        seen = running.api("GET", "/metrics").text
        assert metric(seen, 'millrace_auth_failures_total{reason="NotAuthorized",what="publish"}') == 1
