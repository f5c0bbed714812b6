"""Permission to play: play signs, CloudFront, allowed pages, and the limit of wrong attempts."""

import pytest
import structlog

from gateway.channels.stream_key import SignatureUse, SigningSecrets
from gateway.lib.clocks import Clocks
from gateway.playback.cloudfront import CloudFrontVerifier
from gateway.playback.protection import PlaybackProtection
from gateway.ports.errors import NotAuthorized, TooManyRefusals
from tests.support.builders import channel
from tests.support.clock import Clock
from tests.support.cloudfront import Signer
from tests.support.http import request

NOW = 1_700_000_000
FAR = NOW + 600
SECRETS = SigningSecrets("a-secret")
SIGNER = Signer()


def protection(clock=None, **changes):
    clock = clock or Clock(float(NOW))
    values = {
        "auth": "none",
        "referers": (),
        "secrets": SECRETS,
        "cloudfront": CloudFrontVerifier({SIGNER.key_id: SIGNER.public}, "", "origin-secret"),
        "refusals_per_minute": 5,
        "clocks": Clocks(clock, clock),
    }
    return PlaybackProtection(**(values | changes))


def sign(id="c1", expires=FAR, use=SignatureUse.PLAY):
    return SECRETS.sign(id, expires, use)


SIGNED = channel("c1", playAuth="sign")


def status(judged):
    return None if judged is None else judged.status


def test_an_open_channel_needs_no_play_sign():
    assert protection().judge(request("/c1/live.m3u8"), "c1", channel()) is None


def test_a_play_sign_permits_its_channel_and_its_renditions():
    guard = protection()
    for name, path in (("c1", "/c1/live.m3u8"), ("c1@720p", "/c1@720p/live.m3u8"), ("c1", "/c1/1.ts")):
        assert guard.judge(request(f"{path}?sign={sign()}&_HLS_msn=1"), name, SIGNED) is None


def test_requests_without_a_valid_sign_are_refused_with_a_reason():
    guard = protection(refusals_per_minute=0)
    for query, words in [
        ("", b"play sign is needed"),
        ("?sign=", b"wrong"),
        (f"?sign={sign('c2')}", b"wrong"),
        (f"?sign={sign(use=SignatureUse.PUSH)}", b"wrong"),
        (f"?sign={sign(expires=NOW - 1)}", b"expired"),
        (f"?sign={sign()}&sign={sign()}", b"twice"),
    ]:
        refused = guard.judge(request(f"/c1/live.m3u8{query}"), "c1", SIGNED)
        assert refused is not None
        assert refused.status == 403
        assert words in refused.body, query


def test_an_accepted_sign_still_expires():
    clock = Clock(float(NOW))
    guard = protection(clock)
    asked = request(f"/c1/live.m3u8?sign={sign()}")
    assert guard.judge(asked, "c1", SIGNED) is None
    clock.now = FAR + 0.9
    assert guard.judge(asked, "c1", SIGNED) is None  # the last second counts
    clock.now = FAR + 1
    assert status(guard.judge(asked, "c1", SIGNED)) == 403


def test_the_default_protects_unknown_channels_and_channels_without_their_own_protection():
    guard = protection(auth="sign")
    asked = request("/c1/live.m3u8")
    assert status(guard.judge(asked, "c1", channel())) == 403
    assert status(guard.judge(asked, "c1", None)) == 403
    assert guard.judge(asked, "c1", channel(playAuth="none")) is None


def test_a_changed_channel_has_its_new_protection():
    guard = protection()
    asked = request("/c1/live.m3u8")
    assert guard.judge(asked, "c1", channel()) is None
    assert status(guard.judge(asked, "c1", SIGNED)) == 403
    assert guard.judge(asked, "c1", channel()) is None


def test_wrong_signs_of_an_address_are_limited_and_right_ones_are_not():
    clock = Clock(float(NOW))
    guard = protection(clock, refusals_per_minute=3)
    good, wrong = request(f"/c1/live.m3u8?sign={sign()}"), request("/c1/live.m3u8?sign=1-00")
    assert [status(guard.judge(wrong, "c1", SIGNED)) for _ in range(5)] == [403, 403, 403, 429, 429]
    blocked = guard.judge(wrong, "c1", SIGNED)
    assert int(blocked.headers["Retry-After"]) > 0
    assert guard.judge(good, "c1", SIGNED) is None
    assert status(guard.judge(request("/c1/live.m3u8?sign=1-00", peer="192.0.2.77"), "c1", SIGNED)) == 403
    assert guard.refused == {"wrong": 4, "blocked": 3}
    clock.now += 61
    assert status(guard.judge(wrong, "c1", SIGNED)) == 403


def test_a_cached_sign_becomes_invalid_with_its_secret():
    secrets = SigningSecrets("the first secret", "")
    guard = protection(secrets=secrets)
    asked = request(f"/c1/live.m3u8?sign={secrets.sign('c1', FAR, SignatureUse.PLAY)}")
    assert guard.judge(asked, "c1", SIGNED) is None
    secrets.rotate("the second secret", "the first secret")
    assert guard.judge(asked, "c1", SIGNED) is None
    secrets.rotate("the third secret", "the second secret")
    assert status(guard.judge(asked, "c1", SIGNED)) == 403


NOT_UNDERSTOOD = [
    *(
        {"playAuth": value}
        for value in ("Sign", "SIGN", " sign", "", "none ", "signed", True, False, 0, 1, ["sign"], {})
    ),
    *({"refererAllow": value} for value in (7, True, {"host": "x"}, ["http://a.example/"], [1], "a b", [""], [["x"]])),
    {"playAuth": "none", "refererAllow": 5},
    {"playAuth": 5, "refererAllow": []},
]


