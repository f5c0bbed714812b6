"""Signing in through an OpenID Connect provider, and using its tokens; the provider is as strict as real ones."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http.cookies import Morsel
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import pytest
from structlog.testing import capture_logs

from gateway.api import oidc as sign_in
from gateway.api.auth import COOKIE
from gateway.api.openid_provider import OpenIdProvider
from gateway.ports.errors import StoreUnavailable
from tests.support import oidc
from tests.support.admin import Admin, admin
from tests.support.clock import Clock
from tests.support.command_line import run
from tests.support.gateway import ANY_PORTS, http, running
from tests.support.oidc import CLIENT, SECRET, Provider


def client(issuer: str, clock: Clock | None = None, **options: Any) -> OpenIdProvider:
    return OpenIdProvider(oidc.settings(issuer, **options), **({"clock": clock} if clock else {}))


@pytest.fixture
async def idp() -> AsyncIterator[Provider]:
    async with oidc.provider() as provider:
        yield provider


@dataclass
class Lab:
    idp: Provider
    api: Admin
    clock: Clock

    async def bearer(self, token: str) -> int:
        return (await self.api.call("GET", "/profile", token=token)).status

    async def get(self, url: str, **options: Any) -> aiohttp.ClientResponse:
        """Runs one step of a browser: no redirect is followed, cookies are kept."""
        if not url.startswith("http"):
            url = str(self.api.client.make_url(url))
        response = await self.api.client.session.get(url, allow_redirects=False, **options)
        await response.read()
        return response

    async def sign_in(self) -> aiohttp.ClientResponse:
        """Runs all steps of the sign-in, and returns the last answer."""
        start = await self.get("/oidc/start")
        assert start.status == 302, await start.text()
        there = await self.get(start.headers["Location"])
        return await self.get(there.headers["Location"])

    async def state(self) -> Any:
        return await (await self.get("/login")).json()


@pytest.fixture
async def lab(idp: Provider, tmp_path: Path) -> AsyncIterator[Lab]:
    clock = Clock(1000.0)
    async with admin(tmp_path, provider=client(idp.issuer, clock)) as api:
        yield Lab(idp, api, clock)


def session_cookie(response: aiohttp.ClientResponse) -> Morsel[str] | None:
    """Returns the session's cookie in an answer; its name begins with scheme and port."""
    return next((morsel for name, morsel in response.cookies.items() if name.endswith(COOKIE)), None)


# ---- signing in ----


async def test_the_login_page_gets_the_provider_name(lab: Lab):
    assert (await lab.state())["oidc"] == {"name": "Cognito"}


async def test_a_user_of_the_provider_can_sign_in(lab: Lab):
    back = await lab.sign_in()
    assert (back.status, back.headers["Location"]) == (303, "/")
    state = await lab.state()
    assert state["user"] == {"name": "eva@example.com", "kind": "oidc", "role": "administrator"}
    changed = await lab.api.client.session.put(
        lab.api.client.make_url("/profile"), data=b'{"theme": "dark"}', headers={"X-CSRF-Token": state["csrf"]}
    )
    assert changed.status == 200
    cookie = session_cookie(back)
    assert cookie is not None
    assert cookie["httponly"] and cookie["samesite"] == "Strict"


async def test_the_authorization_request_carries_pkce_state_and_nonce(lab: Lab):
    asked = parse_qs(urlsplit((await lab.get("/oidc/start")).headers["Location"]).query)
    again = parse_qs(urlsplit((await lab.get("/oidc/start")).headers["Location"]).query)
    assert asked["redirect_uri"] == [str(lab.api.client.make_url("/oidc/callback"))]
    for secret in ("state", "nonce", "code_challenge"):
        assert len(asked[secret][0]) >= 43 and asked[secret] != again[secret]


