"""Messages reach real servers: a mail server with TLS and logins, and doubles that take only what services document."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from pathlib import Path

import pytest

from gateway.alarms.delivery import MAX_WAITING, Delivery
from gateway.alarms.fault import AlarmMessage, Fault, FaultKind, describe
from gateway.channels.message_target import DeliveryFailed, parse
from gateway.lib.egress import Address, Egress
from gateway.lib.metric_table import ALARMS
from gateway.lib.metrics import Counter
from tests.support.alarm_targets import Chats, chat_server, mail_server
from tests.support.authority import Authority
from tests.support.time_outs import at_most
from tests.support.waiting import until

NAME = "Stage\r\nBcc: evil@example.com @everyone <!channel> **x** [a](http://evil.example)"
ADDRESSES = {
    "slack": "slack://T1/B1/secretsecret",
    "discord": "discord://1/secretsecret",
    "telegram": "telegram://1:secretsecret/-1",
    "ntfy": "ntfy://tk_secretsecret@127.0.0.1:{port}/topic-of-mine?tls=none",
    "matrix": "matrix://secretsecret@127.0.0.1:{port}/!room:example.com?tls=none",
    "webhook": "http://me:secretsecret@127.0.0.1:{port}/hook",
}


def message(name: str = NAME) -> AlarmMessage:
    from datetime import UTC

    title, text = describe(Fault(FaultKind.OFF_AIR, "c1", "", 1.7e9, "The broadcast broke off."), name, UTC)
    return AlarmMessage(
        "0" * 32, 1.7e9, "My rule", "begun", "off_air", "c1", title, text, "https://live.example.com/#/channels/c1"
    )


def delivery(base: str = "", *, allow: str = "127.0.0.1", **options) -> Delivery:
    bases = dict.fromkeys(("slack", "discord", "telegram"), base) if base else None
    return Delivery(Egress([allow] if allow else []), Counter(ALARMS), bases=bases, first_pause=0.01, **options)


@pytest.mark.parametrize("service", ADDRESSES)
async def test_each_service_takes_the_message(service: str):
    with chat_server() as chats:
        async with delivery(chats.base) as sender:
            answer = await sender.send(parse(ADDRESSES[service].format(port=chats.port)), message())
        assert "(status 200)" in answer
        assert (chats.wrong, [name for name, _ in chats.received]) == ([], [service])


SHOW = AlarmMessage(
    *("1" * 32, 1.7e9, "", "begun", "show", "c1", "Live now: <Final>", "The last game"),
    *("https://live.example.com/c1/", "https://live.example.com/c1/poster.jpg"),
)


@pytest.mark.parametrize("service", ADDRESSES)
async def test_each_service_takes_an_announcement_with_its_picture(service: str):
    with chat_server() as chats:
        async with delivery(chats.base) as sender:
            await sender.send(parse(ADDRESSES[service].format(port=chats.port)), SHOW)
    assert (chats.wrong, len(chats.received)) == ([], 1)
    sent = str(chats.received[0][1])
    assert SHOW.link in sent
    assert (SHOW.picture in sent) == (service != "matrix")  # it shows only pictures of its own server
    assert "rule" not in sent


async def test_an_announcement_by_mail_has_its_title_as_subject_and_no_markup_of_the_channel():
    with mail_server() as inbox:
        async with delivery() as sender:
            await sender.send(parse(f"smtp://127.0.0.1:{inbox.port}?from=a@example.com&to=b@example.com"), SHOW)
    (mail,) = inbox.mails
    plain, html = mail.get_body(["plain"]), mail.get_body(["html"])
    assert plain is not None
    assert html is not None
    assert mail["Subject"] == SHOW.title
    assert SHOW.link in plain.get_content()
    assert "Rule" not in plain.get_content()
    assert "&lt;Final&gt;" in html.get_content()
    assert f'src="{SHOW.picture}"' in html.get_content()


async def sent_to(service: str, chats: Chats) -> dict:
    async with delivery(chats.base) as sender:
        await sender.send(parse(ADDRESSES[service].format(port=chats.port)), message())
    return chats.received[-1][1]


async def test_names_mention_nobody_and_have_no_markup():
    with chat_server() as chats:
        slack, discord = await sent_to("slack", chats), await sent_to("discord", chats)
        telegram, matrix = await sent_to("telegram", chats), await sent_to("matrix", chats)
    assert "&lt;!channel&gt;" in slack["text"]
    assert "<" not in slack["text"]
    assert r"\@everyone \<!channel\> \*\*x\*\* \[a\]\(http://evil.example\)" in discord["content"]
    assert discord["content"].endswith("https://live.example.com/#/channels/c1")
    assert "parse_mode" not in telegram
    assert "formatted_body" not in matrix
    assert all("\r" not in value["text"] for value in (slack, telegram))


async def test_a_long_message_fits_into_discord():
    with chat_server() as chats:
        async with delivery(chats.base) as sender:
            long = dataclasses.replace(message(), text="*" * 3000)
            await sender.send(parse(ADDRESSES["discord"]), long)
        assert chats.received[0][1]["content"].endswith(message().link)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, {"message": "Invalid Webhook Token"}, "status 401: Invalid Webhook Token"),
        (403, {"ok": False, "description": "Forbidden: bot was blocked secretsecret"}, "bot was blocked ***"),
        (404, "no_service", "status 404: no_service"),
        (307, {}, "status 307"),
    ],
)
async def test_a_refusal_is_told_in_words_without_secrets_and_is_final(status: int, body: object, words: str):
    with chat_server() as chats:
        chats.refuse = status, body
        async with delivery(chats.base) as sender:
            with pytest.raises(DeliveryFailed, match=words.replace("*", r"\*")) as raised:
                await sender.send(parse(ADDRESSES["telegram"]), message())
        assert raised.value.is_final
        assert not chats.received  # a redirect is not followed


@pytest.mark.parametrize(("status", "final"), [(503, False), (404, True)])
async def test_a_deeply_nested_answer_is_a_refusal(status: int, final: bool):
    with chat_server() as chats:
        chats.refuse = status, "[" * 5_000
        async with delivery() as sender:
            with pytest.raises(DeliveryFailed, match=f"status {status}") as failed:
                await sender.send(parse(ADDRESSES["webhook"].format(port=chats.port)), message())
    assert failed.value.is_final is final


async def test_a_server_without_tls_is_named():
    with chat_server() as chats:
        async with delivery() as sender:
            with pytest.raises(DeliveryFailed, match="TLS failed: WRONG_VERSION_NUMBER") as raised:
                await sender.send(parse(f"https://127.0.0.1:{chats.port}/hook"), message())
    assert not raised.value.is_final


async def test_a_value_of_the_query_that_a_server_repeats_is_masked():
    with chat_server() as chats:
        chats.refuse = 400, {"message": "the token hidden-value is wrong"}
        async with delivery() as sender:
            target = parse(f"http://127.0.0.1:{chats.port}/hook?a=b&token=hidden%2Dvalue")
            with pytest.raises(DeliveryFailed, match=r"the token \*\*\* is wrong"):
                await sender.send(target, message())


@pytest.mark.parametrize("address", [ADDRESSES["webhook"].format(port=9), "smtp://127.0.0.1?from=a@b.c&to=a@b.c"])
async def test_private_addresses_need_the_permission_of_the_operator(address: str):
    async with delivery(allow="") as sender:
        with pytest.raises(DeliveryFailed, match=r"egress\.allow") as raised:
            await sender.send(parse(address), message())
    assert raised.value.is_final


async def test_a_failing_target_is_tried_again_and_delays_no_other():
    with chat_server() as slow, chat_server() as broken, chat_server() as good:
        slow.calm.clear()
        broken.refuse = 500, {}
        async with delivery() as sender:
            for chats in (slow, broken, good):
                sender.queue(f"http://127.0.0.1:{chats.port}/hook", message())
            while not good.received:
                await asyncio.sleep(0.01)
            assert not slow.received
            broken.refuse = None
            while not broken.received:
                await asyncio.sleep(0.01)
            slow.calm.set()
        assert len(slow.received) == 1
        assert sender._results.values == {("delivered",): 3}


async def test_the_queue_of_a_target_drops_its_oldest_messages():
    with chat_server() as chats:
        chats.calm.clear()
        async with delivery() as sender:
            for number in range(MAX_WAITING + 5):
                sender.queue(f"http://127.0.0.1:{chats.port}/hook", dataclasses.replace(message(), id=f"{number:032}"))
            chats.calm.set()
            await until(lambda: len(chats.received) == MAX_WAITING, "the others arrive")
        got = [int(value["id"]) for _, value in chats.received]
        assert got == [0, *range(6, MAX_WAITING + 5)]
        assert sender._results.values["dropped",] == 5


async def test_a_message_that_cannot_be_made_stops_no_other(monkeypatch: pytest.MonkeyPatch):
    sent = list[str]()

    async def send(target: object, message: AlarmMessage) -> str:
        if not sent:
            sent.append("failed")
            raise KeyError("a bug")
        sent.append(message.id)
        return "taken"

    async with delivery() as sender:
        monkeypatch.setattr(sender, "send", send)
        for number in range(2):
            sender.queue("http://127.0.0.1/hook", dataclasses.replace(message(), id=f"{number:032}"))
    assert sent == ["failed", f"{1:032}"]
    assert sender._results.values == {("failed",): 1, ("delivered",): 1}


# ---- mail ----

MAIL = "?from=gateway@example.com&to=a@example.com,b@example.com"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_a_mail_has_everything_and_no_header_of_a_name():
    with mail_server() as inbox:
        async with delivery() as sender:
            answer = await sender.send(parse(f"smtp://127.0.0.1:{inbox.port}{MAIL}"), message())
    assert answer == f"127.0.0.1:{inbox.port} accepted the mail: 2.0.0 queued as 1"
    (mail,) = inbox.mails
    assert inbox.receivers == [["a@example.com", "b@example.com"]]
    assert mail["Subject"].startswith("Millrace: Stage Bcc: evil@example.com @everyone")
    assert mail["Subject"].endswith("is off air")
    assert "Bcc" not in mail
    assert mail["Auto-Submitted"] == "auto-generated"
    body = mail.get_content()
    assert "The broadcast broke off." in body
    assert "Since 2023-11-14 22:13:20 UTC." in body
    assert "Check the encoder" in body
    assert "https://live.example.com/#/channels/c1" in body


@pytest.mark.parametrize(("tls", "secured"), [("", True), ("starttls", True), ("none", False)])
async def test_starttls_is_used_where_the_server_offers_it(authority: Authority, tls: str, secured: bool):
    with mail_server(tls=authority.server("127.0.0.1")) as inbox:
        async with delivery(tls=authority.client()) as sender:
            await sender.send(parse(f"smtp://127.0.0.1:{inbox.port}{MAIL}{f'&tls={tls}' if tls else ''}"), message())
    assert inbox.secured == [secured]


async def test_tls_from_the_start_with_a_login(authority: Authority):
    context = authority.server("127.0.0.1")
    with mail_server(tls=context, direct=True, login=("me@example.com", "pa:ss/word")) as inbox:
        async with delivery(tls=authority.client()) as sender:
            address = f"smtp://me%40example.com:{{}}@127.0.0.1:{inbox.port}{MAIL}&tls=tls"
            await sender.send(parse(address.format("pa%3Ass%2Fword")), message())
            with pytest.raises(DeliveryFailed, match="refused user and password: 535") as raised:
                await sender.send(parse(address.format("wrongwrong")), message())
            assert raised.value.is_final
    assert set(inbox.users) == {"me@example.com"}
    assert len(inbox.mails) == 1


async def test_a_certificate_of_somebody_else_is_refused(authority: Authority):
    with mail_server(tls=authority.server("other.example.com")) as inbox:
        async with delivery(tls=authority.client()) as sender:
            with pytest.raises(DeliveryFailed, match="certificate is not trusted"):
                await sender.send(parse(f"smtp://127.0.0.1:{inbox.port}{MAIL}"), message())
    assert not inbox.mails


async def test_starttls_that_is_not_offered_is_an_error():
    with mail_server() as inbox:
        async with delivery() as sender:
            with pytest.raises(DeliveryFailed, match="STARTTLS"):
                await sender.send(parse(f"smtp://127.0.0.1:{inbox.port}{MAIL}&tls=starttls"), message())
    assert not inbox.mails


@pytest.mark.parametrize(("answer", "final"), [("554 5.7.1 spam", True), ("451 4.7.1 greylisted", False)])
async def test_a_server_that_refuses_a_mail_is_quoted(answer: str, final: bool):
    with mail_server() as inbox:
        inbox.answer = answer
        async with delivery() as sender:
            with pytest.raises(DeliveryFailed, match=f"refused the mail: {answer}") as raised:
                await sender.send(parse(f"smtp://127.0.0.1:{inbox.port}{MAIL}"), message())
    assert raised.value.is_final is final


async def test_a_receiver_that_the_mail_server_does_not_know_is_named():
    """The other receiver has the mail, so it is not sent again."""
    with mail_server() as inbox:
        inbox.refused = {"b@example.com"}
        async with delivery() as sender:
            with pytest.raises(DeliveryFailed, match=r"not for b@example\.com: 550 5\.1\.1 no such user") as raised:
                await sender.send(parse(f"smtp://127.0.0.1:{inbox.port}{MAIL}"), message())
    assert raised.value.is_final
    assert inbox.receivers == [["a@example.com"]]


async def test_a_mail_goes_to_the_next_address_of_a_server_whose_first_one_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where a name has an IPv6 address, but this network has no way to it."""
    with mail_server() as inbox, socket.socket() as full, socket.socket() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting.setblocking(False)
        waiting.connect_ex(full.getsockname())  # fills the queue, so that the next one gets no answer
        addresses = [
            Address(socket.AF_INET, "127.0.0.1", port, "mail.example.com")
            for port in (full.getsockname()[1], inbox.port)
        ]
        monkeypatch.setattr(Egress, "check", lambda *_: asyncio.sleep(0, addresses))
        async with delivery(seconds=at_most(2)) as sender:
            await sender.send(parse(f"smtp://mail.example.com{MAIL}"), message())
    assert len(inbox.mails) == 1


async def test_a_slow_or_absent_server_is_an_error_in_words():
    with mail_server() as inbox:
        inbox.wait = 5
        async with delivery(seconds=0.3) as sender:
            with pytest.raises(DeliveryFailed, match=r"no answer within 0\.3 s") as raised:
                await sender.send(parse(f"smtp://127.0.0.1:{inbox.port}{MAIL}"), message())
    assert not raised.value.is_final
    async with delivery() as sender:
        with pytest.raises(DeliveryFailed, match="connection refused"):
            await sender.send(parse(f"smtp://127.0.0.1:{inbox.port}{MAIL}"), message())
