"""A channel's editor begins with what a first show needs. All settings are found by their words."""

from playwright.async_api import Browser, Page, expect

from tests.support.browser import axe
from tests.support.console import address, signed_in
from tests.support.gateway import Gateway
from tests.support.shared_gateway import shared_gateway

gateway = shared_gateway("chromium")


async def headings(page: Page) -> list[str]:
    return await page.locator("form.editor h2").all_inner_texts()


async def test_the_editor_begins_with_the_settings_of_a_first_show(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="First")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}/edit") as watched:
        page = watched.page
        await page.get_by_role("button", name="Save").wait_for()
        wanted = ["Name and address", "Look", "Recording", "Captions from speech", "Simulcast", "Protection"]
        assert await headings(page) == wanted
        await page.get_by_label("Address", exact=True).fill("first-show")
        await page.get_by_role("switch", name="On-demand recording").check()
        await page.get_by_label("Who may watch").select_option("sign")
        await page.get_by_role("button", name="Add a target").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Stream key").fill("abcd")
        await dialog.get_by_role("button", name="Add").click()
        await expect(page.get_by_role("switch", name="YouTube")).to_be_checked()
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text("Everything is saved").wait_for()
        assert not await axe(page)
        for width, height in ((390, 844), (844, 390), (1920, 1080)):
            await page.set_viewport_size({"width": width, "height": height})
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        await page.get_by_role("link", name="The poster is changed on the channel’s page.").click()
        await page.get_by_role("heading", name="First").wait_for()
        assert not watched.complaints
    item = gateway.api("GET", f"/videostream/{channel.id}").json()
    assert [item[name] for name in ("slug", "isOnDemand", "playAuth", "isRelay")] == ["first-show", True, "sign", True]
    assert item["relayURL"] == ["rtmps://a.rtmps.youtube.com/live2/********"]


async def test_all_settings_are_searched_and_the_choice_is_remembered(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="Searched")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}/edit") as watched:
        page = watched.page
        search = page.get_by_role("searchbox", name="Find a setting")
        await search.fill("  segment PLAYLIST ")
        assert await headings(page) == ["Outputs and protection"]
        await page.get_by_label("Segments in a playlist").fill("0")
        await expect(page.get_by_label("Watermark text")).to_have_count(0)
        await search.fill("watermark")  # the title of a section finds all of it
        await expect(page.get_by_label("Font size")).to_be_visible()
        await search.fill("nothing of this kind")
        await page.get_by_text("No setting has these words.").wait_for()
        assert not await axe(page)
        await search.fill("")
        assert (await headings(page))[0] == "Name and address"
        await page.get_by_role("button", name="Save").click()  # the wrong field is not in the short form
        await expect(page.get_by_label("Segments in a playlist")).to_be_focused()
        assert "Transcoding" in await headings(page)
        await page.get_by_role("button", name="Discard").click()
        await page.goto(address(gateway, "#/channels"))
        await page.goto(address(gateway, f"#/channels/{channel.id}/edit"))
        await page.get_by_label("Segments in a playlist").wait_for()
        await page.get_by_text("For a show").click()
        await expect(page.get_by_label("Segments in a playlist")).to_have_count(0)
        assert not watched.complaints


async def test_a_link_right_after_a_change_asks_and_right_after_a_discard_does_not(
    browser: Browser, gateway: Gateway
) -> None:
    """The address changes in the task of the click, before the next paint."""
    channel = gateway.channel(videoname="Quick")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}/edit") as watched:
        page = watched.page
        await page.get_by_label("Address", exact=True).fill("quick")
        discard = page.get_by_role("button", name="Discard")
        await expect(discard).to_be_enabled()
        await discard.evaluate("(button) => { button.click(); location.hash = '#/channels'; }")
        await page.get_by_role("heading", name="Channels").wait_for()
        await page.goto(address(gateway, f"#/channels/{channel.id}/edit"))
        await page.get_by_label("Address", exact=True).evaluate(
            """(field) => {
              field.value = "quick";
              field.dispatchEvent(new Event("input", {bubbles: true}));
              location.hash = "#/channels";
            }"""
        )
        await page.get_by_role("alertdialog").get_by_role("button", name="Stay").click()
        await expect(page.get_by_label("Address", exact=True)).to_have_value("quick")
        assert not watched.complaints


async def test_the_ladder_is_chosen_by_heights_and_rates(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="Rungs")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}/edit?section=transcoding") as watched:
        page = watched.page
        await page.get_by_role("switch", name="Transcoding").check()
        await page.get_by_text("1280 × 720 · 1 Mbit/s").wait_for()
        ladder = page.get_by_label("Ladder")
        await ladder.select_option("recommended")
        await page.get_by_text("1280 × 720 · 2.8 Mbit/s").wait_for()
        await expect(ladder.locator("option:checked")).to_contain_text("1080p · 5 Mbit/s")
        await page.get_by_role("switch", name="720p").check()
        await page.get_by_role("button", name="Save").click()
        await page.get_by_text("Everything is saved").wait_for()
        assert not watched.complaints
    item = gateway.api("GET", f"/videostream/{channel.id}").json()
    assert (item["isCodec"], item["hd"], item["ladder"]) == (True, True, "recommended")


async def test_settings_that_cannot_work_here_say_why(browser: Browser, gateway: Gateway) -> None:
    channel, passphrase = gateway.channel(videoname="Nothing"), "a passphrase"
    already = gateway.channel(videoname="From elsewhere", srtPassphrase=passphrase, playAuth="cloudfront")
    async with signed_in(browser, gateway, f"#/channels/{channel.id}/edit?section=basics") as watched:
        page = watched.page
        rtmps = page.get_by_role("switch", name="RTMPS")
        await expect(rtmps).to_be_disabled()
        await expect(page.get_by_text("It needs a certificate, in tls.cert or tls.acme.")).to_be_visible()
        cloudfront = page.get_by_label("Who may watch").locator("option[value=cloudfront]")
        await expect(cloudfront).to_be_disabled()
        await expect(cloudfront).to_contain_text("cloudfront.private_key")
        assert not await axe(page)
        await page.goto(address(gateway, f"#/channels/{already.id}/edit?section=playback"))
        await expect(page.get_by_label("Who may watch")).to_have_value("cloudfront")
        await expect(cloudfront).to_be_enabled()
        assert not watched.complaints
