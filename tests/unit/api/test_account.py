"""Users change their password and second factor themselves; scripts have tokens that can be revoked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from pydantic import TypeAdapter

from gateway.api.routes import ROUTES
from gateway.lib.totp import STEP, code_at, matching_step
from gateway.ports import api_tokens, users
from gateway.ports.second_factors import SecondFactors
from tests.support.admin import Admin, admin

OLD, NEW = "correct horse battery", "another long password"


class Clock:
    now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


def validated(method: str, path: str, status: int, said: Any) -> None:
    """Checks an answer against the schema of its route."""
    route = next((route for route in ROUTES if route.endpoint == f"{method} {path}"), None)
    if route is not None and status == 200:
        TypeAdapter(route.operation.answer).validate_python(said)


class Browser:
    """A browser that signs in for itself."""

    def __init__(self, api: Admin) -> None:
        self.api, self.cookie, self.csrf = api, "", ""

    async def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Cookie": self.cookie, "X-CSRF-Token": self.csrf}
        self.api.client.session.cookie_jar.clear()
        async with self.api.client.request(method, path, json=body, headers=headers) as reply:
            said = await reply.json()
            validated(method, path, reply.status, said)
            if "Set-Cookie" in reply.headers and reply.status == 200:
                self.cookie = reply.headers["Set-Cookie"].split(";")[0]
                self.csrf = said.get("csrf") or ""
            return reply.status, said

    async def sign_in(self, password: str = OLD, **code: str) -> tuple[int, Any]:
        return await self.call("POST", "/login", {"name": "eva", "password": password, **code})


@pytest_asyncio.fixture
async def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def api(tmp_path: Path, clock: Clock) -> AsyncIterator[Admin]:
    async with admin(tmp_path, clock=clock, refusals_per_minute=0) as api:
        await api.json("POST", "/users", {"name": "eva", "password": OLD, "role": "broadcaster", "channels": []})
        yield api


def test_the_codes_are_those_of_the_rfc():
    # RFC 6238 appendix B, the last six digits of SHA-1; the secret is "12345678901234567890".
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    for time, code in ((59, "287082"), (1111111109, "081804"), (2000000000, "279037"), (20000000000, "353130")):
        assert code_at(secret, time // STEP) == code
        assert matching_step(secret, code, time + STEP) == time // STEP == matching_step(secret, code, time - STEP)
        assert matching_step(secret, code, time + 3 * STEP) is None
    assert matching_step(secret, "٢٨٧٠٨٢", 59) is None and matching_step(secret, "", 59) is None


async def test_a_user_changes_the_own_password_and_the_other_sessions_end(api: Admin):
    first, second = Browser(api), Browser(api)
    assert (await first.sign_in())[0] == (await second.sign_in())[0] == 200
    status, said = await first.call("PUT", "/account/password", {"old": "wrong password", "new": NEW})
    assert (status, said["field"]) == (403, "old")
    status, said = await first.call("PUT", "/account/password", {"old": OLD, "new": "short"})
    assert (status, said["field"]) == (400, "new")
    assert (await second.call("GET", "/profile"))[0] == 200
    assert (await first.call("PUT", "/account/password", {"old": OLD, "new": NEW}))[0] == 200
    assert (await first.call("GET", "/profile"))[0] == 200
    assert (await second.call("GET", "/profile"))[0] == 401
    assert (await Browser(api).sign_in())[0] == 401
    assert (await Browser(api).sign_in(NEW))[0] == 200
    # Tokens have no password.
    assert (await api.call("PUT", "/account/password", {"old": OLD, "new": NEW})).status == 409


async def with_factor(api: Admin, clock: Clock) -> tuple[Browser, str, list[str]]:
    browser = Browser(api)
    await browser.sign_in()
    assert (await browser.call("POST", "/account/second-factor", {"password": "wrong password"}))[0] == 403
    status, made = await browser.call("POST", "/account/second-factor", {"password": OLD})
    assert status == 200 and made["secret"] in made["uri"] and made["uri"].startswith("otpauth://totp/Millrace%3Aeva?")
    assert (await Browser(api).sign_in())[0] == 200  # it counts only after the first code
    assert (await browser.call("PUT", "/account/second-factor", {"code": "000000"}))[0] in (403, 200)
    status, said = await browser.call(
        "PUT", "/account/second-factor", {"code": code_at(made["secret"], int(clock.now) // STEP)}
    )
    assert status == 200 and len(set(said["recoveryCodes"])) == 10
    return browser, made["secret"], said["recoveryCodes"]


async def test_sign_in_needs_a_code_that_was_not_used(api: Admin, clock: Clock):
    browser, secret, recovery = await with_factor(api, clock)
    status, said = await Browser(api).sign_in()
    assert (status, said["field"]) == (401, "code")
    status, said = await Browser(api).sign_in("wrong password", code=code_at(secret, int(clock.now) // STEP))
    assert status == 401
    # The code that confirmed the factor is used.
    assert (await Browser(api).sign_in(code=code_at(secret, int(clock.now) // STEP)))[0] == 401
    clock.now += STEP
    code = code_at(secret, int(clock.now) // STEP)
    assert (await Browser(api).sign_in(code=code))[0] == 200
    assert (await Browser(api).sign_in(code=code))[0] == 401
    other_node = SecondFactors(api.authenticators.store, clock)
    assert not await other_node.check("eva", code)
    assert (await Browser(api).sign_in(code=f" {recovery[0].upper()} "))[0] == 200
    assert (await Browser(api).sign_in(code=recovery[0]))[0] == 401
    assert await browser.call("GET", "/account/second-factor") == (200, {"on": True, "recoveryCodes": 9})
    stored = str(await api.authenticators.store.list("factor"))
    assert not any(text in stored for text in recovery)
    users = await api.json("GET", "/users")
    assert users[0]["secondFactor"] is True and secret not in str(users)


def spellings(code: str) -> list[str]:
    """A code as apps show it, as people copy it, and as Chinese keyboards write it."""
    half, wide = len(code) // 2, code.translate({ord("0") + n: ord("\uff10") + n for n in range(10)})
    parts = code[:half], code[half:]
    return [" ".join(parts), "-".join(parts), "\u00a0".join(parts), f" {code}\n", wide]


@pytest.mark.parametrize("number", range(5))
async def test_a_code_may_be_written_with_spaces_wherever_it_is_asked_for(api: Admin, clock: Clock, number: int):
    browser, off = Browser(api), "/account/second-factor/off"
    await browser.sign_in()
    _, made = await browser.call("POST", "/account/second-factor", {"password": OLD})

    def code() -> str:
        clock.now += STEP
        return spellings(code_at(made["secret"], int(clock.now) // STEP))[number]

    status, said = await browser.call("PUT", "/account/second-factor", {"code": code()})
    assert status == 200
    assert (await Browser(api).sign_in(code=code()))[0] == 200
    recovery = said["recoveryCodes"][0].replace("-", "").upper()
    assert (await Browser(api).sign_in(code=spellings(recovery)[number]))[0] == 200
    assert (await browser.call("POST", off, {"password": OLD, "code": code()}))[0] == 200


async def test_wrong_codes_are_limited_also_for_a_right_one(api: Admin, clock: Clock):
    _, secret, _ = await with_factor(api, clock)
    clock.now += 10 * STEP
    factors = api.authenticators.second_factors
    wrong = next(f"{n:06d}" for n in range(9) if matching_step(secret, f"{n:06d}", clock.now) is None)
    for _ in range(10):
        assert not await factors.check("eva", wrong)
    assert (await Browser(api).sign_in(code=code_at(secret, int(clock.now) // STEP)))[0] == 429
    clock.now += 901
    assert (await Browser(api).sign_in(code=code_at(secret, int(clock.now) // STEP)))[0] == 200


async def test_a_user_is_found_by_every_form_of_the_name(api: Admin):
    composed, decomposed = "\u00c9va", "E\u0301va"
    made = await api.json("POST", "/users", {"name": decomposed, "password": OLD})
    assert made["name"] == composed
    for name in (composed, decomposed):
        path = f"/users/{quote(name)}"
        assert (await api.json("PUT", path, {"role": "observer"}))["name"] == composed
        assert await api.json("DELETE", f"{path}/second-factor") == {"on": False, "recoveryCodes": 0}
    assert (await api.json("DELETE", f"/users/{quote(decomposed)}"))["name"] == composed
    assert [user["name"] for user in await api.json("GET", "/users")] == ["eva"]


async def test_user_and_administrator_remove_the_factor(api: Admin, clock: Clock):
    browser, _, recovery = await with_factor(api, clock)
    off = "/account/second-factor/off"
    assert (await browser.call("POST", off, {"password": OLD, "code": "nothing"}))[0] == 403
    assert (await browser.call("POST", off, {"password": OLD, "code": recovery[3]}))[0] == 200
    assert (await Browser(api).sign_in())[0] == 200
    clock.now += 5 * STEP
    await with_factor(api, clock)
    assert (await Browser(api).sign_in())[0] == 401
    await api.json("DELETE", "/users/eva/second-factor")
    assert (await api.call("DELETE", "/users/nobody/second-factor")).status == 404
    assert (await Browser(api).sign_in())[0] == 200


async def test_a_token_has_its_role_and_its_end(api: Admin, clock: Clock):
    own, other = (await api.create())["id"], (await api.create())["id"]
    body = {"name": "scheduler", "role": "broadcaster", "channels": [own], "expires": int(clock.now) + 3600}
    made = await api.json("POST", "/tokens", body)
    token = made["token"]
    assert token.startswith("mlr_") and made["used"] is None
    assert (await api.call("GET", f"/videostream/{own}", token=token)).status == 200
    for path in (f"/videostream/{other}", "/users", "/tokens", "/metrics"):
        assert (await api.call("GET", path, token=token)).status == 403, path
    assert (await api.call("PUT", "/account/password", {"old": OLD, "new": NEW}, token=token)).status == 409
    listed = await api.json("GET", "/tokens")
    validated("POST", "/tokens", 200, made)
    validated("GET", "/tokens", 200, listed)
    assert [entry["name"] for entry in listed] == ["scheduler"] and listed[0]["used"] is not None
    assert token not in str(listed) and token not in str(await api.authenticators.store.list("apitoken"))
    clock.now += 3600
    assert (await api.call("GET", f"/videostream/{own}", token=token)).status == 401
    for bad in ({"name": "", "role": "broadcaster"}, {"name": "x"}, {"name": "x", "role": "root"},
                {"name": "x", "role": "broadcaster", "channels": ["nowhere"]},
                {"name": "x", "role": "administrator", "expires": "yesterday"},
                {"name": "x", "role": "administrator", "expires": "2020-01-01"}):  # fmt: skip
        assert (await api.call("POST", "/tokens", bad)).status == 400, bad


@pytest.mark.parametrize("expires", [0, 0.5, "0", False, [], {}, "1970-01-01"])
async def test_a_token_without_a_valid_end_is_refused(api: Admin, expires: Any):
    reply = await api.call("POST", "/tokens", {"name": "x", "role": "observer", "expires": expires})
    assert (reply.status, (await reply.json())["field"]) == (400, "expires")
    assert await api.json("GET", "/tokens") == []


@pytest.mark.parametrize("expires", ["", None, "never", "9999-12-31"])
async def test_a_token_may_have_no_end(api: Admin, expires: Any):
    made = await api.json("POST", "/tokens", {"name": "x", "role": "observer", "expires": expires})
    assert made["expires"] is None


@pytest.mark.parametrize(
    ("module", "limit", "path", "body"),
    [
        (users, "_MAX_USERS", "/users", {"password": NEW}),
        (api_tokens, "_MAX_TOKENS", "/tokens", {"role": "observer"}),
    ],
)
async def test_a_full_list_is_a_conflict_and_not_a_reason_to_try_again(
    api: Admin, monkeypatch: pytest.MonkeyPatch, module: Any, limit: str, path: str, body: Any
):
    monkeypatch.setattr(module, limit, 2)
    replies = [await api.call("POST", path, {"name": name, **body}) for name in ("one", "two", "three")]
    assert replies[-1].status == 409 and "Retry-After" not in replies[-1].headers
    assert limit.removeprefix("_MAX_").lower() in (await replies[-1].json())["error"]


async def test_a_revoked_token_ends_with_the_next_request_at_every_node(api: Admin, tmp_path: Path, clock: Clock):
    made = await api.json("POST", "/tokens", {"name": "admin", "role": "administrator"})
    async with admin(tmp_path, clock=clock) as other:
        for node in (api, other):
            assert (await node.call("GET", "/users", token=made["token"])).status == 200
        await api.json("DELETE", f"/tokens/{made['id']}")
        for node in (other, api):
            assert (await node.call("GET", "/users", token=made["token"])).status == 401
    assert (await api.call("DELETE", f"/tokens/{made['id']}")).status == 404


async def test_wrong_tokens_cause_few_reads(api: Admin, monkeypatch: pytest.MonkeyPatch):
    reads: list[str] = []
    store = api.authenticators.store

    async def counted(kind: str, key: str = "") -> Any:
        reads.append(kind)
        return {} if not key else None

    monkeypatch.setattr(store, "list", counted)
    monkeypatch.setattr(store, "get", counted)
    for number in range(50):
        assert (await api.call("GET", "/users", token=f"mlr_{number}")).status == 401
    assert len(reads) <= 2