@pytest.mark.parametrize(
    ("host", "headers", "expected"),
    [
        ("console.example.com", {"Sec-Fetch-Site": "same-origin"}, "https://console.example.com"),
        ("console.example.com:8443", {"Sec-Fetch-Site": "none"}, "https://console.example.com:8443"),
        ("console.example.com", {}, "http://console.example.com"),
        ("10.0.0.1:8000", {}, "http://10.0.0.1:8000"),
        *(
            (host, {"Sec-Fetch-Site": "same-origin"}, f"http://{host}")
            for host in ("127.0.0.1:8000", "localhost:8000", "[::1]:8000", "console.localhost")
        ),
    ],
)
async def test_the_provider_returns_to_https_also_behind_a_proxy_without_forwarded_headers(
    lab: Lab, host: str, headers: dict[str, str], expected: str
):
    """Browsers send Sec-Fetch-Site only over TLS, and to the machine itself (Fetch Metadata §2)."""
    page = await lab.get("/oidc/start", headers={"Host": host, **headers})
    (address,) = parse_qs(urlsplit(page.headers["Location"]).query)["redirect_uri"]
    assert address == f"{expected}/oidc/callback"


async def test_the_sign_in_cookie_is_limited_to_the_callback(lab: Lab):
    cookie = (await lab.get("/oidc/start")).cookies["millrace_oidc"]
    assert (cookie["path"], cookie["samesite"], cookie["httponly"], cookie["max-age"]) == ("/oidc", "Lax", True, "600")
    lab.api.client.session.cookie_jar.clear()
    back = await lab.sign_in()
    assert back.cookies["millrace_oidc"]["max-age"] == "0"


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
async def test_sign_ins_in_several_tabs_of_a_browser_succeed_in_any_order(lab: Lab, order: tuple[int, ...]):
    tabs = [await lab.get("/oidc/start") for _ in order]
    for n in order:
        there = await lab.get(tabs[n].headers["Location"])
        back = await lab.get(there.headers["Location"])
        assert (back.status, back.headers.get("Location")) == (303, "/")
        assert (await lab.get(there.headers["Location"])).status == 403, "each of them once"
    assert back.cookies["millrace_oidc"]["max-age"] == "0"


@pytest.mark.parametrize("query", ["code=c&state=wrong", "error=access_denied&state=x", ""])
async def test_a_callback_that_was_not_started_here_leaves_the_sign_in_of_another_tab(lab: Lab, query: str):
    start = await lab.get("/oidc/start")
    assert (await lab.get(f"/oidc/callback?{query}")).status == 403
    there = await lab.get(start.headers["Location"])
    assert (await lab.get(there.headers["Location"])).status == 303


@pytest.mark.parametrize("other", ["of another program", "x" * 5000, "a.b~c.d~" * 100, "é"])
async def test_the_cookie_of_many_sign_ins_stays_short(lab: Lab, other: str):
    lab.api.client.session.cookie_jar.update_cookies({"millrace_oidc": other}, lab.api.client.make_url("/oidc"))
    tabs = [await lab.get("/oidc/start") for _ in range(20)]
    assert len(tabs[-1].cookies["millrace_oidc"].value) < 1000
    answers = [await lab.get((await lab.get(tab.headers["Location"])).headers["Location"]) for tab in tabs]
    assert [answer.status for answer in answers] == [403] * 16 + [303] * 4


@pytest.mark.parametrize(
    "query",
    ["code=c&state=wrong", "code=c&state=", "code=c", "state=x", "", "error=access_denied&state=x", "code=c&state=é"],
)
async def test_a_callback_that_was_not_started_here_is_refused(lab: Lab, query: str):
    await lab.get("/oidc/start")
    response = await lab.get(f"/oidc/callback?{query}")
    assert response.status == 403
    assert session_cookie(response) is None
    assert "/token" not in lab.idp.asked


async def test_a_code_without_the_sign_in_cookie_opens_no_session(lab: Lab):
    """An attacker sends a code to a victim's browser."""
    start = await lab.get("/oidc/start")
    there = await lab.get(start.headers["Location"])
    lab.api.client.session.cookie_jar.clear()
    assert (await lab.get(there.headers["Location"])).status == 403


@pytest.mark.parametrize("cookie", ["..", "....", "a.b.c", "x.y.z.9999999999." + "0" * 64])
@pytest.mark.parametrize("state", ["", "a", "x"])
async def test_a_forged_sign_in_cookie_opens_no_session(lab: Lab, cookie: str, state: str):
    lab.idp.nonce = ""
    url = f"/oidc/callback?code=c&state={state}"
    assert (await lab.get(url, headers={"Cookie": f"millrace_oidc={cookie}"})).status == 403
    assert "/token" not in lab.idp.asked, "the provider is not asked"


