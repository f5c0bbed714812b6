"""An observer in Chromium: everything is readable, no key is shown, and no control can change anything."""

import re

from playwright.async_api import Browser, expect

from tests.support.browser import axe, opened
from tests.support.clients import push
from tests.support.console import WIDE, address, signed_in
from tests.support.gateway import Gateway
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.tools import need

PASSWORD = "a long password"
FILM = Film("observer", seconds=20, size="320x180")
# Controls that would change something, by their names in any view.
CHANGES = re.compile(
    "^(New channel|Edit|Delete|Kick|Go live|New key|Send|(Take|Add|Remove|Change|Begin|Upload|Empty|Restore)\\b.*)$"
)

gateway = shared_gateway("chromium", AWS_REGION="")


async def test_an_observer_reads_all_views_and_finds_no_key_and_no_control(browser: Browser, gateway: Gateway) -> None:
    need("ffmpeg")
    inputs = [{"name": "spare", "kind": "backup"}, {"name": "card", "kind": "slate"}]
    channel = gateway.channel(
        videoname="Watched", isHls=True, isRelay=False, relayURL=["rtmp://x.example/app/relay-key"], inputs=inputs
    )
    async with signed_in(browser, gateway, "#/users") as watched:
        page = watched.page
        await expect(page.get_by_text("What is missing")).to_be_visible()  # of the sign-in through a provider
        await expect(page.get_by_text("oidc.issuer", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Add a user").first.click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("User name").fill("olga")
        await dialog.get_by_label(re.compile("^Password")).fill(PASSWORD)
        await dialog.get_by_role("radio", name="Observer").check()
        await expect(dialog.get_by_text("this user reads all channels")).to_be_visible()
        await dialog.get_by_role("button", name="Add", exact=True).click()
        await expect(page.get_by_role("row", name=re.compile("olga.*Observer.*all channels"))).to_be_visible()
        assert await axe(page) == []
        assert watched.complaints == []

    key = str(gateway.api("GET", f"/videostream/{channel.id}").json()["key"])
    with push(FILM, channel.push, loop=True):
        channel.wait_playable("live.m3u8")
        async with opened(browser, address(gateway), locale="en-US", viewport=WIDE) as watched:
            page = watched.page
            await page.get_by_label("User name").fill("olga")
            await page.get_by_label("Token or password").fill(PASSWORD)
            await page.get_by_role("button", name="Log in").click()
            await page.get_by_role("link", name="Watched").click()
            await expect(page.get_by_text("Observers see no stream keys")).to_be_visible()
            await expect(page.get_by_role("switch", name="x.example")).to_be_disabled()
            places = page.get_by_role("navigation", name="Main").get_by_role("listitem")
            views = await places.all_inner_texts()
            assert views[:-1] == [
                *("Channels", "Live", "Recordings", "Videos", "Events", "Alarms", "Appearance"),
                *("Your account", "Users", "System"),
            ]
            for path in (f"channels/{channel.id}", "live", "recordings", "recordings/bin", "films", "events", "alarms",
                         "site", "users", "system"):  # fmt: skip
                await page.goto(address(gateway, f"#/{path}"))
                await expect(page.get_by_role("main").get_by_role("heading").first).to_be_visible()
                await expect(page.locator(".skeleton")).to_have_count(0)
                enabled = page.get_by_role("main").locator("button:enabled, a[href]").filter(has_text=CHANGES)
                assert await enabled.all_inner_texts() == [], path
                text = await page.content()
                assert key not in text and "relay-key" not in text, path
                assert await axe(page) == [], path
            await page.goto(address(gateway, f"#/channels/{channel.id}/edit"))
            await expect(page.get_by_role("main").get_by_role("link", name="Channels")).to_be_visible()
            await page.goto(address(gateway, f"#/channels/{channel.id}"))
            await page.get_by_role("button", name="Preview").first.click()
            await expect(page.locator("video").first).to_be_visible()
            await page.get_by_role("button", name=re.compile("^QR code of Watch")).first.click()
            await expect(page.get_by_role("dialog").get_by_role("img", name=re.compile("QR"))).to_be_visible()
            assert watched.complaints == []  # nothing was asked that is refused
            await page.goto(address(gateway, f"console/broadcast.html#{channel.id}"))
            await expect(page.get_by_text("You are an observer: you can watch").first).to_be_visible()


async def test_an_observer_of_some_channels_has_only_their_pages(browser: Browser, gateway: Gateway) -> None:
    own, other = gateway.channel(videoname="Seen"), gateway.channel(videoname="Not seen")
    user = {"name": "otto", "password": PASSWORD, "role": "observer", "channels": [own.id]}
    assert gateway.api("POST", "/users", user).status == 200
    async with opened(browser, address(gateway), locale="en-US", viewport=WIDE) as watched:
        page = watched.page
        await page.get_by_label("User name").fill("otto")
        await page.get_by_label("Token or password").fill(PASSWORD)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("link", name="Seen", exact=True)).to_be_visible()
        await expect(page.get_by_text("Not seen")).to_have_count(0)
        places = page.get_by_role("navigation", name="Main").get_by_role("listitem")
        assert await places.all_inner_texts() == ["Channels", "Recordings", "Your account"]
        await page.get_by_role("link", name="Seen", exact=True).click()
        await expect(page.get_by_text("Observers see no stream keys")).to_be_visible()
        assert watched.complaints == []
        await page.goto(address(gateway, f"#/channels/{other.id}"))
        await expect(page.get_by_text("this is not one of your channels")).to_be_visible()
