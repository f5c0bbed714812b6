"""A service of the operator decides about pushes and plays, with nginx-rtmp beside it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.auth_hook import HookService, hook_service
from tests.support.clients import Program, pull, push, so_far, take_of, until
from tests.support.gateway import Channel, Edge, Gateway, http, running
from tests.support.media import FRAMES_PER_SECOND, Film
from tests.support.nginx_rtmp import nginx_rtmp
from tests.support.time_outs import at_most
from tests.support.tools import need

FILM = Film("auth-hook", seconds=12)


@pytest.fixture
def service() -> Iterator[HookService]:
    with hook_service() as found:
        yield found


def refusals(channel: Channel) -> list[str]:
    return [refusal["reason"] for refusal in channel.session()["refusals"]]


def push_url(gateway: Gateway, name: str, app: str = "stream") -> str:
    return f"rtmp://127.0.0.1:{gateway.ports['rtmp']}/{app}/{name}"


def ends(program: Program, what: str) -> None:
    until(lambda: not program.running, what, 20)


def test_nginx_rtmp_sends_the_same_fields_and_has_the_same_verdicts(service: HookService) -> None:
    need("nginx")
    with (
        nginx_rtmp(hook=service.url) as nginx,
        running(
            MILLRACE_AUTH__PUBLISH=service.url,
            MILLRACE_AUTH__PLAY=service.url,
            MILLRACE_AUTH__MODE="instead",
            MILLRACE_RTMP__APPS="hooked, other",
        ) as gateway,
    ):
        plain, renamed = gateway.channel(), gateway.channel()
        service.answers = {plain.id: (200, ""), renamed.id: (201, ""), "secret": (301, renamed.id)}
        for server in (lambda name: nginx.url(name, "hooked"), lambda name: push_url(gateway, name, "hooked")):
            with push(FILM, server("refused?token=1&b=%2Fc")) as refused:
                ends(refused, "a refused push ends")
            with push(FILM, server(f"{plain.id}?token=1")) as first, push(FILM, server("secret")) as second:
                players = [
                    pull(server(f"{c.id}?token=2"), seconds=3) for c in (plain, renamed)
                ]  # to the next key frame
                with players[0], players[1], pull(server("refused"), seconds=1) as nobody:
                    assert all(take_of(player).video for player in players)
                    ends(nobody, "a refused player ends")
                    assert not so_far(nobody).video
                assert first.running
                assert second.running
        half = len(service.asked) // 2
        theirs, ours = (
            {(f["call"], f["name"]): f for f in questions} for questions in (service.asked[:half], service.asked[half:])
        )
        assert set(theirs) <= set(ours)
        for question, expected in theirs.items():
            found = ours[question]
            assert list(found) == list(expected), "the same fields in the same order"
            assert found["flashver"].startswith(expected["flashver"])  # nginx-rtmp has room for 32 bytes
            for name in set(expected) - {"clientid", "flashver", "tcurl", "start", "duration", "reset"}:
                assert found[name] == expected[name], name
        assert "secret" not in gateway.log


def test_a_push_needs_its_sign_and_the_permission(service: HookService) -> None:
    with running(MILLRACE_AUTH__PUBLISH=service.url) as gateway:
        channel, other = gateway.channel(), gateway.channel()
        service.answers = {channel.id: (200, "")}
        with push(FILM, push_url(gateway, f"{channel.id}?sign=1-a")) as wrong:
            ends(wrong, "a wrong sign is refused")
        assert not service.asked, "a wrong sign is no question"
        with push(FILM, other.push) as refused:
            ends(refused, "the service refuses it")
        assert "auth hook" in refused.errors
        assert (refusals(channel), refusals(other)) == (["wrong"], ["hook"])
        with push(FILM, channel.push):
            channel.wait_live()


def test_a_name_that_is_no_channel_becomes_one_like_the_template(service: HookService) -> None:
    with running() as gateway:
        template = gateway.channel("template", isHls=True, isCMAF=False, description="of the template")
        data = gateway.data
        gateway.stop()
        settings = {"MILLRACE_AUTH__MODE": "unknown", "MILLRACE_AUTH__TEMPLATE": template.id}
        stores = {"MILLRACE_CHANNELS": f"sqlite:///{data}/millrace.db"}
        with running(MILLRACE_AUTH__PUBLISH=service.url, **settings, **stores) as second:
            service.answers = {"studio-1": (200, ""), template.id: (200, "")}
            with (
                push(FILM, push_url(second, "studio-2")) as refused,
                push(FILM, push_url(second, template.id)) as known,
            ):
                ends(refused, "the service refuses it")
                ends(known, "a channel needs its sign")
            assert service.names() == ["studio-2"]
            with push(FILM, push_url(second, "studio-1")):
                until(lambda: second.api("GET", "/videostream/studio-1").status == 200, "it is made")
                made = Channel(second, second.api("GET", "/videostream/studio-1").json())
                made.wait_playable("live.m3u8")
            assert (made.item["description"], made.item["isCMAF"]) == ("of the template", False)
            assert made.item["outdate"] == template.item["outdate"]
            with push(FILM, push_url(second, f"studio-1?sign={made.key}")):
                made.wait_live()
            assert service.names() == ["studio-2", "studio-1"], "now it is a channel, whose sign decides"


def test_viewers_need_the_permission_in_each_protocol(service: HookService) -> None:
    with running(MILLRACE_AUTH__PLAY=service.url) as gateway:
        channel, secret, other = gateway.channel(), gateway.channel(playAuth="sign"), gateway.channel()
        service.answers = {channel.id: (200, ""), "alias": (302, channel.id)}
        with push(FILM, channel.push, loop=True), push(FILM, secret.push, loop=True):
            channel.wait_playable("live.m3u8", "master.m3u8", "manifest.mpd")
            for _ in range(5):
                channel.wait_playable("live.m3u8")
            http("GET", channel.url("live.m3u8?token=2"))
            assert len(service.asked) == 2, "a viewer who fetches files is not asked about each time"
            files = ("snapshot.jpg", "status.json", "vod/1.mp4", "feed.xml", "next.ics", "report.json")
            for path in ("live.m3u8", "master.m3u8", "live.flv", *files):
                assert http("GET", secret.url(path)).status == 403, path
                assert http("GET", other.url(path)).status == 403, path
            assert http("POST", secret.url("whep"), body={}).status == 401
            assert http("POST", other.url("whep"), body={}).status == 403
            assert http("GET", channel.url("")).status == 200, "pages are for everybody"
            alias = f"http://127.0.0.1:{gateway.ports['http']}/alias"
            with pull(f"{alias}/live.m3u8", seconds=3) as player, pull(f"{alias}/live.flv", seconds=2) as flv:
                assert len(take_of(player).video) >= 2 * FRAMES_PER_SECOND
                assert take_of(flv).video
            for idle in (secret, other):
                with pull(push_url(gateway, idle.id)) as nobody:
                    ends(nobody, "RTMP is refused")
            assert other.id in service.names()
            assert secret.id not in service.names(), "nobody is asked about a viewer without a play sign"
            with pull(push_url(gateway, "alias"), seconds=1) as renamed:
                assert take_of(renamed).video
        assert all(fields["addr"] == "127.0.0.1" for fields in service.asked)


def test_a_service_that_lies_hangs_or_redirects_permits_nothing_and_delays_nobody(service: HookService) -> None:
    settings = {"MILLRACE_AUTH__PUBLISH": service.url, "MILLRACE_AUTH__PLAY": service.url}
    with running(**settings, MILLRACE_AUTH__MODE="instead", MILLRACE_AUTH__TIMEOUT="3") as gateway:
        channel = gateway.channel()
        bad = {
            "login": (302, "http://127.0.0.1/login"),
            "away": (301, "rtmp://192.0.2.1/live/x"),
            "circle": (302, "circle?a=1"),
            "empty": (302, ""),
            "fault": (500, ""),
            "path": (301, "../x"),
            "long": (302, "x" * 5000),
        }
        service.answers = {channel.id: (200, ""), **bad}
        service.silent = {"hang"}
        with (
            push(FILM, push_url(gateway, channel.id), loop=True),
            pull(channel.url("live.flv"), seconds=None) as viewer,
        ):
            until(lambda: so_far(viewer).video, "the viewer sees something")
            began = time.monotonic()
            programs = [push(FILM, push_url(gateway, name)) for name in (*bad, "hang", "x" * 300)]
            for program in programs:
                with program:
                    ends(program, "it is refused")
            assert service.names().count("hang") == 2, "one repetition"
            assert time.monotonic() - began < at_most(20)
            seen = len(so_far(viewer).video)
            until(lambda: len(so_far(viewer).video) > seen + FRAMES_PER_SECOND, "the viewer sees more")
        assert "does not answer" in gateway.log


def test_the_words_of_srs(service: HookService) -> None:
    settings = {"MILLRACE_AUTH__PUBLISH": service.url, "MILLRACE_AUTH__FORMAT": "srs"}
    with running(**settings, MILLRACE_AUTH__MODE="instead", MILLRACE_RTMP__APPS="live") as gateway:
        channel, other = gateway.channel(), gateway.channel()
        service.answers = {channel.id: (200, '{"code": 0, "msg": "OK"}'), other.id: (200, '{"code": 1}')}
        with push(FILM, push_url(gateway, f"{other.id}?token=t", "live")) as refused:
            ends(refused, "the service refuses it")
        with push(FILM, push_url(gateway, f"{channel.id}?token=t", "live")):
            channel.wait_live()
    question = service.asked[-1]
    found = {name: question[name] for name in ("action", "ip", "vhost", "app", "stream", "param")}
    assert found == {
        "action": "on_publish",
        "ip": "127.0.0.1",
        "vhost": "__defaultVhost__",
        "app": "live",
        "stream": channel.id,
        "param": "?token=t",
    }


def test_films_need_the_permission_at_gateway_and_edge(service: HookService, tmp_path: Path) -> None:
    hook = {
        "MILLRACE_AUTH__PLAY": service.url,
        "MILLRACE_AUTH__MODE": "instead",
        "MILLRACE_AUTH__TIMEOUT": "1",
        "MILLRACE_CLUSTER__SECRET": "secret of the cluster",
    }
    with running(**hook) as gateway:
        for name in ("holiday", "secret"):
            film = gateway.data / "media" / "films" / name
            film.mkdir(parents=True)
            (film / f"{name}.m3u8").write_text(f"#EXTM3U\n#EXTINF:10,\n{name}stream_00001.ts\n#EXT-X-ENDLIST\n")
            (film / f"{name}stream_00001.ts").write_bytes(bytes(188))
        service.answers = {"films/holiday": (200, "")}
        edge = Edge(tmp_path, **hook, MILLRACE_EDGE__UPSTREAM=f"127.0.0.1:{gateway.ports['http']}")
        try:
            edge.wait_ready()
            for node in (gateway, edge):
                service.asked.clear()
                base = f"http://127.0.0.1:{node.ports['http']}/vod/films"
                for file in ("", "holiday.m3u8", "holidaystream_00001.ts"):
                    assert http("GET", f"{base}/holiday/{file}?token=7").status == 200, file
                assert [(f["app"], f["name"], f["token"]) for f in service.asked] == [("vod", "films/holiday", "7")]
                for file in ("", "secret.m3u8", "secretstream_00001.ts", "secretstream_00002.ts"):
                    assert http("GET", f"{base}/secret/{file}?token=7").status == 403, file
                service.silent = {"films/silent"}
                assert http("GET", f"{base}/silent/silent.m3u8", timeout=30).status == 403
        finally:
            edge.stop(10)
