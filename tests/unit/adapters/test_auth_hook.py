"""The words of nginx-rtmp and SRS, and what one answer means."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.adapters.auth_hook import (
    MAX_ANSWER,
    MAX_NAME,
    MAX_QUERY,
    MAX_WAITING_OF_ADDRESS,
    HttpAuthHook,
    is_srs_permission,
    nginx_answer,
    nginx_body,
    srs_body,
)
from gateway.lib.metrics import Metrics
from gateway.ports.auth_hook import HookAction, HookDetails, HookRequest
from gateway.ports.errors import AtCapacity
from gateway.settings.models import AuthSettings
from tests.support.auth_hook import HookService, hook_service
from tests.support.waiting import until

DETAILS = HookDetails("token=1&b=%2F", "live", "rtmp://a.example/live", "FMLE/3.0")
PUBLISH = HookRequest(HookAction.PUBLISH, "na me", "192.0.2.1", DETAILS)


@pytest.mark.parametrize(
    ("status", "location", "name"),
    [
        (200, "", "n"),
        (204, "other", "n"),
        (301, "other", "other"),
        (302, "other?x=1", "other"),
        (302, "", None),
        (302, "http://a.example/login", None),
        (302, "rtmp://a.example/live/x", None),
        (302, "/other", None),
        (400, "other", None),
        (403, "", None),
        (101, "", None),
    ],
)
def test_a_status_of_nginx_rtmp(status, location, name):
    assert nginx_answer(status, {"Location": location} if location else {}, "n") == name


@pytest.mark.parametrize("answer", [b"0", b'{"code": 0}', b' {"code":0,"msg":"OK"}\n'])
def test_a_permission_of_srs(answer):
    assert is_srs_permission(200, answer)
    assert not is_srs_permission(201, answer)


@pytest.mark.parametrize(
    "answer", [b"", b"1", b"00", b"0.0", b"false", b"null", b"[0]", b'{"code": "0"}', b'{"code": false}']
)
def test_no_permission_of_srs(answer):
    assert not is_srs_permission(200, answer)


@given(st.binary(max_size=40))
def test_any_answer_is_judged(answer):
    assert is_srs_permission(200, answer) in (True, False)


def test_the_form_of_nginx_rtmp():
    assert nginx_body(PUBLISH, "7") == (
        "app=live&flashver=FMLE%2F3.0&swfurl=&tcurl=rtmp%3A%2F%2Fa.example%2Flive&pageurl=&addr=192.0.2.1&clientid=7"
        "&call=publish&name=na+me&type=live&token=1&b=%2F"
    )
    assert "&call=play&name=n&start=0&duration=0&reset=0" in nginx_body(HookRequest(HookAction.PLAY, "n", "::1"), "7")


@pytest.mark.parametrize("trick", ["name=x", "%6eame=x", "+name=x", "name[]=x", "NAME=x", "name", "addr=x&call=play"])
def test_a_client_cannot_replace_a_field(trick):
    request = HookRequest(HookAction.PUBLISH, "n", "192.0.2.1", HookDetails(f"token=1&{trick}&names=2"))
    assert nginx_body(request, "7").endswith("&call=publish&name=n&type=live&token=1&names=2")


def test_the_json_of_srs():
    body = srs_body(PUBLISH, "7")
    assert (body["action"], body["stream_url"], body["param"]) == (
        "on_publish",
        "a.example/live/na me",
        "?token=1&b=%2F",
    )
    assert "pageUrl" in srs_body(HookRequest(HookAction.PLAY, "n", "::1"), "7")


def hook(service: HookService, metrics: Metrics, format: str = "nginx-rtmp", timeout: float = 10.0) -> HttpAuthHook:
    values = {"publish": service.url, "play": "", "format": format, "mode": "both", "template": "", "timeout": timeout}
    return HttpAuthHook(AuthSettings(**values), metrics.auth_hook)


def question(name: str, address: str = "192.0.2.1") -> HookRequest:
    return HookRequest(HookAction.PUBLISH, name, address)


async def test_answers_are_counted_and_names_that_nobody_can_have_are_not_asked():
    metrics = Metrics("1")
    with hook_service() as service:
        service.answers = {"a": (200, ""), "b": (302, "a"), "broken": (503, "")}
        async with hook(service, metrics) as asked:
            assert asked.asks(HookAction.PUBLISH)
            assert not asked.asks(HookAction.PLAY)
            assert [await asked.ask(question(name)) for name in ("a", "b", "c", "broken")] == ["a", "a", None, None]
            for name in ("", "x" * (MAX_NAME + 1), "line\nbreak"):
                assert await asked.ask(question(name)) is None
            long = HookDetails("x" * (MAX_QUERY + 1))
            assert await asked.ask(HookRequest(HookAction.PUBLISH, "a", "::1", long)) is None
        assert service.names() == ["a", "b", "c", "broken", "broken"]
    counted = metrics.auth_hook.values
    assert counted == {("publish", "allowed"): 2, ("publish", "refused"): 1, ("publish", "no answer"): 1}


async def test_equal_questions_share_a_request_and_an_address_has_a_limit():
    with hook_service() as service:
        service.silent, service.answers = {"slow"}, {"slow": (200, ""), "b": (200, "")}
        async with hook(service, Metrics("1")) as asked:
            waiting = [asyncio.create_task(asked.ask(question("slow"))) for _ in range(50)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            service.released.set()
            assert await asyncio.gather(*waiting[1:]) == ["slow"] * 49
            assert service.names() == ["slow"]
            others = [asyncio.create_task(asked.ask(question(f"n{i}"))) for i in range(MAX_WAITING_OF_ADDRESS)]
            await asyncio.sleep(0)
            with pytest.raises(AtCapacity):
                await asked.ask(question("one more"))
            assert await asked.ask(question("b", "192.0.2.2")) == "b"
            assert await asked.ask(question("b"), exempt=True) == "b"
            await asyncio.gather(*others)
            assert await asked.ask(question("b")) == "b"


async def test_a_service_that_is_silent_or_gone_permits_nothing():
    metrics = Metrics("1")
    with hook_service() as service:
        service.silent = {"slow"}
        async with hook(service, metrics, timeout=0.3) as asked:
            assert await asked.ask(question("slow")) is None
            service.released.set()
            await until(lambda: service.names() == ["slow", "slow"])
    async with hook(service, metrics) as asked:
        assert await asked.ask(question("gone")) is None
    assert metrics.auth_hook.values == {("publish", "no answer"): 2}


@pytest.mark.parametrize(
    ("format", "answer", "reason"),
    [
        ("nginx-rtmp", (301, "https://a.example/hook?token=geheim"), "status 301: a redirect to no stream"),
        ("nginx-rtmp", (302, "/login"), "status 302: a redirect to no stream"),
        ("nginx-rtmp", (404, ""), ""),
        ("srs", (301, "https://a.example/hook?token=geheim"), "status 301: a redirect to no stream"),
        ("srs", (200, "<html>Sign in</html>"), "its answer is not JSON"),
        ("srs", (200, ""), "its answer is not JSON"),
        ("srs", (200, '{"code": 1}'), ""),
        ("srs", (200, "1"), ""),
        ("srs", (403, "<html>Forbidden</html>"), ""),
    ],
)
async def test_an_answer_that_is_none_of_the_service_is_logged(format: str, answer: tuple[int, str], reason: str):
    metrics = Metrics("1")
    with hook_service() as service, capture_logs() as logged:
        service.answers = {"a": answer}
        async with hook(service, metrics, format) as asked:
            assert [await asked.ask(question("a", f"192.0.2.{n}")) for n in range(3)] == [None] * 3
    assert [entry["reason"] for entry in logged] == ([reason] if reason else [])
    assert metrics.auth_hook.values == {("publish", "no answer" if reason else "refused"): 3}


async def test_a_long_answer_of_srs_permits_nothing():
    with hook_service() as service:
        service.answers = {"long": (200, json.dumps({"code": 0, "text": "x" * MAX_ANSWER})), "short": (200, "0")}
        async with hook(service, Metrics("1"), "srs") as asked:
            assert await asked.ask(question("long")) is None
            assert await asked.ask(question("short")) == "short"
