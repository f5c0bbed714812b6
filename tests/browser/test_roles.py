"""A broadcaster in Chromium: the own channel and the broadcast page, without administrators' views."""

import re
from datetime import UTC, datetime

from playwright.async_api import Browser, BrowserContext, Route, expect

from tests.support.browser import axe, opened
from tests.support.clients import push
from tests.support.console import WIDE, address, signed_in
from tests.support.gateway import Gateway, http
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.tools import need

PASSWORD = "a long password"
FILM = Film("roles", seconds=20, size="320x180")


gateway = shared_gateway("chromium", AWS_REGION="")


async def test_a_broadcaster_sees_only_the_own_channel_and_can_go_live(browser: Browser, gateway: Gateway) -> None:
    own, other = gateway.channel(videoname="Eva's stage"), gateway.channel(videoname="The other stage")
    async with signed_in(browser, gateway, "#/users") as watched:
        page = watched.page
        await page.get_by_role("button", name="Add a user").first.click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("User name").fill("eva")
        await dialog.get_by_label(re.compile("^Password")).fill(PASSWORD)
        await dialog.get_by_role("radio", name="Broadcaster").check()
        await dialog.get_by_role("checkbox", name="Eva's stage").check()
        await dialog.get_by_role("button", name="Add").click()
        await expect(page.get_by_role("row", name=re.compile("eva.*Broadcaster.*1 channel"))).to_be_visible()
        assert await axe(page) == []
        assert watched.complaints == []

    async with opened(browser, address(gateway), locale="en-US", viewport=WIDE) as watched:
        page = watched.page
        await page.get_by_label("User name").fill("eva")
        await page.get_by_label("Token or password").fill(PASSWORD)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_role("link", name="Eva's stage")).to_be_visible()
        await expect(page.get_by_text("The other stage")).to_have_count(0)
        places = page.get_by_role("navigation", name="Main").get_by_role("listitem")
        assert await places.all_inner_texts() == ["Channels", "Recordings", "Your account"]
        await expect(page.get_by_role("button", name="New channel")).to_have_count(0)
        await page.get_by_role("link", name="Eva's stage").click()
        await expect(page.get_by_role("button", name="Preview")).to_be_visible()
        for name in ("Edit", "Delete"):
            await expect(page.get_by_role("link", name=name).or_(page.get_by_role("button", name=name))).to_have_count(
                0
            )
        await page.get_by_role("button", name=re.compile("^QR code of RTMP URL")).first.click()
        await page.get_by_role("alertdialog").get_by_role("button", name="Show the code").click()
        image = page.get_by_role("dialog").get_by_role("img", name=re.compile("QR"))
        await expect(image).to_be_visible()
        assert await image.evaluate("image => image.naturalWidth") > 20
        await page.get_by_role("button", name="Close").click()
        assert await axe(page) == []
        await page.goto(address(gateway, "#/recordings"))
        await expect(page.get_by_role("heading", name="Recordings")).to_be_visible()
        for path in ("users", f"channels/{own.id}/edit"):
            await page.goto(address(gateway, f"#/{path}"))
            await expect(page.get_by_role("main").get_by_role("link", name="Channels")).to_be_visible()
        assert watched.complaints == []  # nothing was asked that is refused

        await page.goto(address(gateway, f"console/broadcast.html#{own.id}"))
        await expect(page.get_by_role("heading", name="Eva's stage")).to_be_visible()
        await expect(page.get_by_role("button", name="Go live")).to_be_visible()
        assert watched.complaints == []
        await page.goto(address(gateway, f"#/channels/{other.id}"))
        await expect(page.get_by_text("this is not one of your channels")).to_be_visible()


async def test_only_administrators_get_a_link_from_refused_pushes_to_events(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="Refusing")
    gateway.api(
        "POST", "/users", {"name": "ian", "password": PASSWORD, "role": "broadcaster", "channels": [channel.id]}
    )
    session = gateway.api("GET", f"/videostream/{channel.id}/session").json()
    refusal = {"at": datetime.now(UTC).isoformat(), "peer": "192.0.2.7", "protocol": "rtmp", "reason": "wrong"}

    async def prepare(context: BrowserContext) -> None:
        await context.route(f"**/{channel.id}/session", lambda asked: asked.fulfill(json=refused))

    refused = session | {"refusals": [refusal, refusal]}
    path = f"#/channels/{channel.id}"
    async with signed_in(browser, gateway, path, prepare=prepare) as watched:
        await expect(watched.page.get_by_role("link", name="All 2 refusals")).to_be_visible()
    async with opened(browser, address(gateway, path), locale="en-US", viewport=WIDE, prepare=prepare) as watched:
        page = watched.page
        await page.get_by_label("User name").fill("ian")
        await page.get_by_label("Token or password").fill(PASSWORD)
        await page.get_by_role("button", name="Log in").click()
        await expect(page.get_by_text("from 192.0.2.7 (RTMP): the key is wrong")).to_be_visible()
        await expect(page.get_by_role("link", name="All 2 refusals")).to_have_count(0)


async def test_an_ivs_address_plays_on_the_public_page(browser: Browser, gateway: Gateway) -> None:
    need("ffmpeg")
    channel = gateway.channel()
    address = f"https://edge.live-video.net/{channel.id}/live.m3u8"

    async def as_ivs(route: Route) -> None:  # the gateway's own HLS, at an address of IVS
        path = route.request.url.partition(".net")[2]
        reply = http("GET", f"http://127.0.0.1:{gateway.ports['http']}{path}")
        await route.fulfill(status=reply.status, headers=reply.headers, body=reply.body)

    async def prepare(context: BrowserContext) -> None:
        await context.route("https://edge.live-video.net/**", as_ivs)

    base = f"http://127.0.0.1:{gateway.ports['http']}"
    with push(FILM, channel.push, loop=True):
        channel.wait_playable("live.m3u8")
        url = f"{base}/PlayerView?url={address}"  # the old system's address
        async with opened(browser, url, prepare=prepare, locale="en-US") as watched:
            assert watched.page.url == f"{base}/player.html?url={address}"
            await watched.plays()
            assert await watched.page.locator("video").evaluate("video => video.muted")
            assert await axe(watched.page) == []
            assert watched.complaints == []
    assert http("GET", f"{base}/player.html?url=https://example.com/a.m3u8").status == 403
