"""The server's check of passwords: Digest proves one of those that are allowed, and no answer counts twice."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.protocols.rtsp.authentication import Credentials
from gateway.protocols.rtsp.challenge import NONCE_SECONDS, DigestCheck, basic_password

KEY, URL = "1896048000-5db080c8", "rtsp://h/c1"


def answer_of(check: DigestCheck, password: str = KEY, nonce: str = "n1", *, at: float = 0.0) -> Credentials:
    """A client that has a challenge of the check."""
    client = Credentials("anybody", password)
    assert client.take_challenge(check.challenge(nonce, at))
    return client


def header(client: Credentials, method: str = "ANNOUNCE") -> str:
    made = client.make_header(method, URL, "cnonce")
    assert made is not None
    return made


def test_digest_proves_the_password_of_any_user() -> None:
    check = DigestCheck()
    client = answer_of(check)
    assert check.find(header(client), "ANNOUNCE", ["another", KEY], 1.0) == KEY
    assert check.find(header(client), "ANNOUNCE", [KEY], 1.0) == KEY, "with the next count"


def test_digest_refuses_another_password_method_and_no_challenge() -> None:
    check = DigestCheck()
    client = answer_of(check, "wrong")
    assert check.find(header(client), "ANNOUNCE", [KEY], 1.0) is None
    assert check.find(header(answer_of(check), "PLAY"), "ANNOUNCE", [KEY], 1.0) is None
    assert DigestCheck().find(header(client), "ANNOUNCE", ["wrong"], 1.0) is None


def test_an_answer_that_was_read_on_the_way_cannot_be_used_again() -> None:
    check, other = DigestCheck(), DigestCheck()
    seen = header(answer_of(check))
    assert check.find(seen, "ANNOUNCE", [KEY], 1.0) == KEY
    assert check.find(seen, "ANNOUNCE", [KEY], 1.0) is None, "on its connection"
    other.challenge("n2", 0.0)
    assert other.find(seen, "ANNOUNCE", [KEY], 1.0) is None, "on another connection"


def test_a_nonce_without_count_serves_once() -> None:
    check, client = DigestCheck(), Credentials("u", KEY)
    assert client.take_challenge(check.challenge("n1", 0.0).replace(', qop="auth"', ""))
    assert check.find(header(client), "ANNOUNCE", [KEY], 1.0) == KEY
    assert check.find(header(client), "ANNOUNCE", [KEY], 1.0) is None


def test_a_nonce_expires_and_the_next_challenge_says_so() -> None:
    check = DigestCheck()
    client = answer_of(check)
    late = NONCE_SECONDS + 1
    assert check.find(header(client), "ANNOUNCE", [KEY], late) is None
    assert "stale=TRUE" in check.challenge("n2", late)


def test_a_wrong_password_gets_no_stale_challenge() -> None:
    check = DigestCheck()
    check.find(header(answer_of(check, "wrong")), "ANNOUNCE", [KEY], 1.0)
    assert "stale" not in check.challenge("n2", 1.0)


def test_basic_has_the_password_behind_the_first_colon() -> None:
    assert basic_password("Basic " + base64.b64encode(b"u:p:w").decode()) == "p:w"
    assert basic_password("basic " + base64.b64encode(b":p").decode()) == "p"


@pytest.mark.parametrize("text", ["", "Basic", "Basic !!!", "Basic /w==", "Digest abc", "Basic " + "A" * 5_000])
def test_other_headers_have_no_basic_password(text: str) -> None:
    assert not basic_password(text)


@given(st.text(max_size=200))
def test_any_header_is_read_without_an_error(text: str) -> None:
    check = DigestCheck()
    check.challenge("n1", 0.0)
    assert check.find(f"Digest {text}", "ANNOUNCE", [KEY], 1.0) is None
    basic_password(text)
