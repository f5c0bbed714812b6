"""The console says what is so: relays whose targets fail, and a slate in place of the main input."""

import re
from pathlib import Path

from playwright.async_api import Browser, Page, expect

from tests.support.browser import axe
from tests.support.clients import Program, until
from tests.support.console import address, signed_in
from tests.support.gateway import Gateway
from tests.support.shared_gateway import shared_gateway

gateway = shared_gateway("chromium", "ffmpeg", MILLRACE_EGRESS__ALLOW="127.0.0.0/8", MILLRACE_LIMITS__FIRST_MEDIA="4")


H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "15", "-pix_fmt", "yuv420p")


def push(url: str, *codecs: str) -> Program:
    picture = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=15", "-f", "lavfi", "-i", "sine=440:r=44100")
    how = codecs or (*H264, "-c:a", "aac")
    return Program(["ffmpeg", "-nostdin", "-v", "error", "-re", *picture, *how, "-f", "flv", url])


async def look(page: Page, folder: Path, name: str) -> None:
    """Keeps pictures of the page, and finds no fault with axe."""
    for width in (390, 1280):
        await page.set_viewport_size({"width": width, "height": 900})
        await page.screenshot(path=folder / f"{name}-{width}.png", full_page=True)
    assert await axe(page) == []


async def test_a_relay_whose_targets_fail_is_shown_everywhere(
    browser: Browser, gateway: Gateway, tmp_path: Path
) -> None:
    dead = "rtmp://127.0.0.1:9/live/secret-key"
    shown = "rtmp://127.0.0.1:9/live/********"
    channel = gateway.channel(videoname="Simulcast", isRelay=True, relayURL=[dead])
    with push(channel.push):
        channel.wait_live()
        until(lambda: [f["value"] for f in channel.session()["health"]] == [f"relay {shown}"], "the fault", 20)
        output = next(one for one in channel.session()["outputs"] if one["name"] == "relay")
        assert output["state"] == "retrying"
        metrics = gateway.api("GET", "/metrics").text
        assert 'millrace_outputs{output="relay",state="retrying"} 1' in metrics
        assert 'millrace_relay_targets{state="retrying"} 1' in metrics
        events = gateway.api("GET", f"/events?channel={channel.id}").json()
        failed = [event["data"] for event in events if event["type"] == "output.failed"]
        assert failed == [{"output": "relay", "target": shown, "error": "connection refused"}]
        async with signed_in(browser, gateway, "#/channels") as watched:
            page = watched.page
            chip = page.get_by_role("row", name="Simulcast").locator(".chip", has_text="Relay")
            await expect(chip).to_contain_class("warn")
            await look(page, tmp_path, "list")
            await page.goto(address(gateway, "#/live"))
            card = page.get_by_role("article", name="Simulcast")
            await expect(card.get_by_role("list", name="Outputs")).to_contain_text("Relay trying again")
            await expect(card).to_contain_text(f"The output Relay {shown} fails: connection refused")
            await look(page, tmp_path, "live")
            await page.goto(address(gateway, f"#/channels/{channel.id}"))
            await expect(page.locator(".is-health")).to_contain_text("fails: connection refused")
            await expect(page.locator(".is-health")).not_to_contain_text("Nothing is wrong")
            await expect(page.get_by_text(f"Relay · {shown} · connection refused")).to_be_visible()
            await look(page, tmp_path, "channel")
            assert not watched.complaints


async def test_a_slate_on_air_is_shown_everywhere(browser: Browser, gateway: Gateway, tmp_path: Path) -> None:
    channel = gateway.channel(videoname="Show", inputs=[{"kind": "slate", "name": "card"}])
    with push(channel.push) as encoder:
        channel.wait_live()
        async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
            page, health = watched.page, watched.page.locator(".is-health")
            await expect(health).to_contain_text("Nothing is wrong with this push.")
            assert channel.session()["inputKind"] == "push"
            encoder.kill()
            await expect(page.locator(".page-head .badge")).to_have_text("On slate")
            await expect(health).to_contain_text("viewers see the slate: check the encoder and its uplink.")
            session = channel.session()
            assert (session["inputKind"], session["fallback"]) == ("slate", True)
            await look(page, tmp_path, "channel")
            await page.goto(address(gateway, "#/channels"))
            await expect(page.get_by_role("row", name="Show").locator(".badge")).to_have_text("On slate")
            await look(page, tmp_path, "list")
            await page.goto(address(gateway, "#/live"))
            card = page.get_by_role("article", name="Show")
            await expect(card.locator(".badge")).to_have_text("On slate")
            await expect(card).to_contain_text("Nobody; viewers see another input")
            await expect(card).to_contain_text(
                re.compile(r"gone for (1[2-9]|[2-9]\d) s")
            )  # silence is a fault after 8 s
            assert [finding["code"] for finding in channel.session()["health"]] == ["input_lost"]
            await look(page, tmp_path, "live")
            with push(channel.push):
                await expect(card.locator(".badge")).to_have_text("Live")
                await expect(card.locator(".live-fault")).to_have_count(0)
            told = gateway.api("GET", f"/events?channel={channel.id}").json()
            faults = [(e["data"]["code"], e["data"]["state"]) for e in told if e["type"] == "stream.health"]
            assert faults == [("input_lost", "ended"), ("input_lost", "begun")]
            # A preview may be requested while its input ends.
            assert [text for text in watched.complaints if "/inputs/main/preview" not in text] == []


async def test_unusable_tracks_are_named(browser: Browser, gateway: Gateway, tmp_path: Path) -> None:
    channel, other = gateway.channel(videoname="Old"), gateway.channel(videoname="Older")
    with push(channel.push, "-c:v", "flv1", "-c:a", "aac"), push(other.push, "-c:v", "flv1", "-an"):
        async with signed_in(browser, gateway, f"#/channels/{channel.id}") as watched:
            page = watched.page
            words = "The encoder sends Sorenson H.263, which cannot be used: choose H.264 or HEVC for pictures"
            await expect(page.locator(".is-health")).to_contain_text(words)
            await expect(page.locator(".is-health")).not_to_contain_text("Nothing is wrong")
            await look(page, tmp_path, "live")
            await page.goto(address(gateway, f"#/channels/{other.id}"))
            notice = page.locator(".notice", has_text="Change the settings of the encoder, then push again.")
            await expect(notice).to_contain_text(
                "nothing of it could be used: The encoder sends Sorenson H.263: choose H.264 or HEVC."
            )
            await look(page, tmp_path, "refused")
            assert not watched.complaints
