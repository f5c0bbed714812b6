"""Public addresses for pushing and playing a channel."""

import pytest

from gateway.api.presenter import Presenter
from gateway.channels.addresses import Addresses, OpenPorts, PublicDomains, push_ports
from gateway.channels.channel import Channel
from gateway.channels.relay_urls import MASK, masked
from gateway.channels.stream_key import SignatureUse, SigningSecrets, Verdict
from gateway.lib.certificates import CertificateNames
from gateway.playback.formats import play_urls
from gateway.ports.errors import InvalidField
from gateway.protocols.srt.stream_id import parse_stream_id
from gateway.protocols.srt.url import parse_url

SECRETS = SigningSecrets("unit-secret")
PORTS = OpenPorts(rtmp=1935, http=8080, ws=8081, admin=8000)
NOW = 1_700_000_000.0
NONE = PublicDomains()


def channel(**fields):
    item = {"id": "c1", "key": SECRETS.sign("c1", 1_800_000_000), "isFlv": True} | fields
    return Channel(item)


def addresses(domains=NONE, ports=PORTS, push_host="127.0.0.1", pull_host="127.0.0.1", public_url=""):
    return Addresses.of(domains, ports, push_host, pull_host, public_url)


def present(shown, domains=NONE, **protection):
    return Presenter(addresses(domains), SECRETS, **protection).present(shown, NOW)


def test_a_stored_key_that_is_no_unicode_breaks_no_list():
    assert present(channel(key="\ud800"))["obsKey"] == "c1?sign="


def test_without_domains_the_open_ports_are_shown():
    shown = present(channel(isHls=True, isCMAF=True, isCodec=True, sd=True))
    key = channel().key
    assert shown["pushUrl"] == f"rtmp://127.0.0.1:1935/stream/c1?sign={key}"
    assert (shown["obsServer"], shown["obsKey"]) == ("rtmp://127.0.0.1:1935/stream", f"c1?sign={key}")
    assert shown["pushUrls"] == {
        "rtmp": shown["pushUrl"],
        "srt": f"srt://127.0.0.1:8890?streamid=publish:c1?sign={key}",
        "ws": shown["wsUrl"],
        "whip": shown["whipUrl"],
    }
    assert shown["playUrls"] == {
        "flv": "http://127.0.0.1:8080/c1/live.flv",
        "wsflv": "ws://127.0.0.1:8080/c1/live.flv",
        "rtmp": "rtmp://127.0.0.1:1935/stream/c1",
        "srt": "srt://127.0.0.1:8890?streamid=read:c1",
        "whep": "http://127.0.0.1:8080/c1/whep",
        "hls": "http://127.0.0.1:8080/c1/live.m3u8",
        "cmaf": "http://127.0.0.1:8080/c1/master.m3u8",
        "dash": "http://127.0.0.1:8080/c1/manifest.mpd",
        "ladder": "http://127.0.0.1:8080/c1/index.m3u8",
    }
    assert shown["expired"] is False


def test_only_enabled_outputs_have_a_play_url():
    assert present(channel(isFlv="false", isHls="true"))["playUrls"].keys() == {"rtmp", "srt", "whep", "hls"}


@pytest.mark.parametrize(
    ("push", "server"),
    [
        ("push.example.com", "rtmp://push.example.com:1935/stream"),
        ("push.example.com:1940", "rtmp://push.example.com:1940/stream"),
        ("rtmps://push.example.com", "rtmps://push.example.com:1938/stream"),
        ("rtmps://push.example.com:443", "rtmps://push.example.com:443/stream"),
        ("[2001:db8::1]", "rtmp://[2001:db8::1]:1935/stream"),
    ],
)
def test_the_push_domain_determines_the_push_server(push, server):
    assert present(channel(), PublicDomains(push=push))["obsServer"] == server


