"""Who may play: play signs, CloudFront, whose page embeds, and how often one may be wrong."""

import pytest

from gateway.hub.access import Secrets, Use
from gateway.servers.cloudfront import CloudFront
from gateway.servers.protection import Protection
from tests.support.builders import channel
from tests.support.clock import Clock
from tests.support.cloudfront import Signer
from tests.support.http import request

NOW = 1_700_000_000
FAR = NOW + 600
SECRETS = Secrets("a-secret")
SIGNER = Signer()


def protection(clock=None, **changes):
    clock = clock or Clock(float(NOW))
    values = {
        "auth": "none",
        "referers": (),
        "verify_play": SECRETS.verify_play,
        "cloudfront": CloudFront({SIGNER.key_id: SIGNER.public}, "", "origin-secret"),
        "refusals_per_minute": 5,
        "clock": clock,
        "monotonic": clock,
    }
    return Protection(**(values | changes))


def sign(id="c1", expires=FAR, use=Use.PLAY):
    return SECRETS.sign(id, expires, use)


SIGNED = channel("c1", playAuth="sign")


def status(judged):
    return None if judged is None else judged.status


def test_an_open_channel_is_open():
    assert protection().judge(request("/c1/live.m3u8"), "c1", channel()) is None


def test_a_play_sign_opens_its_channel_and_its_renditions():
    guard = protection()
    for name, path in (("c1", "/c1/live.m3u8"), ("c1@720p", "/c1@720p/live.m3u8"), ("c1", "/c1/1.ts")):
        assert guard.judge(request(f"{path}?sign={sign()}&_HLS_msn=1"), name, SIGNED) is None


def test_everything_else_is_refused_with_a_reason():
    guard = protection(refusals_per_minute=0)
    for query, words in [
        ("", b"play sign is needed"),
        ("?sign=", b"wrong"),
        (f"?sign={sign('c2')}", b"wrong"),
        (f"?sign={sign(use=Use.PUSH)}", b"wrong"),
        (f"?sign={sign(expires=NOW - 1)}", b"expired"),
        (f"?sign={sign()}&sign={sign()}", b"twice"),
    ]:
        refused = guard.judge(request(f"/c1/live.m3u8{query}"), "c1", SIGNED)
        assert refused is not None
        assert refused.status == 403
        assert words in refused.body, query


def test_a_sign_that_was_right_still_expires():
    clock = Clock(float(NOW))
    guard = protection(clock)
    asked = request(f"/c1/live.m3u8?sign={sign()}")
    assert guard.judge(asked, "c1", SIGNED) is None
    clock.now = FAR + 0.9
    assert guard.judge(asked, "c1", SIGNED) is None  # the last second counts
    clock.now = FAR + 1
    assert status(guard.judge(asked, "c1", SIGNED)) == 403


def test_the_default_rules_channels_without_their_own_and_those_that_do_not_exist():
    guard = protection(auth="sign")
    asked = request("/c1/live.m3u8")
    assert status(guard.judge(asked, "c1", channel())) == 403
    assert status(guard.judge(asked, "c1", None)) == 403
    assert guard.judge(asked, "c1", channel(playAuth="none")) is None


def test_a_changed_channel_is_ruled_by_its_new_fields():
    guard = protection()
    asked = request("/c1/live.m3u8")
    assert guard.judge(asked, "c1", channel()) is None
    assert status(guard.judge(asked, "c1", SIGNED)) == 403
    assert guard.judge(asked, "c1", channel()) is None


def test_who_is_wrong_too_often_waits_but_those_known_to_be_right_do_not():
    clock = Clock(float(NOW))
    guard = protection(clock, refusals_per_minute=3)
    good, wrong = request(f"/c1/live.m3u8?sign={sign()}"), request("/c1/live.m3u8?sign=1-00")
    assert guard.judge(good, "c1", SIGNED) is None
    assert [status(guard.judge(wrong, "c1", SIGNED)) for _ in range(5)] == [403, 403, 403, 429, 429]
    blocked = guard.judge(wrong, "c1", SIGNED)
    assert int(blocked.headers["Retry-After"]) > 0
    assert guard.judge(good, "c1", SIGNED) is None
    fresh = request(f"/c1/live.m3u8?sign={sign(expires=FAR + 1)}")
    assert status(guard.judge(fresh, "c1", SIGNED)) == 429
    other = request(f"/c1/live.m3u8?sign={sign(expires=FAR + 1)}", peer="192.0.2.77")
    assert guard.judge(other, "c1", SIGNED) is None
    clock.now += 61
    assert guard.judge(fresh, "c1", SIGNED) is None


