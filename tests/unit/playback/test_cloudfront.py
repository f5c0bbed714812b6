"""CloudFront signatures: which addresses they permit, until when, and for which clients."""

import json
import re
from datetime import UTC, datetime

import pytest
from botocore.signers import CloudFrontSigner
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from gateway.playback.cloudfront import CloudFrontVerifier, matches, parse_policy
from gateway.playback.cloudfront_keys import UnusableKey, load_keys
from tests.fuzz import fuzz_cloudfront
from tests.support.cloudfront import Signer, b64
from tests.support.http import request

NOW = 1_700_000_000.0
FAR = int(NOW) + 600
HOST = "http://live.example.com"
SIGNER = Signer()
LIST = f"{HOST}/c1/live.m3u8"


def verifier(*signers, public_url="", secret=""):
    return CloudFrontVerifier({s.key_id: s.public for s in signers or (SIGNER,)}, public_url, secret)


def judge(url, *, by=None, now=NOW, **headers):
    """The refusal of a GET for an absolute URL, or None."""
    target = url.removeprefix(HOST)
    return (by or verifier()).judge(request(target, **headers), now)


def test_a_canned_signature_permits_its_address_until_it_expires():
    url = SIGNER.canned(LIST, FAR)
    assert judge(url) is None
    assert judge(url, now=FAR - 1) is None
    assert judge(url, now=FAR) == "the signature has expired"


def test_a_canned_signature_permits_no_other_address():
    url = SIGNER.canned(LIST, FAR)
    assert judge(url.replace("live.m3u8", "1.ts"))
    assert judge(url.replace(f"Expires={FAR}", f"Expires={FAR + 1}"))
    assert judge(url.replace("?", "?a=b&"))
    assert judge(url, host="other.example.com")


def test_the_signature_covers_the_query_without_delivery_directives():
    url = SIGNER.canned(LIST + "?b=%20x&a=1", FAR)
    assert judge(url) is None
    assert judge(url + "&_HLS_msn=4&_HLS_part=2") is None
    assert judge(url.replace("b=%20x", "b=+x"))
    assert judge(SIGNER.canned(LIST, FAR) + "&_HLS_skip=YES") is None


@pytest.mark.parametrize("resource", [f"{HOST}/c1/*", f"{HOST}/*", "http*://*/c1/live.m3u?", "*"])
def test_a_custom_policy_permits_addresses_that_match_its_wildcards(resource):
    assert judge(SIGNER.custom(LIST, resource, FAR)) is None
    assert judge(LIST, cookie=SIGNER.cookie(resource, FAR)) is None


@pytest.mark.parametrize("resource", [f"{HOST}/c2/*", f"{HOST}/c1/", "https://live.example.com/*", f"{HOST}/C1/*", ""])
def test_a_custom_policy_permits_no_other_addresses(resource):
    assert judge(SIGNER.custom(LIST, resource, FAR)) == "the signature is for another address"
    assert judge(LIST, cookie=SIGNER.cookie(resource, FAR)) == "the signature is for another address"


def test_a_policy_without_a_resource_permits_everything():
    condition = {"DateLessThan": {"AWS:EpochTime": FAR}}
    policy = json.dumps({"Statement": [{"Condition": condition}]}).encode()
    assert judge(f"{LIST}?{SIGNER.query_of(policy)}") is None


def test_a_policy_may_begin_later_and_name_its_clients():
    assert judge(SIGNER.custom(LIST, "*", FAR, DateGreaterThan={"AWS:EpochTime": FAR - 60})) is not None
    assert judge(SIGNER.custom(LIST, "*", FAR, DateGreaterThan={"AWS:EpochTime": int(NOW) - 1})) is None
    for network, opens in [
        ("192.0.2.0/24", True),
        ("192.0.2.9", True),
        ("0.0.0.0/0", True),
        ("198.51.100.0/24", False),
        ("192.0.2.9/32", True),
        ("2001:db8::/32", False),
    ]:
        url = SIGNER.custom(LIST, "*", FAR, IpAddress={"AWS:SourceIp": network})
        assert (judge(url) is None) is opens, network


