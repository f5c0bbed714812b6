"""Refused pushes and the events log, as an operator reads them from real gateways."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from gateway.channels.stream_key import sign
from gateway.ingest.refusal_texts import REVOKED_KEY, WRONG_KEY
from tests.support.clients import Program, push, until
from tests.support.command_line import run
from tests.support.cores import Cores
from tests.support.fleet import sharing
from tests.support.gateway import FAR, Channel, Gateway, running
from tests.support.media import Film
from tests.support.pushing import page
from tests.support.shared_gateway import shared_gateway
from tests.support.time_outs import at_most
from tests.support.tools import need

SECRET = "the-secret-of-these-tests"
FILM = Film("events", seconds=40)
REASONS = ["full", "in_use", "revoked", "expired", "wrong", "missing"]
TEXTS = {
    "missing": "Authorization required: ",
    "wrong": WRONG_KEY,
    "expired": "The key expired on 2001-09-09 01:46 UTC.",
    "revoked": REVOKED_KEY,
    "in_use": "The channel is in use by another publisher.",
    "full": "This server takes no more publishers now; try again later.",
}
CODES = {"in_use": 4409, "full": 1013}


gateway = shared_gateway(
    "ffmpeg",
    MILLRACE_SIGNING__SECRET=SECRET,
    MILLRACE_LIMITS__REFUSALS_PER_MINUTE="0",
    MILLRACE_LIMITS__PUBLISHERS="1",
    MILLRACE_STREAM__LINGER="0",
)


def events(gateway: Gateway, **query: object) -> list[dict[str, Any]]:
    reply = gateway.api("GET", f"/events?{urlencode(query)}")
    assert reply.status == 200, reply.text
    found: list[dict[str, Any]] = reply.json()
    return found


def key_of(channel: Channel, reason: str) -> str:
    """The query of a push that is refused for this reason."""
    keys = {
        "wrong": f"{FAR[:4]}000000-{'0' * 64}",
        "expired": sign(channel.id, 1_000_000_000, SECRET),
        "revoked": sign(channel.id, 2_000_000_001, SECRET),
    }
    return "" if reason == "missing" else f"?sign={keys.get(reason, channel.key)}"


def over_rtmp(channel: Channel, reason: str) -> str:
    """Returns the error message of ffmpeg about a refused push."""
    with push(FILM, f"{channel.obs_server}/{channel.id}{key_of(channel, reason)}") as encoder:
        encoder.process.wait(at_most(30))
        return encoder.errors


def over_websocket(channel: Channel, reason: str) -> str:
    """Returns the reason that a page gets for a refused push."""

    async def refused() -> str:
        url = f"ws://127.0.0.1:{channel.gateway.ports['ws']}/stream/{channel.id}{key_of(channel, reason)}"
        async with page(url) as opened:
            assert await opened.closed() == CODES.get(reason, 4401)
            assert opened.reason == opened.error["reason"]
            return opened.reason

    return asyncio.run(refused())


@pytest.mark.parametrize(("protocol", "refused"), [("rtmp", over_rtmp), ("ws", over_websocket)])
def test_each_refusal_is_sent_to_the_encoder_and_recorded_for_the_operator(
    gateway: Gateway, protocol: str, refused: Any
) -> None:
    channel, other = gateway.channel(), gateway.channel()
    for reason in ("missing", "wrong", "expired", "revoked"):
        assert TEXTS[reason] in refused(channel, reason)
    with push(FILM, channel.push):
        channel.wait_live()
        assert TEXTS["in_use"] in refused(channel, "in_use")
        assert TEXTS["full"] in refused(other, "full")
    until(lambda: channel.session()["state"] == "idle", "it has ended")
    assert TEXTS["missing"] in refused(channel, "missing")
    found = channel.session()["refusals"]
    assert [one["reason"] for one in found] == ["missing", *REASONS[1:]]
    assert {(one["peer"], one["protocol"]) for one in found} == {("127.0.0.1", protocol)}
    assert [one["at"] for one in found] == sorted((one["at"] for one in found), reverse=True)
    assert [one.get("expired") for one in found if one["reason"] == "expired"] == ["2001-09-09T01:46:40.000Z"]
    assert [one["reason"] for one in other.session()["refusals"]] == ["full"]
    logged = events(gateway, channel=channel.id, type="publish.refused")
    assert [one["data"]["reason"] for one in logged] == [one["reason"] for one in found]


def test_an_unknown_channel_is_refused_like_a_wrong_key_and_has_no_session(gateway: Gateway) -> None:
    unknown = Channel(gateway, {"id": "nobody", "key": sign("nobody", 2_000_000_000, SECRET)})
    assert WRONG_KEY in over_rtmp(unknown, "full")
    assert gateway.api("GET", "/videostream/nobody/session").status == 404


def test_a_push_and_the_changes_of_its_channel_are_listed_with_their_author(gateway: Gateway) -> None:
    channel = gateway.channel(videoname="Studio 1")
    with push(FILM, channel.push):
        channel.wait_live()
        gateway.api("PUT", f"/videostream/{channel.id}", {"outdate": "2034-05-06"})
    until(lambda: channel.session()["state"] == "idle", "it has ended")
    gateway.api("DELETE", f"/videostream/{channel.id}?media=delete")
    found = events(gateway, channel=channel.id)
    assert [one["type"] for one in found] == [
        *("channel.deleted", "stream.ended", "publish.ended"),
        *("channel.changed", "stream.started", "publish.started", "channel.created"),
    ]
    deleted, _, ended, changed, _, started, created = (one["data"] for one in found)
    author = {"by": "admin token", "peer": "127.0.0.1"}
    assert created == {"name": "Studio 1", **author}
    assert changed == {"name": "Studio 1", "fields": ["key", "outdate"], **author}
    assert deleted == {"media": "delete", **author}
    assert (started["protocol"], started["peer"], ended["reason"]) == ("rtmp", "127.0.0.1", "publisher gone")
    assert ended["seconds"] > 0
    assert channel.key.split("-")[1] not in str(found)
    assert len({one["node"] for one in found}) == 1 and found[0]["node"]


def test_events_are_read_page_by_page_and_by_time(gateway: Gateway) -> None:
    channel = gateway.channel()
    for number in range(5):
        gateway.api("PUT", f"/videostream/{channel.id}", {"description": str(number)})
    everything = events(gateway, channel=channel.id)
    first = events(gateway, channel=channel.id, limit=4)
    assert first + events(gateway, channel=channel.id, limit=4, before=first[-1]["id"]) == everything
    assert events(gateway, channel=channel.id, since=everything[2]["time"])[:3] == everything[:3]
    assert events(gateway, channel=channel.id, before=everything[-1]["time"]) == []
    assert events(gateway, since="2040-01-01") == events(gateway, since=2_208_988_800) == []
    assert {one["type"] for one in events(gateway, type="channel.changed", limit=1000)} == {"channel.changed"}


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "since=yesterday",
        "since=-1",
        "before=1e9",
        "channel=../x",
        "type=x",
        "since=" + "9" * 50,
    ],
)
def test_a_wrong_query_names_its_field(gateway: Gateway, query: str) -> None:
    reply = gateway.api("GET", f"/events?{query}")
    assert (reply.status, reply.json()["field"]) == (400, query.partition("=")[0])


def test_events_wait_while_the_store_is_unavailable_and_readers_get_503() -> None:
    with running() as gateway:
        gateway.channel()
        assert events(gateway)
        database = sqlite3.connect(gateway.data / "events.db", isolation_level=None)
        database.execute("ALTER TABLE events RENAME TO gone")
        channel = gateway.channel()
        reply = gateway.api("GET", "/events")
        assert reply.status == 503 and int(reply.headers["retry-after"]) > 0
        assert channel.session()["state"] == "idle"
        database.execute("ALTER TABLE gone RENAME TO events")
        database.close()
        until(lambda: events(gateway, channel=channel.id), "the event is stored")


def test_changes_by_the_command_line_are_recorded_with_their_author(gateway: Gateway) -> None:
    channel = gateway.channel()
    environment = {**os.environ, "MILLRACE_DATA": str(gateway.data), "MILLRACE_SIGNING__SECRET": SECRET}
    run("channel", "update", channel.id, "--name", "From a shell", env=environment).check_returncode()
    changed, created = events(gateway, channel=channel.id)
    assert (changed["type"], created["type"]) == ("channel.changed", "channel.created")
    assert changed["data"] == {"name": "From a shell", "fields": ["videoname"], "by": "command line"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are found in /proc")
def test_a_killed_worker_is_an_event(gateway: Gateway) -> None:
    channel = gateway.channel(isImage=True)
    with push(FILM, channel.push):
        (worker,) = until(lambda: media_workers(gateway), "the worker for snapshots")
        os.kill(worker, signal.SIGKILL)
        (event,) = until(lambda: events(gateway, type="worker.died"), "the event of its death")
    assert "SIGKILL" in event["data"]["reason"] and event["data"]["kind"]


def media_workers(gateway: Gateway) -> list[int]:
    pid = gateway.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"workers.programs" in Path(f"/proc/{child}/cmdline").read_bytes()]


# ---- several processes and nodes ----


def refuse_over_rtmp(channel: Channel) -> Program:
    encoder = push(FILM, f"{channel.obs_server}/{channel.id}")
    with encoder:
        encoder.process.wait(at_most(30))
    return encoder


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="several workers need Linux")
def test_the_processes_of_a_host_share_refusals_and_events(tmp_path: Path) -> None:
    need("ffmpeg")
    gateway = Cores(tmp_path, 2, MILLRACE_LIMITS__REFUSALS_PER_MINUTE="0")
    try:
        gateway.wait_ready()
        channel, count = gateway.channel(), 0
        while len({one["node"] for one in events(gateway, type="publish.refused")}) < 2:
            assert count < 40, "one process gets all connections"
            refuse_over_rtmp(channel)
            count += 1
            until(lambda wanted=count: len(events(gateway, type="publish.refused")) == wanted, "it is listed")
        for _ in range(5):  # whichever process answers
            until(lambda: len(channel.session()["refusals"]) == min(10, count), "both processes' refusals")
    finally:
        gateway.stop(15)


def test_a_refusal_at_one_node_is_shown_by_the_other(tmp_path: Path) -> None:
    need("ffmpeg")
    with sharing(tmp_path, 2) as (asked, other):
        channel = asked.channel()
        refuse_over_rtmp(Channel(other, channel.item))
        (refusal,) = until(lambda: channel.session()["refusals"], "the other node's refusal")
        assert (refusal["reason"], refusal["protocol"]) == ("missing", "rtmp")
        with push(FILM, Channel(other, channel.item).push):
            channel.wait_live()
            over_rtmp(channel, "full")  # forwarded, and refused by the holder
            reasons = until(lambda: channel.session()["refusals"][:-1], "the forwarded push's refusal")
            assert [one["reason"] for one in reasons] == ["in_use"]