@pytest.mark.parametrize("fields", NOT_UNDERSTOOD, ids=str)
def test_a_channel_with_an_unknown_protection_is_refused(fields):
    guard, ruled = protection(), channel("c1", **fields)
    for query in ("", f"?sign={sign()}"):
        assert status(guard.judge(request(f"/c1/live.m3u8{query}"), "c1", ruled)) == 403
    assert status(guard.judge(request("/c1/1.ts", x_millrace_origin="origin-secret"), "c1", ruled)) == 403
    with pytest.raises(NotAuthorized):
        guard.judge_sign("c1", ruled, sign(), "192.0.2.1")
    assert guard.refused == {"not understood": 4}


def test_a_null_field_means_the_default_protection_of_the_gateway():
    guard = protection()
    assert guard.judge(request("/c1/1.ts"), "c1", channel("c1", playAuth=None, refererAllow=None)) is None


def test_an_unknown_protection_is_logged_once_for_each_channel_and_value():
    guard = protection()
    with structlog.testing.capture_logs() as lines:
        for id, value in (("c1", "Sign"), ("c1", "Sign"), ("c2", "Sign"), ("c1", "SIGN"), ("c1", "Sign")):
            for _ in range(3):
                guard.judge(request("/c1/1.ts"), id, channel(id, playAuth=value))
    warned = [(line["stream"], line["field"], line["value"]) for line in lines if line["log_level"] == "warning"]
    assert warned == [("c1", "playAuth", "'Sign'"), ("c2", "playAuth", "'Sign'"), ("c1", "playAuth", "'SIGN'")]


def test_rtmp_players_need_a_play_sign_and_share_the_limit():
    guard = protection(refusals_per_minute=2)
    guard.judge_sign("c1@720p", SIGNED, sign(), "192.0.2.1")
    guard.judge_sign("c1", channel(), None, "192.0.2.1")
    for _ in range(9):
        with pytest.raises(NotAuthorized):
            guard.judge_sign("c1", SIGNED, None, "192.0.2.1")  # missing: not counted
    for _ in range(2):
        with pytest.raises(NotAuthorized):
            guard.judge_sign("c1", SIGNED, "1-00", "192.0.2.1")
    with pytest.raises(TooManyRefusals):
        guard.judge_sign("c1", SIGNED, "1-00", "192.0.2.1")
    guard.judge_sign("c1", SIGNED, sign(), "192.0.2.1")
    with pytest.raises(NotAuthorized):
        guard.judge_sign("c1", CLOUD, sign(), "192.0.2.2")
    assert guard.refused == {"missing": 10, "wrong": 2, "blocked": 1}


def test_missing_signs_and_trusted_proxies_are_not_limited():
    guard = protection(refusals_per_minute=1)
    assert {status(guard.judge(request("/c1/live.m3u8"), "c1", SIGNED)) for _ in range(9)} == {403}
    wrong = request("/c1/live.m3u8?sign=1-00")
    wrong.exempt = True
    assert {status(guard.judge(wrong, "c1", SIGNED)) for _ in range(9)} == {403}
    for _ in range(9):
        with pytest.raises(NotAuthorized):
            guard.judge_sign("c1", SIGNED, "1-00", None)
    assert guard.refused == {"missing": 9, "wrong": 18}


CLOUD = channel("c1", playAuth="cloudfront")
URL = "http://live.example.com/c1/live.m3u8"


def test_cloudfront_is_accepted_by_address_cookie_and_origin_header():
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


def test_wrong_cloudfront_signatures_are_limited_and_right_ones_are_not():
    guard = protection(refusals_per_minute=2)
    path = URL.removeprefix("http://live.example.com")
    guess = request(f"{path}?Expires={FAR}&Signature=YQ__&Key-Pair-Id=K1")
    assert [status(guard.judge(guess, "c1", CLOUD)) for _ in range(3)] == [403, 403, 429]
    right = request(path, cookie=SIGNER.cookie("http://live.example.com/c1/*", FAR))
    assert guard.judge(right, "c1", CLOUD) is None


def test_without_keys_a_cloudfront_channel_is_refused():
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


def test_players_without_a_page_are_accepted_and_pages_without_origin_are_not():
    guard = protection()
    ruled = channel("c1", refererAllow=ALLOWED)
    assert guard.judge(request("/c1/1.ts"), "c1", ruled) is None
    assert guard.judge(request("/c1/1.ts", origin="https://example.com"), "c1", ruled) is None
    assert status(guard.judge(request("/c1/1.ts", origin="https://evil.org"), "c1", ruled)) == 403
    assert status(guard.judge(request("/c1/1.ts", origin="null"), "c1", ruled)) == 403


def test_the_default_list_applies_to_channels_without_a_list():
    guard = protection(referers=["example.com"])
    foreign = request("/c1/1.ts", referer="https://evil.org/")
    assert status(guard.judge(foreign, "c1", channel())) == 403
    assert guard.judge(foreign, "c1", channel(refererAllow=["evil.org"])) is None


def test_a_channel_with_list_and_sign_requires_both():
    guard = protection()
    ruled = channel("c1", playAuth="sign", refererAllow=["example.com"])
    path = f"/c1/live.m3u8?sign={sign()}"
    assert guard.judge(request(path, referer="https://example.com/"), "c1", ruled) is None
    assert status(guard.judge(request(path, referer="https://evil.org/"), "c1", ruled)) == 403
    assert status(guard.judge(request("/c1/live.m3u8", referer="https://example.com/"), "c1", ruled)) == 403
