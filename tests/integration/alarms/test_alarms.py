"""The alarms of a real gateway: ffmpeg sends what is wrong, a mail server and a chat service get the messages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.alarm_targets import Chats, Inbox, chat_server, mail_server
from tests.support.clients import Program, until
from tests.support.fleet import nodes, sharing
from tests.support.gateway import Channel, Gateway, running
from tests.support.time_outs import at_most
from tests.support.tools import need

MAIL = "?from=gateway@example.com&to=ops@example.com"
LATEST = 15.0  # seconds from a fault to its message: the bound


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    need("ffmpeg")
    with running(MILLRACE_EGRESS__ALLOW="127.0.0.1", MILLRACE_STREAM__LINGER="1") as gateway:
        yield gateway


def push(channel: Channel) -> Program:
    media = ("-f", "lavfi", "-i", "testsrc2=s=160x90:r=25", "-f", "lavfi", "-i", "sine=f=440:r=44100")
    codecs = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-c:a", "aac")
    return Program(["ffmpeg", "-nostdin", "-v", "error", "-re", *media, *codecs, "-f", "flv", channel.push])


def received(inbox: Inbox, chats: Chats) -> int:
    return min(len(inbox.mails), len(chats.received))


def test_a_broken_push_is_told_by_mail_and_chat_within_15_s_and_once(gateway: Gateway):
    with mail_server() as inbox, chat_server() as chats:
        rules = [
            {"name": "mail", "on": ["off_air"], "to": f"smtp://127.0.0.1:{inbox.port}{MAIL}"},
            {"name": "chat", "on": ["off_air"], "to": f"http://127.0.0.1:{chats.port}/hook"},
        ]
        assert gateway.api("PUT", "/alarms", rules).status == 200
        channel = gateway.channel(videoname="Stage\r\nBcc: evil@example.com")
        with push(channel) as program:
            channel.wait_live()
            program.process.kill()
            broke = time.monotonic()
            until(lambda: received(inbox, chats) == 1, "told", LATEST)
        assert time.monotonic() - broke < at_most(LATEST)
        mail, (_, chat) = inbox.mails[0], chats.received[0]
        assert mail["Subject"] == "Millrace: Stage Bcc: evil@example.com is off air"
        assert f"/#/channels/{channel.id}" in mail.get_content()
        assert chat["data"]["title"] == "Stage Bcc: evil@example.com is off air"
        with push(channel):
            until(lambda: received(inbox, chats) == 2, "told the end", 30)
            assert chats.received[1][1]["data"]["state"] == "ended"
        assert chats.wrong == []
    metrics = gateway.api("GET", "/metrics").text
    assert 'millrace_alarms_total{result="delivered"}' in metrics


def test_rules_are_shown_without_secrets_and_kept_if_sent_back(gateway: Gateway):
    with mail_server(login=("me", "pa55word")) as inbox:
        rule = {"name": "mail", "on": ["health"], "to": f"smtp://me:pa55word@127.0.0.1:{inbox.port}{MAIL}"}
        shown = gateway.api("PUT", "/alarms", [rule]).json()
        assert "pa55word" not in str(shown)
        assert shown[0] == {
            "name": "mail",
            "on": ["health"],
            "gigabytes": 0,
            "after": 0,
            "channels": [],
            "stops": True,
            "quiet": None,
            "to": f"smtp://me:********@127.0.0.1:{inbox.port}{MAIL}",
        }
        assert gateway.api("GET", "/alarms").json() == shown
        changed = [{**shown[0], "after": 5, "quiet": {"from": "23:00", "to": "07:00", "zone": "Europe/Berlin"}}]
        assert gateway.api("PUT", "/alarms", changed).json() == changed
        reply = gateway.api("POST", "/alarms/mail/test", {})
        assert (reply.status, reply.json()["sent"]) == (200, True)
        assert "accepted the mail" in reply.json()["answer"]
        assert inbox.mails[0]["Subject"] == "Millrace: This is a test"
        stolen = [{**shown[0], "to": shown[0]["to"].replace("127.0.0.1", "evil.example.com")}]
        assert gateway.api("PUT", "/alarms", stolen).json()["field"] == "to"
        gateway.api("PUT", "/alarms", [{**rule, "to": rule["to"].replace("pa55word", "wr0ngword")}])
        reply = gateway.api("POST", "/alarms/mail/test", {})
        assert reply.status == 502
        assert "refused user and password" in reply.json()["error"]
    log = gateway.log
    assert "pa55word" not in log
    assert "wr0ngword" not in log
    assert gateway.api("POST", "/alarms/nothing/test", {}).status == 404


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("name", ""), ("name", "a/b"), ("name", 5), ("on", []), ("on", ["fire"]), ("after", -1), ("after", "soon")),
        *(("channels", "c1"), ("channels", ["x"] * 1001), ("to", "mailto:a@example.com"), ("to", None)),
        *(("gigabytes", -1), ("gigabytes", "much")),
        *(("quiet", {"from": "25:00", "to": "07:00"}), ("quiet", {"from": "23:00", "to": "07:00", "zone": "Moon/Sea"})),
    ],
)
def test_a_wrong_field_is_named(gateway: Gateway, field: str, value: object):
    before = gateway.api("GET", "/alarms").json()
    rule = {"name": "r", "on": ["disk"], "to": "ntfy://topic", field: value}
    reply = gateway.api("PUT", "/alarms", [rule])
    assert (reply.status, reply.json()["field"]) == (400, field)
    assert gateway.api("GET", "/alarms").json() == before


def test_lists_are_bounded_and_names_unique(gateway: Gateway):
    rule = {"name": "r", "on": ["disk"], "to": "ntfy://topic"}
    assert gateway.api("PUT", "/alarms", [rule, rule]).json()["field"] == "name"
    assert gateway.api("PUT", "/alarms", [{**rule, "name": str(n)} for n in range(51)]).status == 400
    assert gateway.api("PUT", "/alarms", [5]).status == 400
    assert gateway.api("PUT", "/alarms", {}).status == 400


def test_private_targets_are_refused_without_permission():
    with chat_server() as chats, running() as gateway:
        gateway.api("PUT", "/alarms", [{"name": "r", "on": ["disk"], "to": f"{chats.base}/hook"}])
        reply = gateway.api("POST", "/alarms/r/test", {})
        assert reply.status == 502
        assert "not allowed (egress.allow)" in reply.json()["error"]
        assert chats.received == []


def test_two_living_nodes_tell_a_dead_one_and_its_stream_once(tmp_path: Path):
    need("ffmpeg")
    settings = {"MILLRACE_EGRESS__ALLOW": "127.0.0.1", "MILLRACE_ADMIN__STORE": f"sqlite:///{tmp_path}/console.db"}
    with chat_server() as chats, sharing(tmp_path, 3, **settings) as (one, other, dead):
        rule = {"name": "r", "on": ["node_gone", "off_air"], "to": f"{chats.base}/hook"}
        assert one.api("PUT", "/alarms", [rule]).status == 200
        until(lambda: len(nodes(one)) == 3, "three nodes")
        until(lambda: other.api("GET", "/alarms").json() == one.api("GET", "/alarms").json(), "the rules are shared")
        dead.process.kill()
        killed = time.monotonic()
        until(lambda: chats.received, "the dead node is told", 20)
        told = time.monotonic() - killed
        assert told < at_most(LATEST)
        (_, chat) = chats.received[0]
        assert (chat["data"]["kind"], chat["data"]["state"]) == ("node_gone", "begun")
        assert str(dead.ports["http"]) in chat["data"]["title"]
        channel = Channel(other, one.channel(videoname="Stage").item)
        with push(channel) as program:
            channel.wait_live()
            program.process.kill()
            until(lambda: len(chats.received) == 2, "the break is told", 25)
        with push(Channel(one, channel.item)):
            until(lambda: len(chats.received) == 3, "the return at the other node is told", 40)
        assert [message["data"]["state"] for _, message in chats.received] == ["begun", "begun", "ended"]


@pytest.mark.nightly
def test_a_failing_relay_target_is_told_by_its_name(gateway: Gateway):
    with chat_server() as chats:
        rule = {"name": "r", "on": ["output_failing"], "to": f"{chats.base}/hook"}
        assert gateway.api("PUT", "/alarms", [rule]).status == 200
        url = "rtmp://127.0.0.1:9/app/secret-key"
        channel = gateway.channel(videoname="Stage", isRelay=True, relayURL=url)
        with push(channel):
            channel.wait_live()
            until(lambda: chats.received, "the failing target is told", LATEST)
            assert gateway.api("PUT", f"/videostream/{channel.id}/relay", {"relayOff": [0]}).status == 200
            until(lambda: len(chats.received) == 2, "a target that was stopped is no fault", 20)
    begun, ended = (value["data"] for _, value in chats.received)
    assert (begun["title"], begun["state"]) == ("Stage: an output fails", "begun")
    assert "rtmp://127.0.0.1:9/app/" in begun["text"]
    assert ended["state"] == "ended"
    assert "secret-key" not in str(chats.received)