@pytest.mark.parametrize(
    ("pull", "flv", "web_socket"),
    [
        ("cdn.example.com", "http://cdn.example.com/c1/live.flv", "ws://cdn.example.com/c1/live.flv"),
        ("cdn.lan:8080", "http://cdn.lan:8080/c1/live.flv", "ws://cdn.lan:8080/c1/live.flv"),
        ("https://cdn.example.com", "https://cdn.example.com/c1/live.flv", "wss://cdn.example.com/c1/live.flv"),
    ],
)
def test_the_pull_domain_determines_the_play_urls(pull, flv, web_socket):
    urls = present(channel(), PublicDomains(pull=pull))["playUrls"]
    assert (urls["flv"], urls["wsflv"]) == (flv, web_socket)


def test_without_a_pull_domain_play_urls_use_the_public_url():
    assert (
        play_urls(addresses(public_url="https://live.example.com"), channel())["flv"]
        == "https://live.example.com/c1/live.flv"
    )


def test_rtmps_channels_have_an_rtmps_url_if_the_port_is_open():
    secure = addresses(ports=OpenPorts(rtmp=1935, rtmps=1938, http=8080))
    assert secure.rtmp_server(channel(isRtmps="true")) == "rtmps://127.0.0.1:1938/stream"
    assert secure.rtmp_server(channel()) == "rtmp://127.0.0.1:1935/stream"
    assert addresses().rtmp_server(channel(isRtmps=True)) == "rtmp://127.0.0.1:1935/stream"


def ws_url(ports=PORTS, tls=False, domains=NONE, web_host="", **fields):
    where = Addresses.of(domains, ports, "198.51.100.7", "198.51.100.7", "", web_host)
    url = Presenter(where, SECRETS, tls=tls).present(channel(**fields), NOW)["wsUrl"]
    assert url.endswith(f"/stream/c1?sign={channel().key}")
    return url.partition("/stream/")[0]


def test_the_websocket_push_url_has_host_port_and_scheme():
    secure = OpenPorts(rtmp=1935, ws=8081, wss=8444)
    assert ws_url() == "ws://198.51.100.7:8081"
    assert ws_url(web_host="127.0.0.1") == "ws://127.0.0.1:8081"
    assert ws_url(web_host="::1") == "ws://[::1]:8081"
    assert (
        ws_url(domains=PublicDomains(push="rtmps://live.example.com:1940"), web_host="x")
        == "ws://live.example.com:8081"
    )
    assert ws_url(secure) == "ws://198.51.100.7:8081"
    assert ws_url(secure, tls=True) == ws_url(secure, isRtmps="true") == "wss://198.51.100.7:8444"
    assert ws_url(tls=True) == "ws://198.51.100.7:8081"


def test_urls_use_the_tls_ports_of_the_load_balancer():
    behind = OpenPorts(rtmp=1935, ws=8081, http=8080).with_tls(rtmps=1938, wss=8444)
    assert addresses(ports=behind).rtmp_server(channel(isRtmps=True)) == "rtmps://127.0.0.1:1938/stream"
    assert ws_url(behind, tls=True) == "wss://198.51.100.7:8444"


def test_urls_have_brackets_around_ipv6_hosts():
    assert addresses(push_host="2001:db8::1", pull_host="::1").push == "rtmp://[2001:db8::1]:1935"
    assert addresses(pull_host="::1").pull == "http://[::1]:8080"


def test_play_urls_of_protected_channels_are_signed():
    shown = present(channel(playAuth="sign"), sign_ttl=60)
    url, _, sign = shown["playUrls"]["flv"].partition("?sign=")
    assert url.endswith("/live.flv")
    assert SECRETS.verify("c1", sign, NOW + 60, SignatureUse.PLAY) is Verdict.VALID
    assert SECRETS.verify("c1", sign, NOW + 61, SignatureUse.PLAY) is Verdict.EXPIRED
    assert all(u.endswith("?sign=" + sign) for u in shown["playUrls"].values())


def test_a_channel_without_play_auth_uses_the_gateways_setting():
    assert "?sign=" in present(channel(), play_auth="sign")["playUrls"]["flv"]
    assert "?sign=" not in present(channel(playAuth="none"), play_auth="sign")["playUrls"]["flv"]


