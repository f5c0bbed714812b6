"""Signed addresses and cookies are equal to those of Amazon's SDK, and the verifier accepts them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from botocore.signers import CloudFrontSigner as AmazonSigner
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.playback.cloudfront import CloudFrontVerifier
from gateway.playback.cloudfront_keys import UnusableKey, load_private_key, make_signature
from gateway.playback.cloudfront_signer import (
    CloudFrontSigner,
    SigningConditions,
    check_url,
    resource_of,
    signed_cookies,
    signed_url,
)
from gateway.ports.errors import InvalidField
from tests.support.cloudfront import Signer
from tests.support.http import request

NOW = 1_700_000_000
FAR = NOW + 600
HOST = "http://live.example.com"
LIST = f"{HOST}/c1/live.m3u8"
KEYS = {kind: Signer(key=kind) for kind in ("rsa", "ec")}


def signer(kind: str = "rsa") -> CloudFrontSigner:
    return CloudFrontSigner("K1", load_private_key(KEYS[kind].private_pem))


def judge(url: str, kind: str = "rsa", peer: str = "192.0.2.7", now: float = NOW, **headers: str) -> str | None:
    """The refusal of a GET for an absolute URL, or None."""
    verifier = CloudFrontVerifier({"K1": KEYS[kind].public}, "", "")
    return verifier.judge(request(url.removeprefix(HOST), peer=peer, **headers), now)


def amazon() -> AmazonSigner:
    key = load_private_key(KEYS["rsa"].private_pem)
    return AmazonSigner("K1", lambda message: make_signature(key, message))


@pytest.mark.parametrize("url", [LIST, f"{LIST}?a=1&b=%20x"])
def test_a_canned_url_is_that_of_the_sdk(url: str) -> None:
    parameters = signer().sign(url, SigningConditions(FAR, custom=False))
    expected = amazon().generate_presigned_url(url, date_less_than=datetime.fromtimestamp(FAR, UTC))
    assert signed_url(url, parameters) == expected


@pytest.mark.parametrize(
    ("after", "network"), [(None, ""), (NOW - 5, ""), (None, "192.0.2.0/24"), (NOW, "192.0.2.7/32")]
)
def test_a_custom_url_is_that_of_the_sdk(after: int | None, network: str) -> None:
    policy = amazon().build_policy(
        f"{HOST}/c1/*",
        datetime.fromtimestamp(FAR, UTC),
        datetime.fromtimestamp(after, UTC) if after is not None else None,
        network or None,
    )
    parameters = signer().sign(f"{HOST}/c1/*", SigningConditions(FAR, after, network))
    assert signed_url(LIST, parameters) == amazon().generate_presigned_url(LIST, policy=policy)


@pytest.mark.parametrize("kind", KEYS)
def test_a_canned_signature_permits_only_its_address(kind: str) -> None:
    url = signed_url(LIST, signer(kind).sign(LIST, SigningConditions(FAR, custom=False)))
    assert judge(url, kind) is None
    assert judge(url, kind, now=FAR) == "the signature has expired"
    assert judge(url.replace("live.m3u8", "1.ts"), kind) == "the signature is wrong"


@pytest.mark.parametrize("kind", KEYS)
def test_a_custom_signature_permits_a_channel_with_its_segments(kind: str) -> None:
    parameters = signer(kind).sign(f"{HOST}/c1/*", SigningConditions(FAR, NOW - 1, "192.0.2.0/24"))
    for path in ("live.m3u8", "1700000000001.ts", "720p/index.m3u8?a=b"):
        assert judge(signed_url(f"{HOST}/c1/{path}", parameters), kind) is None
    assert judge(signed_url(f"{HOST}/c2/live.m3u8", parameters), kind) == "the signature is for another address"
    url = signed_url(LIST, parameters)
    assert judge(url, kind, now=NOW - 1) == "the signature is not valid yet"
    assert judge(url, kind, peer="198.51.100.1") == "the signature is for another client"


@pytest.mark.parametrize("custom", [True, False])
def test_cookies_permit_the_same_address_as_the_signed_url(custom: bool) -> None:
    cookies = signed_cookies(signer().sign(LIST, SigningConditions(FAR, custom=custom)))
    header = "; ".join(f"{name}={value}" for name, value in cookies.items())
    assert judge(LIST, cookie=header) is None
    assert judge(f"{HOST}/c1/1.ts", cookie=header) is not None


@pytest.mark.parametrize(
    ("url", "resource"),
    [
        (f"{HOST}/vod/a/a.m3u8", f"{HOST}/vod/a/*"),
        (f"{HOST}/vod/a/", f"{HOST}/vod/a/*"),
        (f"{HOST}/c1/manifest.mpd?x=1", f"{HOST}/c1/*"),
        (f"{HOST}/c1/live.flv?x=1", f"{HOST}/c1/live.flv?x=1"),
    ],
)
def test_the_resource_of_a_playlist_is_its_folder(url: str, resource: str) -> None:
    assert resource_of(url) == resource


@pytest.mark.parametrize(
    "url",
    [
        "",
        "live.m3u8",
        "rtmp://a/b",
        f'{HOST}/a"b',
        f"{HOST}/a\\b",
        f"{HOST}/ä",
        f"{HOST}/a b",
        HOST,
        f"{LIST}{'x' * 2048}",
    ],
)
def test_an_address_that_would_change_the_policy_is_refused(url: str) -> None:
    with pytest.raises(InvalidField, match="url"):
        check_url(url)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ((FAR, FAR, "", ""), "from"),
        ((FAR, None, "fd00::/8", ""), "ip"),
        ((FAR, None, "192.0.2.1/24", ""), "ip"),
        ((FAR, None, "somewhere", "custom"), "ip"),
        ((FAR, NOW, "", "canned"), "policy"),
        ((FAR, None, "192.0.2.7", "canned"), "policy"),
        ((FAR, None, "", "open"), "policy"),
    ],
)
def test_conditions_that_contradict_are_refused(given: tuple[int, int | None, str, str], field: str) -> None:
    with pytest.raises(InvalidField) as refused:
        SigningConditions.of(*given)
    assert refused.value.field == field


def test_a_key_that_cannot_sign_is_named_without_its_text() -> None:
    other = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    locked = load_pem_private_key(KEYS["ec"].private_pem.encode(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    for pem, words in ((other, "RSA or ECDSA"), (locked, "password"), (b"no key", "PEM form")):
        with pytest.raises(UnusableKey, match=words) as refused:
            load_private_key(pem.decode())
        assert pem.decode() not in str(refused.value)
