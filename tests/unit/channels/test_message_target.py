"""Addresses of targets: their grammar, what is shown of them, and what a masked one restores."""

from __future__ import annotations

import apprise
import pytest

from gateway.alarms.rule import AlarmRule, restored
from gateway.channels.message_target import MASK, parse
from gateway.ports.errors import InvalidField

SLACK, DISCORD = "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"
BOT = "123456789:abcdefg_hijklmnop"
MAIL = "?from=a@example.com&to=b@example.com"

SHOWN = {
    f"smtp://mail.example.com{MAIL}": f"smtp://mail.example.com{MAIL}",
    f"smtp://me:s3cr3t@mail.example.com:465{MAIL}&tls=tls": f"smtp://me:{MASK}@mail.example.com:465{MAIL}&tls=tls",
    f"smtp://e:e@mail.example.com{MAIL}": f"smtp://e:{MASK}@mail.example.com{MAIL}",
    f"slack://{SLACK}": f"slack://T1JJ3T3L2/A1BRTD4JD/{MASK}",
    f"https://hooks.slack.com/services/{SLACK}": f"slack://T1JJ3T3L2/A1BRTD4JD/{MASK}",
    f"discord://{DISCORD}": f"discord://4174216298/{MASK}",
    f"https://discord.com/api/webhooks/{DISCORD}": f"discord://4174216298/{MASK}",
    f"telegram://{BOT}/-10012345": f"telegram://123456789:{MASK}/-10012345",
    "ntfy://mytopic": f"ntfy://{MASK}",
    "ntfy://me:pw@ntfy.example.com/mytopic": f"ntfy://me:{MASK}@ntfy.example.com/{MASK}",
    "ntfy://tk_abc@ntfy.example.com/mytopic?tls=none": f"ntfy://{MASK}@ntfy.example.com/{MASK}?tls=none",
    "matrix://syt_abc@matrix.example.com/!room:example.com": f"matrix://{MASK}@matrix.example.com/!room:example.com",
    "https://example.com/hooks/abc?token=x": f"https://example.com/hooks/{MASK}?{MASK}",
    "https://example.com/hooks/abcdef/": f"https://example.com/hooks/{MASK}/",
    "https://u:p@example.com": f"https://u:{MASK}@example.com/",
    "http://[::1]:8080/a/b": f"http://[::1]:8080/a/{MASK}",
}


@pytest.mark.parametrize("address", SHOWN)
def test_an_address_is_shown_without_its_secrets(address: str):
    target = parse(address)
    assert target.shown == SHOWN[address]
    assert not any(secret in target.shown for secret in target.secrets if len(secret) > 1)


@pytest.mark.parametrize(
    "address",
    [
        *("", "mailto:a@example.com", "ftp://example.com/", "smtp://mail.example.com", "https://", "https:///x"),
        "smtp://mail.example.com?from=a@example.com",
        "smtp://mail.example.com?from=a@example.com&to=b@example.com%0d%0aBcc:c@example.com",
        "smtp://mail.example.com?from=a@example.com&to=b@example.com> RCPT",
        'smtp://mail.example.com?from="a b"@example.com&to=b@example.com',
        f"smtp://mail.example.com:99999{MAIL}",
        f"smtp://mail.example.com:0{MAIL}",
        f"smtp://mail.example.com{MAIL}&tls=maybe",
        f"smtp://mail.example.com{MAIL}&cc=c@example.com",
        f"smtp://mail.example.com?from=a@example.com&to={','.join(['b@example.com'] * 11)}",
        *("slack://T1/B1", "slack://T1/B1/../x", "discord://1", "discord://1/2/3", "telegram://1:a", "telegram://a/1"),
        *("ntfy://", "ntfy://host/a/b", "ntfy://host/a%2fb", "matrix://host/!r:h", "matrix://t@host/#r:h"),
        *("https://example.com/\r\nX: y", "https://example.com/ü", "https://example.com/" + "a" * 2048),
    ],
)
def test_other_text_is_refused_with_a_sentence(address: str):
    with pytest.raises(ValueError, match=r"^(expected|unknown)"):
        parse(address)


@pytest.mark.parametrize(
    ("address", "theirs"),
    [
        (f"slack://{SLACK}", f"slack://{SLACK}"),
        (f"discord://{DISCORD}", f"discord://{DISCORD}"),
        (f"telegram://{BOT}/12315544", f"tgram://{BOT}/12315544/"),
        ("ntfy://mytopic", "ntfy://mytopic"),
        ("ntfy://me:pw@ntfy.example.com/mytopic", "ntfys://me:pw@ntfy.example.com/mytopic"),
        (f"https://discord.com/api/webhooks/{DISCORD}", f"https://discord.com/api/webhooks/{DISCORD}"),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # apprise imports imghdr
def test_apprise_reads_the_same_addresses(address: str, theirs: str):
    judge, target = apprise.Apprise.instantiate(theirs), parse(address)
    assert judge is not None
    assert target.service in type(judge).__name__.lower()
    whole = judge.url(privacy=False).replace("%3A", ":")
    assert all(part in whole for part in (*target.parts, target.user, target.password))


def rule(name: str, to: str) -> AlarmRule:
    return AlarmRule(name=name, on=["health"], to=to)


def test_a_masked_address_restores_the_stored_one_only_if_the_rest_is_equal():
    stored = [rule("a", f"smtp://me:pw@mail.example.com{MAIL}"), rule("b", "ntfy://one"), rule("c", "ntfy://two")]
    shown = stored[0].shown()
    assert restored(shown, stored)["to"] == stored[0].to
    assert restored({**shown, "name": "renamed"}, stored)["to"] == stored[0].to
    for changed in ("mail.example.org", "mail.example.com:2525"):
        with pytest.raises(InvalidField):
            restored({**shown, "to": shown["to"].replace("mail.example.com", changed)}, stored)
    assert restored(stored[2].shown(), stored)["to"] == "ntfy://two"
    with pytest.raises(InvalidField):  # two stored addresses look the same
        restored({**stored[2].shown(), "name": "new"}, stored)