def test_relay_keys_are_masked_without_changing_the_stored_channel():
    shown = present(relaying := channel(relayURL="rtmps://u:p@a.example.com:443/app/sk_live_1?x=y", note="kept"))
    assert shown["relayURL"] == f"rtmps://{MASK}@a.example.com:443/app/{MASK}?{MASK}"
    assert shown["note"] == "kept"
    assert "sk_live_1" in relaying.item["relayURL"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("rtmp://h/app", f"rtmp://h/{MASK}"),
        ("rtmp://h", "rtmp://h"),
        ("rtmp://h/app/key,rtmp://i/b/c", f"rtmp://h/app/{MASK},rtmp://i/b/{MASK}"),
        (["rtmp://h/app/key"], [f"rtmp://h/app/{MASK}"]),
        ("rtmp://h/app/key#part", f"rtmp://h/app/{MASK}?{MASK}"),
        ("arn:aws:ivs:us-east-1:123456789012:channel/abc", "arn:aws:ivs:us-east-1:123456789012:channel/abc"),
        ("secret without a scheme", MASK),
        ("", ""),
        (None, None),
    ],
)
def test_a_masked_relay_url_keeps_host_and_application(value, shown):
    assert masked(value) == shown


class TestDomains:
    now = PublicDomains("push.example.com", "")

    def test_a_missing_domain_stays_and_an_empty_domain_is_removed(self):
        assert PublicDomains.from_json({"pullDNS": "cdn.example.com/"}, self.now) == PublicDomains(
            "push.example.com", "cdn.example.com"
        )
        assert PublicDomains.from_json({"pushDNS": ""}, self.now) == PublicDomains("", "")

    @pytest.mark.parametrize(
        "value",
        [5, None, "a b", "http://x", "ftp://x", "x/y", "x:0", "x:99999", "-x", "x" * 301, "x?y", "[::1", "\ud800"],
    )
    def test_an_invalid_push_domain_is_refused(self, value):
        with pytest.raises(InvalidField) as refused:
            PublicDomains.from_json({"pushDNS": value}, self.now)
        assert refused.value.field == "pushDNS"

    def test_domains_survive_a_json_round_trip(self):
        assert PublicDomains.from_json(PublicDomains("a", "https://b:1").as_json(), PublicDomains()) == PublicDomains(
            "a", "https://b:1"
        )


def test_ports_are_listed_by_name():
    assert PORTS.as_json() == {
        "rtmp": 1935,
        "rtmps": None,
        "http": 8080,
        "https": None,
        "ws": 8081,
        "wss": None,
        "srt": None,
        "webrtc": None,
        "moq": None,
        "admin": 8000,
        "srtla": None,
        "rtsp": None,
        "rtsps": None,
    }


# ---- RTSP ----


def rtsp_urls(ports: OpenPorts, shown) -> tuple[str | None, str | None]:
    """The addresses of RTSP to push to and to play."""
    made = Addresses.of(PublicDomains(), ports, "203.0.113.7", "203.0.113.7")
    item = Presenter(made, SECRETS).present(shown, NOW)
    return item["pushUrls"].get("rtsp"), item["playUrls"].get("rtsp")


def test_rtsp_has_addresses_only_while_its_port_is_open():
    shown = channel()
    assert rtsp_urls(PORTS, shown) == (None, None)
    push, play = rtsp_urls(OpenPorts(rtmp=1935, http=8080, rtsp=8554), shown)
    assert push == f"rtsp://203.0.113.7:8554/c1?sign={shown.key}"
    assert play == "rtsp://203.0.113.7:8554/c1"


def test_rtsp_has_the_slug_and_the_play_sign_for_players():
    _, play = rtsp_urls(OpenPorts(rtmp=1935, http=8080, rtsp=8554), channel(slug="news", playAuth="sign"))
    assert play is not None and play.startswith("rtsp://203.0.113.7:8554/news?sign=")


