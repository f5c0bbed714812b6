"""Signing in to the console from outside: cookies, forged requests, guesses, sessions that end, profiles, users."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.api.auth import COOKIE
from gateway.lib import passwords
from gateway.ports.errors import StoreUnavailable
from tests.support.admin import TOKEN, Admin, admin
from tests.support.clock import Clock
from tests.support.http import trusting

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes password hashes fast. Other tests check that they are slow enough."""
    monkeypatch.setattr(passwords, "_N", 1 << 8)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Admin]:
    async with admin(tmp_path) as running:
        yield running


@dataclass
class Browser:
    """A browser double: it keeps the cookie, and its page sends the secret of the session."""

    api: Admin
    cookie: str = ""
    csrf: str = ""
    set_cookie: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> aiohttp.ClientResponse:
        """Sends one request. Header names have "_" instead of "-"."""
        sent = {"Cookie": f"{COOKIE}={self.cookie}"} if self.cookie else {}
        sent |= self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.api.client.session.cookie_jar.clear()
        response = await self.api.client.request(method, path, data=data, headers=sent)
        await response.read()
        return response

    async def sign_in(self, password: str, name: str = "", **headers: str) -> aiohttp.ClientResponse:
        body = {"name": name, "password": password} if name else {"password": password}
        response = await self.ask("POST", "/login", body, **headers)
        if response.status == 200:
            self.set_cookie = response.headers["Set-Cookie"]
            (self.cookie,) = (morsel.value for name, morsel in response.cookies.items() if name.endswith(COOKIE))
            self.csrf = (await response.json())["csrf"]
            self.headers = {"X-CSRF-Token": self.csrf}
        return response

    async def state(self) -> Any:
        return await (await self.ask("GET", "/login")).json()

    async def opens(self) -> bool:
        status = (await self.ask("GET", "/domains")).status
        assert status in (200, 401)
        return status == 200


async def signed_in(api: Admin, password: str = TOKEN, name: str = "") -> Browser:
    browser = Browser(api)
    response = await browser.sign_in(password, name)
    assert response.status == 200, await response.text()
    return browser


async def user(api: Admin, name: str = "eva", password: str = PASSWORD) -> None:
    await api.json("POST", "/users", {"name": name, "password": password, "role": "administrator"})


# ---- signing in and out ----


async def test_the_login_page_gets_the_available_ways_to_sign_in(api: Admin):
    assert await Browser(api).state() == {"user": None, "csrf": None, "oidc": None, "users": False}
    await user(api)
    assert (await Browser(api).state())["users"] is True


async def test_the_admin_token_opens_a_session(api: Admin):
    browser = Browser(api)
    response = await browser.sign_in(TOKEN)
    state = await response.json()
    assert state["user"] == {"name": "admin", "kind": "token", "role": "administrator"}
    assert await browser.state() == state
    assert await browser.opens()
    assert TOKEN not in await response.text() and browser.cookie not in await response.text()


async def test_a_users_password_opens_a_session(api: Admin):
    await user(api, "Éva 中")
    browser = await signed_in(api, PASSWORD, "Éva 中")
    assert (await browser.state())["user"] == {"name": "Éva 中", "kind": "user", "role": "administrator"}
    assert await browser.opens()


