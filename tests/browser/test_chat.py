"""A chat of another service beside the player: sandboxed, and only where the channel has an address for it."""

from playwright.async_api import Browser, expect

from tests.support.browser import axe, opened
from tests.support.console import WIDE
from tests.support.foreign_page import foreign_page
from tests.support.gateway import Gateway, http
from tests.support.shared_gateway import shared_gateway

gateway = shared_gateway("chromium")

CHAT = "https://chat.example/room?id=1&amp=2"


async def test_the_watch_page_frames_the_chat_of_the_channel(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel("Talk", videoname="Talk", chat=CHAT)
    asked: list[str] = []

    async def answer(route: object) -> None:
        asked.append(route.request.headers.get("referer", ""))  # type: ignore[attr-defined]
        text = "<!doctype html><title>chat</title><p>Room 1<script>top.location = 'https://evil.example/'</script>"
        await route.fulfill(body=text, content_type="text/html")  # type: ignore[attr-defined]

    async with opened(
        browser,
        channel.url(""),
        viewport=WIDE,
        prepare=lambda context: context.route("https://chat.example/**", answer),
    ) as watched:
        page = watched.page
        frame = page.get_by_title("Chat", exact=True)
        await expect(frame).to_be_visible()
        assert await frame.get_attribute("src") == CHAT
        sandbox = set((await frame.get_attribute("sandbox") or "").split())
        assert "allow-scripts" in sandbox and not {"allow-top-navigation", "allow-modals"} & sandbox
        await expect(page.frame_locator("#chat").get_by_text("Room 1")).to_be_visible()
        assert page.url == channel.url("")  # the frame could not navigate the page
        stage, chat = await page.locator("#stage").bounding_box(), await frame.bounding_box()
        assert stage is not None and chat is not None and chat["x"] >= stage["x"] + stage["width"]
        assert await axe(page) == []
        assert asked and all(channel.id not in one for one in asked)  # the service learns the site, not the page
        await page.set_viewport_size({"width": 420, "height": 800})
        narrow = await frame.bounding_box()
        assert narrow is not None and narrow["width"] <= 420
    policy = http("GET", channel.url("")).headers["content-security-policy"]
    assert policy.endswith("; frame-src https://chat.example")


async def test_there_is_no_chat_by_default_or_in_a_page_of_others(browser: Browser, gateway: Gateway) -> None:
    plain = gateway.channel("plain", videoname="Plain")
    assert "frame-src" not in http("GET", plain.url("")).headers["content-security-policy"]
    async with opened(browser, plain.url("")) as watched:
        await expect(watched.page.get_by_role("heading", name="Plain")).to_be_visible()
        assert await watched.page.locator("iframe").count() == 0
    talk = gateway.channel("talk", videoname="Talk", chat=CHAT)
    async with foreign_page(f'<iframe src="{talk.url("")}"></iframe>') as url, opened(browser, url) as watched:
        inner = watched.page.frame_locator("iframe")
        await expect(inner.locator("#stage")).to_be_visible()
        assert await inner.locator("iframe").count() == 0


def test_only_an_https_address_is_a_chat(gateway: Gateway) -> None:
    channel = gateway.channel("fields")
    path = f"/videostream/{channel.id}"
    wrong = ("http://chat.example/", "javascript:alert(1)", "https://a b/", "https://x;script-src *", "https://x, y/", "https://-x/",
             "https://x/\n", "https://u:p@x/", "//x/")  # fmt: skip
    for address in wrong:
        refused = gateway.api("PUT", path, {"chat": address})
        assert (refused.status, refused.json()["field"]) == (400, "chat"), address
    for address in (CHAT, "https://x.example:8443/a;b,c#d", ""):
        assert gateway.api("PUT", path, {"chat": address}).status == 200
