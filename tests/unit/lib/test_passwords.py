"""Password hashes are slow, salted and compared completely."""

import hashlib

import pytest

from gateway.lib import passwords


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_N", 1 << 8)


def test_only_the_right_password_matches(quick: None):
    kept = passwords.hash_password("correct horse")
    assert passwords.verify_password("correct horse", kept)
    assert not any(
        passwords.verify_password(other, kept) for other in ("correct hors", "correct horse ", "", "Correct horse")
    )


def test_a_check_without_a_stored_hash_takes_as_long(monkeypatch: pytest.MonkeyPatch):
    hashed: list[tuple[int, int, int]] = []

    def scrypt(text: bytes, *, salt: bytes, n: int, r: int, p: int, maxmem: int, dklen: int) -> bytes:
        hashed.append((n, r, p))
        return bytes(dklen)

    monkeypatch.setattr(hashlib, "scrypt", scrypt)
    kept = passwords.hash_password("correct horse")
    for password, of in (("x", None), ("x", kept), ("x" * 5000, kept)):
        passwords.verify_password(password, of)
    assert len(hashed) == 4 and len(set(hashed)) == 1


def test_missing_hashes_and_too_long_passwords_never_match(quick: None):
    assert not passwords.verify_password("", None)
    assert not passwords.verify_password("x" * 5000, passwords.hash_password("x" * 256))


def test_equal_passwords_are_stored_differently(quick: None):
    assert passwords.hash_password("correct horse")["hash"] != passwords.hash_password("correct horse")["hash"]


def test_composed_and_decomposed_unicode_letters_are_equal(quick: None):
    assert passwords.verify_password("caf\u0065\u0301 noir", passwords.hash_password("caf\u00e9 noir"))


def test_a_stored_hash_is_verified_with_its_own_cost(quick: None, monkeypatch: pytest.MonkeyPatch):
    kept = passwords.hash_password("correct horse")
    monkeypatch.setattr(passwords, "_N", 1 << 9)
    assert passwords.verify_password("correct horse", kept)


def test_the_hash_cost_follows_the_owasp_recommendation():
    kept = passwords.hash_password("correct horse")
    assert (kept["n"], kept["r"], kept["p"]) == (32768, 8, 3)  # OWASP's recommendation


@pytest.mark.parametrize("good", ["12345678", "пароль пароль", "x" * 256, "密码密码密码密码"])
def test_valid_passwords_are_accepted(good: str):
    assert passwords.problem(good) == ""


@pytest.mark.parametrize("bad", ["", "1234567", "x" * 257, "with\nnewline", "with\x00nul...", "half \ud800 of a pair"])
def test_invalid_passwords_are_refused(bad: str):
    assert passwords.problem(bad)