async def test_the_session_cookie_is_http_only_and_same_site(api: Admin):
    browser = await signed_in(api)
    parts = {part.strip().lower() for part in browser.set_cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/", "max-age=604800"} == parts
    assert len(browser.cookie) >= 43  # 256 bits


@pytest.mark.parametrize(
    ("name", "password"),
    [("", "wrong"), ("", ""), ("eva", "wrong"), ("nobody", PASSWORD), ("eva", ""), ("../eva", PASSWORD),
     ("e" * 64, "x"), ("EVA", PASSWORD)],
)  # fmt: skip
async def test_a_wrong_name_and_a_wrong_password_give_the_same_refusal(api: Admin, name: str, password: str):
    await user(api)
    response = await Browser(api).sign_in(password, name)
    assert (response.status, await response.json()) == (401, {"error": "the token or password is wrong"})
    assert "Set-Cookie" not in response.headers


@pytest.mark.parametrize(
    ("body", "field"),
    [({"password": 5}, "password"), ({"password": "x" * 1025}, "password"), ({"name": [], "password": "x"}, "name"),
     ({"name": "n" * 65, "password": "x"}, "name"), ({"name": "eva\u0000", "password": PASSWORD}, "name")],
)  # fmt: skip
async def test_a_malformed_login_gives_400(api: Admin, body: dict[str, Any], field: str):
    response = await Browser(api).ask("POST", "/login", body)
    assert (response.status, (await response.json())["field"]) == (400, field)


async def test_signing_out_ends_the_session_on_the_server(api: Admin):
    browser = await signed_in(api)
    response = await browser.ask("POST", "/logout")
    assert (response.status, (await response.json())["user"]) == (200, None)
    (ended,) = (morsel for name, morsel in response.cookies.items() if name.endswith(COOKIE))
    assert ended.value == "" and ended["max-age"] == "0"
    assert not await browser.opens()
    refused = await browser.ask("GET", "/domains")
    assert (await refused.json())["error"] == "the session has ended: sign in again"


async def test_a_new_sign_in_ends_the_previous_session(api: Admin):
    first = await signed_in(api)
    old = first.cookie
    assert (await first.sign_in(TOKEN)).status == 200
    assert first.cookie != old
    first.cookie = old
    assert not await first.opens()


@pytest.mark.parametrize("cookie", ["", "x", "a" * 43, "é中", '"', "a b", "../../etc", "x" * 3000])
async def test_an_invented_cookie_opens_no_session(api: Admin, cookie: str):
    await signed_in(api)
    response = await Browser(api, cookie.encode().decode("latin-1")).ask("GET", "/domains")
    assert response.status == 401


async def test_a_session_may_use_every_route_of_the_token(api: Admin):
    browser = await signed_in(api)
    for path in ("/videostream", "/videostreams/online", "/domains", "/servers", "/metrics", "/openapi.json", "/status",
                 "/log", "/profile", "/users", "/api/server"):  # fmt: skip
        assert (await browser.ask("GET", path)).status == 200, path
    assert (await browser.ask("HEAD", "/status")).status == 200


# ---- forged requests ----


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_cookie_without_the_csrf_secret_changes_nothing(api: Admin, method: str):
    browser = await signed_in(api)
    item = await api.create()
    for forged in ({}, {"X-CSRF-Token": ""}, {"X-CSRF-Token": "wrong"}, {"X-CSRF-Token": "é"}):
        browser.headers = forged
        path = "/videostream" if method == "POST" else f"/videostream/{item['id']}"
        response = await browser.ask(method, path, {"outdate": "2030-01-01"})
        assert response.status == 403
        assert "X-CSRF-Token" in (await response.json())["error"]
    assert len(await api.json("GET", "/videostream")) == 1


async def test_the_csrf_secret_of_another_session_is_refused(api: Admin):
    one, other = await signed_in(api), await signed_in(api)
    one.headers = other.headers
    assert (await one.ask("PUT", "/domains", {})).status == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "https://127.0.0.1:1", "http://127.0.0.1", "file://", "http://127.0.0.1.evil.example",
     "http://", "http://[", "javascript:alert(1)", "http://127.0.0.1:99999"],
)  # fmt: skip
async def test_a_page_of_another_origin_changes_nothing(api: Admin, origin: str):
    browser = await signed_in(api)
    response = await browser.ask("PUT", "/domains", {"pushDNS": "evil.example"}, Origin=origin)
    assert response.status == 403
    assert (await api.json("GET", "/domains"))["pushDNS"] == ""


async def test_a_page_of_the_same_origin_may_change_data(api: Admin):
    browser = await signed_in(api)
    own = str(api.client.make_url("/")).rstrip("/")
    assert (await browser.ask("PUT", "/domains", {"pushDNS": "a.example"}, Origin=own)).status == 200
    assert (await browser.ask("PUT", "/domains", {"pushDNS": "b.example"})).status == 200
    assert (await browser.ask("PUT", "/domains", {}, Host="LOCALHOST:80", Origin="http://localhost")).status == 200