async def test_a_callback_can_be_used_only_once(lab: Lab):
    start = await lab.get("/oidc/start")
    jar = dict(start.cookies)["millrace_oidc"].value
    state = parse_qs(urlsplit(start.headers["Location"]).query)["state"][0]
    headers = {"Cookie": f"millrace_oidc={jar}"}
    assert (await lab.get(f"/oidc/callback?code=wrong&state={state}", headers=headers)).status == 403
    asked = lab.idp.asked.count("/token")
    assert (await lab.get(f"/oidc/callback?code=other&state={state}", headers=headers)).status == 403
    assert lab.idp.asked.count("/token") == asked == 1


async def test_wrong_callbacks_are_limited_and_correct_ones_are_not(idp: Provider, tmp_path: Path):
    async with admin(tmp_path, provider=client(idp.issuer), refusals_per_minute=2) as api:
        lab = Lab(idp, api, Clock(1000.0))
        answers = [await lab.get("/oidc/callback?code=c&state=x") for _ in range(4)]
        assert [answer.status for answer in answers] == [403, 403, 429, 429]
        assert int(answers[-1].headers["Retry-After"]) > 0
        assert (await lab.sign_in()).status == 303


async def test_an_error_of_the_provider_is_shown_as_plain_text(lab: Lab):
    start = await lab.get("/oidc/start")
    state = parse_qs(urlsplit(start.headers["Location"]).query)["state"][0]
    response = await lab.get(f"/oidc/callback?state={state}&error=<script>alert(1)</script>&error_description=x")
    text = await response.text()
    assert response.status == 403 and "the provider refused the sign-in" in text
    assert "<script" not in text and "scriptalert1script" in text
    assert "script-src" not in response.headers["Content-Security-Policy"]


async def test_the_log_has_the_reason_of_the_provider_for_a_refusal(lab: Lab):
    start = await lab.get("/oidc/start")
    state = parse_qs(urlsplit(start.headers["Location"]).query)["state"][0]
    with capture_logs() as logged:
        query = f"state={state}&error=access_denied&error_description=E50105:%20not%0Aassigned"
        page = await lab.get(f"/oidc/callback?{query}")
        lab.idp.secret = "another one"
        other = await lab.sign_in()
    assert (page.status, other.status) == (403, 403)
    assert "E50105" not in await page.text() and "E7000215" not in await other.text()
    assert [entry["provider"] for entry in logged if "provider" in entry] == ["access_denied: E50105: not assigned"]
    (refused,) = (entry for entry in logged if entry["event"] == "the sign-in provider refuses the code")
    assert refused["reason"] == "invalid_client: E7000215: this is the id of the secret"


async def test_a_code_works_once(lab: Lab):
    start = await lab.get("/oidc/start")
    jar = dict(start.cookies)["millrace_oidc"].value
    there = await lab.get(start.headers["Location"])
    assert (await lab.get(there.headers["Location"])).status == 303
    again = await lab.get(there.headers["Location"], headers={"Cookie": f"millrace_oidc={jar}"})
    assert again.status == 403


@pytest.mark.parametrize(
    "claims",
    [
        {"email": "adam@example.com"}, {"email_verified": False}, {"aud": "somebody-else"}, {"exp": 1_000_000_000},
        {"iss": "https://elsewhere.example"}, {"sub": None},
    ],
)  # fmt: skip
async def test_a_token_that_the_rules_refuse_opens_no_session(lab: Lab, claims: dict[str, Any]):
    lab.idp.claims |= claims
    response = await lab.sign_in()
    assert response.status == 403
    assert session_cookie(response) is None
    assert (await lab.state())["user"] is None


EVA = {"email": "eva@example.com", "email_verified": True, "preferred_username": "eva"}