def test_missing_signs_and_listed_proxies_are_not_counted():
    guard = protection(refusals_per_minute=1)
    assert {status(guard.judge(request("/c1/live.m3u8"), "c1", SIGNED)) for _ in range(9)} == {403}
    wrong = request("/c1/live.m3u8?sign=1-00")
    wrong.exempt = True
    assert {status(guard.judge(wrong, "c1", SIGNED)) for _ in range(9)} == {403}
    assert guard.refused == {"missing": 9, "wrong": 9}


CLOUD = channel("c1", playAuth="cloudfront")
URL = "http://live.example.com/c1/live.m3u8"


def test_cloudfront_opens_by_address_by_cookie_and_by_its_origin_header():
    guard = protection()
    path = URL.removeprefix("http://live.example.com")
    assert status(guard.judge(request(path), "c1", CLOUD)) == 403
    signed = SIGNER.canned(URL, FAR).removeprefix("http://live.example.com")
    assert guard.judge(request(signed), "c1", CLOUD) is None
    assert guard.judge(request(path, cookie=SIGNER.cookie("http://live.example.com/c1/*", FAR)), "c1", CLOUD) is None
    assert guard.judge(request(path, x_millrace_origin="origin-secret"), "c1", CLOUD) is None
    expired = guard.judge(request(SIGNER.canned(URL, NOW - 5).removeprefix("http://live.example.com")), "c1", CLOUD)
    assert (expired.status, b"expired" in expired.body) == (403, True)
    assert guard.refused == {"missing": 1, "expired": 1}


def test_cloudfront_guesses_are_limited_too():
    guard = protection(refusals_per_minute=2)
    path = URL.removeprefix("http://live.example.com")
    known = request(path, cookie=SIGNER.cookie("http://live.example.com/c1/*", FAR))
    assert guard.judge(known, "c1", CLOUD) is None
    guess = request(f"{path}?Expires={FAR}&Signature=YQ__&Key-Pair-Id=K1")
    assert [status(guard.judge(guess, "c1", CLOUD)) for _ in range(3)] == [403, 403, 429]
    assert guard.judge(known, "c1", CLOUD) is None


def test_without_keys_a_cloudfront_channel_is_closed():
    guard = protection(cloudfront=None)
    assert status(guard.judge(request("/c1/live.m3u8"), "c1", CLOUD)) == 403


ALLOWED = ["example.com", "*.example.net", "ported.example:8443", "[2001:db8::1]"]


@pytest.mark.parametrize(
    ("page", "allowed"),
    [
        ("https://example.com/page", True),
        ("https://EXAMPLE.com:8443/", True),
        ("https://www.example.com/", False),
        ("https://a.b.example.net/x?y", True),
        ("https://example.net/", False),
        ("https://badexample.net/", False),
        ("https://example.com.evil.org/", False),
        ("https://evil.org/https://example.com/", False),
        ("https://example.com@evil.org/", False),
        ("https://ported.example:8443/", True),
        ("https://ported.example/", False),
        ("http://[2001:db8::1]:80/", True),
        ("http://live.example.com/c1/hls.html", True),  # our own pages
        ("https://live.example.com:8000/", True),  # the console of this very host
        ("nonsense", False),
        ("http://[", False),
        ("about:blank", False),
        ("http://example.com:99999/", False),
    ],
)
def test_only_listed_pages_may_embed(page, allowed):
    guard = protection()
    ruled = channel("c1", refererAllow=ALLOWED)
    judged = guard.judge(request("/c1/1.ts", referer=page), "c1", ruled)
    assert (judged is None) is allowed
    assert guard.refused == ({} if allowed else {"referer": 1})


def test_players_without_a_page_are_let_in_and_pages_that_hide_are_not():
    guard = protection()
    ruled = channel("c1", refererAllow=ALLOWED)
    assert guard.judge(request("/c1/1.ts"), "c1", ruled) is None
    assert guard.judge(request("/c1/1.ts", origin="https://example.com"), "c1", ruled) is None
    assert status(guard.judge(request("/c1/1.ts", origin="https://evil.org"), "c1", ruled)) == 403
    assert status(guard.judge(request("/c1/1.ts", origin="null"), "c1", ruled)) == 403


def test_the_default_list_holds_where_a_channel_has_none():
    guard = protection(referers=["example.com"])
    foreign = request("/c1/1.ts", referer="https://evil.org/")
    assert status(guard.judge(foreign, "c1", channel())) == 403
    assert guard.judge(foreign, "c1", channel(refererAllow=["evil.org"])) is None


def test_a_list_and_a_sign_must_both_hold():
    guard = protection()
    ruled = channel("c1", playAuth="sign", refererAllow=["example.com"])
    path = f"/c1/live.m3u8?sign={sign()}"
    assert guard.judge(request(path, referer="https://example.com/"), "c1", ruled) is None
    assert status(guard.judge(request(path, referer="https://evil.org/"), "c1", ruled)) == 403
    assert status(guard.judge(request("/c1/live.m3u8", referer="https://example.com/"), "c1", ruled)) == 403
