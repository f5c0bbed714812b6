"""Signed CloudFront addresses on a channel's page, where the gateway has a key."""

from pathlib import Path

from playwright.async_api import Browser, expect

from tests.support.cloudfront import Signer
from tests.support.console import signed_in
from tests.support.gateway import http, running
from tests.support.tools import need


async def test_the_page_offers_signed_addresses_that_open_the_channel(tmp_path: Path, browser: Browser) -> None:
    need("chromium")
    key = Signer()
    pem = tmp_path / "private.pem"
    pem.write_text(key.private_pem)
    with running(
        MILLRACE_PLAYBACK__AUTH="cloudfront",
        MILLRACE_CLOUDFRONT__PUBLIC_KEYS=f"K1={key.write_public(tmp_path / 'public.pem')}",
        MILLRACE_CLOUDFRONT__KEY_PAIR_ID="K1",
        MILLRACE_CLOUDFRONT__PRIVATE_KEY=str(pem),
    ) as gateway:
        channel = gateway.channel(videoname="signed", playAuth="cloudfront")
        # The signed addresses have the domain of the listener of this test.
        gateway.api("PUT", "/domains", {"pullDNS": f"127.0.0.1:{gateway.ports['http']}"})
        async with (
            signed_in(browser, gateway, f"#/channels/{channel.id}") as watched,
        ):
            page = watched.page
            await page.get_by_role("button", name="Signed CloudFront address").click()
            dialog = page.get_by_role("dialog", name="Signed CloudFront address")
            await dialog.get_by_label("Address", exact=True).select_option(label="HLS")
            await dialog.get_by_label("Valid for").select_option(label="7 days")
            url = dialog.locator("code").filter(has_text="live.m3u8")
            await expect(url).to_contain_text("Policy=")
            text = (await url.text_content() or "").strip()
            await dialog.get_by_role("button", name="Copy Cookies").wait_for()
            assert not watched.complaints
        # Nobody pushes: who may watch is told so, and others are refused before.
        assert http("GET", text).status == 404
        assert http("GET", text.partition("?")[0]).status == 403