@pytest.mark.parametrize(
    ("site", "status"), [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)]
)
async def test_the_sec_fetch_site_header_is_obeyed(api: Admin, site: str, status: int):
    browser = await signed_in(api)
    assert (await browser.ask("PUT", "/domains", {}, Sec_Fetch_Site=site)).status == status


async def test_another_site_cannot_open_a_session(api: Admin):
    response = await Browser(api).sign_in(TOKEN, Origin="http://evil.example")
    assert response.status == 403
    assert "Set-Cookie" not in response.headers


async def test_the_token_needs_no_secret_and_no_origin(api: Admin):
    headers = {"Authorization": f"Bearer {TOKEN}", "Origin": "http://anywhere.example"}
    response = await api.client.put("/domains", data=b"{}", headers=headers)
    assert response.status == 200


async def test_a_request_with_a_token_ignores_the_cookie(api: Admin):
    browser = await signed_in(api)
    assert (await browser.ask("GET", "/domains", Authorization="Bearer wrong")).status == 401


async def test_other_origins_cannot_read_answers_to_requests_with_a_cookie(api: Admin):
    browser = await signed_in(api)
    for response in (
        await browser.ask("GET", "/profile", Origin="http://evil.example"),
        await browser.ask("OPTIONS", "/profile", Origin="http://evil.example", Access_Control_Request_Method="PUT"),
    ):
        assert response.headers["Access-Control-Allow-Origin"] == "*"  # for which browsers send no cookies
        assert "Access-Control-Allow-Credentials" not in response.headers
        assert "X-CSRF-Token" not in response.headers.get("Access-Control-Allow-Headers", "")


# ---- behind TLS and proxies ----


async def test_over_tls_the_cookie_is_secure(tmp_path: Path):
    async with admin(tmp_path, proxies=trusting("127.0.0.0/8")) as api:
        browser = Browser(api)
        await browser.sign_in(TOKEN, X_Forwarded_Proto="https", Host="console.example.com")
        assert "Secure" in browser.set_cookie
        own = {"X_Forwarded_Proto": "https", "Host": "console.example.com"}
        assert (await browser.ask("PUT", "/domains", {}, Origin="https://console.example.com", **own)).status == 200
        assert (await browser.ask("PUT", "/domains", {}, Origin="http://console.example.com", **own)).status == 403


@pytest.mark.parametrize("way", ["ports", "schemes"])
async def test_two_consoles_of_one_host_keep_their_sessions(tmp_path: Path, way: str):
    """Browsers send cookies to all ports of a host, and let no page without TLS replace a Secure one (RFC 6265bis)."""
    own: list[dict[str, str]] = [{"Host": "h.example:8000"}, {"Host": "h.example:8001"}]
    if way == "schemes":
        own = [{"Host": "h.example", "X_Forwarded_Proto": scheme} for scheme in ("https", "http")]
    jar: dict[str, str] = {}
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    async with (
        admin(tmp_path / "first", proxies=trusting("127.0.0.0/8")) as first,
        admin(tmp_path / "second", proxies=trusting("127.0.0.0/8")) as second,
    ):
        consoles = [Browser(first), Browser(second)]
        for browser, headers in zip(consoles, own, strict=True):
            await browser.sign_in(TOKEN, Cookie=cookies(jar), **headers)
            name, _, value = browser.set_cookie.partition(";")[0].partition("=")
            assert name not in jar
            jar[name], browser.cookie = value, ""
        for browser, headers in zip(consoles, own, strict=True):
            assert (await browser.ask("GET", "/domains", Cookie=cookies(jar), **headers)).status == 200
        assert (await consoles[0].ask("POST", "/logout", Cookie=cookies(jar), **own[0])).status == 200
        assert (await consoles[0].ask("GET", "/domains", Cookie=cookies(jar), **own[0])).status == 401
        assert (await consoles[1].ask("GET", "/domains", Cookie=cookies(jar), **own[1])).status == 200


def cookies(jar: dict[str, str]) -> str:
    return "; ".join(f"{name}={value}" for name, value in jar.items())


async def test_forwarded_headers_of_an_untrusted_proxy_are_ignored(tmp_path: Path):
    async with admin(tmp_path, proxies=trusting("10.0.0.0/8")) as api:
        browser = Browser(api)
        await browser.sign_in(TOKEN, X_Forwarded_Proto="https")
        assert "Secure" not in browser.set_cookie


