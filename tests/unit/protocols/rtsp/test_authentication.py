"""Digest and Basic, with the example of RFC 2617 §3.5 and of RFC 7616 §3.9.1."""

from gateway.protocols.rtsp.authentication import Credentials


def test_digest_answers_as_rfc_2617_shows() -> None:
    credentials = Credentials("Mufasa", "Circle Of Life")
    assert credentials.make_header("GET", "/dir/index.html", "0a4f113b") is None
    assert credentials.take_challenge(
        'Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
        'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    header = credentials.make_header("GET", "/dir/index.html", "0a4f113b")
    assert header is not None
    assert 'response="6629fae49393a05397450978507c4ef1"' in header
    assert "nc=00000001" in header
    assert "nc=00000002" in str(credentials.make_header("GET", "/dir/index.html", "x"))


def test_digest_answers_with_sha_256_as_rfc_7616_shows() -> None:
    credentials = Credentials("Mufasa", "Circle of Life")
    assert credentials.take_challenge(
        'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, '
        'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    )
    header = credentials.make_header("GET", "/dir/index.html", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ")
    assert 'response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"' in str(header)


def test_digest_without_qop_and_basic() -> None:
    digest = Credentials("u", 'p"w')
    assert digest.take_challenge('Basic realm="x"\nDigest realm="x", nonce="n"')
    assert "qop" not in str(digest.make_header("PLAY", "rtsp://x", "r"))
    basic = Credentials("u", "p")
    assert basic.take_challenge('Basic realm="x"')
    assert basic.make_header("PLAY", "rtsp://x", "r") == "Basic dTpw"
    assert not Credentials("u", "p", allows_basic=False).take_challenge('Basic realm="x"')
    assert not Credentials("u", "p").take_challenge("Negotiate")
    assert not Credentials("u", "p").take_challenge('Digest realm="x", nonce="n", algorithm=SHA-512-256')
