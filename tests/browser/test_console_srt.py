"""The link of a push over SRT in the console, and the rule for a thin input."""

from playwright.async_api import Browser, expect

from tests.support.browser import axe
from tests.support.console import signed_in
from tests.support.link_conditions import Conditions
from tests.support.media import Film
from tests.support.shared_gateway import shared_gateway
from tests.support.srt_link import srt_push, udp_link

FILM = Film("srt-link", 120)

gateway = shared_gateway("chromium", "ffmpeg", films=[FILM])


async def test_the_channel_page_shows_the_link_and_its_faults(browser: Browser, gateway) -> None:
    channel = gateway.channel(videoname="Van", inputs=[{"kind": "push", "name": "main"}, {"kind": "slate"}])
    with (
        udp_link(gateway.ports["srt"], Conditions(loss=5, delay=30)) as thin,
        srt_push(channel, FILM, thin.port),
    ):
        channel.wait_live()
        async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
            page = watched.page
            panel = page.locator(".is-link")
            await expect(panel.get_by_role("heading", name="Link")).to_be_visible()
            await expect(panel).to_contain_text("127.0.0.1")
            await expect(panel).to_contain_text("120 ms")
            await expect(panel.get_by_role("img", name="Bitrate of 127.0.0.1")).to_be_visible()
            await expect(page.locator(".is-health")).to_contain_text("Latency 120 ms is less than")
            await expect(page.locator(".is-health")).to_contain_text("The link loses")
            assert await axe(page) == []

            await page.get_by_role("button", name="Edit main").click()
            form = page.get_by_role("dialog")
            await form.get_by_label("Leave it below").fill("200")
            await form.get_by_label("Mean of the last").fill("4")
            await form.get_by_role("button", name="Save").click()
            await expect(form).to_be_hidden()
            await expect(page.get_by_role("listitem", name="main", exact=True)).to_contain_text(
                "left below 200 kbit/s for 4 s"
            )
            stored = gateway.api("GET", f"/videostream/{channel.id}/inputs").json()
            assert stored[0]["below"] == {"kbps": 200, "seconds": 4}
            assert channel.session()["publisher"]["protocol"] == "srt", "the push goes on"