async def test_an_https_origin_is_accepted_behind_a_proxy_without_forwarded_headers(api: Admin):
    browser = await signed_in(api)
    there = {"Host": "console.example.com", "Origin": "https://console.example.com"}
    assert (await browser.ask("PUT", "/domains", {}, **there)).status == 200


REWRITTEN = {
    "Origin": "https://console.example.com",
    "X_Forwarded_Host": "console.example.com",
    "Host": "127.0.0.1:8000",
}


async def test_a_listed_proxy_may_rewrite_the_host_and_forward_the_original(tmp_path: Path):
    async with admin(tmp_path, proxies=trusting("127.0.0.0/8")) as api:
        browser = Browser(api)
        assert (await browser.sign_in(TOKEN, **REWRITTEN)).status == 200
        assert (await browser.ask("PUT", "/domains", {}, **REWRITTEN)).status == 200
        other = REWRITTEN | {"Origin": "https://evil.example"}
        assert (await browser.ask("PUT", "/domains", {}, **other)).status == 403


@pytest.mark.parametrize("networks", [("10.0.0.0/8",), ()], ids=["another proxy is listed", "no proxy is listed"])
async def test_the_refusal_of_a_rewritten_host_names_both_hosts(tmp_path: Path, networks: tuple[str, ...]):
    async with admin(tmp_path, proxies=trusting(*networks)) as api:
        refused = await Browser(api).sign_in(TOKEN, **REWRITTEN)
        assert (refused.status, "Set-Cookie" in refused.headers) == (403, False)
        reason = "the page is at https://console.example.com, but the request asks for 127.0.0.1:8000"
        assert (await refused.json())["error"] == f"{reason}: let a proxy keep the Host header"


async def test_guesses_are_counted_by_the_address_behind_a_proxy(tmp_path: Path):
    async with admin(tmp_path, refusals_per_minute=2, proxies=trusting("127.0.0.0/8")) as api:
        for _ in range(2):
            assert (await Browser(api).sign_in("wrong", X_Forwarded_For="198.51.100.1")).status == 401
        assert (await Browser(api).sign_in("wrong", X_Forwarded_For="198.51.100.1")).status == 429
        assert (await Browser(api).sign_in("wrong", X_Forwarded_For="198.51.100.2")).status == 401


# ---- guessing ----


async def test_an_address_with_wrong_guesses_must_wait_but_correct_sign_ins_work(tmp_path: Path):
    async with admin(tmp_path, refusals_per_minute=3) as api:
        signed = await signed_in(api)
        answers = [await Browser(api).sign_in(f"guess {n}") for n in range(5)]
        assert [answer.status for answer in answers] == [401, 401, 401, 429, 429]
        assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
        assert (await Browser(api).sign_in(TOKEN)).status == 200
        assert await signed.opens()
        assert (await api.call("GET", "/domains", token="wrong")).status == 429, "they are counted together"


async def test_many_guesses_at_a_name_delay_its_sign_ins_without_a_lock(tmp_path: Path):
    async with admin(tmp_path, refusals_per_minute=30, proxies=trusting("127.0.0.0/8")) as api:
        await user(api)
        authenticators = api.authenticators
        for n in range(9):
            assert (await Browser(api).sign_in("wrong", "eva", X_Forwarded_For=f"198.51.{n}.1")).status == 401
        paused = [authenticators.new_attempt("203.0.113.9", name).pauses for name in ("EVA", "adam")]
        assert max(paused[0].values()) == 1.0
        assert max(paused[1].values()) == 0.0, "other names are not concerned"
        assert (await Browser(api).sign_in(PASSWORD, "EVA", X_Forwarded_For="203.0.113.9")).status == 401
        assert (await Browser(api).sign_in(PASSWORD, "eva", X_Forwarded_For="203.0.113.9")).status == 200


