"""The API's documentation page of the real gateway: read, searched and tried out, with a session and with a token."""

import json
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page

from tests.support.browser import axe, opened
from tests.support.gateway import Gateway, http
from tests.support.shared_gateway import shared_gateway

gateway = shared_gateway("chromium")


def base(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.ports['admin']}"


async def sign_in(page: Page, gateway: Gateway) -> None:
    """A console session in this browser."""
    reply = await page.context.request.post(f"{base(gateway)}/login", data={"password": gateway.token})
    assert reply.ok, await reply.text()
    await page.reload()


async def operation(page: Page, id: str) -> Locator:
    """An operation's part of the page, opened."""
    part = page.locator(f"details#{id}")
    await part.locator("> summary").click()
    return part


async def send(part: Locator, **fields: str) -> str:
    """Fills the form and sends it; the answer's status line."""
    for name, value in fields.items():
        await part.get_by_label(name, exact=True).fill(value)
    await part.get_by_role("button", name="Send").click()
    said = part.locator(".reply .status")
    await said.wait_for()
    return await said.inner_text()


async def test_a_channel_can_be_created_and_deleted_with_the_console_session(
    gateway: Gateway, browser: Browser
) -> None:
    async with opened(browser, f"{base(gateway)}/docs") as watched:
        page = watched.page
        await page.get_by_label("Bearer token").wait_for()
        await sign_in(page, gateway)
        create = await operation(page, "post_videostream")
        body = {"videoname": "from the docs <b>", "outdate": "2035-12-31"}
        assert await send(create, Body=json.dumps(body)) == "200 OK"
        made = json.loads(await create.locator(".reply pre").first.inner_text())
        assert made["videoname"] == "from the docs <b>"
        curl = await create.locator(".reply pre").last.inner_text()
        assert "$TOKEN" in curl
        assert "X-CSRF" not in curl
        picture = await operation(page, "get_videostream_id_qr")
        assert await send(picture, id=made["id"], url="push") == "200 OK"
        await picture.locator(".reply img").wait_for()
        delete = await operation(page, "delete_videostream_id")
        assert await send(delete, id=made["id"]) == "200 OK"
        assert gateway.api("GET", f"/videostream/{made['id']}").status == 404
        assert not watched.complaints


async def test_a_token_opens_the_page_and_is_not_stored(gateway: Gateway, browser: Browser) -> None:
    async with opened(browser, f"{base(gateway)}/docs") as watched:
        page = watched.page
        await page.get_by_label("Bearer token").fill("wrong")
        await page.get_by_role("button", name="Show the API").click()
        await page.get_by_text("not accepted").wait_for()
        watched.complaints.clear()  # the browser itself reports the 401
        await page.get_by_label("Bearer token").fill(gateway.token)
        await page.keyboard.press("Enter")
        assert await send(await operation(page, "get_videostream")) == "200 OK"
        async with page.expect_download() as download:
            await page.get_by_role("link", name="openapi.json").click()
        saved = json.loads((await (await download.value).path()).read_text())
        assert saved["openapi"].startswith("3.1")
        kept = await page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])")
        assert gateway.token not in kept
        await page.reload()
        await page.get_by_label("Bearer token").wait_for()
        assert not watched.complaints


async def test_invalid_input_gives_an_error_before_and_after_sending(gateway: Gateway, browser: Browser) -> None:
    async with opened(browser, f"{base(gateway)}/docs") as watched:
        await sign_in(watched.page, gateway)
        create = await operation(watched.page, "post_videostream")
        await create.get_by_label("Body").fill("{oops")
        await create.get_by_role("button", name="Send").click()
        assert "not JSON" in await create.get_by_role("alert").inner_text()
        assert await send(create, Body='{"outdate": "tomorrow"}') == "400 Bad Request"
        assert '"field": "outdate"' in await create.locator(".reply pre").first.inner_text()


async def test_operations_are_found_by_search_and_by_address(gateway: Gateway, browser: Browser) -> None:
    async with opened(browser, f"{base(gateway)}/docs#get_domains") as watched:
        page = watched.page
        await sign_in(page, gateway)
        await page.locator("details#get_domains[open]").wait_for()
        await page.get_by_role("searchbox", name="Find an operation").fill("qr")
        shown = await page.locator("details.operation:visible").evaluate_all("all => all.map((one) => one.id)")
        assert shown == ["get_videostream_id_qr", "get_filmqr_key", "post_qr"]
        await page.get_by_role("searchbox").fill("no such thing")
        assert await page.get_by_text("No operation matches").is_visible()
        await page.get_by_role("searchbox").fill("")
        described = gateway.api("GET", "/openapi.json").json()
        count = sum(len(methods) for methods in described["paths"].values())
        assert await page.locator("details.operation:visible").count() == count
        drawn = "all => { for (const one of all) one.open = true; }"
        await page.locator("details.operation").evaluate_all(drawn)
        await page.wait_for_function(
            "() => [...document.querySelectorAll('details.operation')].every((one) => one.querySelector('.trial'))"
        )
        assert not watched.complaints


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_docs_page_is_accessible(scheme: str, gateway: Gateway, browser: Browser) -> None:
    wrong: dict[str, Any] = {}
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "color_scheme": scheme, "locale": "zh-CN"}
    async with opened(browser, f"{base(gateway)}/docs", **phone) as watched:
        await watched.page.get_by_label("Bearer 令牌").wait_for()
        wrong["asking"] = await axe(watched.page)
    async with opened(browser, f"{base(gateway)}/docs", color_scheme=scheme) as watched:
        await sign_in(watched.page, gateway)
        part = await operation(watched.page, "post_videostream")
        await send(part, Body='{"outdate": "2035-12-31"}')
        wrong["open"] = await axe(watched.page)
        await watched.page.set_viewport_size({"width": 360, "height": 740})
        assert await watched.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not any(wrong.values()), json.dumps(wrong, indent=1)


def test_the_page_is_small_and_has_a_strict_policy(gateway: Gateway) -> None:
    reply = http("GET", f"{base(gateway)}/docs")
    assert reply.status == 200
    policy = reply.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    names = ["docs.css", "docs.js", "operation.js", "spec.js", "trial.js", "words.js"]
    files = [http("GET", f"{base(gateway)}/console/docs/{name}") for name in names]
    assert all(file.status == 200 for file in files)
    assert sum(len(file.body) for file in files) < 50_000