@pytest.mark.parametrize(
    ("options", "claims", "told", "user"),
    [
        ({}, {}, EVA, ("eva", "administrator")),  # Authelia 4.39
        ({"claim": "groups", "allow": ["staff"]}, EVA, {"groups": ["staff"]}, ("eva", "administrator")),
        ({"claim": "groups", "allow": ["staff"]}, EVA, {"groups": ["guests"]}, None),
        ({"claim": "groups", "allow": ["staff"]}, {**EVA, "groups": ["guests"]}, {"groups": ["staff"]}, None),
        ({"observers": ["*"], "allow": []}, EVA, {"channels": ["one"]}, ("eva", "observer")),
        ({}, {}, {**EVA, "sub": "somebody else"}, None),
        ({}, {}, {**EVA, "email_verified": False}, None),
        ({}, {"email": "eva@example.com"}, {**EVA, "email": "adam@example.com"}, None),  # it confirms another address
        ({}, {}, {}, None),
    ],
)  # fmt: skip
async def test_claims_that_are_missing_in_the_token_come_from_the_user_info(
    idp: Provider,
    tmp_path: Path,
    options: dict[str, Any],
    claims: dict[str, Any],
    told: dict[str, Any],
    user: tuple[str, str] | None,
):
    idp.claims, idp.told = {"sub": "subject-1", **claims}, told
    async with admin(tmp_path, provider=client(idp.issuer, **options)) as api:
        lab = Lab(idp, api, Clock(0.0))
        assert (await lab.sign_in()).status == (403 if user is None else 303)
        found = (await lab.state())["user"]
        assert (None if found is None else (found["name"], found["role"])) == user
        assert found is None or found.get("channels", []) == told.get("channels", [])


async def test_the_user_info_is_not_requested_for_a_complete_token(lab: Lab):
    lab.idp.told = EVA
    assert (await lab.sign_in()).status == 303
    assert "/userinfo" not in lab.idp.asked


@pytest.mark.parametrize("status", [401, 500])
async def test_without_an_answer_of_the_user_info_nobody_gets_more_rights(idp: Provider, tmp_path: Path, status: int):
    idp.told, idp.broken = {"channels": ["one"]}, {"/userinfo": status}
    async with admin(tmp_path, provider=client(idp.issuer, allow=[], observers=["*"])) as api:
        lab = Lab(idp, api, Clock(0.0))
        assert (await lab.sign_in()).status == 503
        assert (await lab.state())["user"] is None


@pytest.mark.parametrize(
    ("options", "supported", "more"),
    [
        ({"claim": "groups"}, ["openid", "email", "profile", "groups", "offline_access"], " groups"),
        ({"claim": "groups"}, ["openid", "email"], ""),
        ({"claim": "groups"}, None, ""),
        ({"claim": "groups", "channels_claim": "streams"}, ["streams", None, {}, "groups"], " groups streams"),
        ({}, ["email", "profile"], ""),
    ],
)
async def test_a_scope_with_the_name_of_a_claim_is_requested(
    idp: Provider, options: dict[str, Any], supported: list[Any] | None, more: str
):
    idp.configuration = {} if supported is None else {"scopes_supported": supported}
    provider = client(idp.issuer, **options)
    url = await provider.start("http://here/oidc/callback", "s", "n", "v")
    await provider.close()
    assert parse_qs(urlsplit(url).query)["scope"] == [f"openid email profile{more}"]


async def test_the_answer_to_another_sign_in_opens_no_session(lab: Lab):
    lab.idp.nonce = "of-another-sign-in"
    assert (await lab.sign_in()).status == 403


@pytest.mark.parametrize(
    ("secret", "configuration"),
    [("", {}), (SECRET, {"token_endpoint_auth_methods_supported": ["client_secret_post"]})],
)
async def test_clients_can_authenticate_without_a_secret_or_with_a_secret_in_the_form(
    idp: Provider, tmp_path: Path, secret: str, configuration: dict[str, Any]
):
    idp.secret, idp.configuration = secret, configuration
    async with admin(tmp_path, provider=client(idp.issuer, client_secret=secret)) as api:
        assert (await Lab(idp, api, Clock(1000.0)).sign_in()).status == 303