async def test_guesses_of_one_address_do_not_delay_sign_ins_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    began, gate = threading.Event(), threading.Semaphore(0)

    def slow(password: str, kept: Any) -> bool:
        began.set()
        gate.acquire()
        return password == PASSWORD

    async with admin(tmp_path, refusals_per_minute=30, proxies=trusting("127.0.0.0/8")) as api:
        await user(api)
        api.authenticators.record_failure("198.51.100.1")
        monkeypatch.setattr(passwords, "verify_password", slow)
        flood = [
            asyncio.ensure_future(Browser(api).sign_in("wrong", f"n{n}", X_Forwarded_For="198.51.100.1"))
            for n in range(20)
        ]
        done, _ = await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result().status for task in done} == {429}, "an address has so many places only"
        await asyncio.to_thread(began.wait)
        right = asyncio.ensure_future(Browser(api).sign_in(PASSWORD, "eva", X_Forwarded_For="198.51.100.2"))
        while not api.authenticators.users.waits_for("198.51.100.2"):
            await asyncio.sleep(0)
        gate.release(2)  # the guess that is being hashed, and one more
        assert (await right).status == 200
        gate.release(40)
        assert {(await task).status for task in flood} <= {401, 429}


async def test_simultaneous_sign_ins_are_verified_one_by_one_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    at_once, most = 0, 0

    def slow(password: str, kept: Any) -> bool:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        gate.acquire()
        at_once -= 1
        return False

    gate = threading.Semaphore(0)
    async with admin(tmp_path, refusals_per_minute=0) as api:
        monkeypatch.setattr(passwords, "verify_password", slow)
        flood = [asyncio.ensure_future(Browser(api).sign_in("wrong", "eva")) for _ in range(40)]
        done, _ = await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
        assert {task.result().status for task in done} == {429}
        assert (await api.call("GET", "/domains")).status == 200, "everything else goes on"
        assert (await signed_in(api)).cookie, "the token needs no turn"
        gate.release(40)
        statuses = [(await task).status for task in flood]
    assert sorted(set(statuses)) == [401, 429]
    assert most == 1


# ---- sessions that end ----


async def test_an_unused_session_ends(tmp_path: Path):
    clock = Clock()
    async with admin(tmp_path, idle=1000, most=10_000, clock=clock) as api:
        browser = await signed_in(api)
        for _ in range(5):
            clock.now += 900
            assert await browser.opens()
        clock.now += 1001
        assert not await browser.opens()
        assert (await browser.state())["user"] is None


async def test_a_session_in_use_ends_after_its_maximum_age(tmp_path: Path):
    clock = Clock()
    async with admin(tmp_path, idle=1000, most=2000, clock=clock) as api:
        browser = await signed_in(api)
        for _ in range(3):
            clock.now += 600
            assert await browser.opens()
        clock.now += 600
        assert not await browser.opens()


async def test_a_new_password_ends_only_the_sessions_of_that_user(api: Admin):
    await user(api)
    await user(api, "adam")
    eva, again, adam = [await signed_in(api, PASSWORD, name) for name in ("eva", "eva", "adam")]
    boss = await signed_in(api)
    assert (await boss.ask("PUT", "/users/eva", {"password": "another password"})).status == 200
    assert [await b.opens() for b in (eva, again, adam, boss)] == [False, False, True, True]
    assert (await Browser(api).sign_in(PASSWORD, "eva")).status == 401
    assert (await Browser(api).sign_in("another password", "eva")).status == 200


async def test_the_sessions_of_a_deleted_user_end(api: Admin):
    await user(api)
    eva = await signed_in(api, PASSWORD, "eva")
    assert (await eva.ask("PUT", "/profile", {"theme": "dark"})).status == 200
    assert await api.json("DELETE", "/users/eva") == {"name": "eva", "deleted": True}
    assert not await eva.opens()
    assert (await Browser(api).sign_in(PASSWORD, "eva")).status == 401
    await user(api)
    back = await signed_in(api, PASSWORD, "eva")
    assert await (await back.ask("GET", "/profile")).json() == {}, "another person of that name starts anew"
    assert not await eva.opens()


async def test_another_admin_token_ends_the_sessions_of_the_old_one(tmp_path: Path):
    async with admin(tmp_path) as api:
        await user(api)
        boss, eva = await signed_in(api), await signed_in(api, PASSWORD, "eva")
        cookies = boss.cookie, eva.cookie
    async with admin(tmp_path) as api:
        assert [await Browser(api, cookie).opens() for cookie in cookies] == [True, True], "a restart ends none"
    async with admin(tmp_path, token_mark="that of another token") as api:
        assert [await Browser(api, cookie).opens() for cookie in cookies] == [False, True]