def test_cookies_permit_playlists_and_segments_until_they_expire():
    cookie = f'a=b; {SIGNER.cookie(f"{HOST}/c1/*", FAR)}; c="d"'
    for path in ("live.m3u8", "1700000000000.ts", "v/1-2.m4s", "live.m3u8?_HLS_msn=3", "live.flv"):
        assert judge(f"{HOST}/c1/{path}", cookie=cookie) is None
    assert judge(LIST, cookie=cookie, now=FAR)
    assert judge(LIST, cookie=SIGNER.canned_cookie(LIST, FAR)) is None
    assert judge(f"{HOST}/c1/1.ts", cookie=SIGNER.canned_cookie(LIST, FAR))


def test_a_signed_address_is_judged_without_the_cookies():
    good = SIGNER.cookie(f"{HOST}/*", FAR)
    assert judge(SIGNER.canned(LIST, int(NOW) - 5), cookie=good)
    assert judge(f"{LIST}?Expires=1", cookie=good)


def test_signatures_with_foreign_or_unknown_keys_are_refused():
    stranger = Signer()
    assert judge(stranger.canned(LIST, FAR)) == "the signature is wrong"
    assert judge(Signer("K2").canned(LIST, FAR)) == "the signature is wrong"
    assert judge(stranger.canned(LIST, FAR), by=CloudFrontVerifier({}, "", ""))


@pytest.mark.parametrize("key", ["rsa", "ec"])
@pytest.mark.parametrize("algorithm", [None, "SHA1", "SHA256"])
def test_each_kind_of_key_and_hash_is_accepted(key, algorithm):
    signer = Signer("K9", key, algorithm)
    by = verifier(signer)
    assert judge(signer.canned(LIST, FAR), by=by) is None
    assert judge(signer.custom(LIST, "*", FAR), by=by) is None
    assert judge(LIST, by=by, cookie=signer.cookie("*", FAR)) is None
    assert judge(signer.canned(LIST, FAR).replace("live.m3u8", "life.m3u8"), by=by)
    other = "SHA256" if algorithm != "SHA256" else "SHA1"
    assert judge(re.sub("&Hash-Algorithm=.*|$", f"&Hash-Algorithm={other}", signer.canned(LIST, FAR), count=1), by=by)


def test_signatures_of_amazons_own_signer_are_accepted():
    signer = Signer("K7")
    sign = signer._key.sign
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    official = CloudFrontSigner("K7", lambda message: sign(message, padding.PKCS1v15(), hashes.SHA1()))
    by = verifier(signer)
    url = f"{LIST}?a=1"
    assert judge(official.generate_presigned_url(url, date_less_than=datetime.fromtimestamp(FAR, UTC)), by=by) is None
    policy = official.build_policy(f"{HOST}/c1/*", datetime.fromtimestamp(FAR, UTC), ip_address="192.0.2.0/24")
    assert judge(official.generate_presigned_url(url, policy=policy), by=by) is None


def test_with_a_public_url_the_signature_covers_the_public_address():
    by = verifier(public_url="https://cdn.example.com")
    signed = SIGNER.canned("https://cdn.example.com/c1/live.m3u8", FAR)
    assert by.judge(request(signed.removeprefix("https://cdn.example.com")), NOW) is None
    assert judge(SIGNER.canned(LIST, FAR), by=by)


def test_the_origin_secret_identifies_requests_from_cloudfront():
    by = verifier(secret="s3cret")
    assert by.from_origin(request("/", x_millrace_origin="s3cret"))
    assert not by.from_origin(request("/", x_millrace_origin="s3cres"))
    assert not by.from_origin(request("/", x_millrace_origin=""))
    assert not by.from_origin(request("/"))
    assert not verifier().from_origin(request("/", x_millrace_origin=""))


SIGNED = SIGNER.query("*", FAR)