async def test_a_session_ends_if_the_rules_no_longer_allow_its_user(idp: Provider, tmp_path: Path):
    async with admin(tmp_path, provider=client(idp.issuer)) as api:
        signed_in = session_cookie(await Lab(idp, api, Clock(1000.0)).sign_in())
        assert signed_in is not None
        cookie = signed_in.value
    sent = {"Cookie": f"{COOKIE}={cookie}"}
    async with admin(tmp_path, provider=client(idp.issuer)) as api:
        assert (await api.client.get("/profile", headers=sent)).status == 200
    async with admin(tmp_path, provider=client(idp.issuer, allow=["adam@example.com"])) as api:
        assert (await api.client.get("/profile", headers=sent)).status == 401
    async with admin(tmp_path) as api:
        assert (await api.client.get("/profile", headers=sent)).status == 401
        assert (await api.client.get("/oidc/start")).status == 404


# ---- bearer tokens ----


async def test_tokens_of_the_provider_open_the_api(lab: Lab):
    token = lab.idp.token()
    assert await lab.bearer(token) == 200
    created = await lab.api.call("POST", "/videostream", {"outdate": "2090-01-01"}, token=token)
    assert created.status == 200, "no secret of a session is needed"


async def test_a_token_and_a_session_are_the_same_person(lab: Lab):
    await lab.api.call("PUT", "/profile", {"theme": "dark"}, token=lab.idp.token())
    await lab.sign_in()
    assert await (await lab.get("/profile")).json() == {"theme": "dark"}


async def test_refused_tokens_count_as_wrong_guesses(idp: Provider, tmp_path: Path):
    async with admin(tmp_path, provider=client(idp.issuer), refusals_per_minute=3) as api:
        lab = Lab(idp, api, Clock(1000.0))
        for bad in (idp.token(email="adam@example.com"), idp.token(key=oidc.rsa_key()), "a.b.c"):
            assert await lab.bearer(bad) == 401
        assert await lab.bearer("a.b.c") == 429
        assert await lab.bearer(idp.token()) == 200


async def test_a_new_key_of_the_provider_is_fetched_but_not_too_often(lab: Lab):
    assert await lab.bearer(lab.idp.token()) == 200
    lab.idp.keys["second"] = oidc.ec_key()
    for _ in range(5):
        assert await lab.bearer(lab.idp.token(kid="second")) == 401
    assert lab.idp.asked.count("/keys") == 1
    lab.clock.now += 61
    assert await lab.bearer(lab.idp.token(kid="second")) == 200
    for n in range(5):
        assert await lab.bearer(lab.idp.token(kid=f"invented-{n}", key=oidc.ec_key())) == 401
    assert lab.idp.asked.count("/keys") == 2


@pytest.mark.parametrize("kid", ["", "first"])
async def test_the_only_key_of_a_provider_needs_no_id(lab: Lab, kid: str):
    """OpenID Connect Core 1.0 §10.1 asks for an id only where there are several keys."""
    lab.idp.keys = {kid: oidc.rsa_key()}
    assert await lab.bearer(lab.idp.token(kid=None, key=lab.idp.keys[kid])) == 200
    for other in (lab.idp.token(kid=None, key=oidc.rsa_key()), lab.idp.token(kid="other", key=lab.idp.keys[kid])):
        assert await lab.bearer(other) == 401
    lab.idp.keys["second"] = oidc.rsa_key()
    lab.clock.now += 3601
    for key in lab.idp.keys.values():
        assert await lab.bearer(lab.idp.token(kid=None, key=key)) == 401
    assert await lab.bearer(lab.idp.token(kid="second")) == 200


@pytest.mark.parametrize(("kid", "said"), [("", None), ("first", None), ("first", "first")])
async def test_a_new_key_with_the_id_of_the_old_one_is_fetched_but_not_too_often(lab: Lab, kid: str, said: str | None):
    lab.idp.keys = {kid: oidc.rsa_key()}
    assert await lab.bearer(lab.idp.token(kid=said, key=lab.idp.keys[kid])) == 200
    lab.idp.keys = {kid: oidc.ec_key()}
    fresh = lab.idp.token(kid=said, key=lab.idp.keys[kid])
    assert await lab.bearer(fresh) == 401
    assert lab.idp.asked.count("/keys") == 1
    lab.clock.now += 61
    assert await lab.bearer(fresh) == 200
    for _ in range(5):
        assert await lab.bearer(lab.idp.token(kid=said, key=oidc.ec_key())) == 401
    assert lab.idp.asked.count("/keys") == 2
    lab.clock.now += 61
    assert [await lab.bearer(fresh) for _ in range(3)] == [200] * 3
    assert lab.idp.asked.count("/keys") == 2