def test_rtsp_has_addresses_over_tls_with_a_certificate():
    certificate = CertificateNames(frozenset({"live.example.com"}))
    ports = OpenPorts(certificate, rtmp=1935, http=8080, rtsp=8554, rtsps=8322)
    push, play = rtsp_urls(ports, channel())
    assert push is not None and push.startswith("rtsps://live.example.com:8322/c1?sign=")
    assert play == "rtsps://live.example.com:8322/c1"


# ---- SRT ----


def srt_urls(shown, **settings):
    """The addresses of SRT to push to and to play."""
    item = Presenter(addresses(), SECRETS, **settings).present(shown, NOW)
    return item["pushUrls"]["srt"], item["playUrls"]["srt"]


def test_addresses_of_srt_have_the_passphrase_of_the_channel_or_else_of_the_settings():
    push, play = srt_urls(channel(srtPassphrase="of-the-channel"), passphrase="of-the-settings")
    assert push.endswith(f"?streamid=publish:c1?sign={channel().key}&passphrase=of-the-channel")
    assert play.endswith("?streamid=read:c1&passphrase=of-the-channel")
    assert srt_urls(channel(), passphrase="of-the-settings")[1].endswith("&passphrase=of-the-settings")
    assert "passphrase" not in "".join(srt_urls(channel()))
    assert "of-the-settings" not in repr(Presenter(addresses(), SECRETS, passphrase="of-the-settings"))


def test_addresses_without_a_presenter_have_no_passphrase():
    assert "passphrase" not in play_urls(addresses(), channel(srtPassphrase="of-the-channel"))["srt"]


@pytest.mark.parametrize("passphrase", ["correct horse, battery", "?=/:;@!'()*$,-._~", "{}|\\^`<>[]"])
def test_a_passphrase_comes_back_from_an_address(passphrase):
    push, play = srt_urls(channel(srtPassphrase=passphrase))
    assert parse_url(push).passphrase == parse_url(play).passphrase == passphrase
    assert parse_stream_id(parse_url(push).stream_id).query == {"sign": channel().key}


def test_the_play_sign_is_in_the_stream_id():
    play = parse_url(srt_urls(channel(srtPassphrase="of-the-channel"), play_auth="sign")[1])
    asked = parse_stream_id(play.stream_id)
    assert (asked.name, asked.is_push, play.passphrase) == ("c1", False, "of-the-channel")
    assert SECRETS.verify("c1", asked.query["sign"], NOW, SignatureUse.PLAY) is Verdict.VALID


def test_a_backup_has_addresses_of_all_protocols_that_name_it():
    urls = Presenter(addresses(), SECRETS).push_urls(channel(), {"sign": "1-a", "input": "van"})
    assert urls["rtmp"] == "rtmp://127.0.0.1:1935/stream/c1?sign=1-a&input=van"
    assert urls["whip"].endswith("/c1/whip?sign=1-a&input=van")
    asked = parse_stream_id(parse_url(urls["srt"]).stream_id)
    assert (asked.name, asked.is_push, dict(asked.query)) == ("c1", True, {"sign": "1-a", "input": "van"})


def test_srt_has_the_host_of_rtmp_and_not_that_of_a_page_of_this_machine():
    shown = Addresses.of(NONE, PORTS, "192.0.2.9", "192.0.2.9", web_host="127.0.0.1")
    assert shown.srt_server == "srt://192.0.2.9:8890"
    named = Addresses.of(PublicDomains(push="rtmps://push.example.com:443"), PORTS, "192.0.2.9", "192.0.2.9")
    assert named.srt_server == "srt://push.example.com:8890"
    moved = Addresses.of(NONE, OpenPorts(rtmp=1935, srt=9000), "2001:db8::1", "192.0.2.9")
    assert moved.srt_server == "srt://[2001:db8::1]:9000"


# ---- pages ----