@pytest.mark.parametrize(
    "query",
    [
        "Signature=a&Key-Pair-Id=K1",
        "Policy=a&Expires=1&Signature=a&Key-Pair-Id=K1",
        "Expires=1&Key-Pair-Id=K1",
        "Expires=1&Signature=a",
        "Expires=&Signature=a&Key-Pair-Id=K1",
        "Expires=soon&Signature=a&Key-Pair-Id=K1",
        "Expires=%31&Signature=a&Key-Pair-Id=K1",
        f"Expires={'9' * 40}&Signature=a&Key-Pair-Id=K1",
        "Policy=!!&Signature=!!&Key-Pair-Id=K1",
        "Policy=YQ__&Signature=YQ__&Key-Pair-Id=K1",
        SIGNED + "&Hash-Algorithm=MD5",
        SIGNED + "&Signature=a",
        SIGNED + "&Policy=a",
        "Key-Pair-Id=K1&" + SIGNED,
        SIGNED + "&Expires=1",
        SIGNED.replace("Signature=", "Signature=ü"),
        SIGNED.replace("Policy=", "policy="),
    ],
)
def test_malformed_signatures_are_refused(query):
    assert judge(f"{LIST}?{query}")


def test_duplicate_cookies_are_refused():
    cookie = SIGNER.cookie("*", FAR)
    assert judge(LIST, cookie=f"{cookie}; CloudFront-Signature=a")


def test_verified_signatures_are_remembered_and_their_conditions_are_not():
    by = verifier()
    url = SIGNER.custom(LIST, f"{HOST}/c1/*", FAR)
    assert judge(url, by=by, now=NOW) is None
    assert judge(url.replace("live.m3u8", "1.ts"), by=by) is None
    assert judge(url.replace("/c1/", "/c2/"), by=by)
    assert judge(url, by=by, now=FAR)
    assert by.verifications == 1


@pytest.mark.parametrize(
    "policy",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 5000,
        b'{"Statement":[]}',
        b'{"Statement":[{}, {}]}',
        b'{"Statement":[{"Resource":"*"}]}',
        b'{"Statement":[{"Resource":1,"Condition":{"DateLessThan":{"AWS:EpochTime":9}}}]}',
        b'{"Statement":[{"Resource":"*","Condition":{}}]}',
        b'{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":true}}}]}',
        b'{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":"9"}}}]}',
        b'{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":9},"Hour":{}}}]}',
        b'{"Statement":[{"Resource":"*","Condition":{"DateLessThan":{"AWS:EpochTime":9},"IpAddress":{"AWS:SourceIp":"x"}}}]}',
        b'{"Statement":[{"Resource":"*","Effect":"Deny","Condition":{"DateLessThan":{"AWS:EpochTime":9}}}]}',
    ],
)
def test_a_policy_that_is_not_understood_permits_nothing(policy):
    with pytest.raises(ValueError):
        parse_policy(policy)
    assert judge(f"{LIST}?{SIGNER.query_of(policy)}")


@given(st.text(alphabet="ab*?", max_size=12), st.text(alphabet="ab?", max_size=12))
def test_wildcards_match_like_the_equivalent_regular_expression(pattern, text):
    expected = re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text, re.DOTALL)
    assert matches(pattern, text) is (expected is not None)


def test_keys_come_from_files_and_bad_files_are_one_clear_line(tmp_path):
    good = Signer("K1").write_public(tmp_path / "rsa.pem")
    assert set(load_keys({"K1": good, "K2": Signer(key="ec").write_public(tmp_path / "ec.pem")})) == {"K1", "K2"}
    with pytest.raises(UnusableKey, match=r"missing\.pem: No such file"):
        load_keys({"K1": tmp_path / "missing.pem"})
    bad = tmp_path / "bad.pem"
    bad.write_text("no key")
    with pytest.raises(UnusableKey, match="not a public key in PEM form"):
        load_keys({"K1": bad})
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    bad.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(UnusableKey, match="not an RSA or ECDSA key"):
        load_keys({"K1": bad})


@given(st.binary(max_size=300))
def test_random_bytes_do_not_crash_the_verifier(data):
    fuzz_cloudfront.fuzz(data)


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=255), max_size=200))
def test_random_signed_policies_do_not_crash_the_verifier(resource):
    assert judge(f"{LIST}?{SIGNER.query(resource, FAR)}") in (None, "the signature is for another address")
    assert b64(b"\xfb\xff") == "-~8_"
