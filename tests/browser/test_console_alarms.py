"""The console's page of alarms: a rule from its form to a message that arrives."""

from __future__ import annotations

import os
from pathlib import Path

from playwright.async_api import Browser, expect

from tests.browser.test_console_views import KEYS, button, signed_in
from tests.support.alarm_targets import mail_server
from tests.support.browser import axe
from tests.support.gateway import Gateway
from tests.support.shared_gateway import shared_gateway

gateway = shared_gateway("chromium", MILLRACE_EGRESS__ALLOW="127.0.0.1")
NARROW = {"width": 390, "height": 844}
PICTURES = os.environ.get("ALARM_PICTURES", "")


async def picture(page, name: str) -> None:
    if PICTURES:
        await page.screenshot(path=str(Path(PICTURES) / f"{name}.png"), full_page=True)


async def test_a_rule_is_made_tested_changed_and_deleted(browser: Browser, gateway: Gateway) -> None:
    channel = gateway.channel(videoname="Main stage")
    with mail_server() as inbox:
        async with signed_in(browser, gateway, "alarms") as watched:
            page = watched.page
            await expect(page.get_by_text("Nobody is told yet")).to_be_visible()
            assert not await axe(page)
            await button(page, "Add a rule").click()
            dialog = page.get_by_role("dialog")
            await button(dialog, "Save").click()
            await expect(dialog.get_by_text("Enter a name without slashes.")).to_be_visible()
            await expect(dialog.get_by_text("This is needed.")).to_have_count(3)
            await picture(page, "wrong")
            await dialog.get_by_label("Name of the rule").fill("Night shift")
            await dialog.get_by_label("Recipients").fill("a@example.com, b@example.com")
            await dialog.get_by_label("Sender").fill("millrace@example.com")
            await dialog.get_by_label("Mail server").fill(f"127.0.0.1:{inbox.port}")
            await dialog.get_by_label("User").fill("me")
            await dialog.get_by_label("Password").fill("pa55:w/rd")
            await dialog.get_by_label("Only for some channels").check()
            await dialog.get_by_label("Main stage").check()
            await dialog.get_by_label("Quiet hours").check()
            await dialog.get_by_label("A channel sends more than its daily limit").check()
            await button(dialog, "Save").click()
            await expect(dialog.get_by_text("Enter a number above 0.")).to_be_visible()
            await dialog.get_by_label("Limit of a channel on a UTC day (GB)").fill("2.5")
            assert not await axe(page)
            await picture(page, "form")
            await button(dialog, "Save").click()
            await expect(dialog).to_have_count(0)
            (rule,) = gateway.api("GET", "/alarms").json()
            assert rule["channels"] == [channel.id]
            assert ("traffic" in rule["on"], rule["gigabytes"]) == (True, 2.5)
            await expect(page.get_by_text("2.5 GB a day", exact=False)).to_be_visible()
            assert rule["to"].startswith(f"smtp://me:********@127.0.0.1:{inbox.port}?from=millrace%40example.com")

            await button(page, "Send a test").click()
            await expect(page.get_by_role("status").filter(has_text="not accepted")).to_contain_text("Authentication")
            await button(page, "Edit the rule Night shift").click()
            await button(dialog, "Send to another target").click()
            await dialog.get_by_label("Recipients").fill("a@example.com")
            await dialog.get_by_label("Sender").fill("millrace@example.com")
            await dialog.get_by_label("Mail server").fill(f"127.0.0.1:{inbox.port}")
            await button(dialog, "Save").click()
            await button(page, "Send a test").click()
            await expect(page.get_by_text("accepted the mail")).to_be_visible()
            assert inbox.mails[0]["Subject"] == "Millrace: This is a test"
            assert not await axe(page)
            await picture(page, "rules")
            await button(page, "Delete the rule Night shift").click()
            await button(page.get_by_role("alertdialog"), "Delete").click()
            await expect(page.get_by_text("Nobody is told yet")).to_be_visible()
            assert gateway.api("GET", "/alarms").json() == []
            assert [text for text in watched.complaints if "502" not in text] == []


FORMS = {
    "Slack": ({"Webhook URL": "https://hooks.slack.com/services/T1/B1/abc"}, "slack://T1/B1/********"),
    "Discord": ({"Webhook URL": "https://discord.com/api/webhooks/1/abc"}, "discord://1/********"),
    "Telegram": ({"Token of the bot": "1:abc", "Chat id": "@mine"}, "telegram://1:********/@mine"),
    "ntfy": ({"Topic": "mine"}, "ntfy://********"),
    "Matrix": (
        {"Home server": "https://matrix.example.com", "Access token": "syt_a.b", "Room id": "!r:example.com"},
        "matrix://********@matrix.example.com/!r%3Aexample.com",
    ),
    "Webhook": ({"Address": "https://example.com/hook"}, "https://example.com/********"),
}


async def test_each_form_makes_its_address_also_on_a_phone_and_in_chinese(browser: Browser, gateway: Gateway) -> None:
    gateway.api("PUT", "/alarms", [])
    async with signed_in(browser, gateway, "alarms", viewport=NARROW) as watched:
        page = watched.page
        for service, (fields, shown) in FORMS.items():
            await button(page, "Add a rule").click()
            dialog = page.get_by_role("dialog")
            await dialog.get_by_label("Name of the rule").fill(f"by {service}")
            await dialog.get_by_label("Send to").select_option(label=service)
            for label, value in fields.items():
                await dialog.get_by_label(label, exact=False).fill(value)
            await picture(page, f"narrow-{service}")
            await button(dialog, "Save").click()
            await expect(dialog).to_have_count(0)
            assert gateway.api("GET", "/alarms").json()[-1]["to"] == shown
        assert not await axe(page)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        await picture(page, "narrow-rules")
        await page.evaluate("import('/console/app/i18n.js').then((i18n) => i18n.setLanguage('zh', false))")
        await expect(page.get_by_role("heading", name="告警")).to_be_visible()
        assert not KEYS.search(await page.locator("main").inner_text())
        await button(page, "添加规则").click()
        await picture(page, "narrow-zh")
        assert not await axe(page)
        assert not watched.complaints