async def test_a_new_session_beyond_the_limit_ends_the_oldest_session(tmp_path: Path):
    clock = Clock()
    async with admin(tmp_path, clock=clock, refusals_per_minute=0) as api:
        browsers = []
        for _ in range(23):
            clock.now += 5
            browsers.append(await signed_in(api))
        clock.now += 5
        assert [await b.opens() for b in browsers] == [False] * 3 + [True] * 20


# ---- the store is unavailable ----


class Flaky:
    """A console store that can be switched off."""

    def __init__(self, store: Any) -> None:
        self.store, self.away = store, False

    def __getattr__(self, name: str) -> Any:
        ask = getattr(self.store, name)

        async def maybe(*args: Any) -> Any:
            if self.away:
                raise StoreUnavailable("the disk is gone")
            return await ask(*args)

        return maybe


@pytest.fixture
async def flaky(tmp_path: Path) -> AsyncIterator[tuple[Admin, Flaky, Clock]]:
    from gateway.adapters.local.stores import SqliteConsole

    clock = Clock()
    async with SqliteConsole(tmp_path / "people.db", clock) as store:
        switch = Flaky(store)
        async with admin(tmp_path, console=switch, clock=clock) as api:
            yield api, switch, clock


async def test_the_token_opens_a_session_while_the_store_is_unavailable(flaky: tuple[Admin, Flaky, Clock]):
    api, switch, clock = flaky
    await user(api)
    switch.away = True
    browser = await signed_in(api)
    assert await browser.opens()
    assert (await browser.ask("PUT", "/domains", {})).status == 200
    assert (await Browser(api).sign_in(PASSWORD, "eva")).status == 503
    assert (await api.call("GET", "/domains")).status == 200
    clock.now += 43_201
    assert not await browser.opens()
    again = await signed_in(api)
    assert (await again.ask("POST", "/logout")).status == 200
    assert (await again.ask("GET", "/login")).status == 200


async def test_open_sessions_continue_while_the_store_is_unavailable(flaky: tuple[Admin, Flaky, Clock]):
    api, switch, clock = flaky
    browser = await signed_in(api)
    assert await browser.opens()
    switch.away = True
    clock.now += 300
    assert await browser.opens()
    unknown = await Browser(api, "somebody-elses-cookie").ask("GET", "/domains")
    assert unknown.status == 503
    assert unknown.headers["Retry-After"]
    switch.away = False
    clock.now += 300
    assert await browser.opens()


# ---- profiles ----


async def test_a_profile_is_stored_unchanged_and_private(api: Admin):
    await user(api)
    await user(api, "adam")
    eva, adam, boss = (
        await signed_in(api, PASSWORD, "eva"),
        await signed_in(api, PASSWORD, "adam"),
        await signed_in(api),
    )
    assert await (await eva.ask("GET", "/profile")).json() == {}
    ivs = {"channelType": "IVS", "rtmpURL": "rtmps://x/app/", "streamKey": "sk_secret", "playURL": ""}
    wanted = {"language": "zh", "theme": "dark", "broadcast": {"bitrate": 2_500_000}, "ivs": ivs}
    assert await (await eva.ask("PUT", "/profile", wanted)).json() == wanted
    assert await (await eva.ask("GET", "/profile")).json() == wanted
    for other in (adam, boss):
        assert "sk_secret" not in await (await other.ask("GET", "/profile")).text()
    assert await (await eva.ask("PUT", "/profile", {"theme": "light"})).json() == {"theme": "light"}
    assert await (await eva.ask("GET", "/profile")).json() == {"theme": "light"}


async def test_the_token_and_its_sessions_share_one_profile(api: Admin):
    await api.json("PUT", "/profile", {"a": 1})
    assert await (await (await signed_in(api)).ask("GET", "/profile")).json() == {"a": 1}


async def test_a_user_named_like_the_token_has_a_separate_profile(api: Admin):
    await api.json("PUT", "/profile", {"secret": True})
    await user(api, "admin")
    named = await signed_in(api, PASSWORD, "admin")
    assert await (await named.ask("GET", "/profile")).json() == {}