async def test_a_key_that_the_provider_withdrew_is_forgotten(lab: Lab):
    token = lab.idp.token()
    assert await lab.bearer(token) == 200
    lab.idp.keys = {"second": oidc.ec_key()}
    lab.clock.now += 3601
    assert await lab.bearer(token) == 401


async def test_known_keys_and_the_admin_token_work_while_the_provider_is_unavailable(lab: Lab):
    assert await lab.bearer(lab.idp.token()) == 200
    lab.idp.broken = dict.fromkeys(("/keys", "/.well-known/openid-configuration"), 500)
    lab.clock.now += 100
    assert await lab.bearer(lab.idp.token()) == 200
    assert (await lab.api.call("GET", "/profile")).status == 200


async def test_known_keys_stay_valid_while_the_provider_is_unavailable_for_hours(lab: Lab):
    assert await lab.bearer(lab.idp.token()) == 200
    for broken in ({"/keys": 500}, dict.fromkeys(("/keys", "/.well-known/openid-configuration"), 500)):
        lab.idp.broken = broken
        lab.clock.now += 3601
        assert [await lab.bearer(lab.idp.token()) for _ in range(3)] == [200] * 3
    asked = len(lab.idp.asked)
    lab.clock.now += 30
    assert await lab.bearer(lab.idp.token()) == 200
    assert len(lab.idp.asked) == asked
    lab.idp.broken, lab.idp.keys = {}, {"second": oidc.ec_key()}
    lab.clock.now += 31
    assert await lab.bearer(lab.idp.token(kid="second")) == 200
    assert await lab.bearer(lab.idp.token(kid="first", key=oidc.ec_key())) == 401


@pytest.mark.parametrize(("written", "named"), [("", "/"), ("/", ""), ("/", "/"), ("", "")])
async def test_the_slash_at_the_end_of_an_issuer_may_differ(idp: Provider, tmp_path: Path, written: str, named: str):
    issuer = idp.issuer
    idp.configuration, idp.claims["iss"] = {"issuer": issuer + named}, issuer + named
    async with admin(tmp_path, provider=client(issuer + written)) as api:
        lab = Lab(idp, api, Clock(0.0))
        assert (await lab.sign_in()).status == 303
        assert (await lab.state())["user"]["kind"] == "oidc"
        assert await lab.bearer(idp.token()) == 200
        assert await lab.bearer(idp.token(iss=f"{issuer}/other")) == 401


@pytest.mark.parametrize(
    ("configuration", "reason"),
    [
        ({"issuer": "https://elsewhere.example/"}, "its issuer is https://elsewhere.example/"),
        ({"issuer": None}, "its issuer is None"),
        ({"token_endpoint": None, "jwks_uri": "http://a.b/"}, "token_endpoint, jwks_uri: missing, or without TLS"),
    ],
)
async def test_the_log_has_the_reason_why_a_configuration_is_not_usable(
    idp: Provider, configuration: dict[str, Any], reason: str
):
    idp.configuration = configuration
    provider = client(idp.issuer)
    with capture_logs() as logged, pytest.raises(StoreUnavailable):
        await provider.start("http://here/oidc/callback", "s", "n", "v")
    await provider.close()
    assert [entry["reason"] for entry in logged] == [reason]