def test_web_pages_push_to_the_push_domain_or_to_their_own_host():
    ports = OpenPorts(ws=8081, wss=8444)
    named = push_ports(PublicDomains(push="rtmps://push.example.com:443"), ports, "10.0.0.1")
    assert named == {"host": "push.example.com", "ws": 8081, "wss": 8444}
    assert [push_ports(PublicDomains(), ports, host)["host"] for host in ("", "10.0.0.1")] == ["", "10.0.0.1"]


# ---- with a certificate ----

SECURE = OpenPorts(
    CertificateNames(("live.example.com", "*.example.net")),
    **PORTS.opened() | {"rtmps": 1938, "https": 443, "wss": 8444},
)


@pytest.mark.parametrize(
    ("host", "shown_as"),
    [
        ("live.example.com", "live.example.com"),
        ("LIVE.example.com", "LIVE.example.com"),
        ("eu.example.net", "eu.example.net"),
        ("a.eu.example.net", "live.example.com"),
        ("192.0.2.7", "live.example.com"),
        ("evil.example.org", "live.example.com"),
    ],
)
def test_with_a_certificate_every_address_uses_tls_and_a_name_that_it_covers(host, shown_as):
    shown = addresses(ports=SECURE, push_host=host, pull_host=host)
    item = Presenter(shown, SECRETS).present(channel(isHls=True), NOW)
    assert item["obsServer"] == f"rtmps://{shown_as}:1938/stream"
    assert item["pushUrl"].startswith(f"rtmps://{shown_as}:1938/stream/c1?sign=")
    assert item["wsUrl"].startswith(f"wss://{shown_as}:8444/stream/c1?sign=")
    assert item["whipUrl"].startswith(f"https://{shown_as}/c1/whip")
    assert item["playUrls"]["flv"] == f"https://{shown_as}/c1/live.flv"
    assert item["playUrls"]["wsflv"] == f"wss://{shown_as}/c1/live.flv"
    assert item["playUrls"]["rtmp"] == f"rtmps://{shown_as}:1938/stream/c1"


def test_another_port_than_the_standard_one_is_shown():
    ports = OpenPorts(SECURE.certificate, **SECURE.opened() | {"https": 8443})
    assert addresses(ports=ports, pull_host="live.example.com").pull == "https://live.example.com:8443"


@pytest.mark.parametrize(
    ("domain", "push", "pull"),
    [
        ("live.example.com", "rtmps://live.example.com:1938", "https://live.example.com"),
        ("live.example.com:443", "rtmp://live.example.com:443", "https://live.example.com"),
        ("live.example.com:1938", "rtmps://live.example.com:1938", "http://live.example.com:1938"),
        ("cdn.example.org", "rtmp://cdn.example.org:1935", "http://cdn.example.org"),
        ("cdn.example.org:8080", "rtmp://cdn.example.org:8080", "http://cdn.example.org:8080"),
    ],
)
def test_a_domain_without_a_scheme_uses_tls_if_the_certificate_covers_it(domain, push, pull):
    shown = addresses(PublicDomains(domain, domain), SECURE)
    assert (shown.push, shown.pull) == (push, pull)


def test_a_scheme_of_a_domain_and_the_public_url_are_kept():
    shown = addresses(PublicDomains("rtmp://live.example.com", "http://live.example.com"), SECURE)
    assert (shown.push, shown.pull) == ("rtmp://live.example.com:1935", "http://live.example.com")
    assert addresses(ports=SECURE, public_url="http://old.example.com/").pull == "http://old.example.com"


def test_without_a_certificate_that_clients_can_verify_nothing_changes():
    ports = OpenPorts(**SECURE.opened())
    assert addresses(ports=ports).pull == "http://127.0.0.1:8080"
    assert present(channel()) == Presenter(addresses(ports=PORTS), SECRETS).present(channel(), NOW)


def test_the_ports_of_a_node_with_more_listeners_are_read() -> None:
    assert OpenPorts.of_node(PORTS.as_json() | {"quic": 4433}) == PORTS
    with pytest.raises(TypeError, match="quic"):
        OpenPorts(quic=4433)
