"""Signed URLs, cookies and policies: never an exception, never an allowance without a key."""

from contextlib import suppress

from gateway.http.request import Request
from gateway.playback.cloudfront import CloudFrontVerifier, decode, matches, parse_policy
from tests.support.cloudfront import Signer

_signer = Signer()
# Another key under the same name: whatever becomes of the seeds, nothing was signed.
_verifier = CloudFrontVerifier({_signer.key_id: Signer().public}, "", "secret")
SEEDS = [
    _signer.query("http://a/*", 2_000_000_000).encode(),
    _signer.canned("http://a/b", 2_000_000_000).encode(),
    _signer.policy("http://a/*", 2_000_000_000, IpAddress={"AWS:SourceIp": "192.0.2.0/24"}),
]


def fuzz(data: bytes) -> None:
    text = data.decode("latin-1")
    cookie = "; ".join(f"CloudFront-{part}" for part in text.split("&"))
    for query, headers in ((text, {}), ("", {"cookie": cookie}), ("", {"cookie": text, "x-millrace-origin": text})):
        request = Request("GET", "/b", query, {"host": "a", **headers}, peer="192.0.2.1")
        assert _verifier.judge(request, 1_900_000_000.0) is not None, "nothing was signed for this"
        _verifier.from_origin(request)
    with suppress(ValueError):
        parse_policy(data)
    with suppress(ValueError):
        decode(text)
    half = len(text) // 2
    matches(text[:half][:64], text[half:])