async def test_the_page_of_a_failed_sign_in_has_no_words_of_the_store(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    async def unavailable(*_: object) -> None:
        raise StoreUnavailable("the database /var/lib/millrace/console.db is not available: no answer in time")

    monkeypatch.setattr(sign_in, "_finish", unavailable)
    page = await lab.get("/oidc/callback?code=1&state=2")
    text = await page.text()
    assert (page.status, "the store does not answer now" in text, "/var/lib" in text) == (503, True, False)


async def test_an_unreachable_provider_gives_503_and_is_asked_rarely(lab: Lab):
    lab.idp.broken = {"/.well-known/openid-configuration": 500}
    assert [await lab.bearer(lab.idp.token()) for _ in range(4)] == [503] * 4
    assert len(lab.idp.asked) == 1
    page = await lab.get("/oidc/start")
    text = await page.text()
    assert page.status == 503 and "Back to the console" in text and "the sign-in provider" in text
    assert (await lab.api.call("GET", "/profile")).status == 200, "the admin token needs no provider"
    lab.idp.broken = {}
    lab.clock.now += 6
    assert await lab.bearer(lab.idp.token()) == 200


@pytest.mark.parametrize(
    "configuration",
    [
        {"issuer": "https://elsewhere.example"}, {"jwks_uri": "http://keys.example.com/keys"}, {"token_endpoint": None},
        {"authorization_endpoint": "javascript:alert(1)"}, {"jwks_uri": "file:///etc/passwd"},
    ],
)  # fmt: skip
async def test_a_provider_configuration_with_foreign_or_unsafe_addresses_is_refused(
    idp: Provider, configuration: dict[str, Any]
):
    idp.configuration = configuration
    provider = client(idp.issuer)
    with pytest.raises(StoreUnavailable):
        await provider.start("http://here/oidc/callback", "s", "n", "v")
    await provider.close()
    assert idp.asked == ["/.well-known/openid-configuration"]


async def test_a_broadcaster_of_the_provider_may_use_only_the_channels_of_the_claim(idp: Provider, tmp_path: Path):
    idp.claims |= {"groups": ["studio"], "channels": "one two"}
    options = {"claim": "groups", "allow": ["operators"], "broadcasters": ["studio"]}
    async with admin(tmp_path, provider=client(idp.issuer, Clock(1000.0), **options)) as api:
        one = await api.store.add({"id": "one", "key": "1-0", "outdate": "2090-01-01"})
        await api.store.add({"id": "three", "key": "1-0", "outdate": "2090-01-01"})
        found = await api.call("GET", "/videostream", token=idp.token())
        assert [channel["id"] for channel in await found.json()] == [one.id]
        assert (await api.call("GET", "/videostream/three", token=idp.token())).status == 403
        assert (await api.call("GET", "/users", token=idp.token())).status == 403
        assert (await api.call("GET", "/users", token=idp.token(groups=["operators"]))).status == 200
        assert (await api.call("GET", "/videostream", token=idp.token(groups=["others"]))).status == 401


async def test_a_new_user_gets_one_channel_and_no_access_to_others(idp: Provider, tmp_path: Path):
    options = {"claim": "groups", "allow": ["operators"], "broadcasters": ["*"], "sign_up": 2}
    clock = Clock(1000.0)
    async with admin(tmp_path, provider=client(idp.issuer, clock, **options)) as api:
        lab = Lab(idp, api, clock)
        theirs = (await api.create(videoname="of the administrators"))["id"]
        own: dict[str, str] = {}
        for subject in ("s1", "s2", "s1"):
            idp.claims = {"sub": subject, "email": f"{subject}@example.com", "email_verified": True}
            assert (await lab.sign_in()).status == 303
            assert (await lab.state())["user"]["role"] == "broadcaster"
            (channel,) = await (await lab.get("/videostream")).json()
            assert own.setdefault(subject, channel["key"]) == channel["key"], "it stays"
            assert channel["wsUrl"].endswith(f"/{channel['id']}?sign={channel['key']}") and not channel["expired"]
            assert (await lab.get(f"/videostream/{theirs}")).status == 403
            by_token = await api.call("GET", f"/videostream/{channel['id']}", token=idp.token())
            assert by_token.status == 200
        assert own["s1"] != own["s2"]
        idp.claims = {"sub": "s3", "email": "s3@example.com", "email_verified": True}
        full = await lab.sign_in()
        assert (full.status, "no more people can sign up" in await full.text()) == (503, True)
        assert len(await api.json("GET", "/videostream")) == 3
        idp.claims |= {"groups": ["operators"]}
        assert (await lab.sign_in()).status == 303
        assert (await lab.state())["user"]["role"] == "administrator"
        idp.claims |= {"groups": [], "channels": [theirs]}
        assert (await lab.sign_in()).status == 303
        assert [c["id"] for c in await (await lab.get("/videostream")).json()] == [theirs]
        assert len(await api.json("GET", "/videostream")) == 3


async def test_a_user_whose_channel_cannot_be_read_signs_in_and_gets_a_new_one_after_its_deletion(
    idp: Provider, tmp_path: Path
):
    clock = Clock(1000.0)
    async with admin(tmp_path, provider=client(idp.issuer, clock, allow=[], broadcasters=["*"], sign_up=1)) as api:
        lab = Lab(idp, api, clock)
        assert (await lab.sign_in()).status == 303
        (own,) = await (await lab.get("/videostream")).json()
        await api.store.write("UPDATE channels SET item = 'nonsense' WHERE id = ?", own["id"])
        assert (await lab.sign_in()).status == 303
        assert await (await lab.get("/videostream")).json() == []
        assert (await api.call("DELETE", f"/videostream/{own['id']}")).status == 200
        assert (await lab.sign_in()).status == 303
        assert [channel["id"] for channel in await (await lab.get("/videostream")).json()] == [own["id"]]


async def test_without_sign_up_no_user_gets_a_channel(idp: Provider, tmp_path: Path):
    async with admin(tmp_path, provider=client(idp.issuer, Clock(1000.0), broadcasters=["*"], allow=[])) as api:
        lab = Lab(idp, api, Clock(1000.0))
        assert (await lab.sign_in()).status == 303
        assert await (await lab.get("/videostream")).json() == []


@pytest.mark.parametrize("issuer", ["http://id.example.com", "http://10.0.0.5", "http://169.254.169.254"])
async def test_without_tls_only_a_provider_on_this_machine_is_allowed(issuer: str):
    provider = client(issuer)
    with pytest.raises(StoreUnavailable, match="over TLS only"):
        await provider.start("http://here/oidc/callback", "s", "n", "v")


async def test_without_tls_hosts_listed_by_the_operator_are_allowed_too(idp: Provider):
    listed = OpenIdProvider(
        oidc.settings("http://id.lan"), reachable=["id.lan", "10.0.0.0/8", "http://192.168.1.1/idp/"]
    )
    asked = [listed._is_allowed(url) for url in ("http://id.lan/x", "http://10.2.3.4/", "http://192.168.1.1/idp/keys")]
    assert asked == [True] * 3
    assert not listed._is_allowed("http://192.168.1.1/elsewhere")
    assert not listed._is_allowed("http://id.lan.evil.example/")


async def test_a_too_large_or_invalid_configuration_raises_store_unavailable(idp: Provider):
    for member in ({"padding": "x" * 300_000}, {"issuer": ["x"]}):
        idp.configuration = member
        provider = client(idp.issuer)
        with pytest.raises(StoreUnavailable):
            await provider.start("http://here/oidc/callback", "s", "n", "v")
        await provider.close()


# ---- the program ----


async def test_a_user_can_sign_in_to_the_running_program(idp: Provider):
    """The test covers the options, the listener and all steps of the browser."""
    options = {"ISSUER": idp.issuer, "CLIENT_ID": CLIENT, "CLIENT_SECRET": SECRET, "NAME": "Our house"}
    options["ALLOW"] = "eva@example.com"
    with running(**{f"MILLRACE_OIDC__{name}": value for name, value in options.items()}) as gateway:
        base = f"http://127.0.0.1:{gateway.ports['admin']}"
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            async with browser.get(f"{base}/oidc/start") as page:  # there and back by redirects
                assert page.status == 200 and str(page.url) == f"{base}/"
            async with browser.get(f"{base}/login") as reply:
                state = await reply.json()
        assert state["user"]["name"] == "eva@example.com"
        assert state["oidc"] == {"name": "Our house"}
        script = aiohttp.ClientSession(headers={"Authorization": f"Bearer {idp.token()}"})
        async with script, script.get(f"{base}/status") as reply:
            assert reply.status == 200
        assert http("GET", f"{base}/healthcheck").status == 200


def test_a_provider_without_a_client_id_gives_a_one_line_error_at_start(tmp_path: Path):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MILLRACE_")}
    options = {"MILLRACE_DATA": str(tmp_path), "MILLRACE_OIDC__ISSUER": "https://id.example.com"}
    found = run("serve", env=kept | ANY_PORTS | options)
    assert found.returncode == 1
    assert found.stderr.splitlines()[-1].startswith("millrace: oidc.issuer is set: oidc.client_id")
    assert "Traceback" not in found.stderr