async def test_a_profile_has_a_maximum_size(api: Admin):
    response = await api.call("PUT", "/profile", {"a": "x" * 64_000})
    assert (response.status, (await response.json())["error"][:11]) == (413, "the profile")
    assert (await api.call("PUT", "/profile", raw=b"{" + b" " * 300_000 + b"}")).status == 413
    assert (await api.call("PUT", "/profile", raw=b"[]")).status == 400
    assert (await api.call("PUT", "/profile", {"a": "x" * 60_000})).status == 200


# ---- users ----


async def test_users_are_listed_by_name_without_their_passwords(api: Admin):
    for name in ("eva", "Adam", "中文"):
        await user(api, name)
    found = await api.json("GET", "/users")
    assert [u["name"] for u in found] == ["Adam", "eva", "中文"]
    assert all(u.keys() == {"name", "role", "channels", "created", "changed", "secondFactor"} for u in found)


async def test_a_password_is_stored_only_as_a_hash(api: Admin, tmp_path: Path):
    await user(api)
    await signed_in(api, PASSWORD, "eva")
    for file in tmp_path.glob("console.db*"):
        assert PASSWORD.encode() not in file.read_bytes()


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "name"), ({"name": "eva"}, "password"), ({"name": "eva", "password": "short"}, "password"),
     ({"name": "eva", "password": "x" * 257}, "password"), ({"name": "eva", "password": "with\nline"}, "password"),
     ({"name": "", "password": PASSWORD}, "name"), ({"name": "a/b", "password": PASSWORD}, "name"),
     ({"name": " eva", "password": PASSWORD}, "name"), ({"name": "e" * 65, "password": PASSWORD}, "name"),
     ({"name": "a\u202eb", "password": PASSWORD}, "name"), ({"name": "..", "password": PASSWORD}, "name"),
     ({"name": "a%2fb", "password": PASSWORD}, "name"), ({"name": 5, "password": PASSWORD}, "name")],
)  # fmt: skip
async def test_an_invalid_name_or_password_is_reported_with_its_field(api: Admin, body: dict[str, Any], field: str):
    response = await api.call("POST", "/users", body)
    assert (response.status, (await response.json())["field"]) == (400, field)


async def test_a_user_name_can_be_added_only_once(api: Admin):
    await user(api)
    assert (await api.call("POST", "/users", {"name": "eva", "password": PASSWORD})).status == 409


@pytest.mark.parametrize("name", ["nobody", "a%2Fb", "%00", "x" * 100])
async def test_an_unknown_user_cannot_be_changed(api: Admin, name: str):
    assert (await api.call("PUT", f"/users/{name}", {"password": PASSWORD})).status == 404
    assert (await api.call("DELETE", f"/users/{name}")).status == 404


async def test_a_script_in_a_user_name_is_returned_as_text(api: Admin):
    name = "<script>alert(1)<"
    await user(api, name)
    response = await api.call("GET", "/users")
    assert response.content_type == "application/json"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert (await response.json())[0]["name"] == name


# ---- what an operator sees ----


async def test_sign_ins_are_logged_without_secrets(api: Admin, capsys: pytest.CaptureFixture[str]):
    await user(api)
    browser = await signed_in(api, PASSWORD, "eva")
    await Browser(api).sign_in("a wrong password", "eva")
    await browser.ask("POST", "/logout")
    printed = "".join(capsys.readouterr())
    assert "signed in" in printed and "signed out" in printed and "eva" in printed
    for secret in (PASSWORD, "a wrong password", browser.cookie, browser.csrf):
        assert secret not in printed
    assert api.metrics.refused.values[("login", "wrong")] == 1


async def test_a_huge_body_is_refused_before_it_is_processed(api: Admin):
    body = b'{"password":"' + b"x" * 10_000_000 + b'"}'
    for path, token in (("/login", None), ("/profile", TOKEN), ("/users", TOKEN)):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        method = "PUT" if path == "/profile" else "POST"
        async with api.client.request(method, path, data=io.BytesIO(body), headers=headers) as response:
            assert response.status == 413, path
